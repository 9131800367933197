//! Finds all uses of an agent, an artifact, a prompt, a schema or a pipeline.

use std::path::Path;
use std::sync::Arc;

use super::checks::Checks;
use super::cursor::{EditorCursor, FilePosition, YamlRole, step_path, yaml_role};
use super::definition;
use super::definition_target::DefinitionTarget;
use super::documents::Documents;
use super::lookups;
use super::named_files::{expected_output_type, resolve_file_name, schema_file};
use super::outline::Outline;
use super::outline_entry::PathSegment;
use super::projects::{FileRole, ProjectFile};
use super::template_cursor::{ExpectedSyntax, TemplatePosition};
use super::template_tags::find_tags;
use super::tokens::{TemplateTokenKind, tokenize};
use crate::diagnostic::SourceFile;
use crate::model::name_scope::is_previous_path;

/// The agent, artifact or file whose uses the server searches for.
enum ReferenceQuery {
    Agent(String),
    Artifact(String),
    File(std::path::PathBuf),
}

/// Returns all uses of the name at the cursor, and its declaration if `include_declaration` is set.
pub(super) fn find_references(
    path: &Path,
    offset: usize,
    include_declaration: bool,
    documents: &Documents,
    checks: &Checks,
) -> Vec<DefinitionTarget> {
    let Some(cursor) = EditorCursor::from_position(path, offset, documents) else { return Vec::new() };
    let Some(query) = reference_query(&cursor) else { return Vec::new() };
    let mut targets = Vec::new();
    match &query {
        // Agents and artifacts belong to one pipeline; several pipelines may use the same prompt.
        ReferenceQuery::Agent(_) | ReferenceQuery::Artifact(_) => {
            let pipelines = match cursor.project_file.role {
                FileRole::Prompt(_) => checks.pipelines_that_read(&cursor.path),
                FileRole::Pipeline | FileRole::TestCase | FileRole::Settings | FileRole::Schema(_) => {
                    vec![cursor.path.clone()]
                }
            };
            for pipeline in pipelines {
                add_uses_in_pipeline(&cursor, &pipeline, &query, documents, &mut targets);
            }
        }
        ReferenceQuery::File(_) => {
            for pipeline in lookups::project_pipelines(&cursor, documents) {
                add_uses_in_pipeline(&cursor, &pipeline, &query, documents, &mut targets);
            }
        }
    }
    if include_declaration {
        targets.extend(definition::find_definitions(path, offset, documents, checks));
    }
    let mut unique_targets: Vec<DefinitionTarget> = Vec::new();
    for target in targets {
        if !unique_targets.contains(&target) {
            unique_targets.push(target);
        }
    }
    unique_targets
}

fn reference_query(cursor: &EditorCursor) -> Option<ReferenceQuery> {
    let field = match &cursor.position {
        FilePosition::Prompt(template) => return artifact_query(template),
        FilePosition::Schema => return None,
        FilePosition::Yaml(field) => field,
    };
    if let Some(template) = &field.template {
        return artifact_query(template);
    }
    let name = cursor.text.get(field.word_range.clone())?.to_owned();
    match field.role {
        YamlRole::Agent => Some(ReferenceQuery::Agent(name)),
        YamlRole::Artifact | YamlRole::Output => Some(ReferenceQuery::Artifact(name.trim_end_matches('?').to_owned())),
        YamlRole::Prompt | YamlRole::Schema | YamlRole::Pipeline => {
            resolve_file_name(cursor, field.role, &name).map(ReferenceQuery::File)
        }
        YamlRole::Plain if field.is_key => match field.path.as_slice() {
            [PathSegment::Key(section), PathSegment::Key(_)] if section == "agents" => {
                Some(ReferenceQuery::Agent(name))
            }
            [PathSegment::Key(section), PathSegment::Key(_)] if section == "inputs" => {
                Some(ReferenceQuery::Artifact(name))
            }
            _ => None,
        },
        YamlRole::Model | YamlRole::Expression(_) | YamlRole::Template | YamlRole::Plain => None,
    }
}

/// Returns the query for a variable in a template that no tag of the template sets, or for a member of `loop.previous`.
fn artifact_query(template: &TemplatePosition) -> Option<ReferenceQuery> {
    let is_variable = template.expected == ExpectedSyntax::Variable && template.binding.is_none();
    let is_previous_artifact =
        template.expected == ExpectedSyntax::Property && template.base.as_deref().is_some_and(is_previous_path);
    let is_artifact = (is_variable || is_previous_artifact) && !template.name.is_empty();
    is_artifact.then(|| ReferenceQuery::Artifact(template.name.clone()))
}

