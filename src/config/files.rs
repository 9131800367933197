//! Reads the files of a project: as text, of bounded size, and never from outside of their folders.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic, SourceFile};
use crate::model::text::text_of;

/// The largest file that orch reads, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// How many levels deep a folder is listed, and how many files at most.
const MAX_LISTED: (usize, usize) = (8, 10_000);

/// Reads a text file. Messages call it `shown`.
///
/// # Errors
/// One diagnostic about the file as a whole.
pub(super) fn read(path: &Path, shown: &str) -> Result<Arc<SourceFile>, Box<Diagnostic>> {
    let fail =
        |code: Code, message: String| Box::new(Diagnostic::error(code, message).in_file(&SourceFile::new(shown, "")));
    let unreadable = |error: &std::io::Error| match error.kind() {
        ErrorKind::NotFound if shown.contains(char::REPLACEMENT_CHARACTER) => {
            fail(Code::NotText, format!("the name of `{shown}` is not UTF-8 text"))
        }
        ErrorKind::NotFound | ErrorKind::NotADirectory => match fs::read_link(path) {
            Ok(target) => fail(Code::FileUnreadable, format!("`{shown}` is a link to {}", nowhere(&target))),
            Err(_) => fail(Code::FileNotFound, format!("there is no file `{shown}`")),
        },
        ErrorKind::PermissionDenied => fail(Code::FileUnreadable, format!("no permission to read `{shown}`")),
        _ => fail(Code::FileUnreadable, format!("`{shown}` cannot be read: {}", reason(error))),
    };
    let about = fs::metadata(path).map_err(|error| unreadable(&error))?;
    if about.is_dir() {
        return Err(fail(Code::FileUnreadable, format!("`{shown}` is a folder, not a file")));
    }
    if !about.is_file() {
        return Err(fail(Code::FileUnreadable, format!("`{shown}` is not a regular file")));
    }
    // Reserves the file's size, so that one read is usually enough; a buffer that grows from nothing needs eight.
    let size = usize::try_from(about.len().min(MAX_FILE)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(size + 1);
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    of_bytes(bytes, shown)
}

/// Makes a text file from its bytes.
///
/// # Errors
/// One diagnostic about the file as a whole.
pub(super) fn of_bytes(bytes: Vec<u8>, shown: &str) -> Result<Arc<SourceFile>, Box<Diagnostic>> {
    let fail =
        |code: Code, message: String| Box::new(Diagnostic::error(code, message).in_file(&SourceFile::new(shown, "")));
    if bytes.len() as u64 > MAX_FILE {
        return Err(fail(Code::TooLarge, format!("`{shown}` is larger than {} MiB", MAX_FILE >> 20)));
    }
    text_of(bytes)
        .map(|text| SourceFile::new(shown, text))
        .map_err(|why| fail(Code::NotText, format!("`{shown}` {why}")))
}

/// Describes the missing target of a link.
fn nowhere(target: &Path) -> String {
    format!("`{}`, which is not there", target.to_string_lossy().replace('\\', "/"))
}

/// The reason from the operating system, without its error number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// Whether a path lies outside of a folder after links are resolved; false if one of them does not exist.
pub fn escapes(folder: &Path, path: &Path) -> bool {
    // A relative path in the current folder has an empty parent.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let (real, real_folder) = (path.canonicalize(), folder.canonicalize());
    matches!((real, real_folder), (Ok(real), Ok(real_folder)) if !real.starts_with(&real_folder))
}

/// The diagnostic for a path whose links lead out of the root; `None` if they do not. A path that does not exist is
/// left alone, because reading it gives the better message.
pub(super) fn link_outside(root: &Path, path: &Path, shown: &str) -> Option<Box<Diagnostic>> {
    if !escapes(root, path) {
        return None;
    }
    let message = format!("`{shown}` is reached by a link that leads out of the project");
    let problem = Diagnostic::error(Code::LinkOutside, message).in_file(&SourceFile::new(shown, ""));
    Some(Box::new(problem.help("copy what it leads to into the project")))
}

/// The path of a file in a folder of the project, by its name, such as `sub/plan.md`.
///
/// # Errors
/// Why the name can't be used: it is absolute, has `..`, or is a link that leads outside.
pub(super) fn confined(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let path = named(folder, name)?;
    // A path that does not exist passes, because reading it gives the better message.
    if escapes(folder, &path) { Err(format!("`{name}` is a link that leads out of its folder")) } else { Ok(path) }
}

/// Like [`confined`], judged by the name alone.
///
/// # Errors
/// Why the name can't be used: it is absolute, or has `..`.
pub(super) fn named(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let relative = Path::new(name);
    if name.is_empty() || name.contains(['\\', '\0']) || name.ends_with('/') {
        return Err(format!("`{name}` is not a file name"));
    }
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        let folder = folder.file_name().unwrap_or_default().to_string_lossy();
        return Err(format!("`{name}` leads out of `{folder}/`"));
    }
    Ok(folder.join(relative))
}

