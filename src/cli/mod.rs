//! The command line: its arguments, its commands and their output.

mod args;
mod commands;
mod error;
mod interrupt;
mod logging;
mod output;
mod startup;
mod usage_tips;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::report::SuggestedCommands;
use crate::runner::ExitStatus;

use args::{DIGEST_ARG_ID, OutputFormat};
use commands::pipeline::PipelineCommand;
use commands::{pipeline, project, runs, tools, utilities};
use error::to_runner_error;
use logging::LogArgs;
use output::{ColourChoice, Ui, print_argument_error};

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
    #[arg(long, global = true, value_enum, default_value_t = ColourChoice::Auto, value_name = "WHEN", help_heading = "Global options")]
    color: ColourChoice,

    #[command(flatten)]
    log: LogArgs,

    /// With --version: the output format
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<OutputFormat>,

    #[command(subcommand)]
    command: TopCommand,
}

const EXIT_CODES: &str = "Exit codes: 0 completed · 1 the pipeline failed · 2 invalid arguments or files · \
3 waiting for approval · 4 budget used up or usage unknown · 5 internal error · 130 cancelled";

#[derive(Debug, Subcommand)]
enum TopCommand {
    /// Run, resume, check and list pipelines
    #[command(subcommand)]
    Pipeline(PipelineCommand),
    /// Inspect, approve, stop, revert, export and delete runs
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    #[command(about = "Run a pipeline; short for `orch pipeline run`")]
    Run(pipeline::RunArgs),
    #[command(about = "Resume a run; short for `orch pipeline resume`")]
    Resume(pipeline::ResumeArgs),
    #[command(about = "Check pipelines; short for `orch pipeline validate`")]
    Validate(pipeline::ValidateArgs),
    #[command(about = "Preview a run; short for `orch pipeline plan`")]
    Plan(pipeline::PlanArgs),
    /// List, show and call tools of orch and of MCP servers
    #[command(subcommand)]
    Tools(tools::ToolsCommand),
    Extract(utilities::extract::ExtractArgs),
    /// Check the schemas of the project, or print the schemas of orch's own files
    #[command(subcommand)]
    Schema(project::schema::SchemaCommand),
    Explain(utilities::explain::ExplainArgs),
    Init(project::init::InitArgs),
    Doctor(project::doctor::DoctorArgs),
    Trust(project::trust::TrustCommandArgs),
    Models(utilities::models::ModelsArgs),
    Lsp(utilities::lsp::LspArgs),
    Completions(utilities::completions::CompletionsArgs),
    SelfUpdate(utilities::self_update::SelfUpdateArgs),
}

/// The command line as clap describes it, from which `examples/man_pages.rs` writes man pages.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the process's arguments specify, and returns its exit code.
pub fn main() -> ExitCode {
    // Check this first, because orch starts its own executable as the supervisor of child processes.
    if let Some(code) = crate::runner::supervisor_main() {
        return code;
    }
    #[cfg(feature = "failpoints")]
    let _failpoint = crate::crash::activate_from_env();
    if let Some(folder) = crate::runner::user_config_dir() {
        crate::store::set_signing_key_folder(folder);
    }
    crate::store::set_copy_hook(interrupt::remove_copies_on_signal);
    match utilities::completions::complete_if_requested() {
        Ok(true) => return ExitStatus::Success.into(),
        Ok(false) => {}
        Err(error) => {
            drop(error.print());
            return ExitStatus::Usage.into();
        }
    }
    let parsed = Cli::command().try_get_matches();
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, suggested_commands(&matches))));
    let (cli, commands) = match parsed {
        Ok(parsed) => parsed,
        Err(error) if error.kind() == ErrorKind::DisplayVersion => return print_version(),
        Err(mut error) => {
            let arguments: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
            usage_tips::add_tip(&mut error, &arguments);
            return report_argument_error(&error);
        }
    };
    if cli.output.is_some() {
        let message = "`--output` before a command belongs to `--version`; write it after the command";
        return report_argument_error(&Cli::command().error(ErrorKind::ArgumentConflict, message));
    }
    let mut ui = Ui::new(cli.color);
    ui.commands = commands;
    let result = logging::start(&cli.log).map_err(anyhow::Error::from).and_then(|()| dispatch(cli.command, &mut ui));
    report_result(result, &ui)
}

