//! The effects that ask no model: commands and files.

use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::durable::{CallProgress, CommandSpec, Files};
use crate::files::{self, ChangeSet, Reserved, Tree};
use crate::model::event::{CallOutput, CommandOutput};
use crate::model::failure::RAISE_TIMEOUT;
use crate::model::{CallKey, Class, Failure};
use crate::offload::off_thread;
use crate::process::{self, Captured, ProcessError, ProgramSpec, Stream, joined};

use crate::secret::{Redactor, StreamRedactor};

use super::command::OF_PROJECT;
use super::perform::Performer;

/// How many bytes of each output are recorded; of a longer output, half of that from its beginning and half from its
/// end.
const KEPT: usize = 16 << 20;
/// Variables that every command sees: where programs and their settings are, and the language.
const BASIC: &[&str] =
    &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SystemRoot"];

/// Returns the part of orch's environment that a command sees: the basic variables, and those named in `more`. No API
/// key is among them unless it is named.
pub fn environment<'a>(
    variables: &dyn Fn(&str) -> Option<String>,
    more: impl IntoIterator<Item = &'a str>,
) -> Vec<(String, String)> {
    let taken = BASIC.iter().copied().chain(more);
    taken.filter_map(|name| Some((name.to_owned(), variables(name)?))).collect()
}

/// Runs a command in the workspace until it ends or is cut off.
pub(super) async fn command(
    own: &Performer,
    key: &CallKey,
    command: &CommandSpec,
    cut: impl Future<Output = Failure>,
) -> Result<CallOutput, Failure> {
    let mut env = environment(&*own.variables, command.env.iter().map(String::as_str));
    env.extend(command.values.iter().cloned());
    let spec = ProgramSpec {
        argv: command.argv.clone(),
        cwd: folder(&own.workspace, &command.cwd)?,
        env,
        stdin: command.stdin.as_ref().map(|text| text.clone().into_bytes()),
        timeout: command.timeout_ms.map(Duration::from_millis),
        cap: KEPT,
        most: None,
        guard: own.guard.clone(),
        endings: own.endings.of(key, &own.clock),
    };
    let folder = spec.cwd.display().to_string();
    own.observer.signal(&CallProgress::Sent(key.clone()));
    // A secret may begin in one chunk of an output and end in the next.
    let pieces = || Mutex::new(StreamRedactor::new(&own.redactor));
    let (out, err) = (pieces(), pieces());
    let heard = |stream: Stream, bytes: &[u8]| {
        let pieces = match stream {
            Stream::Out => &out,
            Stream::Err => &err,
        };
        let text = pieces.lock().unwrap_or_else(PoisonError::into_inner).push(&String::from_utf8_lossy(bytes));
        if let Some(line) = text.trim_end().lines().last() {
            own.observer.signal(&CallProgress::Output(key.clone(), line.to_owned()));
        }
    };
    let ended = tokio::select! {
        biased;
        ended = process::run(&spec, &heard) => ended.map_err(|error| failure(error, &folder)),
        failure = cut => Err(failure),
    };
    // The processes of a command that was cut off may still write files until they have ended.
    spec.endings.settled().await;
    let ended = ended?;
    let redactor = own.redactor.clone();
    // Each output may have up to 16 MiB, which is too much to redact on the run's thread.
    let done = off_thread(own.clock.hold(), move || CommandOutput {
        exit_code: ended.code.unwrap_or(-1),
        cut: ended.stdout.left_out() + ended.stderr.left_out() > 0,
        stdout: recorded(&redactor, &ended.stdout),
        stderr: recorded(&redactor, &ended.stderr),
        folder: redactor.text(&folder),
    });
    Ok(CallOutput::Command(done.await))
}

/// Returns an output as it is recorded. A secret that the truncation cut in two is removed as well.
fn recorded(redactor: &Redactor, output: &Captured) -> String {
    match (output.parts(), output.left_out()) {
        ((all, _), 0) => all,
        ((head, tail), left_out) => joined(&redactor.beginning(&head), &redactor.ending(&tail), left_out),
    }
}

