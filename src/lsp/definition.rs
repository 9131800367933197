//! Where a name at a place is declared or produced.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checks::Checks;
use super::cursor::{Cursor, Field, Focus, Role, step_of};
use super::documents::Documents;
use super::facts;
use super::outline::{Outline, Seg};
use super::projects::Kind;
use super::schemas;
use super::tags::{Spot, Wanted};
use crate::config::{self, SETTINGS_FILE};
use crate::diagnostic::SourceFile;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) file: Arc<SourceFile>,
    pub(super) span: Range<usize>,
}

/// Where the name at a place is declared or produced.
pub(super) fn at(path: &Path, offset: usize, documents: &Documents, checks: &Checks) -> Vec<Target> {
    let Some(cursor) = Cursor::at(path, offset, documents) else { return Vec::new() };
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

fn in_tag(cursor: &Cursor, spot: &Spot, documents: &Documents, checks: &Checks) -> Option<Target> {
    if spot.wanted == Wanted::Include {
        return whole(&config::member_path(&cursor.member.root, "prompts", &spot.name)?, documents);
    }
    if let Some(span) = &spot.bound {
        return Some(Target { file: facts::file(&cursor.path, documents)?, span: span.clone() });
    }
    let found = facts::names(cursor, documents, checks);
    let (file, span) = found.into_iter().find(|found| found.name == spot.name)?.place?;
    Some(Target { file, span })
}

fn in_field(cursor: &Cursor, field: &Field, documents: &Documents) -> Option<Target> {
    let name = cursor.text.get(field.word.clone())?;
    let here = |span: Range<usize>| Some(Target { file: facts::file(&cursor.path, documents)?, span });
    match field.role {
        Role::Agent => {
            let agent = [Seg::Key("agents".to_owned()), Seg::Key(name.to_owned())];
            here(field.outline.find(&agent)?.key.clone()?)
        }
        Role::Artifact => {
            let name = name.trim_end_matches('?');
            let found = facts::artifacts(cursor, field, documents).into_iter().find(|found| found.name == name)?;
            let (file, span) = found.place?;
            Some(Target { file, span })
        }
        Role::Output => whole(&named_file(cursor, Role::Schema, schema_of(cursor, field, name))?, documents),
        Role::Prompt | Role::Schema | Role::Pipeline => whole(&named_file(cursor, field.role, name)?, documents),
        Role::Model => alias(cursor, name, documents),
        Role::Expression(_) | Role::Template | Role::Plain => None,
    }
}

/// The schema of an output: the one that the step names, else the one that is called like the output.
pub(super) fn schema_of<'t>(cursor: &'t Cursor, field: &Field, output: &'t str) -> &'t str {
    let step = step_of(&field.path).unwrap_or_default();
    let named = field.outline.find(&[step, &[Seg::Key("schema".to_owned())]].concat());
    named.and_then(|entry| cursor.text.get(entry.value.clone())).unwrap_or(output)
}

/// The file that a value names.
pub(super) fn named_file(cursor: &Cursor, role: Role, name: &str) -> Option<PathBuf> {
    let root = &cursor.member.root;
    let schema = |name: &str| match name {
        "text" | "any" => None,
        name if name.ends_with(".json") => config::member_path(root, "schemas", name),
        name => config::member_path(root, "schemas", &format!("{name}.schema.json")),
    };
    match role {
        Role::Prompt => config::member_path(root, "prompts", name),
        Role::Schema | Role::Output => schema(name),
        Role::Pipeline => {
            let folder = cursor.path.parent()?;
            match name.strip_prefix("../") {
                Some(rest) if cursor.member.kind == Kind::Case => Some(folder.parent()?.join(rest)),
                _ => Some(folder.join(name)),
            }
        }
        Role::Agent | Role::Artifact | Role::Model | Role::Expression(_) | Role::Template | Role::Plain => None,
    }
}

fn whole(path: &Path, documents: &Documents) -> Option<Target> {
    Some(Target { file: facts::file(path, documents)?, span: 0..0 })
}

/// Where `orch.yaml` says what a name for a model stands for.
pub(super) fn alias(cursor: &Cursor, name: &str, documents: &Documents) -> Option<Target> {
    let file = facts::file(&cursor.member.root.join(SETTINGS_FILE), documents)?;
    let outline = Outline::of(&file.text, None);
    let span = outline.find(&[Seg::Key("models".to_owned()), Seg::Key(name.to_owned())])?.key.clone()?;
    Some(Target { file, span })
}
