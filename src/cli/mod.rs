//! The command line: one file per command, with its arguments and its function.

mod approval;
mod budget;
mod completions;
mod doctor;
#[cfg(feature = "local")]
mod download;
mod explain;
mod extract;
mod findings;
mod graph;
mod init;
mod inputs;
mod interrupt;
mod list;
mod lookup;
mod lsp;
#[cfg(feature = "local")]
mod model_files;
mod models;
mod path_base;
mod plan;
mod report;
mod resume;
mod run;
mod runs;
mod schema;
mod show;
mod test;
mod track;
mod trust;
mod ui;
mod validate;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::report::PrintedCommands;
use crate::session::{Environment, ExitStatus, Runner, SessionError, StateFolder};
use ui::Ui;

/// Run declarative agent pipelines
///
/// A pipeline is a YAML file that lists steps. Each agent step sends a prompt from prompts/ to a
/// model, validates the reply against a schema from schemas/ and saves it as a JSON file in the
/// workspace. orch records every reply before using it, so you can resume a run that failed or
/// was stopped.
///
/// Start with `orch init`, then `orch run default --task "…"`.
#[derive(Debug, Parser)]
#[command(name = "orch", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    /// When to colour the output
    #[arg(long, global = true, value_enum, default_value_t = ui::ColourChoice::Auto, value_name = "WHEN", help_heading = "Global options")]
    color: ui::ColourChoice,

    #[command(subcommand)]
    command: TopCommand,
}

const EXIT_CODES: &str = "Exit codes: 0 completed · 1 the pipeline failed · 2 orch could not run it as written · \
3 waiting for approval · 4 budget or limit · 5 internal error · 130 interrupted";

#[derive(Debug, Subcommand)]
enum TopCommand {
    /// Run, resume, check and list pipelines
    #[command(subcommand)]
    Pipeline(PipelineCommand),
    /// Inspect, approve, revert, export and delete runs
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    #[command(about = "Run a pipeline; short for `orch pipeline run`")]
    Run(run::RunArgs),
    #[command(about = "Resume a run; short for `orch pipeline resume`")]
    Resume(resume::ResumeArgs),
    #[command(about = "Check pipelines; short for `orch pipeline validate`")]
    Validate(validate::ValidateArgs),
    #[command(about = "Preview a run; short for `orch pipeline plan`")]
    Plan(plan::PlanArgs),
    Extract(extract::ExtractArgs),
    /// Check the schemas of the project, or print the schemas of orch's own files
    #[command(subcommand)]
    Schema(schema::SchemaCommand),
    Explain(explain::ExplainArgs),
    Init(init::InitArgs),
    Doctor(doctor::DoctorArgs),
    Trust(trust::TrustCommandArgs),
    Models(models::ModelsArgs),
    Lsp(lsp::LspArgs),
    Completions(completions::CompletionsArgs),
}

#[derive(Debug, Subcommand)]
enum PipelineCommand {
    Run(run::RunArgs),
    Resume(resume::ResumeArgs),
    Validate(validate::ValidateArgs),
    Plan(plan::PlanArgs),
    Test(test::TestArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Graph(graph::GraphArgs),
}

/// The option that selects the journal.
#[derive(Clone, Debug, Default, clap::Args)]
struct StateArgs {
    /// Store the journal in this folder instead of `.orch` beside the pipelines
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl StateArgs {
    /// The state folder for a session.
    fn state_folder(&self) -> StateFolder {
        StateFolder::new(self.state.clone())
    }

    /// The path of the state folder for the project at `root`.
    fn folder(&self, root: &std::path::Path) -> PathBuf {
        self.state_folder().path_for(root)
    }
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    // This comes first because orch starts itself as the guard of each child process.
    if let Some(code) = crate::session::guard_main() {
        return code;
    }
    #[cfg(feature = "failpoints")]
    let _failpoint = crate::crash::activate_from_env();
    if let Some(folder) = crate::session::user_config_dir() {
        crate::store::set_key_folder(folder);
    }
    crate::store::set_copy_hook(interrupt::remove_copies_on_signal);
    match completions::complete_if_requested() {
        Ok(true) => return ExitStatus::Success.into(),
        Ok(false) => {}
        Err(error) => {
            drop(error.print());
            return ExitStatus::Usage.into();
        }
    }
    let parsed = Cli::command().try_get_matches();
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, printed_commands(&matches))));
    let (cli, commands) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let code = if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Success };
            // The reader may have closed the pipe.
            drop(error.print());
            return code.into();
        }
    };
    let mut ui = Ui::new(cli.color);
    ui.commands = commands;
    let result = dispatch(cli.command, &mut ui);
    let code = match result {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => ExitStatus::Success,
        Err(error) => {
            ui.print_error(&error);
            error.status()
        }
    };
    code.into()
}

