//! Reads the files of a project as text. Refuses files that are too large, and names that lead out of a folder.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic, SourceFile};
use crate::model::SETTINGS_PLACEHOLDER;
use crate::model::text::decode_text;

/// The size of the largest file that orch reads, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The maximum depth of folders to list.
const MAX_LIST_DEPTH: usize = 8;
/// The maximum number of files to list in a folder.
const MAX_LISTED_FILES: usize = 10_000;

/// Reads a text file. Messages name it by `display_path`.
///
/// # Errors
/// One diagnostic about the file as a whole.
pub(super) fn read_file(path: &Path, display_path: &str) -> Result<Arc<SourceFile>, Box<Diagnostic>> {
    let new_diagnostic = |code: Code, message: String| {
        Box::new(Diagnostic::error(code, message).with_file(&SourceFile::new(display_path, "")))
    };
    let read_diagnostic = |error: &std::io::Error| match error.kind() {
        ErrorKind::NotFound if display_path.contains(char::REPLACEMENT_CHARACTER) => {
            new_diagnostic(Code::NotUtf8, format!("the name of `{display_path}` is not UTF-8 text"))
        }
        ErrorKind::NotFound | ErrorKind::NotADirectory => match fs::read_link(path) {
            Ok(target) => new_diagnostic(
                Code::FileUnreadable,
                format!("`{display_path}` is a link to {}", describe_missing_target(&target)),
            ),
            Err(_) => new_diagnostic(Code::FileNotFound, format!("there is no file `{display_path}`")),
        },
        ErrorKind::PermissionDenied => {
            new_diagnostic(Code::FileUnreadable, format!("no permission to read `{display_path}`"))
        }
        _ => new_diagnostic(
            Code::FileUnreadable,
            format!("`{display_path}` cannot be read: {}", describe_io_error(error)),
        ),
    };
    let metadata = fs::metadata(path).map_err(|error| read_diagnostic(&error))?;
    if metadata.is_dir() {
        return Err(new_diagnostic(Code::FileUnreadable, format!("`{display_path}` is a folder, not a file")));
    }
    if !metadata.is_file() {
        return Err(new_diagnostic(Code::FileUnreadable, format!("`{display_path}` is not a regular file")));
    }
    // Reserves the size of the file, so that one read is usually enough. With an empty buffer, about eight are
    // necessary.
    let size_hint = usize::try_from(metadata.len().min(MAX_FILE_BYTES)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(size_hint + 1);
    let file = File::open(path).map_err(|error| read_diagnostic(&error))?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| read_diagnostic(&error))?;
    source_file_from_bytes(bytes, display_path)
}

/// Converts the bytes of a file to text. Fails if the file is too large, or is not UTF-8 text.
///
/// # Errors
/// One diagnostic about the file as a whole.
pub(super) fn source_file_from_bytes(bytes: Vec<u8>, display_path: &str) -> Result<Arc<SourceFile>, Box<Diagnostic>> {
    let new_diagnostic = |code: Code, message: String| {
        Box::new(Diagnostic::error(code, message).with_file(&SourceFile::new(display_path, "")))
    };
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(new_diagnostic(
            Code::FileTooLarge,
            format!("`{display_path}` is larger than {} MiB", MAX_FILE_BYTES >> 20),
        ));
    }
    decode_text(bytes)
        .map(|text| SourceFile::new(display_path, text))
        .map_err(|reason| new_diagnostic(Code::NotUtf8, format!("`{display_path}` {reason}")))
}

/// Describes the missing target of a link.
fn describe_missing_target(target: &Path) -> String {
    format!("`{}`, which does not exist", target.to_string_lossy().replace('\\', "/"))
}

/// The error text of the operating system, without its error number.
fn describe_io_error(error: &std::io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// Whether a file is the placeholder that orch creates in place of a missing `orch.yaml` while a confined program runs.
/// False if orch can't read the file.
pub fn is_settings_placeholder(path: &Path) -> bool {
    let length = SETTINGS_PLACEHOLDER.len() as u64;
    // Reads only a file that has the length of a placeholder.
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == length) {
        return false;
    }
    let mut bytes = Vec::new();
    let is_read = File::open(path).is_ok_and(|file| file.take(length + 1).read_to_end(&mut bytes).is_ok());
    is_read && bytes == SETTINGS_PLACEHOLDER.as_bytes()
}

/// Whether a path, with its links resolved, lies outside of a folder; false if the path or the folder does not exist.
pub fn is_outside_folder(folder: &Path, path: &Path) -> bool {
    // A relative path in the current folder has an empty parent.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let (real_path, real_folder) = (path.canonicalize(), folder.canonicalize());
    matches!((real_path, real_folder), (Ok(real_path), Ok(real_folder)) if !real_path.starts_with(&real_folder))
}

