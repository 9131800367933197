//! Lists, downloads and adds embedded models.

use std::fs;
use std::path::Path;

use anyhow::Result;
use local_llm::catalog::{self, ModelSpec};
use local_llm::gguf;
use local_llm::weights::{self, WantedFile};

use crate::agent::{LocalModels, is_valid_own_name};
use crate::cli::output::{DownloadProgressView, Ui};
use crate::report::human::format_bytes;
use crate::runner::weights::{
    self as runner_weights, describe_model, download_error, find_embedded_model, to_download_progress,
};
use crate::runner::{DownloadReporter as _, Runner, RunnerError};

use super::{AddArgs, PullArgs};

/// Lists the models of the catalog and the models that the user added.
pub(super) fn list_models(local_models: &LocalModels, ui: &Ui) -> Result<()> {
    let added_names = local_models.added_names();
    let names = catalog::all().iter().map(|spec| spec.name).chain(added_names.iter().map(String::as_str));
    let width = "local/".len() + names.map(str::len).max().unwrap_or(0);
    ui.write_text(&format!("{:<width$}  {:>7}  {:>7}  STATE", "NAME", "FILE", "MEMORY"))?;
    for spec in catalog::all() {
        let mut state = match weights::installed_path(&local_models.cache, spec) {
            Some(_) => ui.stdout_style.success("downloaded"),
            None => "not downloaded".to_owned(),
        };
        if spec == catalog::default_model() {
            state.push_str(", the default");
        }
        if !spec.is_tested {
            state.push_str(", untested");
        }
        let name = format!("local/{}", spec.name);
        let (size, memory) = (format_bytes(spec.bytes), format_bytes(spec.memory));
        ui.write_row(&format!("{name:<width$}  {size:>7}  {memory:>7}  "), &state)?;
    }
    for name in added_names {
        let file = local_models.own_model_path(&name);
        let (size, memory, state) = match (local_models.file_problem(&name), gguf::read_header(&file)) {
            (None, Ok(header)) => (
                format_bytes(header.file_bytes),
                format_bytes(header.memory_estimate().max_bytes),
                ui.stdout_style.success("added"),
            ),
            (Some(problem), _) => (String::new(), String::new(), ui.stdout_style.error(problem.message)),
            (None, Err(error)) => (String::new(), String::new(), ui.stdout_style.error(error)),
        };
        let name = format!("local/{name}");
        ui.write_row(&format!("{name:<width$}  {size:>7}  {memory:>7}  "), &state)?;
    }
    ui.print_message(
        "\nMEMORY is the maximum memory of a model. orch verifies untested models by their SHA-256 digest, but this \
         version has not been tested with them.",
    );
    Ok(())
}

/// Downloads a model of the catalog, or installs a model from the source in `--from`.
pub(super) async fn pull_model(local_models: &LocalModels, args: &PullArgs, runner: &Runner, ui: &Ui) -> Result<()> {
    let name = args.name.strip_prefix("local/").unwrap_or(&args.name);
    let spec = if name == "local" { Some(catalog::default_model()) } else { catalog::find(name) };
    let Some(source) = &args.from else {
        if spec.is_none() && local_models.added_names().iter().any(|added_name| added_name == name) {
            ui.print_message(format!("local/{name} already exists: {}", local_models.own_model_path(name).display()));
            return Ok(());
        }
        let spec = spec.map_or_else(|| find_embedded_model(local_models, name), Ok)?;
        if let Some(path) = weights::installed_path(&local_models.cache, spec) {
            ui.print_message(format!("{} already exists: {}", spec.title, path.display()));
        } else {
            runner_weights::download_weights(&local_models.cache, spec, runner).await?;
        }
        return Ok(());
    };
    let wanted_file = if let Some(spec) = spec {
        WantedFile::from(spec)
    } else {
        check_name(name)?;
        let sha256 = args.sha256.as_deref().map(parse_sha256).transpose()?;
        WantedFile { name: name.to_owned(), file: format!("{name}.gguf"), bytes: None, sha256 }
    };
    install(local_models, spec, &wanted_file, source, ui).await
}

