//! The reasoning items of a response, which orch sends back to the server unchanged.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use super::pairing::Pairing;
use crate::provider::Dialect;
use crate::provider::assembler::{ReplySink, list_in, text_in};
use crate::provider::reply_builder::ReplyBuilder;

/// The reasoning items so far.
#[derive(Default)]
pub(super) struct ReasoningItems {
    items: Vec<ReasoningItem>,
    /// The positions of the items with each id.
    by_id: HashMap<String, usize>,
    /// The positions of the items that have started with each key.
    started: HashMap<String, VecDeque<usize>>,
    /// Whether text of the current item has arrived.
    has_text: bool,
}

/// A reasoning item that has started.
struct ReasoningItem {
    /// The key of its place in the reply.
    block_key: String,
    id: Option<String>,
    /// Whether the complete item has arrived.
    is_done: bool,
    /// Whether orch sends the item back.
    is_kept: bool,
}

impl ReasoningItems {
    /// Reads a piece of the text of the current item.
    pub(super) fn push_text(&mut self, text: &str, builder: &mut ReplyBuilder, sink: ReplySink<'_>) {
        self.has_text |= !text.is_empty();
        builder.push_reasoning(text, sink);
    }

    /// Starts an item to which events refer with a key, and reserves its place in the reply. Returns its position among
    /// the reasoning items.
    pub(super) fn start(&mut self, event_key: &str, item: &Value, builder: &mut ReplyBuilder) -> usize {
        let position = self.items.len();
        let block_key = format!("reasoning item {position}");
        builder.blocks.reserve(&block_key);
        let id = text_in(item, "id").map(str::to_owned);
        if let Some(id) = &id {
            self.by_id.insert(id.clone(), position);
        }
        self.started.entry(event_key.to_owned()).or_default().push_back(position);
        self.items.push(ReasoningItem { block_key, id, is_done: false, is_kept: false });
        position
    }

    /// Reads a complete item: the one with its id, the first one with this key that is not done, or a new one.
    pub(super) fn finish(&mut self, event_key: &str, item: &Value, builder: &mut ReplyBuilder, sink: ReplySink<'_>) {
        let with_id = text_in(item, "id").and_then(|id| self.by_id.get(id).copied());
        let started = with_id.or_else(|| self.next_with_key(event_key));
        let position = started.unwrap_or_else(|| self.start(event_key, item, builder));
        self.finish_at(position, item, builder, sink);
    }

    fn next_with_key(&mut self, event_key: &str) -> Option<usize> {
        let positions = self.started.get_mut(event_key)?;
        while let Some(position) = positions.pop_front() {
            if self.items.get(position).is_some_and(|item| !item.is_done) {
                return Some(position);
            }
        }
        None
    }

    /// Reads the complete item at a position, or repeats it. Shows its text unless that has arrived.
    pub(super) fn finish_at(&mut self, position: usize, item: &Value, builder: &mut ReplyBuilder, sink: ReplySink<'_>) {
        let Some(started) = self.items.get_mut(position) else { return };
        if !std::mem::replace(&mut started.is_done, true) && !std::mem::take(&mut self.has_text) {
            let thoughts = list_in(item, "summary").chain(list_in(item, "content"));
            let text: String = thoughts.filter_map(|thought| text_in(thought, "text")).collect();
            if text.is_empty() {
                builder.record_hidden_reasoning();
            } else {
                builder.push_reasoning(&text, sink);
            }
        }
        // Without either of these, the server would look the item up in its storage, which the request turned off.
        let is_usable = text_in(item, "encrypted_content").is_some() || list_in(item, "content").next().is_some();
        if is_usable && !started.is_kept {
            started.is_kept = builder.blocks.fill_opaque(&started.block_key, Dialect::Responses, item.clone());
        }
    }

    /// The key of the place in the reply of the item at a position.
    pub(super) fn block_key(&self, position: usize) -> Option<&str> {
        self.items.get(position).map(|item| item.block_key.as_str())
    }

    /// For each reasoning item of a complete response, the position of the same item in the events before it. Servers
    /// that make new ids for the complete response keep the order.
    pub(super) fn pair_with(&self, items: &[&Value]) -> Vec<Option<usize>> {
        let mut pairing = Pairing::new(items.len(), self.items.len());
        pairing.pair(|index| text_in(items.get(index)?, "id"), |position| self.items.get(position)?.id.as_deref());
        pairing.pair(|_| Some(()), |_| Some(()));
        pairing.into_partners()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_complete_item_is_found_by_its_id_or_its_key() {
        let (mut items, mut builder) = (ReasoningItems::default(), ReplyBuilder::default());
        for id in ["a", "b", ""] {
            items.start("reasoning ", &json!({"id": id}), &mut builder);
        }
        for (id, key) in [("b", ""), ("b", "reasoning "), ("", "reasoning "), ("", "reasoning "), ("", "reasoning 7")] {
            items.finish(key, &json!({"id": id, "encrypted_content": id}), &mut builder, &|_| {});
        }
        let done: Vec<bool> = items.items.iter().map(|item| item.is_done).collect();
        assert_eq!(done, [true, true, true, true]);
        assert_eq!(items.pair_with(&[&json!({"id": "x"}), &json!({"id": "a"})]), [Some(1), Some(0)]);
    }
}
