//! Which paths may be written, judged by their text alone.
//!
//! The rules are the same on every system, so that a path accepted on one machine works on another. A path is refused
//! if it leaves the workspace, names orch's or git's own files, or means something else on another file system.

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

use super::problem::shown;

/// The longest path in bytes: the smallest limit of all supported systems.
const PATH_BYTES: usize = 1024;

/// The longest name in a path, in bytes.
const NAME_BYTES: usize = 255;

/// The most names in a path.
const DEPTH: usize = 64;

/// The prefix of the names of orch's temporary files.
pub(super) const TEMPORARY: &str = ".orch-tmp-";

/// The names that Windows reserves for devices, with any extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// The path without parts that change nothing: `./src//a.py` becomes `src/a.py`. An absolute path stays absolute, and a
/// `/` at the end stays.
pub(super) fn normal(path: &str) -> String {
    let (start, rest) = if path.starts_with('/') { ("/", path.trim_start_matches('/')) } else { ("", path) };
    let end = if rest.ends_with('/') { "/" } else { "" };
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    // Nothing would be left of `.`, which is not a file: it stays as it is, and is refused.
    if parts.is_empty() { path.to_owned() } else { format!("{start}{}{end}", parts.join("/")) }
}

/// Why a path may not be written; `None` if it may.
pub(super) fn refused(path: &str) -> Option<String> {
    if path.is_empty() {
        return Some("is empty".to_owned());
    }
    if path.len() > PATH_BYTES {
        return Some(format!("is longer than {PATH_BYTES} bytes"));
    }
    if let Some(char) = path.chars().find(|char| char.is_control() || hides(*char)) {
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
    if path.split('/').count() > DEPTH {
        return Some(format!("lies more than {DEPTH} folders deep"));
    }
    path.split('/').find_map(refused_name)
}

/// Why one name of a path is refused; `None` if it is not.
fn refused_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("has an empty part (`//`)".to_owned());
    }
    if name.len() > NAME_BYTES {
        return Some(format!("has a name of more than {NAME_BYTES} bytes"));
    }
    let plain = plain(name);
    if name == "." || name == ".." || plain == "." || plain == ".." {
        return Some(format!("has the part `{}`, and paths are written without `.` and `..`", shown(name)));
    }
    if name.ends_with(['.', ' ']) {
        return Some("has a name that ends with a dot or a space, which Windows drops".to_owned());
    }
    if plain.trim().is_empty() {
        return Some("has a name of invisible characters".to_owned());
    }
    let bare = plain.trim_end_matches(['.', ' ']);
    if bare == ".git" || short_name(bare, "git") {
        return Some("lies in git's own folder `.git`".to_owned());
    }
    if bare == ".orch"
        || bare == ".orch.lock"
        || bare == ".orch.programs.lock"
        || bare.starts_with(TEMPORARY)
        || short_name(bare, "orch")
    {
        return Some("is kept for orch's own files (`.orch`)".to_owned());
    }
    device(&plain).then(|| format!("has the name `{}`, which Windows keeps for a device", shown(name)))
}

/// Whether a name is the short form that Windows gives a folder whose name starts with a dot: `git~1`.
fn short_name(name: &str, stem: &str) -> bool {
    name.strip_prefix(stem)
        .and_then(|rest| rest.strip_prefix('~'))
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether Windows opens a device for this plain name, instead of a file.
fn device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    let numbered = |port: &str| {
        let rest = stem.strip_prefix(port);
        rest.is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    DEVICES.contains(&stem) || numbered("com") || numbered("lpt")
}

/// Whether a character reorders or breaks the text around it, so that people read another path.
pub(super) fn hides(char: char) -> bool {
    matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Whether a character is invisible, such as a joiner or a filler.
pub(super) fn ignorable(char: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(char)
}

/// The loosest reading of a name, to recognise reserved ones: ignores compatibility forms, case and invisible
/// characters.
fn plain(name: &str) -> String {
    let folded = fold(name);
    // Compatibility forms may contain capitals (`ＧＩＴ`), hence the second fold.
    fold(&ComposingNormalizer::new_nfkc().normalize(&folded))
}

/// A path as file systems compare it that ignore case, normal form or invisible characters.
pub(super) fn fold(path: &str) -> String {
    if path.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return path.to_ascii_lowercase();
    }
    let visible: String = path.chars().filter(|char| !ignorable(*char)).collect();
    let apart = DecomposingNormalizer::new_nfd().normalize(&visible);
    let folded = CaseMapper::new().fold_string(&apart);
    ComposingNormalizer::new_nfc().normalize(&folded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_paths_are_accepted() {
        let good = [
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
        for path in good {
            assert_eq!(refused(path), None, "{path}");
        }
        assert_eq!(refused(&"x".repeat(255)), None);
    }

    #[test]
    fn parts_that_change_nothing_are_left_out() {
        for (written, normal_form) in [
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
            assert_eq!(normal(written), normal_form, "{written}");
            assert_eq!(normal(normal_form), normal_form, "{written}");
        }
    }

    #[test]
    fn disguises_of_reserved_names_are_seen_through() {
        let bad = [
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
        for path in bad {
            assert!(refused(path).is_some(), "{path:?}");
        }
    }

    #[test]
    fn names_that_differ_in_case_or_normal_form_fold_to_one() {
        for (one, other) in [("README", "readme"), ("é.TXT", "e\u{301}.txt"), ("STRASSE", "straße"), ("Σ", "ς")] {
            assert_eq!(fold(one), fold(other));
        }
        assert_ne!(fold("a"), fold("ä"));
    }
}
