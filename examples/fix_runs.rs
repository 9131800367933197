//! Runs the pipeline `fix` on five small projects whose tests fail, and measures how often a model fixes them.
//!
//! ```sh
//! cargo run --release --example fix_runs                           # every project, with the default embedded model
//! cargo run --release --example fix_runs -- --model openai/NAME    # with a model whose key is in the environment
//! cargo run --release --example fix_runs -- --project sh           # only the project that needs this program
//! cargo run --release --example fix_runs -- --keep runs            # keep the folder of each run
//! ```
//!
//! Each run has a new project from `orch init`. The program appends one JSON line for each run to
//! `examples/fix_runs.jsonl`, and prints the line. The exit code is 0 if every project was fixed. The files of each run
//! are temporary, unless `--keep` names a folder for them: `orch runs show --replies` there shows the conversations.

#![allow(clippy::disallowed_methods, reason = "this process may block: it does nothing else")]

#[path = "common/program.rs"]
mod program;
#[path = "fix_runs/projects.rs"]
mod projects;

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use program::{check_status, run_measurement};
use projects::{BROKEN_PROJECTS, BrokenProject};
use serde_json::{Value, json};

struct Options {
    model: String,
    project: Option<String>,
    results_file: PathBuf,
    kept_runs: Option<PathBuf>,
}

fn main() -> ExitCode {
    run_measurement(|| run_all(&parse_options()?))
}

fn parse_options() -> Result<Options> {
    let mut options = Options {
        model: "local/qwen2.5-coder-1.5b".to_owned(),
        project: None,
        results_file: Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fix_runs.jsonl"),
        kept_runs: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} has no value"))?;
        match arg.as_str() {
            "--model" => options.model = value,
            "--project" => options.project = Some(value),
            "--into" => options.results_file = value.into(),
            "--keep" => options.kept_runs = Some(std::path::absolute(value)?),
            _ => bail!("unknown option {arg}: use --model, --project, --into or --keep"),
        }
    }
    Ok(options)
}

/// Runs the pipeline on each selected project. Returns whether at least one ran and all are fixed.
fn run_all(options: &Options) -> Result<bool> {
    let is_selected = |project: &&BrokenProject| options.project.as_ref().is_none_or(|name| name == project.program);
    if let Some(name) = options.model.strip_prefix("local/") {
        check_status(&Command::new(std::env::current_exe()?).args(["models", "pull", name]).output()?)?;
    }
    let (mut run_count, mut fixed_count) = (0, 0);
    for project in BROKEN_PROJECTS.iter().filter(is_selected) {
        let run = run_project(options, project)?;
        let mut file = OpenOptions::new().create(true).append(true).open(&options.results_file)?;
        writeln!(file, "{run}")?;
        writeln!(io::stdout(), "{run}")?;
        run_count += 1;
        fixed_count += usize::from(run["fixed"] == true);
    }
    writeln!(io::stdout(), "{fixed_count} of {run_count} projects fixed")?;
    Ok(run_count > 0 && fixed_count == run_count)
}

/// Runs the pipeline on a project and returns the record of the run.
fn run_project(options: &Options, project: &BrokenProject) -> Result<Value> {
    let temp_dir = tempfile::tempdir()?;
    let folder = match &options.kept_runs {
        Some(kept_runs) => kept_runs.join(project.program),
        None => temp_dir.path().join("project"),
    };
    ensure!(!folder.exists(), "{} exists; remove it, or name another folder with --keep", folder.display());
    write_project(project, &folder)?;
    let started_at = Instant::now();
    let output = orch_command(&folder)?
        .args(["pipeline", "run", "pipelines/fix.yaml", "--output", "json", "--model"])
        .arg(&options.model)
        .arg("--input")
        .arg(format!("test={}", project.test))
        .output()?;
    let seconds = started_at.elapsed().as_secs();
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("can't parse the report; orch printed:\n{}", String::from_utf8_lossy(&output.stderr))
    })?;
    Ok(json!({
        "model": options.model,
        "project": project.program,
        "fixed": output.status.success(),
        "exit": output.status.code(),
        "seconds": seconds,
        "tokens": report["usage"]["output"],
        "attempts": attempts(&report),
    }))
}

/// Creates a project of orch whose workspace contains the broken project.
fn write_project(project: &BrokenProject, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    check_status(&orch_command(folder)?.arg("init").output()?)?;
    for (name, content) in project.files {
        let path = folder.join("workspace").join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, content)?;
    }
    Ok(())
}

/// Creates a command that runs this program as `orch` in a folder.
fn orch_command(folder: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.current_dir(folder);
    Ok(command)
}

/// The attempts of the agent: the number of tool calls, and the class of the failure if it failed.
fn attempts(report: &Value) -> Vec<Value> {
    let steps = report["steps"].as_array().into_iter().flatten();
    let fixes = steps.filter(|step| step["name"].as_str().is_some_and(|name| name.ends_with("/fix")));
    fixes.map(|step| json!({ "tool_calls": step["tool_calls"], "failure": step["error"]["class"] })).collect()
}
