//! The output items of the Responses API: those of the events, and those of the complete response at the end.

use orch::model::chat::{ChatReply, ChatRequest, Message, Role, StopReason};
use orch::model::failure::{Failure, FailureClass};
use orch::model::{ContentBlock, ToolChoice};
use orch::provider::Dialect;
use serde_json::{Value, json};

use super::tools::{call, sent_body, with_tools};
use super::{ask, endpoint_of, short_limits};
use crate::support::server::{Reply, Server};

/// The reply to a request with tools.
async fn read(events: &[Value]) -> Result<ChatReply, Failure> {
    let server = Server::always(Reply::named_events(events));
    ask(endpoint_of(Dialect::Responses, &server), &with_tools(ToolChoice::Auto), &short_limits()).await
}

async fn message_of_failure(events: &[Value]) -> String {
    let failure = read(events).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::ProviderUnavailable, "{failure:?}");
    failure.message
}

fn added(index: u64, item: &Value) -> Value {
    json!({"type": "response.output_item.added", "output_index": index, "item": item})
}

fn done(index: u64, item: &Value) -> Value {
    json!({"type": "response.output_item.done", "output_index": index, "item": item})
}

fn arguments(index: u64, piece: &str) -> Value {
    json!({"type": "response.function_call_arguments.delta", "output_index": index, "delta": piece})
}

fn text(piece: &str) -> Value {
    json!({"type": "response.output_text.delta", "delta": piece})
}

fn completed(output: &[Value]) -> Value {
    json!({"type": "response.completed", "response": {"status": "completed", "output": output}})
}

/// A call of `read` with arguments for a path; without arguments for an empty path.
fn item(id: &str, path: &str) -> Value {
    let arguments = if path.is_empty() { String::new() } else { json!({"path": path}).to_string() };
    json!({"type": "function_call", "id": format!("fc_{id}"), "call_id": id, "name": "read", "arguments": arguments})
}

fn message(text: &str) -> Value {
    json!({"type": "message", "id": "msg", "content": [{"type": "output_text", "text": text}]})
}

/// A reasoning item as the server starts it, and the complete one.
fn reasoning(id: &str) -> [Value; 2] {
    let started = json!({"type": "reasoning", "id": id, "summary": []});
    let mut complete = started.clone();
    complete["encrypted_content"] = json!(format!("secret of {id}"));
    [started, complete]
}

fn read_call(id: &str, path: &str) -> ContentBlock {
    call(id, "read", json!({"path": path}))
}

fn opaque(data: &Value) -> ContentBlock {
    ContentBlock::Opaque { dialect: "responses".into(), data: data.clone() }
}

#[tokio::test]
async fn calls_that_arrive_only_at_the_end_are_read() {
    let (a, b) = (item("a", "a"), item("b", "b"));
    for events in [
        vec![completed(&[a.clone(), b.clone()])],
        vec![done(0, &a), completed(&[a.clone(), b.clone()])],
        vec![done(1, &b), completed(&[a.clone(), b.clone()])],
        // A call that only started.
        vec![added(0, &item("a", "")), done(1, &b), completed(&[a.clone(), b.clone()])],
        vec![added(0, &item("a", "")), added(1, &item("b", "")), completed(&[a.clone(), b.clone()])],
        // A call that started with its arguments.
        vec![added(0, &a), done(1, &b), completed(&[])],
        // A server that makes new ids for the complete response.
        vec![done(0, &a), done(1, &b), completed(&[item("x", "a"), item("y", "b")])],
        vec![done(0, &a), arguments(1, "{}"), done(1, &b), completed(&[])],
    ] {
        let reply = read(&events).await.unwrap_or_else(|failure| panic!("{events:?}: {failure:?}"));
        assert_eq!(reply.content.blocks(), [read_call("a", "a"), read_call("b", "b")], "{events:?}");
        assert_eq!(reply.stop, StopReason::ToolUse, "{events:?}");
    }
}

#[tokio::test]
async fn messages_that_arrive_only_at_the_end_keep_their_order() {
    let (a, b) = (item("a", "a"), item("b", "b"));
    let output = [message("one "), b.clone(), message("two"), a.clone()];
    let reply = read(&[done(3, &a), done(1, &b), completed(&output)]).await.unwrap();
    let expected = [read_call("a", "a"), ContentBlock::text("one "), ContentBlock::text("two"), read_call("b", "b")];
    assert_eq!(reply.content.blocks(), expected);
}

