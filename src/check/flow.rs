//! Checks the data flow: each artifact that a step reads must be in scope and already produced. Also checks that
//! prompts exist, and that a step gives a called pipeline all required inputs and no unknown ones.

use std::ffi::OsStr;
use std::path::Path;

use super::sites::{Site, Sites};
use crate::config::{Project, child, item, places};
use crate::diagnostic::{Code, Diagnostic, did_you_mean};
use crate::model::{Step, StepAction};

pub(super) fn check(project: &Project, sites: &Sites<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let writers = writers(project);
    for site in &sites.list {
        let mut seen: Vec<&str> = Vec::new();
        for (number, written) in site.step.inputs.iter().enumerate() {
            let pointer = item(&child(&site.pointer, "inputs"), number);
            let (name, optional) = artifact(written);
            if seen.contains(&name) {
                let span = project.document.spans.value(&pointer);
                let message = format!("`{name}` is listed twice");
                found.push(Diagnostic::error(Code::NameTaken, message).at(&project.document.file, span));
            } else {
                found.extend(missing(project, site, name, optional, &pointer, &writers));
            }
            seen.push(name);
        }
        if let Some(name) = &site.step.prompt {
            found.extend(prompt(project, name, &child(&site.pointer, "prompt")));
        }
        found.extend(call(project, site));
    }
    found
}

/// Splits an entry of `inputs` into the artifact's name and whether it is optional.
pub(super) fn artifact(written: &str) -> (&str, bool) {
    written.strip_suffix('?').map_or((written, false), |name| (name, true))
}

/// A step that produces an artifact: the artifact's name, the step's pointer, and the pointer to the value that names
/// the artifact.
struct Producer<'a> {
    name: &'a str,
    pointer: String,
    place: String,
}

fn writers(project: &Project) -> Vec<Producer<'_>> {
    let mut found = Vec::new();
    for (pointer, step) in places(&project.pipeline) {
        if let Some(name) = &step.output {
            found.push(Producer { name, place: child(&pointer, "output"), pointer });
        } else if let Some(StepAction::Pipeline(file)) = step.kind() {
            for name in project.called.get(file).into_iter().flat_map(|called| called.pipeline.outputs.keys()) {
                found.push(Producer { name, place: child(&pointer, "pipeline"), pointer: pointer.clone() });
            }
        }
    }
    found
}

/// The pointer to where the producing step names the artifact, if there is such a step.
pub(super) fn producer(project: &Project, name: &str) -> Option<String> {
    writers(project).into_iter().find(|writer| writer.name == name).map(|writer| writer.place)
}

