//! Reads the structure of a YAML text by lines and indentation, so that a text that the user is editing has an outline
//! even while it is invalid. Text that is not valid YAML yet becomes a value at its position.

use std::ops::Range;

/// How many levels of lists and mappings are followed by indentation; the same limit as for the nesting of a file.
const MAX_LEVELS: usize = 128;
/// How many values of a text are stored; the same limit as for the values of a file.
pub(super) const MAX_ENTRIES: usize = 100_000;

/// A segment of the path to a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Seg {
    /// The name of a key.
    Key(String),
    /// The index of a list item, from 0.
    Item(usize),
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueStyle {
    /// Empty so far, or with its content on the lines below.
    Empty,
    /// A word or a line, with or without quotes.
    Scalar,
    /// Indented lines after `|` or `>`.
    Block,
    /// `{…}` or `[…]`.
    Flow,
}

/// A value, with its key if it has one.
#[derive(Clone, Debug)]
pub(super) struct OutlineEntry {
    /// The path to the value. A word without a colon may become a key; its path is that of the value that contains it.
    pub(super) path: Vec<Seg>,
    /// The bytes of the key.
    pub(super) key: Option<Range<usize>>,
    /// The bytes of the value, without quotes.
    pub(super) value: Range<usize>,
    /// The last byte at which the user can continue the value, for example after a trailing space.
    pub(super) reach: usize,
    /// How it is written.
    pub(super) form: ValueStyle,
}

struct OutlineLevel {
    indent: usize,
    seg: Seg,
    entry: usize,
}

/// The values of a text, from top to bottom.
#[derive(Default)]
pub(super) struct Outline {
    pub(super) entries: Vec<OutlineEntry>,
}

impl Outline {
    /// Reads a text. If the cursor is on an empty line, that line becomes an entry.
    pub(super) fn of(text: &str, cursor: Option<usize>) -> Self {
        let mut scan = Scan { text, cursor, stack: Vec::new(), entries: Vec::new(), block: None };
        scan.run();
        Self { entries: scan.entries }
    }

    /// The entry at a path.
    pub(super) fn find(&self, path: &[Seg]) -> Option<&OutlineEntry> {
        self.entries
            .iter()
            .find(|entry| entry.path == path && (entry.key.is_some() || matches!(path.last(), Some(Seg::Item(_)))))
    }

    /// The keys of the mapping at a path, with their entries.
    pub(super) fn keys<'o>(&'o self, path: &'o [Seg]) -> impl Iterator<Item = (&'o str, &'o OutlineEntry)> {
        self.entries.iter().filter_map(move |entry| match entry.path.split_last() {
            Some((Seg::Key(name), parent)) if parent == path && entry.key.is_some() => Some((name.as_str(), entry)),
            _ => None,
        })
    }
}

struct Scan<'t> {
    text: &'t str,
    cursor: Option<usize>,
    stack: Vec<OutlineLevel>,
    entries: Vec<OutlineEntry>,
    /// The indentation of the key whose block of text is still open.
    block: Option<usize>,
}