/// Returns a diagnostic for a path whose links lead out of the root; `None` for other paths. Also returns `None` if
/// nothing exists at the path, because reading the file then gives a better message.
pub(super) fn check_link_target(root: &Path, path: &Path, display_path: &str) -> Option<Box<Diagnostic>> {
    if !is_outside_folder(root, path) {
        return None;
    }
    let message = format!("`{display_path}` is reached by a link that leads out of the project");
    let diagnostic = Diagnostic::error(Code::LinkOutsideProject, message).with_file(&SourceFile::new(display_path, ""));
    Some(Box::new(diagnostic.with_help("copy the link's target into the project")))
}

/// Joins a folder of the project with the name of a file in it, such as `sub/plan.md`, and resolves links.
///
/// # Errors
/// The reason why the name can't be used: it is absolute, has `..`, or is a link that leads outside.
pub(super) fn resolve_in_folder(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let path = join_in_folder(folder, name)?;
    // If nothing exists at the path, reading the file later gives a better message.
    if is_outside_folder(folder, &path) {
        Err(format!("`{name}` is a link that leads out of its folder"))
    } else {
        Ok(path)
    }
}

/// Joins a folder of the project with the name of a file in it, without resolving links.
///
/// # Errors
/// The reason why the name can't be used: it is absolute, or has `..`.
pub(super) fn join_in_folder(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let relative = Path::new(name);
    if name.is_empty() || name.contains(['\\', '\0']) || name.ends_with('/') {
        return Err(format!("`{name}` is not a file name"));
    }
    if !relative.components().all(|component| matches!(component, Component::Normal(_))) {
        let folder_name = folder.file_name().unwrap_or_default().to_string_lossy();
        return Err(format!("`{name}` leads out of `{folder_name}/`"));
    }
    Ok(folder.join(relative))
}

/// Whether something exists at a path. A broken link counts too, and so does a file that orch can't read: reading the
/// file then reports the reason.
pub(super) fn exists(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// The files below a folder, and a diagnostic for each entry that orch skipped.
#[derive(Debug, Default)]
pub struct FolderListing {
    /// The names of the files relative to the folder, separated by `/` and sorted.
    pub names: Vec<String>,
    /// The diagnostic for each skipped entry, with the entry's name relative to the folder.
    pub diagnostics: Vec<(String, Diagnostic)>,
}

impl FolderListing {
    /// The diagnostics, without the names of their entries.
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics.into_iter().map(|(_, diagnostic)| diagnostic).collect()
    }
}

/// The names of the files below a folder, separated by `/` and sorted; empty if the folder does not exist.
///
/// Does not follow links to folders, which could form a cycle.
pub(super) fn list_file_names(folder: &Path) -> Vec<String> {
    list_folder(folder, "", &|_| true).names
}

/// Lists the files below a folder whose names `accepts` returns true for, and reports skipped entries. The listing is
/// empty if the folder does not exist. Messages name the folder by `display_path`.
pub(super) fn list_folder(folder: &Path, display_path: &str, accepts: &dyn Fn(&str) -> bool) -> FolderListing {
    let mut walk = FolderWalk { display_path, accepts, listing: FolderListing::default() };
    if exists(folder) {
        walk.visit_folder(folder, "", 0);
    }
    let mut listing = walk.listing;
    listing.names.sort();
    listing.diagnostics.sort_by(|(a, _), (b, _)| a.cmp(b));
    listing
}

struct FolderWalk<'a> {
    display_path: &'a str,
    accepts: &'a dyn Fn(&str) -> bool,
    listing: FolderListing,
}

