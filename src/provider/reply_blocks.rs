//! The blocks of a reply under construction, in the order in which the reply has them.

use serde_json::Value;

use super::Dialect;
use super::reply_calls::{CallNaming, PartialCall};
use crate::model::content::{Content, ContentBlock};

/// The maximum number of parts of a reply: of texts, calls, and data that orch sends back. Looking up a part takes time
/// proportional to their number, and no model needs nearly as many.
pub(super) const MAX_BLOCKS: usize = 1000;

/// The blocks so far.
#[derive(Default)]
pub(super) struct ReplyBlocks {
    blocks: Vec<PartialBlock>,
    /// Whether there were more than [`MAX_BLOCKS`]; the others are left out.
    has_too_many: bool,
}

/// A block of the reply so far.
enum PartialBlock {
    Text(String),
    Opaque(OpaqueData),
    /// The position of a block that may still arrive, with its key.
    Reserved(String),
    /// A block of a tool that the provider itself runs. The provider needs it only to continue a turn that it paused.
    ServerTool(Dialect, Value),
    Call(PartialCall),
}

/// Data that orch must send back to the provider unchanged.
struct OpaqueData {
    /// The key of the position that was reserved for the data.
    key: Option<String>,
    dialect: Dialect,
    data: Value,
}

/// Which blocks a finished reply keeps.
#[derive(Clone, Copy)]
pub(super) struct KeptBlocks {
    /// Whether it keeps calls, and the signatures and the reasoning that belong to them: a provider refuses these
    /// without the calls.
    pub(super) calls: bool,
    /// Whether it keeps the blocks of tools that the provider itself runs.
    pub(super) server_tools: bool,
}

impl ReplyBlocks {
    /// Whether there were more than [`MAX_BLOCKS`] blocks, so that some are missing.
    pub(super) fn has_too_many(&self) -> bool {
        self.has_too_many
    }

    fn push(&mut self, block: PartialBlock) {
        if self.blocks.len() < MAX_BLOCKS {
            self.blocks.push(block);
        } else {
            self.has_too_many = true;
        }
    }