impl Scan<'_> {
    fn run(&mut self) {
        let (text, mut at) = (self.text, 0);
        while self.entries.len() < MAX_ENTRIES {
            let end = self.line_end(at);
            let indent = self.slice(at, end).bytes().take_while(|byte| *byte == b' ').count();
            let content = text.get(at + indent..end).unwrap_or_default().trim_end();
            let next = if self.in_block(at, indent, content, end) || content.starts_with("---") {
                end
            } else if content.is_empty() || content.starts_with('#') {
                self.blank(at, end);
                end
            } else {
                self.line(at + indent, indent, end)
            };
            match self.text.get(next..).and_then(|rest| rest.find('\n')) {
                Some(found) => at = next + found + 1,
                None => return,
            }
        }
    }

    fn slice(&self, start: usize, end: usize) -> &str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// The end of the line that contains `at`, without its line break.
    fn line_end(&self, at: usize) -> usize {
        let rest = self.slice(at, self.text.len());
        let end = rest.find('\n').unwrap_or(rest.len());
        at + rest.get(..end).unwrap_or_default().trim_end_matches('\r').len()
    }

    /// Whether a line belongs to the open block of text. If it does, it extends the block's entry.
    fn in_block(&mut self, at: usize, indent: usize, content: &str, end: usize) -> bool {
        let Some(outer) = self.block else { return false };
        let here = self.cursor.is_some_and(|cursor| at + outer < cursor && cursor <= end);
        if content.is_empty() && !here {
            return true;
        }
        if !content.is_empty() && indent <= outer {
            self.block = None;
            return false;
        }
        if let Some(entry) = self.entries.last_mut() {
            (entry.value.end, entry.reach) = (end, end);
        }
        true
    }

    /// Adds an entry for an empty line if the cursor is on it.
    fn blank(&mut self, at: usize, end: usize) {
        let Some(cursor) = self.cursor.filter(|cursor| (at..=end).contains(cursor)) else { return };
        if !self.slice(at, cursor).trim().is_empty() {
            return;
        }
        let column = cursor - at;
        let outer = self.stack.iter().take_while(|level| level.indent < column).map(|level| level.seg.clone());
        let path = outer.collect();
        self.entries.push(OutlineEntry {
            path,
            key: None,
            value: cursor..cursor,
            reach: cursor,
            form: ValueStyle::Empty,
        });
    }

    fn path(&self) -> Vec<Seg> {
        self.stack.iter().map(|level| level.seg.clone()).collect()
    }

    /// Reads a line and any value that begins on it. Returns where the value ends.
    fn line(&mut self, mut at: usize, mut indent: usize, end: usize) -> usize {
        let is_item = |rest: &str| rest.starts_with("- ") || rest.trim_end() == "-";
        while self.stack.len() < MAX_LEVELS && is_item(self.slice(at, end)) {
            while self.stack.last().is_some_and(|level| level.indent > indent) {
                self.stack.pop();
            }
            match self.stack.last_mut() {
                Some(OutlineLevel { indent: own, seg: Seg::Item(index), .. }) if *own == indent => *index += 1,
                _ => self.stack.push(OutlineLevel { indent, seg: Seg::Item(0), entry: usize::MAX }),
            }
            let gap = self.slice(at + 1, end).len() - self.slice(at + 1, end).trim_start().len();
            at += 1 + gap;
            indent += 1 + gap;
            if at >= end || self.slice(at, end).starts_with('#') {
                let (path, form) = (self.path(), ValueStyle::Empty);
                self.entries.push(OutlineEntry { path, key: None, value: at.min(end)..at.min(end), reach: end, form });
                return end;
            }
        }
        while self.stack.last().is_some_and(|level| level.indent >= indent) {
            self.stack.pop();
        }
        if let Some((key, name, after)) = self.key(at, end).filter(|_| self.stack.len() < MAX_LEVELS) {
            self.stack.push(OutlineLevel { indent, seg: Seg::Key(name), entry: self.entries.len() });
            return self.value(Some(key), after, end, indent);
        }
        // A continuation line of a plain value.
        let above = self.stack.last().map(|level| level.entry);
        if let Some(entry) =
            above.and_then(|index| self.entries.get_mut(index)).filter(|entry| entry.form == ValueStyle::Scalar)
        {
            (entry.value.end, entry.reach) = (end, end);
            return end;
        }
        self.value(None, at, end, indent)
    }

    /// Reads a key and its colon: the bytes of the key, its name, and where its value may begin.
    fn key(&self, at: usize, end: usize) -> Option<(Range<usize>, String, usize)> {
        let line = self.slice(at, end);
        let (name, length) = match line.chars().next()? {
            quote @ ('"' | '\'') => {
                let close = line.get(1..)?.find(quote)?;
                (line.get(1..=close)?, close + 2)
            }
            '{' | '[' | '|' | '>' => return None,
            _ => {
                let mut colons = line.match_indices(':').map(|(at, _)| at);
                let ends =
                    |at: &usize| line.get(at + 1..).is_none_or(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
                let colon = colons.find(ends)?;
                let name = line.get(..colon)?;
                if name.contains(" #") {
                    return None;
                }
                (name.trim_end(), name.trim_end().len())
            }
        };
        let rest = line.get(length..)?;
        let colon = length + rest.find(|c: char| c != ' ')?;
        (line.get(colon..)?.starts_with(':')).then(|| (at..at + length, name.to_owned(), at + colon + 1))
    }

    /// Reads the value that begins on this line. Returns where it ends.
    fn value(&mut self, key: Option<Range<usize>>, after: usize, end: usize, indent: usize) -> usize {
        let rest = self.slice(after, end);
        let start = after + rest.len() - rest.trim_start().len();
        let (path, rest) = (self.path(), self.slice(start, end));
        let mut entry = OutlineEntry { path, key, value: start..start, reach: end, form: ValueStyle::Empty };
        match rest.chars().next() {
            None => {
                entry.value = after..after;
                self.entries.push(entry);
                end
            }
            Some('#') => {
                (entry.value, entry.reach) = (after..after, start);
                self.entries.push(entry);
                end
            }
            Some('|' | '>') => {
                let below = (end + 1).min(self.text.len());
                (entry.value, entry.reach, entry.form) = (below..below, below, ValueStyle::Block);
                self.entries.push(entry);
                self.block = Some(indent);
                end
            }
            Some('{' | '[') => {
                let index = self.entries.len();
                let path = entry.path.clone();
                entry.form = ValueStyle::Flow;
                self.entries.push(entry);
                let close = super::yaml_flow::read(self.text, start, indent, &path, &mut self.entries);
                if let Some(entry) = self.entries.get_mut(index) {
                    (entry.value.end, entry.reach) = (close, close);
                }
                close
            }
            Some(quote @ ('"' | '\'')) => {
                let close = self.closing(quote, start, end, indent);
                (entry.value, entry.reach, entry.form) = (start + 1..close, close, ValueStyle::Scalar);
                self.entries.push(entry);
                close.max(end)
            }
            Some(_) => {
                let length = rest.find(" #").unwrap_or(rest.len());
                let written = rest.get(..length).unwrap_or_default().trim_end().len();
                (entry.value, entry.reach, entry.form) = (start..start + written, start + length, ValueStyle::Scalar);
                self.entries.push(entry);
                end
            }
        }
    }

    /// The position of the closing quote; the end of the line if the quote is missing.
    fn closing(&self, quote: char, start: usize, end: usize, indent: usize) -> usize {
        let (mut at, mut line_end) = (start + 1, end);
        let mut escaped = false;
        for c in self.slice(start + 1, self.text.len()).chars() {
            if c == quote && !escaped {
                return at;
            }
            if c == '\n' {
                let line = self.slice(at + 1, self.text.len());
                let inner = line.len() - line.trim_start_matches(' ').len();
                if inner <= indent && !line.trim_start_matches(' ').starts_with(['\r', '\n']) {
                    return end;
                }
                line_end = self.line_end(at + 1);
            }
            escaped = quote == '"' && c == '\\' && !escaped;
            at += c.len_utf8();
        }
        line_end.min(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &[Seg]) -> String {
        let each = path.iter().map(|seg| match seg {
            Seg::Key(name) => format!("/{name}"),
            Seg::Item(index) => format!("/{index}"),
        });
        each.collect()
    }

    fn outline(text: &str) -> Vec<(String, String)> {
        let outline = Outline::of(text, None);
        outline.entries.iter().map(|e| (shown(&e.path), text.get(e.value.clone()).unwrap().to_owned())).collect()
    }

    #[test]
    fn lines_and_flows_are_read() {
        let text = "name: x # c\nagents:\n  a: { model: auto, env: [A, \"B\"] }\nsteps:\n- id: p\n  message: |\n    one\n\n    two: 2\n  when: a ==\n    b\n- id: 'q r'\n  inputs:\n    - plan\n    - co\nsuccess:\n";
        let found = outline(text);
        let has = |path: &str, value: &str| assert!(found.contains(&(path.into(), value.into())), "{path}: {found:#?}");
        has("/name", "x");
        has("/agents/a/model", "auto");
        has("/agents/a/env/1", "B");
        has("/steps/0/id", "p");
        has("/steps/0/message", "    one\n\n    two: 2");
        has("/steps/0/when", "a ==\n    b");
        has("/steps/1/id", "q r");
        has("/steps/1/inputs/1", "co");
        has("/success", "");
    }

    #[test]
    fn what_is_being_written_has_a_place() {
        for (text, path) in [
            ("agents:\n  a: {}\n  co@\n", "/agents"),
            ("steps:\n  - id: a\n    @\n  - id: b\n", "/steps/0"),
            ("steps:\n  - id: a\n    ag@\n  - id: b\n", "/steps/0"),
            ("steps:\n  - i@\n", "/steps/0"),
            ("steps:\n  - @\n", "/steps/0"),
            ("steps:\n  - id: a\n    agent: @\n    output: x\n", "/steps/0/agent"),
            ("steps:\n  - id: a\n    inputs: [pl@\n    output: x\n", "/steps/0/inputs/0"),
            ("steps:\n  - id: a\n    inputs: [plan, @]\n", "/steps/0/inputs/1"),
            ("agents:\n  a: { mo@ }\n", "/agents/a"),
            ("agents:\n  a: { model: au@ }\n", "/agents/a/model"),
            ("agents:\n  a: { model: @ }\n", "/agents/a/model"),
            ("steps:\n  - id: a\n    prompt: \"pl@\n    output: x\n", "/steps/0/prompt"),
            ("steps:\n  - id: a\n    message: |\n      x\n      @\n    output: x\n", "/steps/0/message"),
            ("@\n", ""),
            ("steps:\n  - id: a\r\n    when: a and @\r\n", "/steps/0/when"),
        ] {
            let cursor = text.find('@').unwrap();
            let text = text.replace('@', "");
            let outline = Outline::of(&text, Some(cursor));
            let holds = |e: &&OutlineEntry| e.form != ValueStyle::Flow && e.value.start <= cursor && cursor <= e.reach;
            let found: Vec<_> = outline.entries.iter().filter(holds).map(|e| shown(&e.path)).collect();
            assert_eq!(found, [path], "{text}");
        }
    }
}
