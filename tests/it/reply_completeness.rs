//! Completeness of replies over a real connection: which ones are complete, and what the provider waits for.

use std::time::Duration;

use futures_util::StreamExt;
use orch::model::chat::{ChatReply, StopReason};
use orch::model::failure::{Failure, FailureClass};
use orch::provider::{Dialect, RequestLimits};
use serde_json::{Value, json};

use crate::provider::{DIALECTS, ask, endpoint_of, failure_of, request, short_limits};
use crate::support::{Reply, Server};

fn chunk(content: &str, finish: &Value) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]})
}

fn complete_reply(dialect: Dialect, text: &str) -> Reply {
    match dialect {
        Dialect::Anthropic => Reply::anthropic_text(text),
        Dialect::OpenAi => Reply::openai_text(text),
        Dialect::Responses => Reply::responses_text(text),
        Dialect::Gemini => Reply::gemini_text(text),
        Dialect::Converse => Reply::converse_text(text),
    }
}

fn stopped(dialect: Dialect, text: &str, reason: &str) -> Reply {
    match dialect {
        Dialect::Anthropic => Reply::anthropic_stopped(text, reason),
        Dialect::OpenAi => Reply::openai_stopped(text, reason),
        Dialect::Responses => Reply::responses_stopped(text, reason),
        Dialect::Gemini => Reply::gemini_stopped(text, reason),
        Dialect::Converse => Reply::converse_stopped(text, reason),
    }
}

/// Limits with which waiting on an open connection takes a moment.
fn brief_limits() -> RequestLimits {
    RequestLimits { total_timeout: Duration::from_millis(700), ..short_limits() }
}

/// Asks with limits that are too short for a reply that the provider does not recognize as complete. On a busy machine,
/// even a complete reply may arrive too late, so this function tries several times.
async fn ask_for_complete_reply(
    dialect: Dialect,
    server: &Server,
    limits: &RequestLimits,
) -> Result<ChatReply, Failure> {
    let mut result = ask(endpoint_of(dialect, server), &request(), limits).await;
    for _ in 0..20 {
        if !matches!(&result, Err(failure) if failure.class == FailureClass::Timeout) {
            break;
        }
        result = ask(endpoint_of(dialect, server), &request(), limits).await;
    }
    result
}

#[tokio::test]
async fn a_reply_that_is_cut_at_any_byte_is_complete_or_rejected() {
    let text = "all of it";
    for dialect in DIALECTS {
        let length = complete_reply(dialect, text).len();
        let cases = (0..length).flat_map(|cut| [(cut, false), (cut, true)]);
        let requests = futures_util::stream::iter(cases).for_each_concurrent(16, |(cut, reset)| async move {
            let reply = complete_reply(dialect, text).unframed().truncated(cut);
            let server = Server::always(if reset { reply.reset() } else { reply });
            if let Ok(reply) = ask(endpoint_of(dialect, &server), &request(), &short_limits()).await {
                assert_eq!((&*reply.text(), reply.stop), (text, StopReason::End), "{dialect} {cut} {reset}");
            }
        });
        requests.await;
    }
}

#[tokio::test]
async fn an_empty_stop_reason_counts_as_missing() {
    for none in [json!(""), json!("null"), Value::Null] {
        let events = [chunk("The first half of", &none), chunk(" the ans", &none)];
        let failure = failure_of(Dialect::OpenAi, Reply::events(&events), &short_limits()).await;
        assert!(failure.message.contains("broke off"), "{none}: {failure:?}");
    }
}

#[tokio::test]
async fn an_unknown_stop_reason_is_reported_by_its_name() {
    for (dialect, reason) in [
        (Dialect::OpenAi, "sleepy"),
        (Dialect::OpenAi, "repetition"),
        (Dialect::Anthropic, "pause_turn"),
        (Dialect::Responses, "sleepy"),
        (Dialect::Converse, "malformed_model_output"),
        (Dialect::Gemini, "OTHER"),
        (Dialect::Gemini, "MALFORMED_RESPONSE"),
        (Dialect::Gemini, "WHATEVER_IS_NEW"),
    ] {
        let server = Server::always(stopped(dialect, "part", reason));
        let reply = ask(endpoint_of(dialect, &server), &request(), &short_limits()).await.unwrap();
        assert_eq!((&*reply.text(), reply.stop), ("part", StopReason::Unknown));
        assert_eq!(reply.details.unknown_stop.as_deref(), Some(reason), "{dialect}");
    }
}

