//! Assigns the pieces of tool calls in a stream to their calls. Many servers number the pieces wrongly or not at all:
//! some give every parallel call the index 0, some give every piece a new id, and some repeat the name in every piece
//! or the whole call at the end.

use serde_json::Value;

use crate::provider::assembler::{index_in, is_blank, text_in};
use crate::provider::reply_builder::ReplyBuilder;

/// The calls of a reply so far, in the order of their first pieces.
#[derive(Default)]
pub(super) struct CallPieces(Vec<StartedCall>);

/// A call of which at least one piece has arrived.
struct StartedCall {
    index: u64,
    id: Option<String>,
    name: String,
    brackets: BracketBalance,
}

/// One piece of a call.
struct CallPiece<'a> {
    index: Option<u64>,
    id: Option<&'a str>,
    name: Option<&'a str>,
    arguments: &'a Value,
}

/// Whether a call names its tool.
pub(super) fn has_name(call: &Value) -> bool {
    text_in(call.get("function").unwrap_or(call), "name").is_some()
}

impl CallPieces {
    /// Reads a call or a piece of one; returns false if the value is none.
    pub(super) fn read(&mut self, call: &Value, builder: &mut ReplyBuilder) -> bool {
        let function = call.get("function").unwrap_or(call);
        let index = index_in(call, "index");
        let index_key = index.unwrap_or_default().to_string();
        if !function.is_object() {
            builder.contradictions.record_nameless_call(&index_key);
            return false;
        }
        if function.get("name").is_some_and(|name| !name.is_null() && !name.is_string()) {
            builder.contradictions.record_nameless_call("");
        }
        // The reply fails, so its further calls don't matter.
        if builder.has_too_many_blocks() {
            return true;
        }
        let piece = CallPiece {
            index,
            id: text_in(call, "id"),
            name: text_in(function, "name"),
            arguments: function.get("arguments").unwrap_or(&Value::Null),
        };
        let position = if let Some(name) = piece.name {
            builder.contradictions.record_name(&index_key);
            self.named_call(&piece, name, builder)
        } else {
            let position = self.continued_call(&piece);
            if position.is_none() && (piece.id.is_some() || !is_blank(piece.arguments)) {
                builder.contradictions.record_nameless_call(&index_key);
            }
            position
        };
        if let Some((position, call)) = position.and_then(|position| Some((position, self.0.get_mut(position)?))) {
            call.add_arguments(&call_key(position), piece.arguments, builder);
        }
        true
    }

    /// The call to which a piece with a name belongs; `None` if the piece only repeats what has arrived. The piece
    /// starts a new call unless it has the name of the last call at its index and that call is incomplete.
    fn named_call(&mut self, piece: &CallPiece<'_>, name: &str, builder: &mut ReplyBuilder) -> Option<usize> {
        let index = piece.index.unwrap_or_default();
        let last = self.0.iter().rposition(|call| call.index == index);
        let last = last.and_then(|position| Some((position, self.0.get(position)?)));
        if let Some((position, call)) = last.filter(|(_, call)| call.name == name) {
            if !call.brackets.is_complete() {
                return Some(position);
            }
            let has_no_arguments = piece.arguments.as_str().is_none_or(str::is_empty) && !piece.arguments.is_object();
            let repeats = has_no_arguments || builder.has_arguments(&call_key(position), piece.arguments);
            if repeats && piece.id.is_some() && piece.id == call.id.as_deref() {
                return None;
            }
        }
        let position = self.0.len();
        builder.start_call(&call_key(position), piece.id, name);
        self.0.push(StartedCall {
            index,
            id: piece.id.map(str::to_owned),
            name: name.to_owned(),
            brackets: BracketBalance::default(),
        });
        Some(position)
    }

    /// The call to which a piece without a name belongs: the only one with its id, else the last one at its index. A
    /// piece without an index belongs to the last call.
    fn continued_call(&self, piece: &CallPiece<'_>) -> Option<usize> {
        let has_id = |call: &StartedCall| piece.id.is_some() && piece.id == call.id.as_deref();
        if self.0.iter().filter(|call| has_id(call)).count() == 1 {
            return self.0.iter().position(has_id);
        }
        match piece.index {
            Some(index) => self.0.iter().rposition(|call| call.index == index),
            None => self.0.len().checked_sub(1),
        }
    }
}

impl StartedCall {
    /// Adds arguments, which are a piece of text or a complete value.
    fn add_arguments(&mut self, key: &str, arguments: &Value, builder: &mut ReplyBuilder) {
        builder.check_arguments_type(Some(arguments));
        match arguments {
            Value::String(piece) => {
                self.brackets.push(piece);
                builder.push_arguments(key, piece);
            }
            Value::Object(_) => {
                self.brackets = BracketBalance::complete();
                builder.set_arguments(key, arguments);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {}
        }
    }
}

/// The key of a call in the reply.
fn call_key(position: usize) -> String {
    position.to_string()
}

/// Decides whether a text is a complete JSON object, as far as its brackets show, without parsing it again for each
/// piece.
#[derive(Default)]
struct BracketBalance {
    depth: usize,
    has_bracket: bool,
    in_string: bool,
    is_escaped: bool,
}

impl BracketBalance {
    /// The balance of a complete object.
    fn complete() -> Self {
        Self { has_bracket: true, ..Self::default() }
    }

    fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => {
                    self.has_bracket = true;
                    self.depth += 1;
                }
                b'}' | b']' if !self.in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.has_bracket && self.depth == 0 && !self.in_string
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::content::ContentBlock;
    use crate::provider::reply_blocks::MAX_BLOCKS;
    use crate::provider::usage::OPENAI;

