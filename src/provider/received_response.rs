//! Reads responses that have already been received, for example in a recording or a test, as if they came over the
//! network.

use bytes::Bytes;
use reqwest::{Body, Response};

use super::assembler::ReplySink;
use super::http::{ReceivedResponse, read_received_response};
use super::{Dialect, Endpoint, RequestLimits, anthropic, converse, gemini, openai, responses};
use crate::model::chat::ChatReply;
use crate::model::failure::Failure;

/// The response of a server.
#[derive(Clone, Debug)]
pub struct ServerResponse {
    /// The status, such as 200.
    pub status: u16,
    /// The content type; empty if the server sent none.
    pub content_type: String,
    /// The body, in the chunks in which it arrived.
    pub chunks: Vec<Bytes>,
}

impl ServerResponse {
    fn into_http_response(self) -> Response {
        let chunks = self.chunks.into_iter().map(Ok::<_, std::convert::Infallible>);
        let mut response = http::Response::new(Body::wrap_stream(futures_util::stream::iter(chunks)));
        if let Ok(status) = http::StatusCode::from_u16(self.status) {
            *response.status_mut() = status;
        }
        if let Ok(content_type) = http::HeaderValue::from_str(&self.content_type)
            && !content_type.is_empty()
        {
            response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
        }
        response.into()
    }
}

