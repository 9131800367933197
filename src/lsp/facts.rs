//! Asks the checker what is visible at a position in a text that the user is editing and that is therefore often
//! invalid.
//!
//! If the pipeline can't be loaded as it is, the server tries it with the word at the position replaced, then with the
//! brackets around the position emptied, and then in its last valid version or, without one, as it is on the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checks::Checks;
use super::cursor::{EditorCursor, Field, Focus, YamlRole, pointer, step_of};
use super::definition::named_file;
use super::documents::Documents;
use super::outline::{OutlineEntry, Seg, ValueStyle};
use super::projects;
use super::template_cursor::TemplateSpot;
use crate::check::{self, VisibleName};
use crate::config::{self, Project, Sources, places};

/// How many of the pipelines that use a prompt are asked.
const MAX_USERS: usize = 16;

/// Returns all names that are visible at a position in a template or expression.
pub(super) fn names(cursor: &EditorCursor, documents: &Documents, checks: &Checks) -> Vec<VisibleName> {
    match &cursor.focus {
        Focus::Prompt(spot) => in_prompt(cursor, spot, documents, checks),
        Focus::Field(field) => match &field.spot {
            Some(spot) => in_field(cursor, field, spot, documents),
            None => Vec::new(),
        },
        Focus::Schema => Vec::new(),
    }
}

/// Returns the names that are visible to any step that uses the prompt.
fn in_prompt(cursor: &EditorCursor, spot: &TemplateSpot, documents: &Documents, checks: &Checks) -> Vec<VisibleName> {
    let mut users = checks.users(&cursor.path);
    if users.is_empty() {
        users = pipelines(cursor, documents);
    }
    let mut all: Vec<VisibleName> = Vec::new();
    for user in users.into_iter().take(MAX_USERS) {
        let mut sources = documents.sources();
        sources.put(&cursor.path, spot.skeleton.as_str());
        let mut project = config::load_from(&sources, &user);
        if project.is_err() && documents.version(&user).is_some() {
            earlier(&mut sources, &user, documents);
            project = config::load_from(&sources, &user);
        }
        let Ok(project) = project else { continue };
        for found in check::look(&project, check::ProbedText::Prompt, "", spot.base.as_deref()) {
            if !all.iter().any(|known| known.name == found.name) {
                all.push(found);
            }
        }
    }
    all
}

/// The pipelines of the project that contains the file.
pub(super) fn pipelines(cursor: &EditorCursor, documents: &Documents) -> Vec<PathBuf> {
    let sources = documents.sources();
    let files = projects::files(&cursor.member.root, documents.paths(), &sources);
    files.into_iter().filter(|file| !config::is_case(file)).collect()
}

fn in_field(cursor: &EditorCursor, field: &Field, spot: &TemplateSpot, documents: &Documents) -> Vec<VisibleName> {
    let step = step_of(&field.path);
    let found = project(cursor, field, documents, |project| {
        let at = match step {
            Some(step) => place_of(project, cursor, field, step)?,
            None => String::new(),
        };
        let place = match step {
            Some(_) => {
                let sight = if let YamlRole::Expression(sight) = field.role { sight } else { check::Sight::Step };
                check::ProbedText::Step { pointer: &at, sight }
            }
            None => check::ProbedText::End,
        };
        Some(check::look(project, place, &spot.skeleton, spot.base.as_deref())).filter(|found| !found.is_empty())
    });
    found.unwrap_or_default()
}

/// Returns the artifacts that the step at the position can read.
pub(super) fn artifacts(cursor: &EditorCursor, field: &Field, documents: &Documents) -> Vec<VisibleName> {
    let Some(step) = step_of(&field.path) else { return Vec::new() };
    let found = project(cursor, field, documents, |project| {
        let at = place_of(project, cursor, field, step)?;
        Some(check::visible(project, &at))
    });
    found.unwrap_or_default()
}

