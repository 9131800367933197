//! Requests to models and their replies, independent of any provider.
//!
//! These types are stored in journals for years: fields are only ever added, with a default.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::name::{FILE, LOCAL};
use super::program::AgentActivity;
use super::usage::ReportedUsage;

/// A model at a provider: `anthropic/claude-sonnet-5`, `lab/qwen3-coder`, `local/smollm2-135m`; or a file,
/// `local:models/small.gguf`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModelRef {
    /// The provider's name: a built-in one or a key of `providers:` in `orch.yaml`.
    pub provider: String,
    /// The model's name as the provider spells it; it may contain slashes. For a file, its path, which begins with `/`,
    /// `./` or `../`.
    pub model: String,
}

impl ModelRef {
    /// Builds a reference from its two names.
    pub fn new(provider: impl Into<String>, model: impl Into<String>) -> Self {
        Self { provider: provider.into(), model: model.into() }
    }

    /// A model that is a file; a relative path starts at the root of the project.
    pub fn file(path: &str) -> Self {
        let model = if is_path(path) { path.to_owned() } else { format!("./{path}") };
        Self::new(LOCAL, model)
    }

    /// The path, if the model is a file.
    pub fn path(&self) -> Option<&str> {
        (self.provider == LOCAL && is_path(&self.model)).then_some(self.model.as_str())
    }

    /// Parses `provider/model` or `local:PATH`; `None` if there is no slash, or a half is empty.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix(FILE) {
            return (!path.trim().is_empty()).then(|| Self::file(path));
        }
        let (provider, model) = text.split_once('/')?;
        (!provider.is_empty() && !model.is_empty()).then(|| Self::new(provider, model))
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path() {
            Some(path) => write!(f, "{FILE}{}", path.strip_prefix("./").unwrap_or(path)),
            None => write!(f, "{}/{}", self.provider, self.model),
        }
    }
}

/// Whether an embedded model's name is a path; other names never look like one.
fn is_path(name: &str) -> bool {
    ["/", "./", "../"].iter().any(|start| name.starts_with(start)) || Path::new(name).is_absolute()
}

/// The author of a message after the system prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The pipeline: the task, the inputs, a re-ask.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The author.
    pub role: Role,
    /// The text, never empty.
    pub content: String,
}

impl Message {
    /// A message from the pipeline.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }

    /// A message from the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }
}

/// One request to a model: everything that determines the reply, and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// Which model is asked.
    pub model: ModelRef,
    /// The system prompt, rendered.
    pub system: String,
    /// The conversation so far, first and last from the user.
    pub messages: Vec<Message>,
    /// Upper bound of the reply in tokens; always sent.
    pub max_output_tokens: u32,
    /// Sampling temperature; the provider's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The JSON Schema that the reply must fit, self-contained, when the step has one.
    /// A provider sends it natively where the model can, else leaves it to the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Arc<Value>>,
    /// A short name for the schema (`[a-z_][a-z0-9_]*`): some APIs require one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_name: Option<String>,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model completed its reply.
    End,
    /// The token limit or the context window cut it off.
    Length,
    /// The model or a safety filter refused.
    Refusal,
    /// The model called a tool, which no request offers, instead of ending its answer.
    ToolUse,
    /// The provider gave no reason, or an unknown one.
    Unknown,
}

/// One reply of a model, as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatReply {
    /// The text of the reply, all text parts joined; reasoning is not part of it.
    pub text: String,
    /// Why the model stopped.
    pub stop: StopReason,
    /// The usage that the provider reported.
    pub usage: ReportedUsage,
    /// The model that answered, as the provider named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The provider's id of the reply, for support requests; for a CLI agent, its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether the provider constrained the reply to the schema.
    #[serde(default)]
    pub constrained: bool,
    /// What a CLI agent did besides answering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_activity: Option<Box<AgentActivity>>,
    /// What is known about the reply besides its text.
    #[serde(default, skip_serializing_if = "ReplyRemarks::is_empty")]
    pub remarks: Box<ReplyRemarks>,
}

/// What is known about a reply besides its text, if it is not a plain answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyRemarks {
    /// The provider's stop reason, if it does not confirm that the reply is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_stop: Option<String>,
    /// What the reply contains instead of text, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    /// What the server sent besides the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
}

impl ReplyRemarks {
    /// Whether there are no remarks.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
