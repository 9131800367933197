//! The content of messages and replies: blocks of text, tool calls, tool results, files, and data that orch must send
//! back to the provider unchanged.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::id::Digest;

/// One block of a message or a reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentBlock {
    /// Text.
    Text {
        /// The text, never empty.
        text: String,
    },
    /// The model calls a tool.
    ToolCall {
        /// The id with which the result refers to this call.
        id: String,
        /// The name of the tool.
        name: String,
        /// The arguments; a string if the model wrote arguments that are not JSON.
        arguments: Value,
    },
    /// The result of a tool call.
    ToolResult {
        /// The id of the call.
        id: String,
        /// The name of the tool.
        name: String,
        /// The result as text.
        content: String,
        /// Whether the call failed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
    /// Data that orch must send back to the provider unchanged, such as signed or encrypted reasoning. orch sends it
    /// only to the dialect and the model that it came from, and never shows it.
    Opaque {
        /// The dialect that the data came from, such as `anthropic`.
        dialect: String,
        /// The data, as the provider sent it.
        data: Value,
    },
    /// An image or a document.
    File {
        /// Its media type, such as `image/png` or `application/pdf`.
        media_type: String,
        /// The digest of its bytes.
        digest: Digest,
    },
}

impl ContentBlock {
    /// A block of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }
}

/// The content of a message or a reply: a list of blocks. As JSON, content that is one text is a string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content(Vec<ContentBlock>);

impl Content {
    /// Content that is one text; empty if the text is empty.
    pub fn from_text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self(if text.is_empty() { Vec::new() } else { vec![ContentBlock::Text { text }] })
    }

    /// The blocks, in order.
    pub fn blocks(&self) -> &[ContentBlock] {
        &self.0
    }

    /// All blocks of text, joined.
    pub fn text(&self) -> Cow<'_, str> {
        let mut texts = self.0.iter().filter_map(|block| match block {
            ContentBlock::Text { text } => Some(text.as_str()),
            _ => None,
        });
        match (texts.next(), texts.next()) {
            (None, _) => Cow::Borrowed(""),
            (Some(text), None) => Cow::Borrowed(text),
            (Some(first), Some(second)) => Cow::Owned([first, second].into_iter().chain(texts).collect()),
        }
    }

    /// The number of bytes of all blocks except files. The tokens of a file do not follow from its bytes, so an upper
    /// bound of a request's tokens needs [`Content::has_files`] too.
    pub fn byte_len(&self) -> usize {
        self.0
            .iter()
            .map(|block| match block {
                ContentBlock::Text { text } => text.len(),
                ContentBlock::ToolCall { id, name, arguments } => id.len() + name.len() + arguments.to_string().len(),
                ContentBlock::ToolResult { id, name, content, .. } => id.len() + name.len() + content.len(),
                ContentBlock::Opaque { data, .. } => data.to_string().len(),
                ContentBlock::File { .. } => 0,
            })
            .sum()
    }

    /// Whether the content has files.
    pub fn has_files(&self) -> bool {
        self.0.iter().any(|block| matches!(block, ContentBlock::File { .. }))
    }

    /// Appends a text in a new paragraph of the first block of text, or as the first block of text.
    pub fn append_paragraph(&mut self, paragraph: &str) {
        match self.0.iter_mut().find_map(|block| match block {
            ContentBlock::Text { text } => Some(text),
            _ => None,
        }) {
            Some(text) => *text = format!("{text}\n\n{paragraph}"),
            None => self.0.push(ContentBlock::text(paragraph)),
        }
    }

    /// Appends a text as a block of its own, which does not change the blocks before it. Joined with earlier texts, it
    /// is a new paragraph.
    pub fn append_text_block(&mut self, text: &str) {
        let has_text = self.0.iter().any(|block| matches!(block, ContentBlock::Text { .. }));
        self.0.push(ContentBlock::text(if has_text { format!("\n\n{text}") } else { text.to_owned() }));
    }

    /// Replaces all blocks of text with one, at the position of the first. The other blocks and their order do not
    /// change.
    #[must_use]
    pub fn with_text(&self, text: &str) -> Self {
        if self.text() == text {
            return self.clone();
        }
        let mut blocks = Vec::with_capacity(self.0.len());
        let mut replacement = (!text.is_empty()).then(|| ContentBlock::text(text));
        for block in &self.0 {
            match block {
                ContentBlock::Text { .. } => blocks.extend(replacement.take()),
                block => blocks.push(block.clone()),
            }
        }
        blocks.extend(replacement);
        Self(blocks)
    }
}

