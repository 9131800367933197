//! Decodes server-sent events to the extent that model providers use them: the data of each event.
//!
//! The name of an event matters only if it is `error`, because in every dialect the data identifies the event. The
//! decoder also returns lines that are not a field of an event, since some servers write errors in this way. It accepts
//! chunks that end anywhere, reads each byte once, and never fails.

use std::mem;

/// One item of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SseItem {
    /// The data of an event.
    Data(Vec<u8>),
    /// The data of an event that is named `error`.
    Error(Vec<u8>),
    /// A line that is not a field of an event.
    Stray(Vec<u8>),
}

/// Decodes a stream of events from chunks that may end anywhere.
#[derive(Default)]
pub(super) struct SseDecoder {
    /// The current, incomplete line.
    line: Vec<u8>,
    /// The data of the current event, with a line feed after each line.
    data: Vec<u8>,
    /// Whether the current event is named `error`.
    is_error: bool,
    /// Whether the last byte was a carriage return. A line feed right after it is a part of the same line end.
    after_carriage_return: bool,
    /// Whether the first line is complete; only the first line may begin with a byte order mark.
    is_first_line_complete: bool,
}

impl SseDecoder {
    /// Reads bytes and returns the items that they complete.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Vec<SseItem> {
        let mut items = Vec::new();
        if mem::take(&mut self.after_carriage_return) && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(line_end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.line.extend_from_slice(&bytes[..line_end]);
            items.extend(self.end_line());
            let is_carriage_return = bytes[line_end] == b'\r';
            bytes = &bytes[line_end + 1..];
            if is_carriage_return {
                self.after_carriage_return = bytes.is_empty();
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
        }
        self.line.extend_from_slice(bytes);
        items
    }

    /// Returns the remaining items at the end of the stream: an incomplete line, and an event without its blank line.
    pub(super) fn finish(&mut self) -> Vec<SseItem> {
        // A prefix of a field name is not a stray line, because the end of the stream may have cut it off.
        if [&b"data:"[..], b"event:", b"id:", b"retry:"].iter().any(|field| field.starts_with(&self.line)) {
            self.line.clear();
        }
        let last_line_item = if self.line.is_empty() { None } else { self.end_line() };
        last_line_item.into_iter().chain(self.end_line()).collect()
    }

    /// Ends the current line; returns the item that it completes, if any.
    fn end_line(&mut self) -> Option<SseItem> {
        let line = mem::take(&mut self.line);
        let mut text = line.as_slice();
        if !mem::replace(&mut self.is_first_line_complete, true) {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        if text.is_empty() {
            let is_error = mem::take(&mut self.is_error);
            let mut data = mem::take(&mut self.data);
            // Remove the line feed after the last line; an event without data has none and yields no item.
            data.pop()?;
            return Some(if is_error { SseItem::Error(data) } else { SseItem::Data(data) });
        }
        let (field, value) = match text.iter().position(|byte| *byte == b':') {
            Some(colon) => (&text[..colon], &text[colon + 1..]),
            None => (text, &b""[..]),
        };
        match field {
            b"data" => {
                self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
                self.data.push(b'\n');
            }
            b"event" => self.is_error = value.trim_ascii() == b"error",
            b"" | b"id" | b"retry" => {}
            _ => return Some(SseItem::Stray(text.to_vec())),
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(chunks: &[&[u8]]) -> Vec<String> {
        let mut decoder = SseDecoder::default();
        let mut items: Vec<SseItem> = chunks.iter().flat_map(|chunk| decoder.push(chunk)).collect();
        items.extend(decoder.finish());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        items
            .into_iter()
            .map(|item| match item {
                SseItem::Data(data) => text(data),
                SseItem::Error(data) => format!("error {}", text(data)),
                SseItem::Stray(line) => format!("stray {}", text(line)),
            })
            .collect()
    }

    #[test]
    fn all_forms_of_events_are_decoded() {
        for (text, events) in [
            ("data: a\n\ndata: b\n\n", vec!["a", "b"]),
            ("data:a\r\n\r\ndata:b\r\r", vec!["a", "b"]),
            ("event: x\nid: 1\nretry: 5\ndata: a\n\n", vec!["a"]),
            (": comment\n\n\ndata: a\ndata:  b\n\n", vec!["a\n b"]),
            ("\u{feff}data: a\n\n", vec!["a"]),
            ("data: a", vec!["a"]),
            ("data: a\n", vec!["a"]),
            ("data: \u{feff}\n\n", vec!["\u{feff}"]),
            ("event: x\n\ndatabase: a\n\n", vec!["stray database: a"]),
            ("error: {\"code\": 1}\n\n", vec!["stray error: {\"code\": 1}"]),
            ("event: error\ndata: a\n\ndata: b\n\n", vec!["error a", "b"]),
            ("{\n}\n", vec!["stray {", "stray }"]),
            ("data: a\n\ndat", vec!["a"]),
            ("data\n\n", vec![""]),
            ("", vec![]),
        ] {
            assert_eq!(decode(&[text.as_bytes()]), events, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn chunk_boundaries_do_not_matter(
            text in "(data: ?|[a-c:é ]|\r|\n|\r\n|event: x\n){0,40}",
            size in 1_usize..9,
        ) {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(decode(&chunks), decode(&[text.as_bytes()]));
        }
    }
}
