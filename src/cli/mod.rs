//! The command line: one file a command, its arguments beside its function.

mod answer;
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
mod lsp;
mod models;
mod named;
#[cfg(feature = "local")]
mod own_models;
mod plan;
mod relative;
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
/// A pipeline is a YAML file that lists steps; each step asks an agent with a prompt from
/// prompts/ and keeps the JSON that it answers, checked by a schema from schemas/, as a file in
/// the workspace. Every reply is recorded before it is used, so a run that was stopped or
/// failed goes on where it was.
///
/// Begin with `orch init`, then `orch run default --task "…"`.
#[derive(Debug, Parser)]
#[command(name = "orch", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    /// Colour the output: auto, always or never
    #[arg(long, global = true, value_enum, default_value_t = ui::Colour::Auto, value_name = "WHEN", help_heading = "Global options")]
    color: ui::Colour,

    #[command(subcommand)]
    command: TopCommand,
}

const EXIT_CODES: &str = "Exit codes: 0 completed · 1 the pipeline failed · 2 it could not run as written · \
3 waiting for approval · 4 budget or limit · 5 internal error · 130 interrupted";

#[derive(Debug, Subcommand)]
enum TopCommand {
    /// Run, resume, check and list pipelines
    #[command(subcommand)]
    Pipeline(PipelineCommand),
    /// List past runs and show what they did
    #[command(subcommand)]
    Runs(runs::Runs),
    #[command(about = "Run a pipeline; short for `orch pipeline run`")]
    Run(run::RunArgs),
    #[command(about = "Go on with a run; short for `orch pipeline resume`")]
    Resume(resume::ResumeArgs),
    #[command(about = "Check pipelines; short for `orch pipeline validate`")]
    Validate(validate::ValidateArgs),
    #[command(about = "Tell what a run would do; short for `orch pipeline plan`")]
    Plan(plan::PlanArgs),
    Extract(extract::ExtractArgs),
    /// Check the project's schemas, or print those of orch's own files
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

/// Where orch keeps its journal.
#[derive(Clone, Debug, Default, clap::Args)]
struct State {
    /// Keep the journal in this folder instead of `.orch` beside the pipelines
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl State {
    /// The folder, as a session takes it.
    fn named(&self) -> StateFolder {
        StateFolder::new(self.state.clone())
    }

    /// The folder of a project with this root.
    fn folder(&self, root: &std::path::Path) -> PathBuf {
        self.named().folder(root)
    }
}

/// Runs the program on the process's arguments.
pub fn main() -> ExitCode {
    // Before anything else: it is started for every command of a run.
    if let Some(code) = crate::session::guard_main() {
        return code;
    }
    #[cfg(feature = "failpoints")]
    let _chosen = crate::crash::chosen();
    if let Some(folder) = crate::session::configuration() {
        crate::store::keep_key_in(folder);
    }
    crate::store::before_copies(interrupt::end_without_copies);
    match completions::answer() {
        Ok(true) => return ExitStatus::Success.into(),
        Ok(false) => {}
        Err(error) => {
            drop(error.print());
            return ExitStatus::Usage.into();
        }
    }
    let parsed = Cli::command().try_get_matches();
    let (cli, commands) = match parsed.and_then(|found| Ok((Cli::from_arg_matches(&found)?, printed_commands(&found))))
    {
        Ok(parsed) => parsed,
        Err(error) => {
            let code = if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Success };
            // A closed pipe is the reader's choice.
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
            ui.error(&error);
            error.status()
        }
    };
    code.into()
}

/// The commands that messages print, with the options that this command was given and that they need too.
fn printed_commands(found: &ArgMatches) -> PrintedCommands {
    let innermost = std::iter::successors(Some(found), |found| found.subcommand().map(|(_, inner)| inner)).last();
    let written = |name: &str| {
        innermost.filter(|found| {
            let has_it = found.try_contains_id(name).is_ok_and(|is_given| is_given);
            has_it && found.value_source(name) == Some(ValueSource::CommandLine)
        })
    };
    let state = written("state").and_then(|found| found.try_get_one::<PathBuf>("state").ok()?);
    let trust = written(trust::DIGEST).and_then(|found| found.try_get_one::<String>(trust::DIGEST).ok()?);
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
fn here() -> Result<PathBuf, SessionError> {
    std::env::current_dir().map_err(|error| SessionError::usage(format!("the current folder can't be read: {error}")))
}

/// What runs pipelines, with this terminal.
fn runner(ui: &Ui) -> Result<Runner, SessionError> {
    let runner = Runner::new(Environment::of_process()?);
    Ok(runner.with_reporter(Arc::new(ui.clone())).with_prompter(Arc::new(ui.clone())))
}

/// The async runtime: this thread is enough for a run, whose work is mostly waiting. Embedded models, and listings of
/// many files while the run goes on, have threads of their own.
fn runtime() -> Result<tokio::runtime::Runtime, SessionError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| SessionError::internal(format!("the async runtime can't be started: {error}")))
}
