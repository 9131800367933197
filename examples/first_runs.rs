//! Runs the default pipeline on the embedded model as a new user would, task by task, and measures what comes of it.
//!
//! ```sh
//! cargo run --release --example first_runs                 # the runs that are still missing, 30 in all
//! cargo run --release --example first_runs -- --runs 3     # three of them
//! cargo run --release --example first_runs -- --table      # what is on record so far
//! ```
//!
//! Each run has an empty project from `orch init`, an empty home and its own cache, which holds only a link to the
//! weights. Every other run has one processor. Results are appended to `examples/first_runs.jsonl`, one line a run, so that
//! the whole can be done in parts; a task that is on record for the model is not run again. Each file that a run wrote
//! is parsed by the parser of its language: Python's `ast` and `json`, `node --check`, `rustfmt` and `bash -n`. A run counts
//! as one whose files parse only when it ended well, wrote code, and each file but Markdown and plain text was parsed.

#![allow(clippy::disallowed_methods, reason = "no run of this process waits meanwhile")]

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::time::Instant;

use serde_json::{Value, json};

type Done<T> = Result<T, Box<dyn Error>>;

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
    runs: usize,
    tasks: usize,
    into: PathBuf,
    table: bool,
}

fn main() -> ExitCode {
    // The program under test is this one, as `orch`: so it is built by the same command.
    let first = std::env::args().nth(1).unwrap_or_default();
    if !first.is_empty() && !first.starts_with("--") || first.starts_with("__") {
        return orch::cli::main();
    }
    match options().and_then(|options| measure(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            drop(writeln!(io::stderr(), "error: {error}"));
            ExitCode::from(2)
        }
    }
}

fn options() -> Done<Options> {
    let mut options = Options {
        model: "qwen2.5-coder-1.5b".to_owned(),
        runs: usize::MAX,
        tasks: TASKS.len(),
        into: Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/first_runs.jsonl"),
        table: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} has no value"));
        match arg.as_str() {
            "--model" => options.model = value()?,
            "--runs" => options.runs = value()?.parse()?,
            "--tasks" => options.tasks = value()?.parse()?,
            "--into" => options.into = value()?.into(),
            "--table" => options.table = true,
            _ => return Err(format!("unknown option {arg}: use --model, --runs, --tasks, --into or --table").into()),
        }
    }
    Ok(options)
}

/// Makes the runs that are missing and prints the table; whether there are runs on record and all ended well.
fn measure(options: &Options) -> Done<bool> {
    let mut known = on_record(options)?;
    if !options.table {
        let weights = weights(&options.model)?;
        let missing: Vec<usize> = (0..options.tasks.min(TASKS.len()))
            .filter(|task| !known.iter().any(|run| run["task"] == TASKS[*task]))
            .collect();
        for task in missing.into_iter().take(options.runs) {
            say(&format!("{} of {}: {}", task + 1, TASKS.len(), TASKS[task]));
            let run = one(&options.model, task, &weights)?;
            let mut file = OpenOptions::new().create(true).append(true).open(&options.into)?;
            writeln!(file, "{run}")?;
            known.push(run);
        }
    }
    table(&known)?;
    Ok(!known.is_empty() && known.iter().all(|run| run["exit"] == 0))
}

fn say(text: &str) {
    // Progress alone: the results are in the file.
    drop(writeln!(io::stderr(), "{text}"));
}

fn on_record(options: &Options) -> Done<Vec<Value>> {
    let text = match fs::read_to_string(&options.into) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("{}: {error}", options.into.display()).into()),
    };
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    Ok(lines.into_iter().filter(|run| run["model"] == options.model.as_str()).collect())
}

/// This program as `orch`, in a folder with a home of its own.
fn orch(place: &Path, one_processor: bool) -> Done<Command> {
    let exe = std::env::current_exe()?;
    let mut command = if one_processor {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(exe);
        command
    } else {
        Command::new(exe)
    };
    command.current_dir(place.join("project")).env_clear();
    command.env("HOME", place.join("home")).env("XDG_CACHE_HOME", place.join("cache"));
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    Ok(command)
}

