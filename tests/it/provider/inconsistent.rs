//! Replies that are not as the model wrote them: pieces are missing, or contradict each other.

use orch::model::chat::{ChatReply, StopReason};
use orch::model::failure::{Failure, FailureClass};
use orch::model::{ContentBlock, ToolChoice};
use orch::provider::Dialect;
use serde_json::{Value, json};

use super::tools::{call, with_tools};
use super::{ask, endpoint_of, short_limits};
use crate::support::server::{Reply, Server};

/// The reply to a request with tools.
async fn read(dialect: Dialect, reply: Reply) -> Result<ChatReply, Failure> {
    let server = Server::always(reply);
    ask(endpoint_of(dialect, &server), &with_tools(ToolChoice::Auto), &short_limits()).await
}

async fn message_of_failure(dialect: Dialect, reply: Reply) -> String {
    let failure = read(dialect, reply).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::ProviderUnavailable, "{dialect}: {failure:?}");
    assert!(failure.interrupted, "the model generated something: {failure:?}");
    failure.message
}

/// An event of each kind of the Messages API.
mod anthropic {
    use serde_json::{Value, json};

    pub(super) fn message_start() -> Value {
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}})
    }

    pub(super) fn start(index: u64, block: Value) -> Value {
        json!({"type": "content_block_start", "index": index, "content_block": block})
    }

    pub(super) fn text_start(index: u64) -> Value {
        start(index, json!({"type": "text", "text": ""}))
    }

    pub(super) fn delta(index: u64, delta: Value) -> Value {
        json!({"type": "content_block_delta", "index": index, "delta": delta})
    }

    pub(super) fn text(index: u64, text: impl Into<Value>) -> Value {
        let text: Value = text.into();
        delta(index, json!({"type": "text_delta", "text": text}))
    }

    pub(super) fn arguments(index: u64, piece: impl Into<Value>) -> Value {
        let piece: Value = piece.into();
        delta(index, json!({"type": "input_json_delta", "partial_json": piece}))
    }

    pub(super) fn stop(index: u64) -> Value {
        json!({"type": "content_block_stop", "index": index})
    }

    /// The end of a message with a stop reason.
    pub(super) fn end(reason: &str) -> [Value; 2] {
        [
            json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 3}}),
            json!({"type": "message_stop"}),
        ]
    }
}

/// A streamed message with these events.
fn message(events: Vec<Value>, reason: &str) -> Reply {
    let events = [vec![anthropic::message_start()], events, anthropic::end(reason).to_vec()].concat();
    Reply::named_events(&events)
}

/// A chunk of a stream of Chat Completions.
fn chunk(delta: Value, reason: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
}

/// A streamed reply of Chat Completions with these choices.
fn chat(choices: &[Value]) -> Reply {
    Reply::events(&choices.iter().map(|choice| json!({"choices": [choice]})).collect::<Vec<_>>())
}

