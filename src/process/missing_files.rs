//! Recognizes a failed program that did not find a file, and a file that a sandbox hides.

use orch_confine::confine::PRIVATE_FOLDERS;

/// Phrases in English error messages about a missing file.
const MISSING_FILE_PHRASES: &[&str] = &[
    "no such file",
    "not found",
    "cannot find",
    "can't find",
    "can't open",
    "cannot open",
    "does not exist",
    "enoent",
];

/// Whether the output of a failed program says that a file is missing.
pub fn mentions_missing_file(output: &str) -> bool {
    let output = output.to_lowercase();
    MISSING_FILE_PHRASES.iter().any(|phrase| output.contains(phrase))
}

/// Returns a hint if the output of a confined program that failed mentions a missing file in a folder that a sandbox
/// hides. The files in `visible_folders` are visible even there.
pub fn hidden_file_hint(output: &str, visible_folders: &[&str]) -> Option<String> {
    if !mentions_missing_file(output) {
        return None;
    }
    let visible_folders = visible_folders.iter().filter(|folder| !folder.is_empty());
    let rest = visible_folders.fold(output.to_owned(), |rest, folder| rest.replace(folder, ""));
    mentioned_private_folder(&rest).map(private_folder_hint)
}

/// The hint for a file that a confined program can't find in a private folder.
fn private_folder_hint(folder: &str) -> String {
    let reason = private_folder_reason(folder);
    format!("{reason}: keep the files that the program needs in the workspace or in the project")
}

/// The reason why a confined program can't find a file in a private folder.
pub(super) fn private_folder_reason(folder: &str) -> String {
    format!("in a sandbox at the level `full`, `{folder}` is an empty folder of the program's own")
}

/// The private folder that an error message mentions at the beginning of a path, if any.
fn mentioned_private_folder(message: &str) -> Option<&'static str> {
    PRIVATE_FOLDERS.iter().copied().find(|folder| {
        let folder = format!("{folder}/");
        let mut mentions = message.match_indices(folder.as_str()).map(|(index, _)| index);
        let is_start = |index: usize| {
            let before = message.get(..index).unwrap_or_default();
            !before.ends_with(|character: char| character.is_alphanumeric() || "._-/~".contains(character))
        };
        cfg!(target_os = "linux") && mentions.any(is_start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_missing_file_in_a_private_folder_has_a_hint_if_the_folder_is_hidden() {
        let folder = |message: &str| {
            let hint = hidden_file_hint(message, &["/tmp/project", ""])?;
            hint.split('`').nth(3).map(str::to_owned)
        };
        for (message, expected) in [
            ("python3: can't open file '/tmp/x.py': [Errno 2] No such file or directory", Some("/tmp")),
            ("sh: 1: /run/tool: not found", Some("/run")),
            ("sh: 1: /var/run/tool: not found", Some("/var/run")),
            ("cat: /tmp/project/x: No such file", None),
            ("cat: /home/me/tmp/x: No such file", None),
            ("cat: ./tmp/x: No such file", None),
            ("cat: /tmpfile: No such file", None),
            ("error in /tmp/x: division by zero", None),
        ] {
            assert_eq!(folder(message).as_deref(), expected, "{message}");
        }
    }
}