#[tokio::test]
async fn a_reply_that_the_server_aborted_is_a_failure() {
    for reason in ["error", "abort", "insufficient_system_resource", "network_error"] {
        let failure = failure_of(Dialect::OpenAi, Reply::openai_stopped("part", reason), &short_limits()).await;
        assert_eq!(failure.class, FailureClass::ProviderUnavailable);
        assert_eq!(failure.message, format!("lab aborted the reply: its stop reason is `{reason}`"));
        assert_eq!(failure.reported_usage().unwrap().input, Some(11));
    }
    let mut last = chunk("", &json!("error"));
    last["choices"][0]["error"] = json!({"code": 502, "message": "Provider disconnected"});
    let failure =
        failure_of(Dialect::OpenAi, Reply::events(&[chunk("part", &Value::Null), last]), &short_limits()).await;
    assert_eq!(failure.message, "lab is unavailable (502): Provider disconnected");
}

#[tokio::test]
async fn a_connection_that_stays_open_after_the_end_causes_no_timeout() {
    // This is the dialect's own end without usage: the provider waits for the grace period, and no longer.
    let ended = Reply::raw_events(format!("data: {}\n\ndata: [DONE]\n\n", chunk("whole", &json!("stop"))));
    let length = ended.len();
    let server = Server::always(ended.unframed().stall_after(length));
    let reply = ask(endpoint_of(Dialect::OpenAi, &server), &request(), &short_limits()).await.unwrap();
    assert_eq!((&*reply.text(), reply.stop), ("whole", StopReason::End));
    // The timeout is shorter than the grace period, and still does not expire.
    let reply = ask_for_complete_reply(Dialect::OpenAi, &server, &brief_limits()).await.unwrap();
    assert_eq!(reply.text(), "whole");
    for dialect in DIALECTS {
        let reply = complete_reply(dialect, "whole");
        let length = reply.len();
        let server = Server::always(reply.unframed().stall_after(length));
        let reply = ask_for_complete_reply(dialect, &server, &brief_limits()).await.unwrap();
        assert_eq!((&*reply.text(), reply.stop), ("whole", StopReason::End), "{dialect}");
    }
}

#[tokio::test]
async fn usage_after_the_end_is_counted() {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}});
    let late = format!("data: {}\n\ndata: [DONE]\n\ndata: {usage}\n\n", chunk("whole", &json!("stop")));
    let server = Server::always(Reply::raw_events(late));
    let reply = ask(endpoint_of(Dialect::OpenAi, &server), &request(), &short_limits()).await.unwrap();
    assert_eq!((&*reply.text(), reply.usage.input, reply.usage.output), ("whole", Some(7), Some(5)));
}

