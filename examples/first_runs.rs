//! Runs the default pipeline on the embedded model with thirty tasks, as a new user would, and measures the results.
//!
//! ```sh
//! cargo run --release --example first_runs                 # run every task that has no record yet
//! cargo run --release --example first_runs -- --runs 3     # run at most three of these tasks
//! cargo run --release --example first_runs -- --table      # print the table of the recorded runs
//! ```
//!
//! Each run has a new project from `orch init`, an empty home folder and its own cache, which contains only links to
//! the weights. Every second run uses only one processor. The program appends one line for each run to
//! `examples/first_runs.jsonl`. It skips the tasks that this file already contains for the model, so you can run the
//! tasks in several sessions.
//!
//! The program checks each file that a run wrote with a parser for its language: Python's `ast` and `json`, `node
//! --check`, `rustfmt` or `bash -n`. The summary counts a run as parsed if the run completed, wrote at least one file
//! with code, and every file except Markdown and plain text is valid.

#![allow(clippy::disallowed_methods, reason = "this process may block: it does nothing else")]

#[path = "common/program.rs"]
mod program;

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use program::{check_status, run_measurement};
use serde_json::{Value, json};

const TASKS: [&str; 30] = [
    "Create a User model with authentication",
    "Write a function that checks whether a string is a palindrome",
    "Write a command line tool that counts the words in a file",
    "Build a to-do list that is kept in a JSON file",
    "Write a Python class for a bank account with deposits and withdrawals",
    "Implement a stack and a queue in JavaScript",
    "Write a Rust function that parses a duration such as 1h30m",
    "Create a REST client for a weather service in Python",
    "Write a script that renames photos by the date they were taken",
    "Implement binary search and its tests in Python",
    "Build a rate limiter with a token bucket in JavaScript",
    "Write a Rust program that prints the first n prime numbers",
    "Create a shopping cart that adds up prices with tax",
    "Write a function that validates e-mail addresses",
    "Implement a least recently used cache in Python",
    "Write a Node.js server that answers /health",
    "Create a Markdown to HTML converter for headings and lists",
    "Write a Rust struct for a matrix with addition and multiplication",
    "Build a simple calculator that evaluates expressions with brackets",
    "Write a script that finds duplicate files in a folder",
    "Create a password generator with a chosen length and symbols",
    "Implement a linked list in JavaScript with insert and remove",
    "Write a function that converts Roman numerals to numbers and back",
    "Build a small key value store that survives restarts",
    "Write a Python decorator that retries a function with a growing pause",
    "Create a tic-tac-toe game for two players on the terminal",
    "Write a Rust function that counts the words of a text by frequency",
    "Implement a function that merges two sorted lists in JavaScript",
    "Write a log file analyser that counts the requests of each address",
    "Create a contact book with search by name",
];

struct Options {
    model: String,
    max_runs: usize,
    max_tasks: usize,
    results_file: PathBuf,
    table_only: bool,
}

fn main() -> ExitCode {
    run_measurement(|| run_and_report(&parse_options()?))
}

fn parse_options() -> Result<Options> {
    let mut options = Options {
        model: "qwen2.5-coder-1.5b".to_owned(),
        max_runs: usize::MAX,
        max_tasks: TASKS.len(),
        results_file: Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/first_runs.jsonl"),
        table_only: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} has no value"));
        match arg.as_str() {
            "--model" => options.model = value()?,
            "--runs" => options.max_runs = value()?.parse()?,
            "--tasks" => options.max_tasks = value()?.parse()?,
            "--into" => options.results_file = value()?.into(),
            "--table" => options.table_only = true,
            _ => bail!("unknown option {arg}: use --model, --runs, --tasks, --into or --table"),
        }
    }
    Ok(options)
}

/// Runs the tasks without a record and prints the table. Returns whether at least one run is recorded and all recorded
/// runs completed.
fn run_and_report(options: &Options) -> Result<bool> {
    let mut runs = recorded_runs(options)?;
    if !options.table_only {
        let weights = weights_dir(&options.model)?;
        let unrecorded_tasks: Vec<usize> = (0..options.max_tasks.min(TASKS.len()))
            .filter(|task| !runs.iter().any(|run| run["task"] == TASKS[*task]))
            .collect();
        for task in unrecorded_tasks.into_iter().take(options.max_runs) {
            print_progress(&format!("{} of {}: {}", task + 1, TASKS.len(), TASKS[task]));
            let run = run_task(&options.model, task, &weights)?;
            let mut file = OpenOptions::new().create(true).append(true).open(&options.results_file)?;
            writeln!(file, "{run}")?;
            runs.push(run);
        }
    }
    print_table(&runs)?;
    Ok(!runs.is_empty() && runs.iter().all(|run| run["exit"] == 0))
}