/// The result of `ask` for the pipeline at the position, from the first version of its text for which `ask` returns
/// one.
pub(super) fn project<T>(
    cursor: &EditorCursor,
    field: &Field,
    documents: &Documents,
    ask: impl Fn(&Project) -> Option<T>,
) -> Option<T> {
    let mut sources = documents.sources();
    let load = |sources: &Sources| ask(&config::load_from(sources, &cursor.path).ok()?);
    let [word, flow] = [replaced(cursor, field), emptied(cursor, field)].map(|text| text.map(Arc::from));
    let found = [Some(Arc::clone(&cursor.text)), word, flow].into_iter().flatten().find_map(|text: Arc<str>| {
        sources.put(&cursor.path, text);
        load(&sources)
    });
    found.or_else(|| {
        earlier(&mut sources, &cursor.path, documents);
        load(&sources)
    })
}

/// Switches to the last valid version of a file, or to the version on the disk.
fn earlier(sources: &mut Sources, path: &Path, documents: &Documents) {
    match documents.get(path).and_then(|open| open.good.clone()) {
        Some(good) => sources.put(path, good),
        None => sources.drop_text(path),
    }
}

/// The text with the word at the position replaced by a harmless one.
fn replaced(cursor: &EditorCursor, field: &Field) -> Option<String> {
    let before = cursor.text.get(..field.word.start)?;
    let after = cursor.text.get(field.reach.max(field.word.end)..)?;
    let written = match (field.inline, field.path.last()) {
        (true, _) | (_, Some(Seg::Item(_))) if before.ends_with(':') => " x",
        (true, _) | (_, Some(Seg::Item(_))) => "x",
        _ => "",
    };
    Some(format!("{before}{written}{after}"))
}

/// The text with the brackets around the position emptied; the closing bracket may be missing.
fn emptied(cursor: &EditorCursor, field: &Field) -> Option<String> {
    let around = |entry: &&OutlineEntry| {
        entry.form == ValueStyle::Flow && entry.value.start < cursor.offset && field.path.starts_with(&entry.path)
    };
    let flow = field.outline.entries.iter().filter(around).max_by_key(|entry| entry.path.len())?;
    let before = cursor.text.get(..flow.value.start)?;
    let end = if flow.reach >= cursor.offset { flow.reach } else { cursor.offset };
    let empty = if cursor.text.get(flow.value.start..)?.starts_with('[') { "[]" } else { "{}" };
    Some(format!("{before}{empty}{}", cursor.text.get(end..)?))
}

/// The JSON pointer of a step of the current text in a project that may come from another version of the text. The step
/// is found by its id, or else by its path.
fn place_of(project: &Project, cursor: &EditorCursor, field: &Field, step: &[Seg]) -> Option<String> {
    let known = places(&project.pipeline);
    let id = field.outline.find(&[step, &[Seg::Key("id".to_owned())]].concat());
    let id = id.and_then(|entry| cursor.text.get(entry.value.clone()));
    let at = pointer(step);
    let named = known.iter().find(|(_, step)| Some(step.id.as_str()) == id);
    named.or(known.iter().find(|(place, _)| *place == at)).map(|(place, _)| place.clone())
}

/// The pipeline that a value names, if it can be loaded.
pub(super) fn named_pipeline(cursor: &EditorCursor, name: &str, documents: &Documents) -> Option<Project> {
    config::load_from(&documents.sources(), &named_file(cursor, YamlRole::Pipeline, name)?).ok()
}

/// The inputs of a pipeline, each with its description.
pub(super) fn inputs(project: &Project) -> impl Iterator<Item = (&str, Option<&str>)> {
    let inputs = project.pipeline.inputs.iter();
    inputs.map(|(name, schema)| (name.as_str(), schema.get("description").and_then(serde_json::Value::as_str)))
}

/// A file with its current text (the editor's, or else the one on the disk) and the path that messages show.
pub(super) fn file(path: &Path, documents: &Documents) -> Option<Arc<crate::diagnostic::SourceFile>> {
    let shown = path.to_string_lossy().replace('\\', "/");
    documents.sources().read(path, &shown).ok()
}
