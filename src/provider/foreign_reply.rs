//! Recognizes a reply in another dialect than that of the request, so that the message can name the setting.

use serde_json::Value;

use super::{Dialect, Endpoint};
use crate::model::failure::{Failure, FailureClass};

/// The failure for a body or an event in another dialect than the endpoint's; `None` if it is none.
pub(super) fn foreign_reply(value: &Value, endpoint: &Endpoint) -> Option<Failure> {
    let name = &endpoint.name;
    let dialect = dialect_of(value).filter(|dialect| *dialect != endpoint.dialect)?;
    let message = format!("{name} answered in the dialect `{dialect}`, and orch expects `{}`", endpoint.dialect);
    let hint = format!("set `dialect: {dialect}` under `providers.{name}` of orch.yaml");
    Some(Failure::new(FailureClass::BadRequest, message).with_hint(hint))
}

/// The hint for JSON of which orch recognizes nothing.
pub(super) fn check_dialect_hint(endpoint: &Endpoint) -> String {
    let name = &endpoint.name;
    format!("check `dialect` (now `{}`) and `base_url` under `providers.{name}` of orch.yaml", endpoint.dialect)
}

/// The dialect of a reply or of an event of one, if its fields show it.
fn dialect_of(value: &Value) -> Option<Dialect> {
    // Without `alt=sse` the Gemini API returns a list.
    let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
    let text_in = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let has_list = |pointer: &str| value.pointer(pointer).is_some_and(Value::is_array);
    let kind = text_in("type");
    if has_list("/choices") {
        Some(Dialect::OpenAi)
    } else if has_list("/candidates") {
        Some(Dialect::Gemini)
    } else if kind.starts_with("response.") || text_in("object") == "response" {
        Some(Dialect::Responses)
    } else if ["message_start", "content_block_start", "content_block_delta"].contains(&kind)
        || kind == "message" && has_list("/content")
    {
        Some(Dialect::Anthropic)
    } else if has_list("/output/message/content") {
        Some(Dialect::Converse)
    } else {
        None
    }
}
