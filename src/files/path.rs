//! Decides whether `write` may write a path, without reading the disk.
//!
//! The rules are the same on every system, so that a path accepted on one machine works on another. orch refuses a path
//! that leaves the workspace, names files of orch or git, or means something else on another file system.

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

use crate::folder::TEMPORARY_PREFIX;

use super::problem::escaped_path;

/// The maximum length of a path in bytes: the lowest limit among the supported systems.
const MAX_PATH_BYTES: usize = 1024;

/// The maximum length of a name in a path, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The maximum number of names in a path.
const MAX_DEPTH: usize = 64;

/// The names of orch's lock files in a workspace.
pub(super) const LOCK_FILES: [&str; 2] = [".orch.lock", ".orch.programs.lock"];

/// The name of orch's state folder.
pub(super) const STATE_FOLDER: &str = ".orch";

/// Why `write` writes none of orch's own files.
const OWN_FILE_REASON: &str = "is kept for orch's own files (`.orch`)";

/// The names that Windows reserves for devices, with any extension.
const DEVICE_NAMES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Removes redundant parts from a path: `./src//a.py` becomes `src/a.py`. Keeps a `/` at the start and at the end.
pub(super) fn normalize(path: &str) -> String {
    let (prefix, relative) = if path.starts_with('/') { ("/", path.trim_start_matches('/')) } else { ("", path) };
    let suffix = if relative.ends_with('/') { "/" } else { "" };
    let parts: Vec<&str> = relative.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    // Leave a path without other parts, such as `.`, unchanged: it names no file, and orch refuses it later.
    if parts.is_empty() { path.to_owned() } else { format!("{prefix}{}{suffix}", parts.join("/")) }
}

/// Why `write` may not write a path; `None` if it may.
pub(super) fn refusal_reason(path: &str) -> Option<String> {
    if path.is_empty() {
        return Some("is empty".to_owned());
    }
    if path.len() > MAX_PATH_BYTES {
        return Some(format!("is longer than {MAX_PATH_BYTES} bytes"));
    }
    if let Some(char) = path.chars().find(|char| char.is_control() || is_misleading(*char)) {
        return Some(format!("holds the invisible character `{}`", char.escape_unicode()));
    }
    if path.contains('\\') {
        return Some("holds a backslash, and folders are separated by `/`".to_owned());
    }
    if path.starts_with('/') {
        return Some("is absolute, and paths start in the workspace".to_owned());
    }
    if path.contains(':') {
        return Some("holds a colon, which means a drive or a stream on Windows".to_owned());
    }
    if path.ends_with('/') {
        return Some("ends with `/` and so names a folder".to_owned());
    }
    if path.split('/').count() > MAX_DEPTH {
        return Some(format!("lies more than {MAX_DEPTH} folders deep"));
    }
    path.split('/').find_map(name_refusal_reason)
}

/// Why orch refuses a name in a path; `None` if it accepts the name.
fn name_refusal_reason(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("has an empty part (`//`)".to_owned());
    }
    if name.len() > MAX_NAME_BYTES {
        return Some(format!("has a name of more than {MAX_NAME_BYTES} bytes"));
    }
    let canonical = canonical_name(name);
    if name == "." || name == ".." || canonical == "." || canonical == ".." {
        return Some(format!("has the part `{}`, and paths are written without `.` and `..`", escaped_path(name)));
    }
    if name.ends_with(['.', ' ']) {
        return Some("has a name that ends with a dot or a space, which Windows drops".to_owned());
    }
    if canonical.trim().is_empty() {
        return Some("has a name of invisible characters".to_owned());
    }
    let trimmed = canonical.trim_end_matches(['.', ' ']);
    if trimmed == ".git" || is_short_name(trimmed, "git") {
        return Some("lies in git's own folder `.git`".to_owned());
    }
    if is_own_name(trimmed) || trimmed.starts_with(TEMPORARY_PREFIX) {
        return Some(OWN_FILE_REASON.to_owned());
    }
    is_device_name(&canonical)
        .then(|| format!("has the name `{}`, which Windows keeps for a device", escaped_path(name)))
}

