//! Splits standard output into lines of JSON, the format in which CLI agents report their events.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;

use crate::model::text::json_bytes;
use crate::process::Stream;

/// The longest line, in bytes; no answer is longer.
const LONGEST: usize = 32 << 20;
/// How long the output must pause before an unfinished line is parsed.
const SILENCE: Duration = Duration::from_millis(100);

/// Collects bytes and passes the JSON value of each line to a reader. It skips lines that are not JSON, and everything
/// after the end of the turn.
pub(super) struct LineSplitter<R> {
    inner: Mutex<LinesState<R>>,
    /// Notified when the reader has seen the end of the turn.
    said: Notify,
    /// Notified when a line has begun and its end is missing.
    unfinished: Notify,
}

struct LinesState<R> {
    rest: Vec<u8>,
    too_long: bool,
    reader: R,
}

/// Reads the JSON values of a stream.
pub(super) trait LineReader: Send {
    /// Takes one value. After the value that ends the turn, it gets no more.
    fn value(&mut self, value: &Value);

    /// Whether a value ends the turn.
    fn ends_turn(&self, value: &Value) -> bool;

    /// Whether it has seen the end of the turn.
    fn is_over(&self) -> bool;
}

impl<R: LineReader> LineSplitter<R> {
    /// Creates a splitter that passes values to `reader`.
    pub(super) fn new(reader: R) -> Self {
        let inner = Mutex::new(LinesState { rest: Vec::new(), too_long: false, reader });
        Self { inner, said: Notify::new(), unfinished: Notify::new() }
    }

    fn inner(&self) -> MutexGuard<'_, LinesState<R>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes of standard output; other streams are ignored.
    pub(super) fn push(&self, stream: Stream, bytes: &[u8]) {
        if stream != Stream::Out {
            return;
        }
        let mut inner = self.inner();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if inner.rest.len() + part.len() > LONGEST {
                inner.too_long = true;
                inner.rest.clear();
                continue;
            }
            inner.rest.extend_from_slice(part);
            if part.ends_with(b"\n") {
                inner.line();
            }
        }
        if inner.reader.is_over() {
            self.said.notify_one();
        } else if !inner.rest.is_empty() && !bytes.trim_ascii().is_empty() {
            self.unfinished.notify_one();
        }
    }

    /// Resolves when the end of the turn was read, even when the program did not end that line.
    pub(super) async fn said(&self) {
        let mut open = false;
        loop {
            tokio::select! {
                biased;
                () = self.said.notified() => return,
                () = self.unfinished.notified() => open = true,
                () = tokio::time::sleep(SILENCE), if open => {
                    if self.inner().open_line() {
                        return;
                    }
                    open = false;
                }
            }
        }
    }

    /// Returns the reader after the last line, and whether a line was too long to read.
    pub(super) fn end(self) -> (R, bool) {
        let mut inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        inner.line();
        (inner.reader, inner.too_long)
    }
}

impl<R: LineReader> LinesState<R> {
    fn line(&mut self) {
        if !self.reader.is_over()
            && let Ok(value) = serde_json::from_slice(json_bytes(&self.rest))
        {
            self.reader.value(&value);
        }
        self.rest.clear();
    }

    /// Parses a line without its end, if it is a complete value that ends the turn. Returns whether the turn is over.
    fn open_line(&mut self) -> bool {
        // A complete object can't be the beginning of a longer one, so nothing is cut off.
        let value = serde_json::from_slice::<Value>(json_bytes(&self.rest)).ok().filter(Value::is_object);
        if value.is_some_and(|value| self.reader.ends_turn(&value)) {
            self.line();
        }
        self.reader.is_over()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct All(Vec<Value>);

    impl LineReader for All {
        fn value(&mut self, value: &Value) {
            self.0.push(value.clone());
        }

        fn ends_turn(&self, value: &Value) -> bool {
            value["end"] == true
        }

        fn is_over(&self) -> bool {
            self.0.iter().any(|value| self.ends_turn(value))
        }
    }

    #[test]
    fn lines_come_whole_however_they_are_cut_and_noise_is_left_out() {
        let text = b"noise\n\xef\xbb\xbf{\"a\": 1}\n\n{\"b\": \"x\"}";
        for size in 1..text.len() {
            let lines = LineSplitter::new(All(Vec::new()));
            text.chunks(size).for_each(|part| lines.push(Stream::Out, part));
            lines.push(Stream::Err, b"{\"c\": 1}\n");
            let (all, too_long) = lines.end();
            assert_eq!((all.0.len(), too_long), (2, false), "{size}");
        }
    }

    #[test]
    fn what_comes_after_the_end_of_the_turn_is_not_read() {
        let text = b"{\"a\": 1}\n{\"end\": true}\n{\"end\": true, \"b\": 2}\n{\"c\": 3}";
        for size in 1..text.len() {
            let lines = LineSplitter::new(All(Vec::new()));
            text.chunks(size).for_each(|part| lines.push(Stream::Out, part));
            assert_eq!(lines.end().0.0, [json!({ "a": 1 }), json!({ "end": true })], "{size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_turn_counts_on_a_line_that_is_left_open_and_no_other_value_does() {
        let is_over = async |lines: &LineSplitter<All>| tokio::time::timeout(SILENCE * 5, lines.said()).await.is_ok();
        for (text, over) in [
            ("{\"a\": 1}\n{\"end\": true}", true),
            ("{\"a\": 1}\n{\"end\": true}  ", true),
            ("{\"a\": 1}\n{\"end\": true", false),
            ("{\"a\": 1}\n{\"end\": false}", false),
            ("{\"a\": 1}\n{\"end\": true} x", false),
            ("{\"a\": 1}", false),
        ] {
            let lines = LineSplitter::new(All(Vec::new()));
            lines.push(Stream::Out, text.as_bytes());
            assert_eq!(is_over(&lines).await, over, "{text}");
        }
        // The value may arrive in parts, and white space may follow it.
        let lines = LineSplitter::new(All(Vec::new()));
        lines.push(Stream::Out, b"{\"end\":");
        assert!(!is_over(&lines).await);
        lines.push(Stream::Out, b" true}");
        let blanks = async {
            loop {
                lines.push(Stream::Out, b" ");
                tokio::time::sleep(SILENCE / 2).await;
            }
        };
        tokio::select! {
            over = is_over(&lines) => assert!(over),
            () = blanks => {}
        }
    }
}
