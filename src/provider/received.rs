//! Answers of servers that are here already: what a recording or a test holds, read as if it came over the network.

use bytes::Bytes;
use reqwest::{Body, Response};

use super::http::{ReceivedAnswer, Sink, read_received};
use super::{Dialect, Endpoint, Limits, anthropic, gemini, openai};
use crate::model::chat::ChatReply;
use crate::model::failure::Failure;

/// The answer of a server.
#[derive(Clone, Debug)]
pub struct ServerAnswer {
    /// The status, such as 200.
    pub status: u16,
    /// The content type; empty when the server named none.
    pub content_type: String,
    /// The body, in the pieces in which it came.
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

/// Reads the reply in an answer, in the dialect of the endpoint.
///
/// # Errors
/// The same failures as those of a request that gets this answer.
pub async fn read_answer(
    endpoint: &Endpoint,
    answer: ServerAnswer,
    limits: &Limits,
    sink: Sink<'_>,
) -> Result<ChatReply, Failure> {
    let answer = ReceivedAnswer { endpoint, response: answer.response(), limits };
    match endpoint.dialect {
        Dialect::Anthropic => read_received(answer, anthropic::Parts::default(), sink).await,
        Dialect::OpenAi => read_received(answer, openai::Parts::default(), sink).await,
        Dialect::Gemini => read_received(answer, gemini::Parts::default(), sink).await,
    }
}
