//! What calls are, as recorded: their outcome, and what was read of a reply.

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
    /// When the request was sent.
    pub started: Timestamp,
    /// When the reply was complete, or the failure certain.
    pub ended: Timestamp,
    /// The reply, unless it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ChatReply>,
    /// What a call that asks no model did, unless it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<CallOutput>,
    /// The failure, unless there is a reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What an agent program did in a turn that gave no reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_activity: Option<Box<AgentActivity>>,
    /// What the call cost in US dollars; absent when no price applies, or what it used is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// What the call may have used beyond what was reported, at most: a reply that reported less than all, or a
    /// request that broke off. Absent when everything was reported, or no bound is known.
    #[serde(default, alias = "lost", skip_serializing_if = "Option::is_none")]
    pub estimated: Option<EstimatedUsage>,
    /// What the call cost at most, when its cost is not known and its use is estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_cost: Option<f64>,
    /// Files that steps before made, and that are gone or as they were before after this command or turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reverted_files: Vec<String>,
}

impl CallEnded {
    /// The session of an agent program in which the turn was taken.
    pub fn session(&self) -> Option<&String> {
        let answered =
            self.reply.as_ref().filter(|reply| reply.agent_activity.is_some()).and_then(|reply| reply.id.as_ref());
        answered.or_else(|| self.agent_activity.as_ref().and_then(|work| work.session.as_ref()))
    }

    /// What an agent program did in its turn, whether there is a reply or not.
    pub fn did(&self) -> Option<&AgentActivity> {
        self.reply
            .as_ref()
            .and_then(|reply| reply.agent_activity.as_ref())
            .or(self.agent_activity.as_ref())
            .map(|work| &**work)
    }

    /// What the provider reported, whether there is a reply or not.
    pub fn reported_usage(&self) -> Option<ReportedUsage> {
        reported_usage(self.reply.as_ref(), self.failure.as_ref(), self.agent_activity.as_deref())
    }

    /// What the call used, with what is estimated or unknown.
    pub fn usage(&self) -> UsageTotal {
        let broke_off = self.failure.as_ref().is_some_and(|failure| failure.interrupted);
        let at_work = self.model.is_some() && (self.reply.is_some() || broke_off);
        UsageTotal::of_call(self.reported_usage(), self.estimated, at_work)
    }

    /// What the call cost, with what is estimated or unknown.
    pub fn cost_total(&self) -> CostTotal {
        CostTotal::of_call(self.cost, self.estimated_cost, !self.usage().is_nothing())
    }
}

/// What the provider of a call reported: with its reply, with its failure, or by what a program did.
pub(crate) fn reported_usage(
    reply: Option<&ChatReply>,
    failure: Option<&Failure>,
    work: Option<&AgentActivity>,
) -> Option<ReportedUsage> {
    let failed = || failure.and_then(Failure::used);
    let worked = || work.and_then(|work| work.usage);
    reply.map(|reply| reply.usage).or_else(failed).or_else(worked)
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallReply {
    /// A model's answer.
    Chat(ChatReply),
    /// What anything else did.
    Output(CallOutput),
}

/// What a call did that asks no model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutput {
    /// A command ran to its end.
    Command(CommandOutput),
    /// The files that a step is about to write were looked at: the record of how they were.
    Snapshot(Value),
    /// Files were written: the record of what changed.
    Applied(Value),
}

/// A command that ran to its end, whatever it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutput {
    /// Its exit code; 128 and the number of the signal that ended it, as shells say it.
    pub exit_code: i32,
    /// What it wrote to standard output; invalid UTF-8 is replaced.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// Whether more was written than is kept: then a mark in the text tells where how much is missing.
    #[serde(default)]
    pub cut: bool,
    /// The folder in which it ran.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub folder: String,
}

/// A reply was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplyParsed {
    /// The call that gave the reply.
    pub call: CallKey,
    /// Where in the reply the value was found; absent when none was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What was repaired, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<String>,
    /// How many other values of the reply would have fitted.
    #[serde(default)]
    pub other_matches: usize,
    /// What was left out of the reply, such as reasoning before the answer; the reply itself is recorded whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Why no value was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What the request that asks again may use at most; absent when nothing is asked again, or of a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_usage: Option<Usage>,
    /// Whether the same conversation asks again, with what did not fit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks_again: bool,
}
