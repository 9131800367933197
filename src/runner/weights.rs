//! Checks that the weights of embedded models are installed, and downloads them.

#[cfg(feature = "local")]
use std::path::{Path, PathBuf};

#[cfg(feature = "local")]
use local_llm::gguf;

use super::Runner;
use super::error::RunnerError;
#[cfg(feature = "local")]
use super::reporter::DownloadProgress;
use crate::agent::LocalModels;
use crate::model::ModelRef;

/// Makes sure that an embedded model is installed and fits into memory. Downloads the model if the user agrees.
#[cfg(feature = "local")]
pub(crate) async fn ensure_installed(
    local_models: &LocalModels,
    model: &ModelRef,
    may_download: bool,
    runner: &Runner,
) -> Result<(), RunnerError> {
    let (cache, name) = (&local_models.cache, model.model.as_str());
    if model.file_path().is_some() || local_models.added_names().iter().any(|added| added == name) {
        return ensure_usable_file(local_models, model, runner);
    }
    let spec = find_embedded_model(local_models, name)?;
    if local_llm::weights::installed_path(cache, spec).is_none() {
        let size = crate::report::human::format_bytes(spec.bytes);
        let question = format!("The embedded model {} ({size}) is not installed. Download it?", spec.title);
        if !may_download && runner.prompter.confirm(&question) != Some(true) {
            return Err(RunnerError::usage(format!(
                "no model: no key is set, no local server answers, and {} ({size}) is not installed",
                spec.title
            ))
            .with_hint(format!("download it: `orch models pull {name}`, or `--model local`, or `--yes`"))
            .with_hint("or use a hosted model: export ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY")
            .with_hint("or use a model on your own server: `--model ollama/NAME`"));
        }
        download_weights(cache, spec, runner).await?;
    }
    if let Some(header) = local_llm::weights::installed_path(cache, spec).and_then(|file| gguf::read_header(&file).ok())
    {
        check_memory(&header, spec.title, runner)?;
    }
    note_model_size(spec, runner);
    Ok(())
}

/// The minimum size in bytes of a file for which orch prints a note before it computes the digest.
#[cfg(feature = "local")]
const LARGE_FILE_BYTES: u64 = 1 << 30;

/// Makes sure that orch can run a model file, and that the model fits into memory.
#[cfg(feature = "local")]
fn ensure_usable_file(local_models: &LocalModels, model: &ModelRef, runner: &Runner) -> Result<(), RunnerError> {
    if let Some(problem) = local_models.file_problem(&model.model) {
        return Err(problem.into());
    }
    let header = gguf::read_header(&local_models.own_model_path(&model.model))
        .map_err(|error| RunnerError::usage(error.to_string()))?;
    check_memory(&header, &model.to_string(), runner)?;
    let size = crate::report::human::format_bytes(header.file_bytes);
    if header.file_bytes >= LARGE_FILE_BYTES && !local_models.is_digest_cached(&model.model) {
        runner.reporter.note(&format!("reading {model} ({size}) once, to compute its digest"));
    }
    runner.reporter.note(&format!("{model} is {}, on this machine's processor", describe_model(&header)));
    Ok(())
}

/// Describes a model in one line: its name, architecture and size.
#[cfg(feature = "local")]
pub(crate) fn describe_model(header: &gguf::Header) -> String {
    let name = header.name().map_or_else(|| "a model".to_owned(), ToOwned::to_owned);
    let size = crate::report::human::format_bytes(header.file_bytes);
    let millions = header.parameter_count().div_ceil(1_000_000);
    let parameters = if millions < 1000 {
        format!("{millions}M")
    } else {
        format!("{}.{}B", millions / 1000, millions % 1000 / 100)
    };
    format!("{name} ({}, {parameters} parameters, {size})", header.architecture())
}

/// Returns an error if the weights of a model do not fit into the free memory. Warns if a long conversation may not
/// fit.
#[cfg(feature = "local")]
fn check_memory(header: &gguf::Header, model: &str, runner: &Runner) -> Result<(), RunnerError> {
    let Some(free) = local_llm::memory::available_bytes() else { return Ok(()) };
    let (memory, size) = (header.memory_estimate(), crate::report::human::format_bytes);
    if memory.min_bytes > free {
        let error = format!(
            "the weights of {model} need {} of memory, but only {} are free",
            size(memory.min_bytes),
            size(free)
        );
        return Err(RunnerError::usage(error).with_hint("end other programs, or use a smaller model or quantization"));
    }
    if memory.max_bytes > free {
        runner.reporter.warning(&format!(
            "{model} may need up to {} of memory, but only {} are free: a long conversation may not fit",
            size(memory.max_bytes),
            size(free)
        ));
    }
    Ok(())
}

