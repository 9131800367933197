//! Assigns the events about function calls, and the items of a complete response, to the calls of the reply. Servers
//! leave out some of the ids, and some have other ids in the complete response than in the events before it.

use std::collections::HashMap;

use serde_json::Value;

use super::pairing::Pairing;
use crate::provider::assembler::{index_in, text_in};
use crate::provider::reply_builder::ReplyBuilder;
use crate::provider::reply_calls::{CallIdentity, PartialCall};

/// The calls of a reply so far. The position of a call is its key in the reply.
#[derive(Default)]
pub(super) struct FunctionCalls {
    calls: Vec<FunctionCall>,
    /// The positions of the calls with each name in events.
    positions: HashMap<EventName, Vec<usize>>,
    /// The number of calls whose complete item has not arrived.
    open_count: usize,
}

/// One of the ways in which an event names a call.
#[derive(PartialEq, Eq, Hash)]
enum EventName {
    CallId(String),
    ItemId(String),
    OutputIndex(u64),
}

/// A call that has started.
struct FunctionCall {
    call_id: Option<String>,
    item_id: Option<String>,
    name: String,
    /// The arguments in the event that started the call. Most servers send none there.
    initial_arguments: Option<Value>,
    /// Whether the complete item has arrived.
    is_done: bool,
}

/// The call to which an event about arguments belongs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CallOfEvent {
    /// The key of the call.
    Call(String),
    /// Several calls are possible.
    Ambiguous,
    /// No call has started. A complete item may still follow.
    NotStarted,
}

/// The `call_id` of an item.
fn call_id(item: &Value) -> Option<EventName> {
    text_in(item, "call_id").map(|id| EventName::CallId(id.to_owned()))
}

/// The id of an item, in a field of an item or of an event about it.
fn item_id(value: &Value, field: &str) -> Option<EventName> {
    text_in(value, field).map(|id| EventName::ItemId(id.to_owned()))
}

fn output_index(event: &Value) -> Option<EventName> {
    index_in(event, "output_index").map(EventName::OutputIndex)
}

/// The key in the reply of the call at a position.
pub(super) fn call_key(position: usize) -> String {
    position.to_string()
}

impl FunctionCalls {
    /// Whether there are no calls.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Starts a call, and returns its position; `None` if the item does not name the function, or the reply has too many
    /// parts.
    pub(super) fn start(&mut self, event: &Value, item: &Value, builder: &mut ReplyBuilder) -> Option<usize> {
        let name = text_in(item, "name").filter(|_| !builder.has_too_many_blocks())?;
        let position = self.calls.len();
        builder.start_call(&call_key(position), text_in(item, "call_id").or_else(|| text_in(item, "id")), name);
        for event_name in [call_id(item), item_id(item, "id"), output_index(event)].into_iter().flatten() {
            self.positions.entry(event_name).or_default().push(position);
        }
        self.calls.push(FunctionCall {
            call_id: text_in(item, "call_id").map(str::to_owned),
            item_id: text_in(item, "id").map(str::to_owned),
            name: name.to_owned(),
            initial_arguments: complete_arguments(item).cloned(),
            is_done: false,
        });
        self.open_count += 1;
        Some(position)
    }

    /// Reads the complete item of a call; returns false if the call has no name.
    pub(super) fn finish(&mut self, event: &Value, item: &Value, builder: &mut ReplyBuilder) -> bool {
        let position = self.call_of_item(event, item, builder).or_else(|| self.start(event, item, builder));
        if let Some(position) = position {
            self.finish_at(position, item, builder);
        }
        position.is_some()
    }

    /// Reads the complete item of the call at a position.
    pub(super) fn finish_at(&mut self, position: usize, item: &Value, builder: &mut ReplyBuilder) {
        builder.check_arguments_type(item.get("arguments"));
        if let Some(arguments) = complete_arguments(item) {
            builder.set_arguments(&call_key(position), arguments);
        }
        if let Some(call) = self.calls.get_mut(position).filter(|call| !call.is_done) {
            call.is_done = true;
            self.open_count = self.open_count.saturating_sub(1);
        }
    }

    /// The latest call with this name and a property.
    fn find(&self, name: Option<EventName>, has_property: impl Fn(&FunctionCall) -> bool) -> Option<usize> {
        let positions = self.positions.get(&name?)?;
        positions.iter().rev().copied().find(|position| self.calls.get(*position).is_some_and(&has_property))
    }

