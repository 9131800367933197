//! Templates and expressions: each can be read, and uses only what its step has.

use crate::config::Project;
use crate::diagnostic::{Code, Diagnostic, did_you_mean};
use crate::model::Step;
use crate::template::{self, Templates};

use super::at;

pub(super) fn check(project: &Project, findings: &mut Vec<Diagnostic>) {
    compile(project, findings);
    for (i, step) in project.pipeline.steps.iter().enumerate() {
        let names = visible(project, step);
        prompt(project, &step.prompt, &names, &mut Vec::new(), findings);
        if let Some(message) = &step.message {
            let pointer = format!("/steps/{i}/message");
            match template::shape(message, None) {
                Err(error) => findings.push(at(project, Code::BadTemplate, error.message, &pointer)),
                Ok(shape) => unknown(&shape.variables, &names, |text, help| {
                    findings.push(at(project, Code::UnknownVariable, text, &pointer).maybe_help(help));
                }),
            }
        }
        if let Some(when) = &step.when {
            expression(project, when, &names, &format!("/steps/{i}/when"), findings);
        }
    }
    if let Some(success) = &project.pipeline.success {
        let outputs = project.pipeline.steps.iter().map(|step| step.output.clone());
        let names: Vec<String> =
            project.pipeline.inputs.keys().cloned().chain(outputs).chain(["steps".to_owned()]).collect();
        expression(project, success, &names, "/success", findings);
    }
}

/// What only the compiler sees: unknown filters and tests.
fn compile(project: &Project, findings: &mut Vec<Diagnostic>) {
    let sources = project.prompts.iter().map(|(name, prompt)| (name.as_str(), prompt.source.text.as_str()));
    for error in Templates::new(sources).err().into_iter().flatten() {
        if let Some(prompt) = error.file.as_ref().and_then(|file| project.prompts.get(file)) {
            findings.push(Diagnostic::new(Code::BadTemplate, error.message, &prompt.source, error.range));
        }
    }
}

fn visible(project: &Project, step: &Step) -> Vec<String> {
    let inputs = step.inputs.iter().map(|text| text.trim_end_matches('?').to_owned());
    project.pipeline.inputs.keys().cloned().chain(inputs).chain(["steps".to_owned()]).collect()
}

fn prompt(project: &Project, name: &str, names: &[String], seen: &mut Vec<String>, findings: &mut Vec<Diagnostic>) {
    let Some(prompt_file) = project.prompts.get(name) else {
        return;
    };
    if seen.iter().any(|seen| seen == name) {
        return;
    }
    seen.push(name.to_owned());
    let source = &prompt_file.source;
    // A template that can't be read was reported when it was loaded.
    let Ok(shape) = template::shape(&source.text, Some(name)) else {
        return;
    };
    unknown(&shape.variables, names, |text, help| {
        let variable = text.split('`').nth(1).unwrap_or_default();
        let span = word(&source.text, variable);
        findings.push(Diagnostic::new(Code::UnknownVariable, text.clone(), source, span).maybe_help(help));
    });
    for (included, _) in &shape.includes {
        prompt(project, included, names, seen, findings);
    }
}

fn unknown(variables: &[String], names: &[String], mut report: impl FnMut(String, Option<String>)) {
    for variable in variables.iter().filter(|variable| !names.contains(variable)) {
        let help = did_you_mean(variable, names.iter().map(String::as_str))
            .unwrap_or_else(|| format!("the step has {}; artifacts must be listed in its `inputs`", list(names)));
        report(format!("there is no variable `{variable}` here"), Some(help));
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn expression(project: &Project, text: &str, names: &[String], pointer: &str, findings: &mut Vec<Diagnostic>) {
    match template::expression_variables(text) {
        Err(error) => findings.push(at(project, Code::BadExpression, error.message, pointer)),
        Ok(variables) => unknown(&variables, names, |text, help| {
            findings.push(at(project, Code::UnknownVariable, text, pointer).maybe_help(help));
        }),
    }
}

/// The first place inside a template's tags where a word stands.
fn word(text: &str, word: &str) -> Option<std::ops::Range<usize>> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut from = text.find(['{'])?;
    loop {
        let at = from + text.get(from..)?.find(word)?;
        let end = at + word.len();
        let before = text.get(..at)?.chars().next_back().is_some_and(|c| is_part(c) || c == '.');
        let after = text.get(end..)?.chars().next().is_some_and(is_part);
        let open = text.get(..at)?.rfind("{{").max(text.get(..at)?.rfind("{%"));
        let closed = text.get(..at)?.rfind("}}").max(text.get(..at)?.rfind("%}"));
        if !before && !after && open > closed {
            return Some(at..end);
        }
        from = end;
    }
}
