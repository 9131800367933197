//! Checks the shape of steps: each has exactly one kind and only keys that apply to that kind, no two steps write to
//! the workspace at the same time, and the nesting is limited.

use std::collections::HashMap;

use crate::config::{Project, child_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::step::{Access, KIND_KEYS, KIND_KEYS_BY_KEY};
use crate::model::{Step, StepAction};

/// The maximum nesting depth of steps.
const MAX_DEPTH: usize = 32;
/// The maximum number of steps of a pipeline, including the steps of called pipelines, counted again for each call.
const MAX_STEPS: usize = 100_000;

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut counts = HashMap::new();
    if count_steps(project, &mut counts) > MAX_STEPS {
        let document = &project.document;
        let message = format!("the pipeline has more than {MAX_STEPS} steps, including the steps of called pipelines");
        let diagnostic =
            Diagnostic::error(Code::StepsTooDeep, message).with_span(&document.file, document.spans.value("/name"));
        diagnostics.push(diagnostic.with_help("reduce the number of called pipelines"));
    }
    for (pointer, step) in steps_with_pointers(&project.pipeline) {
        let step_check = StepCheck { project, pointer: &pointer, step };
        step_check.check_kind(&mut diagnostics);
        step_check.check_parallel_writes(&mut diagnostics);
    }
    diagnostics
}

/// Counts the steps of a pipeline and of the pipelines that it calls, once for each call. The count saturates. `counts`
/// caches the result for each file.
fn count_steps<'a>(project: &'a Project, counts: &mut HashMap<&'a str, usize>) -> usize {
    let file = project.document.file.path.as_str();
    if let Some(count) = counts.get(file) {
        return *count;
    }
    let mut count = 0_usize;
    for step in project.pipeline.all_steps() {
        count = count.saturating_add(1);
        for called in project.projects_called_by(step) {
            count = count.saturating_add(count_steps(called, counts));
        }
    }
    counts.insert(file, count);
    count
}

struct StepCheck<'a> {
    project: &'a Project,
    pointer: &'a str,
    step: &'a Step,
}