/// Parses the reply in a response, in the dialect of the endpoint.
///
/// # Errors
/// The same failures as for a request to which a server sends this response.
pub async fn read_response(
    endpoint: &Endpoint,
    response: ServerResponse,
    limits: &RequestLimits,
    sink: ReplySink<'_>,
) -> Result<ChatReply, Failure> {
    let received = ReceivedResponse { endpoint, response: response.into_http_response(), limits };
    match endpoint.dialect {
        Dialect::Anthropic => read_received_response(received, anthropic::AnthropicReply::default(), sink).await,
        Dialect::OpenAi => read_received_response(received, openai::OpenAiReply::default(), sink).await,
        Dialect::Responses => read_received_response(received, responses::ResponsesReply::default(), sink).await,
        Dialect::Gemini => read_received_response(received, gemini::GeminiReply::default(), sink).await,
        Dialect::Converse => read_received_response(received, converse::ConverseReply::default(), sink).await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::failure::FailureClass;

    const REPLY: &str = r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;

    fn endpoint() -> Endpoint {
        Endpoint::new("lab", Dialect::OpenAi, "http://127.0.0.1:1/v1")
    }

    /// The text of the reply in a JSON body that arrives in chunks of `chunk_size` bytes.
    async fn read_text(body: &str, chunk_size: usize) -> Result<String, FailureClass> {
        let chunks = body.as_bytes().chunks(chunk_size).map(Bytes::copy_from_slice).collect();
        let response = ServerResponse { status: 200, content_type: "application/json".to_owned(), chunks };
        let reply = read_response(&endpoint(), response, &RequestLimits::default(), &|_| {}).await;
        reply.map(|reply| reply.text().into_owned()).map_err(|failure| failure.class)
    }

    #[tokio::test]
    async fn trailing_bytes_after_a_json_body_are_handled_the_same_for_every_chunk_size() {
        let sizes = [1, 2, 3, REPLY.len(), REPLY.len() + 1, 1000];
        for trailing in ["", "\n", "\n\n \n", "\n\ndata: {}\n\n"] {
            for size in sizes {
                let text = read_text(&format!("{REPLY}{trailing}"), size).await;
                assert_eq!(text.as_deref(), Ok("hi"), "{trailing:?} {size}");
            }
        }
        // After so much white space, the body has ended.
        let far_value = format!("{REPLY}{}{{}}", " ".repeat(1024));
        // Each of several values may be only a part of the reply.
        for trailing in [" {}", "\n[", REPLY, &format!("\n{REPLY}"), &format!("\n\n{REPLY}\n")] {
            for size in sizes {
                let result = read_text(&format!("{REPLY}{trailing}"), size).await;
                assert_eq!(result, Err(FailureClass::ProviderUnavailable), "{trailing:?} {size}");
            }
        }
        for size in sizes {
            assert_eq!(read_text(&far_value, size).await.as_deref(), Ok("hi"), "{size}");
            let near_value = far_value.replacen(' ', "", 1);
            assert_eq!(read_text(&near_value, size).await, Err(FailureClass::ProviderUnavailable), "{size}");
        }
        // If a chunk ended with the value, orch might not wait for more. With these sizes no chunk ends there, so orch
        // reads the trailing byte.
        for size in [1, 2, 3, 1000].into_iter().filter(|size| !REPLY.len().is_multiple_of(*size)) {
            let result = read_text(&format!("{REPLY}x"), size).await;
            assert_eq!(result, Err(FailureClass::ProviderUnavailable), "{size}");
        }
    }

    /// A body whose chunks are all ready at once, like those of a compressed body.
    fn white_space(content_type: &str) -> ServerResponse {
        let chunk = Bytes::from_static(&[b' '; 1024]);
        ServerResponse { status: 200, content_type: content_type.to_owned(), chunks: vec![chunk; 20_000] }
    }

    const CONTENT_TYPES: [&str; 4] = ["application/json", "text/event-stream", "", "text/html"];

    #[tokio::test(start_paused = true)]
    async fn a_time_limit_ends_a_body_that_never_makes_the_reader_wait() {
        for content_type in CONTENT_TYPES {
            let limits = RequestLimits { total_timeout: Duration::from_mins(1), ..RequestLimits::default() };
            let (endpoint, sink) = (endpoint(), |_| {});
            let read = read_response(&endpoint, white_space(content_type), &limits, &sink);
            let (result, ()) = tokio::join!(read, tokio::time::advance(Duration::from_secs(61)));
            let failure = result.unwrap_err();
            assert_eq!(failure.class, FailureClass::Timeout, "{content_type}: {failure:?}");
            assert_eq!(failure.message, "lab did not finish within 60 s", "{content_type}");
        }
    }

    #[tokio::test]
    async fn a_stop_ends_a_body_that_never_makes_the_reader_wait() {
        for content_type in CONTENT_TYPES {
            let (limits, endpoint, sink) = (RequestLimits::default(), endpoint(), |_| {});
            let read = read_response(&endpoint, white_space(content_type), &limits, &sink);
            let (result, ()) = tokio::join!(read, async { limits.cancellation.cancel() });
            let failure = result.unwrap_err();
            assert_eq!(failure.message, "lab was cut off", "{content_type}: {failure:?}");
        }
    }

    #[tokio::test]
    async fn an_error_is_reported_although_another_value_follows_it() {
        let body = Bytes::from("{\"error\":{\"message\":\"no such model\"}}\n{}");
        let response = ServerResponse { status: 200, content_type: "application/json".to_owned(), chunks: vec![body] };
        let failure = read_response(&endpoint(), response, &RequestLimits::default(), &|_| {}).await.unwrap_err();
        assert!(failure.message.contains("no such model"), "{}", failure.message);
    }

    #[tokio::test]
    async fn trailing_bytes_after_an_error_body_do_not_hide_its_message() {
        for trailing in ["", "\n", "\n\nmore"] {
            let body = format!(r#"{{"error":{{"message":"no such model"}}}}{trailing}"#);
            let chunks = vec![Bytes::from(body)];
            let response = ServerResponse { status: 404, content_type: "application/json".to_owned(), chunks };
            let failure = read_response(&endpoint(), response, &RequestLimits::default(), &|_| {}).await.unwrap_err();
            assert!(failure.message.contains("no such model"), "{}", failure.message);
            assert!(!failure.message.contains('{'), "{}", failure.message);
        }
    }
}
