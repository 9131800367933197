//! `orch completions`, and what a shell asks for while somebody types: commands and flags, and the names of pipelines,
//! runs, steps and codes as they are now.
//!
//! The script of a shell starts this program with [`ASKS`] set and the words of the command line behind `--`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use clap_complete::env::Shells;
use clap_complete::{
    ArgValueCandidates, ArgValueCompleter, CompleteEnv, CompletionCandidate, PathCompleter, Shell,
    engine::ValueCompleter as _,
};

use crate::config;
use crate::diagnostic::Code as FindingCode;
use crate::model::visible::visible;
use crate::model::{RunState, RunStatus};
use crate::report::human::first_line;
use crate::store::{Journal, RunRow};

use super::ui::Ui;
use super::{State, here, named, runs};
use crate::session::{ExitStatus, SessionError};

/// The variable by which a shell's script says which shell asks.
const ASKS: &str = "ORCH_COMPLETE";
/// How many runs are offered.
const RUNS: usize = 50;

/// Print a completion script for your shell
///
/// The script asks orch itself, so that it also knows pipelines, runs, steps and codes.
///
/// For example: `orch completions bash > ~/.local/share/bash-completion/completions/orch`
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell.to_string());
    let shell = shell.ok_or_else(|| SessionError::usage(format!("there is no script for {}", args.shell)))?;
    let mut script = Vec::new();
    shell.write_registration(ASKS, "orch", "orch", "orch", &mut script)?;
    ui.data(&String::from_utf8_lossy(&script))?;
    Ok(ExitStatus::Success)
}

/// Answers a shell that asks what may come next; false when none asks.
///
/// # Errors
/// The shell is unknown, or its words are none.
pub(super) fn answer() -> clap::error::Result<bool> {
    let here = std::env::current_dir().ok();
    CompleteEnv::with_factory(command)
        .var(ASKS)
        .bin("orch")
        .completer("orch")
        .try_complete(std::env::args_os(), here.as_deref())
}

/// The command line with what its values may be.
fn command() -> Command {
    with_candidates(super::Cli::command())
}

/// Every value is known by its name in the help: `RUN`, `STEP`, `CODE`.
fn with_candidates(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let name = arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string);
        match name.as_deref() {
            Some("RUN" | "OTHER") => arg.add(ArgValueCandidates::new(of_runs)),
            Some("STEP" | "KEY") => arg.add(ArgValueCandidates::new(of_steps)),
            Some("CODE") => arg.add(ArgValueCandidates::new(of_codes)),
            Some("PIPELINE" | "PATH") => arg.add(ArgValueCompleter::new(of_pipelines)),
            Some("CASE") => arg.add(ArgValueCompleter::new(of_cases)),
            _ => arg,
        }
    });
    command.mut_subcommands(with_candidates)
}

fn of_codes() -> Vec<CompletionCandidate> {
    FindingCode::ALL.iter().map(|code| candidate(code.as_str(), code.title())).collect()
}

fn of_pipelines(written: &OsStr) -> Vec<CompletionCandidate> {
    let names = here().map(|here| named::pipelines(&here)).unwrap_or_default();
    names_and_files(names, written)
}

fn of_cases(written: &OsStr) -> Vec<CompletionCandidate> {
    let names = here().map(|here| named::cases(&here)).unwrap_or_default();
    names_and_files(names, written)
}

/// A name goes before a file.
fn names_and_files(names: Vec<String>, written: &OsStr) -> Vec<CompletionCandidate> {
    let begun = written.to_string_lossy();
    let names = names.into_iter().filter(|name| name.starts_with(&*begun)).map(CompletionCandidate::new);
    names.filter(is_plain).chain(PathCompleter::any().complete(written)).collect()
}

fn of_runs() -> Vec<CompletionCandidate> {
    let words = words();
    let answers = words.iter().any(|word| word == "approve" || word == "reject");
    let rows = journal(&words).and_then(|journal| journal.runs(RUNS).ok()).unwrap_or_default();
    let rows = rows.into_iter().filter(|row| !answers || row.status == RunStatus::Waiting);
    rows.map(|row| candidate(&row.run.to_string(), &about(&row))).collect()
}

/// What a run is, beside its id.
fn about(row: &RunRow) -> String {
    let task = row.task.as_deref().map(|task| format!(": {}", first_line(task, 40))).unwrap_or_default();
    format!("{}, {}{task}", row.pipeline, row.status.as_str())
}

/// The steps of the run or the pipeline that the command line names, else of the latest run.
fn of_steps() -> Vec<CompletionCandidate> {
    let words = words();
    let plans = words.iter().any(|word| word == "plan");
    let steps = if plans { steps_of_pipeline(&words) } else { steps_of_run(&words) };
    steps.unwrap_or_default().into_iter().map(CompletionCandidate::new).filter(is_plain).collect()
}

fn steps_of_pipeline(words: &[OsString]) -> Option<Vec<String>> {
    let here = here().ok()?;
    let load = |word: &OsString| {
        let file = named::pipeline(Path::new(word), &here).ok().filter(|file| here.join(file).is_file())?;
        config::load(&file).ok()
    };
    let project = words.iter().find_map(load)?;
    Some(project.pipeline.all_steps().into_iter().map(|step| step.id.clone()).collect())
}

fn steps_of_run(words: &[OsString]) -> Option<Vec<String>> {
    let journal = journal(words)?;
    let named = words.iter().find_map(|word| runs::find(&journal, word.to_str()?).ok());
    let row = named.or_else(|| journal.runs(1).ok()?.into_iter().next())?;
    let state = RunState::fold(row.run, &journal.events(row.run).ok()?);
    Some(state.in_order().into_iter().map(|step| step.step.to_string()).collect())
}

/// The journal of the project, or of `--state`; nothing is made that is not there.
fn journal(words: &[OsString]) -> Option<Journal> {
    let after = |flag: &str| words.iter().skip_while(|word| *word != flag).nth(1).map(PathBuf::from);
    let state = State { state: after("--state") };
    Journal::open_to_read(&state.folder(&runs::root(&here().ok()?))).ok()?
}

/// The words of the command line that is typed.
fn words() -> Vec<OsString> {
    std::env::args_os().skip_while(|word| word != "--").skip(1).collect()
}

/// Whether a shell can show a word as it is: files and imported runs may hold what steers a terminal.
fn is_plain(candidate: &CompletionCandidate) -> bool {
    candidate.get_value().to_str().is_some_and(|word| visible(word) == word && !word.contains(char::is_whitespace))
}

fn candidate(value: &str, help: &str) -> CompletionCandidate {
    CompletionCandidate::new(value).help(Some(visible(help).into_owned().into()))
}
