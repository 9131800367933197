//! Reading what comes back: a body under its limits, and the events in it.

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::errors::{self, Context};
use super::http::{Assembler, Sink, seconds};
use super::sse::Decoder;
use super::{Endpoint, Limits};
use crate::model::failure::{Class, Failure};

/// An event stream as it is read into the assembler.
pub(super) struct Hearing<'a, A> {
    pub(super) context: &'a Context<'a>,
    pub(super) assembler: &'a mut A,
    pub(super) sink: Sink<'a>,
    pub(super) began: bool,
    /// Whether the first thing said was an error: then nothing was generated.
    pub(super) refused: bool,
}

impl<A: Assembler> Hearing<'_, A> {
    /// Reads events to the end of the reply.
    pub(super) async fn events(&mut self, first: Bytes, body: &mut Body<'_>) -> Result<(), Failure> {
        let mut decoder = Decoder::default();
        let mut chunk = Some(first);
        loop {
            let ended = chunk.is_none();
            let complete = match chunk {
                Some(bytes) => decoder.push(&bytes),
                None => decoder.finish().into_iter().collect(),
            };
            for data in complete {
                match self.told(&data) {
                    Ok(false) => {}
                    Ok(true) => return Ok(()),
                    // Half an event at the end is a broken connection, not a broken server.
                    Err(_) if ended && serde_json::from_slice::<Value>(&data).is_err() => {}
                    Err(failure) => return Err(failure),
                }
            }
            if ended {
                break;
            }
            chunk = match body.chunk().await {
                Ok(chunk) => chunk,
                // What was said is said, even if the line goes dead after the last word.
                Err(failure) if failure.class != Class::OutputTooLarge && self.assembler.complete() => break,
                Err(failure) => return Err(failure),
            };
        }
        if self.assembler.complete() { Ok(()) } else { Err(errors::cut(self.context.endpoint, body.received)) }
    }

    /// Reads the data of one event; true when it is the last.
    fn told(&mut self, data: &[u8]) -> Result<bool, Failure> {
        let data = data.trim_ascii();
        if data.is_empty() {
            return Ok(false);
        }
        if data == b"[DONE]" {
            return Ok(true);
        }
        let endpoint = self.context.endpoint;
        let value: Value = serde_json::from_slice(data).map_err(|_| {
            let what = errors::excerpt(data, endpoint, 200);
            errors::unavailable(endpoint, &format!("sent an event that is not JSON: {what}"))
        })?;
        if let Some(failure) = errors::reported(&value, self.context) {
            self.refused = !self.began;
            return Err(failure);
        }
        self.began = true;
        Ok(self.assembler.event(&value, self.sink))
    }
}

/// The body of a reply, under its time and size limits.
pub(super) struct Body<'a> {
    pub(super) response: Response,
    pub(super) endpoint: &'a Endpoint,
    pub(super) limits: &'a Limits,
    pub(super) first_byte: Instant,
    pub(super) received: usize,
}

impl Body<'_> {
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
            Err(_) if self.received == 0 => {
                return Err(errors::timed_out(self.endpoint, &format!("sent nothing within {}", seconds(limit))));
            }
            Err(_) => {
                let received = self.received;
                return Err(errors::timed_out(
                    self.endpoint,
                    &format!("went silent for {} after {received} bytes", seconds(limit)),
                ));
            }
        };
        self.received = self.received.saturating_add(chunk.len());
        if self.received > self.limits.max_bytes {
            let message = format!("{} sent more than the allowed {} bytes", self.endpoint.name, self.limits.max_bytes);
            return Err(Failure::new(Class::OutputTooLarge, message));
        }
        Ok(Some(chunk))
    }

    /// Everything from `first` to the end.
    pub(super) async fn rest(&mut self, first: Bytes) -> Result<Bytes, Failure> {
        let mut all = BytesMut::from(&first[..]);
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}
