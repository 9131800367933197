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

#[path = "fix_runs/projects.rs"]
mod projects;

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::time::Instant;

use projects::{BROKEN_PROJECTS, BrokenProject};
use serde_json::{Value, json};

type ExampleResult<T> = Result<T, Box<dyn Error>>;

struct Options {
    model: String,
    project: Option<String>,
    results_file: PathBuf,
    kept_runs: Option<PathBuf>,
}

fn main() -> ExitCode {
    // This program also acts as `orch`, so that one cargo command builds both.
    let first_arg = std::env::args().nth(1).unwrap_or_default();
    if !first_arg.is_empty() && !first_arg.starts_with("--") || first_arg.starts_with("__") {
        return orch::cli::main();
    }
    match parse_options().and_then(|options| run_all(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            drop(writeln!(io::stderr(), "error: {error}"));
            ExitCode::from(2)
        }
    }
}

fn parse_options() -> ExampleResult<Options> {
    let mut options = Options {
        model: "local/qwen2.5-coder-1.5b".to_owned(),
        project: None,
        results_file: Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fix_runs.jsonl"),
        kept_runs: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(format!("{arg} has no value"))?;
        match arg.as_str() {
            "--model" => options.model = value,
            "--project" => options.project = Some(value),
            "--into" => options.results_file = value.into(),
            "--keep" => options.kept_runs = Some(std::path::absolute(value)?),
            _ => return Err(format!("unknown option {arg}: use --model, --project, --into or --keep").into()),
        }
    }
    Ok(options)
}

/// Runs the pipeline on each selected project. Returns whether at least one ran and all are fixed.
fn run_all(options: &Options) -> ExampleResult<bool> {
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
fn run_project(options: &Options, project: &BrokenProject) -> ExampleResult<Value> {
    let temp_dir = tempfile::tempdir()?;
    let folder = match &options.kept_runs {
        Some(kept_runs) => kept_runs.join(project.program),
        None => temp_dir.path().join("project"),
    };
    if folder.exists() {
        return Err(format!("{} exists; remove it, or name another folder with --keep", folder.display()).into());
    }
    write_project(project, &folder)?;
    let started_at = Instant::now();
    let output = orch_command(&folder)?
        .args(["pipeline", "run", "pipelines/fix.yaml", "--output", "json", "--model"])
        .arg(&options.model)
        .arg("--input")
        .arg(format!("test={}", project.test))
        .output()?;
    let seconds = started_at.elapsed().as_secs();
    let report: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("can't parse the report: {error}\n{}", String::from_utf8_lossy(&output.stderr)))?;
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
fn write_project(project: &BrokenProject, folder: &Path) -> ExampleResult<()> {
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
fn orch_command(folder: &Path) -> ExampleResult<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.current_dir(folder);
    Ok(command)
}

fn check_status(output: &Output) -> ExampleResult<()> {
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned().into()) }
}

/// The attempts of the agent: the number of tool calls, and the class of the failure if it failed.
fn attempts(report: &Value) -> Vec<Value> {
    let steps = report["steps"].as_array().into_iter().flatten();
    let fixes = steps.filter(|step| step["name"].as_str().is_some_and(|name| name.ends_with("/fix")));
    fixes.map(|step| json!({ "tool_calls": step["tool_calls"], "failure": step["error"]["class"] })).collect()
}
