//! A request for the tests of dialects.

use serde_json::Value;

use crate::model::ModelRef;
use crate::model::chat::{ChatRequest, Message};

/// A request to a model of the provider `lab`, with these options.
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
pub(super) fn request_with_options(model: &str, options: Value) -> ChatRequest {
    ChatRequest {
        options: Box::new(serde_json::from_value(options).unwrap()),
        ..ChatRequest::new(ModelRef::new("lab", model), vec![Message::user("hi")], 8000)
    }
}
