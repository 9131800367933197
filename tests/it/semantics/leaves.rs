//! The steps of the reference model that contain no other steps.

use serde_json::{Value, json};

use super::history::{Fact, HistoryLookup};
use super::pipeline::{Access, Kind, Step};
use super::reference::{Ending, EvalScope, Evaluation, Model};
use super::script::{ScriptedOutcome, answer, hash};

/// The default of `re_ask`.
const RE_ASKS: u32 = 2;

/// A running step that contains no other steps.
struct RunningLeaf<'a> {
    model: &'a Model<'a>,
    path: &'a str,
    fingerprint: String,
    evaluation: Evaluation,
    halt_time: u64,
    /// The time of a stop, unless the step ignores stops.
    stop_time: Option<u64>,
    is_command: bool,
    ended_calls: usize,
    /// The outcomes of an unfinished attempt of an earlier session.
    replayed_outcomes: std::vec::IntoIter<ScriptedOutcome>,
}

impl RunningLeaf<'_> {
    /// Makes one call. Returns `None` if the call does not start or does not end.
    fn call(&mut self, is_question: bool) -> Option<ScriptedOutcome> {
        if let Some(outcome) = self.replayed_outcomes.next() {
            return Some(outcome);
        }
        let (model, path, time) = (self.model, self.path.to_owned(), self.evaluation.end_time);
        if time >= self.halt_time {
            self.evaluation.facts.push(Fact::CallHalted { time });
            self.evaluation.ending = Ending::GroupHalted;
            return None;
        }
        if self.stop_time.is_some_and(|stop_time| time > stop_time) {
            self.evaluation.ending = Ending::Stopped;
            return None;
        }
        let outcome = model.script.outcome(model.session, &path, self.ended_calls, is_question);
        let end_time = time + model.script.call_duration(model.session, &path, self.ended_calls);
        // A stop waits for a request in flight, but not for a command or a question.
        let is_cancelled = |stop_time: &u64| {
            end_time > *stop_time && (self.is_command || (is_question && *stop_time < self.halt_time))
        };
        if let Some(stop_time) = self.stop_time.filter(is_cancelled) {
            self.evaluation.ending = Ending::Stopped;
            self.evaluation.end_time = stop_time;
            return None;
        }
        if is_question && end_time > self.halt_time {
            // The run does not wait for an answer that has no effect.
            self.evaluation.ending = Ending::GroupHalted;
            self.evaluation.end_time = self.halt_time;
            return None;
        }
        self.evaluation.facts.push(Fact::Call {
            start: time,
            end: end_time,
            path,
            fingerprint: self.fingerprint.clone(),
            outcome,
        });
        self.evaluation.end_time = end_time;
        if outcome == ScriptedOutcome::Unanswered {
            self.evaluation.ending = Ending::Parked;
            return None;
        }
        self.ended_calls += 1;
        Some(outcome)
    }
}