/// Why orch does not change the file at a path of a record; `None` if it may. `is_written` is whether orch would write
/// the file, and not only delete it.
///
/// A record may come from another machine or may have been edited, so its paths must stay in the workspace, and orch
/// changes nothing in the folders of git and orch. Otherwise any name is allowed: the record contains what programs did,
/// and a program can give a file every name that the file system accepts.
pub(super) fn record_refusal_reason(path: &str, is_written: bool) -> Option<String> {
    // Windows takes such a name for another file, a device or a stream.
    if cfg!(windows) {
        return refusal_reason(path);
    }
    if let Some(reason) = leaving_reason(path) {
        return Some(reason);
    }
    let last = path.rsplit('/').next().unwrap_or(path);
    let is_last = |name: &str| std::ptr::eq(name, last);
    path.split('/').find_map(|name| {
        let canonical = canonical_name(name);
        // A file system of Windows that is mounted here drops dots and knows short names.
        let compared = if is_written { canonical.trim_end_matches(['.', ' ']) } else { canonical.as_str() };
        let is_short = |stem: &str| is_written && is_short_name(compared, stem);
        // To delete a file `.git`, which makes a folder a worktree, can only remove a repository.
        if (compared == ".git" || is_short("git")) && (is_written || !is_last(name)) {
            return Some("lies in git's own folder `.git`".to_owned());
        }
        (is_own_full_name(compared) || is_short("orch")).then(|| OWN_FILE_REASON.to_owned())
    })
}

/// Why a path of a record leaves the workspace or is no path at all; `None` if it stays in the workspace.
pub(super) fn leaving_reason(path: &str) -> Option<String> {
    if path.is_empty() {
        return Some("is empty".to_owned());
    }
    if path.contains('\0') {
        return Some("holds a NUL, which no name of a file can hold".to_owned());
    }
    if path.starts_with('/') {
        return Some("is absolute, and paths start in the workspace".to_owned());
    }
    path.split('/').find_map(|name| match name {
        "" => Some("has an empty part (`//`)".to_owned()),
        "." | ".." => Some(format!("has the part `{name}`, and paths are written without `.` and `..`")),
        _ => None,
    })
}

/// Whether a path names one of orch's own files or lies in orch's own folder `.orch`, in any spelling that a file
/// system may treat as the same.
pub fn is_own_path(path: &str) -> bool {
    // Few paths contain the word, and a tool may check each path of a large workspace.
    let may_be_own = !path.is_ascii() || path.to_ascii_lowercase().contains("orch");
    may_be_own && path.split('/').any(|name| is_own_name(canonical_name(name).trim_end_matches(['.', ' '])))
}

/// Whether a canonical name, without dots and spaces at its end, belongs to orch's own files. Temporary files do not
/// count: orch keeps them only for a moment, so a tool that left them out would hide files of programs.
fn is_own_name(name: &str) -> bool {
    is_own_full_name(name) || is_short_name(name, "orch")
}

/// Whether a canonical name is that of orch's state folder or of one of its lock files.
fn is_own_full_name(name: &str) -> bool {
    name == STATE_FOLDER || LOCK_FILES.contains(&name)
}

