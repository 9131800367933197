//! Where file contents come from: the disk, or an editor that has the files open.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::files::{self, FolderListing};
use crate::diagnostic::{Diagnostic, SourceFile};

/// The files on the disk, some of them replaced by texts that an editor holds.
///
/// Records every path that is asked for: as long as none of these files changes, neither do results that were computed
/// from them.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    open: BTreeMap<PathBuf, Arc<str>>,
    asked: RefCell<BTreeSet<PathBuf>>,
}

impl Sources {
    /// Replaces a file by a text, also one that does not exist on the disk.
    pub fn put(&mut self, path: impl Into<PathBuf>, text: impl Into<Arc<str>>) {
        self.open.insert(path.into(), text.into());
    }

    /// Uses the file on the disk again.
    pub fn drop_text(&mut self, path: &Path) {
        self.open.remove(path);
    }

    /// Reads a text file. Messages call it `shown`.
    ///
    /// # Errors
    /// One diagnostic about the file as a whole.
    pub fn read(&self, path: &Path, shown: &str) -> Result<Arc<SourceFile>, Box<Diagnostic>> {
        self.ask(path);
        match self.text(path) {
            Some(text) => files::of_bytes(text.as_bytes().to_vec(), shown),
            None => files::read(path, shown),
        }
    }

    /// Whether something exists at a path, even if it can't be read.
    pub fn exists(&self, path: &Path) -> bool {
        self.ask(path);
        self.text(path).is_some() || files::exists(path)
    }

    /// Whether there is a file at a path.
    pub fn is_file(&self, path: &Path) -> bool {
        self.ask(path);
        self.text(path).is_some() || path.is_file()
    }

    /// The names of the files below a folder, with `/`, sorted.
    pub fn list(&self, folder: &Path) -> Vec<String> {
        self.look(folder, "").names
    }

    /// Like [`list`](Self::list), with the problems of what was skipped. Messages call the folder `shown`.
    pub fn look(&self, folder: &Path, shown: &str) -> FolderListing {
        let mut found = files::look(folder, shown, &|_| true);
        let names = &mut found.names;
        let open = self.open.keys().filter_map(|path| path.strip_prefix(folder).ok());
        names.extend(open.map(|name| name.to_string_lossy().replace('\\', "/")));
        names.sort();
        names.dedup();
        found
    }

    /// Every path that was asked for, whether or not a file exists there.
    pub fn asked(&self) -> BTreeSet<PathBuf> {
        self.asked.borrow().clone()
    }

    fn ask(&self, path: &Path) {
        self.asked.borrow_mut().insert(direct(path).into_owned());
    }

    fn text(&self, path: &Path) -> Option<&Arc<str>> {
        if self.open.is_empty() { None } else { self.open.get(direct(path).as_ref()) }
    }
}

/// The path without `..`: `pipelines/tests/../default.yaml` becomes `pipelines/default.yaml`.
fn direct(path: &Path) -> Cow<'_, Path> {
    if !path.components().any(|part| matches!(part, Component::ParentDir)) {
        return Cow::Borrowed(path);
    }
    let mut out = PathBuf::new();
    for part in path.components() {
        if !(matches!(part, Component::ParentDir) && out.file_name().is_some() && out.pop()) {
            out.push(part);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stands_for_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), "disk").unwrap();
        std::fs::write(at("b"), "disk").unwrap();
        let mut sources = Sources::default();
        sources.put(at("a"), "\u{feff}open");
        sources.put(at("new/c"), "open");
        assert_eq!(sources.read(&at("a"), "a").unwrap().text, "open");
        assert_eq!(sources.read(&at("b"), "b").unwrap().text, "disk");
        assert_eq!(sources.read(&at("x/../a"), "a").unwrap().text, "open");
        assert!(sources.is_file(&at("new/c")) && !sources.exists(&at("d")));
        assert_eq!(sources.list(folder.path()), ["a", "b", "new/c"]);
        assert_eq!(sources.asked().len(), 4);
        sources.drop_text(&at("a"));
        assert_eq!(sources.read(&at("a"), "a").unwrap().text, "disk");
        sources.put(at("a"), "x".repeat((4 << 20) + 1));
        assert!(sources.read(&at("a"), "a").is_err(), "an open text has the bounds of a file");
    }
}
