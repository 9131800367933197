//! Errors of providers: the table in docs/providers.md, with the body of each.

mod known;

use std::time::Duration;

use orch::model::failure::{Failure, FailureClass};
use orch::provider::Dialect;
use serde_json::{Value, json};

use crate::provider::{DIALECTS, endpoint_of, failure_of, short_limits};
use crate::support::{Reply, Server};

use known::{anthropic, compatible, gemini, openai};

#[tokio::test]
async fn every_known_error_has_its_class_wait_and_message() {
    for case in openai().into_iter().chain(compatible()).chain(anthropic()).chain(gemini()) {
        let reply = match case.status {
            200 => Reply::raw_events(format!("data: {}\n\ndata: [DONE]\n\n", case.body)),
            status => Reply::status(status, case.body.to_string()),
        };
        let failure = failure_of(case.dialect, reply, &short_limits()).await;
        let at = format!("{} {} {}: {failure:?}", case.dialect, case.status, case.body);
        assert_eq!((failure.class, failure.retry_after_ms), (case.class, case.wait_ms), "{at}");
        assert!(failure.message.contains(case.words), "{at}");
        let hint = failure.hint.unwrap_or_default();
        assert!(hint.contains(case.hint), "{at}");
        // The key is set, so the hint does not say to set it.
        assert!(!hint.starts_with("set "), "{at}");
    }
}

#[tokio::test]
async fn an_error_in_a_stream_is_recognized_in_every_shape() {
    let words = "maximum context length is 4096 tokens";
    let detail = json!({"detail": words});
    let flat = json!({"code": 400, "message": words, "type": "invalid_request_error"});
    for stream in [
        format!("data: {detail}\n\ndata: [DONE]\n\n"),
        format!("data: {detail}\n\n"),
        format!("error: {flat}\n\n"),
        format!("{flat}\n"),
        format!("event: error\ndata: {words}\n\n"),
        format!("event: error\ndata: {detail}\n\n"),
        format!("{words}\n"),
        format!("{{\n  \"detail\": \"{words}\"\n}}\n"),
    ] {
        for dialect in DIALECTS {
            let failure = failure_of(dialect, Reply::raw_events(stream.clone()), &short_limits()).await;
            assert!(failure.message.contains(words), "{dialect} {stream}: {failure:?}");
            assert_eq!(failure.class, FailureClass::BadRequest, "{dialect} {stream}: {failure:?}");
            assert!(!failure.interrupted, "nothing was generated: {stream}");
        }
    }
}

#[tokio::test]
async fn an_error_after_an_empty_start_has_its_class() {
    let role = json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]});
    let detail = json!({"detail": "maximum context length is 4096 tokens"});
    let stream = format!("data: {role}\n\ndata: {detail}\n\ndata: [DONE]\n\n");
    let failure = failure_of(Dialect::OpenAi, Reply::raw_events(stream), &short_limits()).await;
    assert_eq!(failure.class, FailureClass::BadRequest, "{failure:?}");
    assert!(failure.message.contains("4096"), "{failure:?}");
}

#[tokio::test]
async fn other_texts_in_a_stream_are_shown_if_the_reply_is_truncated() {
    let chunk = json!({"choices": [{"index": 0, "delta": {"content": "half"}}]});
    let stream = format!("data: {chunk}\n\nupstream connect error\n\n");
    let failure = failure_of(Dialect::OpenAi, Reply::raw_events(stream), &short_limits()).await;
    assert!(failure.message.ends_with("before the reply was complete; it said: upstream connect error"), "{failure:?}");
    // A remark in a complete stream is no error.
    let note = json!({"message": "queue position 3"});
    let stream = format!(
        "data: {note}\n\ndata: {}\n\ndata: [DONE]\n\n",
        json!({"error": null, "choices": [{"delta": {"content": "whole"}, "finish_reason": "stop", "error": {}}]})
    );
    let server = Server::always(Reply::raw_events(stream));
    let reply =
        crate::provider::ask(endpoint_of(Dialect::OpenAi, &server), &crate::provider::request(), &short_limits())
            .await
            .unwrap();
    assert_eq!((&*reply.text(), reply.details.beside.clone()), ("whole", Some(note.to_string())));
}