impl StepCheck<'_> {
    fn has_key(&self, key: &str) -> bool {
        self.project.document.spans.contains(&child_pointer(self.pointer, key))
    }

    fn error_at_key(&self, code: Code, message: String, key: &str) -> Diagnostic {
        let document = &self.project.document;
        Diagnostic::error(code, message)
            .with_span(&document.file, document.spans.key(&child_pointer(self.pointer, key)))
    }

    fn error_at_step(&self, code: Code, message: String) -> Diagnostic {
        let document = &self.project.document;
        let id = child_pointer(self.pointer, "id");
        Diagnostic::error(code, message).with_span(&document.file, document.spans.value(&id))
    }

    fn check_kind(&self, diagnostics: &mut Vec<Diagnostic>) {
        let id = &self.step.id;
        let kind_keys: Vec<&str> = KIND_KEYS.iter().copied().filter(|key| self.has_key(key)).collect();
        let [kind_key] = kind_keys.as_slice() else {
            diagnostics.push(match kind_keys.as_slice() {
                [] => self
                    .error_at_step(Code::WrongStepKind, format!("step `{id}` has no kind"))
                    .with_help(format!("add one of {}", quoted_list(KIND_KEYS))),
                [first, second, ..] => self
                    .error_at_key(Code::WrongStepKind, format!("step `{id}` has both `{first}` and `{second}`"), second)
                    .with_help("a step has exactly one kind; split it into two steps"),
                [_] => return,
            });
            return;
        };
        for (key, supporting_keys) in KIND_KEYS_BY_KEY {
            if self.has_key(key) && !supporting_keys.contains(kind_key) {
                let diagnostic = self.error_at_key(
                    Code::KeyNotApplicable,
                    format!("`{key}` is not supported by steps with `{kind_key}`"),
                    key,
                );
                diagnostics
                    .push(diagnostic.with_help(format!("only steps with {} support it", quoted_list(supporting_keys))));
            }
        }
        self.check_dependent_keys(kind_key, diagnostics);
        // Each nesting level adds one numeric segment to the pointer. Reports only steps that are exactly one level too
        // deep, not the steps inside them.
        let is_index = |segment: &&str| !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit());
        let depth = self.pointer.split('/').filter(is_index).count();
        if depth == MAX_DEPTH + 1 {
            let message = format!("steps are nested deeper than {MAX_DEPTH} levels");
            diagnostics.push(self.error_at_step(Code::StepsTooDeep, message));
        }
    }

    /// Reports keys that the kind requires but the step lacks, and keys that have no effect without another key.
    fn check_dependent_keys(&self, kind_key: &str, diagnostics: &mut Vec<Diagnostic>) {
        let id = &self.step.id;
        if kind_key == "agent" {
            for key in ["prompt", "output"] {
                if !self.has_key(key) {
                    let message = format!("step `{id}` has no `{key}`");
                    let document = &self.project.document;
                    let diagnostic = Diagnostic::error(Code::MissingKey, message);
                    let help = if key == "prompt" {
                        "add `prompt`: the file in `prompts/` that contains the agent's system prompt"
                    } else {
                        "add `output`: the name of the artifact that the step produces, in `workspace/<output>.json`"
                    };
                    diagnostics
                        .push(diagnostic.with_span(&document.file, document.spans.value(self.pointer)).with_help(help));
                }
            }
        }
        let is_group = matches!(kind_key, "parallel" | "repeat" | "steps");
        if is_group && self.has_key("output") && self.step.for_each.is_none() {
            let diagnostic = self.error_at_key(
                Code::KeyNotApplicable,
                format!("a step with `{kind_key}` has no `output` of its own"),
                "output",
            );
            diagnostics.push(diagnostic.with_help(
                "later steps can read the outputs of the steps inside it; only with `for_each` does it have an output: \
                 the list of its items' results",
            ));
        }
        if self.has_key("max_parallel") && self.step.for_each.is_none() && kind_key != "parallel" {
            let diagnostic = self.error_at_key(
                Code::KeyNotApplicable,
                "`max_parallel` has no effect without `for_each` or `parallel`".to_owned(),
                "max_parallel",
            );
            diagnostics.push(diagnostic.with_help("add a list to map over: `for_each: …`"));
        }
        if self.has_key("schema") && self.step.output.is_none() {
            let diagnostic = self.error_at_key(
                Code::KeyNotApplicable,
                "`schema` has no effect without an `output`".to_owned(),
                "schema",
            );
            diagnostics.push(diagnostic.with_help("name the artifact: `output: …`"));
        }
    }

    /// Reports steps that could write to the workspace at the same time.
    fn check_parallel_writes(&self, diagnostics: &mut Vec<Diagnostic>) {
        let id = &self.step.id;
        if self.step.for_each.is_some() && self.step.max_parallel != Some(1) && self.find_writer(self.step).is_some() {
            let message = format!("items of step `{id}` could write to the workspace at the same time");
            let diagnostic = self.error_at_key(Code::ConcurrentWrites, message, "for_each");
            diagnostics.push(diagnostic.with_help(
                "run them one after another with `max_parallel: 1`, or set `access: read` if they write nothing",
            ));
        }
        let Some(StepAction::Parallel(steps)) = self.step.action() else { return };
        let writers: Vec<(usize, &Step)> =
            steps.iter().enumerate().filter_map(|(index, step)| Some((index, self.find_writer(step)?))).collect();
        if let [(_, first_step), (second_index, second_step), ..] = writers.as_slice() {
            let message = format!(
                "steps `{}` and `{}` could write to the workspace at the same time",
                first_step.id, second_step.id
            );
            let document = &self.project.document;
            let id_pointer = child_pointer(&format!("{}/parallel/{second_index}", self.pointer), "id");
            let diagnostic = Diagnostic::error(Code::ConcurrentWrites, message)
                .with_span(&document.file, document.spans.value(&id_pointer));
            diagnostics.push(
                diagnostic.with_help("run one after the other, or set `access: read` for a step that writes nothing"),
            );
        }
    }

    /// The first step that writes to the workspace: this one or one inside it.
    fn find_writer<'s>(&self, step: &'s Step) -> Option<&'s Step> {
        let mut first_writer = None;
        step.walk(&mut |inner| {
            let is_writer = match inner.action() {
                Some(StepAction::Pipeline(file)) => {
                    let called = self.project.called_projects.get(file);
                    called.is_some_and(|called| called.workspace_access() == Access::Write)
                }
                _ => inner.effective_access(&self.project.pipeline.agents) == Access::Write,
            };
            if is_writer && first_writer.is_none() {
                first_writer = Some(inner);
            }
        });
        first_writer
    }
}

fn quoted_list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
