//! The groups of the reference model: parallel steps and items, loops, and called pipelines.

use serde_json::{Map, Value};

use super::history::Fact;
use super::pipeline::{Step, StepInput, TestPipeline};
use super::reference::{Ending, EvalScope, Evaluation, Model, NEVER, child_path};

impl Model<'_> {
    /// Evaluates branches in parallel: at most `limit` at once, and the next branch as soon as one ends. If `stops` is
    /// set, the first failure halts the group: no other branch starts, and no running branch starts another call.
    pub(crate) fn evaluate_parallel(
        &self,
        count: usize,
        limit: usize,
        stops: bool,
        time: u64,
        halt_time: u64,
        evaluate: &dyn Fn(usize, u64, u64) -> Evaluation,
    ) -> Result<Vec<Option<Evaluation>>, Box<Evaluation>> {
        let mut evaluations: Vec<Option<Evaluation>> = (0..count).map(|_| None).collect();
        let mut start_times: Vec<u64> = vec![NEVER; count];
        let mut running: Vec<usize> = Vec::new();
        let (mut next, mut now, mut own_halt_time, mut is_cancelled) = (0, time, NEVER, false);
        loop {
            while running.len() < limit && next < count && own_halt_time == NEVER && !is_cancelled {
                start_times[next] = now;
                evaluations[next] = Some(evaluate(next, now, halt_time));
                running.push(next);
                next += 1;
            }
            let end_time = |index: usize| evaluations[index].as_ref().map_or(NEVER, |evaluation| evaluation.end_time);
            let Some(position) = (0..running.len()).min_by_key(|position| end_time(running[*position])) else { break };
            let index = running.remove(position);
            now = end_time(index);
            let ending = evaluations[index].as_ref().map(|evaluation| &evaluation.ending);
            is_cancelled |= matches!(ending, Some(Ending::GroupHalted | Ending::Stopped));
            if stops && matches!(ending, Some(Ending::Failed(_))) && own_halt_time == NEVER && !is_cancelled {
                own_halt_time = now;
                for other in &running {
                    evaluations[*other] = Some(evaluate(*other, start_times[*other], halt_time.min(own_halt_time)));
                    self.check_halted_calls(evaluations[*other].as_ref(), own_halt_time);
                }
            }
        }
        // A branch that ends exactly when another one fails may have ended before, so that the next branch could start.
        let ends_at_halt =
            |evaluation: &&Evaluation| evaluation.end_time == own_halt_time && evaluation.ending != Ending::GroupHalted;
        if evaluations.iter().flatten().filter(ends_at_halt).count() > 1 {
            self.is_ambiguous.set(true);
        }
        let cancelled_group = |evaluations: &[Option<Evaluation>], ending: Ending| {
            let mut total = Evaluation::new(time, &EvalScope::default());
            evaluations.iter().flatten().for_each(|evaluation| total.merge(evaluation));
            // A cancelled group has no artifacts.
            total.artifacts.clear();
            total.statuses.clear();
            Err(Box::new(Evaluation { ending, ..total }))
        };
        let has_ending = |ending: &Ending| evaluations.iter().flatten().any(|evaluation| evaluation.ending == *ending);
        if has_ending(&Ending::Stopped) {
            return cancelled_group(&evaluations, Ending::Stopped);
        }
        if has_ending(&Ending::GroupHalted) && own_halt_time == NEVER {
            return cancelled_group(&evaluations, Ending::GroupHalted);
        }
        if has_ending(&Ending::Parked) && own_halt_time == NEVER {
            return cancelled_group(&evaluations, Ending::Parked);
        }
        Ok(evaluations)
    }

    /// Marks the session as ambiguous if a call would start exactly when its group is halted: it may start or not.
    fn check_halted_calls(&self, evaluation: Option<&Evaluation>, halt_time: u64) {
        let is_halted_now = |fact: &Fact| matches!(fact, Fact::CallHalted { time } if *time == halt_time);
        if evaluation.is_some_and(|evaluation| evaluation.facts.iter().any(is_halted_now)) {
            self.is_ambiguous.set(true);
        }
    }

    /// Evaluates a `parallel` group.
    pub(crate) fn evaluate_parallel_group(
        &self,
        path: &str,
        limit: Option<usize>,
        steps: &[Step],
        (scope, time, halt_time): (&EvalScope, u64, u64),
    ) -> Result<Evaluation, Box<Evaluation>> {
        let evaluate = |index: usize, start: u64, halt_time: u64| {
            let step: &Step = &steps[index];
            self.evaluate_step(&child_path(path, &step.id), step, scope, start, halt_time)
        };
        let evaluations =
            self.evaluate_parallel(steps.len(), limit.unwrap_or(steps.len()), true, time, halt_time, &evaluate)?;
        let mut total = Evaluation::new(time, scope);
        let mut failed_class = None;
        for evaluation in evaluations.iter().flatten() {
            if evaluation.ending == Ending::GroupHalted {
                // A cancelled branch has no artifacts.
                total.facts.extend(evaluation.facts.iter().cloned());
                total.end_time = total.end_time.max(evaluation.end_time);
                continue;
            }
            total.merge(evaluation);
            if evaluation.workspace_version != scope.workspace_version {
                total.workspace_version = evaluation.workspace_version;
            }
            if let Ending::Failed(class) = &evaluation.ending {
                failed_class = failed_class.or(Some(class.clone()));
            }
        }
        for (step, evaluation) in steps.iter().zip(&evaluations) {
            if evaluation.is_none() {
                total.facts.push(Fact::step_ended(
                    total.end_time,
                    &child_path(path, &step.id),
                    "skipped",
                    "step".to_owned(),
                ));
                total.statuses.push((step.id.clone(), "skipped"));
            }
        }
        total.ending = failed_class.map_or(Ending::Completed, Ending::Failed);
        Ok(total)
    }

    /// Evaluates the iterations of a `repeat`.
    pub(crate) fn evaluate_iterations(
        &self,
        path: &str,
        (until, max, continues, steps): (Option<&String>, u32, bool, &[Step]),
        inputs: &[StepInput],
        (scope, time, halt_time): (&EvalScope, u64, u64),
    ) -> Evaluation {
        let mut total = Evaluation::new(time, scope);
        let mut last_iteration = Evaluation::new(time, scope);
        for round in 0..max {
            let inner_scope = EvalScope {
                round: Some(round + 1),
                previous_iteration: last_iteration.artifacts.iter().cloned().collect(),
                workspace_version: total.workspace_version,
                ..scope.clone()
            };
            last_iteration =
                self.evaluate_steps(&format!("{path}[{round}]"), steps, &inner_scope, total.end_time, halt_time);
            total.facts.extend(last_iteration.facts.iter().cloned());
            total.end_time = last_iteration.end_time;
            total.workspace_version = last_iteration.workspace_version;
            total.note_failure(last_iteration.first_failure.as_ref());
            total.ending = last_iteration.ending.clone();
            total.artifacts.clone_from(&last_iteration.artifacts);
            total.statuses.clone_from(&last_iteration.statuses);
            if total.ending != Ending::Completed {
                return total;
            }
            if let Some(name) = until {
                let is_input = inputs.iter().any(|input| input.name == *name);
                let outer_value = scope.artifacts.get(name).filter(|_| is_input);
                let value = last_iteration
                    .artifacts
                    .iter()
                    .find(|(other, _)| other == name)
                    .map(|(_, value)| value)
                    .or(outer_value);
                match value.and_then(|value| value["ok"].as_bool()) {
                    Some(true) => return total,
                    Some(false) => {}
                    None => return Evaluation { ending: Ending::Failed("expression_error".to_owned()), ..total },
                }
            }
        }
        if until.is_some() && !continues {
            total.ending = Ending::Failed("max_iterations_reached".to_owned());
        }
        total
    }

    /// Evaluates a pipeline with its `finally`. The value of the result is the object of the pipeline's outputs.
    pub(crate) fn evaluate_pipeline(
        &self,
        path: &str,
        pipeline: &TestPipeline,
        scope: &EvalScope,
        time: u64,
        halt_time: u64,
    ) -> Evaluation {
        let mut total = self.evaluate_steps(path, &pipeline.steps, scope, time, halt_time);
        if total.ending == Ending::Parked {
            return total;
        }
        let mut final_scope = scope.clone();
        final_scope.apply(&total);
        // A stop leaves steps without a status of their own.
        for step in &pipeline.steps {
            final_scope.statuses.entry(step.id.clone()).or_insert("cancelled");
        }
        final_scope.in_finally = true;
        let finally = self.evaluate_steps(path, &pipeline.finally, &final_scope, total.end_time, NEVER);
        final_scope.apply(&finally);
        let (steps_failure, ending) = (total.first_failure.clone(), total.ending.clone());
        total.merge(&finally);
        total.workspace_version = finally.workspace_version;
        total.ending = match (ending, finally.ending, &pipeline.success) {
            (Ending::Stopped, _, _) => Ending::Stopped,
            (Ending::GroupHalted, _, _) => Ending::GroupHalted,
            (_, Ending::Parked, _) => Ending::Parked,
            (Ending::Failed(class), _, _) | (_, Ending::Failed(class), _) => Ending::Failed(class),
            (_, _, _) if finally.first_failure.is_some() => {
                Ending::Failed(total.first_failure.clone().unwrap_or_default())
            }
            (_, _, Some(id)) if final_scope.statuses.get(id) != Some(&"completed") => {
                Ending::Failed("success_condition_false".to_owned())
            }
            (_, _, None) if steps_failure.is_some() => Ending::Failed(steps_failure.unwrap_or_default()),
            _ => Ending::Completed,
        };
        let mut outputs = Map::new();
        for (name, artifact) in &pipeline.outputs {
            outputs.insert(name.clone(), final_scope.artifacts.get(artifact).cloned().unwrap_or(Value::Null));
        }
        let has_undefined_output =
            pipeline.outputs.iter().any(|(_, artifact)| !final_scope.artifacts.contains_key(artifact));
        if total.ending == Ending::Completed && has_undefined_output {
            total.ending = Ending::Failed("expression_error".to_owned());
        }
        total.value = Some(Value::Object(outputs));
        total
    }
}
