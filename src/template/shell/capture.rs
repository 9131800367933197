//! Captures what the template of a command line prints: the text of the script, and each value with its place in it.
//!
//! MiniJinja writes directly to a writer of orch, so the length of the text so far is the place of a value. No marker
//! stands for a value in the text, so neither a template nor a value can forge one.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::{ErrorKind, Output, State, Value as TemplateValue};

use crate::template::MAX_OUTPUT_BYTES;

/// A value that a template printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CapturedValue {
    /// The byte offset in the script without values.
    pub(super) offset: usize,
    pub(super) text: String,
}

#[derive(Debug, Default)]
struct ScriptBuffer {
    /// The script without values. While MiniJinja prints a value, also the value.
    bytes: Vec<u8>,
    values: Vec<CapturedValue>,
    /// The total length of the values.
    value_bytes: usize,
    /// Whether MiniJinja wrote to this buffer since the last value began.
    was_written: bool,
}

/// The script that a rendering writes, shared by MiniJinja's writer and the formatter of values.
#[derive(Clone, Debug, Default)]
pub(super) struct ShellCapture(Arc<Mutex<ScriptBuffer>>);

impl ShellCapture {
    /// Returns a formatter that moves each printed value out of the script.
    ///
    /// The content of a `set` or `filter` block is a value itself: MiniJinja collects it as text, which does not reach
    /// the writer, and the formatter leaves it there.
    pub(super) fn formatter(
        &self,
    ) -> impl Fn(&mut Output, &mut State, &TemplateValue) -> Result<(), minijinja::Error> + Send + Sync + 'static {
        let capture = self.clone();
        move |out, state, value| {
            if value.is_undefined() {
                // It prints nothing, or MiniJinja's own formatter reports it.
                return minijinja::escape_formatter(out, state, value);
            }
            let start = capture.begin_value();
            minijinja::escape_formatter(out, state, value)?;
            // Also an empty value has a place, so the writer must learn about it.
            out.write_str("").map_err(minijinja::Error::from)?;
            capture.end_value(start)
        }
    }

    fn buffer(&self) -> MutexGuard<'_, ScriptBuffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_value(&self) -> usize {
        let mut buffer = self.buffer();
        buffer.was_written = false;
        buffer.bytes.len()
    }

    fn end_value(&self, start: usize) -> Result<(), minijinja::Error> {
        let mut buffer = self.buffer();
        if !buffer.was_written {
            return Ok(());
        }
        let bytes = buffer.bytes.split_off(start);
        let text = String::from_utf8(bytes).map_err(|_| ErrorKind::WriteFailure)?;
        buffer.value_bytes += text.len();
        buffer.values.push(CapturedValue { offset: start, text });
        Ok(())
    }

    /// Returns the script without values, and the values in order.
    pub(super) fn finish(&self) -> Result<(String, Vec<CapturedValue>), minijinja::Error> {
        let buffer = std::mem::take(&mut *self.buffer());
        let script = String::from_utf8(buffer.bytes).map_err(|_| ErrorKind::WriteFailure)?;
        Ok((script, buffer.values))
    }
}

impl io::Write for ShellCapture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    /// MiniJinja calls this function for each text, also for an empty one.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut buffer = self.buffer();
        if buffer.bytes.len() + buffer.value_bytes + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(io::Error::other("too large"));
        }
        buffer.was_written = true;
        buffer.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