#[tokio::test]
async fn on_an_open_connection_a_stop_reason_after_all_content_ends_the_reply() {
    let stop = json!("stop");
    let ping: String = std::iter::repeat_n(": ping\n\n", 400).collect();
    for (events, whole) in [
        (vec![chunk("whole", &Value::Null), chunk("", &stop)], true),
        (vec![chunk("whole", &stop)], true),
        (vec![chunk("who", &stop), chunk("le", &stop)], false),
        (vec![chunk("who", &stop), chunk("le", &Value::Null)], false),
        (vec![chunk("whole", &Value::Null)], false),
    ] {
        let lines: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        let silent = Reply::raw_events(lines.clone()).unframed().stall_after(lines.len());
        let pinging = Reply::raw_events(format!("{lines}{ping}")).unframed().pieces(8, Duration::from_millis(10));
        let idle = RequestLimits { idle_timeout: Duration::from_millis(300), ..short_limits() };
        for (reply, limits) in [(silent.clone(), brief_limits()), (pinging, brief_limits()), (silent, idle)] {
            let server = Server::always(reply);
            let result = if whole {
                ask_for_complete_reply(Dialect::OpenAi, &server, &limits).await
            } else {
                ask(endpoint_of(Dialect::OpenAi, &server), &request(), &limits).await
            };
            match result {
                Ok(reply) => assert!(whole && reply.text() == "whole", "{events:?}"),
                Err(failure) => assert!(!whole && failure.class == FailureClass::Timeout, "{events:?}: {failure:?}"),
            }
        }
    }
    // The pings are longer than a reply may be.
    let pings = format!("data: {}\n\n{}", chunk("whole", &stop), ": ping\n\n".repeat(3000));
    let server = Server::always(Reply::raw_events(pings));
    let limits = RequestLimits { max_reply_bytes: 10_000, ..short_limits() };
    assert_eq!(ask(endpoint_of(Dialect::OpenAi, &server), &request(), &limits).await.unwrap().text(), "whole");
    // For Anthropic: stop reason and usage have arrived, but no `message_stop`.
    let body = Reply::anthropic_text("whole");
    let before = body.len() - "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".len();
    let server = Server::always(body.unframed().stall_after(before));
    let reply = ask_for_complete_reply(Dialect::Anthropic, &server, &brief_limits()).await.unwrap();
    assert_eq!((&*reply.text(), reply.usage.output), ("whole", Some(1)));
}

#[tokio::test]
async fn a_json_reply_is_complete_after_its_last_brace() {
    let reply = Reply::openai_json("whole");
    let length = reply.len();
    for reply in [reply.clone().unframed().stall_after(length), reply.unframed().reset()] {
        let server = Server::always(reply);
        let reply = ask_for_complete_reply(Dialect::OpenAi, &server, &brief_limits()).await.unwrap();
        assert_eq!((&*reply.text(), reply.stop), ("whole", StopReason::End));
    }
}

#[tokio::test]
async fn a_json_reply_without_a_stop_reason_is_incomplete_if_the_api_always_sends_one() {
    let anthropic = json!({"type": "message", "stop_reason": null, "content": [{"type": "text", "text": "half"}]});
    let gemini = json!([{"candidates": [{"content": {"parts": [{"text": "half"}]}}]}]);
    for (dialect, body) in [(Dialect::Anthropic, anthropic), (Dialect::Gemini, gemini)] {
        let failure = failure_of(dialect, Reply::status(200, body.to_string()), &short_limits()).await;
        assert_eq!(failure.message, "lab sent a reply without a stop reason, so it may not be complete");
    }
}

#[tokio::test]
async fn an_error_on_a_connection_that_stays_open_is_reported() {
    let body = json!({"error": {"message": "no such field"}}).to_string();
    let reply = Reply::status(400, body.clone()).unframed().stall_after(body.len());
    let failure = failure_of(Dialect::OpenAi, reply, &short_limits()).await;
    assert_eq!((failure.class, failure.status), (FailureClass::BadRequest, Some(400)));
    assert!(failure.message.ends_with(": no such field"));
}

#[tokio::test]
async fn a_json_reply_that_is_labelled_as_a_stream_is_read() {
    let openai = json!({"id": "1", "model": "m", "usage": {"prompt_tokens": 9, "completion_tokens": 3},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}]});
    let anthropic = json!({"type": "message", "id": "1", "model": "m", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "whole"}], "usage": {"input_tokens": 9, "output_tokens": 3}});
    for (dialect, reply) in [(Dialect::OpenAi, openai), (Dialect::Anthropic, anthropic)] {
        for body in [format!("data: {reply}\n\n"), format!("{reply}\n"), format!("{reply:#}\n")] {
            let server = Server::always(Reply::raw_events(body.clone()));
            let read = ask(endpoint_of(dialect, &server), &request(), &short_limits())
                .await
                .unwrap_or_else(|e| panic!("{body}: {e:?}"));
            assert_eq!((&*read.text(), read.stop), ("whole", StopReason::End), "{body}");
            assert_eq!((read.usage.input, read.usage.output), (Some(9), Some(3)), "{body}");
        }
    }
}

