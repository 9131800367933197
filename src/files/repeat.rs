//! Repeats changes that were recorded in another workspace.

use crate::model::{Failure, FailureClass};

use super::apply::check_recording_paths;
use super::commit::read_state;
use super::problem::Problems;
use super::record::{ChangeSet, FileChange, FileState};
use super::tree::Tree;

/// Compares a recorded text with the text of a file.
pub type TextComparison<'a> = &'a dyn Fn(&str, &str) -> bool;

impl Tree {
    /// Makes all changes of a recording, or none. Each file must have the content that it had before or after the
    /// change when orch recorded it; `is_same_text` compares texts. The modes of the files don't count, because they
    /// depend on the user who made the recording. Returns the changes of this workspace.
    pub fn repeat(&self, recorded: &ChangeSet, is_same_text: TextComparison<'_>) -> Result<ChangeSet, Failure> {
        check_recording_paths(recorded)?;
        let mut problems = Problems::default();
        let mut changes = ChangeSet { new_folders: recorded.new_folders.clone(), ..ChangeSet::default() };
        for change in &recorded.files {
            match read_state(self, &change.path) {
                Ok(current) if is_recorded(change, current.as_ref(), is_same_text) => {
                    let after = change.after.clone();
                    changes.files.push(FileChange { path: change.path.clone(), before: current, after });
                }
                Ok(current) => {
                    problems.add_for_path(&change.path, describe_misfit(change, current.as_ref()));
                }
                Err(problem) => problems.add_for_path(&change.path, problem),
            }
        }
        let hint = "nothing was written";
        problems.into_result(FailureClass::PathRefused, "the files differ from those of the recorded run", hint)?;
        self.apply(&changes)?;
        Ok(changes)
    }
}

/// Whether a file has the content from before or after a recorded change.
fn is_recorded(change: &FileChange, current: Option<&FileState>, is_same_text: TextComparison<'_>) -> bool {
    let has_content = |recorded: Option<&FileState>| match (recorded, current) {
        (None, None) => true,
        (Some(recorded), Some(current)) => {
            let texts = recorded.content.text().zip(current.content.text());
            recorded.content == current.content || texts.is_some_and(|(recorded, text)| is_same_text(recorded, text))
        }
        (None, Some(_)) | (Some(_), None) => false,
    };
    has_content(change.before.as_ref()) || has_content(change.after.as_ref())
}

/// Describes how a file differs from the file that the recorded run changed.
fn describe_misfit(change: &FileChange, current: Option<&FileState>) -> String {
    match (current, change.before.as_ref()) {
        (None, _) => "does not exist here, but existed in the recorded run".to_owned(),
        (Some(_), None) => "exists here, but did not exist yet in the recorded run".to_owned(),
        (Some(current), Some(before)) => {
            let line = before.content.text().zip(current.content.text()).and_then(|(before, current)| {
                let is_equal = |(before, current): &(&str, &str)| before == current;
                let equal = before.lines().zip(current.lines()).take_while(is_equal).count();
                (before.lines().nth(equal) != current.lines().nth(equal)).then_some(equal)
            });
            let from_line = line.map(|index| format!(", from line {} on", index + 1)).unwrap_or_default();
            format!("has another content than in the recorded run{from_line}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Content;

    fn state(text: &str) -> FileState {
        FileState { content: Content::from(text.as_bytes().to_vec()), mode: None }
    }

    fn change(path: &str, before: Option<&str>, after: Option<&str>) -> FileChange {
        FileChange { path: path.to_owned(), before: before.map(state), after: after.map(state) }
    }

    /// Ignores digits.
    fn is_same_text(recorded: &str, text: &str) -> bool {
        let without_digits = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        without_digits(recorded) == without_digits(text)
    }

    #[test]
    fn files_with_comparable_contents_are_changed() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("changed", "at 7"), ("removed", "x"), ("done", "at 8")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let files = vec![
            change("changed", Some("at 1"), Some("after")),
            change("removed", Some("x"), None),
            change("sub/new", None, Some("new")),
            change("done", Some("before"), Some("at 2")),
        ];
        let recorded = ChangeSet { files, ..ChangeSet::default() };
        let changes = Tree::open(folder.path()).unwrap().repeat(&recorded, &is_same_text).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!((read("changed").as_deref(), read("removed")), (Some("after"), None));
        assert_eq!((read("sub/new").as_deref(), read("done").as_deref()), (Some("new"), Some("at 2")));
        let before = changes.files[0].before.as_ref().and_then(|state| state.content.text());
        assert_eq!(before, Some("at 7"), "the changes are those of this workspace");
    }

    #[test]
    fn a_recording_that_makes_a_repository_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["x/config", "x/objects/a", "x/refs/a", "x/HEAD"];
        let files = paths.map(|path| change(path, None, Some("text"))).to_vec();
        let recorded = ChangeSet { files, ..ChangeSet::default() };
        let failure = Tree::open(folder.path()).unwrap().repeat(&recorded, &is_same_text).unwrap_err();
        assert!(failure.message.contains("`x/HEAD` would make `x` a git repository"), "{failure}");
        assert!(!folder.path().join("x").exists());
    }

    #[test]
    fn a_file_with_another_content_refuses_the_whole_recording() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "mine").unwrap();
        let files = vec![change("new", None, Some("new")), change("a", Some("old"), Some("after"))];
        let recorded = ChangeSet { files, ..ChangeSet::default() };
        let tree = Tree::open(folder.path()).unwrap();
        let failure = tree.repeat(&recorded, &is_same_text).unwrap_err();
        let expected = "`a` has another content than in the recorded run, from line 1 on";
        assert!(failure.message.contains(expected), "{failure}");
        let files = vec![change("a", None, Some("after")), change("b", Some("old"), Some("after"))];
        let refused = ChangeSet { files, ..ChangeSet::default() };
        let failure = tree.repeat(&refused, &is_same_text).unwrap_err();
        assert!(failure.message.contains("`a` exists here, but did not exist yet in the recorded run"), "{failure}");
        assert!(failure.message.contains("`b` does not exist here, but existed in the recorded run"), "{failure}");
        assert!(!folder.path().join("new").exists());
        for path in ["../b", "a:b"] {
            let refused = ChangeSet { files: vec![change(path, None, Some("x"))], ..ChangeSet::default() };
            let failure = tree.repeat(&refused, &is_same_text).unwrap_err();
            assert!(failure.message.contains("can't be used"), "{failure}");
        }
    }
}
