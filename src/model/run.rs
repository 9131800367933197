//! What a run has come to: a pure fold over its events.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::chat::ModelRef;
use super::event::{Artifact, CallEnded, Event, Fact, PlannedStep, RunStatus};
use super::failure::Failure;
use super::id::{RunId, StepKey};
use super::report::{ArtifactReport, RunReport, StepReport};
use super::usage::Usage;

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
    /// The agent's name.
    pub agent: String,
    /// The model that is or was asked last.
    pub model: ModelRef,
    /// Where it is.
    pub status: StepStatus,
    /// Start of the first attempt.
    pub started: Option<Timestamp>,
    /// When it completed, failed or was skipped.
    pub ended: Option<Timestamp>,
    /// Attempts begun.
    pub attempts: u32,
    /// Requests made.
    pub calls: u32,
    /// Tokens of all its calls.
    pub usage: Usage,
    /// Cost of its calls in US dollars, as far as prices are known.
    pub cost: f64,
    /// Whether a call had no known price.
    pub unpriced: bool,
    /// What it produced.
    pub artifact: Option<Artifact>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Why it was skipped.
    pub reason: Option<String>,
    /// Whether its result was kept from an earlier session.
    pub kept: bool,
    /// How the reply was read: source and repairs.
    pub read: Option<Read>,
}

/// How the value was found in the reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Where it was found: `whole`, `fence`, `tag` or `prose`.
    pub source: String,
    /// What was repaired, in order.
    pub repairs: Vec<String>,
    /// How many other values would have fitted.
    pub others: usize,
}

impl StepState {
    fn pending(planned: &PlannedStep) -> Self {
        Self {
            step: planned.step.clone(),
            agent: planned.agent.clone(),
            model: planned.model.clone(),
            status: StepStatus::Pending,
            started: None,
            ended: None,
            attempts: 0,
            calls: 0,
            usage: Usage::default(),
            cost: 0.0,
            unpriced: false,
            artifact: None,
            failure: None,
            reason: None,
            kept: false,
            read: None,
        }
    }

    fn spent(&mut self, call: &CallEnded) {
        self.calls += 1;
        if let Some(reply) = &call.reply {
            self.usage += reply.usage;
            match call.cost {
                Some(cost) => self.cost += cost,
                None => self.unpriced = true,
            }
        }
    }
}

/// A run, as far as its events tell.
#[derive(Clone, Debug)]
pub struct RunState {
    /// The run.
    pub run: RunId,
    /// The pipeline's name.
    pub pipeline: String,
    /// The project's root, absolute.
    pub root: String,
    /// The pipeline file, relative to the root.
    pub file: String,
    /// The workspace, absolute.
    pub workspace: String,
    /// The values given.
    pub inputs: Map<String, Value>,
    /// The model given for all agents, if any.
    pub model: Option<String>,
    /// What model names resolved to.
    pub models: BTreeMap<String, ModelRef>,
    /// Whether steps go on after a failure by default.
    pub continue_on_error: bool,
    /// How far it is.
    pub status: RunStatus,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it failed, when no step tells.
    pub failure: Option<Failure>,
    /// The steps of the plan, in order.
    pub steps: Vec<StepState>,
    /// Steps that the files no longer have; what they used stays on record.
    pub gone: Vec<StepState>,
    completed: HashMap<u64, Artifact>,
}

impl RunState {
    /// The state before any event.
    pub fn new(run: RunId) -> Self {
        Self {
            run,
            pipeline: String::new(),
            root: String::new(),
            file: String::new(),
            workspace: String::new(),
            inputs: Map::new(),
            model: None,
            models: BTreeMap::new(),
            continue_on_error: false,
            status: RunStatus::Running,
            started: None,
            ended: None,
            failure: None,
            steps: Vec::new(),
            gone: Vec::new(),
            completed: HashMap::new(),
        }
    }