    /// All texts, in order.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.blocks.iter().filter_map(|block| match block {
            PartialBlock::Text(text) => Some(text.as_str()),
            PartialBlock::Opaque(_)
            | PartialBlock::Reserved(_)
            | PartialBlock::ServerTool(..)
            | PartialBlock::Call(_) => None,
        })
    }

    /// Appends a piece of text to the last block, if that is a text, else as a new block.
    pub(super) fn push_text(&mut self, piece: &str) {
        match self.blocks.last_mut() {
            Some(PartialBlock::Text(last)) => last.push_str(piece),
            _ => self.push(PartialBlock::Text(piece.to_owned())),
        }
    }

    /// Starts a separate block of text.
    pub(super) fn start_text(&mut self) {
        self.push(PartialBlock::Text(String::new()));
    }

    /// Appends opaque data.
    pub(super) fn push_opaque(&mut self, dialect: Dialect, data: Value) {
        self.push(PartialBlock::Opaque(OpaqueData { key: None, dialect, data }));
    }

    /// Inserts opaque data before all other blocks.
    pub(super) fn prepend_opaque(&mut self, dialect: Dialect, data: Value) {
        self.blocks.insert(0, PartialBlock::Opaque(OpaqueData { key: None, dialect, data }));
    }

    /// Reserves the current position for a block that arrives later, under a key.
    pub(super) fn reserve(&mut self, key: &str) {
        self.push(PartialBlock::Reserved(key.to_owned()));
    }

    /// Puts opaque data at the position that is reserved under a key; returns false if there is none.
    pub(super) fn fill_opaque(&mut self, key: &str, dialect: Dialect, data: Value) -> bool {
        self.fill(key, PartialBlock::Opaque(OpaqueData { key: Some(key.to_owned()), dialect, data }))
    }

    /// Puts a block of a tool that the provider itself runs at the position that is reserved under a key.
    pub(super) fn fill_server_tool(&mut self, key: &str, dialect: Dialect, data: Value) {
        self.fill(key, PartialBlock::ServerTool(dialect, data));
    }

    fn fill(&mut self, key: &str, block: PartialBlock) -> bool {
        let has_key = |block: &&mut PartialBlock| matches!(block, PartialBlock::Reserved(reserved) if reserved == key);
        let reserved_block = self.blocks.iter_mut().rev().find(has_key);
        let is_found = reserved_block.is_some();
        if let Some(reserved) = reserved_block {
            *reserved = block;
        }
        is_found
    }

    /// Appends a call.
    pub(super) fn push_call(&mut self, call: PartialCall) {
        self.push(PartialBlock::Call(call));
    }

    /// All calls, in order.
    pub(super) fn calls(&self) -> impl DoubleEndedIterator<Item = &PartialCall> {
        self.blocks.iter().filter_map(|block| match block {
            PartialBlock::Call(call) => Some(call),
            PartialBlock::Text(_)
            | PartialBlock::Opaque(_)
            | PartialBlock::Reserved(_)
            | PartialBlock::ServerTool(..) => None,
        })
    }

    /// The latest call with a key.
    pub(super) fn call_mut(&mut self, key: &str) -> Option<&mut PartialCall> {
        self.blocks.iter_mut().rev().find_map(|block| match block {
            PartialBlock::Call(call) if call.key == key => Some(call),
            _ => None,
        })
    }

    /// The number of blocks.
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// The position of the latest call with a key.
    pub(super) fn position_of_call(&self, key: &str) -> Option<usize> {
        self.blocks.iter().rposition(|block| matches!(block, PartialBlock::Call(call) if call.key == key))
    }

    /// The position that is or was reserved under a key.
    pub(super) fn position_of_key(&self, key: &str) -> Option<usize> {
        self.blocks.iter().position(|block| match block {
            PartialBlock::Reserved(own) | PartialBlock::Opaque(OpaqueData { key: Some(own), .. }) => own == key,
            _ => false,
        })
    }

    /// The position of the first text.
    pub(super) fn position_of_text(&self) -> Option<usize> {
        self.blocks.iter().position(|block| matches!(block, PartialBlock::Text(_)))
    }

    /// The position after the last text before a position.
    pub(super) fn end_of_texts(&self, before: usize) -> usize {
        let earlier = self.blocks.get(..before).unwrap_or_default();
        earlier.iter().rposition(|block| matches!(block, PartialBlock::Text(_))).map_or(0, |position| position + 1)
    }

    /// Moves the blocks from `start` on to the position `target`, which is not after `start`.
    pub(super) fn move_last(&mut self, start: usize, target: usize) {
        let count = self.blocks.len().saturating_sub(start);
        if let Some(blocks) = self.blocks.get_mut(target..)
            && count <= blocks.len()
        {
            blocks.rotate_right(count);
        }
    }

    /// The content of the finished reply.
    pub(super) fn finish(self, naming: &mut CallNaming, kept: KeptBlocks) -> Content {
        let opaque_block = |dialect: Dialect, data| ContentBlock::Opaque { dialect: dialect.as_str().to_owned(), data };
        let finished: Vec<ContentBlock> = self
            .blocks
            .into_iter()
            .filter_map(|block| match block {
                PartialBlock::Text(text) => (!text.is_empty()).then_some(ContentBlock::Text { text }),
                PartialBlock::Opaque(opaque) => kept.calls.then(|| opaque_block(opaque.dialect, opaque.data)),
                PartialBlock::Reserved(_) => None,
                PartialBlock::ServerTool(dialect, data) => kept.server_tools.then(|| opaque_block(dialect, data)),
                PartialBlock::Call(call) => kept.calls.then(|| call.into_block(naming)),
            })
            .collect();
        Content::from(finished)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_blocks_can_move_before_others() {
        let mut blocks = ReplyBlocks::default();
        blocks.push_text("a");
        blocks.reserve("later");
        blocks.push_call(PartialCall::new("0", Some("x"), "read"));
        let start = blocks.len();
        blocks.push_opaque(Dialect::Responses, json!(1));
        blocks.push_opaque(Dialect::Responses, json!(2));
        blocks.move_last(start, blocks.position_of_call("0").unwrap_or_default());
        assert!(blocks.fill_opaque("later", Dialect::Responses, json!(0)));
        assert!(!blocks.fill_opaque("later", Dialect::Responses, json!(0)));
        assert_eq!((blocks.position_of_text(), blocks.position_of_key("later")), (Some(0), Some(1)));
        let opaque = |data: i32| ContentBlock::Opaque { dialect: "responses".to_owned(), data: json!(data) };
        let call = ContentBlock::ToolCall { id: "x".to_owned(), name: "read".to_owned(), arguments: json!({}) };
        let expected = [ContentBlock::text("a"), opaque(0), opaque(1), opaque(2), call];
        let kept = KeptBlocks { calls: true, server_tools: true };
        assert_eq!(blocks.finish(&mut CallNaming::default(), kept).blocks(), expected);
    }
}