/// The commands that messages suggest, with the options of this command line that they need too.
fn printed_commands(matches: &ArgMatches) -> PrintedCommands {
    let subcommand =
        std::iter::successors(Some(matches), |matches| matches.subcommand().map(|(_, inner)| inner)).last();
    let matches_with = |id: &str| {
        subcommand.filter(|matches| {
            let is_present = matches.try_contains_id(id).is_ok_and(|is_present| is_present);
            is_present && matches.value_source(id) == Some(ValueSource::CommandLine)
        })
    };
    let state = matches_with("state").and_then(|matches| matches.try_get_one::<PathBuf>("state").ok()?);
    let trust = matches_with(trust::DIGEST_ARG_ID)
        .and_then(|matches| matches.try_get_one::<String>(trust::DIGEST_ARG_ID).ok()?);
    PrintedCommands::new(state.map(PathBuf::as_path), trust.map(String::as_str))
}

fn dispatch(command: TopCommand, ui: &mut Ui) -> Result<ExitStatus, SessionError> {
    match command {
        TopCommand::Pipeline(PipelineCommand::Run(args)) | TopCommand::Run(args) => run::run(args, ui),
        TopCommand::Pipeline(PipelineCommand::Resume(args)) | TopCommand::Resume(args) => resume::run(&args, ui),
        TopCommand::Pipeline(PipelineCommand::Validate(args)) | TopCommand::Validate(args) => validate::run(&args, ui),
        TopCommand::Pipeline(PipelineCommand::Plan(args)) | TopCommand::Plan(args) => plan::run(&args, ui),
        TopCommand::Pipeline(PipelineCommand::Test(args)) => test::run(&args, ui),
        TopCommand::Pipeline(PipelineCommand::List(args)) => list::run(&args, ui),
        TopCommand::Pipeline(PipelineCommand::Show(args)) => show::run(&args, ui),
        TopCommand::Pipeline(PipelineCommand::Graph(args)) => graph::run(&args, ui),
        TopCommand::Runs(command) => runs::run(&command, ui),
        TopCommand::Extract(args) => extract::run(&args, ui),
        TopCommand::Schema(command) => schema::run(&command, ui),
        TopCommand::Explain(args) => explain::run(&args, ui),
        TopCommand::Init(args) => init::run(&args, ui),
        TopCommand::Doctor(args) => doctor::run(&args, ui),
        TopCommand::Trust(args) => trust::run(&args, ui),
        TopCommand::Models(command) => models::run(&command, ui),
        TopCommand::Lsp(args) => lsp::run(&args),
        TopCommand::Completions(args) => completions::run(&args, ui),
    }
}

/// The current folder.
fn current_dir() -> Result<PathBuf, SessionError> {
    std::env::current_dir().map_err(|error| SessionError::usage(format!("the current folder can't be read: {error}")))
}

/// A runner that reports to this terminal and asks on it.
fn runner(ui: &Ui) -> Result<Runner, SessionError> {
    let runner = Runner::new(Environment::from_process()?);
    Ok(runner.with_reporter(Arc::new(ui.clone())).with_prompter(Arc::new(ui.clone())))
}

/// The async runtime. One thread is enough because a run mostly waits; embedded models and listings of many files have
/// threads of their own.
fn runtime() -> Result<tokio::runtime::Runtime, SessionError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| SessionError::internal(format!("the async runtime can't be started: {error}")))
}
