//! What `orch models` does: the list, fetching, and files of the user's own.

use std::fs;
use std::path::Path;

use local_llm::catalog::{self, ModelSpec};
use local_llm::gguf;
use local_llm::weights::{self, WantedFile};

use super::download::Download;
use super::models::{Add, Pull};
use super::ui::Ui;
use crate::agent::{Shelf, is_own};
use crate::report::human::bytes;
use crate::session::SessionError;
use crate::session::weights::{self as session_weights, described, find, not_fetched, progress};
use crate::session::{DownloadReporter as _, Runner};

/// The models that are known and those that were added.
pub(super) fn list(shelf: &Shelf, ui: &Ui) -> Result<(), SessionError> {
    let added = shelf.added();
    let names = catalog::all().iter().map(|spec| spec.name).chain(added.iter().map(String::as_str));
    let width = "local/".len() + names.map(str::len).max().unwrap_or(0);
    ui.text(&format!("{:<width$}  {:>7}  {:>7}  STATE", "NAME", "FILE", "MEMORY"))?;
    for spec in catalog::all() {
        let mut state = match weights::installed(&shelf.cache, spec) {
            Some(_) => ui.out_style.good("here"),
            None => "not downloaded".to_owned(),
        };
        if spec == catalog::default_model() {
            state.push_str(", the default");
        }
        if !spec.tried {
            state.push_str(", untried");
        }
        let name = format!("local/{}", spec.name);
        ui.text(&format!("{name:<width$}  {:>7}  {:>7}  {state}", bytes(spec.bytes), bytes(spec.memory)))?;
    }
    for name in added {
        let file = shelf.own_file(&name);
        let (size, memory, state) = match (shelf.problem(&name), gguf::read(&file)) {
            (None, Ok(header)) => (bytes(header.bytes), bytes(header.memory().most), ui.out_style.good("added")),
            (Some(problem), _) => (String::new(), String::new(), ui.out_style.bad(problem.message)),
            (None, Err(error)) => (String::new(), String::new(), ui.out_style.bad(error)),
        };
        let name = format!("local/{name}");
        ui.text(&format!("{name:<width$}  {size:>7}  {memory:>7}  {state}"))?;
    }
    ui.say("\nMEMORY is what a model takes at most. Untried models are files that their makers\npublish, pinned by SHA-256; this version of orch was not run with them.");
    Ok(())
}

/// Fetches a model: one of the list, or from where the user says.
pub(super) async fn pull(shelf: &Shelf, asked: &Pull, runner: &Runner, ui: &Ui) -> Result<(), SessionError> {
    let name = asked.name.strip_prefix("local/").unwrap_or(&asked.name);
    let spec = if name == "local" { Some(catalog::default_model()) } else { catalog::find(name) };
    let Some(from) = &asked.from else {
        if spec.is_none() && shelf.added().iter().any(|added| added == name) {
            ui.say(format!("local/{name} is here already: {}", shelf.own_file(name).display()));
            return Ok(());
        }
        let spec = spec.map_or_else(|| find(shelf, name), Ok)?;
        return match weights::installed(&shelf.cache, spec) {
            Some(path) => {
                ui.say(format!("{} is here already: {}", spec.title, path.display()));
                Ok(())
            }
            None => session_weights::pull(&shelf.cache, spec, runner).await.map(drop),
        };
    };
    let wanted = if let Some(spec) = spec {
        WantedFile::from(spec)
    } else {
        named(name)?;
        let sha256 = asked.sha256.as_deref().map(digest).transpose()?;
        WantedFile { name: name.to_owned(), file: format!("{name}.gguf"), bytes: None, sha256 }
    };
    take(shelf, spec, &wanted, from, ui).await
}

