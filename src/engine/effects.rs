//! Performs the effects other than model requests: commands, snapshots and writes of files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::durable::{CallProgress, CommandSpec, FilesToWrite};
use crate::files::{self, ChangeSet, ReservedFiles, Tree};
use crate::model::event::{CallOutput, CommandOutput};
use crate::model::failure::RAISE_TIMEOUT_HINT;
use crate::model::{CallKey, Failure, FailureClass, SandboxUse};
use crate::offload::run_on_thread;
use crate::process::{
    self, CERTIFICATE_VARIABLES, CapturedOutput, OutputStream, ProcessError, ProgramSpec, SandboxNeeds,
    command_environment, join_with_marker, probable_limit,
};

use crate::secret::{Redactor, StreamRedactor};

use super::command::PROJECT_FILE_HINT;
use super::perform::Performer;

/// The maximum number of bytes of each output stream that orch records. For a longer stream, it records the beginning
/// and the end, each half of this size.
const MAX_RECORDED_OUTPUT: usize = 16 << 20;

/// Runs a command in the workspace until it ends, or until `interruption` resolves with the failure to report.
pub(super) async fn run_command(
    performer: &Performer,
    key: &CallKey,
    command: &CommandSpec,
    interruption: impl Future<Output = Failure>,
) -> Result<CallOutput, Failure> {
    let mut env = command_environment(&*performer.env_vars, command.env.iter().map(String::as_str));
    env.extend(command.values.iter().cloned());
    let sandbox = match &command.sandbox {
        None => None,
        Some(sandbox) => {
            let needs = SandboxNeeds { readable: certificate_paths(performer), ..SandboxNeeds::default() };
            Some(Arc::new(performer.sandbox.prepare(sandbox, needs).await?))
        }
    };
    let spec = ProgramSpec {
        argv: command.argv.clone(),
        cwd: resolve_folder(&performer.workspace, &command.cwd)?,
        env,
        stdin: command.stdin.as_ref().map(|text| text.clone().into_bytes()),
        timeout: command.timeout_ms.map(Duration::from_millis),
        max_captured_bytes: MAX_RECORDED_OUTPUT,
        max_output_bytes: None,
        supervisor: performer.supervisor.clone(),
        ending_process_groups: performer.endings.get_or_create(key, &performer.clock),
        sandbox,
    };
    let folder = spec.cwd.display().to_string();
    performer.observer.on_progress(&CallProgress::Sent(key.clone()));
    // A chunk of output may end in the middle of a secret.
    let new_redactor = || Mutex::new(StreamRedactor::new(&performer.redactor));
    let (out, err) = (new_redactor(), new_redactor());
    let on_output = |stream: OutputStream, bytes: &[u8]| {
        let redactor = match stream {
            OutputStream::Stdout => &out,
            OutputStream::Stderr => &err,
        };
        let text = redactor.lock().unwrap_or_else(PoisonError::into_inner).push(&String::from_utf8_lossy(bytes));
        if let Some(line) = text.trim_end().lines().last() {
            performer.observer.on_progress(&CallProgress::Output(key.clone(), line.to_owned()));
        }
    };
    let result = tokio::select! {
        biased;
        result = process::run(&spec, &on_output) => result.map_err(|error| process_failure(error, &spec)),
        failure = interruption => Err(failure),
    };
    // After an interruption, the processes of the command may still write files until they have ended.
    spec.ending_process_groups.wait_all_ended().await;
    // Damage counts more than the reason for which the command ended early: else the user would not learn of it.
    check_damage(&spec)?;
    let result = result?;
    check_limit(&spec, result.code, &result.stderr)?;
    let succeeded = result.code == Some(0);
    let stderr_end = result.stderr.last_lines();
    let probable_limit =
        command.sandbox.as_ref().filter(|_| !succeeded).and_then(|sandbox| probable_limit(sandbox, &stderr_end));
    let hidden_program = if succeeded { None } else { spec.hidden_program_in(&stderr_end) };
    let hidden_program = hidden_program.map(|hidden| format!("{hidden}; {}", hidden.hint(allow_in_step)));
    let redactor = performer.redactor.clone();
    // Each output may have up to 16 MiB, and redacting so much text would block the run's thread.
    let output = run_on_thread(performer.clock.hold_virtual_time(), move || CommandOutput {
        exit_code: result.code.unwrap_or(-1),
        truncated: result.stdout.omitted_bytes() + result.stderr.omitted_bytes() > 0,
        stdout: recorded_text(&redactor, &result.stdout),
        stderr: recorded_text(&redactor, &result.stderr),
        folder: redactor.redact(&folder),
        probable_limit,
        hidden_program: hidden_program.map(|text| redactor.redact(&text)),
        replayed: false,
    });
    Ok(CallOutput::Command(output.await))
}

