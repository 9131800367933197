//! Reads the body of a response within limits of time and size.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout, timeout_at};

use super::contradictions::parse_json;
use super::http::format_duration;
use super::json_body::JsonBody;
use super::{Endpoint, RequestLimits, errors};
use crate::model::counted;
use crate::model::failure::{Failure, FailureClass};
use crate::model::text::strip_bom_bytes;

/// The pause in a JSON body after which orch checks whether the body is complete.
pub(super) const COMPLETENESS_CHECK_DELAY: Duration = Duration::from_millis(100);

/// The number of bytes of white space after which a JSON body ends with its value, even if orch has more of it. So the
/// chunks of a body do not determine whether orch reads what follows.
const MAX_WHITE_SPACE: usize = 1024;

/// How long to wait for the rest of a body that is neither events nor JSON, such as a web page.
const UNUSABLE_BODY_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of bytes after which the reader lets timers and other tasks run.
const BYTES_BETWEEN_YIELDS: usize = 256 * 1024;
/// The number of bytes as which a smaller chunk counts there, because each chunk takes time too.
const MIN_CHUNK_BYTES: usize = 1024;

/// The body of a response, with the limits for reading it.
pub(super) struct ResponseBody<'a> {
    response: Response,
    pub(super) endpoint: &'a Endpoint,
    limits: &'a RequestLimits,
    first_byte_deadline: Instant,
    pub(super) received_bytes: usize,
    /// Whether the last read failed because nothing arrived in time.
    pub(super) has_timed_out: bool,
    /// The number of bytes since the reader last let timers and other tasks run.
    bytes_since_yield: usize,
}

impl<'a> ResponseBody<'a> {
    /// The body of a response of which nothing has been read; its first byte must arrive before `first_byte_deadline`.
    pub(super) fn new(
        response: Response,
        endpoint: &'a Endpoint,
        limits: &'a RequestLimits,
        first_byte_deadline: Instant,
    ) -> Self {
        Self {
            response,
            endpoint,
            limits,
            first_byte_deadline,
            received_bytes: 0,
            has_timed_out: false,
            bytes_since_yield: 0,
        }
    }

    /// The next bytes; `None` at the end of the body.
    pub(super) async fn next_chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        // A few kilobytes can decompress to many megabytes, whose chunks are ready at once. A task that never waits
        // would keep the time limits and a stop of the run from being noticed.
        if self.bytes_since_yield >= BYTES_BETWEEN_YIELDS {
            self.bytes_since_yield = 0;
            yield_now().await;
        }
        let (deadline, limit) = if self.received_bytes == 0 {
            (self.first_byte_deadline, self.limits.first_byte_timeout)
        } else {
            (Instant::now() + self.limits.idle_timeout, self.limits.idle_timeout)
        };
        let chunk = match timeout_at(deadline, self.response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(_)) => return Err(errors::connection_lost(self.endpoint, self.received_bytes)),
            Err(_) => {
                self.has_timed_out = true;
                return Err(errors::timed_out(self.endpoint, &self.timeout_description(limit)));
            }
        };
        self.bytes_since_yield += chunk.len().max(MIN_CHUNK_BYTES);
        self.received_bytes = self.received_bytes.saturating_add(chunk.len());
        if self.received_bytes > self.limits.max_reply_bytes {
            let message =
                format!("{} sent more than the allowed {} bytes", self.endpoint.name, self.limits.max_reply_bytes);
            return Err(Failure::new(FailureClass::OutputTooLarge, message));
        }
        Ok(Some(chunk))
    }

    /// The end of the time-out message, which begins with the endpoint's name.
    fn timeout_description(&self, limit: Duration) -> String {
        match self.received_bytes {
            0 => format!("sent nothing within {}", format_duration(limit)),
            received => format!("went silent for {} after {}", format_duration(limit), counted(received, "byte")),
        }
    }

    /// Reads the start of a body that is neither events nor JSON, to quote it: at most `max_bytes` bytes, and only what
    /// arrives within [`UNUSABLE_BODY_TIMEOUT`]. `first` contains the bytes that have arrived.
    pub(super) async fn read_unusable_body(&mut self, first: &[u8], max_bytes: usize) -> Bytes {
        let mut buffer = BytesMut::from(first);
        let deadline = Instant::now() + UNUSABLE_BODY_TIMEOUT.min(self.limits.idle_timeout);
        while buffer.len() < max_bytes
            && let Ok(Ok(Some(chunk))) = timeout_at(deadline, self.next_chunk()).await
        {
            buffer.extend_from_slice(&chunk);
        }
        buffer.truncate(max_bytes);
        buffer.freeze()
    }

    /// Reads a JSON body to its end; `first` contains the bytes that have arrived. Returns if nothing follows a complete
    /// value for [`COMPLETENESS_CHECK_DELAY`], or only [`MAX_WHITE_SPACE`], without waiting for the connection to
    /// close. Ignores a connection error after the value.
    pub(super) async fn read_json(&mut self, first: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut body = JsonBody::default();
        body.push(first);
        loop {
            let next = self.next_chunk();
            tokio::pin!(next);
            let chunk = match timeout(COMPLETENESS_CHECK_DELAY, &mut next).await {
                Ok(chunk) => chunk,
                Err(_) if body.is_complete() => break,
                Err(_) => next.await,
            };
            match chunk {
                // Some servers send white space to keep the connection alive, so the body may never pause.
                Ok(Some(chunk)) if chunk.trim_ascii().is_empty() && body.is_complete() => {
                    body.push(&chunk);
                    if body.white_space_after_value() >= MAX_WHITE_SPACE {
                        break;
                    }
                }
                Ok(Some(chunk)) => body.push(&chunk),
                Ok(None) => break,
                Err(_) if body.is_complete() => break,
                Err(failure) => return Err(failure),
            }
        }
        Ok(body.into_bytes())
    }
}

/// The JSON value at the start of a body, the bytes of the value, and the bytes after it.
fn split_leading_json(bytes: &[u8]) -> Option<(Value, &[u8], &[u8])> {
    let body = strip_bom_bytes(bytes);
    // `IgnoredAny` does not look at code points, so it accepts the halves of surrogate pairs that `parse_json` reads.
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    let (value_bytes, trailing_bytes) = body.split_at_checked(values.byte_offset())?;
    Some((parse_json(value_bytes).ok()?, value_bytes, trailing_bytes))
}

/// The JSON value of a body, and the bytes of the value. If the value is an object or a list, white space and any other
/// bytes may follow it: it depends on the chunks of the body whether `read_json` has read these bytes.
pub(super) fn parse_json_body(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (value, value_bytes, trailing_bytes) = split_leading_json(bytes)?;
    let is_self_delimiting = value.is_object() || value.is_array();
    let has_ended = trailing_bytes.trim_ascii().is_empty()
        || (is_self_delimiting && trailing_bytes.first().is_some_and(u8::is_ascii_whitespace));
    has_ended.then_some((value, value_bytes))
}

/// Whether another JSON object or list follows the value at the start of a body; `value_bytes` are those of the value.
pub(super) fn has_further_value(body: &[u8], value_bytes: &[u8]) -> bool {
    let trailing_bytes = strip_bom_bytes(body).get(value_bytes.len()..).unwrap_or_default();
    let text = trailing_bytes.trim_ascii_start();
    trailing_bytes.len() - text.len() < MAX_WHITE_SPACE && matches!(text.first(), Some(b'{' | b'['))
}