/// Takes the weights of a model from an address or a file.
async fn take(
    shelf: &Shelf,
    spec: Option<&ModelSpec>,
    wanted: &WantedFile,
    from: &str,
    ui: &Ui,
) -> Result<(), SessionError> {
    let title = spec.map_or_else(|| format!("local/{}", wanted.name), |spec| spec.title.to_owned());
    let place = shelf.cache.join(&wanted.file);
    if place.symlink_metadata().is_ok() && spec.is_none_or(|spec| weights::installed(&shelf.cache, spec).is_some()) {
        return Err(SessionError::usage(format!("{title} is here already: {}", place.display()))
            .hint(format!("to take another file in its place, delete that one first: rm {}", place.display())));
    }
    let download = Download::new(&title, ui);
    let news = |now| {
        if let Some(progress) = progress(now) {
            download.progress(&progress);
        }
    };
    let result = if from.starts_with("http://") || from.starts_with("https://") {
        crate::network::prepare_tls();
        weights::pull_from(&shelf.cache, wanted, from, &news).await
    } else if Path::new(from).is_file() {
        weights::copy(&shelf.cache, wanted, Path::new(from), &news).await
    } else {
        return Err(SessionError::usage(format!("`{from}` is neither a file nor an http address")));
    };
    drop(download);
    let path = result.map_err(|error| not_fetched(&title, &error))?;
    ui.say(format!("fetched {title} into {}", path.display()));
    if spec.is_none() {
        usable(&path, &wanted.name, ui)?;
        if wanted.sha256.is_none() {
            ui.say(format!("{}: nothing says what its digest must be; `--sha256` does", ui.style.dim("note")));
        }
    }
    Ok(())
}

/// Adds a file: a copy of one of the list, a link to any other.
pub(super) async fn add(shelf: &Shelf, asked: &Add, ui: &Ui) -> Result<(), SessionError> {
    let file = &asked.file;
    let unreadable = |error| SessionError::usage(format!("`{}` can't be read: {error}", file.display()));
    let whole = fs::canonicalize(file).map_err(unreadable)?;
    if asked.name.is_none()
        && let Some(spec) = weights::recognize(&whole).map_err(unreadable)?
    {
        if let Some(path) = weights::installed(&shelf.cache, spec) {
            ui.say(format!("{} is here already: {}", spec.title, path.display()));
            return Ok(());
        }
        return take(shelf, Some(spec), &WantedFile::from(spec), &whole.to_string_lossy(), ui).await;
    }
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = asked.name.as_deref().unwrap_or(stem);
    named(name)?;
    let refused = |error| SessionError::usage(format!("`{}` can't be added: {error}", file.display()));
    gguf::read(&whole).and_then(|header| header.check()).map_err(refused)?;
    let place = shelf.own_file(name);
    match fs::read_link(&place) {
        Ok(_) => fs::remove_file(&place).map_err(|error| SessionError::usage(error.to_string()))?,
        Err(_) if place.symlink_metadata().is_ok() => {
            return Err(SessionError::usage(format!("there is a model `local/{name}` already: {}", place.display()))
                .hint("give this one another name with `--name`"));
        }
        Err(_) => {}
    }
    let made = fs::create_dir_all(&shelf.cache).and_then(|()| link(&whole, &place));
    made.map_err(|error| SessionError::usage(format!("{} can't be made: {error}", place.display())))?;
    usable(&place, name, ui)
}

/// Says what a model of the user's own is and how it is asked.
fn usable(file: &Path, name: &str, ui: &Ui) -> Result<(), SessionError> {
    let header = gguf::read(file).map_err(|error| SessionError::usage(error.to_string()))?;
    ui.say(format!("local/{name} is {}", described(&header)));
    ui.say(format!("ask it with `--model local/{name}`, or `model: local/{name}` in a pipeline"));
    Ok(())
}

#[cfg(unix)]
fn link(file: &Path, place: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(file, place)
}

#[cfg(not(unix))]
fn link(file: &Path, place: &Path) -> std::io::Result<()> {
    fs::copy(file, place).map(drop)
}

/// Refuses a name that no model of the user's own may have.
fn named(name: &str) -> Result<(), SessionError> {
    if is_own(name) && !["auto", "local"].contains(&name) {
        return Ok(());
    }
    let taken = catalog::all().iter().any(|spec| spec.name == name || spec.file == format!("{name}.gguf"));
    let why = if taken { "is that of a model of the list" } else { "must be letters, digits, `.`, `_` and `-`" };
    Err(SessionError::usage(format!("the name `{name}` {why}")).hint("choose another one: `--name NAME`"))
}

/// A SHA-256 in lower-case hexadecimal.
fn digest(text: &str) -> Result<String, SessionError> {
    let plain = text.trim().to_lowercase();
    if plain.len() == 64 && plain.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(plain);
    }
    Err(SessionError::usage(format!("`{text}` is no SHA-256: it has 64 hexadecimal digits")))
}
