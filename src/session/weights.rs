//! The weights of embedded models: checks that they are there, and downloads them.

#[cfg(feature = "local")]
use std::path::{Path, PathBuf};

#[cfg(feature = "local")]
use local_llm::gguf;

use super::Runner;
use super::error::SessionError;
#[cfg(feature = "local")]
use super::reporter::DownloadProgress;
use crate::agent::Shelf;
use crate::model::ModelRef;

/// Makes sure that an embedded model is installed and fits into memory; downloads it if the user agrees.
#[cfg(feature = "local")]
pub(crate) async fn ensure(shelf: &Shelf, model: &ModelRef, agreed: bool, runner: &Runner) -> Result<(), SessionError> {
    let (cache, name) = (&shelf.cache, model.model.as_str());
    if model.path().is_some() || shelf.added().iter().any(|added| added == name) {
        return own(shelf, model, runner);
    }
    let spec = find(shelf, name)?;
    if local_llm::weights::installed(cache, spec).is_none() {
        let size = crate::report::human::bytes(spec.bytes);
        let question = format!("The embedded model {} ({size}) is not here yet. Download it?", spec.title);
        if !agreed && runner.prompter.confirm(&question) != Some(true) {
            return Err(SessionError::usage(format!(
                "no model: no key is set, no local server answers, and {} ({size}) is not downloaded",
                spec.title
            ))
            .hint(format!("download it: `orch models pull {name}`, or `--model local`, or `--yes`"))
            .hint("or use a hosted model: export ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY")
            .hint("or name a model of a server of yours: `--model ollama/NAME`"));
        }
        pull(cache, spec, runner).await?;
    }
    if let Some(header) = local_llm::weights::installed(cache, spec).and_then(|file| gguf::read(&file).ok()) {
        fits(&header, spec.title, runner)?;
    }
    honest(spec, runner);
    Ok(())
}

/// The file size in bytes from which reading the whole file takes long enough for a note.
#[cfg(feature = "local")]
const LARGE: u64 = 1 << 30;

/// Makes sure that a model file can be run and fits into memory.
#[cfg(feature = "local")]
fn own(shelf: &Shelf, model: &ModelRef, runner: &Runner) -> Result<(), SessionError> {
    if let Some(problem) = shelf.problem(&model.model) {
        return Err(problem.into());
    }
    let header = gguf::read(&shelf.own_file(&model.model)).map_err(|error| SessionError::usage(error.to_string()))?;
    fits(&header, &model.to_string(), runner)?;
    let size = crate::report::human::bytes(header.bytes);
    if header.bytes >= LARGE && !shelf.knows(&model.model) {
        runner.reporter.note(&format!("reading {model} ({size}) once, to know it from other files"));
    }
    runner.reporter.note(&format!("{model} is {}, on this machine's processor", described(&header)));
    Ok(())
}

/// A short description of a model: its name, architecture and size.
#[cfg(feature = "local")]
pub(crate) fn described(header: &gguf::Header) -> String {
    let name = header.name().map_or_else(|| "a model".to_owned(), ToOwned::to_owned);
    let size = crate::report::human::bytes(header.bytes);
    let millions = header.parameters().div_ceil(1_000_000);
    let parameters = if millions < 1000 {
        format!("{millions}M")
    } else {
        format!("{}.{}B", millions / 1000, millions % 1000 / 100)
    };
    format!("{name} ({}, {parameters} parameters, {size})", header.architecture())
}

/// Refuses a model whose weights alone need more memory than is free, and warns if a long conversation may need more.
#[cfg(feature = "local")]
fn fits(header: &gguf::Header, what: &str, runner: &Runner) -> Result<(), SessionError> {
    let Some(free) = local_llm::memory::available() else { return Ok(()) };
    let (memory, size) = (header.memory(), crate::report::human::bytes);
    if memory.least > free {
        let words =
            format!("{what} takes {} of memory for its weights alone, and {} are free", size(memory.least), size(free));
        return Err(SessionError::usage(words).hint("end other programs, or take a smaller model or quantization"));
    }
    if memory.most > free {
        let words = format!("{what} may take up to {} of memory, and {} are free", size(memory.most), size(free));
        runner.reporter.warning(&format!("{words}: a long conversation may not fit"));
    }
    Ok(())
}

