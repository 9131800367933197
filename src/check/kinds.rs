//! Checks the shape of steps: each has exactly one kind and only keys that apply to that kind, no two steps write the
//! workspace in parallel, and nesting is bounded.

use std::collections::HashMap;

use crate::config::{Project, child, places};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::step::{Access, KINDS};
use crate::model::{Step, StepAction};

/// How many levels deep steps may be nested.
const MAX_DEPTH: usize = 32;
/// How many steps a pipeline may have, including those of all pipelines that it calls; each call counts again.
const MAX_STEPS: usize = 100_000;

/// Keys that apply only to some kinds of steps, with those kinds. Every other key applies to all kinds.
const KEYS: &[(&str, &[&str])] = &[
    ("prompt", &["agent"]),
    ("message", &["agent"]),
    ("re_ask", &["agent"]),
    ("accept", &["agent"]),
    ("fallback", &["agent"]),
    ("extract", &["agent"]),
    ("schema", &["agent", "run"]),
    ("retry", &["agent", "run"]),
    ("deadline", &["agent", "run"]),
    ("timeout", &["agent", "run", "approve"]),
    ("access", &["agent", "run"]),
    ("env", &["run"]),
    ("cwd", &["run"]),
    ("stdin", &["run"]),
    ("expect", &["run"]),
    ("on_reject", &["approve"]),
    ("with", &["pipeline"]),
];

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut known = HashMap::new();
    if expanded(project, &mut known) > MAX_STEPS {
        let document = &project.document;
        let message = format!("with all pipelines that it calls it has more than {MAX_STEPS} steps");
        let problem = Diagnostic::error(Code::TooDeep, message).at(&document.file, document.spans.value("/name"));
        found.push(problem.help("let pipelines call fewer others"));
    }
    for (pointer, step) in places(&project.pipeline) {
        let one = KindCheck { project, pointer: &pointer, step };
        one.kind(&mut found);
        one.writes(&mut found);
    }
    found
}

/// How many steps a pipeline has, including those of the pipelines that it calls, added once for each call; saturates.
/// `known` holds the counts of files that were counted already.
fn expanded<'a>(project: &'a Project, known: &mut HashMap<&'a str, usize>) -> usize {
    let file = project.document.file.path.as_str();
    if let Some(count) = known.get(file) {
        return *count;
    }
    let mut count = 0_usize;
    for step in project.pipeline.all_steps() {
        count = count.saturating_add(1);
        if let Some(StepAction::Pipeline(name)) = step.kind()
            && let Some(called) = project.called.get(name)
        {
            count = count.saturating_add(expanded(called, known));
        }
    }
    known.insert(file, count);
    count
}

struct KindCheck<'a> {
    project: &'a Project,
    pointer: &'a str,
    step: &'a Step,
}

