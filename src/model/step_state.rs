//! The state of a step of a run, computed from its events.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::activity::AgentActivity;
use super::cost::CostTotal;
use super::event::{
    ApprovalDecision, Artifact, CallEnded, CallStarted, PlannedStep, ReplyParsed, SkipReason, StepKind,
};
use super::failure::Failure;
use super::id::{RunId, StepKey};
use super::name::ModelRef;
use super::sandbox::SandboxLevel;
use super::step_status::StepStatus;
use super::usage::{EstimatedUsage, Usage, UsageTotal};

/// The maximum number of reasons for which orch may not know all changed files of a step.
const MAX_PARTIAL_REASONS: usize = 20;

/// The state of one step, computed from its events.
#[derive(Clone, Debug)]
pub struct StepState {
    /// The step's key.
    pub key: StepKey,
    /// Its kind.
    pub kind: StepKind,
    /// The agent's name; empty for other kinds.
    pub agent: String,
    /// The model of its latest call.
    pub model: Option<ModelRef>,
    /// Its status.
    pub status: StepStatus,
    /// When its first attempt in the latest session started.
    pub started: Option<Timestamp>,
    /// When it completed, failed or was skipped.
    pub ended: Option<Timestamp>,
    /// The number of started attempts.
    pub attempts: u32,
    /// The number of requests.
    pub calls: u32,
    /// The number of tool calls of its model.
    pub tool_calls: u32,
    /// Tokens of all its calls.
    pub usage: UsageTotal,
    /// Cost of its calls in US dollars.
    pub cost: CostTotal,
    /// The id of the last session with a CLI agent.
    pub session: Option<String>,
    /// The weakest level of the sandboxes of its programs; `None` if orch confined none of them.
    pub sandbox: Option<SandboxLevel>,
    /// Why orch may not know all files that its CLI agent or its tools changed; empty if it knows them.
    pub partial_changes: Vec<String>,
    /// The artifact that it produced.
    pub artifact: Option<Artifact>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Why it was skipped.
    pub reason: Option<SkipReason>,
    /// Whether its result was reused from an earlier session.
    pub reused: bool,
    /// The earlier run whose result was reused.
    pub reused_from: Option<RunId>,
    /// How orch extracted the value from the reply.
    pub extraction: Option<ExtractionSummary>,
    /// The question to the user, while the step waits.
    pub question: Option<String>,
    /// The answer to the question, if the run has not continued with it yet.
    pub answer: Option<ApprovalDecision>,
    /// The call to a model or a CLI agent whose end is not recorded yet.
    open_call: Option<OpenCall>,
}

/// A call that started and whose end is not recorded.
#[derive(Clone, Copy, Debug)]
struct OpenCall {
    /// An upper bound of its usage; `None` for a turn of a CLI agent.
    max_usage: Option<Usage>,
}