/// Where the weights of the model lie in the user's own cache; fetches them if need be.
fn weights(model: &str) -> Done<PathBuf> {
    let fetched = Command::new(std::env::current_exe()?).args(["models", "pull", model]).status()?;
    if !fetched.success() {
        return Err("the weights are not here, and can't be fetched".into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(cache.ok_or("neither HOME nor XDG_CACHE_HOME is set")?.join("orch/models"))
}

/// One run: what is put on record of it.
fn one(model: &str, task: usize, weights: &Path) -> Done<Value> {
    let place = tempfile::tempdir()?;
    let place = place.path();
    for folder in ["project", "home", "cache/orch/models"] {
        fs::create_dir_all(place.join(folder))?;
    }
    for file in fs::read_dir(weights)? {
        let file = file?;
        let link = place.join("cache/orch/models").join(file.file_name());
        std::os::unix::fs::symlink(file.path(), link)?;
    }
    checked(&orch(place, false)?.arg("init").output()?)?;
    let one_processor = task % 2 == 1;
    let began = Instant::now();
    let ran = orch(place, one_processor)?
        .args(["pipeline", "run", "pipelines/default.yaml", "--output", "json", "--model"])
        .arg(format!("local/{model}"))
        .args(["--task", TASKS[task]])
        .output()?;
    let seconds = began.elapsed().as_secs();
    let report: Value = serde_json::from_slice(&ran.stdout)
        .map_err(|error| format!("the report can't be read: {error}\n{}", String::from_utf8_lossy(&ran.stderr)))?;
    let events = orch(place, false)?.args(["runs", "events", "--output", "json"]).output()?;
    checked(&events)?;
    Ok(json!({
        "model": model,
        "task": TASKS[task],
        "processors": if one_processor { 1 } else { std::thread::available_parallelism()?.get() },
        "exit": ran.status.code(),
        "seconds": seconds,
        "tokens": report["usage"]["output"],
        "asked_again": asked_again(&events.stdout)?,
        "failure": report["steps"].as_array().into_iter().flatten().find_map(|step| step["error"]["class"].as_str()),
        "plan": shape(&report),
        "files": parsed(&place.join("project/workspace"), &report)?,
    }))
}

fn checked(output: &Output) -> Done<()> {
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}

/// Why replies were sent back, by class.
fn asked_again(events: &[u8]) -> Done<Vec<String>> {
    let lines = std::str::from_utf8(events)?.lines();
    let events = lines
        .map(|line| serde_json::from_str(line).map_err(|error| format!("an event can't be read: {error}\n{line}")))
        .collect::<Result<Vec<Value>, _>>()?;
    Ok(events
        .iter()
        .filter(|event| found(event, "asks_again").is_some_and(|again| again == true))
        .map(|event| found(event, "class").and_then(Value::as_str).unwrap_or("unknown").to_owned())
        .collect())
}

/// The first member of this name, at any depth.
fn found<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(object) => object.get(name).or_else(|| object.values().find_map(|inner| found(inner, name))),
        Value::Array(list) => list.iter().find_map(|inner| found(inner, name)),
        _ => None,
    }
}

/// How many steps and files the plan has.
fn shape(report: &Value) -> Value {
    let steps = report["steps"].as_array().into_iter().flatten();
    let plan = steps.filter(|step| step["name"] == "plan").map(|step| &step["output"]).next();
    let count = |name: &str| plan.and_then(|plan| plan[name].as_array()).map_or(0, Vec::len);
    json!({ "steps": count("steps"), "files": count("files") })
}