impl KindCheck<'_> {
    fn has(&self, key: &str) -> bool {
        self.project.document.spans.has(&child(self.pointer, key))
    }

    fn at_key(&self, code: Code, message: String, key: &str) -> Diagnostic {
        let document = &self.project.document;
        Diagnostic::error(code, message).at(&document.file, document.spans.key(&child(self.pointer, key)))
    }

    fn at_step(&self, code: Code, message: String) -> Diagnostic {
        let document = &self.project.document;
        let id = child(self.pointer, "id");
        Diagnostic::error(code, message).at(&document.file, document.spans.value(&id))
    }

    fn kind(&self, found: &mut Vec<Diagnostic>) {
        let id = &self.step.id;
        let kinds: Vec<&str> = KINDS.iter().copied().filter(|key| self.has(key)).collect();
        let [kind] = kinds.as_slice() else {
            found.push(match kinds.as_slice() {
                [] => self
                    .at_step(Code::WrongKind, format!("step `{id}` does not say what it does"))
                    .help(format!("give it one of {}", list(KINDS))),
                [first, second, ..] => self
                    .at_key(Code::WrongKind, format!("step `{id}` has both `{first}` and `{second}`"), second)
                    .help("a step is one thing; make two steps of it"),
                [_] => return,
            });
            return;
        };
        for (key, of) in KEYS {
            if self.has(key) && !of.contains(kind) {
                let problem =
                    self.at_key(Code::KeyOfOtherKind, format!("`{key}` means nothing to a `{kind}` step"), key);
                found.push(problem.help(format!("it belongs to steps with {}", list(of))));
            }
        }
        self.needs(kind, found);
        // Each nesting level adds one numeric part to the pointer; the empty part at its start counts as numeric too.
        // `==` reports only the first level that is too deep.
        let depth = self.pointer.split('/').filter(|part| part.bytes().all(|b| b.is_ascii_digit())).count();
        if depth == MAX_DEPTH + 2 {
            let message = format!("steps are nested deeper than {MAX_DEPTH} levels");
            found.push(self.at_step(Code::TooDeep, message));
        }
    }

    /// Reports missing keys that the kind requires, and keys that require another one.
    fn needs(&self, kind: &str, found: &mut Vec<Diagnostic>) {
        let id = &self.step.id;
        if kind == "agent" {
            for key in ["prompt", "output"] {
                if !self.has(key) {
                    let message = format!("step `{id}` has no `{key}`");
                    let document = &self.project.document;
                    let problem = Diagnostic::error(Code::MissingKey, message);
                    let help = if key == "prompt" {
                        "`prompt`: the system prompt of an agent: a file in `prompts/`"
                    } else {
                        "`output`: the artifact that the step produces: `workspace/<output>.json`"
                    };
                    found.push(problem.at(&document.file, document.spans.value(self.pointer)).help(help));
                }
            }
        }
        let groups = matches!(kind, "parallel" | "repeat" | "steps");
        if groups && self.has("output") && self.step.for_each.is_none() {
            let problem =
                self.at_key(Code::KeyOfOtherKind, format!("a `{kind}` step has no `output` of its own"), "output");
            found
                .push(problem.help("its steps' outputs can be read after it; with `for_each` it has the list of them"));
        }
        if self.has("max_parallel") && self.step.for_each.is_none() && kind != "parallel" {
            let problem = self.at_key(
                Code::KeyOfOtherKind,
                "`max_parallel` means nothing without `for_each` or `parallel`".to_owned(),
                "max_parallel",
            );
            found.push(problem.help("give the step a list to run over: `for_each: …`"));
        }
        if self.has("schema") && self.step.output.is_none() {
            let problem =
                self.at_key(Code::KeyOfOtherKind, "`schema` means nothing without an `output`".to_owned(), "schema");
            found.push(problem.help("name the artifact: `output: …`"));
        }
    }

    /// Reports steps that could write the workspace in parallel.
    fn writes(&self, found: &mut Vec<Diagnostic>) {
        let id = &self.step.id;
        if self.step.for_each.is_some() && self.step.max_parallel != Some(1) && self.writer(self.step).is_some() {
            let message = format!("items of step `{id}` could write the workspace at once");
            let problem = self.at_key(Code::WritesAtOnce, message, "for_each");
            found.push(problem.help(
                "let them run one after another: `max_parallel: 1`, or say `access: read` if nothing is written",
            ));
        }
        let Some(StepAction::Parallel(steps)) = self.step.kind() else { return };
        let writers: Vec<(usize, &Step)> =
            steps.iter().enumerate().filter_map(|(index, step)| Some((index, self.writer(step)?))).collect();
        if let [(_, first), (second, other), ..] = writers.as_slice() {
            let message = format!("steps `{}` and `{}` could write the workspace at once", first.id, other.id);
            let document = &self.project.document;
            let place = child(&format!("{}/parallel/{second}", self.pointer), "id");
            let problem =
                Diagnostic::error(Code::WritesAtOnce, message).at(&document.file, document.spans.value(&place));
            found.push(problem.help("let one run after the other, or say `access: read` if it writes nothing"));
        }
    }

    /// The first step that writes the workspace: this one or one inside it.
    fn writer<'s>(&self, step: &'s Step) -> Option<&'s Step> {
        let mut found = None;
        step.walk(&mut |inner| {
            let called = match inner.kind() {
                Some(StepAction::Pipeline(file)) => self.project.called.get(file).is_some_and(|called| writes(called)),
                _ => inner.effective_access(&self.project.pipeline.agents) == Access::Write,
            };
            if called && found.is_none() {
                found = Some(inner);
            }
        });
        found
    }
}

/// Whether a pipeline writes the workspace, itself or through a pipeline that it calls.
fn writes(project: &Project) -> bool {
    project.with_called().iter().any(|project| {
        let agents = &project.pipeline.agents;
        project.pipeline.all_steps().iter().any(|step| step.effective_access(agents) == Access::Write)
    })
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
