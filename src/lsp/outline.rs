//! Parses the structure of a YAML text by lines and indentation, so that a text has an outline even while the user is
//! editing it and it is invalid. Text that is not valid YAML becomes a value at its position.

use std::ops::Range;

use super::outline_entry::{MAX_ENTRIES, OutlineEntry, PathSegment, ValueStyle};

/// The maximum nesting depth of lists and mappings in block style; the same as the limit for files.
const MAX_DEPTH: usize = 128;

/// A key or list item that contains the current line.
struct OutlineLevel {
    indent: usize,
    segment: PathSegment,
    /// The index of its entry.
    entry_index: usize,
}

/// The values of a text, from top to bottom.
#[derive(Default)]
pub(super) struct Outline {
    pub(super) entries: Vec<OutlineEntry>,
}

impl Outline {
    /// Parses a text. If the cursor is on an empty line, that line becomes an entry.
    pub(super) fn parse(text: &str, cursor: Option<usize>) -> Self {
        let mut parser = OutlineParser { text, cursor, stack: Vec::new(), entries: Vec::new(), block_indent: None };
        parser.parse();
        Self { entries: parser.entries }
    }

    /// Returns the entry at a path.
    pub(super) fn find(&self, path: &[PathSegment]) -> Option<&OutlineEntry> {
        self.entries.iter().find(|entry| {
            entry.path == path && (entry.key_range.is_some() || matches!(path.last(), Some(PathSegment::Item(_))))
        })
    }

    /// Returns the keys of the mapping at a path, with their entries.
    pub(super) fn mapping_entries<'o>(
        &'o self,
        path: &'o [PathSegment],
    ) -> impl Iterator<Item = (&'o str, &'o OutlineEntry)> {
        self.entries.iter().filter_map(move |entry| match entry.path.split_last() {
            Some((PathSegment::Key(name), parent)) if parent == path && entry.key_range.is_some() => {
                Some((name.as_str(), entry))
            }
            _ => None,
        })
    }
}

struct OutlineParser<'t> {
    text: &'t str,
    cursor: Option<usize>,
    stack: Vec<OutlineLevel>,
    entries: Vec<OutlineEntry>,
    /// The indentation of the key whose block scalar is still open.
    block_indent: Option<usize>,
}

