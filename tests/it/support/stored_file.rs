//! Files of the repository that tests compare with what orch writes today. `ORCH_UPDATE=1` writes them.

use std::fs;
use std::path::Path;

use similar::TextDiff;

/// Returns how a stored file differs from this text, or `None` if they are equal. With `ORCH_UPDATE=1`, writes the text
/// to the file first.
pub(crate) fn stored_difference(path: &Path, text: &str) -> Option<String> {
    if std::env::var_os("ORCH_UPDATE").is_some() {
        fs::write(path, text).unwrap();
    }
    let stored = fs::read_to_string(path).unwrap_or_default().replace("\r\n", "\n");
    let path = path.display().to_string();
    (stored != text).then(|| {
        TextDiff::from_lines(stored.as_str(), text).unified_diff().header(&path, "what orch writes today").to_string()
    })
}

/// Asserts that a stored file contains exactly this text. With `ORCH_UPDATE=1`, writes the text to the file first.
#[track_caller]
pub(crate) fn assert_stored(path: &str, text: &str) {
    if let Some(difference) = stored_difference(Path::new(path), text) {
        panic!("ORCH_UPDATE=1 writes {path} anew:\n{difference}");
    }
}