#[tokio::test]
async fn calls_that_contradict_each_other_are_failures() {
    let (a, other) = (item("a", "a"), item("a", "other"));
    let differs = "lab sent two versions of the arguments of a call of `read`";
    let pieces = |path: &str| arguments(0, &json!({"path": path}).to_string());
    let named_piece = |id: &str, piece: &str| json!({"type": "response.function_call_arguments.delta", "item_id": id, "delta": piece});
    let arguments_done = json!({"type": "response.function_call_arguments.done", "output_index": 0,
        "arguments": json!({"path": "other"}).to_string()});
    for (events, expected) in [
        (vec![added(0, &item("a", "")), pieces("a"), done(0, &other), completed(&[])], differs),
        (vec![added(0, &item("a", "")), pieces("a"), arguments_done, completed(&[])], differs),
        (vec![added(0, &item("a", "")), pieces("a"), completed(std::slice::from_ref(&other))], differs),
        (vec![done(0, &a), completed(&[other])], differs),
        (vec![done(0, &a), named_piece("fc_a", "{}"), completed(&[])], differs),
        (
            vec![done(0, &a), completed(&[item("b", "b"), item("c", "c")])],
            "lab ended with tool calls that differ from those before it",
        ),
        (
            vec![added(0, &item("a", "")), added(1, &item("b", "")), named_piece("fc_c", "{}")],
            "lab sent arguments without the id of their tool call",
        ),
    ] {
        assert_eq!(message_of_failure(&events).await, expected, "{events:?}");
    }
    // Nothing says that this call has no arguments.
    let reply = read(&[added(0, &item("a", "")), completed(&[])]).await.unwrap();
    assert_eq!(reply.details.unknown_stop.as_deref(), Some("incomplete"));
    assert_eq!((reply.content.blocks(), reply.stop), (&[][..], StopReason::Unknown));
    assert_eq!(reply.details.omitted_calls, ["read"]);
    // A call without a name can't run.
    let mut nameless = item("a", "a");
    nameless["name"] = json!("");
    for events in [vec![done(0, &nameless), completed(&[])], vec![completed(&[nameless])]] {
        assert_eq!(read(&events).await.unwrap().details.unknown_stop.as_deref(), Some("incomplete"), "{events:?}");
    }
}

#[tokio::test]
async fn encrypted_reasoning_that_arrives_only_at_the_end_goes_back() {
    let [started, complete] = reasoning("rs");
    let (a, b) = (item("a", "a"), item("b", "b"));
    let whole = [complete.clone(), message("Look."), a.clone()];
    let expected = [opaque(&complete), ContentBlock::text("Look."), read_call("a", "a")];
    for events in [
        vec![completed(&whole)],
        vec![added(0, &started), added(1, &message("")), text("Look."), done(2, &a), completed(&whole)],
        vec![done(0, &started), text("Look."), done(2, &a), completed(&whole)],
        vec![text("Look."), done(2, &a), completed(&whole)],
        vec![added(1, &message("")), text("Look."), done(2, &a), completed(&whole)],
        vec![done(0, &complete), text("Look."), completed(&whole)],
        // A server that makes new ids for the complete response.
        vec![done(0, &reasoning("other")[0]), text("Look."), done(2, &a), completed(&whole)],
    ] {
        let reply = read(&events).await.unwrap_or_else(|failure| panic!("{events:?}: {failure:?}"));
        assert_eq!(reply.content.blocks(), expected, "{events:?}");
    }
    // The reasoning of the second call is before that call.
    let second = reasoning("rs_2")[1].clone();
    let output = [complete.clone(), a.clone(), second.clone(), b.clone()];
    let reply = read(&[done(0, &complete), done(1, &a), done(3, &b), completed(&output)]).await.unwrap();
    let expected = [opaque(&complete), read_call("a", "a"), opaque(&second), read_call("b", "b")];
    assert_eq!(reply.content.blocks(), expected);
    let messages = vec![Message::user("Compare."), Message { role: Role::Assistant, content: reply.content }];
    let body = sent_body(Dialect::Responses, &ChatRequest { messages, ..with_tools(ToolChoice::Auto) }).await;
    let kinds: Vec<&str> = body["input"].as_array().unwrap().iter().filter_map(|item| item["type"].as_str()).collect();
    assert_eq!(kinds, ["message", "reasoning", "function_call", "reasoning", "function_call"]);
}

#[tokio::test]
async fn the_phase_of_a_message_is_kept_although_it_arrives_only_at_the_end() {
    let mut commentary = message("Look.");
    commentary["phase"] = json!("commentary");
    let phase = opaque(&json!({"type": "message", "phase": "commentary"}));
    let events = [added(0, &message("")), text("Look."), completed(&[commentary])];
    assert_eq!(read(&events).await.unwrap().content.blocks(), [phase, ContentBlock::text("Look.")]);
}

#[tokio::test]
async fn a_message_may_be_a_text_in_the_place_of_parts() {
    let plain = json!({"type": "message", "id": "msg", "content": "Look."});
    for events in [
        vec![done(0, &plain), completed(&[])],
        vec![completed(std::slice::from_ref(&plain))],
        vec![text("Lo"), completed(&[plain])],
    ] {
        assert_eq!(read(&events).await.unwrap().text(), "Look.", "{events:?}");
    }
}