impl FolderWalk<'_> {
    /// Lists one folder. `prefix` is its name followed by `/`, or empty for the root of the walk.
    fn visit_folder(&mut self, folder: &Path, prefix: &str, depth: usize) {
        let name = prefix.trim_end_matches('/');
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.add_error(name, &describe_unreadable(folder, &error)),
        };
        for entry in entries {
            match entry {
                Ok(entry) => self.visit_entry(&entry, prefix, depth),
                Err(error) => {
                    self.add_error(name, &format!("cannot be read completely: {}", describe_io_error(&error)));
                }
            }
        }
    }

    fn visit_entry(&mut self, entry: &fs::DirEntry, prefix: &str, depth: usize) {
        // The listing includes names that are not UTF-8, because reading such a file reports its name.
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            return;
        }
        let full_name = format!("{prefix}{name}");
        let file_type = match entry.file_type() {
            Ok(file_type) => file_type,
            Err(error) => return self.add_error(&full_name, &format!("cannot be read: {}", describe_io_error(&error))),
        };
        if file_type.is_dir() {
            if depth < MAX_LIST_DEPTH {
                return self.visit_folder(&entry.path(), &format!("{full_name}/"), depth + 1);
            }
            return self
                .add_warning(&full_name, &format!("lies more than {MAX_LIST_DEPTH} folders deep and is not searched"));
        }
        if (self.accepts)(&full_name) && !(file_type.is_symlink() && entry.path().is_dir()) {
            match self.listing.names.len() {
                count if count < MAX_LISTED_FILES => self.listing.names.push(full_name),
                _ if self.listing.diagnostics.iter().any(|(name, _)| name.is_empty()) => {}
                _ => self.add_error("", &format!("holds more than {MAX_LISTED_FILES} files; the others are ignored")),
            }
        } else if file_type.is_symlink() {
            match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() => {
                    self.add_warning(&full_name, "is a link to a folder, which orch does not follow");
                }
                Ok(_) => {}
                Err(error) => self.add_warning(&full_name, &describe_unreadable(&entry.path(), &error)),
            }
        }
    }

    fn add_error(&mut self, name: &str, reason: &str) {
        self.add_diagnostic(name, reason, Diagnostic::error);
    }

    fn add_warning(&mut self, name: &str, reason: &str) {
        self.add_diagnostic(name, reason, Diagnostic::warning);
    }

    fn add_diagnostic(&mut self, name: &str, reason: &str, new_diagnostic: impl Fn(Code, String) -> Diagnostic) {
        let segments: Vec<&str> = [self.display_path, name].into_iter().filter(|segment| !segment.is_empty()).collect();
        let display_path = if segments.is_empty() { ".".to_owned() } else { segments.join("/") };
        let diagnostic = new_diagnostic(Code::FileUnreadable, format!("`{display_path}` {reason}"))
            .with_file(&SourceFile::new(&display_path, ""));
        self.listing.diagnostics.push((name.to_owned(), diagnostic));
    }
}

/// Describes why orch can't read a folder or the target of a link, as the end of a sentence that begins with the path.
fn describe_unreadable(path: &Path, error: &std::io::Error) -> String {
    match (error.kind(), fs::read_link(path)) {
        (ErrorKind::PermissionDenied, _) => "cannot be read: no permission".to_owned(),
        (ErrorKind::NotADirectory, _) => "is not a folder".to_owned(),
        (ErrorKind::NotFound, Ok(target)) => format!("is a link to {}", describe_missing_target(&target)),
        (_, _) => format!("cannot be read: {}", describe_io_error(error)),
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
            assert!(resolve_in_folder(&prompts, name).is_err(), "{name}");
        }
        assert!(resolve_in_folder(&prompts, "sub/new.md").is_ok());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(folder.path().join("secret"), prompts.join("link.md")).unwrap();
            assert!(resolve_in_folder(&prompts, "link.md").unwrap_err().contains("link"));
        }
    }

    #[test]
    fn too_many_files_are_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..MAX_LISTED_FILES + 2 {
            fs::write(folder.path().join(format!("{number}.yaml")), "").unwrap();
        }
        fs::write(folder.path().join("other.md"), "").unwrap();
        let listing = list_folder(folder.path(), "pipelines", &|name| name.ends_with(".yaml"));
        assert_eq!(listing.names.len(), MAX_LISTED_FILES);
        let diagnostics: Vec<_> = listing
            .into_diagnostics()
            .into_iter()
            .map(|diagnostic| (diagnostic.is_error(), diagnostic.message))
            .collect();
        assert_eq!(diagnostics, [(true, "`pipelines` holds more than 10000 files; the others are ignored".to_owned())]);
    }

    #[test]
    fn messages_name_the_reason_that_a_file_is_unreadable() {
        let folder = tempfile::tempdir().unwrap();
        let path_of = |name: &str| folder.path().join(name);
        fs::write(path_of("latin"), b"caf\xe9").unwrap();
        fs::write(path_of("nul"), b"a\0b").unwrap();
        fs::write(path_of("big"), vec![b'x'; (4 << 20) + 1]).unwrap();
        fs::write(path_of("bom"), "\u{feff}x").unwrap();
        let message = |name: &str| read_file(&path_of(name), name).unwrap_err().message;
        assert_eq!(message("latin"), "`latin` is not UTF-8 text: see byte 3");
        assert_eq!(message("nul"), "`nul` is not a text file: it holds a NUL at byte 1");
        assert_eq!(message("big"), "`big` is larger than 4 MiB");
        assert_eq!(message("none"), "there is no file `none`");
        assert_eq!(message("latin/x"), "there is no file `latin/x`");
        assert_eq!(read_file(folder.path(), "dir").unwrap_err().message, "`dir` is a folder, not a file");
        assert_eq!(read_file(&path_of("bom"), "bom").unwrap().text, "x");
    }
}
