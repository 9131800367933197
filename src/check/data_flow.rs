//! Names and the flow of artifacts: everything read is written before, once.

use std::collections::HashMap;

use crate::config::Project;
use crate::diagnostic::{Code, Diagnostic, did_you_mean};

use super::{at, at_key};

/// Names that templates give a meaning of their own.
const RESERVED: [&str; 4] = ["item", "index", "loop", "steps"];

pub(super) fn check(project: &Project, findings: &mut Vec<Diagnostic>) {
    let pipeline = &project.pipeline;
    let mut taken: HashMap<String, String> = HashMap::new();
    for name in pipeline.inputs.keys() {
        let pointer = format!("/inputs/{name}");
        name_rules(project, name, &pointer, true, findings);
        if let Some(other) = taken.insert(name.to_lowercase(), format!("the input `{name}`")) {
            findings.push(at_key(
                project,
                Code::NameTaken,
                format!("the input `{name}` has the name of {other}"),
                &pointer,
            ));
        }
    }
    let mut ids: HashMap<String, usize> = HashMap::new();
    for (i, step) in pipeline.steps.iter().enumerate() {
        let (id, output) = (format!("/steps/{i}/id"), format!("/steps/{i}/output"));
        name_rules(project, &step.id, &id, false, findings);
        name_rules(project, &step.output, &output, false, findings);
        if ids.insert(step.id.to_lowercase(), i).is_some() {
            findings.push(at(project, Code::NameTaken, format!("another step has the id `{}` already", step.id), &id));
        }
        let me = format!("the output of step `{}`", step.id);
        if let Some(other) = taken.insert(step.output.to_lowercase(), me) {
            let message = format!("the output `{}` has the name of {other}", step.output);
            findings.push(at(project, Code::NameTaken, message, &output).help("give each artifact a name of its own"));
        }
    }
    for (i, step) in pipeline.steps.iter().enumerate() {
        step_id_is_no_other_name(project, i, &step.id, findings);
        inputs(project, i, findings);
    }
}

fn name_rules(project: &Project, name: &str, pointer: &str, key: bool, findings: &mut Vec<Diagnostic>) {
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    let here = |code, message: String| {
        if key { at_key(project, code, message, pointer) } else { at(project, code, message, pointer) }
    };
    if !first || !letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') || name.len() > 64 {
        let message = format!("`{name}` can't be a name");
        findings.push(
            here(Code::BadName, message)
                .help("names have lower-case letters, digits and `_`, begin with no digit, and are at most 64 long"),
        );
    } else if RESERVED.contains(&name) {
        findings.push(
            here(Code::NameTaken, format!("`{name}` has a meaning of its own in templates"))
                .help("choose another name"),
        );
    }
}

fn step_id_is_no_other_name(project: &Project, index: usize, id: &str, findings: &mut Vec<Diagnostic>) {
    let lower = id.to_lowercase();
    let pointer = format!("/steps/{index}/id");
    if project.pipeline.inputs.keys().any(|name| name.to_lowercase() == lower) {
        findings.push(at(project, Code::NameTaken, format!("the step `{id}` has the name of an input"), &pointer));
    }
    let other =
        project.pipeline.steps.iter().enumerate().find(|(i, step)| *i != index && step.output.to_lowercase() == lower);
    if let Some((_, other)) = other {
        let message = format!("the step `{id}` has the name of the output of step `{}`", other.id);
        findings.push(at(project, Code::NameTaken, message, &pointer));
    }
}

fn inputs(project: &Project, index: usize, findings: &mut Vec<Diagnostic>) {
    let steps = &project.pipeline.steps;
    let Some(step) = steps.get(index) else { return };
    let before: Vec<&str> = steps.iter().take(index).map(|step| step.output.as_str()).collect();
    let mut seen = Vec::new();
    for (n, text) in step.inputs.iter().enumerate() {
        let name = text.strip_suffix('?').unwrap_or(text);
        let pointer = format!("/steps/{index}/inputs/{n}");
        if seen.contains(&name) {
            findings.push(at(project, Code::NameTaken, format!("the input `{name}` is listed twice"), &pointer));
        }
        seen.push(name);
        if before.contains(&name) {
            continue;
        }
        let later = steps.iter().skip(index).find(|step| step.output == name);
        let finding = match later {
            Some(same) if same.id == step.id => {
                at(project, Code::UnknownArtifact, format!("step `{}` can't read its own output", step.id), &pointer)
            }
            Some(later) => at(
                project,
                Code::UnknownArtifact,
                format!("`{name}` is produced only later, by step `{}`", later.id),
                &pointer,
            )
            .help("move that step up: steps run from top to bottom"),
            None if project.pipeline.inputs.contains_key(name) => at(
                project,
                Code::UnknownArtifact,
                format!("`{name}` is an input of the run, not an artifact"),
                &pointer,
            )
            .help("leave it out: every step sees the inputs of the run"),
            None => at(project, Code::UnknownArtifact, format!("no step produces `{name}`"), &pointer)
                .maybe_help(did_you_mean(name, before.iter().copied())),
        };
        findings.push(finding);
    }
}