/// The hint for a program that reached a limit of its sandbox.
const RAISE_LIMIT_HINT: &str = "raise the limit under `limits` of the sandbox, or make the program use less";

/// The files and folders with certificates. They may be in a folder that the sandbox hides, such as `/tmp`.
fn certificate_paths(performer: &Performer) -> Vec<PathBuf> {
    CERTIFICATE_VARIABLES.iter().filter_map(|name| (performer.env_vars)(name)).map(PathBuf::from).collect()
}

/// Returns the record of the sandbox of a call's programs, without secrets; `None` if orch confined none of them.
pub(super) fn sandbox_use(performer: &Performer, key: &CallKey) -> Option<Box<SandboxUse>> {
    let sandbox = performer.endings.get_or_create(key, &performer.clock).sandbox_use()?;
    Some(Box::new(performer.redactor.redact_sandbox(sandbox)))
}

/// Returns the failure of an ended command that changed protected paths or damaged a repository.
fn check_damage(spec: &ProgramSpec) -> Result<(), Failure> {
    let sandbox = spec.ending_process_groups.sandbox_use();
    sandbox.and_then(|sandbox| sandbox.damage_failure()).map_or(Ok(()), Err)
}

/// Returns the failure of an ended command that reached a limit of its sandbox.
fn check_limit(spec: &ProgramSpec, code: Option<i32>, stderr: &CapturedOutput) -> Result<(), Failure> {
    let Some(sandbox) = spec.ending_process_groups.sandbox_use() else { return Ok(()) };
    if let Some(limit) = &sandbox.limit {
        let (code, lines) = (code.unwrap_or(-1), stderr.last_lines());
        let lines = if lines.is_empty() { lines } else { format!(":\n{lines}") };
        let message = format!("{limit}, and ended with exit code {code}{lines}");
        return Err(Failure::new(FailureClass::SandboxLimit, message).with_hint(RAISE_LIMIT_HINT));
    }
    Ok(())
}

/// Returns the text of an output for the record, without secrets. Also redacts the parts of a secret that the
/// truncation split.
fn recorded_text(redactor: &Redactor, output: &CapturedOutput) -> String {
    match (output.head_and_tail(), output.omitted_bytes()) {
        ((all, _), 0) => all,
        ((head, tail), omitted_bytes) => {
            join_with_marker(&redactor.redact_beginning(&head), &redactor.redact_ending(&tail), omitted_bytes)
        }
    }
}

/// The setting that lets the sandbox of a command change a path.
fn allow_in_step(path: &str) -> String {
    format!("write `write: [., {path}]` in `sandbox` of the step")
}

