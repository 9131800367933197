//! Model providers over HTTP: every wire format (dialect) behind one trait.
//!
//! A provider sends one request and reads one streamed reply. It never retries: the engine decides about a retry from
//! the class of the [`Failure`].

mod anthropic;
mod assembler;
mod auth;
mod body;
mod body_format;
mod client;
mod contradictions;
mod converse;
mod discover;
mod error_body;
mod error_hints;
mod error_response;
mod errors;
mod foreign_reply;
mod gemini;
mod http;
mod json_body;
mod openai;
mod openai_host;
mod received_response;
mod redaction;
mod reply_blocks;
mod reply_builder;
mod reply_calls;
mod request_content;
mod request_tools;
mod requested_wait;
mod responses;
mod schema;
mod sent_options;
mod sse;
mod stop_reasons;
mod stream;
mod stream_content;
mod usage;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, SystemClock};
use crate::model::chat::{ChatReply, ChatRequest};
use crate::model::failure::Failure;
use crate::network::Network;

pub use crate::model::dialect::Dialect;
pub use crate::model::http_url::url_host;
pub use crate::model::{BUILTIN_PROVIDERS, BuiltinProvider};
pub use auth::{AWS_SECRET_VARIABLE, AWS_VARIABLES, Auth, AwsAuth, KeyAuth, UnauthenticatedRequest};
pub use client::{is_loopback_address, is_unencrypted_address, normalized_address};
pub use discover::served_models;
pub use received_response::{ServerResponse, read_response};
#[cfg(feature = "local")]
pub(crate) use reply_calls::CallNaming;
pub use request_content::{FileSource, labels_failed_results};
#[cfg(feature = "local")]
pub(crate) use request_content::{arguments_object, result_text};
pub use schema::strict_schema;

/// A source of replies to chat requests.
pub trait Provider: Send + Sync {
    /// The dialect's name; for the HTTP providers that of a [`Dialect`].
    fn dialect(&self) -> &'static str;

    /// The time-outs and the size limit of a request, unless its step sets others.
    fn limits(&self) -> RequestLimits {
        RequestLimits::default()
    }

    /// Whether the provider forces every answer to fit the schema; true only for the embedded model.
    fn enforces_schema(&self) -> bool {
        false
    }

    /// Checks whether orch can build a request, without sending it.
    ///
    /// # Errors
    /// The failure with which `chat` would end before it sends anything.
    fn check_request(&self, _request: &ChatRequest) -> Result<(), Failure> {
        Ok(())
    }

    /// Sends one request and reads its reply to the end; calls `sink` with each part of the reply as it arrives.
    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        limits: &'a RequestLimits,
        sink: &'a (dyn Fn(StreamEvent) + Send + Sync),
    ) -> BoxFuture<'a, Result<ChatReply, Failure>>;
}

/// The maximum size of the body of a reply, in bytes after decompression.
const MAX_REPLY_BYTES: usize = 32 << 20;

/// The time-outs and the size limit of one request, and the clock, the files and the cancellation token that it uses.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// The time until the connection is established, including TLS.
    pub connect_timeout: Duration,
    /// The time from the request to the first byte of the reply's body.
    pub first_byte_timeout: Duration,
    /// The time between two reads of the reply.
    pub idle_timeout: Duration,
    /// The time for the whole exchange.
    pub total_timeout: Duration,
    /// The maximum size of the reply's body, in bytes after decompression.
    pub max_reply_bytes: usize,
    /// The clock that converts a date from the provider into a wait.
    pub clock: Arc<dyn Clock>,
    /// The bytes of the files in the request.
    pub files: Arc<dyn FileSource>,
    /// Cancels the exchange; the provider still returns a reply that is complete by then.
    pub cancellation: CancellationToken,
    /// The index of this request among the requests of the same step, from 0. The embedded model derives its seed from
    /// the index.
    pub sample_index: u32,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_mins(2),
            idle_timeout: Duration::from_mins(1),
            total_timeout: Duration::from_mins(10),
            max_reply_bytes: MAX_REPLY_BYTES,
            clock: Arc::new(SystemClock),
            files: Arc::new(request_content::NoFiles),
            cancellation: CancellationToken::new(),
            sample_index: 0,
        }
    }
}

/// A report from a provider while a reply is arriving.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEvent {
    /// The model is reading the prompt.
    PromptProgress {
        /// The number of tokens that the model has read.
        tokens_read: u32,
        /// The number of tokens in the prompt.
        tokens_total: u32,
    },
    /// A piece of the reply.
    Text(String),
    /// A piece of the model's reasoning; not part of the reply.
    Reasoning(String),
}

/// The address of a server and the authentication of requests to it.
#[derive(Clone)]
pub struct Endpoint {
    /// The provider's name, for messages.
    pub name: String,
    /// The wire format.
    pub dialect: Dialect,
    /// The address to which orch appends the dialect's paths, after replacing `{model}` with the model's name.
    pub base_url: String,
    /// The authentication of requests.
    pub auth: Arc<dyn Auth>,
    /// Additional headers of every request; they override the dialect's own.
    pub headers: Vec<(String, String)>,
    /// Whether orch sends a schema as native structured output.
    pub structured_output: bool,
    /// Names and values of query parameters for the URL of every request.
    pub query: Vec<(String, String)>,
    /// The proxies and certificates for the connection.
    pub network: Arc<Network>,
}

impl Endpoint {
    /// An endpoint without a key, to which orch sends schemas as native structured output.
    pub fn new(name: impl Into<String>, dialect: Dialect, base_url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            dialect,
            base_url: base_url.into(),
            auth: Arc::new(KeyAuth::default()),
            headers: Vec::new(),
            structured_output: true,
            query: Vec::new(),
            network: Arc::default(),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .field("dialect", &self.dialect)
            .field("base_url", &client::without_secrets(&self.base_url))
            .field("auth", &self.auth)
            .field("headers", &headers)
            .field("structured", &self.structured_output)
            .field("query", &self.query)
            .field("network", &self.network)
            .finish()
    }
}

/// Creates a provider for the endpoint's dialect; sends nothing yet.
pub fn create_provider(endpoint: Endpoint) -> Box<dyn Provider> {
    match endpoint.dialect {
        Dialect::Anthropic => Box::new(anthropic::Anthropic::new(endpoint)),
        Dialect::OpenAi => Box::new(openai::OpenAi::new(endpoint)),
        Dialect::Responses => Box::new(responses::Responses::new(endpoint)),
        Dialect::Gemini => Box::new(gemini::Gemini::new(endpoint)),
        Dialect::Converse => Box::new(converse::Converse::new(endpoint)),
    }
}

#[cfg(test)]
mod test_request;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_an_endpoint_shows_no_secret() {
        let endpoint = Endpoint {
            auth: Arc::new(KeyAuth { key: Some("hunter2".into()), ..KeyAuth::default() }),
            headers: vec![("x-token".into(), "hunter2".into())],
            ..Endpoint::new("x", Dialect::OpenAi, "http://user:hunter2@host/v1?key=hunter2")
        };
        assert!(!format!("{endpoint:?}").contains("hunter2"));
    }
}