    /// The latest call with this name whose complete item has not arrived, and a property.
    fn find_open(&self, name: Option<EventName>, has_property: impl Fn(&FunctionCall) -> bool) -> Option<usize> {
        let name = name.filter(|_| self.open_count > 0);
        self.find(name, |call| !call.is_done && has_property(call))
    }

    /// The position of the call that a complete item describes: a call that is not done, or the same item again.
    fn call_of_item(&self, event: &Value, item: &Value, builder: &ReplyBuilder) -> Option<usize> {
        let id = text_in(item, "call_id");
        // Some servers give every item the index 0.
        let may_have_id =
            |call: &FunctionCall| id.is_none() || call.call_id.as_deref().is_none_or(|own| Some(own) == id);
        let has_same_arguments = |position: &usize| {
            complete_arguments(item).is_none_or(|arguments| builder.has_arguments(&call_key(*position), arguments))
        };
        self.find_open(call_id(item), |_| true)
            .or_else(|| self.find_open(item_id(item, "id"), |_| true))
            .or_else(|| self.find_open(output_index(event), may_have_id))
            .or_else(|| self.find(item_id(item, "id"), |_| true))
            .or_else(|| self.find(call_id(item), |_| true).filter(has_same_arguments))
    }

    /// The call to which a piece of arguments belongs, or complete arguments. Without any name in the event, it is the
    /// latest call that is not done.
    pub(super) fn call_of_event(&self, event: &Value) -> CallOfEvent {
        let id = || item_id(event, "item_id");
        let index = || output_index(event);
        let any_call = |_: &FunctionCall| true;
        let named = self.find_open(id(), any_call).or_else(|| self.find(id(), any_call));
        let named = named.or_else(|| self.find_open(index(), any_call));
        let latest_open = || self.calls.iter().rposition(|call| !call.is_done);
        match named {
            Some(position) => CallOfEvent::Call(call_key(position)),
            None if self.open_count == 0 => CallOfEvent::NotStarted,
            None if self.open_count > 1 && (id().is_some() || index().is_some()) => CallOfEvent::Ambiguous,
            None => latest_open().map_or(CallOfEvent::NotStarted, |position| CallOfEvent::Call(call_key(position))),
        }
    }

    /// For each call of a complete response, the position of the same call in the events before it. `None` if both have
    /// calls that the other one does not have.
    pub(super) fn pair_with(&self, items: &[&Value], builder: &ReplyBuilder) -> Option<Vec<Option<usize>>> {
        let mut pairing = Pairing::new(items.len(), self.calls.len());
        let (item, call) = (|index: usize| items.get(index).copied(), |position: usize| self.calls.get(position));
        pairing.pair(|index| text_in(item(index)?, "id"), |position| call(position)?.item_id.as_deref());
        pairing.pair(|index| text_in(item(index)?, "call_id"), |position| call(position)?.call_id.as_deref());
        // Some servers make new ids for the complete response.
        pairing.pair(
            |index| Some(CallIdentity::new(text_in(item(index)?, "name")?, complete_arguments(item(index)?))),
            |position| Some(builder.call(&call_key(position))?.identity()),
        );
        pairing.pair(
            |index| text_in(item(index)?, "name"),
            |position| {
                let has_arguments = builder.call(&call_key(position))?.has_any_arguments();
                call(position).filter(|_| !has_arguments).map(|call| call.name.as_str())
            },
        );
        (pairing.has_all_items() || pairing.has_all_partners()).then(|| pairing.into_partners())
    }

    /// Completes the calls after the end of the response. Returns false if one of them has started, and nothing
    /// confirms its arguments.
    pub(super) fn complete(&self, builder: &mut ReplyBuilder) -> bool {
        let mut is_confirmed = true;
        for (position, call) in self.calls.iter().enumerate().filter(|(_, call)| !call.is_done) {
            let key = call_key(position);
            if builder.call(&key).is_some_and(PartialCall::has_any_arguments) {
                continue;
            }
            match &call.initial_arguments {
                Some(arguments) => builder.set_arguments(&key, arguments),
                None => is_confirmed = false,
            }
        }
        is_confirmed
    }
}