fn print_progress(text: &str) {
    // A failure to print progress is harmless: the results are in the file.
    drop(writeln!(io::stderr(), "{text}"));
}

fn recorded_runs(options: &Options) -> Result<Vec<Value>> {
    let text = match fs::read_to_string(&options.results_file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context(options.results_file.display().to_string()),
    };
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    Ok(lines.into_iter().filter(|run| run["model"] == options.model.as_str()).collect())
}

/// Creates a command that runs this program as `orch`, with its own project, home and cache below `folder`.
fn orch_command(folder: &Path, one_processor: bool) -> Result<Command> {
    let exe = std::env::current_exe()?;
    let mut command = if one_processor {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(exe);
        command
    } else {
        Command::new(exe)
    };
    command.current_dir(folder.join("project")).env_clear();
    command.env("HOME", folder.join("home")).env("XDG_CACHE_HOME", folder.join("cache"));
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    Ok(command)
}

/// The folder of the weights in the user's cache. Downloads the weights if they are missing.
fn weights_dir(model: &str) -> Result<PathBuf> {
    let status = Command::new(std::env::current_exe()?).args(["models", "pull", model]).status()?;
    ensure!(status.success(), "can't download the weights");
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(cache.context("neither HOME nor XDG_CACHE_HOME is set")?.join("orch/models"))
}

/// Runs one task and returns its record.
fn run_task(model: &str, task: usize, weights: &Path) -> Result<Value> {
    let temp_dir = tempfile::tempdir()?;
    let folder = temp_dir.path();
    for name in ["project", "home", "cache/orch/models"] {
        fs::create_dir_all(folder.join(name))?;
    }
    for file in fs::read_dir(weights)? {
        let file = file?;
        let link = folder.join("cache/orch/models").join(file.file_name());
        std::os::unix::fs::symlink(file.path(), link)?;
    }
    check_status(&orch_command(folder, false)?.arg("init").output()?)?;
    let one_processor = task % 2 == 1;
    let started_at = Instant::now();
    let output = orch_command(folder, one_processor)?
        .args(["pipeline", "run", "pipelines/default.yaml", "--output", "json", "--model"])
        .arg(format!("local/{model}"))
        .args(["--task", TASKS[task]])
        .output()?;
    let seconds = started_at.elapsed().as_secs();
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("can't parse the report; orch printed:\n{}", String::from_utf8_lossy(&output.stderr))
    })?;
    let events = orch_command(folder, false)?.args(["runs", "events", "--output", "json"]).output()?;
    check_status(&events)?;
    Ok(json!({
        "model": model,
        "task": TASKS[task],
        "processors": if one_processor { 1 } else { std::thread::available_parallelism()?.get() },
        "exit": output.status.code(),
        "seconds": seconds,
        "tokens": report["usage"]["output"],
        "asked_again": re_ask_classes(&events.stdout)?,
        "failure": report["steps"].as_array().into_iter().flatten().find_map(|step| step["error"]["class"].as_str()),
        "plan": plan_size(&report),
        "files": parse_files(&folder.join("project/workspace"), &report)?,
    }))
}

/// The failure class of each re-ask of the model.
fn re_ask_classes(events: &[u8]) -> Result<Vec<String>> {
    let lines = std::str::from_utf8(events)?.lines();
    let events = lines
        .map(|line| serde_json::from_str::<Value>(line).with_context(|| format!("can't parse the event:\n{line}")))
        .collect::<Result<Vec<Value>>>()?;
    Ok(events
        .iter()
        .filter(|event| find_member(event, "re_asks").is_some_and(|value| value == true))
        .map(|event| find_member(event, "class").and_then(Value::as_str).unwrap_or("unknown").to_owned())
        .collect())
}

/// Finds the first member with this name, at any depth.
fn find_member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(object) => {
            object.get(name).or_else(|| object.values().find_map(|inner| find_member(inner, name)))
        }
        Value::Array(list) => list.iter().find_map(|inner| find_member(inner, name)),
        _ => None,
    }
}

/// The number of steps and files that the model planned.
fn plan_size(report: &Value) -> Value {
    let steps = report["steps"].as_array().into_iter().flatten();
    let plan = steps.filter(|step| step["name"] == "plan").map(|step| &step["output"]).next();
    let count = |name: &str| plan.and_then(|plan| plan[name].as_array()).map_or(0, Vec::len);
    json!({ "steps": count("steps"), "files": count("files") })
}

