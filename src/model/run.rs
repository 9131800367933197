//! The state of a run: a pure fold over its events.

mod report;
mod steps;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::budget::Budget;
use super::event::{ApprovalAnswered, Artifact, Event, Fact, PlannedStep, RunReplay, RunStatus};
use super::failure::Failure;
use super::id::{Digest, RunId, StepKey};
use super::name::ModelRef;
use super::step_state::StepState;

/// The state of a run, computed from its events.
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
    /// The model that the user chose for all agents, if any.
    pub model: Option<String>,
    /// The models and CLI agents that the user chose for single agents, by the agent's name.
    pub agents: BTreeMap<String, String>,
    /// The models to which the names in the files resolved.
    pub models: BTreeMap<String, ModelRef>,
    /// Whether the run continues after the failure of a step without `on_error`.
    pub continue_on_error: bool,
    /// The budget that the user set for the run (`--budget`), if any.
    pub budget: Option<Budget>,
    /// The recordings that it replays, if it calls no models.
    pub replay: Option<RunReplay>,
    /// The folder into which it records its calls, if any: relative to the root if it is in the project, else absolute.
    pub recording_folder: Option<String>,
    /// Its status.
    pub status: RunStatus,
    /// When it started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The number of its sessions: how often a process started or resumed it.
    pub sessions: u32,
    /// The total time of the sessions before the current one.
    earlier_session_time: Duration,
    /// The start of the current session, and the time of its latest event or heartbeat.
    current_session: Option<(Timestamp, Timestamp)>,
    /// Why it failed, if no step has the failure.
    pub failure: Option<Failure>,
    /// The value of the pipeline's `outputs:`, if it has any.
    pub outputs: Option<Value>,
    /// The steps: first those of the plan, then items and iterations in the order in which they started.
    pub steps: Vec<StepState>,
    /// Steps that the files no longer have; their usage still counts.
    pub removed_steps: Vec<StepState>,
    planned: Vec<PlannedStep>,
    /// Indexes in `planned`.
    planned_index: HashMap<StepKey, usize>,
    /// Indexes in `steps`.
    step_index: HashMap<StepKey, usize>,
    /// Indexes in the list of removed steps.
    removed_index: HashMap<StepKey, usize>,
    /// The artifacts by the `seq` of their results.
    artifacts_by_seq: HashMap<u64, Artifact>,
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
            agents: BTreeMap::new(),
            models: BTreeMap::new(),
            continue_on_error: false,
            budget: None,
            replay: None,
            recording_folder: None,
            status: RunStatus::Running,
            started: None,
            ended: None,
            sessions: 0,
            earlier_session_time: Duration::ZERO,
            current_session: None,
            failure: None,
            outputs: None,
            steps: Vec::new(),
            removed_steps: Vec::new(),
            planned: Vec::new(),
            planned_index: HashMap::new(),
            step_index: HashMap::new(),
            removed_index: HashMap::new(),
            artifacts_by_seq: HashMap::new(),
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

    /// Applies the next event.
    pub fn apply(&mut self, event: &Event) {
        self.track_time(event);
        match &event.fact {
            Fact::RunStarted(fact) => {
                self.pipeline.clone_from(&fact.pipeline);
                self.root.clone_from(&fact.root);
                self.file.clone_from(&fact.file);
                self.workspace.clone_from(&fact.workspace);
                self.inputs = fact.inputs.clone();
                self.model.clone_from(&fact.model);
                self.agents.clone_from(&fact.agents);
                self.models.clone_from(&fact.models);
                self.continue_on_error = fact.continue_on_error;
                self.budget.clone_from(&fact.budget);
                self.replay.clone_from(&fact.replay);
                self.recording_folder.clone_from(&fact.recording_folder);
                self.started = Some(event.at);
                self.set_plan(&fact.steps);
            }
            Fact::RunResumed(fact) => {
                self.status = RunStatus::Running;
                self.ended = None;
                if let Some(location) = &fact.relocated_to {
                    self.root.clone_from(&location.root);
                    self.workspace.clone_from(&location.workspace);
                }
                self.failure = None;
                self.outputs = None;
                self.model.clone_from(&fact.model);
                self.agents.clone_from(&fact.agents);
                self.models.clone_from(&fact.models);
                self.continue_on_error = fact.continue_on_error;
                self.budget.clone_from(&fact.budget);
                self.replay.clone_from(&fact.replay);
                self.recording_folder.clone_from(&fact.recording_folder);
                self.steps.iter_mut().for_each(StepState::record_lost_call);
                self.replace_plan(&fact.steps);
            }
            Fact::RunEnded(fact) => {
                self.finish(event.at, fact.status, fact.failure.clone());
                self.outputs.clone_from(&fact.result);
            }
            // A later session has the raised budget too, as if the user had set it for the run.
            Fact::BudgetRaised(fact) if fact.budget != Budget::default() => self.budget = Some(fact.budget.clone()),
            _ => self.apply_to_step(event),
        }
    }

    /// The total time of the run's sessions, without the time between them.
    pub fn total_session_time(&self) -> Duration {
        self.earlier_session_time
            + self.current_session.map_or(Duration::ZERO, |(start, latest)| elapsed(start, latest))
    }

    /// Adds up the time of the sessions. A session whose process died lasts until its last heartbeat.
    fn track_time(&mut self, event: &Event) {
        let starts_session = match &event.fact {
            Fact::RunStarted(_) => true,
            Fact::RunResumed(fact) => {
                if let Some(((_, latest), heartbeat)) =
                    self.current_session.as_mut().zip(fact.previous_owner_last_heartbeat)
                {
                    *latest = heartbeat.max(*latest);
                }
                true
            }
            _ => false,
        };
        if starts_session {
            self.earlier_session_time = self.total_session_time();
            self.sessions += 1;
            self.current_session = Some((event.at, event.at));
        } else if let Some((_, latest)) = &mut self.current_session {
            *latest = event.at;
        }
        if let Fact::RunEnded(_) = &event.fact {
            self.earlier_session_time = self.total_session_time();
            self.current_session = None;
        }
    }

    /// Marks the run as interrupted because its process died. Calls in flight count as lost.
    pub fn mark_interrupted(&mut self) {
        self.status = RunStatus::Interrupted;
        self.steps.iter_mut().for_each(StepState::record_lost_call);
    }

    /// Adds an answer that no process has recorded as an event yet. A resume continues its step with it.
    pub fn add_pending_answer(&mut self, answer: &ApprovalAnswered) {
        let Some(step) = self.step_index.get(&answer.step).and_then(|index| self.steps.get_mut(*index)) else {
            return;
        };
        let is_asked = |question: &String| Digest::compute(question.as_bytes()) == answer.question_digest;
        if step.question.as_ref().is_some_and(is_asked) {
            step.answer = Some(answer.answer.clone());
        }
    }

    /// Sets the steps of a plan, all pending.
    fn set_plan(&mut self, planned: &[PlannedStep]) {
        self.planned = planned.to_vec();
        self.planned_index = planned.iter().enumerate().map(|(index, step)| (step.step.clone(), index)).collect();
        self.step_index.clear();
        self.steps.clear();
        for step in planned.iter().filter(|step| !step.many) {
            self.step_index.insert(step.step.clone(), self.steps.len());
            self.steps.push(StepState::new_pending(step.step.clone(), step));
        }
    }

    /// Replaces the steps with those of the current files when a run is resumed. The usage so far still counts.
    fn replace_plan(&mut self, planned: &[PlannedStep]) {
        let mut previous_steps: HashMap<StepKey, StepState> =
            std::mem::take(&mut self.steps).into_iter().map(|step| (step.key.clone(), step)).collect();
        self.set_plan(planned);
        for step in &mut self.steps {
            if let Some(previous) = previous_steps.remove(&step.key) {
                step.restore_totals(previous);
            }
        }
        // An item or iteration counts as removed until it starts again, so that its usage still counts.
        self.removed_steps.extend(previous_steps.into_values().filter(|step| step.calls > 0 || !step.usage.is_empty()));
        self.removed_index =
            self.removed_steps.iter().enumerate().map(|(index, step)| (step.key.clone(), index)).collect();
    }

    /// The index of a step's state. Creates the state of an item, or of a step in an iteration.
    fn ensure_step_index(&mut self, key: &StepKey) -> Option<usize> {
        if let Some(index) = self.step_index.get(key) {
            return Some(*index);
        }
        let planned = self.planned_index.get(&key.declared_key()).and_then(|index| self.planned.get(*index))?;
        let mut step = StepState::new_pending(key.clone(), planned);
        if let Some(index) = self.removed_index.remove(key) {
            step.restore_totals(self.removed_steps.swap_remove(index));
            // `swap_remove` moved the last step to the free index.
            if let Some(moved) = self.removed_steps.get(index) {
                self.removed_index.insert(moved.key.clone(), index);
            }
        }
        self.step_index.insert(key.clone(), self.steps.len());
        self.steps.push(step);
        Some(self.steps.len() - 1)
    }

    /// Whether a step is a `for_each` step whose items have their own states.
    pub fn has_item_states(&self, step: &StepState) -> bool {
        self.step_index.contains_key(&step.key.item(0))
    }

    /// A step by its key.
    pub fn step(&self, key: &StepKey) -> Option<&StepState> {
        self.step_index.get(key).and_then(|index| self.steps.get(*index))
    }

    /// The steps in the order of the file, with items and iterations in numerical order.
    pub fn steps_in_file_order(&self) -> Vec<&StepState> {
        // For each ancestor and the step itself: its position in the plan, and its number as an item or iteration.
        let sort_key = |key: &StepKey| -> Vec<(usize, usize)> {
            let mut path = Vec::new();
            for ancestor in key.ancestors().into_iter().chain([key.clone()]) {
                let planned = self.planned_index.get(&ancestor.declared_key()).copied().unwrap_or(usize::MAX);
                let item = ancestor.item_index().map_or(0, |item| item + 1);
                path.push((planned, item));
            }
            path
        };
        let mut steps: Vec<(Vec<(usize, usize)>, &StepState)> =
            self.steps.iter().map(|step| (sort_key(&step.key), step)).collect();
        steps.sort_by(|a, b| a.0.cmp(&b.0));
        steps.into_iter().map(|(_, step)| step).collect()
    }
}

/// The time between two timestamps; zero if the clock was set back in between.
fn elapsed(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