#[tokio::test]
async fn a_piece_of_the_text_with_another_json_type_is_a_failure() {
    let part = |text: Value| json!({"text": text});
    let openai = |piece: Value| {
        let content = |content: Value| chunk(json!({"content": content}), Value::Null);
        let end = chunk(json!({}), json!("stop"));
        Reply::events(&[content(json!("{\"ok\": true, \"n\": ")), content(piece), content(json!("2}")), end])
    };
    let openai_parts = |part: Value| {
        let content = json!([{"type": "text", "text": "a "}, part, " b"]);
        let choice = json!({"message": {"content": content}, "finish_reason": "stop"});
        Reply::status(200, json!({"choices": [choice]}).to_string())
    };
    let openai_after_text = |choice: Value| {
        let end = json!({"delta": {}, "finish_reason": "stop"});
        chat(&[json!({"delta": {"content": "a "}}), choice, end])
    };
    let anthropic_text = |piece: Value| {
        let texts = [json!("a "), piece, json!(" b")].map(|piece| anthropic::text(0, piece));
        message([vec![anthropic::text_start(0)], texts.to_vec(), vec![anthropic::stop(0)]].concat(), "end_turn")
    };
    let responses = |piece: Value| {
        let pieces = [json!("a "), piece, json!(" b")];
        let mut events = pieces.map(|piece| json!({"type": "response.output_text.delta", "delta": piece})).to_vec();
        events.push(json!({"type": "response.completed", "response": {"status": "completed", "output": []}}));
        Reply::named_events(&events)
    };
    let gemini = |parts: Value| {
        let candidate = |parts: Value, reason: Value| json!({"candidates": [{"content": {"parts": parts}, "finishReason": reason}]});
        let (first, last) = (candidate(json!([part(json!("a "))]), Value::Null), json!([part(json!(" b"))]));
        Reply::events(&[first, candidate(parts, Value::Null), candidate(last, json!("STOP"))])
    };
    let converse = |block: Value| {
        let content = json!([part(json!("a ")), block, part(json!(" b"))]);
        let body = json!({"output": {"message": {"content": content}}, "stopReason": "end_turn"});
        Reply::status(200, body.to_string())
    };
    for (dialect, reply, what) in [
        (Dialect::OpenAi, openai(json!(4)), "a number"),
        (Dialect::OpenAi, openai(json!({"text": "4"})), "an object"),
        (Dialect::OpenAi, openai(json!([4])), "a number"),
        (Dialect::OpenAi, openai_parts(json!(true)), "a boolean"),
        (Dialect::OpenAi, openai_parts(json!([4])), "a list"),
        (Dialect::OpenAi, openai_parts(json!({"type": "text", "text": 4})), "a number"),
        (Dialect::OpenAi, openai_parts(json!({"type": "output_text", "content": "4"})), "an object"),
        (Dialect::OpenAi, openai_after_text(json!({"text": "b"})), "`choices[].text`"),
        (Dialect::OpenAi, openai_after_text(json!({"delta": "b"})), "a string"),
        (Dialect::Anthropic, anthropic_text(json!(4)), "a number"),
        (Dialect::Anthropic, anthropic_text(json!([4])), "a list"),
        (Dialect::Responses, responses(json!(4)), "a number"),
        (Dialect::Gemini, gemini(json!([part(json!(4))])), "a number"),
        (Dialect::Gemini, gemini(json!(["4"])), "a string"),
        (Dialect::Gemini, gemini(part(json!("4"))), "an object"),
        (Dialect::Converse, converse(part(json!(4))), "a number"),
        (Dialect::Converse, converse(json!("4")), "a string"),
    ] {
        let message = message_of_failure(dialect, reply).await;
        let expected = format!("lab sent {what} in the place of a piece of the text, so the reply is incomplete");
        assert_eq!(message, expected, "{dialect}");
    }
    // These lose nothing.
    for piece in [Value::Null, json!(""), json!([])] {
        let reply = read(Dialect::OpenAi, openai(piece.clone())).await.unwrap();
        assert_eq!(reply.text(), "{\"ok\": true, \"n\": 2}", "{piece}");
    }
    let beside = json!({"text": "a", "delta": {"content": "a"}, "finish_reason": "stop"});
    assert_eq!(read(Dialect::OpenAi, chat(&[beside])).await.unwrap().text(), "a");
}

#[tokio::test]
async fn a_piece_of_arguments_with_another_json_type_is_a_failure() {
    let tool_call =
        |arguments: Value| json!({"index": 0, "id": "x", "function": {"name": "read", "arguments": arguments}});
    let openai = |pieces: &[Value]| {
        let calls = |piece: &Value| chunk(json!({"tool_calls": [tool_call(piece.clone())]}), Value::Null);
        let end = chunk(json!({}), json!("tool_calls"));
        Reply::events(&pieces.iter().map(calls).chain([end]).collect::<Vec<_>>())
    };
    let anthropic_call = |piece: Value| {
        let block = json!({"type": "tool_use", "id": "x", "name": "read", "input": {}});
        let pieces = [json!("{\"n\": "), piece, json!("2}")].map(|piece| anthropic::arguments(0, piece));
        message([vec![anthropic::start(0, block)], pieces.to_vec(), vec![anthropic::stop(0)]].concat(), "tool_use")
    };
    let responses = |piece: Value| {
        let item = json!({"type": "function_call", "id": "fc_x", "call_id": "x", "name": "read", "arguments": ""});
        let delta =
            |piece: Value| json!({"type": "response.function_call_arguments.delta", "item_id": "fc_x", "delta": piece});
        Reply::named_events(&[
            json!({"type": "response.output_item.added", "item": item}),
            delta(json!("{\"n\": ")),
            delta(piece),
            delta(json!("2}")),
            json!({"type": "response.completed", "response": {"status": "completed", "output": []}}),
        ])
    };
    let whole = |arguments: Value| openai(&[arguments]);
    for (dialect, reply, what) in [
        (Dialect::OpenAi, openai(&[json!("{\"n\": "), json!(4), json!("2}")]), "a number"),
        (Dialect::OpenAi, whole(json!([4])), "a list"),
        (Dialect::Anthropic, anthropic_call(json!(4)), "a number"),
        (Dialect::Anthropic, anthropic_call(json!({})), "an object"),
        (Dialect::Responses, responses(json!(4)), "a number"),
    ] {
        let message = message_of_failure(dialect, reply).await;
        let expected = format!("lab sent {what} in the place of arguments of a tool call, so the call is incomplete");
        assert_eq!(message, expected, "{dialect}");
    }
    // Some servers write no arguments like this.
    for nothing in [json!([]), json!({}), json!(""), Value::Null] {
        let reply = read(Dialect::OpenAi, whole(nothing.clone())).await.unwrap();
        assert_eq!(reply.content.blocks(), [call("x", "read", json!({}))], "{nothing}");
    }
}

