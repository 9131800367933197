//! Passes on the lines of a text up to a maximum length, so that the search in one line takes a limited time.

use std::io::{self, Read};

/// Takes the place of the rest of a line. No character of a text has this byte, so a regular expression for the end of
/// a line does not match where the line was cut.
const CUT_MARK: u8 = 0xff;

/// Reads a text without the ends of its long lines.
pub(super) struct LineCutter<R> {
    reader: R,
    /// The maximum length of a line in bytes, without the line break.
    max_line_bytes: usize,
    /// The length of the current line so far.
    line_bytes: usize,
    /// The number of lines that were cut.
    cut_count: u64,
}

impl<R: Read> LineCutter<R> {
    pub(super) fn new(reader: R, max_line_bytes: usize) -> Self {
        Self { reader, max_line_bytes, line_bytes: 0, cut_count: 0 }
    }

    /// The number of lines that were cut so far.
    pub(super) fn cut_count(&self) -> u64 {
        self.cut_count
    }

    /// Removes the ends of long lines, in place. Returns the number of bytes that remain.
    fn cut(&mut self, bytes: &mut [u8]) -> usize {
        if self.line_bytes + bytes.len() <= self.max_line_bytes {
            // No line can be too long.
            self.line_bytes = match bytes.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => bytes.len() - end - 1,
                None => self.line_bytes + bytes.len(),
            };
            return bytes.len();
        }
        let mut kept = 0;
        for index in 0..bytes.len() {
            let byte = bytes[index];
            let kept_byte = if byte == b'\n' {
                self.line_bytes = 0;
                Some(byte)
            } else {
                self.line_bytes += 1;
                match self.line_bytes.checked_sub(self.max_line_bytes) {
                    None | Some(0) => Some(byte),
                    Some(1) => {
                        self.cut_count += 1;
                        Some(CUT_MARK)
                    }
                    Some(_) => None,
                }
            };
            if let Some(byte) = kept_byte {
                bytes[kept] = byte;
                kept += 1;
            }
        }
        kept
    }
}

impl<R: Read> Read for LineCutter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The caller searches what it has read before it reads again, so it must not read much at once.
        let size = buffer.len().min(self.max_line_bytes);
        let buffer = buffer.get_mut(..size).unwrap_or_default();
        loop {
            let count = self.reader.read(buffer)?;
            let kept = self.cut(buffer.get_mut(..count).unwrap_or_default());
            if kept > 0 || count == 0 {
                return Ok(kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_long_lines_are_left_out() {
        let text = b"12345\n123456\n\n1\n12345678901234567\nend";
        // The text arrives in pieces of each size.
        for size in 1..=text.len() {
            let mut cutter = LineCutter::new(&text[..], 5);
            let (mut all, mut buffer) = (Vec::new(), vec![0; size]);
            loop {
                let count = cutter.read(&mut buffer).unwrap();
                if count == 0 {
                    break;
                }
                assert!(count <= 5, "a line is the most");
                all.extend_from_slice(&buffer[..count]);
            }
            assert_eq!(all, b"12345\n12345\xff\n\n1\n12345\xff\nend", "{size}");
            assert_eq!(cutter.cut_count(), 2);
        }
    }
}