    /// The id, the name and the arguments of each call in these pieces.
    fn calls(pieces: &[Value]) -> Vec<(String, String, Value)> {
        let (mut calls, mut builder) = (CallPieces::default(), ReplyBuilder::default());
        for piece in pieces {
            assert!(calls.read(piece, &mut builder), "{piece}");
        }
        let content = builder.into_reply(&OPENAI).content;
        let call = |block: &ContentBlock| match block {
            ContentBlock::ToolCall { id, name, arguments } => (id.clone(), name.clone(), arguments.clone()),
            other => panic!("{other:?}"),
        };
        content.blocks().iter().map(call).collect()
    }

    fn piece(index: u64, id: &str, name: &str, arguments: &str) -> Value {
        json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}})
    }

    fn call(id: &str, name: &str, path: &str) -> (String, String, Value) {
        (id.to_owned(), name.to_owned(), json!({"path": path}))
    }

    const A: &str = "{\"path\": \"a\"}";
    const B: &str = "{\"path\": \"b\"}";

    #[test]
    fn pieces_with_an_index_belong_to_their_calls() {
        let pieces = [
            piece(0, "x", "read", ""),
            piece(1, "y", "list", ""),
            piece(0, "", "", "{\"path\":"),
            piece(1, "", "", "{\"path\": \"b\""),
            piece(0, "", "", " \"a\"}"),
            piece(1, "", "", "}"),
        ];
        assert_eq!(calls(&pieces), [call("x", "read", "a"), call("y", "list", "b")]);
    }

    #[test]
    fn parallel_calls_may_have_the_same_index() {
        for second_name in ["read", "list"] {
            let expected = [call("x", "read", "a"), call("y", second_name, "b")];
            assert_eq!(calls(&[piece(0, "x", "read", A), piece(0, "y", second_name, B)]), expected);
            let pieces = [
                piece(0, "x", "read", ""),
                piece(0, "", "", A),
                piece(0, "y", second_name, ""),
                piece(0, "", "", "{\"path\""),
                piece(0, "", "", ": \"b\"}"),
            ];
            assert_eq!(calls(&pieces), expected);
        }
        let without_ids = [piece(0, "", "read", A), piece(0, "", "read", B), piece(0, "", "read", A)];
        let expected = [call("call_1", "read", "a"), call("call_2", "read", "b"), call("call_3", "read", "a")];
        assert_eq!(calls(&without_ids), expected);
    }

    #[test]
    fn every_piece_may_have_a_new_id() {
        for name in ["", "read"] {
            let pieces = [
                piece(0, "x1", "read", ""),
                piece(0, "x2", name, "{\"path\""),
                piece(0, "x3", name, ": \"{a}\""),
                piece(0, "x4", name, "}"),
            ];
            assert_eq!(calls(&pieces), [call("x1", "read", "{a}")], "{name}");
        }
    }

    #[test]
    fn a_repeated_call_is_not_another_call() {
        for end in [piece(0, "x", "read", A), piece(0, "x", "read", "")] {
            assert_eq!(calls(&[piece(0, "x", "read", A), end]), [call("x", "read", "a")]);
        }
        // Another call with the same id, by mistake.
        let expected = [call("x", "read", "a"), call("call_2", "read", "b")];
        assert_eq!(calls(&[piece(0, "x", "read", A), piece(0, "x", "read", B)]), expected);
    }

    #[test]
    fn pieces_without_an_index_belong_to_the_last_call() {
        let name = |name: &str| json!({"function": {"name": name, "arguments": ""}});
        let arguments = |text: &str| json!({"function": {"arguments": text}});
        let pieces = [
            piece(0, "x", "read", ""),
            arguments(A),
            piece(1, "y", "list", ""),
            arguments("{\"path\":"),
            arguments("\"b\"}"),
        ];
        assert_eq!(calls(&pieces), [call("x", "read", "a"), call("y", "list", "b")]);
        assert_eq!(calls(&[name("read"), arguments(A)]), [call("call_1", "read", "a")]);
        // The form before there were parallel calls.
        assert_eq!(calls(&[json!({"name": "read"}), json!({"arguments": A})]), [call("call_1", "read", "a")]);
    }

    #[test]
    fn interleaved_pieces_belong_to_the_calls_with_their_ids() {
        let pieces = [
            piece(0, "x", "read", ""),
            piece(0, "y", "list", ""),
            piece(0, "x", "", "{\"path\":"),
            piece(0, "y", "", B),
            piece(0, "x", "", " \"a\"}"),
        ];
        assert_eq!(calls(&pieces), [call("x", "read", "a"), call("y", "list", "b")]);
    }

    #[test]
    fn no_further_calls_are_read_after_too_many() {
        let (mut calls, mut builder) = (CallPieces::default(), ReplyBuilder::default());
        for index in 0..3000 {
            assert!(calls.read(&piece(index, "", "read", A), &mut builder));
        }
        assert!(builder.has_too_many_blocks() && calls.0.len() == MAX_BLOCKS + 1, "{}", calls.0.len());
    }

    #[test]
    fn arguments_may_be_an_object_or_missing() {
        let object = json!({"id": "x", "function": {"name": "read", "arguments": {"path": "a"}}});
        for pieces in [vec![object.clone()], vec![object.clone(), object]] {
            assert_eq!(calls(&pieces), [call("x", "read", "a")]);
        }
        let missing = json!({"id": "x", "function": {"name": "list"}});
        assert_eq!(calls(&[missing]), [("x".to_owned(), "list".to_owned(), json!({}))]);
        assert!(!CallPieces::default().read(&Value::Null, &mut ReplyBuilder::default()));
    }
}