#[tokio::test]
async fn two_versions_of_arguments_are_a_failure() {
    let block = |input: Value| json!({"type": "tool_use", "id": "x", "name": "read", "input": input});
    let anthropic_call = |piece: &str| {
        let start = anthropic::start(0, block(json!({"path": "a"})));
        message(vec![start, anthropic::arguments(0, piece), anthropic::stop(0)], "tool_use")
    };
    let openai = |later: Value| {
        let tool_call = |arguments: Value| json!({"index": 0, "id": "x", "function": {"arguments": arguments}});
        let mut first = tool_call(json!({"path": "a"}));
        first["function"]["name"] = json!("read");
        let choices = [first, tool_call(later)].map(|call| json!({"delta": {"tool_calls": [call]}}));
        chat(&[choices.to_vec(), vec![json!({"delta": {}, "finish_reason": "tool_calls"})]].concat())
    };
    for (dialect, same, other) in [
        (Dialect::Anthropic, anthropic_call("{\"path\":\"a\"}"), anthropic_call("{\"path\":\"b\"}")),
        (Dialect::OpenAi, openai(json!("{\"path\":\"a\"}")), openai(json!("{\"path\":\"b\"}"))),
    ] {
        let reply = read(dialect, same).await.unwrap();
        assert_eq!(reply.content.blocks(), [call("x", "read", json!({"path": "a"}))], "{dialect}");
        let message = message_of_failure(dialect, other).await;
        assert_eq!(message, "lab sent two versions of the arguments of a call of `read`", "{dialect}");
    }
}

#[tokio::test]
async fn the_blocks_of_anthropic_are_kept_apart_by_their_index() {
    let tool = |id: &str| json!({"type": "tool_use", "id": id, "name": "read", "input": {}});
    let thinking = json!({"type": "thinking", "thinking": "", "signature": ""});
    let events = vec![
        anthropic::start(0, thinking),
        anthropic::start(1, tool("a")),
        anthropic::start(2, tool("b")),
        anthropic::delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
        anthropic::arguments(1, "{\"path\": "),
        anthropic::delta(0, json!({"type": "signature_delta", "signature": "s"})),
        anthropic::stop(2),
        anthropic::arguments(1, "\"a\"}"),
        anthropic::stop(1),
        anthropic::stop(0),
    ];
    let reply = read(Dialect::Anthropic, message(events, "tool_use")).await.unwrap();
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
    let thought = ContentBlock::Opaque { dialect: "anthropic".into(), data: thought };
    let expected = [thought, call("a", "read", json!({"path": "a"})), call("b", "read", json!({}))];
    assert_eq!(reply.content.blocks(), expected);
}

#[tokio::test]
async fn events_that_contradict_the_blocks_of_anthropic_are_failures() {
    let not_open = "lab sent a piece of a content block that is not open";
    let tool = json!({"type": "tool_use", "id": "a", "name": "read", "input": {}});
    let (first, second) = (anthropic::text_start(0), anthropic::text_start(1));
    for (events, expected) in [
        (vec![anthropic::text(0, "a")], not_open),
        (vec![first.clone(), anthropic::text(0, "a"), anthropic::stop(0), anthropic::text(0, "b")], not_open),
        (vec![first.clone(), anthropic::text(0, "a"), anthropic::text(1, "b")], not_open),
        (vec![first.clone(), anthropic::text(0, "a"), anthropic::stop(0), anthropic::arguments(1, "{}")], not_open),
        (
            vec![first.clone(), anthropic::text(0, "Hel"), first.clone(), anthropic::text(0, "Hello")],
            "lab started a content block again before it had ended",
        ),
        (
            vec![first.clone(), second, anthropic::text(0, "A"), anthropic::text(1, "B"), anthropic::text(0, "C")],
            "lab sent text of a content block after text of a later block",
        ),
        (
            vec![anthropic::start(1, tool), first.clone(), anthropic::text(0, "a"), anthropic::arguments(0, "{}")],
            "lab sent arguments in a content block that is no tool call",
        ),
        (
            vec![first, anthropic::text(0, "Hel"), anthropic::message_start()],
            "lab started a second message after content of the first one",
        ),
    ] {
        let message = message_of_failure(Dialect::Anthropic, message(events.clone(), "end_turn")).await;
        assert_eq!(message, expected, "{events:?}");
    }
    // A second start before any content loses nothing, and some servers give every block the same index.
    let texts = |text: &str| vec![anthropic::text_start(0), anthropic::text(0, text), anthropic::stop(0)];
    let events = [vec![anthropic::message_start()], texts("a "), texts("b")].concat();
    assert_eq!(read(Dialect::Anthropic, message(events, "end_turn")).await.unwrap().text(), "a b");
}

