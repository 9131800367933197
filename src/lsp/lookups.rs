//! Looks up the names that are visible at the cursor in a text. The text is often invalid, because the user is editing
//! it.
//!
//! If the server can't load the current text of the pipeline, it replaces the word at the cursor, then empties the
//! brackets around the cursor, and then uses the last valid version or, without one, the file on the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checks::Checks;
use super::cursor::{EditorCursor, FilePosition, YamlPosition, YamlRole, json_pointer, step_path};
use super::documents::Documents;
use super::named_files::resolve_file_name;
use super::outline_entry::{OutlineEntry, PathSegment, ValueStyle};
use super::projects;
use super::template_cursor::TemplatePosition;
use crate::check::{self, VisibleName};
use crate::config::{self, Project, Sources, steps_with_pointers};
use crate::model::name_scope::TextScope;

/// The maximum number of pipelines that the server checks for the names visible in a prompt.
const MAX_PIPELINES: usize = 16;

/// Returns all names that are visible at the cursor in a template or expression.
pub(super) fn visible_names(cursor: &EditorCursor, documents: &Documents, checks: &Checks) -> Vec<VisibleName> {
    match &cursor.position {
        FilePosition::Prompt(template) => names_in_prompt(cursor, template, documents, checks),
        FilePosition::Yaml(field) => match &field.template {
            Some(template) => names_in_field(cursor, field, template, documents),
            None => Vec::new(),
        },
        FilePosition::Schema => Vec::new(),
    }
}

/// Returns the names that are visible to at least one step that uses the prompt.
fn names_in_prompt(
    cursor: &EditorCursor,
    template: &TemplatePosition,
    documents: &Documents,
    checks: &Checks,
) -> Vec<VisibleName> {
    let mut using_pipelines = checks.pipelines_that_read(&cursor.path);
    if using_pipelines.is_empty() {
        using_pipelines = project_pipelines(cursor, documents);
    }
    let mut names: Vec<VisibleName> = Vec::new();
    for path in using_pipelines.into_iter().take(MAX_PIPELINES) {
        let mut sources = documents.sources();
        sources.put(&cursor.path, template.skeleton.as_str());
        let mut project = config::load_from(&sources, &path);
        if project.is_err() && documents.version(&path).is_some() {
            use_last_valid_version(&mut sources, &path, documents);
            project = config::load_from(&sources, &path);
        }
        let Ok(project) = project else { continue };
        for visible in check::visible_names(&project, check::ProbedText::Prompt, "", template.base.as_deref()) {
            if !names.iter().any(|known| known.name == visible.name) {
                names.push(visible);
            }
        }
    }
    names
}

/// Returns the pipelines of the project that contains the file.
pub(super) fn project_pipelines(cursor: &EditorCursor, documents: &Documents) -> Vec<PathBuf> {
    let sources = documents.sources();
    let files = projects::pipelines_and_test_cases(&cursor.project_file.root, documents.paths(), &sources);
    files.into_iter().filter(|file| !config::is_case(file)).collect()
}

fn names_in_field(
    cursor: &EditorCursor,
    field: &YamlPosition,
    template: &TemplatePosition,
    documents: &Documents,
) -> Vec<VisibleName> {
    let step = step_path(&field.path);
    let names = look_up_in_pipeline(cursor, field, documents, |project| {
        let pointer = match step {
            Some(step) => step_pointer(project, cursor, field, step)?,
            None => String::new(),
        };
        let text = match step {
            Some(_) => {
                let text_scope = match field.role {
                    YamlRole::Expression(text_scope) => text_scope,
                    _ => TextScope::Step,
                };
                check::ProbedText::Step { pointer: &pointer, text_scope }
            }
            None => check::ProbedText::Pipeline,
        };
        Some(check::visible_names(project, text, &template.skeleton, template.base.as_deref()))
            .filter(|names| !names.is_empty())
    });
    names.unwrap_or_default()
}

/// Returns the artifacts that the step at the cursor can read.
pub(super) fn readable_artifacts(
    cursor: &EditorCursor,
    field: &YamlPosition,
    documents: &Documents,
) -> Vec<VisibleName> {
    let Some(step) = step_path(&field.path) else { return Vec::new() };
    let artifacts = look_up_in_pipeline(cursor, field, documents, |project| {
        let pointer = step_pointer(project, cursor, field, step)?;
        Some(check::visible_artifacts(project, &pointer))
    });
    artifacts.unwrap_or_default()
}