/// How orch extracted the value from the reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExtractionSummary {
    /// The location of the value in the reply: `whole`, `fence`, `tag` or `prose`.
    pub source: String,
    /// The repairs to the value, in order.
    pub repairs: Vec<String>,
    /// The number of other values in the reply that match.
    pub other_matches: usize,
    /// Text of the reply that the parser skipped, such as reasoning before the value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl StepState {
    /// Whether its result was reused, from an earlier session or from an earlier run.
    pub fn is_reused(&self) -> bool {
        self.reused || self.reused_from.is_some()
    }

    /// The state of a step that has not started. `step` may be an item of the planned step, or inside an iteration.
    pub(super) fn new_pending(step: StepKey, planned: &PlannedStep) -> Self {
        Self {
            key: step,
            kind: planned.kind,
            agent: planned.agent.clone(),
            model: planned.model.clone(),
            status: StepStatus::Pending,
            started: None,
            ended: None,
            attempts: 0,
            calls: 0,
            tool_calls: 0,
            usage: UsageTotal::default(),
            cost: CostTotal::default(),
            session: None,
            sandbox: None,
            partial_changes: Vec::new(),
            artifact: None,
            failure: None,
            reason: None,
            reused: false,
            reused_from: None,
            extraction: None,
            question: None,
            answer: None,
            open_call: None,
        }
    }

    /// A label for messages: the agent and the model, or the kind if no model is involved.
    pub fn performer_label(&self) -> String {
        match &self.model {
            Some(model) => format!("{} · {model}", self.agent),
            None => self.kind.as_str().to_owned(),
        }
    }

    /// Copies the attempts, the usage and other totals that earlier sessions recorded for the same step. Does not copy
    /// its times, which are those of the latest session.
    pub(super) fn restore_totals(&mut self, earlier: Self) {
        self.attempts = earlier.attempts;
        self.calls = earlier.calls;
        self.tool_calls = earlier.tool_calls;
        self.usage = earlier.usage;
        self.cost = earlier.cost;
        self.session = earlier.session;
        self.sandbox = earlier.sandbox;
        self.partial_changes = earlier.partial_changes;
        self.extraction = earlier.extraction;
        // A question without an answer still waits, and orch does not record it a second time.
        self.question = earlier.question;
    }

    /// Whether it waits for the user's answer.
    pub fn is_asking(&self) -> bool {
        self.status == StepStatus::Waiting && self.answer.is_none()
    }

    /// The answer to its question, if it waits only because the run has not continued with the answer.
    pub fn pending_answer(&self) -> Option<&ApprovalDecision> {
        self.answer.as_ref().filter(|_| self.status == StepStatus::Waiting)
    }

    /// Marks a call to a model or a CLI agent as open, until its end is recorded.
    pub(super) fn open_call(&mut self, fact: &CallStarted) {
        self.open_call = fact.model.is_some().then_some(OpenCall { max_usage: fact.max_usage });
    }

    /// Records how orch parsed a reply.
    pub(super) fn record_parsed_reply(&mut self, fact: &ReplyParsed) {
        self.extraction = fact.source.clone().map(|source| ExtractionSummary {
            source,
            repairs: fact.repairs.clone(),
            other_matches: fact.other_matches,
            left_out: fact.left_out.clone(),
        });
    }

    /// Records that no call of the step is open.
    pub(super) fn close_call(&mut self) {
        self.open_call = None;
    }

    /// If the process died during an open call, adds the call's estimated or unknown usage, and an unknown cost.
    pub(super) fn record_lost_call(&mut self) {
        if let Some(call) = self.open_call.take() {
            self.usage += UsageTotal::from_call(None, call.max_usage.map(EstimatedUsage::from), true);
            self.cost += CostTotal::from_call(None, None, true);
        }
    }

    /// Adds a call that has ended.
    pub(super) fn record_call(&mut self, call: &CallEnded) {
        match (call.call.tool_call, call.call.input_round) {
            // The same call again, with answers of the user.
            (_, Some(_)) => {}
            (Some(_), None) => self.tool_calls += 1,
            (None, None) => self.calls += 1,
        }
        self.open_call = None;
        self.usage += call.usage();
        self.cost += call.cost_total();
        self.session = call.session().cloned().or(self.session.take());
        let level = call.sandbox.as_ref().map(|sandbox| sandbox.level);
        self.sandbox = [self.sandbox, level].into_iter().flatten().min();
        if let Some(activity) = call.activity().filter(|activity| activity.partial) {
            self.add_partial_changes(activity);
        }
    }

    /// Adds the reasons for which orch could not compare all files.
    fn add_partial_changes(&mut self, activity: &AgentActivity) {
        let reasons = activity.partial_reasons.iter().map(String::as_str);
        let unknown = activity.partial_reasons.is_empty().then_some("an earlier version of orch recorded no reason");
        for reason in reasons.chain(unknown) {
            if self.partial_changes.len() < MAX_PARTIAL_REASONS
                && self.partial_changes.iter().all(|known| known != reason)
            {
                self.partial_changes.push(reason.to_owned());
            }
        }
    }
}
