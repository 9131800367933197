//! Reading text files, with the reason when it does not work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic, Source};

use super::yaml::MAX_BYTES;

/// Reads a text file; in findings its path is given relative to `here` where it lies below.
pub(super) fn read(path: &Path, here: &Path) -> Result<Arc<Source>, Vec<Diagnostic>> {
    let shown = shown(path, here);
    let fail = |message: String, help: Option<&str>| {
        let source = Source::new(shown.clone(), "");
        vec![Diagnostic::new(Code::Unreadable, message, &source, None).maybe_help(help.map(ToOwned::to_owned))]
    };
    let size = std::fs::metadata(path).map_err(|error| fail(words(&error), None))?;
    if size.is_dir() {
        return Err(fail("this is a folder, not a file".to_owned(), None));
    }
    if size.len() > MAX_BYTES as u64 {
        let message = format!("the file has {} bytes, and at most {MAX_BYTES} are read", size.len());
        return Err(vec![Diagnostic::new(Code::TooLarge, message, &Source::new(shown, ""), None)]);
    }
    let bytes = std::fs::read(path).map_err(|error| fail(words(&error), None))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        fail(format!("byte {} is no UTF-8", error.utf8_error().valid_up_to() + 1), Some("save the file as UTF-8"))
    })?;
    Ok(Source::new(shown, text.strip_prefix('\u{feff}').map(ToOwned::to_owned).unwrap_or(text)))
}

/// A path relative to `here` where it lies below it.
pub(super) fn shown(path: &Path, here: &Path) -> PathBuf {
    path.strip_prefix(here).unwrap_or(path).to_owned()
}

/// Why a file can't be read, in words.
pub(super) fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "it may not be read".to_owned(),
        _ => format!("it can't be read: {error}"),
    }
}
