//! The reference model: evaluates what a pipeline does according to the documentation.
//!
//! It does not use the engine. Time is a number: each call has the duration that the script specifies, and everything
//! else takes no time. The model evaluates parallel steps one after another, each from its own start time. If one of
//! them fails and halts the group, the model evaluates the others again, without the calls that would start after the
//! failure.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::history::{Fact, RunHistory};
use super::pipeline::{ForEachSpec, ItemSource, OnError, Step, StepInput, When};
use super::script::{Script, hash};

/// A time that no session reaches.
pub(crate) const NEVER: u64 = u64::MAX;

/// Evaluates one session of a run.
pub(crate) struct Model<'a> {
    pub(crate) script: Script,
    pub(crate) session: u32,
    /// Whether the run has `--continue-on-error`.
    pub(crate) continue_on_error: bool,
    pub(crate) history: &'a RunHistory,
    /// The time of a stop. The calls that start at exactly this time have started before the stop.
    pub(crate) stop_time: Option<u64>,
    /// Whether the documentation allows several outcomes, because two events happened at the same time or two steps
    /// have the same request.
    pub(crate) is_ambiguous: Cell<bool>,
}

/// The values that a step can use, and the state of the run when it starts.
#[derive(Clone, Default)]
pub(crate) struct EvalScope {
    pub(crate) artifacts: BTreeMap<String, Value>,
    /// The value of the input `p` of a called pipeline.
    pub(crate) call_input: Option<Value>,
    /// The item of a `for_each`, with its index.
    pub(crate) item: Option<(Value, usize)>,
    pub(crate) round: Option<u32>,
    pub(crate) statuses: BTreeMap<String, &'static str>,
    /// The artifacts of the previous iteration; empty in the first iteration.
    pub(crate) previous_iteration: BTreeMap<String, Value>,
    /// A number that changes with every execution that writes into the workspace.
    pub(crate) workspace_version: u64,
    /// Whether the step is inside an item or a called pipeline, whose artifacts have no files.
    pub(crate) in_item_or_call: bool,
    pub(crate) in_finally: bool,
}

/// How a step, an item or a list of steps ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Completed,
    /// It failed with this class.
    Failed(String),
    /// A parallel step failed and halted the group.
    GroupHalted,
    /// It waits for an approval.
    Parked,
    /// The user stopped the run.
    Stopped,
}

/// The result of evaluating a step, an item or a list of steps.
#[derive(Clone)]
pub(crate) struct Evaluation {
    pub(crate) end_time: u64,
    pub(crate) facts: Vec<Fact>,
    pub(crate) ending: Ending,
    pub(crate) value: Option<Value>,
    /// The artifacts that later steps can use.
    pub(crate) artifacts: Vec<(String, Value)>,
    pub(crate) statuses: Vec<(String, &'static str)>,
    pub(crate) workspace_version: u64,
    /// The class of the first failure, at any depth.
    pub(crate) first_failure: Option<String>,
}

impl Evaluation {
    /// Creates the result of an evaluation that starts at `time` and has done nothing yet.
    pub(crate) fn new(time: u64, scope: &EvalScope) -> Self {
        let (facts, artifacts, statuses) = Default::default();
        Self {
            end_time: time,
            facts,
            ending: Ending::Completed,
            value: None,
            artifacts,
            statuses,
            workspace_version: scope.workspace_version,
            first_failure: None,
        }
    }

    pub(crate) fn set_artifact(&mut self, name: &str, value: Value) {
        match self.artifacts.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value,
            None => self.artifacts.push((name.to_owned(), value)),
        }
    }

    /// Adds the result of a later or a parallel evaluation.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.facts.extend(other.facts.iter().cloned());
        other.artifacts.iter().for_each(|(name, value)| self.set_artifact(name, value.clone()));
        self.statuses.extend(other.statuses.iter().cloned());
        self.note_failure(other.first_failure.as_ref());
        self.end_time = self.end_time.max(other.end_time);
    }

    /// Stores the class of a failure, unless there is an earlier failure.
    pub(crate) fn note_failure(&mut self, class: Option<&String>) {
        self.first_failure = self.first_failure.take().or_else(|| class.cloned());
    }

    /// The value of a group: an object with its artifacts.
    fn artifacts_object(&self) -> Value {
        Value::Object(self.artifacts.iter().cloned().collect())
    }
}

impl EvalScope {
    /// Adds the artifacts, statuses and writes of an evaluation.
    pub(crate) fn apply(&mut self, evaluation: &Evaluation) {
        self.artifacts.extend(evaluation.artifacts.iter().cloned());
        self.statuses.extend(evaluation.statuses.iter().cloned());
        self.workspace_version = evaluation.workspace_version;
    }
}

/// The path of a step inside the step at `path`.
pub(crate) fn child_path(path: &str, id: &str) -> String {
    if path.is_empty() { id.to_owned() } else { format!("{path}/{id}") }
}