/// Returns the result of `look_up` for the pipeline at the cursor. Uses the first version of its text for which
/// `look_up` has a result.
pub(super) fn look_up_in_pipeline<T>(
    cursor: &EditorCursor,
    field: &YamlPosition,
    documents: &Documents,
    look_up: impl Fn(&Project) -> Option<T>,
) -> Option<T> {
    let mut sources = documents.sources();
    let load_and_look_up = |sources: &Sources| look_up(&config::load_from(sources, &cursor.path).ok()?);
    let repaired = [replace_word(cursor, field), empty_brackets(cursor, field)].map(|text| text.map(Arc::from));
    let versions = std::iter::once(Some(Arc::clone(&cursor.text))).chain(repaired);
    let result = versions.flatten().find_map(|text: Arc<str>| {
        sources.put(&cursor.path, text);
        load_and_look_up(&sources)
    });
    result.or_else(|| {
        use_last_valid_version(&mut sources, &cursor.path, documents);
        load_and_look_up(&sources)
    })
}

/// Switches to the last valid version of a file, or to the version on the disk.
fn use_last_valid_version(sources: &mut Sources, path: &Path, documents: &Documents) {
    match documents.get(path).and_then(|open| open.last_valid_text.clone()) {
        Some(valid_text) => sources.put(path, valid_text),
        None => sources.remove_text(path),
    }
}

/// Returns the text with a valid word in place of the word at the cursor.
fn replace_word(cursor: &EditorCursor, field: &YamlPosition) -> Option<String> {
    let preceding = cursor.text.get(..field.word_range.start)?;
    let following = cursor.text.get(field.editable_end.max(field.word_range.end)..)?;
    let replacement = match (field.is_inline, field.path.last()) {
        (true, _) | (_, Some(PathSegment::Item(_))) if preceding.ends_with(':') => " x",
        (true, _) | (_, Some(PathSegment::Item(_))) => "x",
        _ => "",
    };
    Some(format!("{preceding}{replacement}{following}"))
}

/// Returns the text without the content of the brackets around the cursor; the closing bracket may be missing.
fn empty_brackets(cursor: &EditorCursor, field: &YamlPosition) -> Option<String> {
    let contains_position = |entry: &&OutlineEntry| {
        entry.style == ValueStyle::Flow
            && entry.value_range.start < cursor.offset
            && field.path.starts_with(&entry.path)
    };
    let flow = field.outline.entries.iter().filter(contains_position).max_by_key(|entry| entry.path.len())?;
    let preceding = cursor.text.get(..flow.value_range.start)?;
    let end = if flow.editable_end >= cursor.offset { flow.editable_end } else { cursor.offset };
    let empty = if cursor.text.get(flow.value_range.start..)?.starts_with('[') { "[]" } else { "{}" };
    Some(format!("{preceding}{empty}{}", cursor.text.get(end..)?))
}

/// Returns the JSON pointer of a step of the current text in a project that may come from another version of the text.
/// Finds the step by its id, or else by its path.
fn step_pointer(
    project: &Project,
    cursor: &EditorCursor,
    field: &YamlPosition,
    step: &[PathSegment],
) -> Option<String> {
    let steps = steps_with_pointers(&project.pipeline);
    let id = field.outline.find(&[step, &[PathSegment::Key("id".to_owned())]].concat());
    let id = id.and_then(|entry| cursor.text.get(entry.value_range.clone()));
    let same_path = json_pointer(step);
    let by_id = steps.iter().find(|(_, step)| Some(step.id.as_str()) == id);
    by_id.or(steps.iter().find(|(pointer, _)| *pointer == same_path)).map(|(pointer, _)| pointer.clone())
}

/// Loads the pipeline that a value names; returns `None` if that fails.
pub(super) fn load_named_pipeline(cursor: &EditorCursor, name: &str, documents: &Documents) -> Option<Project> {
    config::load_from(&documents.sources(), &resolve_file_name(cursor, YamlRole::Pipeline, name)?).ok()
}

/// Returns the inputs of a pipeline, each with its description.
pub(super) fn pipeline_inputs(project: &Project) -> impl Iterator<Item = (&str, Option<&str>)> {
    let inputs = project.pipeline.inputs.iter();
    inputs.map(|(name, schema)| (name.as_str(), schema.get("description").and_then(serde_json::Value::as_str)))
}

/// Returns a file with its current text (from the editor, or else from the disk) and the path that messages show.
pub(super) fn current_file(path: &Path, documents: &Documents) -> Option<Arc<crate::diagnostic::SourceFile>> {
    let display_path = path.to_string_lossy().replace('\\', "/");
    documents.sources().read(path, &display_path).ok()
}

/// Returns the names of the files in a folder of the project.
pub(super) fn folder_files(cursor: &EditorCursor, folder: &str, documents: &Documents) -> Vec<String> {
    documents.sources().list_files(&cursor.project_file.root.join(folder))
}
