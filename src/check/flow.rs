//! Data flow: what a step reads exists by then, and the prompts that steps name are there.

use crate::config::{Project, child, item};
use crate::diagnostic::{Code, Diagnostic, did_you_mean};
use crate::model::Step;

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (index, step) in project.pipeline.steps.iter().enumerate() {
        let at = item("/steps", index);
        let mut seen: Vec<&str> = Vec::new();
        for (number, written) in step.inputs.iter().enumerate() {
            let pointer = item(&child(&at, "inputs"), number);
            let (name, _) = artifact(written);
            if seen.contains(&name) {
                let span = project.document.spans.value(&pointer);
                let message = format!("`{name}` is listed twice");
                found.push(Diagnostic::error(Code::NameTaken, message).at(&project.document.file, span));
            } else {
                found.extend(missing(project, index, step, name, &pointer));
            }
            seen.push(name);
        }
        found.extend(prompt(project, &step.prompt, &child(&at, "prompt")));
    }
    found
}

/// An entry of `inputs` as the artifact's name, and whether it is optional.
pub(super) fn artifact(written: &str) -> (&str, bool) {
    written.strip_suffix('?').map_or((written, false), |name| (name, true))
}

/// Why a step can't read an artifact, if it can't.
fn missing(project: &Project, index: usize, step: &Step, name: &str, pointer: &str) -> Option<Diagnostic> {
    let pipeline = &project.pipeline;
    let writer = pipeline.steps.iter().position(|step| step.output == name);
    let span = project.document.spans.value(pointer);
    let at = |code: Code, message: String| Diagnostic::error(code, message).at(&project.document.file, span.clone());
    match writer {
        Some(writer) if writer < index => None,
        Some(writer) if writer == index => {
            Some(at(Code::LaterArtifact, format!("step `{}` cannot read its own output `{name}`", step.id)))
        }
        Some(writer) => {
            let place = project.document.spans.value(&child(&item("/steps", writer), "output"));
            let problem = at(Code::LaterArtifact, format!("`{name}` is produced only later"));
            Some(problem.also(&project.document.file, place, "produced here").help("steps run from top to bottom"))
        }
        None if pipeline.inputs.contains_key(name) => {
            let problem = at(Code::UnknownArtifact, format!("`{name}` is an input of the run, not an artifact"));
            Some(problem.help("every step can use it without listing it"))
        }
        None => {
            let known = pipeline.steps.iter().take(index).map(|step| step.output.as_str());
            let problem = at(Code::UnknownArtifact, format!("no step produces `{name}`")).suggest(name, known);
            let is_step = pipeline.steps.iter().take(index).find(|step| step.id == name);
            Some(match is_step {
                Some(step) => problem.help(format!("step `{name}` produces `{}`", step.output)),
                None => problem,
            })
        }
    }
}

fn prompt(project: &Project, name: &str, pointer: &str) -> Option<Diagnostic> {
    if project.prompts.contains_key(name) || unreadable(project, &format!("prompts/{name}")) {
        return None;
    }
    let problem = Diagnostic::error(Code::PromptNotFound, format!("there is no prompt `prompts/{name}`"));
    let problem = problem.at(&project.document.file, project.document.spans.value(pointer));
    Some(absent(problem, name, &project.prompt_names, "prompts"))
}

/// Whether a file is there and its own problem was reported.
pub(super) fn unreadable(project: &Project, path: &str) -> bool {
    project.problems.iter().any(|d| d.file.as_ref().is_some_and(|file| file.path.ends_with(path)))
}

/// Advice about a file that a folder does not have.
pub(super) fn absent(mut problem: Diagnostic, name: &str, names: &[String], folder: &str) -> Diagnostic {
    let escapes = name.starts_with('/') || name.split(['/', '\\']).any(|part| part == "..") || name.contains('\\');
    if escapes {
        problem.code = Code::OutsideFolder;
        problem.message = format!("`{name}` leads out of `{folder}/`");
        return problem.help(format!("name a file in `{folder}/`"));
    }
    if names.iter().any(|known| known == name) {
        problem.code = Code::OutsideFolder;
        problem.message = format!("`{folder}/{name}` is a link that leads out of its folder, or to nothing");
        return problem;
    }
    if did_you_mean(name, names.iter().map(String::as_str)).is_some() {
        return problem.suggest(name, names.iter().map(String::as_str));
    }
    let with_extension = names.iter().find(|known| known.strip_suffix(".md") == Some(name));
    match with_extension {
        Some(known) => problem.help(format!("did you mean `{known}`?")),
        None if names.is_empty() => problem.help(format!("the folder `{folder}/` is empty or missing")),
        None => {
            let shown: Vec<_> = names.iter().take(8).map(|name| format!("`{name}`")).collect();
            problem.help(format!("files there: {}", shown.join(", ")))
        }
    }
}
