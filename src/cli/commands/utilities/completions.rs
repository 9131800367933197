//! `orch completions`, and the completion candidates that a shell requests: commands and flags, the pipelines, test
//! cases, runs and steps of the project, and the diagnostic codes.
//!
//! The completion script of a shell starts orch with the environment variable [`COMPLETE_VARIABLE`], and passes the
//! words of the command line after `--`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Command, CommandFactory as _};
use clap_complete::env::Shells;
use clap_complete::{
    ArgValueCandidates, ArgValueCompleter, CompleteEnv, CompletionCandidate, PathCompleter, Shell,
    engine::ValueCompleter as _,
};

use crate::cli::Cli;
use crate::cli::args::{StateArgs, lookup};
use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::config;
use crate::diagnostic::Code as DiagnosticCode;
use crate::model::visible::{escape_unsafe, one_line};
use crate::model::{RunState, RunStatus};
use crate::runner::project_state::{find_run, project_root};
use crate::runner::{ExitStatus, RunnerError};
use crate::store::{Journal, RunRow};

/// The environment variable in which the completion script names its shell.
const COMPLETE_VARIABLE: &str = "ORCH_COMPLETE";
/// The maximum number of runs among the candidates.
const MAX_RUN_CANDIDATES: usize = 50;

/// Print a completion script for your shell
///
/// The script calls orch to complete commands and flags, the project's pipelines, test cases, runs and steps, and the
/// diagnostic codes.
///
/// For example: `orch completions bash > ~/.local/share/bash-completion/completions/orch`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CompletionsArgs {
    /// The shell to print the script for
    #[arg(value_enum)]
    shell: Shell,
}

pub(in crate::cli) fn run(args: &CompletionsArgs, ui: &Ui) -> Result<ExitStatus> {
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell.to_string());
    let shell = shell.ok_or_else(|| RunnerError::usage(format!("orch has no completion script for {}", args.shell)))?;
    let mut script = Vec::new();
    shell.write_registration(COMPLETE_VARIABLE, "orch", "orch", "orch", &mut script)?;
    ui.write_data(&String::from_utf8_lossy(&script))?;
    Ok(ExitStatus::Success)
}

/// Prints completion candidates if a completion script started this process. Otherwise, returns `false`.
///
/// # Errors
/// The shell is unknown, or it passed an invalid command line.
pub(in crate::cli) fn complete_if_requested() -> clap::error::Result<bool> {
    let current_dir = std::env::current_dir().ok();
    CompleteEnv::with_factory(command_with_candidates)
        .var(COMPLETE_VARIABLE)
        .bin("orch")
        .completer("orch")
        .try_complete(std::env::args_os(), current_dir.as_deref())
}

/// The command line with candidates for the values of its arguments.
fn command_with_candidates() -> Command {
    add_candidates(Cli::command())
}

/// Adds candidates to the arguments with these value names: `RUN` and `OTHER` get runs, `STEP` and `KEY` steps, `CODE`
/// diagnostic codes, `PIPELINE` and `PATH` pipelines and files, and `CASE` test cases and files.
fn add_candidates(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let name = arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string);
        match name.as_deref() {
            Some("RUN" | "OTHER") => arg.add(ArgValueCandidates::new(run_candidates)),
            Some("STEP" | "KEY") => arg.add(ArgValueCandidates::new(step_candidates)),
            Some("CODE") => arg.add(ArgValueCandidates::new(code_candidates)),
            Some("PIPELINE" | "PATH") => arg.add(ArgValueCompleter::new(pipeline_candidates)),
            Some("CASE") => arg.add(ArgValueCompleter::new(case_candidates)),
            _ => arg,
        }
    });
    command.mut_subcommands(add_candidates)
}

fn code_candidates() -> Vec<CompletionCandidate> {
    DiagnosticCode::ALL.iter().map(|code| new_candidate(code.as_str(), code.title())).collect()
}

fn pipeline_candidates(typed_text: &OsStr) -> Vec<CompletionCandidate> {
    let names = current_dir().map(|current_dir| lookup::pipeline_names(&current_dir)).unwrap_or_default();
    name_and_file_candidates(names, typed_text)
}

fn case_candidates(typed_text: &OsStr) -> Vec<CompletionCandidate> {
    let names = current_dir().map(|current_dir| lookup::case_names(&current_dir)).unwrap_or_default();
    name_and_file_candidates(names, typed_text)
}

