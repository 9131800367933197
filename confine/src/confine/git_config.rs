//! Reads the settings of a git folder that name further files through which git can run programs.
//!
//! The reader is lenient: it skips what it does not understand, and does not follow `include`. git reads a `config`
//! that it can't parse as an error, so such a file runs no program.

use std::path::{Component, Path, PathBuf};

use super::repository::read_file;

/// The folder of husky whose hooks run the scripts in the parent folder.
const HUSKY_FOLDER: &str = "_";

/// The settings in the files `config` and `config.worktree` of a git folder.
pub(super) struct GitConfig {
    text: String,
}

impl GitConfig {
    /// Reads the settings. Files that do not exist have none.
    pub(super) fn read(git_folder: &Path) -> Self {
        let texts = ["config", "config.worktree"].map(|name| read_file(&git_folder.join(name)).unwrap_or_default());
        Self { text: texts.join("\n") }
    }

    /// Whether git reads `config.worktree` in addition to `config`.
    pub(super) fn reads_worktree_settings(&self) -> bool {
        let is_false = |value: &String| ["false", "no", "off", "0"].contains(&value.to_ascii_lowercase().as_str());
        self.values("extensions", "worktreeConfig").iter().any(|value| !is_false(value))
    }

    /// The folders under `core.hooksPath`. A relative path starts at `top`, the folder of the files of the repository.
    ///
    /// Leaves out folders in the user's home (`~/`), and `top` itself: if it were protected, a program could change no
    /// file of the repository.
    pub(super) fn hooks_folders(&self, top: &Path) -> Vec<PathBuf> {
        let values = self.values("core", "hooksPath");
        let paths = values.iter().filter(|value| !value.is_empty() && !value.starts_with('~'));
        let folders = paths.map(|value| {
            let folder = without_dots(&top.join(value));
            match folder.parent() {
                Some(parent) if folder.ends_with(HUSKY_FOLDER) && parent != top => parent.to_owned(),
                _ => folder,
            }
        });
        folders.filter(|folder| !top.starts_with(folder)).collect()
    }

    /// The values of a key, in the order of the files. A key without a value has an empty value, which means `true`.
    fn values(&self, section: &str, key: &str) -> Vec<String> {
        // A backslash at the end of a line continues the value in the next line.
        let text = self.text.replace("\\\r\n", "").replace("\\\n", "");
        let mut is_in_section = false;
        let mut values = Vec::new();
        for line in text.lines() {
            let mut line = line.trim_start();
            if let Some((header, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
                is_in_section = header.trim().eq_ignore_ascii_case(section);
                line = rest;
            }
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            if is_in_section && name.trim().eq_ignore_ascii_case(key) {
                values.push(parse_value(value));
            }
        }
        values
    }
}

/// Parses a value: removes quotes, escapes, the comment, and the spaces around the value.
fn parse_value(text: &str) -> String {
    let mut value = String::new();
    // The length of the value without spaces at its end. Spaces in quotes belong to the value.
    let mut length = 0;
    let mut is_quoted = false;
    let mut characters = text.trim().chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                is_quoted = !is_quoted;
                continue;
            }
            '#' | ';' if !is_quoted => break,
            '\\' => value.push(match characters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(escaped) => escaped,
                None => break,
            }),
            _ => value.push(character),
        }
        if is_quoted || !character.is_whitespace() {
            length = value.len();
        }
    }
    value.truncate(length);
    value
}

/// Removes `.` and `..` from an absolute path.
fn without_dots(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                result.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => result.push(component),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> GitConfig {
        GitConfig { text: text.to_owned() }
    }

    #[test]
    fn the_hooks_path_is_found_in_every_notation_of_git() {
        for text in [
            "[core]\n\thooksPath = .githooks\n",
            "[Core]\r\n  HOOKSPATH=.githooks ; mine\r\n",
            "[core] hooksPath = \".githooks\" # mine\n",
            "[user]\n\tname = x\n[core]\n\tbare = false\n\thookspath = ./a/../.git\\\nhooks\n",
        ] {
            assert_eq!(config(text).hooks_folders(Path::new("/w")), [Path::new("/w/.githooks")], "{text}");
        }
        for text in
            ["[core \"x\"]\n\thooksPath = a\n", "[user]\n\thooksPath = a\n", "# [core]\nhooksPath = a\n", "[core\n", ""]
        {
            assert_eq!(config(text).hooks_folders(Path::new("/w")), Vec::<PathBuf>::new(), "{text}");
        }
    }

    #[test]
    fn a_hooks_folder_is_outside_or_below_the_files_of_the_repository() {
        let folders = |value: &str| config(&format!("[core]\nhooksPath = {value}\n")).hooks_folders(Path::new("/a/w"));
        assert_eq!(folders(".husky/_"), [Path::new("/a/w/.husky")]);
        assert_eq!(folders("_"), [Path::new("/a/w/_")]);
        assert_eq!(folders("/opt/hooks"), [Path::new("/opt/hooks")]);
        assert_eq!(folders("\"my hooks\" "), [Path::new("/a/w/my hooks")]);
        for value in [".", "..", "/", "~/hooks", ""] {
            assert_eq!(folders(value), Vec::<PathBuf>::new(), "{value}");
        }
    }

    #[test]
    fn the_settings_of_worktrees_count_if_the_extension_is_on() {
        let is_on = |text: &str| config(text).reads_worktree_settings();
        assert!(is_on("[extensions]\n\tworktreeConfig = true\n") && is_on("[extensions]\n\tworktreeconfig\n"));
        assert!(!is_on("[extensions]\n\tworktreeConfig = false\n") && !is_on("[core]\n\tworktreeConfig = true\n"));
    }
}
