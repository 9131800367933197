//! The workspace of a test case before its run: files that are copied in, commands that prepare it.

use std::path::Path;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::cli::error::CliError;
use crate::config;
use crate::model::case::Case;
use crate::process::{self, Endings, Spec};

/// How long a command of `setup:` may take.
const LIMIT: Duration = Duration::from_mins(1);
/// How much of its output is kept for the error, in bytes.
const KEPT: usize = 16 << 10;
/// Variables that decide which repository git works on; the case has its own.
const FOREIGN: &[&str] = &["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"];

/// Prepares `workspace` as the case says; its paths are relative to `folder`, and stay in the project at `root`.
pub(super) fn set(
    case: &Case,
    (root, folder): (&Path, &Path),
    workspace: &Path,
    runtime: &Runtime,
) -> Result<(), CliError> {
    if let Some(files) = &case.workspace {
        let from = folder.join(files);
        if !from.is_dir() {
            let error = CliError::could_not(format!("`workspace: {files}` is no folder"));
            return Err(error.hint(format!("it is looked for at `{}`", from.display())));
        }
        copy(&from, workspace, root)?;
    }
    case.setup.iter().try_for_each(|argv| runtime.block_on(prepare(argv, workspace)))
}

/// Copies what is in a folder, with its modes. Links are followed, so the copy stands alone; one that leads out of the
/// project is refused, since a model may see the copy.
fn copy(from: &Path, to: &Path, root: &Path) -> Result<(), CliError> {
    if config::escapes(root, from) {
        let error =
            CliError::could_not(format!("`{}` can't be copied: it lies outside of the project", from.display()));
        return Err(error.hint("copy what the case needs into the project"));
    }
    let failed = |error: std::io::Error| CliError::could_not(format!("`{}` can't be copied: {error}", from.display()));
    if !from.is_dir() {
        return std::fs::copy(from, to).map(drop).map_err(failed);
    }
    std::fs::create_dir_all(to).map_err(failed)?;
    for entry in std::fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        copy(&source, &target, root)?;
    }
    Ok(())
}

/// Where the commands of `setup:` run.
const WHERE: &str = "it ran in the workspace of the case, which has of the project only what `workspace:` copies there";

async fn prepare(argv: &[String], workspace: &Path) -> Result<(), CliError> {
    let spec = Spec {
        argv: argv.to_vec(),
        cwd: workspace.to_owned(),
        env: environment(),
        stdin: None,
        timeout: Some(LIMIT),
        cap: KEPT,
        most: None,
        guard: super::super::guard().into(),
        endings: Endings::default(),
    };
    let shown = argv.join(" ");
    let ended = process::run(&spec, &|_, _| {}).await;
    spec.endings.settled().await;
    let ended =
        ended.map_err(|error| CliError::could_not(format!("`setup:` of the case, `{shown}`: {error}")).hint(WHERE))?;
    if ended.code == Some(0) {
        return Ok(());
    }
    let said = [ended.stderr.text(), ended.stdout.text()].concat();
    let message = format!("`setup:` of the case, `{shown}`, ended with exit code {}", ended.code.unwrap_or(-1));
    Err(CliError::could_not(message).hint(format!("it said: {}", said.trim())).hint(WHERE))
}

fn environment() -> Vec<(String, String)> {
    let readable =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    readable.filter(|(name, _)| !FOREIGN.contains(&name.as_str())).collect()
}
