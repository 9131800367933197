//! The workspace of a test case before its run: files that are copied in, commands that prepare it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cli::interrupt;
use crate::config;
use crate::model::case::Case;
use crate::process::{self, EndingGroups, ProgramSpec};
use crate::session::{ExitStatus, Runner, SessionError};

/// How long a command of `setup:` may take.
const LIMIT: Duration = Duration::from_mins(1);
/// How much of its output is kept for the error, in bytes.
const KEPT: usize = 16 << 10;
/// Settings of git that commands of `setup:` see too: who commits and when, and where its settings are. Not those that
/// decide which repository it works on, since the case has its own, nor those that may hold a password.
const GIT: &[&str] = &[
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

/// Prepares `workspace` as the case says; its paths are relative to `folder`, and stay in the project at `root`. A signal
/// ends it, with all that it started.
pub(super) async fn set(
    case: &Case,
    root: &Path,
    folder: &Path,
    runner: &Runner,
    workspace: &Path,
) -> Result<(), SessionError> {
    if let Some(files) = &case.workspace {
        let from = folder.join(files);
        if !from.is_dir() {
            let error = SessionError::usage(format!("`workspace: {files}` is no folder"));
            return Err(error.hint(format!("it is looked for at `{}`", from.display())));
        }
        let (root, to) = (root.to_owned(), workspace.to_owned());
        let stopped = Arc::new(AtomicBool::new(false));
        let copied = Copied { root, files: 0, bytes: 0, stopped: stopped.clone() };
        let mut copying = tokio::task::spawn_blocking(move || copied.all(&from, &to));
        let ended = tokio::select! {
            ended = &mut copying => ended,
            () = interrupt::pressed() => {
                stopped.store(true, Ordering::Relaxed);
                copying.await
            }
        };
        ended.map_err(|error| SessionError::internal(error.to_string()))??;
    }
    for argv in &case.setup {
        prepare(argv, runner, workspace).await?;
    }
    Ok(())
}

/// The most files and folders of a `workspace:`, links followed.
const MAX_FILES: usize = 10_000;
/// The most bytes of its files.
const MAX_BYTES: u64 = 256 << 20;
/// How deep its folders may lie in one another.
const MAX_DEPTH: usize = 64;

/// What was copied so far.
struct Copied {
    root: PathBuf,
    files: usize,
    bytes: u64,
    stopped: Arc<AtomicBool>,
}

impl Copied {
    fn all(mut self, from: &Path, to: &Path) -> Result<(), SessionError> {
        self.copy(from, to, 0)
    }

    /// Copies what is in a folder, with its modes. Links are followed, so the copy stands alone; one that leads out of
    /// the project is refused, since a model may see the copy.
    fn copy(&mut self, from: &Path, to: &Path, depth: usize) -> Result<(), SessionError> {
        let failed =
            |error: std::io::Error| SessionError::usage(format!("`{}` can't be copied: {error}", from.display()));
        if self.stopped.load(Ordering::Relaxed) {
            return Err(interrupted());
        }
        if config::escapes(&self.root, from) {
            let error =
                SessionError::usage(format!("`{}` can't be copied: it lies outside of the project", from.display()));
            return Err(error.hint("copy what the case needs into the project"));
        }
        let about = std::fs::metadata(from).map_err(failed)?;
        self.count(from, about.is_file().then_some(about.len()), depth)?;
        if about.is_file() {
            return std::fs::copy(from, to).map(drop).map_err(failed);
        }
        if !about.is_dir() {
            let error =
                SessionError::usage(format!("`{}` can't be copied: it is neither a file nor a folder", from.display()));
            return Err(error.hint("let a command of `setup:` make it"));
        }
        std::fs::create_dir_all(to).map_err(failed)?;
        for entry in std::fs::read_dir(from).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            self.copy(&entry.path(), &to.join(entry.file_name()), depth + 1)?;
        }
        Ok(())
    }

    /// Counts one more, before it is copied.
    fn count(&mut self, from: &Path, bytes: Option<u64>, depth: usize) -> Result<(), SessionError> {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes.unwrap_or_default());
        let limit = if self.files > MAX_FILES {
            format!("{MAX_FILES} files and folders")
        } else if self.bytes > MAX_BYTES {
            format!("{} MiB of files", MAX_BYTES >> 20)
        } else if depth > MAX_DEPTH {
            format!("{MAX_DEPTH} levels of folders")
        } else {
            return Ok(());
        };
        let message = format!("`workspace:` of the case can't be copied: it holds more than {limit}, links followed");
        Err(SessionError::usage(message)
            .hint(format!("the copy stopped at `{}`", from.display()))
            .hint("look for links that lead to folders above them, and let `setup:` make what is large"))
    }
}

fn interrupted() -> SessionError {
    SessionError::usage("stopped before the run began").with_status(ExitStatus::Interrupted)
}

/// Where the commands of `setup:` run.
const WHERE: &str = "it ran in the workspace of the case, which has of the project only what `workspace:` copies there";

async fn prepare(argv: &[String], runner: &Runner, workspace: &Path) -> Result<(), SessionError> {
    let spec = ProgramSpec {
        argv: argv.to_vec(),
        cwd: workspace.to_owned(),
        env: environment(runner),
        stdin: None,
        timeout: Some(LIMIT),
        cap: KEPT,
        most: None,
        guard: runner.environment.guard().to_owned().into(),
        endings: EndingGroups::default(),
    };
    let shown = argv.join(" ");
    let ended = tokio::select! {
        ended = process::run(&spec, &|_, _| {}) => Some(ended),
        () = interrupt::pressed() => None,
    };
    spec.endings.settled().await;
    let ended = ended.ok_or_else(interrupted)?;
    let ended =
        ended.map_err(|error| SessionError::usage(format!("`setup:` of the case, `{shown}`: {error}")).hint(WHERE))?;
    if ended.code == Some(0) {
        return Ok(());
    }
    let said = [ended.stderr.text(), ended.stdout.text()].concat();
    let message = format!("`setup:` of the case, `{shown}`, ended with exit code {}", ended.code.unwrap_or(-1));
    Err(SessionError::usage(message).hint(format!("it said: {}", said.trim())).hint(WHERE))
}

/// What a `run:` step sees, and who git says commits.
fn environment(runner: &Runner) -> Vec<(String, String)> {
    crate::engine::environment(&*runner.environment.variables(), GIT.iter().copied())
}
