//! A reader that limits the length of a line, so that a consumer which buffers whole lines can't run out of memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// The longest line, in bytes.
const LONGEST: usize = 32 << 20;

/// A reader that fails when a line is longer than [`LONGEST`], and sets a flag so that the caller knows why.
pub(super) struct CappedReader<R> {
    inner: R,
    line: usize,
    flooded: Arc<AtomicBool>,
}

impl<R> CappedReader<R> {
    /// Bounds the lines of a reader.
    pub(super) fn new(inner: R, flooded: Arc<AtomicBool>) -> Self {
        Self { inner, line: 0, flooded }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for CappedReader<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let new = buffer.filled().get(before..).unwrap_or_default();
        self.line = match new.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => new.len() - end - 1,
            None => self.line + new.len(),
        };
        if self.line > LONGEST {
            self.flooded.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        Poll::Ready(Ok(()))
    }
}
