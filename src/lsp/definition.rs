//! Finds the location at which the name at the cursor is declared or produced.

use std::ops::Range;
use std::path::Path;

use super::checks::Checks;
use super::cursor::{EditorCursor, FilePosition, YamlPosition, YamlRole};
use super::definition_target::DefinitionTarget;
use super::documents::Documents;
use super::lookups;
use super::named_files::{expected_output_type, resolve_file_name, schema_file};
use super::outline::Outline;
use super::outline_entry::PathSegment;
use super::schema_refs;
use super::template_cursor::{ExpectedSyntax, TemplatePosition};
use crate::config::{self, SETTINGS_FILE};

/// Returns the location at which the name at the cursor is declared or produced.
pub(super) fn find_definitions(
    path: &Path,
    offset: usize,
    documents: &Documents,
    checks: &Checks,
) -> Vec<DefinitionTarget> {
    let Some(cursor) = EditorCursor::from_position(path, offset, documents) else { return Vec::new() };
    let target = match &cursor.position {
        FilePosition::Prompt(template) => definition_in_template(&cursor, template, documents, checks),
        FilePosition::Yaml(field) => match &field.template {
            Some(template) => definition_in_template(&cursor, template, documents, checks),
            None => definition_in_field(&cursor, field, documents),
        },
        FilePosition::Schema => schema_refs::resolve_ref(&cursor, documents).map(|(target, ..)| target),
    };
    target.into_iter().collect()
}

fn definition_in_template(
    cursor: &EditorCursor,
    template: &TemplatePosition,
    documents: &Documents,
    checks: &Checks,
) -> Option<DefinitionTarget> {
    if template.expected == ExpectedSyntax::Include {
        return start_of_file(
            &config::path_in_folder(&cursor.project_file.root, "prompts", &template.name)?,
            documents,
        );
    }
    if let Some(span) = &template.binding {
        return Some(DefinitionTarget { file: lookups::current_file(&cursor.path, documents)?, span: span.clone() });
    }
    let names = lookups::visible_names(cursor, documents, checks);
    let (file, span) = names.into_iter().find(|visible| visible.name == template.name)?.declaration?;
    Some(DefinitionTarget { file, span })
}

fn definition_in_field(cursor: &EditorCursor, field: &YamlPosition, documents: &Documents) -> Option<DefinitionTarget> {
    let name = cursor.text.get(field.word_range.clone())?;
    let target_in_file =
        |span: Range<usize>| Some(DefinitionTarget { file: lookups::current_file(&cursor.path, documents)?, span });
    match field.role {
        YamlRole::Agent => {
            let agent = [PathSegment::Key("agents".to_owned()), PathSegment::Key(name.to_owned())];
            target_in_file(field.outline.find(&agent)?.key_range.clone()?)
        }
        YamlRole::Artifact => {
            let name = name.trim_end_matches('?');
            let artifacts = lookups::readable_artifacts(cursor, field, documents);
            let (file, span) = artifacts.into_iter().find(|artifact| artifact.name == name)?.declaration?;
            Some(DefinitionTarget { file, span })
        }
        YamlRole::Output => {
            let output = expected_output_type(&cursor.text, &field.outline, &field.path)?;
            start_of_file(&schema_file(cursor, &output)?, documents)
        }
        YamlRole::Prompt | YamlRole::Schema | YamlRole::Pipeline => {
            start_of_file(&resolve_file_name(cursor, field.role, name)?, documents)
        }
        YamlRole::Model => find_model_alias(cursor, name, documents),
        YamlRole::Expression(_) | YamlRole::Template | YamlRole::Plain => None,
    }
}

fn start_of_file(path: &Path, documents: &Documents) -> Option<DefinitionTarget> {
    Some(DefinitionTarget { file: lookups::current_file(path, documents)?, span: 0..0 })
}

/// Finds the alias of a model in `orch.yaml`.
pub(super) fn find_model_alias(cursor: &EditorCursor, name: &str, documents: &Documents) -> Option<DefinitionTarget> {
    let file = lookups::current_file(&cursor.project_file.root.join(SETTINGS_FILE), documents)?;
    let outline = Outline::parse(&file.text, None);
    let span =
        outline.find(&[PathSegment::Key("models".to_owned()), PathSegment::Key(name.to_owned())])?.key_range.clone()?;
    Some(DefinitionTarget { file, span })
}
