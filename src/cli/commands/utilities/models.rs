//! `orch models`.

#[cfg(feature = "local")]
mod files;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::cli::output::Ui;
use crate::runner::ExitStatus;

/// List, download and add embedded models
///
/// Embedded models run inside orch on the processor, without a key and without a server. orch
/// downloads their weights once into the user's cache folder and verifies them against a pinned
/// digest. To use your own GGUF file, write `local:PATH`, or add it and write `local/NAME`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ModelsArgs {
    #[command(subcommand)]
    command: Option<ModelsCommand>,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// List the embedded models and show which are downloaded
    List,
    /// Download the weights of a model, or continue an interrupted download
    Pull(PullArgs),
    /// Add a model file: the file of a listed model, or another GGUF file
    Add(AddArgs),
}

/// The arguments of `orch models pull`.
#[derive(Debug, Args)]
struct PullArgs {
    /// The name of a model in `orch models list`; with --from, any other name is allowed too
    #[arg(value_name = "NAME")]
    name: String,
    /// Read the weights from this address or file
    #[arg(long, value_name = "URL|FILE")]
    from: Option<String>,
    /// The expected SHA-256 digest of the file, for a model that is not in the list
    #[arg(long, value_name = "HEX", requires = "from")]
    sha256: Option<String>,
}

/// The arguments of `orch models add`.
#[derive(Debug, Args)]
struct AddArgs {
    /// The GGUF file to add
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The name of the model [default: the name of the file]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

#[cfg(feature = "local")]
pub(in crate::cli) fn run(args: &ModelsArgs, ui: &Ui) -> Result<ExitStatus> {
    use crate::cli::startup::{runner, runtime};
    let runner = runner(ui)?;
    let local_models = crate::agent::LocalModels::new(runner.environment.model_cache().to_owned());
    match args.command.as_ref().unwrap_or(&ModelsCommand::List) {
        ModelsCommand::List => files::list_models(&local_models, ui)?,
        ModelsCommand::Pull(args) => runtime()?.block_on(files::pull_model(&local_models, args, &runner, ui))?,
        ModelsCommand::Add(args) => runtime()?.block_on(files::add_model(&local_models, args, ui))?,
    }
    Ok(ExitStatus::Success)
}

#[cfg(not(feature = "local"))]
pub(in crate::cli) fn run(_: &ModelsArgs, _: &Ui) -> Result<ExitStatus> {
    let error = crate::runner::RunnerError::usage("this orch was built without the embedded models");
    Err(error.with_hint("build it with the feature `local`").into())
}
