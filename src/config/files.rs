//! Reading a project's files: bounded, as text, and never outside of their folders.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic, SourceFile};
use crate::model::text::text_of;

/// The largest file that is read.
const MAX_FILE: u64 = 4 << 20;
/// How deep and how many files a folder is listed.
const MAX_LISTED: (usize, usize) = (8, 10_000);

/// Reads a text file, shown to people as `shown`.
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
    // In one read, as a rule: a buffer that grows from nothing takes eight.
    let size = usize::try_from(about.len().min(MAX_FILE)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(size + 1);
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    of_bytes(bytes, shown)
}

/// A text file by its bytes.
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

/// What a link that leads nowhere is a link to.
fn nowhere(target: &Path) -> String {
    format!("`{}`, which is not there", target.to_string_lossy().replace('\\', "/"))
}

/// The system's reason without its number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// Whether a file or folder lies outside of another one, links resolved.
pub fn escapes(folder: &Path, path: &Path) -> bool {
    // The folder of a relative path may be empty: it is the current one.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let (real, real_folder) = (path.canonicalize(), folder.canonicalize());
    matches!((real, real_folder), (Ok(real), Ok(real_folder)) if !real.starts_with(&real_folder))
}

/// The finding that a file or folder of a root is a link to a place outside of it, if it is one. What is not there
/// leads nowhere: to read it gives the better message.
pub(super) fn link_outside(root: &Path, path: &Path, shown: &str) -> Option<Box<Diagnostic>> {
    if !escapes(root, path) {
        return None;
    }
    let message = format!("`{shown}` is reached by a link that leads out of the project");
    let problem = Diagnostic::error(Code::LinkOutside, message).in_file(&SourceFile::new(shown, ""));
    Some(Box::new(problem.help("copy what it leads to into the project")))
}

/// The path of a file in a folder of the project by its name, such as `sub/plan.md`.
///
/// # Errors
/// Says why the name can't be used: it is absolute, has `..`, or a link leads outside.
pub(super) fn confined(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let path = named(folder, name)?;
    // What does not exist escapes nowhere; reading it gives the better message.
    if escapes(folder, &path) { Err(format!("`{name}` is a link that leads out of its folder")) } else { Ok(path) }
}

/// The same by the name alone.
///
/// # Errors
/// Says why the name can't be used: it is absolute, or has `..`.
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

/// Whether there is something at a path: a link that leads nowhere and what may not be looked at are something too,
/// so that who reads them is told why that fails.
pub(super) fn exists(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// The files below a folder, and what of it was not looked at.
#[derive(Debug, Default)]
pub struct FolderListing {
    /// Names relative to the folder, with `/`, sorted.
    pub names: Vec<String>,
    /// Folders that can't be read, are too deep or are links, each with the name of its place.
    pub problems: Vec<(String, Diagnostic)>,
}

impl FolderListing {
    /// What was not looked at, without the places.
    pub fn into_problems(self) -> Vec<Diagnostic> {
        self.problems.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// The names of the files below a folder, with `/`, sorted; empty when there is none.
///
/// Links to folders are not followed, so that a loop of links ends.
pub(super) fn list(folder: &Path) -> Vec<String> {
    look(folder, "", &|_| true).names
}

/// The files below a folder, shown to people as `shown`, whose names are wanted; with what was not looked at.
///
/// A folder that is not there has no files.
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
    /// Goes through a folder; `prefix` is its name with `/`, or nothing for the first.
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
        // A name that is not text is listed all the same: who reads the file is told.
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

/// Why a folder was not read, as what is said of it.
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