/// Prints which embedded model is used, so that the user does not mistake it for a large one.
#[cfg(feature = "local")]
fn honest(spec: &local_llm::catalog::ModelSpec, runner: &Runner) {
    runner.reporter.note(&format!(
        "the embedded model {} with {} parameters, on this machine's processor; a larger model gives better plans",
        spec.title, spec.parameters
    ));
}

/// The embedded model of the catalogue with this name.
#[cfg(feature = "local")]
pub(crate) fn find(shelf: &Shelf, name: &str) -> Result<&'static local_llm::catalog::ModelSpec, SessionError> {
    local_llm::catalog::find(name).ok_or_else(|| {
        let listed = local_llm::catalog::all().iter().map(|spec| spec.name.to_owned());
        let names: Vec<String> = listed.chain(shelf.added()).collect();
        let nearest = crate::diagnostic::did_you_mean(name, names.iter().map(String::as_str));
        let hint = nearest.map_or_else(
            || format!("there are {}; a file of yours is `local:PATH`", names.join(", ")),
            |nearest| format!("did you mean `{nearest}`?"),
        );
        SessionError::usage(format!("there is no embedded model `{name}`")).hint(hint)
    })
}

/// The sources of weights: the model hub, or the mirror that `HF_ENDPOINT` names, then Python packages.
#[cfg(feature = "local")]
fn sources(runner: &Runner) -> local_llm::weights::WeightSources {
    let usual = local_llm::weights::WeightSources::default();
    match (runner.environment.variables())("HF_ENDPOINT") {
        Some(hub_base) => local_llm::weights::WeightSources { hub_base, ..usual },
        None => usual,
    }
}

/// Downloads the weights of an embedded model.
#[cfg(feature = "local")]
pub(crate) async fn pull(
    cache: &Path,
    spec: &local_llm::catalog::ModelSpec,
    runner: &Runner,
) -> Result<PathBuf, SessionError> {
    let title = format!("{} ({})", spec.title, crate::report::human::bytes(spec.bytes));
    let download = runner.reporter.download(&title);
    crate::network::prepare_tls();
    let shown = |now| {
        if let Some(progress) = progress(now) {
            download.progress(&progress);
        }
    };
    let result = local_llm::weights::pull(cache, spec, &sources(runner), &shown).await;
    drop(download);
    let path = result.map_err(|error| not_fetched(spec.title, &error))?;
    runner.reporter.info(&format!("fetched {} into {}", spec.title, path.display()));
    Ok(path)
}

/// The progress of a download as reporters get it.
#[cfg(feature = "local")]
pub(crate) fn progress(now: local_llm::weights::FetchProgress) -> Option<DownloadProgress> {
    use local_llm::weights::FetchProgress;
    match now {
        FetchProgress::Bytes { done, total } => Some(DownloadProgress::Bytes { done, total }),
        FetchProgress::Waiting => Some(DownloadProgress::Waiting),
        FetchProgress::Source { name, instead } => Some(DownloadProgress::Source { name, instead }),
        FetchProgress::Checking => Some(DownloadProgress::Checking),
        _ => None,
    }
}

/// The error for a failed download, with hints.
#[cfg(feature = "local")]
pub(crate) fn not_fetched(title: &str, error: &local_llm::weights::PullError) -> SessionError {
    use local_llm::weights::PullError;
    let failed = SessionError::usage(format!("{title} can't be fetched: {error}"));
    match error {
        PullError::Unreachable { .. } => failed
            .hint("check the connection, then run it again: it goes on where it was")
            .hint("or bring the file from elsewhere: `orch models add FILE`"),
        PullError::Disk { .. } => failed,
        _ => failed.hint("what came was deleted: run it again, or take it from another source with `--from`"),
    }
}

/// Without the embedded model there is nothing to download.
#[cfg(not(feature = "local"))]
#[expect(clippy::unused_async, reason = "the same signature as with the embedded model")]
pub(crate) async fn ensure(_: &Shelf, _: &ModelRef, _: bool, _: &Runner) -> Result<(), SessionError> {
    Err(SessionError::usage(
        "no model: no key is set, no local server answers, and this orch was built without the embedded model",
    )
    .hint("export ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY, or name a model with --model"))
}