impl OutlineParser<'_> {
    fn parse(&mut self) {
        let (text, mut line_start) = (self.text, 0);
        while self.entries.len() < MAX_ENTRIES {
            let end = self.line_end(line_start);
            let indent = self.slice(line_start, end).bytes().take_while(|byte| *byte == b' ').count();
            let content = text.get(line_start + indent..end).unwrap_or_default().trim_end();
            let next = if self.extend_block(line_start, indent, content, end) || content.starts_with("---") {
                end
            } else if content.is_empty() || content.starts_with('#') {
                self.add_blank_line(line_start, end);
                end
            } else {
                self.parse_line(line_start + indent, indent, end)
            };
            match self.text.get(next..).and_then(|remaining| remaining.find('\n')) {
                Some(newline) => line_start = next + newline + 1,
                None => return,
            }
        }
    }

    fn slice(&self, start: usize, end: usize) -> &str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// Returns the end of the line that contains `offset`, without its line break.
    fn line_end(&self, offset: usize) -> usize {
        let remaining = self.slice(offset, self.text.len());
        let end = remaining.find('\n').unwrap_or(remaining.len());
        offset + remaining.get(..end).unwrap_or_default().trim_end_matches('\r').len()
    }

    /// Returns whether a line belongs to the open block scalar, and if so, extends the entry of the block scalar.
    fn extend_block(&mut self, line_start: usize, indent: usize, content: &str, end: usize) -> bool {
        let Some(block_indent) = self.block_indent else { return false };
        let has_cursor = self.cursor.is_some_and(|cursor| line_start + block_indent < cursor && cursor <= end);
        if content.is_empty() && !has_cursor {
            return true;
        }
        if !content.is_empty() && indent <= block_indent {
            self.block_indent = None;
            return false;
        }
        if let Some(entry) = self.entries.last_mut() {
            (entry.value_range.end, entry.editable_end) = (end, end);
        }
        true
    }

    /// Adds an entry for an empty line if the cursor is on it.
    fn add_blank_line(&mut self, line_start: usize, end: usize) {
        let Some(cursor) = self.cursor.filter(|cursor| (line_start..=end).contains(cursor)) else { return };
        if !self.slice(line_start, cursor).trim().is_empty() {
            return;
        }
        let column = cursor - line_start;
        let outer_levels = self.stack.iter().take_while(|level| level.indent < column);
        self.entries.push(OutlineEntry {
            path: outer_levels.map(|level| level.segment.clone()).collect(),
            key_range: None,
            value_range: cursor..cursor,
            editable_end: cursor,
            style: ValueStyle::Empty,
        });
    }

    fn current_path(&self) -> Vec<PathSegment> {
        self.stack.iter().map(|level| level.segment.clone()).collect()
    }

    /// Parses a line and any value that begins on it. Returns the end of the value.
    fn parse_line(&mut self, mut start: usize, mut indent: usize, end: usize) -> usize {
        let is_item = |remaining: &str| remaining.starts_with("- ") || remaining.trim_end() == "-";
        while self.stack.len() < MAX_DEPTH && is_item(self.slice(start, end)) {
            while self.stack.last().is_some_and(|level| level.indent > indent) {
                self.stack.pop();
            }
            match self.stack.last_mut() {
                Some(OutlineLevel { indent: outer, segment: PathSegment::Item(index), .. }) if *outer == indent => {
                    *index += 1;
                }
                _ => self.stack.push(OutlineLevel { indent, segment: PathSegment::Item(0), entry_index: usize::MAX }),
            }
            let gap = self.slice(start + 1, end).len() - self.slice(start + 1, end).trim_start().len();
            start += 1 + gap;
            indent += 1 + gap;
            if start >= end || self.slice(start, end).starts_with('#') {
                let (path, value_range) = (self.current_path(), start.min(end)..start.min(end));
                self.entries.push(OutlineEntry {
                    path,
                    key_range: None,
                    value_range,
                    editable_end: end,
                    style: ValueStyle::Empty,
                });
                return end;
            }
        }
        while self.stack.last().is_some_and(|level| level.indent >= indent) {
            self.stack.pop();
        }
        if let Some((key, name, value_start)) = self.parse_key(start, end).filter(|_| self.stack.len() < MAX_DEPTH) {
            self.stack.push(OutlineLevel { indent, segment: PathSegment::Key(name), entry_index: self.entries.len() });
            return self.parse_value(Some(key), value_start, end, indent);
        }
        // The line may continue a plain value.
        let parent_index = self.stack.last().map(|level| level.entry_index);
        if let Some(entry) =
            parent_index.and_then(|index| self.entries.get_mut(index)).filter(|entry| entry.style == ValueStyle::Scalar)
        {
            (entry.value_range.end, entry.editable_end) = (end, end);
            return end;
        }
        self.parse_value(None, start, end, indent)
    }

    /// Parses a key and its colon. Returns the bytes of the key, its name, and the offset at which its value may begin.
    fn parse_key(&self, start: usize, end: usize) -> Option<(Range<usize>, String, usize)> {
        let line = self.slice(start, end);
        let (name, length) = match line.chars().next()? {
            quote @ ('"' | '\'') => {
                let closing_quote = line.get(1..)?.find(quote)?;
                (line.get(1..=closing_quote)?, closing_quote + 2)
            }
            '{' | '[' | '|' | '>' => return None,
            _ => {
                let mut colons = line.match_indices(':').map(|(index, _)| index);
                let ends_key = |colon: &usize| {
                    line.get(colon + 1..)
                        .is_none_or(|remaining| remaining.is_empty() || remaining.starts_with([' ', '\t']))
                };
                let colon = colons.find(ends_key)?;
                let name = line.get(..colon)?;
                if name.contains(" #") {
                    return None;
                }
                (name.trim_end(), name.trim_end().len())
            }
        };
        let remaining = line.get(length..)?;
        let colon = length + remaining.find(|c: char| c != ' ')?;
        (line.get(colon..)?.starts_with(':')).then(|| (start..start + length, name.to_owned(), start + colon + 1))
    }

    /// Parses the value that begins on this line, at or after `offset`. Returns the end of the value.
    fn parse_value(&mut self, key: Option<Range<usize>>, offset: usize, end: usize, indent: usize) -> usize {
        let remaining = self.slice(offset, end);
        let start = offset + remaining.len() - remaining.trim_start().len();
        let (path, remaining) = (self.current_path(), self.slice(start, end));
        let mut entry = OutlineEntry {
            path,
            key_range: key,
            value_range: start..start,
            editable_end: end,
            style: ValueStyle::Empty,
        };
        match remaining.chars().next() {
            None => {
                entry.value_range = offset..offset;
                self.entries.push(entry);
                end
            }
            Some('#') => {
                (entry.value_range, entry.editable_end) = (offset..offset, start);
                self.entries.push(entry);
                end
            }
            Some('|' | '>') => {
                let next_line = (end + 1).min(self.text.len());
                (entry.value_range, entry.editable_end, entry.style) =
                    (next_line..next_line, next_line, ValueStyle::Block);
                self.entries.push(entry);
                self.block_indent = Some(indent);
                end
            }
            Some('{' | '[') => {
                let index = self.entries.len();
                let path = entry.path.clone();
                entry.style = ValueStyle::Flow;
                self.entries.push(entry);
                let flow_end = super::yaml_flow::parse_flow(self.text, start, indent, &path, &mut self.entries);
                if let Some(entry) = self.entries.get_mut(index) {
                    (entry.value_range.end, entry.editable_end) = (flow_end, flow_end);
                }
                flow_end
            }
            Some(quote @ ('"' | '\'')) => {
                let closing_quote = self.closing_quote(quote, start, end, indent);
                (entry.value_range, entry.editable_end, entry.style) =
                    (start + 1..closing_quote, closing_quote, ValueStyle::Scalar);
                self.entries.push(entry);
                closing_quote.max(end)
            }
            Some(_) => {
                let length = remaining.find(" #").unwrap_or(remaining.len());
                let value_length = remaining.get(..length).unwrap_or_default().trim_end().len();
                (entry.value_range, entry.editable_end) = (start..start + value_length, start + length);
                entry.style = ValueStyle::Scalar;
                self.entries.push(entry);
                end
            }
        }
    }

    /// Returns the position of the closing quote, or the end of the line if the quote is missing.
    fn closing_quote(&self, quote: char, start: usize, end: usize, indent: usize) -> usize {
        let (mut offset, mut line_end) = (start + 1, end);
        let mut escaped = false;
        for c in self.slice(start + 1, self.text.len()).chars() {
            if c == quote && !escaped {
                return offset;
            }
            if c == '\n' {
                let line = self.slice(offset + 1, self.text.len());
                let line_indent = line.len() - line.trim_start_matches(' ').len();
                if line_indent <= indent && !line.trim_start_matches(' ').starts_with(['\r', '\n']) {
                    return end;
                }
                line_end = self.line_end(offset + 1);
            }
            escaped = quote == '"' && c == '\\' && !escaped;
            offset += c.len_utf8();
        }
        line_end.min(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(path: &[PathSegment]) -> String {
        let segments = path.iter().map(|segment| match segment {
            PathSegment::Key(name) => format!("/{name}"),
            PathSegment::Item(index) => format!("/{index}"),
        });
        segments.collect()
    }

    fn outline(text: &str) -> Vec<(String, String)> {
        let outline = Outline::parse(text, None);
        outline
            .entries
            .iter()
            .map(|e| (pointer(&e.path), text.get(e.value_range.clone()).unwrap().to_owned()))
            .collect()
    }

    #[test]
    fn block_style_and_flow_style_are_parsed() {
        let text = "name: x # c\nagents:\n  a: { model: auto, env: [A, \"B\"] }\nsteps:\n- id: p\n  message: |\n    one\n\n    two: 2\n  when: a ==\n    b\n- id: 'q r'\n  inputs:\n    - plan\n    - co\nsuccess:\n";
        let entries = outline(text);
        let assert_has =
            |path: &str, value: &str| assert!(entries.contains(&(path.into(), value.into())), "{path}: {entries:#?}");
        assert_has("/name", "x");
        assert_has("/agents/a/model", "auto");
        assert_has("/agents/a/env/1", "B");
        assert_has("/steps/0/id", "p");
        assert_has("/steps/0/message", "    one\n\n    two: 2");
        assert_has("/steps/0/when", "a ==\n    b");
        assert_has("/steps/1/id", "q r");
        assert_has("/steps/1/inputs/1", "co");
        assert_has("/success", "");
    }

    #[test]
    fn unfinished_text_has_a_path() {
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
            let outline = Outline::parse(&text, Some(cursor));
            let has_cursor = |e: &&OutlineEntry| {
                e.style != ValueStyle::Flow && e.value_range.start <= cursor && cursor <= e.editable_end
            };
            let paths: Vec<_> = outline.entries.iter().filter(has_cursor).map(|e| pointer(&e.path)).collect();
            assert_eq!(paths, [path], "{text}");
        }
    }
}
