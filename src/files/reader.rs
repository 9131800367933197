//! Reads files and folders of a workspace on behalf of a model.
//!
//! A path may lead through symbolic links, but only to a place in the workspace. [`Tree::resolve`] returns the path
//! without links. The caller checks that path. The other methods then open it name by name and follow no link, so a
//! link that replaces a folder after the check is an error.

use std::fs::File;
use std::io;
use std::path::Component;

use cap_std::fs::Metadata;

use super::tree::{AccessError, Tree, metadata, name_of, open_file_in};

/// The maximum number of entries of a folder that orch reads.
const MAX_ENTRIES: usize = 100_000;

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// The name. Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// The kind.
    pub kind: FolderEntryKind,
    /// The size in bytes.
    pub size: u64,
}

/// The kind of an entry of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderEntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A pipe, a socket or a device.
    Other,
}

/// Why orch can't read a path.
#[derive(Debug, thiserror::Error)]
pub enum ReadPathError {
    /// There is no such file or folder.
    #[error("does not exist")]
    NotFound,
    /// Any other reason, as the rest of a sentence that begins with the path.
    #[error("{0}")]
    Refused(String),
}

impl From<AccessError> for ReadPathError {
    fn from(error: AccessError) -> Self {
        let is_missing = matches!(&error, AccessError::Io(_, source) if source.kind() == io::ErrorKind::NotFound);
        if is_missing { Self::NotFound } else { Self::Refused(error.to_string()) }
    }
}

impl Tree {
    /// Resolves the symbolic links in a path relative to the workspace; an empty path is the workspace.
    ///
    /// # Errors
    /// The path does not exist, or a link leads out of the workspace.
    pub fn resolve(&self, path: &str) -> Result<String, ReadPathError> {
        if path.is_empty() {
            return Ok(String::new());
        }
        let root = self.open_folder("")?.ok_or(ReadPathError::NotFound)?;
        let resolved = root.canonicalize(path).map_err(resolve_error)?;
        let mut names = Vec::new();
        for component in resolved.components() {
            if let Component::Normal(name) = component {
                let not_text = || ReadPathError::Refused("has a name that is not UTF-8".to_owned());
                names.push(name.to_str().ok_or_else(not_text)?);
            }
        }
        Ok(names.join("/"))
    }

    /// The kind of the entry at a path without links.
    ///
    /// # Errors
    /// The path does not exist, or leads through a link.
    pub fn entry_kind(&self, path: &str) -> Result<FolderEntryKind, ReadPathError> {
        if path.is_empty() {
            return Ok(FolderEntryKind::Folder);
        }
        let parent = self.open_parent(path)?.ok_or(ReadPathError::NotFound)?;
        metadata(&parent, name_of(path))?.map(|metadata| kind_of(&metadata)).ok_or(ReadPathError::NotFound)
    }

    /// Opens the regular file at a path without links.
    ///
    /// # Errors
    /// The path does not exist, leads through a link, or is not a regular file.
    pub fn open_file(&self, path: &str) -> Result<File, ReadPathError> {
        let parent = self.open_parent(path)?.ok_or(ReadPathError::NotFound)?;
        let (file, _) = open_file_in(&parent, name_of(path))?.ok_or(ReadPathError::NotFound)?;
        Ok(file.into_std())
    }

    /// The entries of the folder at a path without links, sorted by name.
    ///
    /// # Errors
    /// The path does not exist, leads through a link, is not a folder, or has too many entries.
    pub fn list_folder(&self, path: &str) -> Result<Vec<FolderEntry>, ReadPathError> {
        self.list_folder_until(path, &|| false)
    }

    /// Like [`Tree::list_folder`], but returns the entries so far as soon as `is_stopped` returns true: a folder may have
    /// many entries, on a slow disk.
    ///
    /// # Errors
    /// Those of [`Tree::list_folder`].
    pub fn list_folder_until(
        &self,
        path: &str,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Vec<FolderEntry>, ReadPathError> {
        let io_error = |error: io::Error| ReadPathError::Refused(format!("can't be listed: {error}"));
        let folder = self.open_folder(path)?.ok_or(ReadPathError::NotFound)?;
        let mut entries = Vec::new();
        for entry in folder.entries().map_err(io_error)? {
            if is_stopped() {
                break;
            }
            let entry = entry.map_err(io_error)?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Another process has removed the entry since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io_error(error)),
            };
            if entries.len() == MAX_ENTRIES {
                return Err(ReadPathError::Refused(format!("has more than {MAX_ENTRIES} entries")));
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(FolderEntry { name, kind: kind_of(&metadata), size: metadata.len() });
        }
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }
}

