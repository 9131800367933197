//! A reader that limits the length of a line, so that code which buffers whole lines can't run out of memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// A reader that fails when a line is too long, and sets a flag so that the caller knows why.
#[derive(Debug)]
pub struct CappedReader<R> {
    inner: R,
    /// The maximum length of a line, in bytes.
    max_line_bytes: usize,
    line_length: usize,
    is_line_too_long: Arc<AtomicBool>,
}

impl<R> CappedReader<R> {
    /// Limits the lines of `inner` to this length, in bytes.
    pub fn new(inner: R, max_line_bytes: usize, is_line_too_long: Arc<AtomicBool>) -> Self {
        Self { inner, max_line_bytes, line_length: 0, is_line_too_long }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for CappedReader<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filled_before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let bytes = buffer.filled().get(filled_before..).unwrap_or_default();
        self.line_length = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => bytes.len() - end - 1,
            None => self.line_length + bytes.len(),
        };
        if self.line_length > self.max_line_bytes {
            self.is_line_too_long.store(true, Ordering::Relaxed);
            // A read that fails leaves the buffer as it was.
            buffer.set_filled(filled_before);
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_line_up_to_the_limit_is_read_and_a_longer_one_fails() {
        for (text, is_too_long) in [("1234\n1234\n12", false), ("1234\n12345", true), ("", false)] {
            let flag = Arc::new(AtomicBool::new(false));
            let mut read = Vec::new();
            let result = CappedReader::new(text.as_bytes(), 4, flag.clone()).read_to_end(&mut read).await;
            assert_eq!((result.is_err(), flag.load(Ordering::Relaxed)), (is_too_long, is_too_long), "{text}");
        }
    }
}