#[tokio::test]
async fn a_message_in_an_event_must_begin_with_the_pieces_before_it() {
    let snapshot = |text: &str| json!({"message": {"content": text}});
    let delta = |text: &str| json!({"delta": {"content": text}});
    let end = |mut choice: Value| {
        choice["finish_reason"] = json!("stop");
        choice
    };
    for choices in [
        vec![snapshot("Hel"), end(snapshot("Hello"))],
        vec![snapshot("Hel"), snapshot("Hel"), snapshot("Hello"), end(snapshot(""))],
        vec![delta("Hel"), delta("lo"), end(snapshot("Hello"))],
        vec![delta("Hel"), end(snapshot("Hello"))],
        vec![delta("Hello"), json!({"message": {"role": "assistant", "content": null}, "finish_reason": "stop"})],
        vec![json!({"delta": {"reasoning_content": "hm"}}), end(snapshot("Hello"))],
    ] {
        let reply = read(Dialect::OpenAi, chat(&choices)).await.unwrap_or_else(|e| panic!("{choices:?}: {e:?}"));
        assert_eq!((&*reply.text(), reply.stop), ("Hello", StopReason::End), "{choices:?}");
    }
    let tool_calls = |path: &str| {
        let function = json!({"name": "read", "arguments": json!({"path": path}).to_string()});
        json!([{"index": 0, "id": "x", "function": function}])
    };
    let calls = |path: &str| json!({"message": {"content": "Look.", "tool_calls": tool_calls(path)}});
    for choices in [
        vec![delta("Look."), end(calls("a"))],
        vec![delta("Look."), json!({"delta": {"tool_calls": tool_calls("a")}}), end(calls("a"))],
        vec![delta("Look."), json!({"delta": {"tool_calls": tool_calls("a")}}), end(snapshot("Look."))],
    ] {
        let reply = read(Dialect::OpenAi, chat(&choices)).await.unwrap_or_else(|e| panic!("{choices:?}: {e:?}"));
        let expected = [ContentBlock::text("Look."), call("x", "read", json!({"path": "a"}))];
        assert_eq!(reply.content.blocks(), expected, "{choices:?}");
    }
    for choices in [
        vec![snapshot("Hel"), end(snapshot("lo"))],
        vec![delta("Hello"), end(snapshot("Hel"))],
        vec![delta("Look."), json!({"delta": {"tool_calls": tool_calls("a")}}), end(calls("b"))],
        vec![delta("Hel"), json!({"message": {"content": ["Hel", 4, "o"]}, "finish_reason": "stop"})],
    ] {
        let message = message_of_failure(Dialect::OpenAi, chat(&choices)).await;
        assert_eq!(message, "lab sent a message that differs from the pieces before it", "{choices:?}");
    }
}

#[tokio::test]
async fn only_the_first_choice_and_the_first_candidate_are_read() {
    let candidate = |index: Value, text: &str| json!({"index": index, "content": {"parts": [{"text": text}]}});
    let end = json!({"candidates": [{"index": 0, "finishReason": "STOP"}]});
    let events = [
        json!({"candidates": [candidate(json!(1), "B")]}),
        json!({"candidates": [candidate(json!(1), "B"), candidate(json!(0), "A")]}),
        json!({"candidates": [candidate(Value::Null, "A")]}),
        end,
    ];
    assert_eq!(read(Dialect::Gemini, Reply::events(&events)).await.unwrap().text(), "AA");
    let choice = |index: Value, text: &str| json!({"index": index, "delta": {"content": text}});
    let choices = [
        choice(json!(1), "B"),
        choice(json!("1"), "B"),
        choice(json!("0"), "A"),
        choice(Value::Null, "A"),
        // A server that writes every number as a float.
        choice(json!(1.0), "B"),
        choice(json!(0.0), "A"),
        json!({"index": 0, "delta": {}, "finish_reason": "stop"}),
    ];
    assert_eq!(read(Dialect::OpenAi, chat(&choices)).await.unwrap().text(), "AAA");
}