#[tokio::test]
async fn an_error_after_content_fails_the_reply() {
    let half = json!({"choices": [{"index": 0, "delta": {"content": "Half of it"}}]});
    let stop = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let end = "data: [DONE]\n\n".to_owned();
    for error in [
        "data: {\"detail\": \"engine died\"}",
        "data: {\"status\": \"error\", \"message\": \"engine died\"}",
        "data: Error: engine died",
        "data: \"error: engine died\"",
        "error: engine died",
        "ERROR: engine died",
        "{\"detail\": \"engine died\"}",
    ] {
        for end in [end.clone(), format!("data: {stop}\n\n{end}")] {
            let stream = Reply::raw_events(format!("data: {half}\n\n{error}\n\n{end}"));
            let failure = failure_of(Dialect::OpenAi, stream, &short_limits()).await;
            assert_eq!(failure.class, FailureClass::ProviderUnavailable, "{error}: {failure:?}");
            assert!(failure.message.contains("engine died") && failure.interrupted, "{error}: {failure:?}");
        }
    }
    let gemini = |text: &str, finish: Value| json!({"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": finish}]});
    let events = [gemini("Half", Value::Null), json!({"detail": "engine died"}), gemini("", json!("STOP"))];
    let failure = failure_of(Dialect::Gemini, Reply::events(&events), &short_limits()).await;
    assert!(failure.message.contains("engine died"), "{failure:?}");
}

#[tokio::test]
async fn a_text_after_the_content_is_the_reason_if_no_stop_reason_arrives() {
    let chunk =
        |finish: Value| json!({"choices": [{"index": 0, "delta": {"content": "text"}, "finish_reason": finish}]});
    let done = "data: [DONE]\n\n";
    for words in ["worker was killed", "{\"message\": \"worker was killed\"}"] {
        let stream = format!("data: waiting\n\ndata: {}\n\ndata: {words}\n\n{done}", chunk(Value::Null));
        let failure = failure_of(Dialect::OpenAi, Reply::raw_events(stream), &short_limits()).await;
        let expected = format!("lab ended the reply without a stop reason; it said: {words}");
        assert_eq!(failure.message, expected);
        // With a stop reason, the text is a remark, which is kept.
        let stream = format!("data: {}\n\ndata: {words}\n\n{done}", chunk(json!("stop")));
        let server = Server::always(Reply::raw_events(stream));
        let reply =
            crate::provider::ask(endpoint_of(Dialect::OpenAi, &server), &crate::provider::request(), &short_limits())
                .await
                .unwrap();
        assert!(reply.details.beside.unwrap().contains("worker was killed"));
    }
}

