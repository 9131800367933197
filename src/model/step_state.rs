//! The state of a step of a run, as far as its events show.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::chat::ModelRef;
use super::cost::CostTotal;
use super::event::{Artifact, CallEnded, PlannedStep, ReplyParsed, StepKind, StepStarted};
use super::failure::Failure;
use super::id::{RunId, StepKey};
use super::usage::{EstimatedUsage, Usage, UsageTotal};

/// The status of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// It has not started.
    #[default]
    Pending,
    /// An attempt is in progress.
    InProgress,
    /// It waits for the user.
    Waiting,
    /// It completed; its artifact is recorded, if it has one.
    Completed,
    /// It failed for good.
    Failed,
    /// It was not run.
    Skipped,
    /// It was stopped together with its run.
    Cancelled,
}

impl StepStatus {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The state of one step, as far as its events show.
#[derive(Clone, Debug)]
pub struct StepState {
    /// The step's key.
    pub step: StepKey,
    /// Its kind.
    pub kind: StepKind,
    /// The agent's name; empty for other kinds.
    pub agent: String,
    /// The model that is or was asked last.
    pub model: Option<ModelRef>,
    /// Its status.
    pub status: StepStatus,
    /// Start of its first attempt in the latest session.
    pub started: Option<Timestamp>,
    /// When it completed, failed or was skipped.
    pub ended: Option<Timestamp>,
    /// Attempts started.
    pub attempts: u32,
    /// Requests made.
    pub calls: u32,
    /// Tokens of all its calls.
    pub usage: UsageTotal,
    /// Cost of its calls in US dollars.
    pub cost: CostTotal,
    /// The session of the CLI agent that was asked last, as the agent names it.
    pub session: Option<String>,
    /// What it produced.
    pub artifact: Option<Artifact>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Why it was skipped.
    pub reason: Option<String>,
    /// Whether its result was reused from an earlier session.
    pub reused: bool,
    /// The earlier run whose result was reused.
    pub reused_from: Option<RunId>,
    /// How the reply was parsed: source and repairs.
    pub extraction: Option<ExtractionSummary>,
    /// What the user is asked, while the step waits.
    pub question: Option<String>,
    /// The call to a model or a CLI agent whose end is not recorded yet.
    open_call: Option<OpenCall>,
    /// The attempt of the last re-ask, and the most that it may use.
    asked_again: Option<(u32, Usage)>,
}

/// A call that started and whose end is not recorded.
#[derive(Clone, Copy, Debug)]
struct OpenCall {
    /// The most that it may use; none for a turn of a CLI agent.
    most: Option<Usage>,
}

/// How the value was found in the reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractionSummary {
    /// Where it was found: `whole`, `fence`, `tag` or `prose`.
    pub source: String,
    /// What was repaired, in order.
    pub repairs: Vec<String>,
    /// How many other values would have matched.
    pub other_matches: usize,
    /// What was left out of the reply, such as reasoning before the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl StepState {
    /// Whether its result was reused, from an earlier session or from an earlier run.
    pub fn is_reused(&self) -> bool {
        self.reused || self.reused_from.is_some()
    }

    /// A step that was announced and has not started; its key may be that of an item or inside a round.
    pub(super) fn pending(step: StepKey, planned: &PlannedStep) -> Self {
        Self {
            step,
            kind: planned.kind,
            agent: planned.agent.clone(),
            model: planned.model.clone(),
            status: StepStatus::Pending,
            started: None,
            ended: None,
            attempts: 0,
            calls: 0,
            usage: UsageTotal::default(),
            cost: CostTotal::default(),
            session: None,
            artifact: None,
            failure: None,
            reason: None,
            reused: false,
            reused_from: None,
            extraction: None,
            question: None,
            open_call: None,
            asked_again: None,
        }
    }

    /// What runs the step: agent and model, or else the kind.
    pub fn who(&self) -> String {
        match &self.model {
            Some(model) => format!("{} · {model}", self.agent),
            None => self.kind.as_str().to_owned(),
        }
    }

    /// Takes over what earlier sessions recorded for the same step, except its times, which are those of the latest
    /// session.
    pub(super) fn take_over(&mut self, old: Self) {
        self.attempts = old.attempts;
        self.calls = old.calls;
        self.usage = old.usage;
        self.cost = old.cost;
        self.session = old.session;
        self.extraction = old.extraction;
        self.asked_again = old.asked_again;
    }

    /// An attempt starts: its call is open until its end is recorded. An attempt that continues after a crash continues
    /// with its last request.
    pub(super) fn open_call(&mut self, fact: &StepStarted) {
        let again = self.asked_again.filter(|(attempt, _)| *attempt == fact.attempt).map(|(_, most)| most);
        self.open_call = fact.model.is_some().then_some(OpenCall { most: again.or(fact.max_usage) });
    }

    /// A reply was parsed, and perhaps orch re-asks.
    pub(super) fn read_reply(&mut self, fact: &ReplyParsed) {
        self.extraction = fact.source.clone().map(|source| ExtractionSummary {
            source,
            repairs: fact.repairs.clone(),
            other_matches: fact.other_matches,
            left_out: fact.left_out.clone(),
        });
        self.open_call = fact.asks_again.then_some(OpenCall { most: fact.max_usage });
        self.asked_again = fact.max_usage.map(|most| (fact.call.attempt, most)).or(self.asked_again);
    }

    /// Marks that no call of the step is open any more.
    pub(super) fn close_call(&mut self) {
        self.open_call = None;
    }

    /// The process died during an open call: adds its estimated or unknown usage, and an unknown cost.
    pub(super) fn lose_call(&mut self) {
        if let Some(call) = self.open_call.take() {
            self.usage += UsageTotal::of_call(None, call.most.map(EstimatedUsage::from), true);
            self.cost += CostTotal::of_call(None, None, true);
        }
    }

    pub(super) fn spent(&mut self, call: &CallEnded) {
        self.calls += 1;
        self.open_call = None;
        self.usage += call.usage();
        self.cost += call.cost_total();
        self.session = call.session().cloned().or(self.session.take());
    }
}
