//! The recordings that a test case replays, and the normalizers that match nothing in them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::agent::{Replay, ReplayOptions};
use crate::config::{self, Document, Project, item_pointer, steps_with_pointers};
use crate::model::test_case::TestCase;
use crate::model::{CommandMode, CommandModes, Normalizer, Step};
use crate::runner::{RunnerError, models};

/// Opens the recordings of a test case in the folder `recordings`. `name` is the name of the test case in messages.
/// Returns `None` if the test runs without recordings: the pipeline has no agents, the test case names no recordings,
/// and nothing was recorded.
pub(super) fn open_replay(
    case: &TestCase,
    name: &str,
    project: &Project,
    recordings: PathBuf,
) -> Result<Option<Arc<Replay>>, RunnerError> {
    // If the test case names a folder, a missing folder is a mistake: its commands would run instead of being replayed.
    let names_recordings = case.recordings.is_some() && case.commands != CommandModes::All(CommandMode::Run);
    let needs_recordings = has_agents(project) || names_recordings || case.commands.contains(CommandMode::Replay);
    if !needs_recordings && !has_recordings(case, &recordings)? {
        return Ok(None);
    }
    let recordings = check_inside_project(project, recordings)?;
    let options = ReplayOptions {
        normalizers: case.normalize.iter().chain(&project.settings.recordings.normalize).cloned().collect(),
        rule_location: "the test case".to_owned(),
        commands: case.commands.clone(),
        run_advice: "to run the command instead, set `commands: run` in the test case".to_owned(),
        files_advice: files_advice(case),
        remedy: Some(format!("record the replies with `orch pipeline test --update {name}`")),
    };
    models::open_recordings(&recordings, options).map(Some)
}

/// How the user can give the workspace of the test the files that the recordings need.
fn files_advice(case: &TestCase) -> String {
    match &case.workspace {
        Some(folder) => format!(
            "the test begins with the files of `workspace: {folder}` and `setup`: give these files the state in which \
             the recorded run found them"
        ),
        None => "the test case has no `workspace:`, so the test begins with an empty folder: put the files with which \
                 the recorded run began into a folder beside the test case, and name the folder with `workspace:`"
            .to_owned(),
    }
}

/// Whether any step has an agent. Without recordings, the test of a pipeline without agents runs its commands.
fn has_agents(project: &Project) -> bool {
    has_step(project, |step| step.agent.is_some())
}

/// Whether any step of a pipeline and of the pipelines that it calls has a property.
fn has_step(project: &Project, has_property: impl Fn(&Step) -> bool) -> bool {
    let mut projects = project.with_called_projects().into_iter();
    projects.any(|project| steps_with_pointers(&project.pipeline).iter().any(|(_, step)| has_property(step)))
}

/// The warning about a test without recordings that ran commands, although the test case does not say so. `recordings`
/// is the folder in which orch looked for recordings.
pub(super) fn warning_about_commands(case: &TestCase, project: &Project, recordings: &str) -> Option<String> {
    let ran_commands = case.commands.is_empty() && has_step(project, |step| step.run.is_some());
    ran_commands.then(|| {
        format!(
            "there are no recordings in `{recordings}`, so the test ran the commands of the pipeline; record their \
             results with `orch pipeline test --update`, or write `commands: run` in the test case"
        )
    })
}

/// Whether a folder has recordings. The folder with the name of the test case may also be the one that the test copies
/// into its workspace.
fn has_recordings(case: &TestCase, recordings: &Path) -> Result<bool, RunnerError> {
    if case.workspace.as_deref().is_some_and(|files| Path::new(files).file_name() == recordings.file_name()) {
        return Ok(false);
    }
    let read_error = |error: io::Error| {
        RunnerError::usage(format!("the recordings in `{}` can't be read: {error}", recordings.display()))
    };
    let entries = match std::fs::read_dir(recordings) {
        Ok(entries) => entries,
        // A file with the name of the test case is no folder of recordings either.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(false);
        }
        Err(error) => return Err(read_error(error)),
    };
    for entry in entries {
        if entry.map_err(read_error)?.path().extension().is_some_and(|extension| extension == "json") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the path, or an error if the path leads out of the project through a link.
fn check_inside_project(project: &Project, path: PathBuf) -> Result<PathBuf, RunnerError> {
    if config::is_outside_folder(&project.root, &path) {
        let message = format!("`{}` is a link that leads out of the project", path.display());
        return Err(RunnerError::usage(message).with_hint("copy its target into the project"));
    }
    Ok(path)
}

/// The normalizers that matched nothing in the tests that passed.
#[derive(Debug, Default)]
pub(super) struct UnusedNormalizers {
    /// Warnings about the rules of test cases.
    case_warnings: Vec<String>,
    /// Warnings about the rules of `orch.yaml`, and whether a rule matched in no test.
    settings_warnings: BTreeMap<String, bool>,
}

impl UnusedNormalizers {
    /// Adds the rules that apply to a test case. `replay` has compared its requests.
    pub(super) fn add(&mut self, document: &Document, case: &TestCase, project: &Project, replay: Option<&Replay>) {
        let unused = replay.map(Replay::unused_normalizers);
        let is_unused = |position: &usize| unused.as_ref().is_none_or(|unused| unused.contains(position));
        for (index, rule) in case.normalize.iter().enumerate().filter(|(index, _)| is_unused(index)) {
            self.case_warnings.push(unused_warning(document, &item_pointer("/normalize", index), rule));
        }
        let Some(settings_document) = &project.settings_document else { return };
        for (index, rule) in project.settings.recordings.normalize.iter().enumerate() {
            let warning = unused_warning(settings_document, &item_pointer("/recordings/normalize", index), rule);
            // In a replay, the rules of the test case come first.
            let is_unused_here = is_unused(&(case.normalize.len() + index));
            *self.settings_warnings.entry(warning).or_insert(true) &= is_unused_here;
        }
    }

    /// The warnings. Those about `orch.yaml` only if all tests ran, because each of its rules may serve a single test.
    pub(super) fn warnings(&self, all_tests_passed: bool) -> impl Iterator<Item = &str> {
        let of_settings = self.settings_warnings.iter().filter(move |(_, is_unused)| all_tests_passed && **is_unused);
        self.case_warnings.iter().chain(of_settings.map(|(warning, _)| warning)).map(String::as_str)
    }
}

fn unused_warning(document: &Document, pointer: &str, rule: &Normalizer) -> String {
    let (line, _) = document.file.line_column(document.spans.value(pointer).start);
    format!(
        "{}:{line}: no request of the test contains a match of the normalizer `{}`; delete it or correct its pattern",
        document.file.path, rule.pattern
    )
}
