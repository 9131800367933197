//! Reads the settings of a git folder that name further files through which git can run programs.
//!
//! The reader is lenient: it skips what it does not understand, and follows every `include`, also one whose condition
//! is not met. git reads a `config` that it can't parse as an error, so such a file runs no program.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::command_words::words_with_slash;
use super::repository::{GIT_ENTRY, read_file};

/// The folder of husky whose hooks run the scripts in the parent folder.
const HUSKY_FOLDER: &str = "_";
/// The sections with a key `path` that names a file with further settings. Those of the second have a condition.
const INCLUDE_SECTIONS: [&str; 2] = ["include", "includeIf"];
/// The maximum number of included files.
const MAX_INCLUDED_FILES: usize = 100;
/// The characters around the words of a command in a setting.
const COMMAND_CHARACTERS: &[char] = &['"', '\'', '`', '=', '!', ';', '&', '|', '<', '>', '(', ')'];
/// The lengths of the object ids of git in bytes: SHA-1 and SHA-256.
const OBJECT_ID_BYTES: [usize; 2] = [20, 32];

/// The settings in the files `config` and `config.worktree` of a git folder, and in the files that they include.
pub(super) struct GitConfig {
    text: String,
    /// The included files, which may not exist.
    included: Vec<PathBuf>,
}

impl GitConfig {
    /// Reads the settings. Files that do not exist have none.
    pub(super) fn read(git_folder: &Path) -> Self {
        let mut config = Self { text: String::new(), included: Vec::new() };
        for name in ["config", "config.worktree"] {
            config.add_file(&git_folder.join(name));
        }
        let mut next = 0;
        while let Some(path) = config.included.get(next).cloned() {
            config.add_file(&path);
            next += 1;
        }
        config
    }

    /// Adds the settings of a file, and the paths of the files that it includes.
    ///
    /// Leaves out included files in the user's home (`~/`).
    fn add_file(&mut self, path: &Path) {
        let Some(bytes) = read_file(path) else { return };
        let text = String::from_utf8_lossy(&bytes);
        let is_include = |header: &str| {
            let name = header.split([' ', '\t', '"']).next().unwrap_or_default();
            INCLUDE_SECTIONS.iter().any(|section| section.eq_ignore_ascii_case(name))
        };
        for value in values_in(&text, is_include, "path") {
            let included = without_dots(&path.parent().unwrap_or(path).join(&value));
            let is_new = !value.is_empty() && !value.starts_with('~') && !self.included.contains(&included);
            if is_new && !included.is_dir() && self.included.len() < MAX_INCLUDED_FILES {
                self.included.push(included);
            }
        }
        self.text.push('\n');
        self.text.push_str(&text);
    }

    /// The included files. Some of them may not exist.
    pub(super) fn included_files(&self) -> &[PathBuf] {
        &self.included
    }

    /// The files of the repository that a setting names by a path with a `/`, such as the script of a filter. The paths
    /// may contain links. `top` is the folder of the files of the repository, in which git runs most commands.
    pub(super) fn named_files(&self, top: &Path) -> BTreeSet<PathBuf> {
        let is_between = |character: char| character.is_whitespace() || COMMAND_CHARACTERS.contains(&character);
        let words = self.text.split(is_between).filter(|word| word.contains('/')).map(str::to_owned);
        let text = joined_lines(&self.text);
        let words = words.chain(entries(&text).flat_map(|entry| words_with_slash(&parse_value(entry.value))));
        let paths = words.map(|word| without_dots(&top.join(word)));
        let is_named = |path: &PathBuf| path.starts_with(top) && !path.starts_with(top.join(GIT_ENTRY));
        paths.filter(|path| is_named(path) && path.is_file()).collect()
    }

    /// The length of the object ids of the repository in bytes.
    pub(super) fn object_id_bytes(&self) -> usize {
        let [sha1, sha256] = OBJECT_ID_BYTES;
        let formats = self.values("extensions", "objectFormat");
        if formats.last().is_some_and(|format| format.eq_ignore_ascii_case("sha256")) { sha256 } else { sha1 }
    }

    /// Whether git reads `config.worktree` in addition to `config`.
    pub(super) fn reads_worktree_settings(&self) -> bool {
        self.values("extensions", "worktreeConfig").iter().any(|value| is_true(value))
    }

