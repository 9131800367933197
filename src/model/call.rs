//! Calls as recorded: their outcomes, and what was parsed from their replies.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chat::{ChatReply, ModelRef};
use super::cost::CostTotal;
use super::failure::Failure;
use super::id::{CallKey, Digest};
use super::program::AgentActivity;
use super::usage::{EstimatedUsage, ReportedUsage, Usage, UsageTotal};

/// A call ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallEnded {
    /// Which call.
    pub call: CallKey,
    /// The digest of the request.
    pub request_digest: Digest,
    /// The model that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// When the call started.
    pub started: Timestamp,
    /// When the reply was complete, or the failure certain.
    pub ended: Timestamp,
    /// The model's reply, unless the call failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ChatReply>,
    /// The output of a call that asks no model, unless the call failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<CallOutput>,
    /// The failure, if the call failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What a CLI agent did in a turn that gave no reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_activity: Option<Box<AgentActivity>>,
    /// What the call cost in US dollars; absent if no price applies or its usage is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// An upper bound of the usage that was not reported, because a report was incomplete or a request was interrupted.
    /// Absent if everything was reported, or no bound is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated: Option<EstimatedUsage>,
    /// The most that the call may have cost, if its cost is unknown and its usage is estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_cost: Option<f64>,
    /// Files that earlier steps wrote and that this command or turn deleted or reverted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reverted_files: Vec<String>,
}

impl CallEnded {
    /// The CLI agent's session in which the turn ran.
    pub fn session(&self) -> Option<&String> {
        let answered =
            self.reply.as_ref().filter(|reply| reply.agent_activity.is_some()).and_then(|reply| reply.id.as_ref());
        answered.or_else(|| self.agent_activity.as_ref().and_then(|work| work.session.as_ref()))
    }

    /// What a CLI agent did in its turn, with or without a reply.
    pub fn did(&self) -> Option<&AgentActivity> {
        self.reply
            .as_ref()
            .and_then(|reply| reply.agent_activity.as_ref())
            .or(self.agent_activity.as_ref())
            .map(|work| &**work)
    }

    /// The usage that the provider reported, with or without a reply.
    pub fn reported_usage(&self) -> Option<ReportedUsage> {
        reported_usage(self.reply.as_ref(), self.failure.as_ref(), self.agent_activity.as_deref())
    }

    /// What the call used, including estimated and unknown usage.
    pub fn usage(&self) -> UsageTotal {
        let broke_off = self.failure.as_ref().is_some_and(|failure| failure.interrupted);
        let at_work = self.model.is_some() && (self.reply.is_some() || broke_off);
        UsageTotal::of_call(self.reported_usage(), self.estimated, at_work)
    }

    /// What the call cost, including estimated and unknown costs.
    pub fn cost_total(&self) -> CostTotal {
        CostTotal::of_call(self.cost, self.estimated_cost, !self.usage().is_nothing())
    }
}

/// The usage that the provider reported: with the reply, with the failure, or in the CLI agent's activity.
pub(crate) fn reported_usage(
    reply: Option<&ChatReply>,
    failure: Option<&Failure>,
    work: Option<&AgentActivity>,
) -> Option<ReportedUsage> {
    let failed = || failure.and_then(Failure::used);
    let worked = || work.and_then(|work| work.usage);
    reply.map(|reply| reply.usage).or_else(failed).or_else(worked)
}

/// What a call returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallReply {
    /// A model's reply.
    Chat(ChatReply),
    /// The output of any other call.
    Output(CallOutput),
}

/// The output of a call that asks no model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutput {
    /// A command ran to its end.
    Command(CommandOutput),
    /// The files that a step is about to write were read: the snapshot of their state.
    Snapshot(Value),
    /// Files were written: the record of what changed.
    Applied(Value),
}

/// A command that ran to its end, with whatever exit code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutput {
    /// Its exit code; 128 plus the signal's number if a signal ended it, as in shells.
    pub exit_code: i32,
    /// What it wrote to standard output; invalid UTF-8 is replaced.
    pub stdout: String,
    /// What it wrote to standard error; invalid UTF-8 is replaced.
    pub stderr: String,
    /// Whether output was cut: then a marker in the text shows where, and how much.
    #[serde(default)]
    pub cut: bool,
    /// The folder in which it ran.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub folder: String,
}

/// A reply was parsed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplyParsed {
    /// The call that gave the reply.
    pub call: CallKey,
    /// Where in the reply the value was found; absent if no value was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What was repaired, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<String>,
    /// How many other values in the reply would have matched.
    #[serde(default)]
    pub other_matches: usize,
    /// What was left out when the reply was parsed, such as reasoning before the answer; the recorded reply is
    /// complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Why no value was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The most that the re-ask may use; absent if there is none, or it goes to a CLI agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_usage: Option<Usage>,
    /// Whether orch re-asks in the same conversation, with what did not match.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks_again: bool,
}
