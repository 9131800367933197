//! A reader that limits the length of a line, so that code which buffers whole lines can't run out of memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// The length of the longest line that the reader accepts, in bytes.
const MAX_LINE_BYTES: usize = 32 << 20;

/// A reader that fails when a line is longer than [`MAX_LINE_BYTES`], and sets a flag so that the caller knows why.
pub(super) struct CappedReader<R> {
    inner: R,
    line_length: usize,
    is_line_too_long: Arc<AtomicBool>,
}

impl<R> CappedReader<R> {
    /// Limits the lines of `inner`.
    pub(super) fn new(inner: R, is_line_too_long: Arc<AtomicBool>) -> Self {
        Self { inner, line_length: 0, is_line_too_long }
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
        if self.line_length > MAX_LINE_BYTES {
            self.is_line_too_long.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        Poll::Ready(Ok(()))
    }
}