    /// Whether a setting determines where the files of the repository are: `core.worktree`, or a `core.bare` that is
    /// true. git ignores both if the git folder contains a file `commondir`.
    pub(super) fn sets_working_folder(&self) -> bool {
        !self.values("core", "worktree").is_empty() || self.values("core", "bare").iter().any(|value| is_true(value))
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

    /// The values of a key, in the order of the files.
    fn values(&self, section: &str, key: &str) -> Vec<String> {
        values_in(&self.text, |header| header.eq_ignore_ascii_case(section), key)
    }
}

/// Whether a value is true for git. A key without a value is true.
fn is_true(value: &str) -> bool {
    !["false", "no", "off", "0"].contains(&value.to_ascii_lowercase().as_str())
}

/// The values of a key in the sections of a text whose headers a function accepts, in their order. A key without a
/// value has an empty value, which means `true`.
fn values_in(text: &str, is_section: impl Fn(&str) -> bool, key: &str) -> Vec<String> {
    let text = joined_lines(text);
    let is_wanted = |entry: &Entry<'_>| entry.section.is_some_and(&is_section) && entry.key.eq_ignore_ascii_case(key);
    entries(&text).filter(is_wanted).map(|entry| parse_value(entry.value)).collect()
}

/// A line of the settings.
struct Entry<'t> {
    /// The header of the section, without brackets; `None` before the first section.
    section: Option<&'t str>,
    key: &'t str,
    /// The value as it is written; empty for a key without a value.
    value: &'t str,
}

/// Joins the lines of a value: a backslash at the end of a line continues the value in the next line.
fn joined_lines(text: &str) -> String {
    text.replace("\\\r\n", "").replace("\\\n", "")
}

/// The lines of a text whose values are joined.
fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    let mut section = None;
    text.lines().map(move |line| {
        let mut line = line.trim_start();
        if let Some((header, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
            section = Some(header.trim());
            line = rest;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        Entry { section, key: key.trim(), value }
    })
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
    use std::fs;

    use super::*;

    fn config(text: &str) -> GitConfig {
        GitConfig { text: text.to_owned(), included: Vec::new() }
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

    #[test]
    fn the_settings_for_the_folder_of_the_files_are_found() {
        let is_set = |text: &str| config(text).sets_working_folder();
        for text in ["[core]\n\tworktree = ../files\n", "[core]\n\tbare = true\n", "[core] bare\n"] {
            assert!(is_set(text), "{text}");
        }
        for text in ["[core]\n\tbare = false\n", "[x]\n\tworktree = a\n", ""] {
            assert!(!is_set(text), "{text}");
        }
    }

    #[test]
    fn included_files_are_found_and_their_settings_count() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join(".git")).unwrap();
        let main = "[include]\n\tpath = ../shared\n\tpath = ~/mine\n\tpath = ..\n\
                    [INCLUDEIF \"gitdir:/w/]\"]\n path=local\n";
        let shared = "[core] hooksPath = .hooks\n[include] path = shared\n[include] path = a/b\n";
        fs::write(root.join(".git/config"), main).unwrap();
        fs::write(root.join("shared"), shared).unwrap();
        let config = GitConfig::read(&root.join(".git"));
        let expected = ["shared", ".git/local", "a/b"].map(|name| root.join(name));
        assert_eq!(config.included_files(), expected);
        assert_eq!(config.hooks_folders(root), [root.join(".hooks")]);
    }

    #[test]
    fn files_of_the_repository_that_a_setting_names_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for name in ["tools/clean.py", "tools/watch", "plain", ".git/x"] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "").unwrap();
        }
        fs::create_dir(root.join("a b")).unwrap();
        fs::write(root.join("a b/x.sh"), "").unwrap();
        std::os::unix::fs::symlink("tools", root.join("link")).unwrap();
        let text = format!(
            "[filter \"x\"]\n\tclean = python3 ./tools/clean.py %f\n\tsmudge = cat\n\
             [core]\n\tfsmonitor={}/tools/watch\n\
             [alias]\n\tp = !plain && tools/../.git/x && tools/missing\n\tt = !tools/clean.py; link/watch\n\
             \tpager = 'a b/x.sh' --all\n[remote \"a\"]\n\turl = ./tools\n",
            root.display()
        );
        let expected = ["a b/x.sh", "link/watch", "tools/clean.py", "tools/watch"].map(|name| root.join(name));
        assert_eq!(config(&text).named_files(&root), BTreeSet::from(expected));
        for value in ["a b/x.sh", "\\\"a b/x.sh\\\"", "\"a b/x.sh\"", "a\\\\ b/x.sh"] {
            let files = config(&format!("[core]\n\tpager = {value}\n")).named_files(&root);
            assert_eq!(files, BTreeSet::from([root.join("a b/x.sh")]), "{value}");
        }
    }

    #[test]
    fn the_object_format_sets_the_length_of_the_ids() {
        assert_eq!(config("[extensions]\n\tobjectFormat = sha256\n").object_id_bytes(), 32);
        assert_eq!(config("[extensions]\nobjectformat=sha1\n").object_id_bytes(), 20);
        assert_eq!(config("").object_id_bytes(), 20);
    }
}
