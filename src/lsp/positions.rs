//! Converts between byte offsets, which orch uses, and lines and characters, which the protocol uses.

use std::ops::Range;

/// The unit in which the protocol counts characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Bytes, if the client offers this.
    Utf8,
    /// UTF-16 code units, which every client supports.
    #[default]
    Utf16,
}

/// A line and a character in it, both from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: u32,
    pub(super) character: u32,
}

/// The lines of a text.
pub(super) struct LineIndex<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
    encoding: Encoding,
}

impl<'t> LineIndex<'t> {
    /// Indexes the lines of a text; a line ends with `\n`, `\r\n` or `\r`.
    pub(super) fn new(text: &'t str, encoding: Encoding) -> Self {
        let bytes = text.as_bytes();
        let line_ends = bytes.iter().enumerate().filter(|(index, byte)| match byte {
            b'\n' => true,
            b'\r' => bytes.get(index + 1) != Some(&b'\n'),
            _ => false,
        });
        let line_starts = std::iter::once(0).chain(line_ends.map(|(index, _)| index + 1)).collect();
        Self { text, line_starts, encoding }
    }

    /// Returns the position of a byte. A byte inside a character has the position of that character.
    pub(super) fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.line_starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let start = self.line_starts.get(line).copied().unwrap_or_default();
        let preceding = self.text.get(start..offset).unwrap_or_default();
        let character = match self.encoding {
            Encoding::Utf8 => preceding.len(),
            Encoding::Utf16 => preceding.encode_utf16().count(),
        };
        Position { line: to_u32(line), character: to_u32(character) }
    }

    /// Returns the positions of both ends of a byte range.
    pub(super) fn range(&self, range: &Range<usize>) -> (Position, Position) {
        (self.position(range.start), self.position(range.end))
    }

    /// Returns the byte at a position. A position beyond the end of a line counts as the end of that line.
    pub(super) fn offset(&self, position: Position) -> usize {
        let line = position.line as usize;
        let Some(start) = self.line_starts.get(line).copied() else { return self.text.len() };
        let end = self.line_starts.get(line + 1).copied().unwrap_or(self.text.len());
        let content = self.text.get(start..end).unwrap_or_default().trim_end_matches(['\n', '\r']);
        let (mut units, target) = (0, position.character as usize);
        for (index, c) in content.char_indices() {
            let width = match self.encoding {
                Encoding::Utf8 => c.len_utf8(),
                Encoding::Utf16 => c.len_utf16(),
            };
            if units + width > target {
                return start + index;
            }
            units += width;
        }
        start + content.len()
    }
}

fn to_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(line: u32, character: u32) -> Position {
        Position { line, character }
    }

    #[test]
    fn characters_are_counted_in_units_of_the_encoding() {
        let text = "aé🦀b\r\nü: x\rlast";
        let (utf16, utf8) = (LineIndex::new(text, Encoding::Utf16), LineIndex::new(text, Encoding::Utf8));
        let b = text.find('b').unwrap();
        assert_eq!((utf16.position(b), utf8.position(b)), (position(0, 4), position(0, 7)));
        for lines in [&utf16, &utf8] {
            for (offset, _) in text.char_indices().filter(|(_, c)| !"\r\n".contains(*c)) {
                assert_eq!(lines.offset(lines.position(offset)), offset, "{offset}");
            }
        }
        assert_eq!(utf16.position(text.find("last").unwrap()), position(2, 0), "a lone CR ends a line too");
    }

    #[test]
    fn a_position_outside_the_text_is_moved_to_its_end() {
        let lines = LineIndex::new("ab\r\n🦀", Encoding::Utf16);
        assert_eq!(lines.offset(position(0, 99)), 2, "before the line break");
        assert_eq!(lines.offset(position(9, 0)), 8);
        assert_eq!(lines.offset(position(1, 1)), 4, "inside a surrogate pair");
        assert_eq!(lines.position(99), position(1, 2));
        assert_eq!(lines.position(6), position(1, 0), "inside a character");
    }
}