impl Model<'_> {
    /// Evaluates a step, or one item of a step with `for_each`.
    pub(crate) fn evaluate_step_or_item(
        &self,
        path: &str,
        step: &Step,
        scope: &EvalScope,
        time: u64,
        halt_time: u64,
    ) -> Evaluation {
        match &step.kind {
            Kind::Parallel { limit, steps } => {
                // In a `parallel` step with `for_each`, `max_parallel` limits the items and the steps of the group.
                let limit = step.for_each.as_ref().map(|for_each| for_each.limit).or(*limit);
                match self.evaluate_parallel_group(path, limit, steps, (scope, time, halt_time)) {
                    Ok(evaluation) => self.end_group(path, step, scope, evaluation),
                    Err(ended_early) => *ended_early,
                }
            }
            Kind::Repeat { until, max, continues, steps } => {
                let evaluation = self.evaluate_iterations(
                    path,
                    (until.as_ref(), *max, *continues, steps),
                    &step.inputs,
                    (scope, time, halt_time),
                );
                self.end_group(path, step, scope, evaluation)
            }
            Kind::Steps(steps) => {
                let evaluation = self.evaluate_steps(path, steps, scope, time, halt_time);
                self.end_group(path, step, scope, evaluation)
            }
            Kind::Call(pipeline) => {
                let call_input =
                    step.required_input().map_or(json!([1, 2]), |input| scope.artifacts[&input.name].clone());
                let inner_scope = EvalScope {
                    call_input: Some(call_input),
                    in_item_or_call: true,
                    workspace_version: scope.workspace_version,
                    in_finally: scope.in_finally,
                    ..EvalScope::default()
                };
                let mut evaluation = self.evaluate_pipeline(path, pipeline, &inner_scope, time, halt_time);
                evaluation.statuses.clear();
                evaluation.artifacts.clear();
                if evaluation.ending == Ending::Completed {
                    // The failures inside a completed step do not fail the run.
                    evaluation.first_failure = None;
                    let outputs = evaluation.value.take().unwrap_or_default();
                    outputs
                        .as_object()
                        .into_iter()
                        .flatten()
                        .for_each(|(name, value)| evaluation.set_artifact(name, value.clone()));
                }
                self.end_group(path, step, scope, evaluation)
            }
            Kind::Agent { .. } | Kind::Run { .. } | Kind::Write { .. } | Kind::Approve { .. } => {
                self.evaluate_leaf(path, step, scope, time, halt_time)
            }
        }
    }

    /// Evaluates a step that contains no other steps.
    fn evaluate_leaf(&self, path: &str, step: &Step, scope: &EvalScope, time: u64, halt_time: u64) -> Evaluation {
        let text = step_text(step, scope);
        let access = match &step.kind {
            Kind::Run { access, .. } => *access,
            Kind::Write { .. } => Access::Write,
            _ => Access::None,
        };
        let fingerprint = match access {
            Access::None => text.clone(),
            Access::Read | Access::Write => format!("{text} in {}", scope.workspace_version),
        };
        let mut evaluation = Evaluation::new(time, scope);
        let version_after =
            |execution: u64| hash(&["tree", &scope.workspace_version.to_string(), &execution.to_string()]);
        if !scope.in_finally {
            match self.history.lookup(path, &fingerprint, access != Access::None) {
                HistoryLookup::Reusable(recorded) => {
                    if access == Access::Write {
                        evaluation.workspace_version = version_after(recorded.execution);
                    }
                    return self.complete_step(path, step, scope, evaluation, recorded.value.clone());
                }
                HistoryLookup::OtherStep => self.is_ambiguous.set(true),
                HistoryLookup::NotFound => {}
            }
        }
        if time >= halt_time {
            evaluation.facts.push(Fact::CallHalted { time });
            return Evaluation { ending: Ending::GroupHalted, ..evaluation };
        }
        // `finally` continues after a stop.
        let stop_time = self.stop_time.filter(|_| !scope.in_finally);
        if stop_time.is_some_and(|stop_time| time > stop_time) {
            return Evaluation { ending: Ending::Stopped, ..evaluation };
        }
        evaluation.facts.push(Fact::StepStarted { time, path: path.to_owned() });
        let mut leaf = RunningLeaf {
            model: self,
            path,
            evaluation,
            halt_time,
            stop_time,
            is_command: matches!(step.kind, Kind::Run { .. }),
            ended_calls: self.history.call_count(path),
            replayed_outcomes: self.history.replayed_outcomes(path, &fingerprint).into_iter(),
            fingerprint: fingerprint.clone(),
        };
        let result = match &step.kind {
            Kind::Agent { max_tries, fallback } => leaf.run_agent(max_tries.unwrap_or(3), 1 + usize::from(*fallback)),
            Kind::Run { max_tries, .. } => leaf.run_command(max_tries.unwrap_or(1), step.output.is_some()),
            Kind::Write { escapes_workspace } => leaf.write_files(*escapes_workspace),
            Kind::Approve { continues } => leaf.ask_for_approval(*continues),
            _ => Some(Ok(())),
        };
        let mut evaluation = leaf.evaluation;
        let Some(result) = result else { return evaluation };
        let outcome = result.err().unwrap_or("completed");
        // A step that repeats its last execution changes nothing for the later steps.
        let repeated = self.history.repeated_execution(path, &fingerprint, outcome);
        let execution = repeated.unwrap_or_else(|| self.execution_id(path));
        if access == Access::Write {
            evaluation.workspace_version = version_after(execution);
        }
        evaluation.facts.push(Fact::ExecutionEnded {
            time: evaluation.end_time,
            path: path.to_owned(),
            fingerprint: fingerprint.clone(),
            outcome: outcome.to_owned(),
            execution,
        });
        match result {
            Err(class) => self.fail_step(path, evaluation, class),
            Ok(()) => {
                let value = match &step.kind {
                    Kind::Approve { .. } => {
                        let is_rejection =
                            |fact: &Fact| matches!(fact, Fact::Call { outcome: ScriptedOutcome::PermanentFailure, .. });
                        let is_rejected = evaluation.facts.iter().any(is_rejection);
                        Some(json!({ "approved": !is_rejected, "note": "", "by": "test" }))
                    }
                    Kind::Write { .. } => {
                        let (name, content) = written_file(step, scope);
                        evaluation.facts.push(Fact::FileWritten { time: evaluation.end_time, path: name, content });
                        None
                    }
                    _ => step.output.is_some().then(|| answer(&text)),
                };
                evaluation.facts.push(Fact::StepResult {
                    time: evaluation.end_time,
                    path: path.to_owned(),
                    fingerprint,
                    value: value.clone(),
                    execution,
                });
                self.complete_step(path, step, scope, evaluation, value)
            }
        }
    }
}

