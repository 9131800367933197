//! Splits the body of a response into the events of a server, each of which is limited in size.
//!
//! The crate does this too, but only for the responses to requests that it sends itself.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use rmcp::transport::common::client_side_sse::BoxedSseResponse;
use sse_stream::SseStream;

/// The beginning of the error for an event over the size limit, also that of the crate.
pub(super) const TOO_LARGE: &str = "SSE event exceeded the maximum size";

/// The events in the bytes of a body. Ends with an error if an event has more bytes than `max_size`.
pub(super) fn limited_events<E>(
    bytes: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    max_size: usize,
) -> BoxedSseResponse
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut size = EventSize::default();
    let mut is_over = false;
    let limited = bytes.map_err(io::Error::other).map(move |chunk: io::Result<Bytes>| -> io::Result<Bytes> {
        let chunk = chunk?;
        is_over |= size.add(&chunk) > max_size;
        if is_over { Err(io::Error::other(format!("{TOO_LARGE} of {max_size} bytes"))) } else { Ok(chunk) }
    });
    SseStream::from_bytes_stream(limited).boxed()
}

/// The size of the event that has not ended yet.
#[derive(Debug, Default)]
struct EventSize {
    /// The bytes of its lines that have ended, without comments.
    lines: usize,
    /// The bytes of the line that has not ended.
    line: usize,
    is_comment: bool,
    /// Whether the last byte was `\r`, which ends a line also together with `\n`.
    was_return: bool,
}

impl EventSize {
    /// Adds bytes. Returns the size of the largest event in them, as far as it has arrived.
    fn add(&mut self, bytes: &[u8]) -> usize {
        let mut largest = 0;
        for byte in bytes {
            let was_return = std::mem::replace(&mut self.was_return, *byte == b'\r');
            match byte {
                b'\n' if was_return => {}
                b'\n' | b'\r' => self.end_line(),
                _ => {
                    self.is_comment |= self.line == 0 && *byte == b':';
                    self.line += 1;
                }
            }
            largest = largest.max(self.lines + self.line);
        }
        largest
    }

    /// Ends a line. An empty line ends the event.
    fn end_line(&mut self) {
        if self.line == 0 {
            self.lines = 0;
        } else if !self.is_comment {
            self.lines += self.line + 1;
        }
        self.line = 0;
        self.is_comment = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of the events in these pieces of a body, and the error at their end.
    async fn read(pieces: &[&str], max_size: usize) -> (Vec<String>, Option<String>) {
        let pieces: Vec<io::Result<Bytes>> = pieces.iter().map(|piece| Ok(Bytes::from((*piece).to_owned()))).collect();
        let mut events = limited_events(futures_util::stream::iter(pieces), max_size);
        let mut data = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => data.extend(event.data),
                Err(error) => return (data, Some(error.to_string())),
            }
        }
        (data, None)
    }

    #[tokio::test]
    async fn events_are_read_wherever_the_body_is_split() {
        let body = ": a comment\n\ndata: one\r\n\r\nid: 7\ndata: two\n\n";
        for at in 0..=body.len() {
            let (before, after) = body.split_at(at);
            assert_eq!(read(&[before, after], 20).await, (vec!["one".to_owned(), "two".to_owned()], None), "{at}");
        }
    }

    #[tokio::test]
    async fn only_the_size_of_one_event_is_limited() {
        let many = "data: 12345\n\n".repeat(100);
        assert_eq!(read(&[&many], 12).await.0.len(), 100);
        // Comments keep a connection open as long as it is needed.
        let comments = ":\n".repeat(100);
        assert_eq!(read(&[&comments, "data: 1\n\n"], 12).await.0, ["1"]);
        for large in ["data: 1234567890", "data: 1\ndata: 2\n", ": a long comment"] {
            let (_, error) = read(&[large], 12).await;
            assert!(error.unwrap().contains(TOO_LARGE), "{large}");
        }
    }
}
