//! The dialect of `OpenAI`'s Responses API.

mod calls;
mod completion;
mod pairing;
mod reasoning;
mod reply;
mod request;
mod text;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::assembler::ReplySink;
use super::http::{self, HttpCall};
use super::reply_builder::ReplyBuilder;
use super::{Endpoint, Provider, RequestLimits, client};
use crate::model::chat::{ChatReply, ChatRequest};
use crate::model::failure::Failure;
use crate::model::http_url::is_openai_url;

pub(super) use reply::ResponsesReply;

/// A provider that speaks the Responses API.
pub(super) struct Responses {
    endpoint: Endpoint,
}

impl Responses {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// The address and the body of a request.
    fn address_and_body(&self, request: &ChatRequest, limits: &RequestLimits) -> Result<(String, Value), Failure> {
        let base = client::base_url(&self.endpoint, &request.model.model)?;
        Ok((format!("{base}/responses"), request::request_body(&self.endpoint, request, limits)?))
    }
}

impl Provider for Responses {
    fn dialect(&self) -> &'static str {
        "responses"
    }

    fn check_request(&self, request: &ChatRequest) -> Result<(), Failure> {
        self.address_and_body(request, &self.limits()).map(|_| ())
    }

    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        limits: &'a RequestLimits,
        sink: ReplySink<'a>,
    ) -> BoxFuture<'a, Result<ChatReply, Failure>> {
        async move {
            let (url, body) = self.address_and_body(request, limits)?;
            let builder = ReplyBuilder::for_request(request, body.pointer("/text/format").is_some());
            let is_openai = is_openai_url(&self.endpoint.base_url);
            let unreported_limit = (!is_openai).then_some(request.max_output_tokens);
            let assembler = ResponsesReply::new(builder, unreported_limit);
            let call = HttpCall {
                endpoint: &self.endpoint,
                model: &request.model.model,
                url,
                key_header: ("authorization", "Bearer "),
                headers: &[],
                body,
                limits,
            };
            http::exchange(call, assembler, sink).await
        }
        .boxed()
    }
}