#[tokio::test]
async fn waits_are_read_from_the_headers_of_a_used_up_limit() {
    let soon = (jiff::Timestamp::now() + Duration::from_secs(30)).to_string();
    let reset = (jiff::Timestamp::now() + Duration::from_secs(30)).as_millisecond();
    let routed = json!({"error": {"code": 429, "message": "x", "metadata": {"headers": {"X-RateLimit-Reset": reset.to_string()}}}});
    for (headers, body, least, most) in [
        (
            vec![("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "1m2.5s")],
            json!({}),
            62_500,
            62_500,
        ),
        (
            vec![
                ("anthropic-ratelimit-requests-remaining", "0"),
                ("anthropic-ratelimit-requests-reset", soon.as_str()),
            ],
            json!({}),
            20_000,
            30_000,
        ),
        (
            vec![("retry-after", "3"), ("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "9s")],
            json!({}),
            3000,
            3000,
        ),
        (vec![], routed, 20_000, 30_000),
    ] {
        let reply =
            headers.iter().fold(Reply::status(429, body.to_string()), |reply, (name, value)| reply.header(name, value));
        let wait = failure_of(Dialect::OpenAi, reply, &short_limits()).await.retry_after_ms.unwrap();
        assert!((least..=most).contains(&wait), "{headers:?}: {wait}");
    }
    // A header for a limit that is not used up is no wait.
    let some =
        Reply::status(429, "{}").header("x-ratelimit-remaining-tokens", "5").header("x-ratelimit-reset-tokens", "1h");
    assert_eq!(failure_of(Dialect::OpenAi, some, &short_limits()).await.retry_after_ms, None);
}

#[tokio::test]
async fn waits_are_read_from_every_date_format_and_from_a_list() {
    let soon = jiff::Timestamp::now() + Duration::from_secs(30);
    let forms = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    for form in forms {
        let date = soon.strftime(form).to_string();
        let reply = Reply::status(429, "{}").header("retry-after", &date);
        let wait = failure_of(Dialect::OpenAi, reply, &short_limits()).await.retry_after_ms.unwrap();
        assert!((15_000..=30_000).contains(&wait), "{date}: {wait}");
    }
    let list = json!([{"error": {"code": 429, "details": [{"retryDelay": "2.5s"}]}}]);
    for (reply, wait) in [
        (Reply::status(429, list.to_string()), 2500),
        (Reply::status(503, json!({"error": "m is loading", "estimated_time": 20.0}).to_string()), 20_000),
        (Reply::typed("text/plain", "busy").header("retry-after", "3"), 3000),
        (Reply::raw_events("").header("retry-after", "3"), 3000),
        (Reply::events(&[json!({"error": {"code": 429, "message": "x"}, "retry_after": 3})]), 3000),
    ] {
        assert_eq!(failure_of(Dialect::Gemini, reply, &short_limits()).await.retry_after_ms, Some(wait));
    }
}

#[tokio::test]
async fn an_error_with_usage_or_a_part_of_a_reply_may_have_cost_tokens() {
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12});
    let error = json!({"code": 502, "message": "upstream died"});
    let choice = |part: &str| json!([{"index": 0, part: {"role": "assistant", "content": "half"}, "finish_reason": "error", "error": error}]);
    let event = json!({"choices": choice("delta"), "usage": usage});
    let body = json!({"choices": choice("message"), "usage": usage});
    let outside = json!({"error": error, "usage": usage});
    for reply in [
        Reply::events(&[event]),
        Reply::typed("application/json", body.to_string()),
        Reply::events(std::slice::from_ref(&outside)),
        Reply::typed("application/json", outside.to_string()),
    ] {
        let failure = failure_of(Dialect::OpenAi, reply, &short_limits()).await;
        let used = failure.reported_usage().map(|usage| (usage.input, usage.output));
        assert_eq!((failure.interrupted, used), (true, Some((Some(9), Some(3)))), "{failure:?}");
    }
    let text = json!({"choices": choice("delta")});
    assert!(failure_of(Dialect::OpenAi, Reply::events(&[text]), &short_limits()).await.interrupted);
    let alone = json!({"error": error, "usage": {"prompt_tokens": 0, "completion_tokens": 0}});
    assert!(!failure_of(Dialect::OpenAi, Reply::events(&[alone]), &short_limits()).await.interrupted);
}

/// The failure for a response with an error status, and the input and output tokens that it reports.
async fn refused(dialect: Dialect, status: u16, body: String) -> (Failure, Option<(Option<u64>, Option<u64>)>) {
    let failure = failure_of(dialect, Reply::status(status, body), &short_limits()).await;
    let used = failure.reported_usage().map(|usage| (usage.input, usage.output));
    (failure, used)
}

#[tokio::test]
async fn an_error_status_hides_neither_tokens_nor_a_part_of_a_reply() {
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12});
    let boom = json!({"message": "boom", "code": 500});
    let half = json!({"choices": [{"index": 0, "delta": {"content": "half"}}]});
    let (error, with_usage) = (json!({"error": boom}), json!({"error": boom, "usage": usage}));
    let message = json!({"error": boom, "choices": [{"message": {"content": "half"}}]});
    let counts = Some((Some(9), Some(3)));
    for (body, expected) in [
        (with_usage.to_string(), counts),
        (message.to_string(), None),
        (format!("data: {half}\n\ndata: {with_usage}\n\n"), counts),
        (format!("data: {half}\n\nevent: error\ndata: {error}\n\n"), None),
        (format!("{half}\n{with_usage}\n"), counts),
    ] {
        for status in [500, 503, 429, 504] {
            let (failure, used) = refused(Dialect::OpenAi, status, body.clone()).await;
            assert_eq!((failure.interrupted, used), (true, expected), "{status} {body}: {failure:?}");
            assert!(failure.message.ends_with(&format!(" ({status}): boom")), "{failure:?}");
        }
    }
    let start = json!({"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 3}}});
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "boom"}});
    let (failure, used) = refused(Dialect::Anthropic, 529, format!("data: {start}\n\ndata: {overloaded}\n\n")).await;
    assert_eq!((failure.interrupted, used, failure.message.as_str()), (true, counts, "lab is unavailable (529): boom"));
    // Without either, the model generated nothing.
    let zero = json!({"error": boom, "usage": {"prompt_tokens": 0, "completion_tokens": 0}});
    let role = json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]});
    for body in [error.to_string(), zero.to_string(), format!("data: {role}\n\ndata: {error}\n\n"), String::new()] {
        let (failure, _) = refused(Dialect::OpenAi, 500, body.clone()).await;
        assert!(!failure.interrupted, "{body}: {failure:?}");
    }
}

#[tokio::test]
async fn an_error_body_that_is_too_long_to_read_may_report_tokens() {
    let long = "x".repeat(70_000);
    for (body, may_report) in [
        (json!({"error": {"message": long}, "usage": {"prompt_tokens": 9}}).to_string(), true),
        (format!("<html>{long}</html>"), false),
    ] {
        let (failure, _) = refused(Dialect::OpenAi, 502, body).await;
        assert_eq!(failure.interrupted, may_report, "{failure:?}");
    }
}