impl Model<'_> {
    /// Evaluates steps one after another. No call starts at or after `halt_time`.
    pub(crate) fn evaluate_steps(
        &self,
        path: &str,
        steps: &[Step],
        scope: &EvalScope,
        time: u64,
        halt_time: u64,
    ) -> Evaluation {
        let mut total = Evaluation::new(time, scope);
        let mut scope = scope.clone();
        let mut failed_step: Option<(String, String)> = None;
        for step in steps {
            let key = child_path(path, &step.id);
            if let Some((id, _)) = &failed_step {
                total.statuses.push((step.id.clone(), "skipped"));
                total.facts.push(Fact::step_ended(total.end_time, &key, "skipped", format!("step `{id}` failed")));
                continue;
            }
            let evaluation = self.evaluate_step(&key, step, &scope, total.end_time, halt_time);
            scope.apply(&evaluation);
            total.merge(&evaluation);
            total.workspace_version = evaluation.workspace_version;
            match evaluation.ending {
                Ending::Completed => {}
                Ending::Failed(class) => failed_step = Some((step.id.clone(), class)),
                Ending::GroupHalted | Ending::Parked | Ending::Stopped => {
                    return Evaluation { ending: evaluation.ending, ..total };
                }
            }
        }
        total.ending = failed_step.map_or(Ending::Completed, |(_, class)| Ending::Failed(class));
        total
    }

    /// Evaluates a step of a list. The ending is `Failed` only if the failure stops the list.
    pub(crate) fn evaluate_step(
        &self,
        path: &str,
        step: &Step,
        scope: &EvalScope,
        time: u64,
        halt_time: u64,
    ) -> Evaluation {
        let mut skipped = Evaluation::new(time, scope);
        let mut skip = |reason: String| {
            skipped.facts.push(Fact::step_ended(time, path, "skipped", reason));
            skipped.statuses.push((step.id.clone(), "skipped"));
            skipped.clone()
        };
        let is_missing = |input: &&StepInput| !input.optional && !scope.artifacts.contains_key(&input.name);
        if let Some(input) = step.inputs.iter().find(is_missing) {
            return skip(format!("input `{}` missing", input.name));
        }
        let condition = step.when.as_ref().map_or(Some(true), |when| match when {
            When::Ok(name) => scope.artifacts.get(name).and_then(|value| value["ok"].as_bool()),
            When::Completed(id) => scope.statuses.get(id).map(|status| *status == "completed"),
            When::NotABoolean(_) => None,
        });
        if condition == Some(false) {
            return skip("when:".to_owned());
        }
        let mut evaluation = match (condition, &step.for_each) {
            (None, _) => self.fail_step(path, Evaluation::new(time, scope), "expression_error"),
            (Some(_), Some(for_each)) => self.evaluate_items(path, step, for_each, scope, time, halt_time),
            (Some(_), None) => self.evaluate_step_or_item(path, step, scope, time, halt_time),
        };
        let stops = match step.on_error {
            Some(on_error) => on_error == OnError::Stop,
            None => !self.continue_on_error,
        };
        match &evaluation.ending {
            Ending::Completed => {
                if let (Some(name), Some(value)) = (&step.output, &evaluation.value) {
                    evaluation.set_artifact(name, value.clone());
                }
                evaluation.statuses.push((step.id.clone(), "completed"));
            }
            Ending::Failed(_) => {
                evaluation.statuses.push((step.id.clone(), "failed"));
                if !stops {
                    evaluation.ending = Ending::Completed;
                }
            }
            Ending::GroupHalted | Ending::Parked | Ending::Stopped => {}
        }
        evaluation
    }

    /// Ends a step or an item with a failure.
    pub(crate) fn fail_step(&self, path: &str, mut evaluation: Evaluation, class: &str) -> Evaluation {
        evaluation.facts.push(Fact::step_ended(evaluation.end_time, path, "failed", class.to_owned()));
        evaluation.note_failure(Some(&class.to_owned()));
        Evaluation { ending: Ending::Failed(class.to_owned()), value: None, ..evaluation }
    }

    /// Evaluates the items of a `for_each`.
    fn evaluate_items(
        &self,
        path: &str,
        step: &Step,
        for_each: &ForEachSpec,
        scope: &EvalScope,
        time: u64,
        halt_time: u64,
    ) -> Evaluation {
        let values = match &for_each.items {
            ItemSource::Literal(count) => Some((1..=*count).map(Value::from).collect()),
            ItemSource::Artifact(name) => scope.artifacts.get(name).and_then(|value| value["list"].as_array().cloned()),
            ItemSource::NotAList(_) => None,
        };
        let Some(values) = values else {
            return self.fail_step(path, Evaluation::new(time, scope), "expression_error");
        };
        let stops = match step.on_error {
            Some(on_error) => on_error == OnError::Stop,
            None => !self.continue_on_error,
        };
        let evaluate_item = |index: usize, value: &Value, workspace_version: u64, start: u64, halt_time: u64| {
            let scope = EvalScope {
                item: Some((value.clone(), index)),
                in_item_or_call: true,
                workspace_version,
                ..scope.clone()
            };
            self.evaluate_step_or_item(&format!("{path}[{index}]"), step, &scope, start, halt_time)
        };
        let mut total = Evaluation::new(time, scope);
        let items: Vec<Option<Evaluation>> = if for_each.limit == 1 {
            let mut ended_items: Vec<Option<Evaluation>> = Vec::new();
            for (index, value) in values.iter().enumerate() {
                if stops
                    && ended_items.iter().flatten().any(|evaluation| matches!(evaluation.ending, Ending::Failed(_)))
                {
                    break;
                }
                let evaluation = evaluate_item(index, value, total.workspace_version, total.end_time, halt_time);
                total.end_time = evaluation.end_time;
                total.workspace_version = evaluation.workspace_version;
                if matches!(evaluation.ending, Ending::GroupHalted | Ending::Parked | Ending::Stopped) {
                    total.facts.extend(
                        ended_items
                            .into_iter()
                            .flatten()
                            .flat_map(|evaluation| evaluation.facts)
                            .chain(evaluation.facts),
                    );
                    return Evaluation { ending: evaluation.ending, ..total };
                }
                ended_items.push(Some(evaluation));
            }
            ended_items.resize_with(values.len(), || None);
            ended_items
        } else {
            let evaluate = |index: usize, start: u64, halt_time: u64| {
                evaluate_item(index, &values[index], scope.workspace_version, start, halt_time)
            };
            match self.evaluate_parallel(values.len(), for_each.limit, stops, time, halt_time, &evaluate) {
                Ok(items) => items,
                Err(ended_early) => return *ended_early,
            }
        };
        let mut entries = Vec::new();
        let mut first_failed_class = None;
        for (index, evaluation) in items.iter().enumerate() {
            let Some(evaluation) = evaluation else { continue };
            total.facts.extend(evaluation.facts.iter().cloned());
            total.note_failure(evaluation.first_failure.as_ref());
            total.end_time = total.end_time.max(evaluation.end_time);
            let value = evaluation.value.clone().unwrap_or(Value::Null);
            let reports_status = step.on_error == Some(OnError::Continue);
            match &evaluation.ending {
                Ending::Completed if reports_status => {
                    entries.push(json!({ "index": index, "status": "completed", "value": value }))
                }
                Ending::Completed => entries.push(value),
                Ending::Failed(class) if reports_status => {
                    entries.push(json!({ "index": index, "status": "failed", "error": { "class": class } }));
                }
                Ending::Failed(class) => first_failed_class = first_failed_class.or(Some(class.clone())),
                Ending::GroupHalted | Ending::Parked | Ending::Stopped => {}
            }
        }
        if let Some(class) = first_failed_class {
            return self.fail_step(path, total, &class);
        }
        self.complete_step(path, step, scope, total, Some(Value::Array(entries)))
    }

    /// Ends a group, or an item that is a group.
    pub(crate) fn end_group(&self, path: &str, step: &Step, scope: &EvalScope, evaluation: Evaluation) -> Evaluation {
        let is_item = step.for_each.is_some();
        let value = evaluation.artifacts_object();
        let mut evaluation = match evaluation.ending.clone() {
            Ending::Completed => self.complete_step(path, step, scope, evaluation, Some(value)),
            Ending::Failed(class) => self.fail_step(path, evaluation, &class),
            // A cancelled group has no artifacts.
            Ending::GroupHalted | Ending::Parked | Ending::Stopped => {
                Evaluation { artifacts: Vec::new(), statuses: Vec::new(), ..evaluation }
            }
        };
        if is_item {
            evaluation.artifacts.clear();
            evaluation.statuses.clear();
        }
        evaluation
    }

    /// Ends a step or an item that completed.
    pub(crate) fn complete_step(
        &self,
        path: &str,
        step: &Step,
        scope: &EvalScope,
        mut evaluation: Evaluation,
        value: Option<Value>,
    ) -> Evaluation {
        let artifact = step.output.as_ref().and(value.clone());
        evaluation.facts.push(Fact::StepEnded {
            time: evaluation.end_time,
            path: path.to_owned(),
            status: "completed",
            reason: String::new(),
            value: artifact,
        });
        if let (Some(name), Some(value), false) = (&step.output, &value, scope.in_item_or_call) {
            evaluation.facts.push(Fact::FileWritten {
                time: evaluation.end_time,
                path: format!("{name}.json"),
                content: value.to_string(),
            });
        }
        Evaluation { ending: Ending::Completed, value, ..evaluation }
    }

    /// A number that identifies the execution of a step in this session.
    pub(crate) fn execution_id(&self, path: &str) -> u64 {
        hash(&["execution", &self.session.to_string(), path])
    }
}
