//! `--watch`: checks again whenever a file of the project changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::config;
use crate::model::visible::one_line;

use super::{ValidateArgs, once, pipelines, shown};
use crate::cli::ui::Ui;
use crate::session::{ExitStatus, Runner, SessionError};

/// How long it waits between two looks: short for a person, long for a disk.
const PAUSE: Duration = Duration::from_millis(300);
/// How deep folders are followed.
const DEEP: usize = 8;

/// When each file was written, and its length.
type FileStamps = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Checks until the process is stopped; it returns only when nobody reads its output.
#[expect(clippy::disallowed_methods, reason = "it runs no pipeline")]
pub(super) fn run(args: &ValidateArgs, runner: &Runner, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let here = runner.current_dir();
    let mut seen = look(args, here);
    loop {
        match once(args, runner, ui) {
            Ok(_) => {}
            Err(error) if error.is_broken_pipe() => return Err(error),
            Err(error) => ui.error(&error),
        }
        ui.say("\nwaiting for changes; Ctrl-C ends");
        let changed = loop {
            std::thread::sleep(PAUSE);
            let now = look(args, here);
            if now != seen {
                let changed = difference(&seen, &now);
                seen = now;
                break changed;
            }
        };
        let name = changed.map_or_else(|| "a file".to_owned(), |path| shown(path.strip_prefix(here).unwrap_or(&path)));
        ui.say(format!("\n{} {name} changed", ui.style.strong("again:"), name = one_line(&name)));
    }
}

/// Everything that a check reads, as it is now.
fn look(args: &ValidateArgs, here: &Path) -> FileStamps {
    let files = pipelines(&args.paths, here).map(|(files, _)| files).unwrap_or_default();
    let mut roots: BTreeSet<PathBuf> = files.iter().map(|file| here.join(config::find_root(file))).collect();
    if roots.is_empty() {
        roots.insert(crate::cli::runs::root(here));
    }
    let mut seen = FileStamps::new();
    for file in &files {
        note(&here.join(file), &mut seen);
    }
    for root in roots {
        note(&root.join(config::SETTINGS_FILE), &mut seen);
        for folder in ["pipelines", "prompts", "schemas"] {
            walk(&root.join(folder), 0, &mut seen);
        }
    }
    seen
}

fn walk(folder: &Path, depth: usize, seen: &mut FileStamps) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth < DEEP => walk(&entry.path(), depth + 1, seen),
            Ok(_) => note(&entry.path(), seen),
            Err(_) => {}
        }
    }
}

fn note(path: &Path, seen: &mut FileStamps) {
    if let Ok(about) = fs::metadata(path) {
        seen.insert(path.to_owned(), (about.modified().ok(), about.len()));
    }
}

/// The first file that is new, gone or different.
fn difference(before: &FileStamps, after: &FileStamps) -> Option<PathBuf> {
    let changed = after.iter().find(|(path, about)| before.get(*path) != Some(*about)).map(|(path, _)| path);
    changed.or_else(|| before.keys().find(|path| !after.contains_key(*path))).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_a_changed_and_a_missing_file_are_differences() {
        let one: FileStamps = [(PathBuf::from("a"), (None, 1))].into();
        let two: FileStamps = [(PathBuf::from("a"), (None, 2))].into();
        assert_eq!(difference(&one, &two), Some(PathBuf::from("a")));
        assert_eq!(difference(&FileStamps::new(), &one), Some(PathBuf::from("a")));
        assert_eq!(difference(&one, &FileStamps::new()), Some(PathBuf::from("a")));
        assert_eq!(difference(&one, &one.clone()), None);
    }
}
