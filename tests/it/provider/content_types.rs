//! Responses with a content type that is not that of the dialect: orch reads a reply under any type, quotes the type
//! without secrets, and never counts the unknown usage of a body that it can't read as zero.

use orch::model::chat::StopReason;
use orch::model::failure::FailureClass;
use orch::provider::{Dialect, Endpoint};
use serde_json::json;

use super::{DIALECTS, ask, endpoint_of, failure_of, key_auth, request, short_limits};
use crate::support::server::{Reply, Server};

#[tokio::test]
async fn a_reply_is_read_under_any_content_type() {
    for content_type in [
        "application/json; charset=utf-8",
        "text/json",
        "text/plain; charset=utf-8",
        "text/javascript",
        "text/html",
        "application/x-ndjson",
        "application/x-json-stream",
        "application/vnd.amazon.eventstream",
        "image/png",
        "TEXT/EVENT-STREAM",
    ] {
        for dialect in DIALECTS {
            let server =
                Server::start(move |r| Reply::text_for(&r.path, "all of it").header("content-type", content_type));
            let reply = ask(endpoint_of(dialect, &server), &request(), &short_limits()).await.unwrap();
            let at = format!("{dialect} {content_type}");
            assert_eq!((&*reply.text(), reply.stop), ("all of it", StopReason::End), "{at}");
            assert_eq!(reply.usage.input, Some(11), "{at}");
            assert!(reply.usage.output.is_some() && reply.details.is_empty(), "{at}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn several_replies_on_lines_of_json_are_no_reply() {
    let line = json!({"choices": [{"message": {"content": "Hel"}, "finish_reason": "stop"}]});
    let reply = Reply::typed("application/x-ndjson", format!("{line}\n{line}\n"));
    let failure = failure_of(Dialect::OpenAi, reply, &short_limits()).await;
    assert_eq!(failure.class, FailureClass::ProviderUnavailable, "{failure:?}");
    assert!(failure.message.starts_with("lab sent no reply, and said: {") && failure.interrupted, "{failure:?}");
}

#[tokio::test]
async fn the_usage_of_a_body_that_orch_can_not_read_is_unknown() {
    for (content_type, body, may_be_reply) in [
        ("text/plain", "The answer is 4.", true),
        ("image/png", "PNG", true),
        ("application/vnd.amazon.eventstream", "\0\0\0|", true),
        ("text/html", "The answer is 4.", true),
        ("", "", true),
        ("text/html", "\n<html>It works!</html>", false),
        ("text/plain", "<html>It works!</html>", false),
        ("application/xml", "<Error>busy</Error>", false),
        ("text/event-stream", "<html>It works!</html>", false),
        ("text/event-stream", "\n<Error>busy</Error>", false),
    ] {
        for dialect in DIALECTS {
            let failure = failure_of(dialect, Reply::typed(content_type, body), &short_limits()).await;
            assert_eq!(failure.interrupted, may_be_reply, "{dialect} {content_type}: {failure:?}");
        }
    }
}

#[tokio::test]
async fn a_message_quotes_the_content_type_in_its_own_case_and_without_secrets() {
    const KEY: &str = "SK-Very-Secret-9876543210";
    for (content_type, quoted) in [
        ("Image/X-Thing; q=Yes".to_owned(), "lab answered with Image/X-Thing; q=Yes: zzz"),
        (format!("x/{KEY}"), "lab answered with x/[secret LAB_KEY]: zzz"),
        (format!("x/y; a=\"{KEY}\""), "lab answered with x/y; a=\"[secret LAB_KEY]\": zzz"),
    ] {
        let server = Server::always(Reply::typed(&content_type, "zzz"));
        let endpoint = Endpoint { auth: key_auth(KEY, None), ..endpoint_of(Dialect::OpenAi, &server) };
        let failure = ask(endpoint, &request(), &short_limits()).await.unwrap_err();
        assert_eq!(failure.message, quoted);
    }
}

#[tokio::test]
async fn ordinary_words_in_headers_of_the_user_stay_in_messages() {
    let server = Server::always(Reply::status(503, r#"{"error": {"message": "tools-team is unavailable"}}"#));
    let headers =
        vec![("x-team".to_owned(), "unavailable".to_owned()), ("x-group".to_owned(), "tools-team".to_owned())];
    let endpoint = Endpoint { headers, ..endpoint_of(Dialect::OpenAi, &server) };
    let failure = ask(endpoint, &request(), &short_limits()).await.unwrap_err();
    assert_eq!(failure.message, "lab is unavailable (503): tools-team is unavailable");
}