#[tokio::test]
async fn a_stop_reason_that_is_no_string_or_not_the_last_one_does_not_complete_a_reply() {
    for reason in [json!(5), json!({}), json!("sleepy")] {
        let last = chunk("", &json!("stop"));
        for events in [vec![chunk("part", &reason)], vec![chunk("part", &reason), last]] {
            let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
            let server = Server::always(Reply::raw_events(format!("{body}data: [DONE]\n\n")));
            let reply = ask(endpoint_of(Dialect::OpenAi, &server), &request(), &short_limits()).await.unwrap();
            assert!(reply.details.unknown_stop.is_some(), "{body}");
        }
    }
    let gemini = |text: &str, reason: &str| json!({"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": reason}]});
    for (reason, stop) in [("MAX_TOKENS", StopReason::Length), ("SAFETY", StopReason::Refusal)] {
        let server = Server::always(Reply::events(&[gemini("half", reason), gemini("", "STOP")]));
        assert_eq!(ask(endpoint_of(Dialect::Gemini, &server), &request(), &short_limits()).await.unwrap().stop, stop);
    }
    let twice =
        ["max_tokens", "end_turn"].map(|reason| json!({"type": "message_delta", "delta": {"stop_reason": reason}}));
    let text = json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "half"}});
    let [first, second] = twice;
    let server = Server::always(Reply::events(&[text.clone(), first, second, json!({"type": "message_stop"})]));
    let reply = ask(endpoint_of(Dialect::Anthropic, &server), &request(), &short_limits()).await.unwrap();
    assert_eq!(reply.stop, StopReason::Length);
    let odd = json!({"type": "message_delta", "delta": {"stop_reason": 5}});
    let server = Server::always(Reply::events(&[text, odd, json!({"type": "message_stop"})]));
    let reply = ask(endpoint_of(Dialect::Anthropic, &server), &request(), &short_limits()).await.unwrap();
    assert_eq!(reply.details.unknown_stop.as_deref(), Some("5"));
}

