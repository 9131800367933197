//! `--watch`: checks again whenever a file of the project changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;

use crate::cli::error::to_runner_error;
use crate::cli::output::Ui;
use crate::config;
use crate::model::visible::escape_line_breaks;
use crate::runner::project_state::project_root;
use crate::runner::{ExitStatus, Runner};

use super::{ValidateArgs, display_path, selected_files, validate_once};

/// The time between two scans of the files.
const SCAN_INTERVAL: Duration = Duration::from_millis(300);
/// The maximum depth of the folders to scan.
const MAX_DEPTH: usize = 8;

/// The modification time and the size of each file.
type FileStamps = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Checks the files again and again, until the user stops the process. Returns only if standard output is closed.
#[expect(clippy::disallowed_methods, reason = "this command runs no pipeline")]
pub(super) fn run(args: &ValidateArgs, runner: &Runner, ui: &Ui) -> Result<ExitStatus> {
    let current_dir = runner.current_dir();
    let mut stamps = scan(args, current_dir);
    loop {
        match validate_once(args, runner, ui).map_err(to_runner_error) {
            Ok(_) => {}
            Err(error) if error.is_broken_pipe() => return Err(error.into()),
            Err(error) => ui.print_error(&error),
        }
        ui.print_message("\nwaiting for changes; press Ctrl-C to stop");
        let changed_file = loop {
            std::thread::sleep(SCAN_INTERVAL);
            let new_stamps = scan(args, current_dir);
            if new_stamps != stamps {
                let changed_file = first_difference(&stamps, &new_stamps);
                stamps = new_stamps;
                break changed_file;
            }
        };
        let name = changed_file
            .map_or_else(|| "a file".to_owned(), |path| display_path(path.strip_prefix(current_dir).unwrap_or(&path)));
        ui.print_message(format!(
            "\n{} {name} changed",
            ui.stderr_style.bold("checking again:"),
            name = escape_line_breaks(&name)
        ));
    }
}

/// The current state of all files that a check reads.
fn scan(args: &ValidateArgs, current_dir: &Path) -> FileStamps {
    let files = selected_files(&args.paths, current_dir).map(|(files, _)| files).unwrap_or_default();
    let mut roots: BTreeSet<PathBuf> = files.iter().map(|file| current_dir.join(config::find_root(file))).collect();
    if roots.is_empty() {
        roots.insert(project_root(current_dir));
    }
    let mut stamps = FileStamps::new();
    for file in &files {
        add_file(&current_dir.join(file), &mut stamps);
    }
    for root in roots {
        add_file(&root.join(config::SETTINGS_FILE), &mut stamps);
        for folder in ["pipelines", "prompts", "schemas"] {
            scan_folder(&root.join(folder), 0, &mut stamps);
        }
    }
    stamps
}

fn scan_folder(folder: &Path, depth: usize, stamps: &mut FileStamps) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(file_type) if file_type.is_dir() && depth < MAX_DEPTH => scan_folder(&entry.path(), depth + 1, stamps),
            Ok(_) => add_file(&entry.path(), stamps),
            Err(_) => {}
        }
    }
}

fn add_file(path: &Path, stamps: &mut FileStamps) {
    // A run creates and removes such a file for each confined program; it has no effect on the findings.
    if path.ends_with(config::SETTINGS_FILE) && config::is_settings_placeholder(path) {
        return;
    }
    if let Ok(metadata) = fs::metadata(path) {
        stamps.insert(path.to_owned(), (metadata.modified().ok(), metadata.len()));
    }
}

/// The first file that was added, removed or changed.
fn first_difference(before: &FileStamps, after: &FileStamps) -> Option<PathBuf> {
    let added_or_changed = after.iter().find(|(path, stamp)| before.get(*path) != Some(*stamp)).map(|(path, _)| path);
    added_or_changed.or_else(|| before.keys().find(|path| !after.contains_key(*path))).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_for_missing_settings_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(config::SETTINGS_FILE);
        let stamps = || {
            let mut stamps = FileStamps::new();
            add_file(&path, &mut stamps);
            stamps
        };
        fs::write(&path, crate::model::SETTINGS_PLACEHOLDER).unwrap();
        assert_eq!(stamps(), FileStamps::new());
        fs::write(&path, "{}\n").unwrap();
        assert!(stamps().contains_key(&path));
    }

    #[test]
    fn added_changed_and_removed_files_are_differences() {
        let old: FileStamps = [(PathBuf::from("a"), (None, 1))].into();
        let new: FileStamps = [(PathBuf::from("a"), (None, 2))].into();
        assert_eq!(first_difference(&old, &new), Some(PathBuf::from("a")));
        assert_eq!(first_difference(&FileStamps::new(), &old), Some(PathBuf::from("a")));
        assert_eq!(first_difference(&old, &FileStamps::new()), Some(PathBuf::from("a")));
        assert_eq!(first_difference(&old, &old.clone()), None);
    }
}
