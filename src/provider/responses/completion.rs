//! Reads a response that has ended. It repeats the items of the events before it, and some servers send items or parts
//! of them only here.

use serde_json::{Value, json};

use super::calls::call_key;
use super::reply::{ResponsesReply, TEXT_MISMATCH, message_text};
use crate::provider::assembler::{ReplySink, has_lost_list, list_in, text_in};
use crate::provider::stop_reasons;
use crate::provider::stream::EventKind;
use crate::provider::usage::OPENAI;

/// The result for a response whose calls differ from those in the events before it.
const CALLS_MISMATCH: EventKind = EventKind::Inconsistent("ended with tool calls that differ from those before it");

/// The result for a response whose output is no list.
const OUTPUT_LOST: EventKind =
    EventKind::Inconsistent("sent an `output` that is not a list, so a part of the reply is lost");

/// What an item of a complete response is in relation to the events before it.
#[derive(Clone, Copy)]
enum ItemMatch {
    /// No event contained it.
    New,
    /// The call at this position.
    Call(usize),
    /// The reasoning item at this position.
    Reasoning(usize),
    /// A message. The texts of all messages are compared as one.
    Message,
    /// An item of a kind that orch only describes.
    Described,
}

impl ResponsesReply {
    /// Reads a response that has ended, with this status. Adds what no event contained: items, the end of the text, the
    /// arguments of calls, and the encrypted content of reasoning. Everything else must agree with the events.
    pub(super) fn finish_response(&mut self, response: &Value, status: &str, sink: ReplySink<'_>) -> EventKind {
        self.read_metadata(response);
        if has_lost_list(response, "output") {
            return OUTPUT_LOST;
        }
        let output: Vec<&Value> = list_in(response, "output").collect();
        let Some(matches) = self.match_items(&output) else { return CALLS_MISMATCH };
        let next_seen = next_seen_items(&matches);
        let mut repeated_text = String::new();
        for (index, (item, item_match)) in output.iter().zip(&matches).enumerate() {
            self.check_item_status(item);
            match *item_match {
                ItemMatch::Call(position) => self.calls.finish_at(position, item, &mut self.builder),
                ItemMatch::Reasoning(position) => self.reasoning.finish_at(position, item, &mut self.builder, sink),
                ItemMatch::Message => {
                    self.check_parts(item);
                    repeated_text.push_str(&message_text(item));
                    let is_kept = self.keep_phase(&format!("message {index}"), item);
                    if let Some(id) = text_in(item, "id").filter(|_| !is_kept) {
                        self.keep_phase(&format!("message {id}"), item);
                    }
                }
                ItemMatch::Described => {}
                ItemMatch::New => {
                    let start = self.builder.blocks.len();
                    let result = self.read_new_item(index, item, sink);
                    if result != EventKind::Part {
                        return result;
                    }
                    let mut following = std::iter::successors(next_seen[index], |next| next_seen[*next]);
                    let target = following.find_map(|next| self.block_position(next, &output, &matches));
                    if let Some(target) = target {
                        // Texts keep the order in which they were shown.
                        let is_message = text_in(item, "type") == Some("message");
                        let first = if is_message { self.builder.blocks.end_of_texts(start) } else { 0 };
                        self.builder.blocks.move_last(start, target.max(first));
                    }
                }
            }
        }
        // Some servers repeat the items without their texts.
        if !repeated_text.is_empty() {
            let Some(missing) = self.text.missing_in_response(&repeated_text).map(str::to_owned) else {
                return TEXT_MISMATCH;
            };
            self.push_text(&missing, sink);
        }
        self.has_incomplete_item |= !self.calls.complete(&mut self.builder);
        let reason = match status.to_ascii_lowercase().as_str() {
            "incomplete" => response.pointer("/incomplete_details/reason").and_then(Value::as_str).unwrap_or(status),
            "completed" if self.has_reached_limit(response) => "max_output_tokens",
            "completed" if self.has_incomplete_item => "incomplete",
            _ => status,
        };
        self.builder.stop.record_chunk(stop_reasons::RESPONSES, Some(&json!(reason)), false);
        self.builder.usage.merge_reports(response, "usage", &OPENAI);
        EventKind::End
    }

    /// Finds the items of a response in the events before it; `None` if the calls differ.
    fn match_items(&self, output: &[&Value]) -> Option<Vec<ItemMatch>> {
        let mut calls = self.calls.pair_with(&items_of_kind(output, "function_call"), &self.builder)?.into_iter();
        let mut reasoning = self.reasoning.pair_with(&items_of_kind(output, "reasoning")).into_iter();
        let matches = output.iter().map(|item| match text_in(item, "type").unwrap_or_default() {
            "function_call" => calls.next().flatten().map_or(ItemMatch::New, ItemMatch::Call),
            "reasoning" => reasoning.next().flatten().map_or(ItemMatch::New, ItemMatch::Reasoning),
            kind if !self.seen_kinds.contains(kind) => ItemMatch::New,
            "message" => ItemMatch::Message,
            _ => ItemMatch::Described,
        });
        Some(matches.collect())
    }

    /// Reads an item that no event contained, and appends its blocks.
    fn read_new_item(&mut self, index: usize, item: &Value, sink: ReplySink<'_>) -> EventKind {
        let event = json!({"output_index": index, "item": item});
        match text_in(item, "type").unwrap_or_default() {
            "function_call" => match self.calls.start(&event, item, &mut self.builder) {
                Some(position) => self.calls.finish_at(position, item, &mut self.builder),
                None => self.has_incomplete_item = true,
            },
            "reasoning" => {
                let position = self.reasoning.start("", item, &mut self.builder);
                self.reasoning.finish_at(position, item, &mut self.builder, sink);
            }
            _ => {
                self.start_item(&event);
                return self.finish_item(&event, sink);
            }
        }
        EventKind::Part
    }

    /// The position in the reply of the first block of an item that the events before the response contained.
    fn block_position(&self, index: usize, output: &[&Value], matches: &[ItemMatch]) -> Option<usize> {
        let blocks = &self.builder.blocks;
        match matches.get(index)? {
            ItemMatch::Call(position) => blocks.position_of_call(&call_key(*position)),
            ItemMatch::Reasoning(position) => blocks.position_of_key(self.reasoning.block_key(*position)?),
            ItemMatch::Message => {
                let is_message = |item_match: &&ItemMatch| matches!(item_match, ItemMatch::Message);
                let is_only_message = || matches.iter().filter(is_message).count() == 1;
                let id = text_in(output.get(index)?, "id").unwrap_or_default();
                let reserved = blocks.position_of_key(&format!("message {index}"));
                let reserved = reserved.or_else(|| blocks.position_of_key(&format!("message {id}")));
                reserved.or_else(|| blocks.position_of_text().filter(|_| is_only_message()))
            }
            ItemMatch::New | ItemMatch::Described => None,
        }
    }
}

fn items_of_kind<'a>(output: &[&'a Value], kind: &str) -> Vec<&'a Value> {
    output.iter().copied().filter(|item| text_in(item, "type") == Some(kind)).collect()
}

/// For each item, the next item that the events before the response contained.
fn next_seen_items(matches: &[ItemMatch]) -> Vec<Option<usize>> {
    let mut next_seen = vec![None; matches.len()];
    let mut next = None;
    for (index, item_match) in matches.iter().enumerate().rev() {
        next_seen[index] = next;
        if !matches!(item_match, ItemMatch::New | ItemMatch::Described) {
            next = Some(index);
        }
    }
    next_seen
}