impl From<Vec<ContentBlock>> for Content {
    fn from(blocks: Vec<ContentBlock>) -> Self {
        Self(blocks)
    }
}

impl From<Content> for Vec<ContentBlock> {
    fn from(content: Content) -> Self {
        content.0
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [] => serializer.serialize_str(""),
            [ContentBlock::Text { text }] => serializer.serialize_str(text),
            blocks => blocks.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

/// Deserializes both forms of content. With an untagged enum, the error for an invalid block would not name the
/// mistake in the block.
struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of blocks")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
        Ok(Content::from_text(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Content, E> {
        Ok(Content::from_text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut blocks: A) -> Result<Content, A::Error> {
        let mut content = Vec::new();
        while let Some(block) = blocks.next_element()? {
            content.push(block);
        }
        Ok(Content(content))
    }
}

impl JsonSchema for Content {
    fn schema_name() -> Cow<'static, str> {
        "Content".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let block = generator.subschema_for::<ContentBlock>();
        schemars::json_schema!({
            "description": "The content of a message or a reply: a text, or a list of blocks.",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": block }]
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use serde_json::json;

    use super::*;

    fn thinking_block() -> ContentBlock {
        ContentBlock::Opaque { dialect: "anthropic".to_owned(), data: json!({ "type": "thinking", "signature": "s" }) }
    }

    #[test]
    fn one_text_is_a_string_and_other_content_is_a_list() {
        for (content, value) in [
            (Content::default(), json!("")),
            (Content::from_text("yes"), json!("yes")),
            (
                Content::from(vec![thinking_block(), ContentBlock::text("yes")]),
                json!([
                    { "type": "opaque", "dialect": "anthropic", "data": { "type": "thinking", "signature": "s" } },
                    { "type": "text", "text": "yes" },
                ]),
            ),
        ] {
            assert_eq!(serde_json::to_value(&content).unwrap(), value);
            assert_eq!(serde_json::from_value::<Content>(value).unwrap(), content);
        }
    }

    #[test]
    fn an_error_names_the_missing_field_of_a_block() {
        let error = serde_json::from_value::<Content>(json!([{ "type": "text" }])).unwrap_err();
        assert!(error.to_string().contains("missing field `text`"), "{error}");
        let error = serde_json::from_value::<Content>(json!(7)).unwrap_err();
        assert!(error.to_string().contains("a text or a list of blocks"), "{error}");
    }

    #[test]
    fn with_text_does_not_change_other_blocks() {
        let content = Content::from(vec![thinking_block(), ContentBlock::text("a"), ContentBlock::text("b")]);
        assert_eq!(content.text(), "ab");
        assert_eq!(content.with_text("ab"), content);
        assert_eq!(content.with_text("c").blocks(), [thinking_block(), ContentBlock::text("c")]);
        assert_eq!(
            Content::from(vec![thinking_block()]).with_text("c").blocks(),
            [thinking_block(), ContentBlock::text("c")]
        );
    }

    #[test]
    fn a_paragraph_extends_the_first_text() {
        let mut content = Content::from(vec![thinking_block(), ContentBlock::text("a"), ContentBlock::text("\n\nc")]);
        content.append_paragraph("b");
        assert_eq!(content.blocks(), [thinking_block(), ContentBlock::text("a\n\nb"), ContentBlock::text("\n\nc")]);
        let mut empty = Content::default();
        empty.append_paragraph("b");
        assert_eq!(empty, Content::from_text("b"));
    }

    #[test]
    fn a_block_of_text_does_not_change_the_blocks_before_it() {
        let mut content = Content::from(vec![ContentBlock::text("a"), thinking_block()]);
        let before = content.blocks().to_vec();
        content.append_text_block("b");
        assert_eq!((&content.blocks()[..2], &*content.text()), (before.as_slice(), "a\n\nb"));
        let mut without_text = Content::from(vec![thinking_block()]);
        without_text.append_text_block("b");
        assert_eq!(without_text.blocks(), [thinking_block(), ContentBlock::text("b")]);
    }
}