fn add_uses_in_pipeline(
    cursor: &EditorCursor,
    path: &Path,
    query: &ReferenceQuery,
    documents: &Documents,
    targets: &mut Vec<DefinitionTarget>,
) {
    let Some(file) = lookups::current_file(path, documents) else { return };
    let pipeline_cursor = EditorCursor {
        path: path.to_owned(),
        project_file: ProjectFile { root: cursor.project_file.root.clone(), role: FileRole::Pipeline },
        text: Arc::from(file.text.as_str()),
        offset: 0,
        position: FilePosition::Schema,
    };
    let outline = Outline::parse(&file.text, None);
    let mut prompts: Vec<(String, Vec<PathSegment>)> = Vec::new();
    for entry in &outline.entries {
        let role = yaml_role(&FileRole::Pipeline, &entry.path);
        let value = file.text.get(entry.value_range.clone()).unwrap_or_default();
        let is_use = match (query, role) {
            (ReferenceQuery::Agent(name), YamlRole::Agent) => value == name,
            (ReferenceQuery::Artifact(name), YamlRole::Artifact | YamlRole::Output) => {
                value.trim_end_matches('?') == name
            }
            (ReferenceQuery::File(path), YamlRole::Prompt | YamlRole::Schema | YamlRole::Pipeline) => {
                resolve_file_name(&pipeline_cursor, role, value).as_ref() == Some(path)
            }
            // If the step also has `schema:`, that key determines the file.
            (ReferenceQuery::File(path), YamlRole::Output) => {
                let step = step_path(&entry.path).unwrap_or_default();
                let has_no_schema = outline.find(&[step, &[PathSegment::Key("schema".to_owned())]].concat()).is_none();
                let output = expected_output_type(&file.text, &outline, &entry.path).filter(|_| has_no_schema);
                output.and_then(|output| schema_file(&pipeline_cursor, &output)).as_ref() == Some(path)
            }
            _ => false,
        };
        if is_use {
            targets.push(DefinitionTarget { file: Arc::clone(&file), span: entry.value_range.clone() });
        }
        if let ReferenceQuery::Artifact(name) = query {
            match role {
                YamlRole::Expression(_) => add_occurrences(&file, entry.value_range.clone(), name, targets),
                YamlRole::Template => {
                    for tag in find_tags(&file.text, entry.value_range.clone()) {
                        add_occurrences(&file, tag.content_range, name, targets);
                    }
                }
                YamlRole::Prompt => {
                    prompts.extend(step_path(&entry.path).map(|step| (value.to_owned(), step.to_vec())));
                }
                _ => {}
            }
        }
    }
    let ReferenceQuery::Artifact(name) = query else { return };
    for (prompt, step) in prompts {
        // In a prompt, a name refers to the artifact only if the step lists the artifact in `inputs`, or if the name is
        // an input of the run.
        let is_input = outline.find(&[PathSegment::Key("inputs".to_owned()), PathSegment::Key(name.clone())]).is_some();
        let inputs = [step.as_slice(), &[PathSegment::Key("inputs".to_owned())]].concat();
        let is_listed = outline.entries.iter().filter(|entry| entry.path.starts_with(&inputs)).any(|entry| {
            file.text.get(entry.value_range.clone()).is_some_and(|value| value.trim_end_matches('?') == name)
        });
        let prompt = resolve_file_name(&pipeline_cursor, YamlRole::Prompt, &prompt);
        let Some(file) = prompt.and_then(|path| lookups::current_file(&path, documents)) else { continue };
        for tag in find_tags(&file.text, 0..file.text.len()) {
            let mut occurrences = Vec::new();
            add_occurrences(&file, tag.content_range, name, &mut occurrences);
            // A step need not list the artifacts of the previous iteration.
            occurrences.retain(|target| is_listed || is_input || follows_previous(&file, target.span.start));
            targets.append(&mut occurrences);
        }
    }
}

/// Adds every occurrence of a name in a range, except as a property of a value other than `loop.previous`.
fn add_occurrences(
    file: &Arc<SourceFile>,
    range: std::ops::Range<usize>,
    name: &str,
    targets: &mut Vec<DefinitionTarget>,
) {
    let tokens = tokenize(&file.text, range);
    for (index, token) in tokens.iter().enumerate() {
        let previous = index.checked_sub(1).and_then(|previous| tokens.get(previous));
        let is_property = previous.is_some_and(|token| token.matches_text(&file.text, "."))
            && !follows_previous(file, token.range.start);
        if token.kind == TemplateTokenKind::Name && token.text(&file.text) == name && !is_property {
            targets.push(DefinitionTarget { file: Arc::clone(file), span: token.range.clone() });
        }
    }
}

/// Whether the word at this offset is a member of `loop.previous`.
fn follows_previous(file: &SourceFile, offset: usize) -> bool {
    let preceding = file.text.get(..offset).unwrap_or_default();
    let is_path_char = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
    let path = preceding.get(preceding.trim_end_matches(is_path_char).len()..).unwrap_or_default();
    path.strip_suffix('.').is_some_and(is_previous_path)
}
