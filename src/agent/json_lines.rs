//! Splits standard output in the format JSON Lines, in which CLI agents report their events, into JSON values.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;

use crate::model::text::strip_bom_bytes;
use crate::process::OutputStream;

/// The length of the longest line that orch reads, in bytes. Replies are shorter.
const MAX_LINE_BYTES: usize = 32 << 20;
/// How long the output must pause before orch parses an unfinished line.
const IDLE_TIMEOUT: Duration = Duration::from_millis(100);

/// Collects bytes, and passes the JSON value of each line to a reader. Skips lines that are not JSON, and all lines
/// after the end of the turn.
pub(super) struct JsonLinesSplitter<R> {
    inner: Mutex<JsonLinesState<R>>,
    /// Notified when the reader has read the value that ends the turn.
    turn_ended: Notify,
    /// Notified when the output so far ends in the middle of a line.
    line_unfinished: Notify,
}

struct JsonLinesState<R> {
    /// The bytes of the current line.
    line: Vec<u8>,
    is_line_too_long: bool,
    reader: R,
}

/// Reads the JSON values of a stream.
pub(super) trait JsonLinesReader: Send {
    /// Reads one value. The value that ends the turn is the last one.
    fn read_value(&mut self, value: &Value);

    /// Whether a value ends the turn.
    fn ends_turn(&self, value: &Value) -> bool;

    /// Whether the reader has read the value that ends the turn.
    fn has_turn_ended(&self) -> bool;
}

impl<R: JsonLinesReader> JsonLinesSplitter<R> {
    /// Creates a splitter that passes values to `reader`.
    pub(super) fn new(reader: R) -> Self {
        let inner = Mutex::new(JsonLinesState { line: Vec::new(), is_line_too_long: false, reader });
        Self { inner, turn_ended: Notify::new(), line_unfinished: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, JsonLinesState<R>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Splits bytes of standard output; ignores other streams.
    pub(super) fn push(&self, stream: OutputStream, bytes: &[u8]) {
        if stream != OutputStream::Stdout {
            return;
        }
        let mut inner = self.lock();
        for segment in bytes.split_inclusive(|byte| *byte == b'\n') {
            if inner.line.len() + segment.len() > MAX_LINE_BYTES {
                inner.is_line_too_long = true;
                inner.line.clear();
                continue;
            }
            inner.line.extend_from_slice(segment);
            if segment.ends_with(b"\n") {
                inner.read_line();
            }
        }
        if inner.reader.has_turn_ended() {
            self.turn_ended.notify_one();
        } else if !inner.line.is_empty() && !bytes.trim_ascii().is_empty() {
            self.line_unfinished.notify_one();
        }
    }

    /// Resolves when the reader has read the value that ends the turn, even if no newline follows the value.
    pub(super) async fn wait_for_turn_end(&self) {
        let mut is_unfinished = false;
        loop {
            tokio::select! {
                biased;
                () = self.turn_ended.notified() => return,
                () = self.line_unfinished.notified() => is_unfinished = true,
                () = tokio::time::sleep(IDLE_TIMEOUT), if is_unfinished => {
                    if self.lock().read_unfinished_line() {
                        return;
                    }
                    is_unfinished = false;
                }
            }
        }
    }

    /// Returns the reader after the last line, and whether a line was too long to read.
    pub(super) fn finish(self) -> (R, bool) {
        let mut inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        inner.read_line();
        (inner.reader, inner.is_line_too_long)
    }
}

impl<R: JsonLinesReader> JsonLinesState<R> {
    fn read_line(&mut self) {
        if !self.reader.has_turn_ended()
            && let Ok(value) = serde_json::from_slice(strip_bom_bytes(&self.line))
        {
            self.reader.read_value(&value);
        }
        self.line.clear();
    }

    /// Reads an unfinished line if it is a complete value that ends the turn. Returns whether the turn has ended.
    fn read_unfinished_line(&mut self) -> bool {
        // A complete object can't be the beginning of a longer one.
        let value = serde_json::from_slice::<Value>(strip_bom_bytes(&self.line)).ok().filter(Value::is_object);
        if value.is_some_and(|value| self.reader.ends_turn(&value)) {
            self.read_line();
        }
        self.reader.has_turn_ended()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::timeout;

    use super::*;

    struct ValueCollector(Vec<Value>);

    impl JsonLinesReader for ValueCollector {
        fn read_value(&mut self, value: &Value) {
            self.0.push(value.clone());
        }

        fn ends_turn(&self, value: &Value) -> bool {
            value["end"] == true
        }

        fn has_turn_ended(&self) -> bool {
            self.0.iter().any(|value| self.ends_turn(value))
        }
    }

    #[test]
    fn chunks_of_any_size_give_the_same_lines_and_other_text_is_skipped() {
        let text = b"other\n\xef\xbb\xbf{\"a\": 1}\n\n{\"b\": \"x\"}";
        for size in 1..text.len() {
            let lines = JsonLinesSplitter::new(ValueCollector(Vec::new()));
            text.chunks(size).for_each(|chunk| lines.push(OutputStream::Stdout, chunk));
            lines.push(OutputStream::Stderr, b"{\"c\": 1}\n");
            let (collector, is_line_too_long) = lines.finish();
            assert_eq!((collector.0.len(), is_line_too_long), (2, false), "{size}");
        }
    }

    #[test]
    fn lines_after_the_end_of_the_turn_are_skipped() {
        let text = b"{\"a\": 1}\n{\"end\": true}\n{\"end\": true, \"b\": 2}\n{\"c\": 3}";
        for size in 1..text.len() {
            let lines = JsonLinesSplitter::new(ValueCollector(Vec::new()));
            text.chunks(size).for_each(|chunk| lines.push(OutputStream::Stdout, chunk));
            assert_eq!(lines.finish().0.0, [json!({ "a": 1 }), json!({ "end": true })], "{size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_end_of_a_turn_is_read_from_an_unfinished_line() {
        let has_turn_ended = async |lines: &JsonLinesSplitter<ValueCollector>| {
            timeout(IDLE_TIMEOUT * 5, lines.wait_for_turn_end()).await.is_ok()
        };
        for (text, expected) in [
            ("{\"a\": 1}\n{\"end\": true}", true),
            ("{\"a\": 1}\n{\"end\": true}  ", true),
            ("{\"a\": 1}\n{\"end\": true", false),
            ("{\"a\": 1}\n{\"end\": false}", false),
            ("{\"a\": 1}\n{\"end\": true} x", false),
            ("{\"a\": 1}", false),
        ] {
            let lines = JsonLinesSplitter::new(ValueCollector(Vec::new()));
            lines.push(OutputStream::Stdout, text.as_bytes());
            assert_eq!(has_turn_ended(&lines).await, expected, "{text}");
        }
        // The value may arrive in parts, and white space may follow.
        let lines = JsonLinesSplitter::new(ValueCollector(Vec::new()));
        lines.push(OutputStream::Stdout, b"{\"end\":");
        assert!(!has_turn_ended(&lines).await);
        lines.push(OutputStream::Stdout, b" true}");
        let push_spaces = async {
            loop {
                lines.push(OutputStream::Stdout, b" ");
                tokio::time::sleep(IDLE_TIMEOUT / 2).await;
            }
        };
        tokio::select! {
            has_turn_ended = has_turn_ended(&lines) => assert!(has_turn_ended),
            () = push_spaces => {}
        }
    }
}