/// The calls of each kind of step. The methods return the class of a failure, or `None` if the step did not end.
impl RunningLeaf<'_> {
    fn run_agent(&mut self, max_tries: u32, model_count: usize) -> Option<Result<(), &'static str>> {
        let mut class = "";
        for _ in 0..model_count {
            for attempt in 1..=max_tries {
                let mut re_asks = 0;
                class = loop {
                    match self.call(false)? {
                        ScriptedOutcome::Success | ScriptedOutcome::Unanswered => return Some(Ok(())),
                        ScriptedOutcome::NotJson if re_asks < RE_ASKS => re_asks += 1,
                        ScriptedOutcome::NotJson => break "no_json",
                        ScriptedOutcome::TransientFailure => break "timeout",
                        ScriptedOutcome::PermanentFailure => break "bad_request",
                    }
                };
                if class != "timeout" || attempt == max_tries {
                    break;
                }
            }
        }
        Some(Err(class))
    }

    fn run_command(&mut self, max_tries: u32, has_output: bool) -> Option<Result<(), &'static str>> {
        let mut class = "";
        for _ in 0..max_tries {
            class = match self.call(false)? {
                ScriptedOutcome::Success | ScriptedOutcome::Unanswered => return Some(Ok(())),
                ScriptedOutcome::NotJson if has_output => return Some(Err("no_json")),
                ScriptedOutcome::NotJson => return Some(Ok(())),
                ScriptedOutcome::TransientFailure => "timeout",
                ScriptedOutcome::PermanentFailure => "command_failed",
            };
        }
        Some(Err(class))
    }

    /// Makes two calls: the snapshot of the files, and the write.
    fn write_files(&mut self, escapes_workspace: bool) -> Option<Result<(), &'static str>> {
        self.call(false)?;
        if escapes_workspace {
            return Some(Err("path_refused"));
        }
        self.call(false)?;
        Some(Ok(()))
    }

    fn ask_for_approval(&mut self, continues: bool) -> Option<Result<(), &'static str>> {
        match self.call(true)? {
            ScriptedOutcome::PermanentFailure if !continues => Some(Err("rejected")),
            _ => Some(Ok(())),
        }
    }
}

/// The text of a step, with the values that the step uses.
fn step_text(step: &Step, scope: &EvalScope) -> String {
    let mut text = format!("{} {}", step.id, step.revision);
    for input in &step.inputs {
        let (expression, artifacts) = if input.from_previous_iteration {
            (format!("loop.previous.{}", input.name), &scope.previous_iteration)
        } else {
            (input.name.clone(), &scope.artifacts)
        };
        let value = artifacts.get(&input.name).map_or_else(|| "-".to_owned(), Value::to_string);
        text += &format!("|{expression}={value}");
    }
    if let Some(call_input) = &scope.call_input {
        text += &format!("|p={call_input}");
    }
    if let Some((item, index)) = &scope.item {
        text += &format!("|item={item}@{index}");
    }
    if let Some(round) = scope.round {
        text += &format!("|loop={round}");
    }
    if let Kind::Write { .. } = step.kind {
        let (name, content) = written_file(step, scope);
        return format!("{name}: {content}");
    }
    text
}

/// The path and the content of the file that a `write` step writes.
fn written_file(step: &Step, scope: &EvalScope) -> (String, String) {
    let suffix = scope.item.as_ref().map_or_else(String::new, |(_, index)| format!("-{index}"));
    let content =
        step.required_input().map_or_else(|| "x".to_owned(), |input| scope.artifacts[&input.name].to_string());
    (format!("files/{}{suffix}", step.id), content)
}
