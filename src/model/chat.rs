//! Requests to models and their replies, independent of any provider.
//!
//! Journals contain these types, so new versions of orch only add fields, each with a default.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::content::Content;
use super::name::ModelRef;
use super::options::ModelOptions;
use super::tool::OfferedTools;
use super::usage::ReportedUsage;

/// The author of a message after the system prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The pipeline: the task, the inputs, a re-ask.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// The author.
    pub role: Role,
    /// The content, never empty.
    pub content: Content,
}

impl Message {
    /// A message from the pipeline.
    pub fn user(text: impl Into<String>) -> Self {
        Self { role: Role::User, content: Content::from_text(text) }
    }

    /// A message from the model.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: Content::from_text(text) }
    }
}

/// One request to a model. It contains everything that determines the reply, and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChatRequest {
    /// The model.
    pub model: ModelRef,
    /// The system prompt, rendered.
    pub system: String,
    /// The conversation so far; the first and the last message are from the user.
    pub messages: Vec<Message>,
    /// The maximum length of the reply in tokens; every request has it.
    pub max_output_tokens: u32,
    /// The sampling temperature; if absent, the provider's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The other options of the agent; absent if it sets none.
    #[serde(default, skip_serializing_if = "ModelOptions::is_empty")]
    pub options: Box<ModelOptions>,
    /// The self-contained JSON Schema of the reply, if the step has one. orch sends it to APIs that can constrain the
    /// reply; otherwise only the prompt contains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Arc<Value>>,
    /// A short name of the schema (`[a-z_][a-z0-9_]*`), which some APIs require.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_name: Option<String>,
    /// The tools that the model may call; absent if there are none.
    #[serde(default, skip_serializing_if = "OfferedTools::is_empty")]
    pub tools: Arc<OfferedTools>,
}

impl ChatRequest {
    /// A request without a system prompt, options, tools and a schema.
    pub fn new(model: ModelRef, messages: Vec<Message>, max_output_tokens: u32) -> Self {
        Self {
            model,
            system: String::new(),
            messages,
            max_output_tokens,
            temperature: None,
            options: Box::default(),
            schema: None,
            schema_name: None,
            tools: Arc::default(),
        }
    }

    /// Whether a message has files.
    pub fn has_files(&self) -> bool {
        self.messages.iter().any(|message| message.content.has_files())
    }
}

/// Why a model stopped generating.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model completed its reply.
    End,
    /// The token limit or the context window cut the reply off.
    Length,
    /// The model or a safety filter refused to reply.
    Refusal,
    /// The model called tools. If the request offers tools, the content has these calls, and all of them are complete.
    /// If not, the model called a tool instead of completing its reply.
    ToolUse,
    /// The provider gave no reason, or an unknown one.
    Unknown,
}

/// One reply of a model, as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChatReply {
    /// The content of the reply: its text, and data that orch must send back to the provider unchanged.
    pub content: Content,
    /// Why the model stopped.
    pub stop: StopReason,
    /// The usage that the provider reported.
    pub usage: ReportedUsage,
    /// The model that replied, as the provider names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The provider's id of the reply, for support requests; for a CLI agent, the id of its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether the provider constrained the reply to the schema.
    #[serde(default)]
    pub constrained: bool,
    /// Details about a reply that is incomplete or contains more than text.
    #[serde(default, skip_serializing_if = "ReplyDetails::is_empty")]
    pub details: Box<ReplyDetails>,
}

impl ChatReply {
    /// The text of the reply: all blocks of text joined, without reasoning.
    pub fn text(&self) -> Cow<'_, str> {
        self.content.text()
    }
}

/// Details about a reply that is incomplete or contains more than text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplyDetails {
    /// The provider's stop reason, if it does not confirm that the reply is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_stop: Option<String>,
    /// A description of what the reply contains instead of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    /// Other data that the server sent with the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
    /// The provider's reason for a refusal, such as the name of a filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Whether the context window of the model cut the reply off, and not the limit of the reply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exceeded_context_window: bool,
    /// The names of the tools whose calls orch removed from the reply, because the reply is incomplete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted_calls: Vec<String>,
    /// What the provider says about a call that it could not read, and that the reply therefore lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub malformed_call: Option<String>,
    /// Whether the provider paused its turn. It continues the turn if it receives the conversation with the content of
    /// this reply, unchanged and without a further message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Whether the text has half of a surrogate pair without the other half. orch writes it as an escape such as
    /// `\ud83d`, and leaves it out at the end of the text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub half_surrogate: bool,
}

impl ReplyDetails {
    /// Whether there are no details.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
