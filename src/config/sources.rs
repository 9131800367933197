//! The source of file contents: the disk, an editor that has the files open, or a bundle.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::api_server::EnvAddresses;
use super::files::{self, FolderListing};
use crate::diagnostic::{Code, Diagnostic, SourceFile};
use crate::model::SETTINGS_PLACEHOLDER;

/// The files on the disk, with texts from an editor in place of some of them.
///
/// Records every path that the loader accesses. As long as none of these files changes, results computed from them stay
/// valid.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    open_texts: BTreeMap<PathBuf, Arc<str>>,
    env_addresses: Arc<EnvAddresses>,
    /// Whether there are no files but `open_texts`.
    ignores_disk: bool,
    accessed_paths: RefCell<BTreeSet<PathBuf>>,
}

impl Sources {
    /// Sources without any file on the disk, to which [`put`](Self::put) adds all files.
    pub(super) fn without_disk() -> Self {
        Self { ignores_disk: true, ..Self::default() }
    }

    /// Sets the addresses of providers in environment variables, from which `check` determines the dialect of a
    /// provider.
    #[must_use]
    pub fn with_env_addresses(mut self, env_addresses: impl Into<Arc<EnvAddresses>>) -> Self {
        self.env_addresses = env_addresses.into();
        self
    }

    /// The addresses of providers in environment variables.
    pub fn env_addresses(&self) -> Arc<EnvAddresses> {
        Arc::clone(&self.env_addresses)
    }

    /// Replaces a file by a text. The file need not exist on the disk.
    pub fn put(&mut self, path: impl Into<PathBuf>, text: impl Into<Arc<str>>) {
        self.open_texts.insert(path.into(), text.into());
    }

    /// Uses the file on the disk again.
    pub fn remove_text(&mut self, path: &Path) {
        self.open_texts.remove(path);
    }

    /// Reads a text file. Messages name it by `display_path`.
    ///
    /// # Errors
    /// One diagnostic about the file as a whole.
    pub fn read(&self, path: &Path, display_path: &str) -> Result<Arc<SourceFile>, Box<Diagnostic>> {
        self.record_access(path);
        match self.open_text(path) {
            Some(text) => files::source_file_from_bytes(text.as_bytes().to_vec(), display_path),
            None if self.ignores_disk => {
                let message = format!("there is no file `{display_path}`");
                let file = SourceFile::new(display_path, "");
                Err(Box::new(Diagnostic::error(Code::FileNotFound, message).with_file(&file)))
            }
            None => files::read_file(path, display_path),
        }
    }

    /// Whether something exists at a path, even if it can't be read.
    pub fn exists(&self, path: &Path) -> bool {
        self.record_access(path);
        self.open_text(path).is_some() || (!self.ignores_disk && files::exists(path))
    }

    /// Whether a settings file exists at a path. The placeholder that orch creates while a confined program runs does not
    /// count.
    pub fn is_settings_file(&self, path: &Path) -> bool {
        self.record_access(path);
        match self.open_text(path) {
            Some(text) => **text != *SETTINGS_PLACEHOLDER,
            None => !self.ignores_disk && path.is_file() && !files::is_settings_placeholder(path),
        }
    }

    /// The names of the files below a folder, separated by `/` and sorted.
    pub fn list_files(&self, folder: &Path) -> Vec<String> {
        self.list_folder(folder, "").names
    }

    /// Like [`list_files`](Self::list_files), with a diagnostic for each skipped entry. Messages name the folder by
    /// `display_path`.
    pub fn list_folder(&self, folder: &Path, display_path: &str) -> FolderListing {
        let mut listing = if self.ignores_disk {
            FolderListing::default()
        } else {
            files::list_folder(folder, display_path, &|_| true)
        };
        let names = &mut listing.names;
        let open_names = self.open_texts.keys().filter_map(|path| path.strip_prefix(folder).ok());
        names.extend(open_names.map(|name| name.to_string_lossy().replace('\\', "/")));
        names.sort();
        names.dedup();
        listing
    }

    /// Every path that the loader has accessed, whether or not a file exists there.
    pub fn accessed_paths(&self) -> BTreeSet<PathBuf> {
        self.accessed_paths.borrow().clone()
    }

    fn record_access(&self, path: &Path) {
        self.accessed_paths.borrow_mut().insert(without_parent_dirs(path).into_owned());
    }

    fn open_text(&self, path: &Path) -> Option<&Arc<str>> {
        if self.open_texts.is_empty() { None } else { self.open_texts.get(without_parent_dirs(path).as_ref()) }
    }
}

/// Resolves `..` in a path: `pipelines/tests/../default.yaml` becomes `pipelines/default.yaml`.
fn without_parent_dirs(path: &Path) -> Cow<'_, Path> {
    if !path.components().any(|component| matches!(component, Component::ParentDir)) {
        return Cow::Borrowed(path);
    }
    let mut normalized = PathBuf::new();
    for component in path.components() {
        if !(matches!(component, Component::ParentDir) && normalized.file_name().is_some() && normalized.pop()) {
            normalized.push(component);
        }
    }
    Cow::Owned(normalized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_text_replaces_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path_of = |name: &str| folder.path().join(name);
        std::fs::write(path_of("a"), "disk").unwrap();
        std::fs::write(path_of("b"), "disk").unwrap();
        let mut sources = Sources::default();
        sources.put(path_of("a"), "\u{feff}open");
        sources.put(path_of("new/c"), "open");
        assert_eq!(sources.read(&path_of("a"), "a").unwrap().text, "open");
        assert_eq!(sources.read(&path_of("b"), "b").unwrap().text, "disk");
        assert_eq!(sources.read(&path_of("x/../a"), "a").unwrap().text, "open");
        assert!(sources.is_settings_file(&path_of("new/c")) && !sources.exists(&path_of("d")));
        assert_eq!(sources.list_files(folder.path()), ["a", "b", "new/c"]);
        assert_eq!(sources.accessed_paths().len(), 4);
        sources.put(path_of("new/c"), SETTINGS_PLACEHOLDER);
        assert!(!sources.is_settings_file(&path_of("new/c")));
        sources.remove_text(&path_of("a"));
        assert_eq!(sources.read(&path_of("a"), "a").unwrap().text, "disk");
        sources.put(path_of("a"), "x".repeat((4 << 20) + 1));
        assert!(sources.read(&path_of("a"), "a").is_err(), "the size limit applies to open texts too");
    }
}
