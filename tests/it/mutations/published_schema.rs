//! The published schemas: ajv's strict mode accepts them, and they refuse the mistakes in the shape of a pipeline file
//! that the check reports.

use std::fs;
use std::path::{Path, PathBuf};

use orch::check::check;
use orch::config::{load, published_case_schema, published_pipeline_schema, published_settings_schema};
use orch::diagnostic::Diagnostic;
use serde_json::Value;

use super::{Mutation, ProjectCopy, files_in, mutations, project_names};
use crate::support::ajv::validation_errors;

/// The first and the last code of mistakes in the shape of a file.
const SHAPE_CODES: (&str, &str) = ("ORCH0201", "ORCH0207");
/// Projects of `tests/pipelines/invalid` and mutations with a mistake that has one of these codes, but that a schema
/// can't express: a key without effect beside the value of another one, and the syntax of a host.
const NOT_IN_SCHEMAS: &[&str] = &["sandbox_without_effect", "sandbox_host_and_path", "cli_team-08"];

/// A pipeline file with the findings in it.
struct CheckedFile {
    name: String,
    document: Value,
    findings: Vec<Diagnostic>,
}

impl CheckedFile {
    /// Parses a file; `None` if it is not a mapping. `findings` are those of its project.
    fn new(name: &str, path: &str, text: &str, mut findings: Vec<Diagnostic>) -> Option<Self> {
        let document: Value = serde_yaml::from_str(text).ok().filter(Value::is_object)?;
        findings.retain(|finding| finding.file.as_ref().is_some_and(|file| file.path.ends_with(path)));
        Some(Self { name: name.to_owned(), document, findings })
    }

    fn has_error(&self) -> bool {
        self.findings.iter().any(Diagnostic::is_error)
    }

    fn has_wrong_shape(&self) -> bool {
        self.findings.iter().any(|finding| (SHAPE_CODES.0..=SHAPE_CODES.1).contains(&finding.code.as_str()))
    }
}

/// The pipelines of these mutations, with what the check says about them.
fn mutated_files(mutations: &[Mutation]) -> Vec<CheckedFile> {
    let mut files = Vec::new();
    for name in project_names(mutations) {
        let copy = ProjectCopy::new(name);
        let of_project = mutations.iter().filter(|mutation| mutation.project == name);
        for mutation in of_project.filter(|mutation| mutation.file.starts_with("pipelines/")) {
            if NOT_IN_SCHEMAS.contains(&mutation.id.as_str()) {
                continue;
            }
            let text = fs::read_to_string(copy.path(&mutation.file)).unwrap();
            let text = text.replace(&mutation.find, &mutation.replace);
            files.extend(CheckedFile::new(&mutation.id, &mutation.file, &text, copy.findings_after(mutation)));
        }
    }
    files
}

/// The folders of projects below a folder, sorted.
fn project_folders(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// The pipelines of `tests/pipelines/invalid` whose mistakes a schema can express.
fn invalid_files() -> Vec<CheckedFile> {
    let mut files = Vec::new();
    for folder in project_folders("tests/pipelines/invalid") {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let path = folder.join("pipelines/main.yaml");
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if NOT_IN_SCHEMAS.contains(&name.as_str()) {
            continue;
        }
        let findings = load(&path).map_or_else(|findings| findings, |project| check(&project));
        files.extend(CheckedFile::new(&name, "pipelines/main.yaml", &text, findings));
    }
    files
}

/// The documents in files, without those of empty files.
fn documents(paths: Vec<PathBuf>) -> Vec<(PathBuf, Value)> {
    let parse = |path: &Path| serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let documents = paths.into_iter().map(|path| (path.clone(), parse(&path)));
    documents.filter(|(_, document): &(PathBuf, Value)| !document.is_null()).collect()
}

/// The pipelines, the settings and the test cases of valid projects.
fn valid_files() -> [Vec<PathBuf>; 3] {
    let mut roots = project_folders("tests/pipelines/valid");
    roots.extend(project_folders("tests/it/mutations/projects"));
    roots.push(PathBuf::from("."));
    let pipelines = roots.iter().flat_map(|root| files_in(&root.join("pipelines"))).collect();
    let settings = roots.iter().map(|root| root.join("orch.yaml")).filter(|path| path.exists()).collect();
    let mut cases = files_in(Path::new("pipelines/tests"));
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    [pipelines, settings, cases]
}

#[test]
fn strict_validators_accept_the_published_schemas_and_valid_files() {
    let schemas = [published_pipeline_schema(), published_settings_schema(), published_case_schema()];
    for (schema, paths) in schemas.iter().zip(valid_files()) {
        let documents = documents(paths);
        assert!(documents.len() > 3, "{documents:?}");
        let values: Vec<&Value> = documents.iter().map(|(_, document)| document).collect();
        let Some(errors) = validation_errors(schema, &values) else { return };
        for ((path, _), error) in documents.iter().zip(errors) {
            assert_eq!(error, None, "{}", path.display());
        }
    }
}

#[test]
fn the_published_schema_refuses_the_shapes_that_the_check_reports() {
    let mut files = mutated_files(&mutations());
    files.extend(invalid_files());
    let documents: Vec<&Value> = files.iter().map(|file| &file.document).collect();
    let Some(errors) = validation_errors(&published_pipeline_schema(), &documents) else { return };
    let mut wrong = Vec::new();
    for (file, error) in files.iter().zip(&errors) {
        match error {
            Some(error) if !file.has_error() => wrong.push(format!("{} is refused: {error}", file.name)),
            None if file.has_wrong_shape() => wrong.push(format!("{} is accepted", file.name)),
            Some(_) | None => {}
        }
    }
    assert!(errors.iter().flatten().count() > 80, "few files have a wrong shape");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