pub(super) fn kind_of(metadata: &Metadata) -> FolderEntryKind {
    match metadata.file_type() {
        kind if kind.is_symlink() => FolderEntryKind::Link,
        kind if kind.is_dir() => FolderEntryKind::Folder,
        kind if kind.is_file() => FolderEntryKind::File,
        _ => FolderEntryKind::Other,
    }
}

fn resolve_error(error: io::Error) -> ReadPathError {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, _) => ReadPathError::NotFound,
        // cap-std reports a path that leaves the folder in this way. An error of the system has a number.
        (io::ErrorKind::PermissionDenied, None) => {
            ReadPathError::Refused("leads out of the workspace through a symbolic link".to_owned())
        }
        _ => ReadPathError::Refused(format!("can't be read: {error}")),
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(tree: &Tree, path: &str) -> Result<String, String> {
        let mut text = String::new();
        let mut file = tree.open_file(path).map_err(|error| error.to_string())?;
        file.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn links_are_followed_only_in_the_workspace() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(folder.path().join("real")).unwrap();
        fs::write(folder.path().join("real/a"), "in").unwrap();
        fs::write(outside.path().join("a"), "out").unwrap();
        symlink("real", folder.path().join("inside")).unwrap();
        symlink(outside.path(), folder.path().join("outside")).unwrap();
        symlink("../..", folder.path().join("real/up")).unwrap();
        symlink("loop", folder.path().join("loop")).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        assert_eq!(tree.resolve("inside/a").unwrap(), "real/a");
        assert_eq!(tree.resolve("").unwrap(), "");
        for path in ["outside/a", "outside", "real/up", "inside/up/etc"] {
            let error = tree.resolve(path).unwrap_err().to_string();
            assert_eq!(error, "leads out of the workspace through a symbolic link", "{path}");
        }
        assert!(matches!(tree.resolve("real/missing"), Err(ReadPathError::NotFound)));
        assert!(matches!(tree.resolve("real/a/b"), Err(ReadPathError::NotFound)));
        assert!(tree.resolve("loop").is_err());
        assert_eq!(read(&tree, "real/a"), Ok("in".to_owned()));
        assert!(read(&tree, "inside/a").unwrap_err().contains("symbolic link"));
        assert!(read(&tree, "outside/a").unwrap_err().contains("symbolic link"));
        assert_eq!(read(&tree, "real").unwrap_err(), "is a folder, not a file");
    }

    #[test]
    fn a_link_that_replaces_a_folder_after_the_check_is_not_followed() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(folder.path().join("real")).unwrap();
        fs::write(folder.path().join("real/a"), "in").unwrap();
        fs::write(outside.path().join("a"), "out").unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let checked = tree.resolve("real/a").unwrap();
        fs::rename(folder.path().join("real"), folder.path().join("moved")).unwrap();
        symlink(outside.path(), folder.path().join("real")).unwrap();
        assert!(read(&tree, &checked).unwrap_err().contains("symbolic link"));
        assert!(tree.list_folder("real").unwrap_err().to_string().contains("symbolic link"));
    }

    #[test]
    fn a_folder_is_listed_with_kinds_and_sizes() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("c"), "123").unwrap();
        symlink("c", folder.path().join("a")).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let entries = tree.list_folder("").unwrap().into_iter().map(|entry| (entry.name, entry.kind));
        let entries: Vec<(String, FolderEntryKind)> = entries.collect();
        let expected = [("a", FolderEntryKind::Link), ("b", FolderEntryKind::Folder), ("c", FolderEntryKind::File)];
        assert_eq!(entries, expected.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(tree.list_folder("").unwrap()[2].size, 3);
        let remaining = std::cell::Cell::new(2_u32);
        let is_stopped = || remaining.replace(remaining.get().saturating_sub(1)) == 0;
        assert_eq!(tree.list_folder_until("", &is_stopped).unwrap().len(), 2);
        assert_eq!(tree.entry_kind("b").unwrap(), FolderEntryKind::Folder);
        assert!(tree.list_folder("c").is_err() && tree.list_folder("missing").is_err());
    }
}