/// Why a step can't read an artifact; `None` if it can.
fn missing(
    project: &Project,
    site: &Site<'_>,
    name: &str,
    optional: bool,
    pointer: &str,
    writers: &[Producer<'_>],
) -> Option<Diagnostic> {
    let span = project.document.spans.value(pointer);
    let at = |code: Code, message: String| Diagnostic::error(code, message).at(&project.document.file, span.clone());
    match site.view.artifacts.get(name) {
        Some(visible) if !visible.last_round || optional => return None,
        Some(_) => {
            let problem = at(Code::LaterArtifact, format!("the first round has no `{name}` yet"));
            return Some(problem.help(format!("make it optional: `{name}?`")));
        }
        None => {}
    }
    let Some(writer) = writers.iter().find(|writer| writer.name == name) else {
        return Some(unknown(project, site, name, at));
    };
    if writer.pointer == site.pointer {
        return Some(at(Code::LaterArtifact, format!("step `{}` cannot read its own output `{name}`", site.step.id)));
    }
    let place = project.document.spans.value(&writer.place);
    let earlier = place.start < project.document.spans.value(&site.pointer).start;
    let around = site.pointer.starts_with(&format!("{}/", writer.pointer));
    let problem = if around {
        at(Code::LaterArtifact, format!("`{name}` is what all items give together; one of them cannot read it"))
    } else if earlier {
        at(Code::OutOfReach, format!("`{name}` is out of reach here"))
            .help("steps beside one another do not see what each produces; an item of `for_each` keeps to itself what its steps produce")
    } else {
        at(Code::LaterArtifact, format!("`{name}` is produced only later")).help("steps run from top to bottom")
    };
    Some(problem.also(&project.document.file, place, "produced here"))
}

fn unknown(project: &Project, site: &Site<'_>, name: &str, at: impl Fn(Code, String) -> Diagnostic) -> Diagnostic {
    if project.pipeline.inputs.contains_key(name) {
        let problem = at(Code::UnknownArtifact, format!("`{name}` is an input of the run, not an artifact"));
        return problem.help("every step can use it without listing it");
    }
    let known = site.view.artifacts.keys().copied();
    let problem = at(Code::UnknownArtifact, format!("no step produces `{name}`")).suggest(name, known);
    let step = places(&project.pipeline).into_iter().find(|(_, step)| step.id == name);
    match step.and_then(|(_, step): (String, &Step)| step.output.clone()) {
        Some(output) => problem.help(format!("step `{name}` produces `{output}`")),
        None => problem,
    }
}

/// Checks the inputs that a step gives to the pipeline that it calls: none may be unknown, and no required one missing.
fn call(project: &Project, site: &Site<'_>) -> Vec<Diagnostic> {
    let Some(StepAction::Pipeline(file)) = site.step.kind() else { return Vec::new() };
    let Some(called) = project.called.get(file) else { return Vec::new() };
    let (document, inputs) = (&project.document, &called.pipeline.inputs);
    let mut found = Vec::new();
    for name in site.step.with.keys().filter(|name| !inputs.contains_key(*name)) {
        let span = document.spans.key(&child(&child(&site.pointer, "with"), name));
        let message = format!("pipeline `{}` has no input `{name}`", called.pipeline.name);
        let problem = Diagnostic::error(Code::InputUnknown, message).at(&document.file, span);
        found.push(problem.suggest(name, inputs.keys().map(String::as_str)));
    }
    for (name, schema) in inputs {
        if !site.step.with.contains_key(name) && !schema.contains_key("default") {
            let span = document.spans.value(&child(&site.pointer, "pipeline"));
            let message = format!("pipeline `{}` needs the input `{name}`", called.pipeline.name);
            let problem = Diagnostic::error(Code::InputMissing, message).at(&document.file, span);
            found.push(problem.help(format!("give it under `with:`: `{name}: …`")));
        }
    }
    found
}

fn prompt(project: &Project, name: &str, pointer: &str) -> Option<Diagnostic> {
    if project.prompts.contains_key(name) || unreadable(project, &format!("prompts/{name}")) {
        return None;
    }
    let problem = Diagnostic::error(Code::PromptNotFound, format!("there is no prompt `prompts/{name}`"));
    let mut problem = problem.at(&project.document.file, project.document.spans.value(pointer));
    if is_prose(name) {
        problem.message = "`prompt` is a text, not the name of a file in `prompts/`".to_owned();
        return Some(problem.help("put the text into a file of `prompts/`, and write `prompt: FILE.md`"));
    }
    Some(absent(problem, name, &project.prompt_names, "prompts"))
}

/// Whether the value is a prompt's text rather than the name of a file: it has several words or lines, or a tag.
fn is_prose(name: &str) -> bool {
    let ending = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default();
    let is_file = (1..=4).contains(&ending.len()) && ending.chars().all(|c| c.is_ascii_alphanumeric());
    name.contains(['\n', '{']) || (!is_file && name.split_whitespace().count() > 1)
}

/// Whether the file exists and loading it has already been reported as a problem.
pub(super) fn unreadable(project: &Project, path: &str) -> bool {
    project.problems.iter().any(|d| d.file.as_ref().is_some_and(|file| file.path.ends_with(path)))
}

/// Completes a diagnostic about a file that the folder does not have, with advice.
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
