//! Replies in another dialect than that of the request.

use orch::model::failure::FailureClass;
use orch::provider::Dialect;
use serde_json::json;

use super::{DIALECTS, ask, endpoint_of, failure_of, request, short_limits};
use crate::support::server::{Reply, Server};

/// The replies of a dialect: as a stream, if it has streams, and as one body.
fn replies(dialect: Dialect) -> Vec<Reply> {
    match dialect {
        Dialect::OpenAi => vec![Reply::openai_text("hello"), Reply::openai_json("hello")],
        Dialect::Responses => vec![Reply::responses_text("hello"), Reply::responses_json("hello")],
        Dialect::Anthropic => {
            let body = json!({"type": "message", "content": [{"type": "text", "text": "hello"}],
                "stop_reason": "end_turn"});
            vec![Reply::anthropic_text("hello"), Reply::status(200, body.to_string())]
        }
        Dialect::Gemini => {
            let body = json!([{"candidates": [{"content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP"}]}]);
            vec![Reply::gemini_text("hello"), Reply::status(200, body.to_string())]
        }
        Dialect::Converse => vec![Reply::converse_text("hello")],
    }
}

#[tokio::test]
async fn a_reply_in_another_dialect_names_the_setting() {
    for dialect in DIALECTS {
        for answered in DIALECTS {
            for reply in replies(answered) {
                if answered == dialect {
                    let server = Server::always(reply);
                    let reply = ask(endpoint_of(dialect, &server), &request(), &short_limits()).await.unwrap();
                    assert_eq!(reply.text(), "hello", "{dialect}");
                    continue;
                }
                let failure = failure_of(dialect, reply, &short_limits()).await;
                let at = format!("{answered} at {dialect}: {failure:?}");
                // The same request would get the same reply, so the class is none that orch retries.
                assert_eq!(failure.class, FailureClass::BadRequest, "{at}");
                assert!(failure.interrupted, "the model has answered: {at}");
                let message = format!("lab answered in the dialect `{answered}`, and orch expects `{dialect}`");
                assert_eq!(failure.message, message, "{at}");
                let hint = format!("set `dialect: {answered}` under `providers.lab` of orch.yaml");
                assert_eq!(failure.hint, Some(hint), "{at}");
            }
        }
    }
}

#[tokio::test]
async fn json_of_no_dialect_has_a_hint_about_the_settings() {
    let failure = failure_of(Dialect::OpenAi, Reply::status(200, "{\"a\":1}"), &short_limits()).await;
    assert_eq!(failure.class, FailureClass::ProviderUnavailable);
    let hint = failure.hint.unwrap_or_default();
    assert_eq!(hint, "check `dialect` (now `openai`) and `base_url` under `providers.lab` of orch.yaml");
    // A message of the server explains the failure.
    let failure = failure_of(Dialect::OpenAi, Reply::status(200, "{\"detail\":\"Busy\"}"), &short_limits()).await;
    assert_eq!(failure.hint, None);
}
