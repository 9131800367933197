//! Where a step of a run is, as far as its events tell.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::chat::ModelRef;
use super::cost::CostTotal;
use super::event::{Artifact, CallEnded, PlannedStep, ReplyParsed, StepKind, StepStarted};
use super::failure::Failure;
use super::id::{RunId, StepKey};
use super::usage::{EstimatedUsage, Usage, UsageTotal};

/// Where a step is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Not begun.
    #[default]
    Pending,
    /// An attempt is going on.
    InProgress,
    /// It waits for a person.
    Waiting,
    /// Its artifact is recorded.
    Completed,
    /// It failed for good.
    Failed,
    /// It was not run.
    Skipped,
    /// It was stopped with its run.
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

/// One step of a run, as far as its events tell.
#[derive(Clone, Debug)]
pub struct StepState {
    /// The step's key.
    pub step: StepKey,
    /// What it is.
    pub kind: StepKind,
    /// The agent's name; empty for other kinds.
    pub agent: String,
    /// The model that is or was asked last.
    pub model: Option<ModelRef>,
    /// Where it is.
    pub status: StepStatus,
    /// Start of its first attempt in the latest session.
    pub started: Option<Timestamp>,
    /// When it completed, failed or was skipped.
    pub ended: Option<Timestamp>,
    /// Attempts begun.
    pub attempts: u32,
    /// Requests made.
    pub calls: u32,
    /// Tokens of all its calls.
    pub usage: UsageTotal,
    /// Cost of its calls in US dollars.
    pub cost: CostTotal,
    /// The session of the agent program that was asked last, in its own words.
    pub session: Option<String>,
    /// What it produced.
    pub artifact: Option<Artifact>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Why it was skipped.
    pub reason: Option<String>,
    /// Whether its result was kept from an earlier session.
    pub reused: bool,
    /// The earlier run that its result was taken over from.
    pub reused_from: Option<RunId>,
    /// How the reply was read: source and repairs.
    pub extraction: Option<ExtractionSummary>,
    /// What a person is asked, while the step waits.
    pub question: Option<String>,
    /// The call of a model or a program whose end is not on record yet.
    open_call: Option<OpenCall>,
    /// What the last request that asked again may use at most, with its attempt.
    asked_again: Option<(u32, Usage)>,
}

/// A call that was begun and whose end is not on record.
#[derive(Clone, Copy, Debug)]
struct OpenCall {
    /// What it may use at most; none of a program's turn.
    most: Option<Usage>,
}

/// How the value was found in the reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractionSummary {
    /// Where it was found: `whole`, `fence`, `tag` or `prose`.
    pub source: String,
    /// What was repaired, in order.
    pub repairs: Vec<String>,
    /// How many other values would have fitted.
    pub other_matches: usize,
    /// What was left out of the reply, such as reasoning before the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl StepState {
    /// Whether its result was there before: of an earlier session, or of an earlier run.
    pub fn is_reused(&self) -> bool {
        self.reused || self.reused_from.is_some()
    }

    /// A step that was announced and has not begun; its key may be that of an item or in a round.
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

    /// Who does the step: agent and model, or the kind.
    pub fn who(&self) -> String {
        match &self.model {
            Some(model) => format!("{} · {model}", self.agent),
            None => self.kind.as_str().to_owned(),
        }
    }

    /// What an earlier session did of the same step stays on record; its times are those of the latest session.
    pub(super) fn take_over(&mut self, old: Self) {
        self.attempts = old.attempts;
        self.calls = old.calls;
        self.usage = old.usage;
        self.cost = old.cost;
        self.session = old.session;
        self.extraction = old.extraction;
        self.asked_again = old.asked_again;
    }

    /// An attempt begins: its call is open, until its end is on record. One that goes on after a crash goes on
    /// with its last request.
    pub(super) fn open_call(&mut self, fact: &StepStarted) {
        let again = self.asked_again.filter(|(attempt, _)| *attempt == fact.attempt).map(|(_, most)| most);
        self.open_call = fact.model.is_some().then_some(OpenCall { most: again.or(fact.max_usage) });
    }

    /// A reply was read, and perhaps another one is asked for.
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

    /// The step has no open call any more.
    pub(super) fn close_call(&mut self) {
        self.open_call = None;
    }

    /// The process died: it is unknown how much an open call used, and what it cost.
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