    /// The state after some events of one run.
    pub fn fold<'a>(run: RunId, events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut state = Self::new(run);
        for event in events {
            state.apply(event);
        }
        state
    }

    /// Takes one more event in.
    pub fn apply(&mut self, event: &Event) {
        match &event.fact {
            Fact::RunStarted(fact) => {
                self.pipeline.clone_from(&fact.pipeline);
                self.root.clone_from(&fact.root);
                self.file.clone_from(&fact.file);
                self.workspace.clone_from(&fact.workspace);
                self.inputs = fact.inputs.clone();
                self.model.clone_from(&fact.model);
                self.models.clone_from(&fact.models);
                self.continue_on_error = fact.continue_on_error;
                self.started = Some(event.at);
                self.steps = fact.steps.iter().map(StepState::pending).collect();
            }
            Fact::RunResumed(fact) => {
                self.status = RunStatus::Running;
                self.ended = None;
                self.failure = None;
                self.model.clone_from(&fact.model);
                self.models.clone_from(&fact.models);
                self.continue_on_error = fact.continue_on_error;
                self.replan(&fact.steps);
            }
            Fact::RunEnded(fact) => self.end(event.at, fact.status, fact.failure.clone()),
            _ => self.apply_to_step(event),
        }
    }

    /// A resumed run has the steps that the files say now; what was spent stays on record.
    fn replan(&mut self, planned: &[PlannedStep]) {
        let mut old: HashMap<StepKey, StepState> = self.steps.drain(..).map(|step| (step.step.clone(), step)).collect();
        for plan in planned {
            let mut step = StepState::pending(plan);
            if let Some(old) = old.remove(&plan.step) {
                step.attempts = old.attempts;
                step.calls = old.calls;
                step.usage = old.usage;
                step.cost = old.cost;
                step.unpriced = old.unpriced;
                step.read = old.read;
                step.started = old.started;
            }
            self.steps.push(step);
        }
        self.gone.extend(old.into_values().filter(|step| step.calls > 0));
    }

    fn end(&mut self, at: Timestamp, status: RunStatus, failure: Option<Failure>) {
        self.status = status;
        self.ended = Some(at);
        self.failure = failure;
        for step in &mut self.steps {
            if step.status == StepStatus::InProgress {
                step.status = StepStatus::Cancelled;
                step.ended = Some(at);
            }
        }
    }

    fn apply_to_step(&mut self, event: &Event) {
        let at = event.at;
        if let Fact::StepCompleted(fact) = &event.fact {
            self.completed.insert(event.seq, fact.artifact.clone());
        }
        if let Fact::ArtifactAccepted(fact) = &event.fact {
            self.completed.insert(fact.completed, fact.artifact.clone());
        }
        let kept = match &event.fact {
            Fact::StepKept(fact) => match &fact.moved {
                Some(artifact) => Some(artifact.clone()),
                None => self.completed.get(&fact.completed).cloned(),
            },
            _ => None,
        };
        let Some(key) = step_of(&event.fact) else { return };
        let Some(step) = self.steps.iter_mut().find(|step| &step.step == key) else {
            return;
        };
        match &event.fact {
            Fact::StepKept(_) => {
                step.status = StepStatus::Completed;
                step.kept = true;
                step.artifact = kept;
                step.started.get_or_insert(at);
                step.ended = Some(at);
            }
            Fact::StepStarted(fact) => {
                step.status = StepStatus::InProgress;
                step.attempts = step.attempts.max(fact.attempt);
                step.model = fact.model.clone();
                step.started.get_or_insert(at);
                step.ended = None;
            }
            Fact::CallEnded(fact) => step.spent(fact),
            Fact::ReplyRead(fact) => {
                step.read = fact.source.clone().map(|source| Read {
                    source,
                    repairs: fact.repairs.clone(),
                    others: fact.others,
                });
            }
            Fact::StepCompleted(fact) => {
                step.status = StepStatus::Completed;
                step.artifact = Some(fact.artifact.clone());
                step.started.get_or_insert(at);
                step.ended = Some(at);
            }
            Fact::StepFailed(fact) => {
                step.status = StepStatus::Failed;
                step.failure = Some(fact.failure.clone());
                step.started.get_or_insert(at);
                step.ended = Some(at);
            }
            Fact::StepSkipped(fact) => {
                step.status = StepStatus::Skipped;
                step.reason = Some(fact.reason.clone());
                step.ended = Some(at);
            }
            Fact::ArtifactAccepted(fact) => step.artifact = Some(fact.artifact.clone()),
            Fact::RunStarted(_) | Fact::RunResumed(_) | Fact::RunEnded(_) => {}
        }
    }

    /// Tokens of all steps.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for step in self.steps.iter().chain(&self.gone) {
            usage += step.usage;
        }
        usage
    }

    /// Cost in US dollars of all steps, `None` when a call had no known price.
    pub fn cost(&self) -> Option<f64> {
        let all = || self.steps.iter().chain(&self.gone);
        (!all().any(|step| step.unpriced)).then(|| all().map(|step| step.cost).sum())
    }

    /// The report of the run as it stands.
    pub fn report(&self) -> RunReport {
        let artifacts = self.steps.iter().filter_map(|step| step.artifact.as_ref());
        let last = self.steps.last();
        RunReport {
            run: self.run.to_string(),
            pipeline: self.pipeline.clone(),
            status: self.status,
            success: self.status == RunStatus::Completed,
            started_at: self.started,
            ended_at: self.ended,
            workspace: self.workspace.clone(),
            error: self.failure.clone(),
            steps: self.steps.iter().map(StepReport::of).collect(),
            artifacts: artifacts.map(|a| self.artifact_report(a)).collect(),
            usage: self.usage(),
            cost_usd: self.cost(),
            result: last.and_then(|step| step.artifact.as_ref()).map(|a| a.value.clone()),
        }
    }

    fn artifact_report(&self, artifact: &Artifact) -> ArtifactReport {
        let path = std::path::Path::new(&self.workspace).join(&artifact.path);
        ArtifactReport {
            name: artifact.name.clone(),
            path: path.display().to_string(),
            digest: artifact.digest.to_string(),
        }
    }
}

