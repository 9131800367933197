//! Reads answers that have already been received, such as those of a recording or a test, as if they came over the
//! network.

use bytes::Bytes;
use reqwest::{Body, Response};

use super::http::{ReceivedAnswer, ReplySink, read_received};
use super::{Dialect, Endpoint, RequestLimits, anthropic, gemini, openai};
use crate::model::chat::ChatReply;
use crate::model::failure::Failure;

/// A server's answer.
#[derive(Clone, Debug)]
pub struct ServerAnswer {
    /// The status, such as 200.
    pub status: u16,
    /// The content type; empty when the server named none.
    pub content_type: String,
    /// The body, in the chunks in which it came.
    pub pieces: Vec<Bytes>,
}

impl ServerAnswer {
    fn response(self) -> Response {
        let pieces = self.pieces.into_iter().map(Ok::<_, std::convert::Infallible>);
        let mut response = http::Response::new(Body::wrap_stream(futures_util::stream::iter(pieces)));
        if let Ok(status) = http::StatusCode::from_u16(self.status) {
            *response.status_mut() = status;
        }
        if let Ok(kind) = http::HeaderValue::from_str(&self.content_type)
            && !kind.is_empty()
        {
            response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        }
        response.into()
    }
}

/// Parses the reply in an answer, in the dialect of the endpoint.
///
/// # Errors
/// The same failures as for a request that gets this answer.
pub async fn read_answer(
    endpoint: &Endpoint,
    answer: ServerAnswer,
    limits: &RequestLimits,
    sink: ReplySink<'_>,
) -> Result<ChatReply, Failure> {
    let answer = ReceivedAnswer { endpoint, response: answer.response(), limits };
    match endpoint.dialect {
        Dialect::Anthropic => read_received(answer, anthropic::AnthropicReply::default(), sink).await,
        Dialect::OpenAi => read_received(answer, openai::OpenAiReply::default(), sink).await,
        Dialect::Gemini => read_received(answer, gemini::GeminiReply::default(), sink).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::failure::Class;

    const REPLY: &str = r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;

    fn endpoint() -> Endpoint {
        Endpoint {
            name: "lab".to_owned(),
            dialect: Dialect::OpenAi,
            base_url: "http://127.0.0.1:1/v1".to_owned(),
            api_key: None,
            key_variable: None,
            headers: Vec::new(),
            structured: false,
            key_header: None,
            query: Vec::new(),
            network: std::sync::Arc::default(),
        }
    }

    /// The text that is read from a JSON body that comes in chunks of `size` bytes.
    async fn read(body: &str, size: usize) -> Result<String, Class> {
        let pieces = body.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        let answer = ServerAnswer { status: 200, content_type: "application/json".to_owned(), pieces };
        let reply = read_answer(&endpoint(), answer, &RequestLimits::default(), &|_| {}).await;
        reply.map(|reply| reply.text).map_err(|failure| failure.class)
    }

    #[tokio::test]
    async fn what_follows_a_json_body_counts_alike_however_it_is_split() {
        let sizes = [1, 2, 3, REPLY.len(), REPLY.len() + 1, 1000];
        for rest in ["", "\n", "\n\ndata: {}\n\n", " {}"] {
            for size in sizes {
                assert_eq!(read(&format!("{REPLY}{rest}"), size).await.as_deref(), Ok("hi"), "{rest:?} {size}");
            }
        }
        // If a chunk ended with the value, orch might not wait for more; with these sizes none does, so orch reads the
        // rest.
        for size in [1, 2, 3, 1000].into_iter().filter(|size| !REPLY.len().is_multiple_of(*size)) {
            let read = read(&format!("{REPLY}x"), size).await;
            assert_eq!(read, Err(Class::ProviderUnavailable), "{size}");
        }
    }

    #[tokio::test]
    async fn what_follows_the_body_of_a_refusal_does_not_hide_its_message() {
        for rest in ["", "\n", "\n\nmore"] {
            let body = format!(r#"{{"error":{{"message":"no such model"}}}}{rest}"#);
            let pieces = vec![Bytes::from(body)];
            let answer = ServerAnswer { status: 404, content_type: "application/json".to_owned(), pieces };
            let refused = read_answer(&endpoint(), answer, &RequestLimits::default(), &|_| {}).await.unwrap_err();
            assert!(refused.message.contains("no such model"), "{}", refused.message);
            assert!(!refused.message.contains('{'), "{}", refused.message);
        }
    }
}
