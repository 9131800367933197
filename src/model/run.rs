//! What a run has come to: a pure fold over its events.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::budget::Budget;
use super::chat::ModelRef;
use super::event::{Artifact, Event, Fact, PlannedStep, RunStatus, StepCompleted};
use super::failure::Failure;
use super::id::{RunId, StepKey};
use super::report::{ArtifactReport, RunReport, StepReport};
use super::step_state::{Read, StepState, StepStatus};
use super::usage::Usage;

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
    /// The limits given for the run (`--budget`), if any.
    pub budget: Option<Budget>,
    /// How far it is.
    pub status: RunStatus,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it failed, when no step tells.
    pub failure: Option<Failure>,
    /// What the pipeline's `outputs:` gave, if it has any.
    pub outputs: Option<Value>,
    /// The steps, as they came up: first those that were announced, then items and rounds. In the
    /// order of the file by [`RunState::in_order`].
    pub steps: Vec<StepState>,
    /// Steps that the files no longer have; what they used stays on record.
    pub gone: Vec<StepState>,
    planned: Vec<PlannedStep>,
    places: HashMap<StepKey, usize>,
    at: HashMap<StepKey, usize>,
    gone_at: HashMap<StepKey, usize>,
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
            budget: None,
            status: RunStatus::Running,
            started: None,
            ended: None,
            failure: None,
            outputs: None,
            steps: Vec::new(),
            gone: Vec::new(),
            planned: Vec::new(),
            places: HashMap::new(),
            at: HashMap::new(),
            gone_at: HashMap::new(),
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
                self.budget.clone_from(&fact.budget);
                self.started = Some(event.at);
                self.plan(&fact.steps);
            }
            Fact::RunResumed(fact) => {
                self.status = RunStatus::Running;
                self.ended = None;
                self.failure = None;
                self.outputs = None;
                self.model.clone_from(&fact.model);
                self.models.clone_from(&fact.models);
                self.continue_on_error = fact.continue_on_error;
                self.budget.clone_from(&fact.budget);
                self.replan(&fact.steps);
            }
            Fact::RunEnded(fact) => {
                self.end(event.at, fact.status, fact.failure.clone());
                self.outputs.clone_from(&fact.result);
            }
            _ => self.apply_to_step(event),
        }
    }

    /// The steps of a plan, all pending.
    fn plan(&mut self, planned: &[PlannedStep]) {
        self.planned = planned.to_vec();
        self.places = planned.iter().enumerate().map(|(place, step)| (step.step.clone(), place)).collect();
        self.at.clear();
        self.steps.clear();
        for plan in planned.iter().filter(|plan| !plan.many) {
            self.at.insert(plan.step.clone(), self.steps.len());
            self.steps.push(StepState::pending(plan.step.clone(), plan));
        }
    }

    /// A resumed run has the steps that the files say now; what was spent stays on record.
    fn replan(&mut self, planned: &[PlannedStep]) {
        let mut old: HashMap<StepKey, StepState> =
            std::mem::take(&mut self.steps).into_iter().map(|step| (step.step.clone(), step)).collect();
        self.plan(planned);
        for step in &mut self.steps {
            if let Some(old) = old.remove(&step.step) {
                step.take_over(old);
            }
        }
        // Items and rounds come back when they come up; until then what they spent is kept aside.
        self.gone.extend(old.into_values().filter(|step| step.calls > 0));
        self.gone_at = self.gone.iter().enumerate().map(|(at, step)| (step.step.clone(), at)).collect();
    }

    /// The state of a step, made when it is an item or in a round that comes up.
    fn step_at(&mut self, key: &StepKey) -> Option<usize> {
        if let Some(at) = self.at.get(key) {
            return Some(*at);
        }
        let planned = self.places.get(&key.place()).and_then(|place| self.planned.get(*place))?;
        let mut step = StepState::pending(key.clone(), planned);
        if let Some(old) = self.gone_at.remove(key) {
            step.take_over(self.gone.swap_remove(old));
            // The last one has moved to the place that is free.
            if let Some(moved) = self.gone.get(old) {
                self.gone_at.insert(moved.step.clone(), old);
            }
        }
        self.at.insert(key.clone(), self.steps.len());
        self.steps.push(step);
        Some(self.steps.len() - 1)
    }

    /// Whether a step is the whole of a `for_each`, whose items stand for themselves.
    pub fn runs_over_items(&self, step: &StepState) -> bool {
        self.at.contains_key(&step.step.item(0))
    }

    /// A step by its key.
    pub fn step(&self, key: &StepKey) -> Option<&StepState> {
        self.at.get(key).and_then(|at| self.steps.get(*at))
    }

    /// The steps in the order of the file, items and rounds in theirs.
    pub fn in_order(&self) -> Vec<&StepState> {
        let rank = |key: &StepKey| -> Vec<(usize, usize)> {
            let mut path = Vec::new();
            for ancestor in key.ancestors().into_iter().chain([key.clone()]) {
                let place = self.places.get(&ancestor.place()).copied().unwrap_or(usize::MAX);
                let number = ancestor.number().map_or(0, |number| number + 1);
                path.push((place, number));
            }
            path
        };
        let mut steps: Vec<(Vec<(usize, usize)>, &StepState)> =
            self.steps.iter().map(|step| (rank(&step.step), step)).collect();
        steps.sort_by(|a, b| a.0.cmp(&b.0));
        steps.into_iter().map(|(_, step)| step).collect()
    }

    fn end(&mut self, at: Timestamp, status: RunStatus, failure: Option<Failure>) {
        self.status = status;
        self.ended = Some(at);
        self.failure = failure;
        for step in &mut self.steps {
            match step.status {
                // A run that is over waits for nobody.
                StepStatus::InProgress | StepStatus::Waiting if status != RunStatus::Waiting => {
                    step.status = StepStatus::Cancelled;
                    step.question = None;
                    step.ended = Some(at);
                }
                // What was not reached, or is inside of what was skipped.
                StepStatus::Pending if matches!(status, RunStatus::Completed | RunStatus::Failed) => {
                    step.status = StepStatus::Skipped;
                    step.ended = Some(at);
                }
                _ => {}
            }
        }
    }

    fn apply_to_step(&mut self, event: &Event) {
        let at = event.at;
        if let Fact::StepCompleted(StepCompleted { artifact: Some(artifact), .. }) = &event.fact {
            self.completed.insert(event.seq, artifact.clone());
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
        self.touch(key, at);
        let Some(step) = self.step_at(key).and_then(|at| self.steps.get_mut(at)) else { return };
        match &event.fact {
            Fact::StepKept(_) => {
                step.status = StepStatus::Completed;
                step.kept = true;
                step.artifact = kept;
                step.started.get_or_insert(at);
                step.ended = Some(at);
            }
            Fact::StepStarted(fact) => {
                // A question that was asked before still waits for its answer.
                let asks = step.question.is_some() && fact.attempt <= step.attempts;
                step.status = if asks { StepStatus::Waiting } else { StepStatus::InProgress };
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
                step.artifact = fact.artifact.clone();
                step.question = None;
                step.started.get_or_insert(at);
                step.ended = Some(at);
            }
            Fact::StepFailed(fact) => {
                step.status = StepStatus::Failed;
                step.failure = Some(fact.failure.clone());
                step.question = None;
                step.started.get_or_insert(at);
                step.ended = Some(at);
            }
            Fact::StepSkipped(fact) => {
                step.status = StepStatus::Skipped;
                step.reason = Some(fact.reason.clone());
                step.ended = Some(at);
            }
            Fact::ArtifactAccepted(fact) => step.artifact = Some(fact.artifact.clone()),
            Fact::ApprovalAsked(fact) => {
                step.status = StepStatus::Waiting;
                step.question = Some(fact.shown.clone());
            }
            Fact::ApprovalAnswered(_) => {
                step.status = StepStatus::InProgress;
                step.question = None;
            }
            Fact::RunStarted(_) | Fact::RunResumed(_) | Fact::RunEnded(_) => {}
        }
    }

    /// What a step is inside of is going on.
    fn touch(&mut self, key: &StepKey, at: Timestamp) {
        for ancestor in key.ancestors() {
            let Some(step) = self.at.get(&ancestor).and_then(|at| self.steps.get_mut(*at)) else { continue };
            if matches!(step.status, StepStatus::Pending | StepStatus::Waiting) {
                step.status = StepStatus::InProgress;
                step.started.get_or_insert(at);
            }
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
        let steps = self.in_order();
        let artifacts = steps.iter().filter_map(|step| step.artifact.as_ref());
        RunReport {
            run: self.run.to_string(),
            pipeline: self.pipeline.clone(),
            status: self.status,
            success: self.status == RunStatus::Completed,
            started_at: self.started,
            ended_at: self.ended,
            workspace: self.workspace.clone(),
            error: self.failure.clone(),
            steps: steps.iter().map(|step| StepReport::of(step)).collect(),
            artifacts: artifacts.filter_map(|artifact| self.artifact_report(artifact)).collect(),
            usage: self.usage(),
            cost_usd: self.cost(),
            result: self.result(),
        }
    }

    /// What the pipeline gives: its `outputs:`, else what its last step with an output produced.
    fn result(&self) -> Option<Value> {
        if self.outputs.is_some() {
            return self.outputs.clone();
        }
        let top = |step: &&PlannedStep| step.step.ancestors().is_empty();
        // Journals of early versions do not tell which steps have an output: all of them had.
        let tells = self.planned.iter().any(|step| step.output.is_some());
        let last = self.planned.iter().filter(top).rfind(|step| step.output.is_some() || !tells)?;
        let step = self.at.get(&last.step).and_then(|at| self.steps.get(*at))?;
        step.artifact.as_ref().map(|artifact| artifact.value.clone())
    }

    fn artifact_report(&self, artifact: &Artifact) -> Option<ArtifactReport> {
        let path = std::path::Path::new(&self.workspace).join(artifact.path.as_ref()?);
        Some(ArtifactReport {
            name: artifact.name.clone(),
            path: path.display().to_string(),
            digest: artifact.digest.to_string(),
        })
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
        Fact::ApprovalAsked(fact) => Some(&fact.step),
        Fact::ApprovalAnswered(fact) => Some(&fact.step),
        Fact::RunStarted(_) | Fact::RunResumed(_) | Fact::RunEnded(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;
    use crate::model::event::{Recipe, RunEnded, RunStarted, StepStarted};

    fn events() -> Vec<Event> {
        let run = RunId(uuid::Uuid::nil());
        let step = StepKey::root("plan");
        let model = ModelRef::new("lab", "m");
        let recipe = Recipe { ask: Digest::of(b"a"), take: Digest::of(b"t") };
        let planned = PlannedStep {
            step: step.clone(),
            agent: "planner".into(),
            model: Some(model.clone()),
            output: Some("plan".into()),
            ..PlannedStep::default()
        };
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
                budget: None,
                steps: vec![planned],
                workflow_id: None,
                version: "0".into(),
            }),
            Fact::StepStarted(StepStarted {
                step: step.clone(),
                attempt: 1,
                agent: "planner".into(),
                model: Some(model),
                recipe: recipe.clone(),
                parts: Vec::new(),
                why: None,
            }),
            Fact::StepCompleted(StepCompleted {
                step,
                attempt: 1,
                recipe,
                reused: None,
                artifact: Some(Artifact::new("plan", serde_json::json!({ "a": 1.50 }), Some("plan.json".into()))),
            }),
            Fact::RunEnded(RunEnded { status: RunStatus::Completed, failure: None, result: None }),
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