/// Prints the version, in the format that the command line asks for.
fn print_version() -> ExitCode {
    match utilities::version::requested_format() {
        Ok(format) => {
            let ui = Ui::new(ColourChoice::Auto);
            report_result(utilities::version::run(format, &ui), &ui)
        }
        Err(error) => report_argument_error(&error),
    }
}

/// Prints an error of the command line, or the help that it asked for, and returns the exit code.
fn report_argument_error(error: &clap::Error) -> ExitCode {
    print_argument_error(error);
    let code = if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Success };
    code.into()
}

/// Prints the error of a command, and returns the exit code.
fn report_result(result: Result<ExitStatus>, ui: &Ui) -> ExitCode {
    let code = match result.map_err(to_runner_error) {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => ExitStatus::Success,
        Err(error) => {
            ui.print_error(&error);
            error.status()
        }
    };
    code.into()
}

/// Returns the commands that orch suggests in its output. They repeat the options `--state` and `--trust` of this
/// command line.
fn suggested_commands(matches: &ArgMatches) -> SuggestedCommands {
    let subcommand =
        std::iter::successors(Some(matches), |matches| matches.subcommand().map(|(_, inner)| inner)).last();
    let matches_with_option = |id: &str| {
        subcommand.filter(|matches| {
            let is_present = matches.try_contains_id(id).is_ok_and(|is_present| is_present);
            is_present && matches.value_source(id) == Some(ValueSource::CommandLine)
        })
    };
    let state = matches_with_option("state").and_then(|matches| matches.try_get_one::<PathBuf>("state").ok()?);
    let trust =
        matches_with_option(DIGEST_ARG_ID).and_then(|matches| matches.try_get_one::<String>(DIGEST_ARG_ID).ok()?);
    SuggestedCommands::new(state.map(PathBuf::as_path), trust.map(String::as_str))
}

fn dispatch(command: TopCommand, ui: &mut Ui) -> Result<ExitStatus> {
    match command {
        TopCommand::Pipeline(command) => pipeline::dispatch(command, ui),
        TopCommand::Runs(command) => runs::dispatch(&command, ui),
        TopCommand::Run(args) => pipeline::dispatch(PipelineCommand::Run(args), ui),
        TopCommand::Resume(args) => pipeline::dispatch(PipelineCommand::Resume(args), ui),
        TopCommand::Validate(args) => pipeline::dispatch(PipelineCommand::Validate(args), ui),
        TopCommand::Plan(args) => pipeline::dispatch(PipelineCommand::Plan(args), ui),
        TopCommand::Tools(command) => tools::dispatch(&command, ui),
        TopCommand::Extract(args) => utilities::extract::run(&args, ui),
        TopCommand::Schema(command) => project::schema::run(&command, ui),
        TopCommand::Explain(args) => utilities::explain::run(&args, ui),
        TopCommand::Init(args) => project::init::run(&args, ui),
        TopCommand::Doctor(args) => project::doctor::run(&args, ui),
        TopCommand::Trust(args) => project::trust::run(&args, ui),
        TopCommand::Models(args) => utilities::models::run(&args, ui),
        TopCommand::Lsp(args) => utilities::lsp::run(&args),
        TopCommand::Completions(args) => utilities::completions::run(&args, ui),
        TopCommand::SelfUpdate(args) => utilities::self_update::run(&args, ui),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The help texts of a command and of all commands below it.
    fn help_texts(command: &mut clap::Command) -> Vec<String> {
        let help = command.render_long_help().to_string();
        std::iter::once(help).chain(command.get_subcommands_mut().flat_map(help_texts)).collect()
    }

    #[test]
    fn the_examples_of_a_command_quote_what_a_shell_expands() {
        let mut count = 0;
        for help in help_texts(&mut Cli::command()) {
            let examples = help.split_once("Examples:\n").map(|(_, examples)| examples).unwrap_or_default();
            for example in examples.lines().take_while(|line| line.trim_start().starts_with("orch ")) {
                let unquoted: String = example.split(['\'', '"']).step_by(2).collect();
                assert!(!unquoted.contains(['[', '{', '*', '?', '~']), "zsh expands a part of {example:?}");
                count += 1;
            }
        }
        assert!(count > 10, "{count} examples");
    }
}
