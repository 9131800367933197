//! The body of a response, read under its limits of time and size.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::http::seconds;
use super::{Endpoint, RequestLimits, errors};
use crate::model::failure::{Class, Failure};
use crate::model::text::json_bytes;

/// How long a JSON body must pause before orch checks whether it is already complete.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// How long orch waits for the rest of a body that only explains a failure.
const EXPLANATION: Duration = Duration::from_secs(2);

/// The body of a response, and the limits under which it is read.
pub(super) struct ResponseBody<'a> {
    pub(super) response: Response,
    pub(super) endpoint: &'a Endpoint,
    pub(super) limits: &'a RequestLimits,
    pub(super) first_byte: Instant,
    pub(super) received: usize,
    /// Whether the last read failed because nothing arrived in time.
    pub(super) silent: bool,
}

impl ResponseBody<'_> {
    /// The next bytes; `None` at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let (deadline, limit) = if self.received == 0 {
            (self.first_byte, self.limits.first_byte)
        } else {
            (Instant::now() + self.limits.idle, self.limits.idle)
        };
        let chunk = match timeout_at(deadline, self.response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(_)) => return Err(errors::cut(self.endpoint, self.received)),
            Err(_) => {
                self.silent = true;
                return Err(errors::timed_out(self.endpoint, &self.silence(limit)));
            }
        };
        self.received = self.received.saturating_add(chunk.len());
        if self.received > self.limits.max_bytes {
            let message = format!("{} sent more than the allowed {} bytes", self.endpoint.name, self.limits.max_bytes);
            return Err(Failure::new(Class::OutputTooLarge, message));
        }
        Ok(Some(chunk))
    }

    fn silence(&self, limit: Duration) -> String {
        match self.received {
            0 => format!("sent nothing within {}", seconds(limit)),
            received => format!("went silent for {} after {received} bytes", seconds(limit)),
        }
    }

    /// Up to `most` bytes from the start of a body that only explains a failure, in whatever chunks it comes. Waits at
    /// most [`EXPLANATION`] for them.
    pub(super) async fn beginning(&mut self, first: Bytes, most: usize) -> Bytes {
        let mut all = BytesMut::from(&first[..]);
        let deadline = Instant::now() + EXPLANATION.min(self.limits.idle);
        while all.len() < most
            && let Ok(Ok(Some(chunk))) = timeout_at(deadline, self.chunk()).await
        {
            all.extend_from_slice(&chunk);
        }
        all.truncate(most);
        all.freeze()
    }

    /// A JSON body from `first` to its end. Returns a value as soon as it is complete: neither waits for the connection
    /// to close nor fails if it breaks after the value.
    pub(super) async fn json(&mut self, first: Bytes) -> Result<Bytes, Failure> {
        let mut all = BytesMut::from(&first[..]);
        let mut looked_at = 0;
        loop {
            let next = self.chunk();
            tokio::pin!(next);
            if let Ok(chunk) = timeout(PAUSE, &mut next).await {
                match chunk {
                    // Some servers send white space to keep the connection alive; then there is no pause in which to
                    // check.
                    Ok(Some(chunk)) if chunk.trim_ascii().is_empty() => {
                        if is_complete_at_last(&all, &mut looked_at) {
                            return Ok(all.freeze());
                        }
                        all.extend_from_slice(&chunk);
                    }
                    Ok(Some(chunk)) => all.extend_from_slice(&chunk),
                    Err(_) if is_complete(&all) => return Ok(all.freeze()),
                    Err(failure) => return Err(failure),
                    Ok(None) => return Ok(all.freeze()),
                }
                continue;
            }
            if is_complete_at_last(&all, &mut looked_at) {
                return Ok(all.freeze());
            }
            match next.await? {
                Some(chunk) => all.extend_from_slice(&chunk),
                None => return Ok(all.freeze()),
            }
        }
    }
}

/// Whether the bytes have become complete since the last check. Parses them only if something other than white space
/// was added.
fn is_complete_at_last(all: &[u8], looked_at: &mut usize) -> bool {
    let length = all.trim_ascii_end().len();
    std::mem::replace(looked_at, length) < length && is_complete(all)
}

/// Whether the bytes are one complete JSON object or list.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii_end().last(), Some(b'}' | b']'))
        && serde_json::from_slice::<Value>(json_bytes(bytes)).is_ok()
}

/// The JSON value that a body begins with, its own bytes, and the bytes after it.
pub(super) fn leading_value(bytes: &[u8]) -> Option<(Value, &[u8], &[u8])> {
    let body = json_bytes(bytes);
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let value = values.next()?.ok()?;
    let (own, rest) = body.split_at_checked(values.byte_offset())?;
    Some((value, own, rest))
}

/// The JSON value of a body, and its own bytes. After white space, more may follow an object or a list: whether orch
/// waits for it depends on the chunks in which the body comes, so it must not change the result.
pub(super) fn first_value(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (value, own, rest) = leading_value(bytes)?;
    let ends_itself = value.is_object() || value.is_array();
    let ended = rest.trim_ascii().is_empty() || (ends_itself && rest.first().is_some_and(u8::is_ascii_whitespace));
    ended.then_some((value, own))
}
