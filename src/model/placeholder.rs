//! The placeholder for a missing `orch.yaml`.

/// The text of the file that orch creates in place of a missing `orch.yaml` while a confined program runs, so that the
/// program can't create the file. A killed orch process leaves it behind. A folder with this file is not the root of a
/// project. The text is only a comment, so an older orch that reads the file uses the default settings.
pub const SETTINGS_PLACEHOLDER: &str =
    "# A placeholder: orch creates this file while a confined program runs, and removes it afterwards\n";
