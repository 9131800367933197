//! `orch models`.

use clap::Subcommand;

use super::error::{CliError, Code};
use super::ui::Ui;

/// List and fetch the embedded models
///
/// Embedded models run inside orch on the processor, with no key and no server. Their weights are
/// fetched once into the user's cache folder and checked against a pinned digest.
#[derive(Debug, Subcommand)]
pub(super) enum Models {
    /// List the embedded models, and which of them are here
    List,
    /// Fetch the weights of a model; goes on where it was broken off
    Pull {
        /// The model's name, as `orch models list` shows it
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[cfg(feature = "local")]
pub(super) fn run(command: &Models, ui: &Ui) -> Result<Code, CliError> {
    let cache = super::weights::cache_folder();
    match command {
        Models::List => {
            for spec in local_llm::catalog::all() {
                let there = local_llm::weights::installed(&cache, spec).is_some();
                let size = crate::report::human::bytes(spec.bytes);
                let here = if there { ui.out_style.good("here") } else { "not downloaded".to_owned() };
                ui.text(&format!(
                    "local/{:<20} {:>7}  {:<14}  {}, {}",
                    spec.name, size, here, spec.title, spec.license
                ))?;
            }
        }
        Models::Pull { name } => {
            let name = name.strip_prefix("local/").unwrap_or(name);
            let spec = if name == "local" { local_llm::catalog::default_model() } else { super::weights::find(name)? };
            if let Some(path) = local_llm::weights::installed(&cache, spec) {
                ui.say(format!("{} is here already: {}", spec.title, path.display()));
            } else {
                super::runtime()?.block_on(super::weights::pull(&cache, spec, ui))?;
            }
        }
    }
    Ok(Code::Ok)
}

#[cfg(not(feature = "local"))]
pub(super) fn run(_: &Models, _: &Ui) -> Result<Code, CliError> {
    Err(CliError::could_not("this orch was built without the embedded models")
        .hint("build it with the feature `local`"))
}
