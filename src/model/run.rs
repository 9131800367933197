//! The state of a run: a pure fold over its events.

mod report;
mod steps;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::budget::Budget;
use super::chat::ModelRef;
use super::event::{Artifact, Event, Fact, PlannedStep, RunStatus};
use super::failure::Failure;
use super::id::{RunId, StepKey};
use super::step_state::StepState;

/// The state of a run, as far as its events show.
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
    /// The values of the inputs.
    pub inputs: Map<String, Value>,
    /// The model given for all agents, if any.
    pub model: Option<String>,
    /// What model names resolved to.
    pub models: BTreeMap<String, ModelRef>,
    /// Whether the run continues after a failure by default.
    pub continue_on_error: bool,
    /// The limits given for the run (`--budget`), if any.
    pub budget: Option<Budget>,
    /// Its status.
    pub status: RunStatus,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How many sessions it has had: how often a process started or resumed it.
    pub sessions: u32,
    /// The total time of the sessions before the current one.
    worked_before: Duration,
    /// The start of the current session, and the last time that is known of it.
    session: Option<(Timestamp, Timestamp)>,
    /// Why it failed, if no step's failure says so.
    pub failure: Option<Failure>,
    /// The value of the pipeline's `outputs:`, if it has any.
    pub outputs: Option<Value>,
    /// The steps in the order in which they came up: first the announced ones, then items and rounds.
    /// [`RunState::in_order`] returns them in the order of the file.
    pub steps: Vec<StepState>,
    /// Steps that the files no longer have; what they used still counts.
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
            sessions: 0,
            worked_before: Duration::ZERO,
            session: None,
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

    /// Applies one more event.
    pub fn apply(&mut self, event: &Event) {
        self.take_time(event);
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
                if let Some(place) = &fact.relocated_to {
                    self.root.clone_from(&place.root);
                    self.workspace.clone_from(&place.workspace);
                }
                self.failure = None;
                self.outputs = None;
                self.model.clone_from(&fact.model);
                self.models.clone_from(&fact.models);
                self.continue_on_error = fact.continue_on_error;
                self.budget.clone_from(&fact.budget);
                self.steps.iter_mut().for_each(StepState::lose_call);
                self.replan(&fact.steps);
            }
            Fact::RunEnded(fact) => {
                self.end(event.at, fact.status, fact.failure.clone());
                self.outputs.clone_from(&fact.result);
            }
            _ => self.apply_to_step(event),
        }
    }

    /// How long processes worked on the run, without the time in between.
    pub fn worked(&self) -> Duration {
        self.worked_before + self.session.map_or(Duration::ZERO, |(began, last)| between(began, last))
    }

    /// Adds up the time of the sessions. A session whose process died lasts until its last heartbeat.
    fn take_time(&mut self, event: &Event) {
        let began = match &event.fact {
            Fact::RunStarted(_) => true,
            Fact::RunResumed(fact) => {
                if let Some(((_, last), seen)) = self.session.as_mut().zip(fact.previous_owner_last_heartbeat) {
                    *last = seen.max(*last);
                }
                true
            }
            _ => false,
        };
        if began {
            self.worked_before = self.worked();
            self.sessions += 1;
            self.session = Some((event.at, event.at));
        } else if let Some((_, last)) = &mut self.session {
            *last = event.at;
        }
        if let Fact::RunEnded(_) = &event.fact {
            self.worked_before = self.worked();
            self.session = None;
        }
    }

    /// Marks the run as interrupted, since its process died: calls in flight are lost.
    pub fn interrupt(&mut self) {
        self.status = RunStatus::Interrupted;
        self.steps.iter_mut().for_each(StepState::lose_call);
    }

    /// Sets the steps of a plan, all pending.
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

    /// Sets the steps that the files of a resumed run have now; what was used so far still counts.
    fn replan(&mut self, planned: &[PlannedStep]) {
        let mut old: HashMap<StepKey, StepState> =
            std::mem::take(&mut self.steps).into_iter().map(|step| (step.step.clone(), step)).collect();
        self.plan(planned);
        for step in &mut self.steps {
            if let Some(old) = old.remove(&step.step) {
                step.take_over(old);
            }
        }
        // Items and rounds are added again when they come up; until then `gone` has what they used.
        self.gone.extend(old.into_values().filter(|step| step.calls > 0 || !step.usage.is_nothing()));
        self.gone_at = self.gone.iter().enumerate().map(|(at, step)| (step.step.clone(), at)).collect();
    }

    /// The index of a step's state, which is created if it is an item, or in a round, that comes up.
    fn step_at(&mut self, key: &StepKey) -> Option<usize> {
        if let Some(at) = self.at.get(key) {
            return Some(*at);
        }
        let planned = self.places.get(&key.place()).and_then(|place| self.planned.get(*place))?;
        let mut step = StepState::pending(key.clone(), planned);
        if let Some(old) = self.gone_at.remove(key) {
            step.take_over(self.gone.swap_remove(old));
            // `swap_remove` has moved the last one to the free index.
            if let Some(moved) = self.gone.get(old) {
                self.gone_at.insert(moved.step.clone(), old);
            }
        }
        self.at.insert(key.clone(), self.steps.len());
        self.steps.push(step);
        Some(self.steps.len() - 1)
    }

    /// Whether a step is a `for_each` as a whole, whose items have states of their own.
    pub fn runs_over_items(&self, step: &StepState) -> bool {
        self.at.contains_key(&step.step.item(0))
    }

    /// A step by its key.
    pub fn step(&self, key: &StepKey) -> Option<&StepState> {
        self.at.get(key).and_then(|at| self.steps.get(*at))
    }

    /// The steps in the order of the file, with items and rounds in numerical order.
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
}

/// The time between two moments; zero if the clock was set back in between.
fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