/// Shows the name and size of the embedded model, so that the user does not mistake it for a large one.
#[cfg(feature = "local")]
fn note_model_size(spec: &local_llm::catalog::ModelSpec, runner: &Runner) {
    runner.reporter.note(&format!(
        "the embedded model {} with {} parameters, on this machine's processor; a larger model gives better plans",
        spec.title, spec.parameters
    ));
}

/// Finds the embedded model with this name in the catalog.
#[cfg(feature = "local")]
pub(crate) fn find_embedded_model(
    local_models: &LocalModels,
    name: &str,
) -> Result<&'static local_llm::catalog::ModelSpec, RunnerError> {
    local_llm::catalog::find(name).ok_or_else(|| {
        let catalog_names = local_llm::catalog::all().iter().map(|spec| spec.name.to_owned());
        let names: Vec<String> = catalog_names.chain(local_models.added_names()).collect();
        let nearest = crate::diagnostic::did_you_mean(name, names.iter().map(String::as_str));
        let hint = nearest.map_or_else(
            || format!("the embedded models are {}; use `local:PATH` for your own file", names.join(", ")),
            |nearest| format!("did you mean `{nearest}`?"),
        );
        RunnerError::usage(format!("there is no embedded model `{name}`")).with_hint(hint)
    })
}

/// The sources of weights. `HF_ENDPOINT` replaces the address of the model hub.
#[cfg(feature = "local")]
fn weight_sources(runner: &Runner) -> local_llm::weights::WeightSources {
    let default_sources = local_llm::weights::WeightSources::default();
    match (runner.environment.variable_lookup())("HF_ENDPOINT") {
        Some(hub_base) => local_llm::weights::WeightSources { hub_base, ..default_sources },
        None => default_sources,
    }
}

/// Downloads the weights of an embedded model.
#[cfg(feature = "local")]
pub(crate) async fn download_weights(
    cache: &Path,
    spec: &local_llm::catalog::ModelSpec,
    runner: &Runner,
) -> Result<PathBuf, RunnerError> {
    let title = format!("{} ({})", spec.title, crate::report::human::format_bytes(spec.bytes));
    let download = runner.reporter.download(&title);
    crate::network::install_tls_provider();
    let show_progress = |fetch_progress| {
        if let Some(progress) = to_download_progress(fetch_progress) {
            download.progress(&progress);
        }
    };
    let result = local_llm::weights::pull(cache, spec, &weight_sources(runner), &show_progress).await;
    drop(download);
    let path = result.map_err(|error| download_error(spec.title, &error))?;
    runner.reporter.info(&format!("downloaded {} into {}", spec.title, path.display()));
    Ok(path)
}

/// Converts the progress of a download to the type for reporters.
#[cfg(feature = "local")]
pub(crate) fn to_download_progress(progress: local_llm::weights::FetchProgress) -> Option<DownloadProgress> {
    use local_llm::weights::FetchProgress;
    match progress {
        FetchProgress::Bytes { done, total } => Some(DownloadProgress::Bytes { downloaded: done, total }),
        FetchProgress::Waiting => Some(DownloadProgress::Waiting),
        FetchProgress::Source { name, previous_failure } => Some(DownloadProgress::Source { name, previous_failure }),
        FetchProgress::Checking => Some(DownloadProgress::Verifying),
        _ => None,
    }
}

/// The error for a failed download, with hints.
#[cfg(feature = "local")]
pub(crate) fn download_error(title: &str, error: &local_llm::weights::PullError) -> RunnerError {
    use local_llm::weights::PullError;
    let download_failure = RunnerError::usage(format!("{title} can't be downloaded: {error}"));
    match error {
        PullError::Unreachable { .. } => download_failure
            .with_hint("check the connection, then run the command again: the download resumes")
            .with_hint("or add a file that you downloaded elsewhere: `orch models add FILE`"),
        PullError::Disk { .. } => download_failure,
        _ => download_failure
            .with_hint("orch deleted the downloaded data: run the command again, or use another source with `--from`"),
    }
}

/// Returns an error, since this build has no embedded models.
#[cfg(not(feature = "local"))]
#[expect(clippy::unused_async, reason = "the same signature as with the embedded model")]
pub(crate) async fn ensure_installed(_: &LocalModels, _: &ModelRef, _: bool, _: &Runner) -> Result<(), RunnerError> {
    Err(RunnerError::usage(
        "no model: no key is set, no local server answers, and this orch was built without the embedded models",
    )
    .with_hint("export ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY, or name a model with --model"))
}
