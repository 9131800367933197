//! `orch models`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ui::Ui;
use crate::session::{ExitStatus, SessionError};

/// List, fetch and add the embedded models
///
/// Embedded models run inside orch on the processor, with no key and no server. Their weights are
/// fetched once into the user's cache folder and checked against a pinned digest. A GGUF file of
/// yours is a model too: `local:PATH`, or `local/NAME` once it is added.
#[derive(Debug, Args)]
pub(super) struct ModelsArgs {
    #[command(subcommand)]
    command: Option<ModelsCommand>,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// List the embedded models, and which of them are here
    List,
    /// Fetch the weights of a model; goes on where it was broken off
    Pull(Pull),
    /// Add a model file that you have: one of the list, or another GGUF file under a name
    Add(Add),
}

/// What is fetched, and from where.
#[derive(Debug, Args)]
pub(super) struct Pull {
    /// The model's name, as `orch models list` shows it; with --from also another one
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    /// An address or a file to take the weights from
    #[arg(long, value_name = "URL|FILE")]
    pub(super) from: Option<String>,
    /// The SHA-256 that the file must have, for a model that is not in the list
    #[arg(long, value_name = "HEX", requires = "from")]
    pub(super) sha256: Option<String>,
}

/// A file that is added.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// The GGUF file
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// The name of the model; the file's own without it
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
}

#[cfg(feature = "local")]
pub(super) fn run(models: &ModelsArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    use super::own_models;
    let runner = super::runner(ui)?;
    let shelf = crate::agent::Shelf::new(runner.environment.model_cache().to_owned());
    match models.command.as_ref().unwrap_or(&ModelsCommand::List) {
        ModelsCommand::List => own_models::list(&shelf, ui)?,
        ModelsCommand::Pull(asked) => super::runtime()?.block_on(own_models::pull(&shelf, asked, &runner, ui))?,
        ModelsCommand::Add(asked) => super::runtime()?.block_on(own_models::add(&shelf, asked, ui))?,
    }
    Ok(ExitStatus::Success)
}

#[cfg(not(feature = "local"))]
pub(super) fn run(_: &ModelsArgs, _: &Ui) -> Result<ExitStatus, SessionError> {
    Err(SessionError::usage("this orch was built without the embedded models")
        .hint("build it with the feature `local`"))
}