/// Returns the matching names, followed by the matching files.
fn name_and_file_candidates(names: Vec<String>, typed_text: &OsStr) -> Vec<CompletionCandidate> {
    let prefix = typed_text.to_string_lossy();
    let names = names.into_iter().filter(|name| name.starts_with(&*prefix)).map(CompletionCandidate::new);
    names.filter(is_printable).chain(PathCompleter::any().complete(typed_text)).collect()
}

fn run_candidates() -> Vec<CompletionCandidate> {
    let words = typed_words();
    let is_approval = words.iter().any(|word| word == "approve" || word == "reject");
    let rows = open_journal(&words).and_then(|journal| journal.runs(MAX_RUN_CANDIDATES).ok()).unwrap_or_default();
    let rows = rows.into_iter().filter(|row| !is_approval || row.status == RunStatus::Waiting);
    rows.map(|row| new_candidate(&row.run.to_string(), &describe_run(&row))).collect()
}

/// The description that the shell shows after the ID of a run.
fn describe_run(row: &RunRow) -> String {
    let task = row.task.as_deref().map(|task| format!(": {}", one_line(task, 40))).unwrap_or_default();
    format!("{}, {}{task}", row.pipeline, row.status.as_str())
}

/// Returns the steps of the run or pipeline on the command line. By default, returns the steps of the latest run.
fn step_candidates() -> Vec<CompletionCandidate> {
    let words = typed_words();
    let is_plan = words.iter().any(|word| word == "plan");
    let steps = if is_plan { pipeline_steps(&words) } else { run_steps(&words) };
    steps.unwrap_or_default().into_iter().map(CompletionCandidate::new).filter(is_printable).collect()
}

fn pipeline_steps(words: &[OsString]) -> Option<Vec<String>> {
    let current_dir = current_dir().ok()?;
    let load = |word: &OsString| {
        let file = lookup::find_pipeline(Path::new(word), &current_dir)
            .ok()
            .filter(|file| current_dir.join(file).is_file())?;
        config::load(&file).ok()
    };
    let project = words.iter().find_map(load)?;
    Some(project.pipeline.all_steps().into_iter().map(|step| step.id.clone()).collect())
}

fn run_steps(words: &[OsString]) -> Option<Vec<String>> {
    let journal = open_journal(words)?;
    let typed_run = words.iter().find_map(|word| find_run(&journal, word.to_str()?).ok());
    let row = typed_run.or_else(|| journal.runs(1).ok()?.into_iter().next())?;
    let state = RunState::fold(row.run, &journal.events(row.run).ok()?);
    Some(state.steps_in_file_order().into_iter().map(|step| step.key.to_string()).collect())
}

/// Opens the existing journal of the project or of `--state`.
fn open_journal(words: &[OsString]) -> Option<Journal> {
    let state = StateArgs { state: flag_value(words, "--state") };
    Journal::open_read_only(&state.folder(&project_root(&current_dir().ok()?))).ok()?
}

/// The value of a flag on the command line: `--flag VALUE` or `--flag=VALUE`, which bash passes as three words.
fn flag_value(words: &[OsString], flag: &str) -> Option<PathBuf> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == flag {
            return words.find(|word| *word != "=").map(PathBuf::from);
        }
        if let Some(value) = word.to_str().and_then(|word| word.strip_prefix(flag)?.strip_prefix('=')) {
            return Some(PathBuf::from(value));
        }
    }
    None
}

/// The words that the user has typed so far.
fn typed_words() -> Vec<OsString> {
    std::env::args_os().skip_while(|word| word != "--").skip(1).collect()
}

/// Whether a shell can print a candidate unchanged. The names of files and imported runs may contain control
/// characters.
fn is_printable(candidate: &CompletionCandidate) -> bool {
    candidate
        .get_value()
        .to_str()
        .is_some_and(|word| escape_unsafe(word) == word && !word.contains(char::is_whitespace))
}

fn new_candidate(value: &str, help: &str) -> CompletionCandidate {
    CompletionCandidate::new(value).help(Some(escape_unsafe(help).into_owned().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_value_finds_the_value_in_every_notation() {
        let value = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            flag_value(&words, "--state").map(|path| path.display().to_string())
        };
        for line in ["orch x --state a b", "orch x --state=a b", "orch x --state = a b"] {
            assert_eq!(value(line).as_deref(), Some("a"), "{line}");
        }
        for line in ["orch x", "orch x --state", "orch x --stated=a"] {
            assert_eq!(value(line), None, "{line}");
        }
    }
}