fn step_of(fact: &Fact) -> Option<&StepKey> {
    match fact {
        Fact::StepKept(fact) => Some(&fact.step),
        Fact::StepStarted(fact) => Some(&fact.step),
        Fact::CallEnded(fact) => Some(&fact.call.step),
        Fact::ReplyRead(fact) => Some(&fact.call.step),
        Fact::StepCompleted(fact) => Some(&fact.step),
        Fact::StepFailed(fact) => Some(&fact.step),
        Fact::StepSkipped(fact) => Some(&fact.step),
        Fact::ArtifactAccepted(fact) => Some(&fact.step),
        Fact::RunStarted(_) | Fact::RunResumed(_) | Fact::RunEnded(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;
    use crate::model::event::{Recipe, RunEnded, RunStarted, StepCompleted, StepStarted};

    fn events() -> Vec<Event> {
        let run = RunId(uuid::Uuid::nil());
        let step = StepKey::root("plan");
        let model = ModelRef::new("lab", "m");
        let recipe = Recipe { ask: Digest::of(b"a"), take: Digest::of(b"t") };
        let planned = PlannedStep { step: step.clone(), agent: "planner".into(), model: model.clone() };
        let facts = [
            Fact::RunStarted(RunStarted {
                pipeline: "p".into(),
                root: String::new(),
                file: "p.yaml".into(),
                workspace: "/w".into(),
                inputs: Map::new(),
                model: None,
                models: BTreeMap::new(),
                continue_on_error: false,
                steps: vec![planned],
                version: "0".into(),
            }),
            Fact::StepStarted(StepStarted {
                step: step.clone(),
                attempt: 1,
                agent: "planner".into(),
                model,
                recipe: recipe.clone(),
            }),
            Fact::StepCompleted(StepCompleted {
                step,
                attempt: 1,
                recipe,
                artifact: Artifact::new("plan", serde_json::json!({ "a": 1.50 }), false),
            }),
            Fact::RunEnded(RunEnded { status: RunStatus::Completed, failure: None }),
        ];
        let at = |i: i64| Timestamp::from_second(1_000 + i).unwrap();
        (1..).zip(facts).map(|(seq, fact)| Event { run, seq, at: at(i64::try_from(seq).unwrap()), fact }).collect()
    }

    #[test]
    fn a_step_goes_from_pending_over_in_progress_to_completed() {
        let events = events();
        let mut state = RunState::new(events[0].run);
        let mut seen = Vec::new();
        for event in &events {
            state.apply(event);
            seen.push(state.steps[0].status);
        }
        assert_eq!(seen[..3], [StepStatus::Pending, StepStatus::InProgress, StepStatus::Completed]);
        assert!(state.steps[0].started < state.steps[0].ended);
        assert!(state.report().success);
    }

    #[test]
    fn a_run_that_ends_in_the_middle_of_a_step_cancels_it() {
        let mut events = events();
        events.remove(2);
        if let Some(Event { fact: Fact::RunEnded(fact), .. }) = events.last_mut() {
            fact.status = RunStatus::Cancelled;
        }
        let state = RunState::fold(events[0].run, &events);
        assert_eq!(state.steps[0].status, StepStatus::Cancelled);
    }

    #[test]
    fn events_come_back_from_the_journal_as_they_were() {
        for event in events() {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
        }
    }
}
