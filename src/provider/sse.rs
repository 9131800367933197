//! Server-sent events, as far as model providers use them: the data of each event.
//!
//! The names and ids of events are left out, since every dialect says in the data what
//! an event is. Reads bytes as they come, each once, and never fails.

use std::mem;

/// Reads a stream of events from chunks that end anywhere.
#[derive(Default)]
pub(super) struct Decoder {
    /// The line under way.
    line: Vec<u8>,
    /// The data of the event under way, with a line feed after each line.
    data: Vec<u8>,
    /// Whether the last byte was a carriage return: a line feed after it ends no further line.
    returned: bool,
    /// Whether the first line is over; a byte order mark may precede it.
    begun: bool,
}

impl Decoder {
    /// The data of the events that these bytes complete.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut events = Vec::new();
        if mem::take(&mut self.returned) && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.line.extend_from_slice(&bytes[..at]);
            events.extend(self.end_line());
            let returned = bytes[at] == b'\r';
            bytes = &bytes[at + 1..];
            if returned {
                self.returned = bytes.is_empty();
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
        }
        self.line.extend_from_slice(bytes);
        events
    }

    /// The data of a last event that lacks its blank line.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        let last = if self.line.is_empty() { None } else { self.end_line() };
        last.or_else(|| self.end_line())
    }

    fn end_line(&mut self) -> Option<Vec<u8>> {
        let line = mem::take(&mut self.line);
        let mut text = line.as_slice();
        if !mem::replace(&mut self.begun, true) {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        if text.is_empty() {
            let mut data = mem::take(&mut self.data);
            // The line feed after the last line of the data.
            return data.pop().map(|_| data);
        }
        if let Some(value) = text.strip_prefix(b"data:") {
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            self.data.push(b'\n');
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't go on fails")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(chunks: &[&[u8]]) -> Vec<String> {
        let mut decoder = Decoder::default();
        let mut events: Vec<Vec<u8>> = chunks.iter().flat_map(|chunk| decoder.push(chunk)).collect();
        events.extend(decoder.finish());
        events.into_iter().map(|event| String::from_utf8(event).unwrap()).collect()
    }

    #[test]
    fn events_of_every_form() {
        for (text, events) in [
            ("data: a\n\ndata: b\n\n", vec!["a", "b"]),
            ("data:a\r\n\r\ndata:b\r\r", vec!["a", "b"]),
            ("event: x\nid: 1\nretry: 5\ndata: a\n\n", vec!["a"]),
            (": comment\n\n\ndata: a\ndata:  b\n\n", vec!["a\n b"]),
            ("\u{feff}data: a\n\n", vec!["a"]),
            ("data: a", vec!["a"]),
            ("data: a\n", vec!["a"]),
            ("data: \u{feff}\n\n", vec!["\u{feff}"]),
            ("event: x\n\ndatabase: a\n\n", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(decode(&[text.as_bytes()]), events, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn where_chunks_end_does_not_matter(
            text in "(data: ?|[a-c:é ]|\r|\n|\r\n|event: x\n){0,40}",
            size in 1_usize..9,
        ) {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(decode(&chunks), decode(&[text.as_bytes()]));
        }
    }
}
