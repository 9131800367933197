//! Reads the parts of an outline in flow style: `{…}` and `[…]`.

use std::ops::Range;

use super::outline::{MAX_ENTRIES, OutlineEntry, Seg, ValueStyle};

/// How many nested levels of flow style are followed.
const MAX_DEPTH: usize = 64;

/// Reads the flow value that begins at `start`, and returns where it ends. Without a closing bracket, it ends before
/// the first line that is not indented more than `indent`.
pub(super) fn read(text: &str, start: usize, indent: usize, path: &[Seg], entries: &mut Vec<OutlineEntry>) -> usize {
    let mut flow = FlowScanner { text, at: start, end: bound(text, start, indent), entries };
    flow.container(&mut path.to_vec(), 0);
    flow.at
}

/// The last byte at which the flow value may end.
fn bound(text: &str, start: usize, indent: usize) -> usize {
    let mut at = start;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\n')) {
        at += found + 1;
        let line = text.get(at..).unwrap_or_default();
        let content = line.trim_start_matches(' ');
        let inner = line.len() - content.len();
        if inner <= indent && !content.starts_with([']', '}', '\r', '\n']) {
            return at - 1;
        }
    }
    text.len()
}

struct FlowScanner<'t, 'e> {
    text: &'t str,
    at: usize,
    end: usize,
    entries: &'e mut Vec<OutlineEntry>,
}

impl FlowScanner<'_, '_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at..self.end)?.chars().next()
    }

    fn skip_space(&mut self) {
        while let Some(c) = self.peek() {
            if c == '#' && self.text.get(..self.at).is_some_and(|before| before.ends_with([' ', '\n'])) {
                let rest = self.text.get(self.at..self.end).unwrap_or_default();
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if c.is_whitespace() {
                self.at += c.len_utf8();
            } else {
                return;
            }
        }
    }

    fn push(&mut self, path: &[Seg], key: Option<Range<usize>>, value: Range<usize>, reach: usize, form: ValueStyle) {
        if self.entries.len() < MAX_ENTRIES {
            self.entries.push(OutlineEntry { path: path.to_vec(), key, value, reach, form });
        }
    }

    /// Reads from an opening bracket to the one that closes it.
    fn container(&mut self, path: &mut Vec<Seg>, depth: usize) {
        let is_list = self.peek() == Some('[');
        self.at += 1;
        let mut index = 0;
        loop {
            let gap = self.at;
            self.skip_space();
            match self.peek() {
                None => {
                    self.nothing(path, is_list.then_some(index), gap);
                    return;
                }
                Some(']' | '}') => {
                    self.nothing(path, is_list.then_some(index), gap);
                    self.at += 1;
                    return;
                }
                Some(',') => {
                    self.nothing(path, is_list.then_some(index), gap);
                    (self.at, index) = (self.at + 1, index + 1);
                    continue;
                }
                Some(_) if is_list => {
                    path.push(Seg::Item(index));
                    self.value(path, None, depth);
                    path.pop();
                }
                Some(_) => self.member(path, depth),
            }
            self.skip_space();
            match self.peek() {
                Some(',') => (self.at, index) = (self.at + 1, index + 1),
                Some(']' | '}') => {
                    self.at += 1;
                    return;
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Adds an entry for an empty place between brackets and commas.
    fn nothing(&mut self, path: &[Seg], index: Option<usize>, gap: usize) {
        let here = self.at;
        let path: Vec<Seg> = path.iter().cloned().chain(index.map(Seg::Item)).collect();
        self.push(&path, None, gap..gap, here, ValueStyle::Empty);
    }

    fn member(&mut self, path: &mut Vec<Seg>, depth: usize) {
        let (written, name) = self.word(true);
        let reach = self.at;
        self.skip_space();
        if self.peek() != Some(':') {
            self.push(path, None, written, reach, ValueStyle::Scalar);
            return;
        }
        self.at += 1;
        path.push(Seg::Key(name));
        self.value(path, Some(written), depth);
        path.pop();
    }

    fn value(&mut self, path: &mut Vec<Seg>, key: Option<Range<usize>>, depth: usize) {
        let gap = self.at;
        self.skip_space();
        match self.peek() {
            None | Some(',' | ']' | '}') => {
                let here = self.at;
                self.push(path, key, gap..gap, here, ValueStyle::Empty);
            }
            Some('{' | '[') if depth < MAX_DEPTH => {
                let (start, index) = (self.at, self.entries.len());
                self.push(path, key, start..start, start, ValueStyle::Flow);
                self.container(path, depth + 1);
                let end = self.at;
                if let Some(entry) = self.entries.get_mut(index) {
                    (entry.value.end, entry.reach) = (end, end);
                }
            }
            Some(_) => {
                let (written, _) = self.word(false);
                let reach = self.at;
                self.push(path, key, written, reach, ValueStyle::Scalar);
            }
        }
    }

    /// Reads a word, with or without quotes. A key ends at a colon.
    fn word(&mut self, is_key: bool) -> (Range<usize>, String) {
        let (start, rest) = (self.at, self.text.get(self.at..self.end).unwrap_or_default());
        if let Some(quote @ ('"' | '\'')) = rest.chars().next() {
            let inner = rest.get(1..).unwrap_or_default();
            let line = inner.find('\n').unwrap_or(inner.len());
            let close = inner.find(quote);
            let length = close.unwrap_or(line);
            self.at += 1 + length + usize::from(close.is_some());
            return (start + 1..start + 1 + length, inner.get(..length).unwrap_or_default().to_owned());
        }
        let mut chars = rest.char_indices().peekable();
        let mut length = rest.len();
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            let colon = c == ':' && is_key && next.is_none_or(|next| next.is_whitespace() || ",]}".contains(next));
            let comment = c == '#' && rest.get(..at).is_some_and(|before| before.ends_with(' '));
            if ",]}[{\n".contains(c) || colon || comment {
                length = at;
                break;
            }
        }
        // A bracket inside a word is not valid YAML; skip it and continue.
        self.at += length.max(usize::from(length == 0));
        let written = rest.get(..length).unwrap_or_default().trim_end();
        (start..start + written.len(), written.to_owned())
    }
}
