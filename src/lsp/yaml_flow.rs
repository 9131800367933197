//! Parses the parts of a YAML outline in flow style: `{…}` and `[…]`.

use std::ops::Range;

use super::outline_entry::{MAX_ENTRIES, OutlineEntry, PathSegment, ValueStyle};

/// The maximum nesting depth of flow style.
const MAX_DEPTH: usize = 64;

/// Parses the flow value that begins at `start`, and returns its end. A value without a closing bracket ends before the
/// first line that is not indented more than `indent`.
pub(super) fn parse_flow(
    text: &str,
    start: usize,
    indent: usize,
    path: &[PathSegment],
    entries: &mut Vec<OutlineEntry>,
) -> usize {
    let mut parser = FlowParser { text, offset: start, limit: flow_limit(text, start, indent), entries };
    parser.parse_container(&mut path.to_vec(), 0);
    parser.offset
}

/// Returns the last byte at which the flow value may end.
fn flow_limit(text: &str, start: usize, indent: usize) -> usize {
    let mut offset = start;
    while let Some(newline) = text.get(offset..).and_then(|remaining| remaining.find('\n')) {
        offset += newline + 1;
        let line = text.get(offset..).unwrap_or_default();
        let content = line.trim_start_matches(' ');
        let line_indent = line.len() - content.len();
        if line_indent <= indent && !content.starts_with([']', '}', '\r', '\n']) {
            return offset - 1;
        }
    }
    text.len()
}

struct FlowParser<'t, 'e> {
    text: &'t str,
    offset: usize,
    limit: usize,
    entries: &'e mut Vec<OutlineEntry>,
}

impl FlowParser<'_, '_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.offset..self.limit)?.chars().next()
    }

    fn skip_whitespace(&mut self) {
        while let Some(c) = self.peek() {
            if c == '#' && self.text.get(..self.offset).is_some_and(|preceding| preceding.ends_with([' ', '\n'])) {
                let remaining = self.text.get(self.offset..self.limit).unwrap_or_default();
                self.offset += remaining.find('\n').unwrap_or(remaining.len());
            } else if c.is_whitespace() {
                self.offset += c.len_utf8();
            } else {
                return;
            }
        }
    }

    fn add_entry(
        &mut self,
        path: &[PathSegment],
        key_range: Option<Range<usize>>,
        value_range: Range<usize>,
        editable_end: usize,
        style: ValueStyle,
    ) {
        if self.entries.len() < MAX_ENTRIES {
            self.entries.push(OutlineEntry { path: path.to_vec(), key_range, value_range, editable_end, style });
        }
    }

    /// Parses from an opening bracket to its closing bracket.
    fn parse_container(&mut self, path: &mut Vec<PathSegment>, depth: usize) {
        let is_list = self.peek() == Some('[');
        self.offset += 1;
        let mut index = 0;
        loop {
            let gap_start = self.offset;
            self.skip_whitespace();
            match self.peek() {
                None => {
                    self.add_empty_entry(path, is_list.then_some(index), gap_start);
                    return;
                }
                Some(']' | '}') => {
                    self.add_empty_entry(path, is_list.then_some(index), gap_start);
                    self.offset += 1;
                    return;
                }
                Some(',') => {
                    self.add_empty_entry(path, is_list.then_some(index), gap_start);
                    (self.offset, index) = (self.offset + 1, index + 1);
                    continue;
                }
                Some(_) if is_list => {
                    path.push(PathSegment::Item(index));
                    self.parse_value(path, None, depth);
                    path.pop();
                }
                Some(_) => self.parse_member(path, depth),
            }
            self.skip_whitespace();
            match self.peek() {
                Some(',') => (self.offset, index) = (self.offset + 1, index + 1),
                Some(']' | '}') => {
                    self.offset += 1;
                    return;
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Adds an entry for an empty gap between brackets and commas.
    fn add_empty_entry(&mut self, path: &[PathSegment], index: Option<usize>, gap_start: usize) {
        let gap_end = self.offset;
        let path: Vec<PathSegment> = path.iter().cloned().chain(index.map(PathSegment::Item)).collect();
        self.add_entry(&path, None, gap_start..gap_start, gap_end, ValueStyle::Empty);
    }

    fn parse_member(&mut self, path: &mut Vec<PathSegment>, depth: usize) {
        let (range, name) = self.parse_scalar(true);
        let editable_end = self.offset;
        self.skip_whitespace();
        if self.peek() != Some(':') {
            self.add_entry(path, None, range, editable_end, ValueStyle::Scalar);
            return;
        }
        self.offset += 1;
        path.push(PathSegment::Key(name));
        self.parse_value(path, Some(range), depth);
        path.pop();
    }

    fn parse_value(&mut self, path: &mut Vec<PathSegment>, key_range: Option<Range<usize>>, depth: usize) {
        let gap_start = self.offset;
        self.skip_whitespace();
        match self.peek() {
            None | Some(',' | ']' | '}') => {
                let gap_end = self.offset;
                self.add_entry(path, key_range, gap_start..gap_start, gap_end, ValueStyle::Empty);
            }
            Some('{' | '[') if depth < MAX_DEPTH => {
                let (start, index) = (self.offset, self.entries.len());
                self.add_entry(path, key_range, start..start, start, ValueStyle::Flow);
                self.parse_container(path, depth + 1);
                let end = self.offset;
                if let Some(entry) = self.entries.get_mut(index) {
                    (entry.value_range.end, entry.editable_end) = (end, end);
                }
            }
            Some(_) => {
                let (range, _) = self.parse_scalar(false);
                let editable_end = self.offset;
                self.add_entry(path, key_range, range, editable_end, ValueStyle::Scalar);
            }
        }
    }

    /// Parses a scalar, with or without quotes, and returns its range and its text. A key ends at a colon.
    fn parse_scalar(&mut self, is_key: bool) -> (Range<usize>, String) {
        let (start, remaining) = (self.offset, self.text.get(self.offset..self.limit).unwrap_or_default());
        if let Some(quote @ ('"' | '\'')) = remaining.chars().next() {
            let content = remaining.get(1..).unwrap_or_default();
            let line_length = content.find('\n').unwrap_or(content.len());
            let closing_quote = content.find(quote);
            let length = closing_quote.unwrap_or(line_length);
            self.offset += 1 + length + usize::from(closing_quote.is_some());
            return (start + 1..start + 1 + length, content.get(..length).unwrap_or_default().to_owned());
        }
        let mut chars = remaining.char_indices().peekable();
        let mut length = remaining.len();
        while let Some((index, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            let ends_key = c == ':' && is_key && next.is_none_or(|next| next.is_whitespace() || ",]}".contains(next));
            let begins_comment = c == '#' && remaining.get(..index).is_some_and(|preceding| preceding.ends_with(' '));
            if ",]}[{\n".contains(c) || ends_key || begins_comment {
                length = index;
                break;
            }
        }
        // Skips a bracket inside a scalar, which is not valid YAML.
        self.offset += length.max(usize::from(length == 0));
        let scalar = remaining.get(..length).unwrap_or_default().trim_end();
        (start..start + scalar.len(), scalar.to_owned())
    }
}