fn failure(error: ProcessError, folder: &str) -> Failure {
    match &error {
        // A relative program path is resolved from the folder in which the command runs.
        ProcessError::NotFound(program) if program.contains(['/', '\\']) => {
            Failure::new(Class::NotInstalled, format!("{error}: the command ran in `{folder}`"))
                .with_hint(format!("it ran {OF_PROJECT}"))
        }
        ProcessError::NotFound(program) => Failure::new(Class::NotInstalled, error.to_string())
            .with_hint(format!("install `{program}`, or give its whole path")),
        ProcessError::Timeout { stdout, stderr, .. } => {
            let each = [("standard output", stdout), ("standard error", stderr)].into_iter();
            let last = each.filter(|(_, lines)| !lines.is_empty());
            let last: String = last.map(|(name, lines)| format!("\nthe end of {name}:\n{lines}")).collect();
            Failure::new(Class::Timeout, format!("{error}{last}")).with_hint(RAISE_TIMEOUT)
        }
        ProcessError::Spawn { source, .. } if source.kind() == std::io::ErrorKind::ArgumentListTooLong => {
            Failure::new(Class::CommandFailed, error.to_string()).with_hint("give large values on `stdin:`")
        }
        ProcessError::Spawn { .. }
        | ProcessError::Guard { .. }
        | ProcessError::Io { .. }
        | ProcessError::TooMuch { .. } => Failure::new(Class::CommandFailed, error.to_string()),
    }
}

/// Resolves a folder of the workspace. The folder must exist and, with links resolved, lie inside the workspace.
fn folder(workspace: &Path, cwd: &str) -> Result<PathBuf, Failure> {
    let refuse = |why: &str| {
        Failure::new(Class::PathRefused, format!("`cwd: {cwd}` {why}"))
            .with_hint("name a folder of the workspace, relative to it")
    };
    let relative = Path::new(cwd);
    if relative.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(refuse("leads out of the workspace"));
    }
    let folder = workspace.join(relative).canonicalize().map_err(|error| refuse(&format!("can't be used: {error}")))?;
    if !folder.starts_with(workspace) {
        return Err(refuse("is a link that leads out of the workspace"));
    }
    if !folder.is_dir() {
        return Err(refuse("is no folder"));
    }
    Ok(folder)
}

/// Takes a snapshot of the files that are about to be written.
pub(super) async fn look(own: &Performer, files: Files) -> Result<CallOutput, Failure> {
    let (workspace, project) = (own.workspace.clone(), own.project.clone());
    blocking(move || {
        let entries = files::entries(&files.files)?;
        let reserved = Reserved { artifacts: &files.reserved, project: &project };
        let look = Tree::open(&workspace)?.look(&entries, reserved)?;
        serde_json::to_value(look).map(CallOutput::Snapshot).map_err(unreadable)
    })
    .await
}

/// Writes files, given the snapshot that was taken of them.
pub(super) async fn write(own: &Performer, record: Value) -> Result<CallOutput, Failure> {
    let (workspace, laid) = (own.workspace.clone(), own.laid.clone());
    blocking(move || {
        let look: ChangeSet = serde_json::from_value(record).map_err(unreadable)?;
        // The lock is held during the swap, so that no other step checks for missing files in the middle of it.
        let mut laid = laid.lock().unwrap_or_else(PoisonError::into_inner);
        let applied = Tree::open(&workspace)?.apply(&look)?;
        laid.lay(&look);
        serde_json::to_value(&applied).map(CallOutput::Applied).map_err(unreadable)
    })
    .await
}

/// Returns the files of earlier steps that are missing or reverted after a command or a turn. `files` are the turn's
/// own changes, as recorded.
pub(super) fn undone(own: &Performer, files: Option<Value>) -> Vec<String> {
    let mut laid = own.laid.lock().unwrap_or_else(PoisonError::into_inner);
    // This record was serialized just now, so it can be parsed.
    if let Some(look) = files.and_then(|files| serde_json::from_value(files).ok()) {
        laid.lay(&look);
    }
    let tree = Tree::open(&own.workspace).ok();
    if tree.is_none() && own.workspace.exists() {
        // If the workspace exists but can't be opened, nothing is known about its files.
        return Vec::new();
    }
    laid.undone(tree.as_ref()).into_iter().map(|file| file.path).collect()
}

/// Stops tracking these files, because the outcome of the call records them as reverted.
pub(super) fn forget(own: &Performer, undone: &[String]) {
    // Without files there is no need to wait for the lock, which a writing step holds.
    if undone.is_empty() {
        return;
    }
    let mut laid = own.laid.lock().unwrap_or_else(PoisonError::into_inner);
    for path in undone {
        laid.forget(path);
    }
}

fn unreadable(error: serde_json::Error) -> Failure {
    Failure::new(Class::Storage, format!("the record of the files can't be read: {error}"))
}

async fn blocking(work: impl FnOnce() -> Result<CallOutput, Failure> + Send + 'static) -> Result<CallOutput, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new(Class::Storage, format!("the files can't be written: {error}")))?
}