#[tokio::test]
async fn a_complete_reply_is_read_although_the_connection_is_kept_alive() {
    let openai = json!({"id": "1", "model": "m", "usage": {"prompt_tokens": 9, "completion_tokens": 3},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}]});
    let anthropic = json!({"type": "message", "id": "1", "model": "m", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "whole"}], "usage": {"input_tokens": 9, "output_tokens": 3}});
    let gemini = json!([{"candidates": [{"content": {"parts": [{"text": "who"}]}}]},
        {"candidates": [{"content": {"parts": [{"text": "le"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3}}]);
    for (dialect, reply) in [(Dialect::OpenAi, openai), (Dialect::Anthropic, anthropic), (Dialect::Gemini, gemini)] {
        let bodies = [format!("{reply}\n"), format!("\n{reply:#}\n"), format!("data: {reply}\n\n")];
        for (at_body, body) in bodies.into_iter().enumerate() {
            let kinds: &[&str] =
                if at_body == 2 { &["text/event-stream"] } else { &["application/json", "text/event-stream"] };
            for kind in kinds {
                let closed = Reply::typed(kind, body.clone());
                let silent = closed.clone().unframed().stall_after(body.len());
                // Pieces of white space and comments arrive at intervals that are shorter than the pause that the
                // provider waits for.
                let spaces = Reply::typed(kind, format!("{body}{}", "\n".repeat(400 * body.len())));
                let spaces = spaces.unframed().pieces(body.len(), Duration::from_millis(20));
                for (how, answer) in [("closed", closed), ("silent", silent), ("spaces", spaces)] {
                    let server = Server::always(answer);
                    let read = ask_for_complete_reply(dialect, &server, &brief_limits()).await;
                    let read = read.unwrap_or_else(|e| panic!("{dialect} {kind} {how} {body}: {e:?}"));
                    assert_eq!((&*read.text(), read.stop), ("whole", StopReason::End), "{dialect} {kind} {how}");
                    assert_eq!((read.usage.input, read.usage.output), (Some(9), Some(3)), "{dialect} {kind} {how}");
                    assert!(read.details.is_empty(), "{read:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn several_json_values_are_no_complete_reply() {
    let part = |text: &str| json!([{"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]}]);
    for stream in [
        format!("data: {}\n\ndata: {}\n\n", part("half"), part("half")),
        format!("{}\n{}\n", part("half"), part("half")),
    ] {
        let server = Server::always(Reply::raw_events(stream.clone()));
        let read = ask(endpoint_of(Dialect::Gemini, &server), &request(), &short_limits()).await;
        assert!(read.is_err(), "{stream}: {read:?}");
    }
}

#[tokio::test]
async fn the_failure_of_a_reply_without_text_names_what_arrived() {
    let delta = |delta: Value| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]});
    let block = |block: Value| {
        vec![
            json!({"type": "content_block_start", "index": 0, "content_block": block}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
            json!({"type": "message_stop"}),
        ]
    };
    let part = |part: Value| vec![json!({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]})];
    let thought = json!([{"candidates": [{"content": {"parts": []}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 4, "thoughtsTokenCount": 6, "totalTokenCount": 10}}]);
    for (dialect, events, instead) in [
        (Dialect::Anthropic, block(json!({"type": "redacted_thinking", "data": "x"})), "reasoning (not shown)"),
        (Dialect::Anthropic, block(json!({"type": "image", "source": {}})), "content of the kind `image`"),
        (
            Dialect::OpenAi,
            vec![delta(json!({"reasoning_details": [{"type": "reasoning.summary", "summary": "Four"}]}))],
            "reasoning (4 characters)",
        ),
        (
            Dialect::OpenAi,
            vec![delta(json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}))],
            "reasoning (not shown)",
        ),
        (
            Dialect::OpenAi,
            vec![delta(json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Four"}]}]}))],
            "reasoning (4 characters)",
        ),
        (Dialect::Gemini, part(json!({"executableCode": {"code": "1"}})), "content of the kind `executableCode`"),
        (Dialect::Gemini, part(json!({"inlineData": {"data": "x"}})), "content of the kind `inlineData`"),
        (Dialect::Gemini, vec![thought[0].clone()], "reasoning (6 tokens, not shown)"),
    ] {
        let server = Server::always(Reply::events(&events));
        let reply = ask(endpoint_of(dialect, &server), &request(), &short_limits()).await.unwrap();
        assert_eq!(reply.details.instead.as_deref(), Some(instead), "{events:?}");
    }
}

#[tokio::test]
async fn events_of_another_api_may_have_cost_tokens() {
    for event in [json!({"output_text": "whole answer"}), json!({"output_text": "on the context window of a model"})] {
        let failure = failure_of(Dialect::OpenAi, Reply::events(std::slice::from_ref(&event)), &short_limits()).await;
        assert!(failure.interrupted, "{event}: {failure:?}");
    }
}

#[tokio::test]
async fn an_event_that_is_no_json_does_not_fail_the_reply() {
    let (text, end) = (chunk("whole", &Value::Null), chunk("", &json!("stop")));
    for words in ["ping", "keep-alive: 1"] {
        let server = Server::always(Reply::raw_events(format!(
            "data: {words}\n\ndata: {text}\n\ndata: {words}\n\ndata: {end}\n\n"
        )));
        assert_eq!(
            ask(endpoint_of(Dialect::OpenAi, &server), &request(), &short_limits()).await.unwrap().text(),
            "whole"
        );
        let cut = Reply::raw_events(format!("data: {text}\n\ndata: {words}\n\n"));
        let failure = failure_of(Dialect::OpenAi, cut, &short_limits()).await;
        assert!(failure.message.contains("broke off") && failure.message.ends_with(words), "{failure:?}");
    }
    // An event that resembles JSON may have been a part of the reply.
    let damaged = Reply::raw_events(format!("data: {{\"choices\": [\n\ndata: {text}\n\ndata: {end}\n\n"));
    assert!(failure_of(Dialect::OpenAi, damaged, &short_limits()).await.message.contains("not JSON"));
}
