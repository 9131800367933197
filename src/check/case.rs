//! Checks test cases: the inputs, approvals and steps that they name must exist in their pipeline.

use super::texts::refusal;
use crate::config::{Document, Project, child, item, places};
use crate::diagnostic::{Code, Diagnostic, did_you_mean, sort};
use crate::model::StepAction;
use crate::model::case::Case;
use crate::template::inspect_expression;

/// The mistakes of a test case for the pipeline of `project`: inputs, approvals and steps that the pipeline does not
/// have, and expressions that can't be parsed.
pub fn check_case(document: &Document, case: &Case, project: &Project) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let inputs = &project.pipeline.inputs;
    for name in case.inputs.keys().filter(|name| !inputs.contains_key(*name)) {
        let message = format!("the pipeline has no input `{name}`");
        let problem = at(document, Code::InputUnknown, message, &child("/inputs", name));
        found.push(known(problem, name, inputs.keys().map(String::as_str)));
    }
    let missing = |name: &&String| {
        let optional = inputs.get(*name).is_some_and(|schema| schema.get("default").is_some());
        !optional && !case.inputs.contains_key(*name)
    };
    for name in inputs.keys().filter(missing) {
        let message = format!("the pipeline needs the input `{name}`");
        let problem = Diagnostic::error(Code::InputMissing, message).at(&document.file, document.spans.key("/inputs"));
        found.push(problem.help(format!("give it under `inputs:`, as `{name}: …`")));
    }
    let steps: Vec<_> = places(&project.pipeline).into_iter().map(|(_, step)| step).collect();
    let approvals = || steps.iter().filter(|step| matches!(step.kind(), Some(StepAction::Approve(_))));
    for name in case.answers.keys().filter(|name| approvals().all(|step| step.id != last(name))) {
        let message = format!("no step `{name}` asks for approval");
        let problem = at(document, Code::WrongValue, message, &child("/answers", name));
        found.push(known(problem, name, approvals().map(|step| step.id.as_str())));
    }
    // A key with `/` may name a step of a called pipeline, whose steps are not looked up here.
    let calls = steps.iter().any(|step| matches!(step.kind(), Some(StepAction::Pipeline(_))));
    for key in case.expect.steps.keys().filter(|key| steps.iter().all(|step| step.id != last(key))) {
        if calls && key.contains('/') {
            continue;
        }
        let problem = at(document, Code::WrongValue, format!("there is no step `{key}`"), &child("/expect/steps", key));
        found.push(known(problem, last(key), steps.iter().map(|step| step.id.as_str())));
    }
    for (index, expression) in case.expect.assert.iter().enumerate() {
        let pointer = item("/expect/assert", index);
        for error in inspect_expression(expression).err().into_iter().flatten() {
            found.push(refusal(error, |problem, range| problem.at(&document.file, document.within(&pointer, range))));
        }
    }
    sort(&mut found);
    found
}

/// The id of the step that a key names: `code` of `fix[0]/code`.
fn last(key: &str) -> &str {
    let own = key.rsplit('/').next().unwrap_or(key);
    own.split('[').next().unwrap_or(own)
}

fn at(document: &Document, code: Code, message: String, pointer: &str) -> Diagnostic {
    Diagnostic::error(code, message).at(&document.file, document.spans.key(pointer))
}

fn known<'a>(problem: Diagnostic, wanted: &str, names: impl Iterator<Item = &'a str>) -> Diagnostic {
    let names: Vec<&str> = names.collect();
    match did_you_mean(wanted, names.iter().copied()) {
        Some(_) => problem.suggest(wanted, names.iter().copied()),
        None if names.is_empty() => problem,
        None => problem.help(format!("there is: `{}`", names.join("`, `"))),
    }
}