/// The files that the run listed, each with its parser result: true, false, null if there is no parser for the
/// language, or "text" if the file needs no parser.
fn parse_files(workspace: &Path, report: &Value) -> Result<Vec<Value>> {
    let steps = report["steps"].as_array().into_iter().flatten();
    let code = steps.filter(|step| step["name"] == "code").map(|step| &step["output"]).next();
    let entries = code.and_then(|code| code["files"].as_array()).into_iter().flatten();
    let mut files = Vec::new();
    for file in entries.filter_map(|file| file["path"].as_str()) {
        let path = workspace.join(file);
        let written = path.is_file();
        let (parses, error) = if written { parse_file(&path)? } else { (Value::Null, None) };
        // The end of an invalid file shows whether the model wrote invalid code or orch ended the reply too early.
        let end = error.is_some().then(|| last_characters(&path)).transpose()?;
        files.push(json!({ "path": file, "written": written, "parses": parses, "error": error, "end": end }));
    }
    Ok(files)
}

/// The last characters of a file.
fn last_characters(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path)?;
    let start = text.char_indices().rev().nth(200).map_or(0, |(index, _)| index);
    Ok(text.get(start..).unwrap_or_default().to_owned())
}

/// Parses a file. Returns its parser result and, if the file is invalid, the parser's message.
fn parse_file(path: &Path) -> Result<(Value, Option<String>)> {
    let parsers: &[&[&str]] = match path.extension().and_then(|extension| extension.to_str()) {
        Some("py") => &[&["python3", "-c", "import ast, sys; ast.parse(sys.stdin.buffer.read())"]],
        // A `.js` file can be a script or a module.
        Some("js") => &[&["node", "--check", "-"], &["node", "--check", "--input-type=module", "-"]],
        Some("mjs") => &[&["node", "--check", "--input-type=module", "-"]],
        Some("cjs") => &[&["node", "--check", "-"]],
        Some("rs") => &[&["rustfmt", "--edition", "2024", "--emit", "stdout"]],
        Some("json") => &[&["python3", "-c", "import json, sys; json.load(sys.stdin.buffer)"]],
        Some("sh") => &[&["bash", "-n"]],
        Some("md" | "txt") => return Ok((json!("text"), None)),
        _ => return Ok((Value::Null, None)),
    };
    let mut message = String::new();
    for parser in parsers {
        let Some((program, args)) = parser.split_first() else { continue };
        // The parser reads standard input, so that it does not look for the file's modules on disk.
        let output = Command::new(program).args(args).stdin(fs::File::open(path)?).output();
        let output = output.with_context(|| format!("can't run {program}"))?;
        if output.status.success() {
            return Ok((json!(true), None));
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        message = stderr.trim_end().lines().last().unwrap_or_default().to_owned();
    }
    Ok((json!(false), Some(message)))
}

/// The paths of the files in a run's record that have this parser result: true, false or null.
fn files_with_result<'r>(run: &'r Value, result: &Value) -> Vec<&'r str> {
    let files = run["files"].as_array().into_iter().flatten();
    files.filter(|file| file["parses"] == *result).filter_map(|file| file["path"].as_str()).collect()
}

fn print_table(runs: &[Value]) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "| task | processors | exit | seconds | plan | re-asked | does not parse | not checked |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|")?;
    let mut parsed_runs = 0;
    for run in runs {
        let (valid, invalid, unchecked) = (
            files_with_result(run, &json!(true)),
            files_with_result(run, &json!(false)),
            files_with_result(run, &Value::Null),
        );
        parsed_runs += usize::from(run["exit"] == 0 && !valid.is_empty() && invalid.is_empty() && unchecked.is_empty());
        let re_asks: Vec<&str> =
            run["asked_again"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        writeln!(
            out,
            "| {} | {} | {} | {} | {} steps, {} files | {} | {} | {} |",
            run["task"].as_str().unwrap_or_default(),
            run["processors"],
            run["exit"],
            run["seconds"],
            run["plan"]["steps"],
            run["plan"]["files"],
            re_asks.join(", "),
            invalid.join(", "),
            unchecked.join(", ")
        )?;
    }
    let completed = runs.iter().filter(|run| run["exit"] == 0).count();
    writeln!(
        out,
        "\n{completed} of {} runs completed; in {parsed_runs} of them, every file with code is valid.",
        runs.len()
    )?;
    Ok(())
}
