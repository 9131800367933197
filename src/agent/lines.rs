//! JSON values on lines of their own, as command-line agents tell what they do.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;

use crate::model::text::json_bytes;
use crate::process::Stream;

/// The longest line, in bytes: an answer is not larger.
const LONGEST: usize = 32 << 20;

/// Takes bytes as they come and gives whole lines to a reader; lines that are no JSON are left out.
pub(super) struct Lines<R> {
    inner: Mutex<Inner<R>>,
    /// Told when the reader has heard the end of the turn.
    said: Notify,
}

struct Inner<R> {
    rest: Vec<u8>,
    too_long: bool,
    reader: R,
}

/// Reads the values of a stream.
pub(super) trait Reader: Send {
    /// Takes in one value.
    fn value(&mut self, value: &Value);

    /// Whether it has heard the end of the turn: what comes after it belongs to none.
    fn is_over(&self) -> bool;
}

impl<R: Reader> Lines<R> {
    /// Lines for a reader.
    pub(super) fn new(reader: R) -> Self {
        Self { inner: Mutex::new(Inner { rest: Vec::new(), too_long: false, reader }), said: Notify::new() }
    }

    /// Takes in some bytes of standard output.
    pub(super) fn push(&self, stream: Stream, bytes: &[u8]) {
        if stream != Stream::Out {
            return;
        }
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
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
        }
    }

    /// Resolves when the end of the turn was heard.
    pub(super) async fn said(&self) {
        self.said.notified().await;
    }

    /// The reader at the end, and whether a line was too long to be read.
    pub(super) fn end(self) -> (R, bool) {
        let mut inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        inner.line();
        (inner.reader, inner.too_long)
    }
}

impl<R: Reader> Inner<R> {
    fn line(&mut self) {
        if let Ok(value) = serde_json::from_slice(json_bytes(&self.rest)) {
            self.reader.value(&value);
        }
        self.rest.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct All(Vec<Value>);

    impl Reader for All {
        fn value(&mut self, value: &Value) {
            self.0.push(value.clone());
        }

        fn is_over(&self) -> bool {
            false
        }
    }

    #[test]
    fn lines_come_whole_however_they_are_cut_and_noise_is_left_out() {
        let text = b"noise\n\xef\xbb\xbf{\"a\": 1}\n\n{\"b\": \"x\"}";
        for size in 1..text.len() {
            let lines = Lines::new(All(Vec::new()));
            text.chunks(size).for_each(|part| lines.push(Stream::Out, part));
            lines.push(Stream::Err, b"{\"c\": 1}\n");
            let (all, too_long) = lines.end();
            assert_eq!((all.0.len(), too_long), (2, false), "{size}");
        }
    }
}