/// The complete arguments in a function call or an event: a text, or the object itself from some servers.
pub(super) fn complete_arguments(object: &Value) -> Option<&Value> {
    object.get("arguments").filter(|value| value.is_object() || value.as_str().is_some_and(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The calls that start with these ids, each at the index 0.
    fn started(ids: &[&str]) -> (FunctionCalls, ReplyBuilder) {
        let (mut calls, mut builder) = (FunctionCalls::default(), ReplyBuilder::default());
        for id in ids {
            let item = json!({"id": format!("fc_{id}"), "call_id": id, "name": "read", "arguments": ""});
            calls.start(&json!({"output_index": 0}), &item, &mut builder);
        }
        (calls, builder)
    }

    #[test]
    fn an_event_belongs_to_the_call_that_it_names() {
        let (mut calls, mut builder) = started(&["a", "b"]);
        let call = |key: &str| CallOfEvent::Call(key.to_owned());
        assert_eq!(calls.call_of_event(&json!({"item_id": "fc_a"})), call("0"));
        assert_eq!(calls.call_of_event(&json!({"output_index": 0})), call("1"));
        assert_eq!(calls.call_of_event(&json!({})), call("1"));
        assert_eq!(calls.call_of_event(&json!({"item_id": "other"})), CallOfEvent::Ambiguous);
        calls.finish_at(1, &json!({}), &mut builder);
        assert_eq!(calls.call_of_event(&json!({"item_id": "other"})), call("0"));
        assert_eq!(calls.call_of_event(&json!({"item_id": "fc_b"})), call("1"));
        calls.finish_at(0, &json!({}), &mut builder);
        assert_eq!(calls.call_of_event(&json!({"item_id": "other"})), CallOfEvent::NotStarted);
        assert_eq!(FunctionCalls::default().call_of_event(&json!({})), CallOfEvent::NotStarted);
    }

    #[test]
    fn a_complete_item_belongs_to_its_call_or_is_another_call() {
        let item = |id: &str, path: &str| json!({"call_id": id, "name": "read", "arguments": {"path": path}});
        let index = json!({"output_index": 0});
        let (mut calls, mut builder) = started(&["a"]);
        assert!(calls.finish(&index, &item("b", "b"), &mut builder), "another id at the same index");
        assert!(calls.finish(&index, &item("a", "a"), &mut builder));
        assert!(calls.finish(&index, &item("a", "a"), &mut builder), "the same item again");
        assert_eq!(calls.calls.len(), 2);
        assert!(calls.finish(&index, &item("a", "c"), &mut builder), "another call with the same id");
        assert_eq!(calls.calls.len(), 3);
        assert!(!calls.finish(&json!({}), &json!({"call_id": "d", "arguments": {}}), &mut builder));
    }

    #[test]
    fn the_calls_of_a_response_are_paired_by_ids_and_by_content() {
        let (mut calls, mut builder) = started(&["a", "b", "c"]);
        builder.push_arguments("0", r#"{"path": "a"}"#);
        calls.finish_at(0, &json!({}), &mut builder);
        builder.push_arguments("1", r#"{"path": "b"}"#);
        let item = |id: &str, path: &str| {
            let arguments = json!({"path": path}).to_string();
            json!({"call_id": id, "name": "read", "arguments": arguments})
        };
        let pairs = |items: &[Value]| calls.pair_with(&items.iter().collect::<Vec<_>>(), &builder);
        assert_eq!(pairs(&[]), Some(vec![]));
        assert_eq!(pairs(&[item("b", "b")]), Some(vec![Some(1)]));
        let renamed = [item("x", "c"), item("y", "b"), item("z", "a")];
        assert_eq!(pairs(&renamed), Some(vec![Some(2), Some(1), Some(0)]));
        let more = [item("a", "a"), item("n", "n"), item("b", "b"), item("c", "c")];
        assert_eq!(pairs(&more), Some(vec![Some(0), None, Some(1), Some(2)]));
        assert_eq!(pairs(&[item("x", "a"), item("y", "other"), item("z", "another")]), None);
    }

    #[test]
    fn a_call_that_only_started_has_its_first_arguments_or_none() {
        let (mut calls, mut builder) = started(&["a"]);
        assert!(!calls.complete(&mut builder));
        builder.push_arguments("0", "{}");
        assert!(calls.complete(&mut builder));
        let item = json!({"name": "read", "arguments": "{\"path\": \"a\"}"});
        assert_eq!(calls.start(&json!({}), &item, &mut builder), Some(1));
        assert!(calls.complete(&mut builder));
        assert!(builder.has_arguments("1", &json!({"path": "a"})));
    }
}
