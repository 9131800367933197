//! Reads responses with a status other than 2xx: the error that they describe, and whether the model generated something
//! before it.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Response, StatusCode};
use serde_json::{Deserializer, Value};
use tokio::time::{Instant, timeout_at};

use super::RequestLimits;
use super::assembler::Assembler;
use super::body::parse_json_body;
use super::error_body::{ErrorBody, find_error, parse_error_body};
use super::json_body::JsonBody;
use super::sse::{SseDecoder, SseItem};
use super::stream_content::reports_generation;
use crate::model::repeated_keys::{ReadJson, read_json};
use crate::model::text::strip_bom_bytes;

/// The largest part of an error body that orch reads, in bytes.
const MAX_ERROR_BODY: usize = 64 * 1024;
/// Statuses of a gateway that forwarded the request and then timed out: 504 (RFC 9110) and 524 (Cloudflare).
const GATEWAY_TIMEOUTS: [u16; 2] = [504, 524];

/// A response with a status other than 2xx.
pub(super) struct ErrorResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: JsonBody,
    /// The JSON values in the body: the body itself, its lines, or the data of its events.
    values: Vec<Value>,
    /// Whether the body is longer than orch reads.
    is_cut_off: bool,
}

/// Whether the status is that of a gateway that forwarded the request, so that the model may have generated something.
pub(super) fn is_gateway_timeout(status: StatusCode) -> bool {
    GATEWAY_TIMEOUTS.contains(&status.as_u16())
}

impl ErrorResponse {
    /// Reads the response.
    pub(super) async fn read(mut response: Response, limits: &RequestLimits) -> Self {
        let mut body = JsonBody::default();
        // The body only explains the failure, so orch also reports the status if the body does not arrive in time.
        let time_limit = limits.idle_timeout.min(Duration::from_secs(10)).min(limits.total_timeout / 4);
        let deadline = Instant::now() + time_limit;
        while body.len() < MAX_ERROR_BODY && !body.is_complete() {
            match timeout_at(deadline, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    let room = MAX_ERROR_BODY - body.len();
                    body.push(chunk.get(..room).unwrap_or(&chunk));
                }
                _ => break,
            }
        }
        let values = json_values(body.bytes());
        let is_cut_off = body.len() >= MAX_ERROR_BODY && !body.is_complete();
        Self { status: response.status(), headers: response.headers().clone(), body, values, is_cut_off }
    }

    /// The elements of lists, and the other values. The API of Gemini sends a list of the parts of a reply, and the last
    /// one may be an error.
    fn parts(&self) -> impl Iterator<Item = &Value> {
        self.values.iter().flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice))
    }

    /// The error in the body, if orch recognizes one, and the JSON value that describes it, if there is any.
    pub(super) fn error(&self) -> (Option<ErrorBody>, Option<&Value>) {
        let reported = self.parts().find(|part| find_error(part).is_some());
        let described_by = reported.or_else(|| self.parts().find(|part| parse_error_body(part).is_some()));
        let error_body = described_by.and_then(|part| {
            // The error may be inside a choice.
            parse_error_body(part).or_else(|| find_error(part).and_then(parse_error_body))
        });
        (error_body, described_by.or(self.values.first()))
    }

    /// Whether the model generated something before the error: the body reports tokens, or contains a part of a reply.
    /// If the body is longer than orch reads, it may do so, unless it is a web page. Adds the tokens to the assembler's
    /// usage.
    pub(super) fn reports_generation<A: Assembler>(&self, assembler: &mut A) -> bool {
        let mut has_generated = self.is_cut_off && !self.body.bytes().trim_ascii_start().starts_with(b"<");
        for part in self.parts() {
            assembler.read_event(part, &|_| {});
            has_generated |= reports_generation(assembler, part);
        }
        has_generated || !assembler.builder().is_empty()
    }
}

/// The JSON values in a body: a value, one on each line, or the data of events.
fn json_values(body: &[u8]) -> Vec<Value> {
    let values = Deserializer::from_slice(strip_bom_bytes(body)).into_iter::<ReadJson>();
    let values: Vec<Value> = values.map_while(Result::ok).map(|read| read.value).collect();
    // A number at the beginning of a text is no value.
    let begins_with_container = values.first().is_some_and(|value| value.is_object() || value.is_array());
    if begins_with_container || parse_json_body(body).is_some() {
        return values;
    }
    let mut decoder = SseDecoder::default();
    let mut items = decoder.push(body);
    items.extend(decoder.finish());
    let data = items.iter().map(|item| match item {
        SseItem::Data(data) | SseItem::Error(data) | SseItem::Stray(data) => data.as_slice(),
    });
    let values = data.filter_map(|data| Some(read_json(data).ok()?.value));
    values.filter(|value| value.is_object() || value.is_array()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_values_of_every_form_of_a_body_are_found() {
        let error = json!({"error": {"message": "no"}});
        for (body, values) in [
            (error.to_string(), vec![error.clone()]),
            (format!("\u{feff}{error}\n\nmore"), vec![error.clone()]),
            (format!("{{\"a\": 1}}\n{error}\n"), vec![json!({"a": 1}), error.clone()]),
            (format!("event: error\ndata: {error}\n\ndata: [DONE]\n\n"), vec![error.clone()]),
            (format!(": ping\n\ndata: {{\"a\": 1}}\n\ndata: {error}"), vec![json!({"a": 1}), error.clone()]),
            ("\"too many\"".to_owned(), vec![json!("too many")]),
            ("404 page not found".to_owned(), Vec::new()),
            ("<html>".to_owned(), Vec::new()),
            ("{\"error\": ".to_owned(), Vec::new()),
        ] {
            assert_eq!(json_values(body.as_bytes()), values, "{body}");
        }
    }
}