/// Whether something exists at a path. A broken link or a file without permission counts too, so that reading it
/// reports why it fails.
pub(super) fn exists(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// The files below a folder, and the problems with those that were skipped.
#[derive(Debug, Default)]
pub struct FolderListing {
    /// Names relative to the folder, with `/`, sorted.
    pub names: Vec<String>,
    /// Problems with folders and links that could not be read or were skipped, each with its name relative to the
    /// folder.
    pub problems: Vec<(String, Diagnostic)>,
}

impl FolderListing {
    /// The problems without the names.
    pub fn into_problems(self) -> Vec<Diagnostic> {
        self.problems.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// The names of the files below a folder, with `/`, sorted; empty if the folder does not exist.
///
/// Does not follow links to folders, so that a cycle of links ends.
pub(super) fn list(folder: &Path) -> Vec<String> {
    look(folder, "", &|_| true).names
}

/// Lists the files below a folder whose names `wanted` accepts, and what was skipped. Messages call the folder `shown`.
///
/// A folder that does not exist has no files.
pub(super) fn look(folder: &Path, shown: &str, wanted: &dyn Fn(&str) -> bool) -> FolderListing {
    let mut walk = FolderWalk { shown, wanted, found: FolderListing::default() };
    if exists(folder) {
        walk.folder(folder, "", 0);
    }
    let mut found = walk.found;
    found.names.sort();
    found.problems.sort_by(|(one, _), (other, _)| one.cmp(other));
    found
}

struct FolderWalk<'a> {
    shown: &'a str,
    wanted: &'a dyn Fn(&str) -> bool,
    found: FolderListing,
}

impl FolderWalk<'_> {
    /// Lists one folder; `prefix` is its name followed by `/`, or empty for the first.
    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize) {
        let name = prefix.trim_end_matches('/');
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.unread(name, &why(folder, &error)),
        };
        for entry in entries {
            match entry {
                Ok(entry) => self.entry(&entry, prefix, depth),
                Err(error) => self.unread(name, &format!("can be read in part only: {}", reason(&error))),
            }
        }
    }

    fn entry(&mut self, entry: &fs::DirEntry, prefix: &str, depth: usize) {
        // A name that is not UTF-8 is listed too: reading the file then reports it.
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            return;
        }
        let full = format!("{prefix}{name}");
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(error) => return self.unread(&full, &format!("cannot be read: {}", reason(&error))),
        };
        if kind.is_dir() {
            if depth < MAX_LISTED.0 {
                return self.folder(&entry.path(), &format!("{full}/"), depth + 1);
            }
            return self.passed(&full, &format!("lies more than {} folders deep and is not looked into", MAX_LISTED.0));
        }
        if (self.wanted)(&full) && !(kind.is_symlink() && entry.path().is_dir()) {
            match self.found.names.len() {
                count if count < MAX_LISTED.1 => self.found.names.push(full),
                _ if self.found.problems.iter().any(|(name, _)| name.is_empty()) => {}
                _ => self.unread("", &format!("holds more than {} files; the others are not looked at", MAX_LISTED.1)),
            }
        } else if kind.is_symlink() {
            match fs::metadata(entry.path()) {
                Ok(about) if about.is_dir() => self.passed(&full, "is a link to a folder, and those are not followed"),
                Ok(_) => {}
                Err(error) => self.passed(&full, &why(&entry.path(), &error)),
            }
        }
    }

    fn unread(&mut self, name: &str, why: &str) {
        self.tell(name, why, Diagnostic::error);
    }

    fn passed(&mut self, name: &str, why: &str) {
        self.tell(name, why, Diagnostic::warning);
    }

    fn tell(&mut self, name: &str, why: &str, make: impl Fn(Code, String) -> Diagnostic) {
        let parts: Vec<&str> = [self.shown, name].into_iter().filter(|part| !part.is_empty()).collect();
        let shown = if parts.is_empty() { ".".to_owned() } else { parts.join("/") };
        let problem = make(Code::FileUnreadable, format!("`{shown}` {why}")).in_file(&SourceFile::new(&shown, ""));
        self.found.problems.push((name.to_owned(), problem));
    }
}

