//! Finds all uses of a name: of an agent, an artifact, a prompt, a schema or a pipeline.

use std::path::Path;
use std::sync::Arc;

use super::checks::Checks;
use super::cursor::{EditorCursor, Focus, YamlRole, role, step_of};
use super::definition::{self, DefinitionTarget, file_of, named_file, output_type};
use super::documents::Documents;
use super::facts;
use super::lex::{LexemeKind, lex};
use super::outline::{Outline, Seg};
use super::projects::{FileRole, ProjectFile};
use super::template_cursor::{ExpectedSyntax, tags};
use crate::diagnostic::SourceFile;

/// The thing whose uses are searched for.
enum ReferenceQuery {
    Agent(String),
    Artifact(String),
    File(std::path::PathBuf),
}

/// Returns all uses of the name at a position, and its declaration if that is requested.
pub(super) fn of(
    path: &Path,
    offset: usize,
    declaration: bool,
    documents: &Documents,
    checks: &Checks,
) -> Vec<DefinitionTarget> {
    let Some(cursor) = EditorCursor::at(path, offset, documents) else { return Vec::new() };
    let Some(sought) = sought(&cursor) else { return Vec::new() };
    let mut found = Vec::new();
    match &sought {
        // Agents and artifacts belong to one pipeline; several pipelines may use the same prompt.
        ReferenceQuery::Agent(_) | ReferenceQuery::Artifact(_) => {
            let owners = match cursor.member.kind {
                FileRole::Prompt(_) => checks.users(&cursor.path),
                FileRole::Pipeline | FileRole::Case | FileRole::Settings | FileRole::Schema(_) => {
                    vec![cursor.path.clone()]
                }
            };
            for owner in owners {
                in_pipeline(&cursor, &owner, &sought, documents, &mut found);
            }
        }
        ReferenceQuery::File(_) => {
            for owner in facts::pipelines(&cursor, documents) {
                in_pipeline(&cursor, &owner, &sought, documents, &mut found);
            }
        }
    }
    if declaration {
        found.extend(definition::at(path, offset, documents, checks));
    }
    let mut once: Vec<DefinitionTarget> = Vec::new();
    for target in found {
        if !once.contains(&target) {
            once.push(target);
        }
    }
    once
}

fn sought(cursor: &EditorCursor) -> Option<ReferenceQuery> {
    let field = match &cursor.focus {
        Focus::Prompt(spot) => {
            let plain = spot.wanted == ExpectedSyntax::Variable && spot.bound.is_none() && !spot.name.is_empty();
            return plain.then(|| ReferenceQuery::Artifact(spot.name.clone()));
        }
        Focus::Schema => return None,
        Focus::Field(field) => field,
    };
    if let Some(spot) = &field.spot {
        let plain = spot.wanted == ExpectedSyntax::Variable && spot.bound.is_none() && !spot.name.is_empty();
        return plain.then(|| ReferenceQuery::Artifact(spot.name.clone()));
    }
    let name = cursor.text.get(field.word.clone())?.to_owned();
    match field.role {
        YamlRole::Agent => Some(ReferenceQuery::Agent(name)),
        YamlRole::Artifact | YamlRole::Output => Some(ReferenceQuery::Artifact(name.trim_end_matches('?').to_owned())),
        YamlRole::Prompt | YamlRole::Schema | YamlRole::Pipeline => {
            named_file(cursor, field.role, &name).map(ReferenceQuery::File)
        }
        YamlRole::Plain if field.is_key => match field.path.as_slice() {
            [Seg::Key(group), Seg::Key(_)] if group == "agents" => Some(ReferenceQuery::Agent(name)),
            [Seg::Key(group), Seg::Key(_)] if group == "inputs" => Some(ReferenceQuery::Artifact(name)),
            _ => None,
        },
        YamlRole::Model | YamlRole::Expression(_) | YamlRole::Template | YamlRole::Plain => None,
    }
}