/// Whether a name is the short form that Windows gives a folder whose name starts with a dot: `git~1`.
fn is_short_name(name: &str, stem: &str) -> bool {
    name.strip_prefix(stem)
        .and_then(|suffix| suffix.strip_prefix('~'))
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether Windows opens a device instead of a file for this canonical name.
fn is_device_name(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    let is_numbered_port = |port: &str| {
        let number = stem.strip_prefix(port);
        number.is_some_and(|number| number.len() == 1 && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    DEVICE_NAMES.contains(&stem) || is_numbered_port("com") || is_numbered_port("lpt")
}

/// Whether a character reorders or breaks the text around it, so that a path looks like another path.
pub(super) fn is_misleading(char: char) -> bool {
    matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Whether a character is invisible, such as a joiner or a filler.
pub(super) fn is_invisible(char: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(char)
}

/// The canonical form of a name, by which orch recognizes reserved names. Names that differ only in compatibility
/// forms, case or invisible characters have the same canonical form.
fn canonical_name(name: &str) -> String {
    let folded = fold_path(name);
    // Compatibility forms may contain capitals (`ＧＩＴ`), hence the second fold.
    fold_path(&ComposingNormalizer::new_nfkc().normalize(&folded))
}

/// The folded form of a path. Paths that a file system may treat as the same, because it ignores case, normal form or
/// invisible characters, have the same folded form.
pub fn fold_path(path: &str) -> String {
    if path.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return path.to_ascii_lowercase();
    }
    let visible: String = path.chars().filter(|char| !is_invisible(*char)).collect();
    let decomposed = DecomposingNormalizer::new_nfd().normalize(&visible);
    let folded = CaseMapper::new().fold_string(&decomposed);
    ComposingNormalizer::new_nfc().normalize(&folded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_are_accepted() {
        let accepted = [
            "a",
            "src/main.rs",
            ".gitignore",
            ".github/workflows/ci.yml",
            "a b/c d.txt",
            "Grüße/日本語.md",
            "👩‍💻.txt",
            "..a",
            "a..b",
            "...a",
            "app/[id]/page.tsx",
            "git",
            "git~",
            "git~x",
            "orch.yaml",
            ".orchard",
            "console.log",
            "com10",
            "lpt",
            "null.txt",
            "auxiliary/a",
            "-rf",
            "~",
            "~root",
            "$HOME",
            "%2e%2e",
            "a\"b",
            "*",
            "e\u{301}",
        ];
        for path in accepted {
            assert_eq!(refusal_reason(path), None, "{path}");
        }
        assert_eq!(refusal_reason(&"x".repeat(255)), None);
    }

    #[test]
    fn redundant_parts_are_removed() {
        for (path, normalized) in [
            ("./src/a.py", "src/a.py"),
            ("src/./a.py", "src/a.py"),
            ("src//a.py", "src/a.py"),
            (".//./a", "a"),
            ("a/.", "a"),
            ("a/", "a/"),
            ("./a/", "a/"),
            ("//a", "/a"),
            ("/./a", "/a"),
            (".", "."),
            ("./", "./"),
            ("", ""),
            ("../a", "../a"),
            ("./../a", "../a"),
            ("a/../b", "a/../b"),
            (".a/.b", ".a/.b"),
            ("...", "..."),
        ] {
            assert_eq!(normalize(path), normalized, "{path}");
            assert_eq!(normalize(normalized), normalized, "{path}");
        }
    }

    #[test]
    fn disguised_reserved_names_are_refused() {
        let disguised = [
            ".GIT/config",
            "a/.Git",
            "git~1",
            "GIT~22/x",
            ".g\u{200c}it",
            ".gi\u{ad}t",
            ".ｇｉｔ",
            ".ＧＩＴ/x",
            "․․/x",
            "．．",
            ".ORCH/journal.db",
            ".orch.LOCK",
            "Orch~1",
            ".orch-tmp-a",
            "\u{200b}",
            "x/\u{2060}",
            "con",
            "NUL.txt",
            "aux.c/x",
            "COM¹",
            "lpt9.tar.gz",
            "conout$",
            "nul .txt",
            ".git\u{200b}",
            "\u{ad}..",
        ];
        for path in disguised {
            assert!(refusal_reason(path).is_some(), "{path:?}");
        }
    }

    #[cfg(not(windows))]
    #[test]
    fn a_record_may_contain_every_name_that_stays_in_the_workspace() {
        let deep = "a/".repeat(200) + &"x".repeat(255);
        let names =
            ["a:b", "CON", "a\\b", "a.", "a\u{1b}[2J", "\u{202e}a", "a\nb", ".orch-foo/x", ".orchrc", ".orch-tmp-a"];
        for path in names.iter().copied().chain([deep.as_str()]) {
            assert_eq!(
                (record_refusal_reason(path, true), record_refusal_reason(path, false)),
                (None, None),
                "{path:?}"
            );
        }
        for path in ["q/.git", "git~1", "orch~1", ".git./x"] {
            assert!(record_refusal_reason(path, true).is_some(), "{path}");
            assert_eq!(record_refusal_reason(path, false), None, "{path}");
        }
        for path in [
            "",
            "/a",
            "../a",
            "a/../b",
            "a//b",
            "./a",
            "a/",
            "a\0b",
            ".git/hooks/a",
            "a/.GIT/b",
            ".orch/a",
            ".orch.lock",
        ] {
            assert!(record_refusal_reason(path, false).is_some(), "{path:?}");
        }
    }

    #[test]
    fn the_files_of_orch_are_recognized_at_any_depth_and_in_any_spelling() {
        for path in [".orch", ".orch/journal.db", "a/.ORCH/b", ".orch.lock", ".orch.programs.lock"] {
            assert!(is_own_path(path), "{path}");
        }
        for path in [".ｏrch/x", ".o\u{200c}rch", ".orch./x", "ORCH~1/x"] {
            assert!(is_own_path(path), "{path:?}");
        }
        for path in ["", "orch.yaml", ".orchard", "src/orch/a", "torch", "ü/a", "a/.orch.rs", "a/.orch-tmp-1/b"] {
            assert!(!is_own_path(path), "{path}");
        }
    }

    #[test]
    fn names_that_differ_in_case_or_normal_form_have_the_same_fold() {
        for (first, second) in [("README", "readme"), ("é.TXT", "e\u{301}.txt"), ("STRASSE", "straße"), ("Σ", "ς")]
        {
            assert_eq!(fold_path(first), fold_path(second));
        }
        assert_ne!(fold_path("a"), fold_path("ä"));
    }
}
