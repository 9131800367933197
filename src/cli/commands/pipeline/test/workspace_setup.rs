//! Prepares the workspace of a test case: copies files into it and runs the commands of `setup:`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::cli::interrupt;
use crate::config;
use crate::model::test_case::TestCase;
use crate::process::{self, EndingGroups, ProgramSpec};
use crate::runner::{ExitStatus, Runner, RunnerError};

/// The time limit for a command of `setup:`.
const SETUP_TIMEOUT: Duration = Duration::from_mins(1);
/// The maximum size in bytes of a command's output in an error message.
const MAX_OUTPUT_BYTES: usize = 16 << 10;
/// The git variables that commands of `setup:` inherit: author, committer, and the location of the configuration. The
/// list excludes variables that select a repository or may contain a password.
const GIT_VARIABLES: &[&str] = &[
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_AUTHOR_DATE",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_COMMITTER_DATE",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
];

/// Prepares the folder `workspace` for a test case. The paths in the test case are relative to `folder` and must be
/// inside the project at `root`. A signal ends the preparation and its commands.
pub(super) async fn prepare_workspace(
    case: &TestCase,
    root: &Path,
    folder: &Path,
    runner: &Runner,
    workspace: &Path,
) -> Result<()> {
    if let Some(files) = &case.workspace {
        let source = folder.join(files);
        if !source.is_dir() {
            let error = RunnerError::usage(format!("`workspace: {files}` is not a folder"));
            return Err(error.with_hint(format!("orch expects it at `{}`", source.display())).into());
        }
        let (root, destination) = (root.to_owned(), workspace.to_owned());
        let interrupted = Arc::new(AtomicBool::new(false));
        let copier = WorkspaceCopier { root, file_count: 0, byte_count: 0, interrupted: interrupted.clone() };
        let mut copy_task = tokio::task::spawn_blocking(move || copier.copy_all(&source, &destination));
        let result = tokio::select! {
            result = &mut copy_task => result,
            () = interrupt::wait_for_signal() => {
                interrupted.store(true, Ordering::Relaxed);
                copy_task.await
            }
        };
        result??;
    }
    for argv in &case.setup {
        run_setup_command(argv, runner, workspace).await?;
    }
    Ok(())
}

/// The maximum number of files and folders that `workspace:` copies, including the targets of links.
const MAX_FILES: usize = 10_000;
/// The maximum total size in bytes of the files that `workspace:` copies.
const MAX_BYTES: u64 = 256 << 20;
/// The maximum depth of the folders that `workspace:` copies.
const MAX_DEPTH: usize = 64;

/// Copies a folder and checks the limits.
struct WorkspaceCopier {
    /// The root of the project.
    root: PathBuf,
    file_count: usize,
    byte_count: u64,
    /// Whether a signal has interrupted the copy.
    interrupted: Arc<AtomicBool>,
}

impl WorkspaceCopier {
    fn copy_all(mut self, source: &Path, destination: &Path) -> Result<(), RunnerError> {
        self.copy(source, destination, 0)
    }

    /// Copies a file, or a folder with its contents, including permissions. Follows links, so that the copy is
    /// independent. Refuses links that lead out of the project, because a model may read the copy.
    fn copy(&mut self, source: &Path, destination: &Path, depth: usize) -> Result<(), RunnerError> {
        let copy_error =
            |error: std::io::Error| RunnerError::usage(format!("`{}` can't be copied: {error}", source.display()));
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(interrupted_error());
        }
        if config::is_outside_folder(&self.root, source) {
            let error =
                RunnerError::usage(format!("`{}` can't be copied: it is outside of the project", source.display()));
            return Err(error.with_hint("copy what the case needs into the project"));
        }
        let metadata = std::fs::metadata(source).map_err(copy_error)?;
        self.count_and_check(source, metadata.is_file().then_some(metadata.len()), depth)?;
        if metadata.is_file() {
            return std::fs::copy(source, destination).map(drop).map_err(copy_error);
        }
        if !metadata.is_dir() {
            let error = RunnerError::usage(format!(
                "`{}` can't be copied: it is neither a file nor a folder",
                source.display()
            ));
            return Err(error.with_hint("create it with a command of `setup:`"));
        }
        std::fs::create_dir_all(destination).map_err(copy_error)?;
        for entry in std::fs::read_dir(source).map_err(copy_error)? {
            let entry = entry.map_err(copy_error)?;
            self.copy(&entry.path(), &destination.join(entry.file_name()), depth + 1)?;
        }
        Ok(())
    }

    /// Counts a file or folder before orch copies it, and checks the limits.
    fn count_and_check(&mut self, source: &Path, bytes: Option<u64>, depth: usize) -> Result<(), RunnerError> {
        self.file_count += 1;
        self.byte_count = self.byte_count.saturating_add(bytes.unwrap_or_default());
        let limit = if self.file_count > MAX_FILES {
            format!("{MAX_FILES} files and folders")
        } else if self.byte_count > MAX_BYTES {
            format!("{} MiB of files", MAX_BYTES >> 20)
        } else if depth > MAX_DEPTH {
            format!("{MAX_DEPTH} levels of folders")
        } else {
            return Ok(());
        };
        let message = format!(
            "`workspace:` of the case can't be copied: it contains more than {limit}, including those behind links"
        );
        Err(RunnerError::usage(message)
            .with_hint(format!("the copy stopped at `{}`", source.display()))
            .with_hint("look for links to parent folders, and create large files with `setup:`"))
    }
}

fn interrupted_error() -> RunnerError {
    RunnerError::usage("interrupted before the run started").with_status(ExitStatus::Interrupted)
}

/// A hint about the working directory of the commands of `setup:`.
const WORKSPACE_HINT: &str =
    "it ran in the workspace of the case, which contains only the files of the project that `workspace:` copies";

async fn run_setup_command(argv: &[String], runner: &Runner, workspace: &Path) -> Result<(), RunnerError> {
    let spec = ProgramSpec {
        argv: argv.to_vec(),
        cwd: workspace.to_owned(),
        env: setup_environment(runner),
        stdin: None,
        timeout: Some(SETUP_TIMEOUT),
        max_captured_bytes: MAX_OUTPUT_BYTES,
        max_output_bytes: None,
        supervisor: runner.environment.supervisor().to_owned().into(),
        ending_process_groups: EndingGroups::default(),
        // The user wrote these commands, so they run with all of the user's rights.
        sandbox: None,
    };
    let command_line = argv.join(" ");
    let output = tokio::select! {
        output = process::run(&spec, &|_, _| {}) => Some(output),
        () = interrupt::wait_for_signal() => None,
    };
    spec.ending_process_groups.wait_all_ended().await;
    let output = output.ok_or_else(interrupted_error)?;
    let output = output.map_err(|error| {
        RunnerError::usage(format!("`setup:` of the case, `{command_line}`: {error}")).with_hint(WORKSPACE_HINT)
    })?;
    if output.code == Some(0) {
        return Ok(());
    }
    let text = [output.stderr.text(), output.stdout.text()].concat();
    let message = format!("`setup:` of the case, `{command_line}`, ended with exit code {}", output.code.unwrap_or(-1));
    Err(RunnerError::usage(message).with_hint(format!("its output: {}", text.trim())).with_hint(WORKSPACE_HINT))
}

/// The environment of a `run:` step, plus the git variables.
fn setup_environment(runner: &Runner) -> Vec<(String, String)> {
    process::command_environment(&*runner.environment.variable_lookup(), GIT_VARIABLES.iter().copied())
}