#[tokio::test]
async fn a_timeout_of_a_gateway_may_have_cost_tokens() {
    for (status, at_work) in [(504, true), (524, true), (503, false), (429, false)] {
        let failure = failure_of(Dialect::OpenAi, Reply::status(status, "{}"), &short_limits()).await;
        assert_eq!(failure.interrupted, at_work, "{status}: {failure:?}");
    }
}

#[tokio::test]
async fn an_error_anywhere_in_a_list_of_gemini_fails_the_reply() {
    let half = json!({"candidates": [{"content": {"parts": [{"text": "half"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 5}});
    let error = json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "quota",
        "details": [{"retryDelay": "2s"}]}});
    let body = json!([half, error]).to_string();
    let failure = failure_of(Dialect::Gemini, Reply::typed("application/json", body.clone()), &short_limits()).await;
    assert_eq!((failure.class, failure.retry_after_ms), (FailureClass::RateLimited, Some(2000)), "{failure:?}");
    assert!(failure.interrupted && failure.reported_usage().unwrap().input == Some(5), "{failure:?}");
    let (failure, used) = refused(Dialect::Gemini, 429, body).await;
    assert_eq!((failure.class, failure.retry_after_ms), (FailureClass::RateLimited, Some(2000)), "{failure:?}");
    assert_eq!((failure.interrupted, used), (true, Some((Some(5), None))), "{failure:?}");
    assert_eq!(failure.message, "lab says that there were too many requests (429): quota");
}

#[tokio::test]
async fn a_wait_in_a_response_with_status_200_is_read() {
    let json = |body: Value| Reply::typed("application/json", body.to_string());
    let limited = json!({"error": {"type": "rate_limit_error", "message": "slow down"}});
    for (reply, class, wait) in [
        (
            json(json!({"message": "Too many requests, try again in 3s", "type": "rate_limit"})),
            FailureClass::RateLimited,
            3000,
        ),
        (json(json!({"detail": "Busy, try again in 3s"})), FailureClass::ProviderUnavailable, 3000),
        (json(limited.clone()).header("retry-after", "4"), FailureClass::RateLimited, 4000),
        (Reply::events(&[limited]).header("retry-after", "4"), FailureClass::RateLimited, 4000),
        (
            Reply::status(429, r#"{"error":{"message":"limit for a context window above 200k; try again in 2s"}}"#),
            FailureClass::RateLimited,
            2000,
        ),
    ] {
        let failure = failure_of(Dialect::OpenAi, reply, &short_limits()).await;
        assert_eq!((failure.class, failure.retry_after_ms), (class, Some(wait)), "{failure:?}");
    }
}

/// The rows of the table of errors in docs/providers.md: the server's error, and the class.
fn documented_errors() -> Vec<(String, String)> {
    let text = include_str!("../../docs/providers.md");
    let table = text.split("| what the server says |").nth(1).unwrap().split("\n\n").next().unwrap();
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows = table.lines().skip(2).map(cells);
    rows.map(|row| (row[0].clone(), row[1].split('`').nth(1).unwrap().to_owned())).collect()
}

/// The texts between pairs of a mark.
fn texts_between(text: &str, mark: char) -> Vec<&str> {
    text.split(mark).skip(1).step_by(2).collect()
}

#[tokio::test]
async fn every_status_name_and_phrase_of_the_documented_table_has_its_class() {
    let rows = documented_errors();
    assert_eq!(rows.len(), 8, "{rows:?}");
    let mut tried = 0;
    for (said, class) in rows {
        let statuses = said.split(';').next().unwrap();
        let mut statuses: Vec<u16> = statuses.split([',', ' ']).filter_map(|word| word.parse().ok()).collect();
        if said.contains("500 and above") {
            statuses.extend([502, 503, 504, 529]);
        }
        let mut replies: Vec<(String, Reply)> =
            statuses.iter().map(|status| (status.to_string(), Reply::status(*status, "{}"))).collect();
        for name in texts_between(&said, '`') {
            replies.push((name.to_owned(), Reply::events(&[json!({"error": {"type": name, "message": "no"}})])));
            replies.push((name.to_owned(), Reply::events(&[json!({"error": {"code": name, "message": "no"}})])));
        }
        for words in texts_between(&said, '"') {
            let message = format!("It seems: {words}.");
            replies.push((words.to_owned(), Reply::events(&[json!({"error": {"message": message}})])));
        }
        for (what, reply) in replies {
            let failure = failure_of(Dialect::OpenAi, reply, &short_limits()).await;
            assert_eq!(failure.class.as_str(), class, "{what}: {failure:?}");
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
}