fn in_pipeline(
    cursor: &EditorCursor,
    path: &Path,
    sought: &ReferenceQuery,
    documents: &Documents,
    found: &mut Vec<DefinitionTarget>,
) {
    let Some(file) = facts::file(path, documents) else { return };
    let owner = EditorCursor {
        path: path.to_owned(),
        member: ProjectFile { root: cursor.member.root.clone(), kind: FileRole::Pipeline },
        text: Arc::from(file.text.as_str()),
        offset: 0,
        focus: Focus::Schema,
    };
    let outline = Outline::of(&file.text, None);
    let mut prompts: Vec<(String, Vec<Seg>)> = Vec::new();
    for entry in &outline.entries {
        let role = role(&FileRole::Pipeline, &entry.path);
        let value = file.text.get(entry.value.clone()).unwrap_or_default();
        let hit = match (sought, role) {
            (ReferenceQuery::Agent(name), YamlRole::Agent) => value == name,
            (ReferenceQuery::Artifact(name), YamlRole::Artifact | YamlRole::Output) => {
                value.trim_end_matches('?') == name
            }
            (ReferenceQuery::File(path), YamlRole::Prompt | YamlRole::Schema | YamlRole::Pipeline) => {
                named_file(&owner, role, value).as_ref() == Some(path)
            }
            // If the step has `schema:` too, that key names the file.
            (ReferenceQuery::File(path), YamlRole::Output) => {
                let step = step_of(&entry.path).unwrap_or_default();
                let alone = outline.find(&[step, &[Seg::Key("schema".to_owned())]].concat()).is_none();
                let output = output_type(&file.text, &outline, &entry.path).filter(|_| alone);
                output.and_then(|output| file_of(&owner, &output)).as_ref() == Some(path)
            }
            _ => false,
        };
        if hit {
            found.push(DefinitionTarget { file: Arc::clone(&file), span: entry.value.clone() });
        }
        if let ReferenceQuery::Artifact(name) = sought {
            match role {
                YamlRole::Expression(_) => in_words(&file, entry.value.clone(), name, found),
                YamlRole::Template => {
                    for tag in tags(&file.text, entry.value.clone()) {
                        in_words(&file, tag.inner, name, found);
                    }
                }
                YamlRole::Prompt => prompts.extend(step_of(&entry.path).map(|step| (value.to_owned(), step.to_vec()))),
                _ => {}
            }
        }
    }
    let ReferenceQuery::Artifact(name) = sought else { return };
    for (prompt, step) in prompts {
        // In a prompt, a name means the artifact only if the step lists it in `inputs` or if it is an input of the run.
        let is_input = outline.find(&[Seg::Key("inputs".to_owned()), Seg::Key(name.clone())]).is_some();
        let inputs = [step.as_slice(), &[Seg::Key("inputs".to_owned())]].concat();
        let listed =
            outline.entries.iter().filter(|entry| entry.path.starts_with(&inputs)).any(|entry| {
                file.text.get(entry.value.clone()).is_some_and(|value| value.trim_end_matches('?') == name)
            });
        let prompt = named_file(&owner, YamlRole::Prompt, &prompt).filter(|_| listed || is_input);
        if let Some(file) = prompt.and_then(|path| facts::file(&path, documents)) {
            for tag in tags(&file.text, 0..file.text.len()) {
                in_words(&file, tag.inner, name, found);
            }
        }
    }
}

/// Adds every occurrence of a name in a range, except as a property.
fn in_words(file: &Arc<SourceFile>, range: std::ops::Range<usize>, name: &str, found: &mut Vec<DefinitionTarget>) {
    let tokens = lex(&file.text, range);
    for (index, token) in tokens.iter().enumerate() {
        let property =
            index.checked_sub(1).and_then(|before| tokens.get(before)).is_some_and(|t| t.is(&file.text, "."));
        if token.sort == LexemeKind::Name && token.text(&file.text) == name && !property {
            found.push(DefinitionTarget { file: Arc::clone(file), span: token.at.clone() });
        }
    }
}