/// Each file that the run wrote, with what its language's parser says: null where there is no parser for it, and "text"
/// where none is needed.
fn parsed(workspace: &Path, report: &Value) -> Done<Vec<Value>> {
    let steps = report["steps"].as_array().into_iter().flatten();
    let code = steps.filter(|step| step["name"] == "code").map(|step| &step["output"]).next();
    let listed = code.and_then(|code| code["files"].as_array()).into_iter().flatten();
    let mut files = Vec::new();
    for file in listed.filter_map(|file| file["path"].as_str()) {
        let path = workspace.join(file);
        let written = path.is_file();
        let (parses, error) = if written { parses(&path)? } else { (Value::Null, None) };
        // The end of a file that does not parse says whether the model or the writer of its reply is at fault.
        let end = error.is_some().then(|| end_of(&path)).transpose()?;
        files.push(json!({ "path": file, "written": written, "parses": parses, "error": error, "end": end }));
    }
    Ok(files)
}

/// The last characters of a file.
fn end_of(path: &Path) -> Done<String> {
    let text = fs::read_to_string(path)?;
    let from = text.char_indices().rev().nth(200).map_or(0, |(at, _)| at);
    Ok(text.get(from..).unwrap_or_default().to_owned())
}

/// Whether a file parses, and the words of the parser if it does not.
fn parses(path: &Path) -> Done<(Value, Option<String>)> {
    let parsers: &[&[&str]] = match path.extension().and_then(|extension| extension.to_str()) {
        Some("py") => &[&["python3", "-c", "import ast, sys; ast.parse(sys.stdin.buffer.read())"]],
        // A script or a module: the file does not say which.
        Some("js") => &[&["node", "--check", "-"], &["node", "--check", "--input-type=module", "-"]],
        Some("mjs") => &[&["node", "--check", "--input-type=module", "-"]],
        Some("cjs") => &[&["node", "--check", "-"]],
        Some("rs") => &[&["rustfmt", "--edition", "2024", "--emit", "stdout"]],
        Some("json") => &[&["python3", "-c", "import json, sys; json.load(sys.stdin.buffer)"]],
        Some("sh") => &[&["bash", "-n"]],
        Some("md" | "txt") => return Ok((json!("text"), None)),
        _ => return Ok((Value::Null, None)),
    };
    let mut words = String::new();
    for parser in parsers {
        let Some((program, args)) = parser.split_first() else { continue };
        // On standard input, so that modules in other files are not looked for.
        let output = Command::new(program).args(args).stdin(fs::File::open(path)?).output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        if output.status.success() {
            return Ok((json!(true), None));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        words = said.trim_end().lines().last().unwrap_or_default().to_owned();
    }
    Ok((json!(false), Some(words)))
}

/// The paths of a run's files of which the parser says this: true, false or null.
fn files_that<'r>(run: &'r Value, parse: &Value) -> Vec<&'r str> {
    let files = run["files"].as_array().into_iter().flatten();
    files.filter(|file| file["parses"] == *parse).filter_map(|file| file["path"].as_str()).collect()
}

fn table(runs: &[Value]) -> Done<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "| task | processors | exit | seconds | plan | asked again | does not parse | not checked |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|")?;
    let mut parse = 0;
    for run in runs {
        let (fine, broken, unknown) =
            (files_that(run, &json!(true)), files_that(run, &json!(false)), files_that(run, &Value::Null));
        parse += usize::from(run["exit"] == 0 && !fine.is_empty() && broken.is_empty() && unknown.is_empty());
        let again: Vec<&str> = run["asked_again"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        writeln!(
            out,
            "| {} | {} | {} | {} | {} steps, {} files | {} | {} | {} |",
            run["task"].as_str().unwrap_or_default(),
            run["processors"],
            run["exit"],
            run["seconds"],
            run["plan"]["steps"],
            run["plan"]["files"],
            again.join(", "),
            broken.join(", "),
            unknown.join(", ")
        )?;
    }
    let well = runs.iter().filter(|run| run["exit"] == 0).count();
    writeln!(out, "\n{well} of {} ended well; in {parse} every file was parsed without an error.", runs.len())?;
    Ok(())
}
