//! Output of a child, kept up to a cap.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Which output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// What was kept of an output: its beginning, and how much there was.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The first bytes, at most as many as were allowed.
    pub bytes: Vec<u8>,
    /// How many bytes there were in all.
    pub total: u64,
    cap: usize,
}

impl Captured {
    pub(super) fn new(cap: usize) -> Self {
        Self { bytes: Vec::new(), total: 0, cap }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.cap.saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or_default());
    }

    /// Whether there was more than is kept.
    pub fn cut(&self) -> bool {
        self.total > self.bytes.len() as u64
    }

    /// The text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The last line, for a message.
    pub fn tail(&self) -> String {
        self.text().trim_end().lines().last().unwrap_or_default().to_owned()
    }
}

/// Reads a pipe to its end, or until there was more than `most`. All of it is read, so that the child
/// never waits, also what is not kept.
pub(super) async fn capture(
    pipe: Option<impl AsyncRead + Unpin>,
    stream: Stream,
    into: &mut Captured,
    most: u64,
    heard: &(dyn Fn(Stream, &[u8]) + Send + Sync),
) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = pipe.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        into.add(bytes);
        heard(stream, bytes);
        if into.total > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}
