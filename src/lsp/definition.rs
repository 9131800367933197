//! Finds where the name at a position is declared or produced.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checks::Checks;
use super::cursor::{EditorCursor, Field, Focus, YamlRole, step_of};
use super::documents::Documents;
use super::facts;
use super::outline::{Outline, Seg};
use super::projects::FileRole;
use super::schemas;
use super::template_cursor::{ExpectedSyntax, TemplateSpot};
use crate::config::{self, OutputType, SETTINGS_FILE};
use crate::diagnostic::SourceFile;

/// A range in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DefinitionTarget {
    pub(super) file: Arc<SourceFile>,
    pub(super) span: Range<usize>,
}

/// Returns where the name at a position is declared or produced.
pub(super) fn at(path: &Path, offset: usize, documents: &Documents, checks: &Checks) -> Vec<DefinitionTarget> {
    let Some(cursor) = EditorCursor::at(path, offset, documents) else { return Vec::new() };
    let found = match &cursor.focus {
        Focus::Prompt(spot) => in_tag(&cursor, spot, documents, checks),
        Focus::Field(field) => match &field.spot {
            Some(spot) => in_tag(&cursor, spot, documents, checks),
            None => in_field(&cursor, field, documents),
        },
        Focus::Schema => schemas::target(&cursor, documents).map(|(target, ..)| target),
    };
    found.into_iter().collect()
}

fn in_tag(
    cursor: &EditorCursor,
    spot: &TemplateSpot,
    documents: &Documents,
    checks: &Checks,
) -> Option<DefinitionTarget> {
    if spot.wanted == ExpectedSyntax::Include {
        return whole(&config::member_path(&cursor.member.root, "prompts", &spot.name)?, documents);
    }
    if let Some(span) = &spot.bound {
        return Some(DefinitionTarget { file: facts::file(&cursor.path, documents)?, span: span.clone() });
    }
    let found = facts::names(cursor, documents, checks);
    let (file, span) = found.into_iter().find(|found| found.name == spot.name)?.place?;
    Some(DefinitionTarget { file, span })
}

fn in_field(cursor: &EditorCursor, field: &Field, documents: &Documents) -> Option<DefinitionTarget> {
    let name = cursor.text.get(field.word.clone())?;
    let here = |span: Range<usize>| Some(DefinitionTarget { file: facts::file(&cursor.path, documents)?, span });
    match field.role {
        YamlRole::Agent => {
            let agent = [Seg::Key("agents".to_owned()), Seg::Key(name.to_owned())];
            here(field.outline.find(&agent)?.key.clone()?)
        }
        YamlRole::Artifact => {
            let name = name.trim_end_matches('?');
            let found = facts::artifacts(cursor, field, documents).into_iter().find(|found| found.name == name)?;
            let (file, span) = found.place?;
            Some(DefinitionTarget { file, span })
        }
        YamlRole::Output => {
            whole(&file_of(cursor, &output_type(&cursor.text, &field.outline, &field.path)?)?, documents)
        }
        YamlRole::Prompt | YamlRole::Schema | YamlRole::Pipeline => {
            whole(&named_file(cursor, field.role, name)?, documents)
        }
        YamlRole::Model => alias(cursor, name, documents),
        YamlRole::Expression(_) | YamlRole::Template | YamlRole::Plain => None,
    }
}

/// The type that the output at a path of a pipeline must have, determined by the keys of its step.
pub(super) fn output_type(text: &str, outline: &Outline, path: &[Seg]) -> Option<OutputType> {
    let step = step_of(path)?;
    let key = |name: &str| outline.find(&[step, &[Seg::Key(name.to_owned())]].concat());
    let word = |name: &str| text.get(key(name)?.value.clone());
    config::output_type_so_far(word("output")?, word("schema"), |name| key(name).is_some())
}

/// The file of an output type; `None` for a type without a schema file.
pub(super) fn file_of(cursor: &EditorCursor, output: &OutputType) -> Option<PathBuf> {
    match output {
        OutputType::File(name) => config::member_path(&cursor.member.root, "schemas", name),
        OutputType::Text | OutputType::Any | OutputType::Built(_) => None,
    }
}

/// The path of the file that a value names.
pub(super) fn named_file(cursor: &EditorCursor, role: YamlRole, name: &str) -> Option<PathBuf> {
    let root = &cursor.member.root;
    match role {
        YamlRole::Prompt => config::member_path(root, "prompts", name),
        YamlRole::Schema => file_of(cursor, &config::named_type(name)),
        YamlRole::Pipeline => {
            let folder = cursor.path.parent()?;
            match name.strip_prefix("../") {
                Some(rest) if cursor.member.kind == FileRole::Case => Some(folder.parent()?.join(rest)),
                _ => Some(folder.join(name)),
            }
        }
        YamlRole::Agent
        | YamlRole::Artifact
        | YamlRole::Output
        | YamlRole::Model
        | YamlRole::Expression(_)
        | YamlRole::Template
        | YamlRole::Plain => None,
    }
}

fn whole(path: &Path, documents: &Documents) -> Option<DefinitionTarget> {
    Some(DefinitionTarget { file: facts::file(path, documents)?, span: 0..0 })
}

/// Finds the alias of a model in `orch.yaml`.
pub(super) fn alias(cursor: &EditorCursor, name: &str, documents: &Documents) -> Option<DefinitionTarget> {
    let file = facts::file(&cursor.member.root.join(SETTINGS_FILE), documents)?;
    let outline = Outline::of(&file.text, None);
    let span = outline.find(&[Seg::Key("models".to_owned()), Seg::Key(name.to_owned())])?.key.clone()?;
    Some(DefinitionTarget { file, span })
}