fn process_failure(error: ProcessError, spec: &ProgramSpec) -> Failure {
    if let Some(failure) = error.hidden_failure(allow_in_step) {
        return failure;
    }
    match &error {
        // The system looks up a relative program path from the working directory of the command.
        ProcessError::NotFound(program) if program.contains(['/', '\\']) => {
            let message = format!("{error}: the command ran in `{}`", spec.cwd.display());
            Failure::new(FailureClass::NotInstalled, message).with_hint(missing_file_hint(program, spec))
        }
        ProcessError::NotFound(program) => Failure::new(FailureClass::NotInstalled, error.to_string())
            .with_hint(format!("install `{program}`, or give its full path")),
        ProcessError::Timeout { stdout, stderr, .. } => {
            let streams = [("standard output", stdout), ("standard error", stderr)].into_iter();
            let excerpts = streams.filter(|(_, lines)| !lines.is_empty());
            let excerpts: String = excerpts.map(|(name, lines)| format!("\nthe end of {name}:\n{lines}")).collect();
            Failure::new(FailureClass::Timeout, format!("{error}{excerpts}")).with_hint(RAISE_TIMEOUT_HINT)
        }
        ProcessError::Spawn { source, .. } if source.kind() == std::io::ErrorKind::ArgumentListTooLong => {
            Failure::new(FailureClass::CommandFailed, error.to_string()).with_hint("pass large values through `stdin:`")
        }
        ProcessError::Hidden { .. }
        | ProcessError::Spawn { .. }
        | ProcessError::Supervisor { .. }
        | ProcessError::Io { .. }
        | ProcessError::NotConfined { .. }
        | ProcessError::TooMuchOutput { .. } => {
            let failure = Failure::new(FailureClass::CommandFailed, error.to_string());
            let failure = error.start_hint().into_iter().fold(failure, Failure::with_hint);
            error.not_confined_failure().unwrap_or(failure)
        }
    }
}

/// The hint for a program that the system did not find at its path.
fn missing_file_hint(program: &str, spec: &ProgramSpec) -> String {
    let path = spec.cwd.join(program);
    if !path.is_file() {
        return format!("it ran {PROJECT_FILE_HINT}");
    }
    "the file exists, so the interpreter in its first line (`#!`) may be missing".to_owned()
}

/// Resolves a folder of the workspace. The folder must exist and, with links resolved, lie inside the workspace.
fn resolve_folder(workspace: &Path, cwd: &str) -> Result<PathBuf, Failure> {
    let refuse = |problem: &str| {
        Failure::new(FailureClass::PathRefused, format!("`cwd: {cwd}` {problem}"))
            .with_hint("set it to a folder in the workspace, relative to the workspace")
    };
    let relative = Path::new(cwd);
    if files::leaves_folder(cwd) {
        return Err(refuse("leads out of the workspace"));
    }
    let folder = workspace.join(relative).canonicalize().map_err(|error| refuse(&format!("can't be used: {error}")))?;
    if !folder.starts_with(workspace) {
        return Err(refuse("is a link that leads out of the workspace"));
    }
    if !folder.is_dir() {
        return Err(refuse("is not a folder"));
    }
    Ok(folder)
}

/// Computes the change set of a step that is about to write files: each file before and after the change.
pub(super) async fn prepare_change_set(performer: &Performer, files: FilesToWrite) -> Result<CallOutput, Failure> {
    let workspace = performer.workspace.clone();
    let (artifacts, project) = (performer.artifact_files.clone(), performer.project_files.clone());
    run_blocking(move || {
        let entries = files::parse_entries(&files.files)?;
        let reserved = ReservedFiles { artifacts: &artifacts, project: &project, ..ReservedFiles::default() };
        let change_set = Tree::open(&workspace)?.prepare(&entries, reserved)?;
        serde_json::to_value(change_set).map(CallOutput::Snapshot).map_err(unreadable_record)
    })
    .await
}

/// Writes files, given their snapshot.
pub(super) async fn write_files(performer: &Performer, record: Value) -> Result<CallOutput, Failure> {
    let (workspace, written_files) = (performer.workspace.clone(), performer.files.clone());
    run_blocking(move || {
        let change_set: ChangeSet = serde_json::from_value(record).map_err(unreadable_record)?;
        let applied = written_files.apply(&Tree::open(&workspace)?, &change_set)?;
        serde_json::to_value(&applied).map(CallOutput::Applied).map_err(unreadable_record)
    })
    .await
}

fn unreadable_record(error: serde_json::Error) -> Failure {
    Failure::new(FailureClass::Storage, format!("the record of the files can't be read: {error}"))
}

async fn run_blocking(
    operation: impl FnOnce() -> Result<CallOutput, Failure> + Send + 'static,
) -> Result<CallOutput, Failure> {
    tokio::task::spawn_blocking(operation)
        .await
        .map_err(|error| Failure::new(FailureClass::Storage, format!("the files can't be written: {error}")))?
}