/// Installs the weights of a model from an address or a file. `spec` is the model's entry in the catalog, if any.
async fn install(
    local_models: &LocalModels,
    spec: Option<&ModelSpec>,
    wanted_file: &WantedFile,
    source: &str,
    ui: &Ui,
) -> Result<()> {
    let title = spec.map_or_else(|| format!("local/{}", wanted_file.name), |spec| spec.title.to_owned());
    let destination = local_models.cache.join(&wanted_file.file);
    if destination.symlink_metadata().is_ok()
        && spec.is_none_or(|spec| weights::installed_path(&local_models.cache, spec).is_some())
    {
        return Err(RunnerError::usage(format!("{title} already exists: {}", destination.display()))
            .with_hint(format!("to replace it, delete it first: rm {}", destination.display()))
            .into());
    }
    let download = DownloadProgressView::new(&title, ui);
    let show_progress = |fetch_progress| {
        if let Some(progress) = to_download_progress(fetch_progress) {
            download.progress(&progress);
        }
    };
    let result = if source.starts_with("http://") || source.starts_with("https://") {
        crate::network::install_tls_provider();
        weights::pull_from(&local_models.cache, wanted_file, source, &show_progress).await
    } else if Path::new(source).is_file() {
        weights::install_copy(&local_models.cache, wanted_file, Path::new(source), &show_progress).await
    } else {
        return Err(RunnerError::usage(format!("`{source}` is neither a file nor an http address")).into());
    };
    drop(download);
    let path = result.map_err(|error| download_error(&title, &error))?;
    ui.print_message(format!("installed {title} at {}", path.display()));
    if spec.is_none() {
        print_usage(&path, &wanted_file.name, ui)?;
        if wanted_file.sha256.is_none() {
            ui.print_message(format!(
                "{}: orch did not verify the file; pass its digest with `--sha256`",
                ui.stderr_style.dim("note")
            ));
        }
    }
    Ok(())
}

/// Adds a model file. Copies the file of a catalog model, and links any other file.
pub(super) async fn add_model(local_models: &LocalModels, args: &AddArgs, ui: &Ui) -> Result<()> {
    let file = &args.file;
    let read_error = |error| RunnerError::usage(format!("`{}` can't be read: {error}", file.display()));
    let real_path = fs::canonicalize(file).map_err(read_error)?;
    if args.name.is_none()
        && let Some(spec) = weights::recognize(&real_path).map_err(read_error)?
    {
        if let Some(path) = weights::installed_path(&local_models.cache, spec) {
            ui.print_message(format!("{} already exists: {}", spec.title, path.display()));
            return Ok(());
        }
        return install(local_models, Some(spec), &WantedFile::from(spec), &real_path.to_string_lossy(), ui).await;
    }
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = args.name.as_deref().unwrap_or(stem);
    check_name(name)?;
    let add_error = |error| RunnerError::usage(format!("`{}` can't be added: {error}", file.display()));
    gguf::read_header(&real_path).and_then(|header| header.check()).map_err(add_error)?;
    let destination = local_models.own_model_path(name);
    match fs::read_link(&destination) {
        Ok(_) => fs::remove_file(&destination).map_err(|error| RunnerError::usage(error.to_string()))?,
        Err(_) if destination.symlink_metadata().is_ok() => {
            return Err(RunnerError::usage(format!(
                "a model `local/{name}` already exists: {}",
                destination.display()
            ))
            .with_hint("choose another name with `--name`")
            .into());
        }
        Err(_) => {}
    }
    let link_result = fs::create_dir_all(&local_models.cache).and_then(|()| link(&real_path, &destination));
    link_result.map_err(|error| RunnerError::usage(format!("{} can't be created: {error}", destination.display())))?;
    print_usage(&destination, name, ui)
}

/// Prints the properties of a model file and how to use the model.
fn print_usage(file: &Path, name: &str, ui: &Ui) -> Result<()> {
    let header = gguf::read_header(file).map_err(|error| RunnerError::usage(error.to_string()))?;
    ui.print_message(format!("local/{name} is {}", describe_model(&header)));
    ui.print_message(format!("use it with `--model local/{name}`, or `model: local/{name}` in a pipeline"));
    Ok(())
}

#[cfg(unix)]
fn link(file: &Path, destination: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(file, destination)
}

#[cfg(not(unix))]
fn link(file: &Path, destination: &Path) -> std::io::Result<()> {
    fs::copy(file, destination).map(drop)
}

/// Checks that the user may give this name to a model file.
fn check_name(name: &str) -> Result<(), RunnerError> {
    if is_valid_own_name(name) && !["auto", "local"].contains(&name) {
        return Ok(());
    }
    let is_in_catalog = catalog::all().iter().any(|spec| spec.name == name || spec.file == format!("{name}.gguf"));
    let reason = if is_in_catalog {
        "belongs to a model of the catalog"
    } else {
        "must consist of letters, digits, `.`, `_` and `-`"
    };
    Err(RunnerError::usage(format!("the name `{name}` {reason}")).with_hint("choose another name with `--name NAME`"))
}

/// Parses a SHA-256 digest and converts it to lower case.
fn parse_sha256(text: &str) -> Result<String, RunnerError> {
    let digest = text.trim().to_lowercase();
    if digest.len() == 64 && digest.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(digest);
    }
    Err(RunnerError::usage(format!("`{text}` is not a SHA-256 digest of 64 hexadecimal digits")))
}