/// Why a folder was not read, as the rest of a sentence about it.
fn why(folder: &Path, error: &std::io::Error) -> String {
    match (error.kind(), fs::read_link(folder)) {
        (ErrorKind::PermissionDenied, _) => "may not be read: no permission".to_owned(),
        (ErrorKind::NotADirectory, _) => "is no folder".to_owned(),
        (ErrorKind::NotFound, Ok(target)) => format!("is a link to {}", nowhere(&target)),
        (_, _) => format!("cannot be read: {}", reason(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let prompts = folder.path().join("prompts");
        fs::create_dir(&prompts).unwrap();
        fs::write(folder.path().join("secret"), "x").unwrap();
        for name in ["../secret", "/etc/passwd", "a/../../secret", "", "a\\b", ".", "x/"] {
            assert!(confined(&prompts, name).is_err(), "{name}");
        }
        assert!(confined(&prompts, "sub/new.md").is_ok());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(folder.path().join("secret"), prompts.join("link.md")).unwrap();
            assert!(confined(&prompts, "link.md").unwrap_err().contains("link"));
        }
    }

    #[test]
    fn a_folder_with_too_many_files_says_so_once() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..MAX_LISTED.1 + 2 {
            fs::write(folder.path().join(format!("{number}.yaml")), "").unwrap();
        }
        fs::write(folder.path().join("other.md"), "").unwrap();
        let found = look(folder.path(), "pipelines", &|name| name.ends_with(".yaml"));
        assert_eq!(found.names.len(), MAX_LISTED.1);
        let said: Vec<_> =
            found.into_problems().into_iter().map(|problem| (problem.is_error(), problem.message)).collect();
        assert_eq!(said, [(true, "`pipelines` holds more than 10000 files; the others are not looked at".to_owned())]);
    }

    #[test]
    fn unreadable_files_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("latin"), b"caf\xe9").unwrap();
        fs::write(at("nul"), b"a\0b").unwrap();
        fs::write(at("big"), vec![b'x'; (4 << 20) + 1]).unwrap();
        fs::write(at("bom"), "\u{feff}x").unwrap();
        let message = |name: &str| read(&at(name), name).unwrap_err().message;
        assert_eq!(message("latin"), "`latin` is not UTF-8 text: see byte 3");
        assert_eq!(message("nul"), "`nul` is not a text file: it holds a NUL at byte 1");
        assert_eq!(message("big"), "`big` is larger than 4 MiB");
        assert_eq!(message("none"), "there is no file `none`");
        assert_eq!(message("latin/x"), "there is no file `latin/x`");
        assert_eq!(read(folder.path(), "dir").unwrap_err().message, "`dir` is a folder, not a file");
        assert_eq!(read(&at("bom"), "bom").unwrap().text, "x");
    }
}
