//! Calls as recorded: their outcomes, and the results of parsing their replies.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::activity::AgentActivity;
use super::call_reply::CallOutput;
use super::chat::ChatReply;
use super::cost::CostTotal;
use super::effect::CallKind;
use super::failure::Failure;
use super::id::{CallKey, Digest};
use super::name::ModelRef;
use super::sandbox_use::SandboxUse;
use super::usage::{EstimatedUsage, ReportedUsage, Usage, UsageTotal};

/// A call started. A call that waits for a permit has not started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallStarted {
    /// The call's key.
    pub call: CallKey,
    /// What the call does.
    pub kind: CallKind,
    /// The model or CLI agent that it calls; absent for commands, files and tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// An upper bound of the request's usage, which counts as used if the process dies during the request. Absent for a
    /// turn of a CLI agent, whose usage is then unknown, and for calls without a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_usage: Option<Usage>,
    /// A short form of the arguments of a tool call. For a tool of an MCP server and for a pipeline, it begins with the
    /// name of the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// The digest of the request of a tool call. If the process dies during the call, a resume needs it to record that
    /// the call was interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_digest: Option<Digest>,
    /// The tool results that this request and all later ones of the conversation leave out, so that the conversation
    /// fits the context window of the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elided_results: Vec<ElidedResult>,
    /// The tool results that this request adds to the conversation and that differ from the recorded output of the call:
    /// those of calls that orch did not perform or that were interrupted, and those with a warning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_results: Vec<SentResult>,
    /// Whether the texts of failed tool results begin with the line `Error:` in this request, because the API of the
    /// model has no field for failed calls.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub labels_errors: bool,
}

impl CallStarted {
    /// The tool of a tool call, and a short form of its arguments; `None` for any other call.
    pub fn tool_and_arguments(&self) -> Option<(&str, &str)> {
        let arguments = self.arguments.as_deref().unwrap_or_default();
        match self.kind {
            CallKind::Tool(tool) => Some((tool.as_str(), arguments)),
            CallKind::McpTool(_) | CallKind::Pipeline => Some(arguments.split_once(' ').unwrap_or((arguments, ""))),
            CallKind::Request | CallKind::Turn | CallKind::Command | CallKind::Snapshot | CallKind::Apply => None,
        }
    }
}

/// The result of a tool call that a conversation leaves out from some request on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ElidedResult {
    /// The ordinal of the request whose reply contains the tool call.
    pub ordinal: u32,
    /// The position of the tool call in the reply, from 1.
    pub tool_call: u32,
}

/// The result of a tool call as a request contains it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SentResult {
    /// The ordinal of the request whose reply contains the tool call.
    pub ordinal: u32,
    /// The position of the tool call in the reply, from 1.
    pub tool_call: u32,
    /// The name of the tool in the pipeline file, or what the model wrote if there is no such tool.
    pub name: String,
    /// A short form of the arguments, if they fit the tool.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arguments: String,
    /// The text that the model receives, without the line `Error:`.
    pub content: String,
    /// Whether the call failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
}

impl SentResult {
    /// The name of the tool with a short form of the arguments, for people.
    pub fn label(&self) -> String {
        format!("{} {}", self.name, self.arguments).trim_end().to_owned()
    }

    /// The key of the tool call; `request` is the key of the request that contains the result.
    pub fn call_key(&self, request: &CallKey) -> CallKey {
        CallKey { ordinal: self.ordinal, ..request.clone() }.for_tool_call(self.tool_call)
    }
}

/// A call ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallEnded {
    /// The call.
    pub call: CallKey,
    /// The digest of the request.
    pub request_digest: Digest,
    /// The model that was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// When the call started.
    pub started: Timestamp,
    /// When the reply was complete or the call failed.
    pub ended: Timestamp,
    /// The model's reply, unless the call failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ChatReply>,
    /// The output of a command, a file operation or a tool, unless the call failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<CallOutput>,
    /// The failure, if the call failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What a CLI agent did in its turn besides replying, or the files that a tool changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_activity: Option<Box<AgentActivity>>,
    /// The cost of the call in US dollars; absent if no price applies or the usage is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// An upper bound of the unreported usage, if a report was incomplete or a request was interrupted. Absent if
    /// everything was reported, or no bound is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated: Option<EstimatedUsage>,
    /// An upper bound of the cost in US dollars, if the cost is unknown and the usage is estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_cost: Option<f64>,
    /// Files that earlier steps wrote and that this command or turn deleted or reverted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reverted_files: Vec<String>,
    /// The sandbox of the call's program. Absent if orch did not confine the program, or the program did not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Box<SandboxUse>>,
}

impl CallEnded {
    /// The CLI agent's session in which the turn ran.
    pub fn session(&self) -> Option<&String> {
        let activity = self.agent_activity.as_ref()?;
        self.reply.as_ref().and_then(|reply| reply.id.as_ref()).or(activity.session.as_ref())
    }

    /// What a CLI agent did in its turn, with or without a reply, or the files that a tool changed.
    pub fn activity(&self) -> Option<&AgentActivity> {
        self.agent_activity.as_deref()
    }

    /// The usage that the provider reported, with or without a reply.
    pub fn reported_usage(&self) -> Option<ReportedUsage> {
        reported_usage(self.reply.as_ref(), self.failure.as_ref(), self.agent_activity.as_deref())
    }

    /// The failure because of damage by the call's program; `None` if it caused none. If the call was interrupted, this
    /// is its outcome, so that orch does not repeat it before the user knows of the damage.
    pub fn damage_failure(&self) -> Option<Failure> {
        self.sandbox.as_ref()?.damage_failure()
    }

    /// The usage of the call, including estimated and unknown usage.
    pub fn usage(&self) -> UsageTotal {
        let interrupted = self.failure.as_ref().is_some_and(|failure| failure.interrupted);
        let may_have_generated = self.model.is_some() && (self.reply.is_some() || interrupted);
        UsageTotal::from_call(self.reported_usage(), self.estimated, may_have_generated)
    }

    /// The cost of the call, including estimated and unknown costs.
    pub fn cost_total(&self) -> CostTotal {
        CostTotal::from_call(self.cost, self.estimated_cost, !self.usage().is_empty())
    }
}

/// The usage that the provider reported: with the reply, with the failure, or in the CLI agent's activity.
pub(crate) fn reported_usage(
    reply: Option<&ChatReply>,
    failure: Option<&Failure>,
    activity: Option<&AgentActivity>,
) -> Option<ReportedUsage> {
    let failure_usage = || failure.and_then(Failure::reported_usage);
    let activity_usage = || activity.and_then(|activity| activity.usage);
    reply.map(|reply| reply.usage).or_else(failure_usage).or_else(activity_usage)
}

/// A reply was parsed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplyParsed {
    /// The call that returned the reply.
    pub call: CallKey,
    /// Where in the reply orch found the value; absent if it used none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The repairs to the value, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<String>,
    /// The number of other values in the reply that match.
    #[serde(default)]
    pub other_matches: usize,
    /// Text of the reply that the parser skipped, such as reasoning before the value; the recorded reply is complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Why orch used no value of the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether orch re-asks: it sends the mismatches to the agent in the same conversation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub re_asks: bool,
}
