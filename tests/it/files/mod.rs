//! Writes files of an artifact into a workspace, with real folders, links, full disks, races and git.
#![cfg(unix)]

mod changes;
mod faults;
mod hostile_paths;
mod patches;
mod replaced;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use orch::files::{ChangeSet, FileEntry, ReservedFiles, Tree, parse_entries};

/// All entries of a folder by path: kind, mode, and bytes or link target.
pub(super) type Snapshot = BTreeMap<PathBuf, (String, u32, Vec<u8>)>;

pub(super) fn snapshot(folder: &Path) -> Snapshot {
    fn walk(folder: &Path, base: &Path, out: &mut Snapshot) {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let bytes = if meta.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if meta.is_file() {
                fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            let name = path.strip_prefix(base).unwrap().to_owned();
            out.insert(name, (format!("{:?}", meta.file_type()), meta.permissions().mode(), bytes));
            if meta.is_dir() {
                walk(&path, base, out);
            }
        }
    }
    let mut out = Snapshot::new();
    walk(folder, folder, &mut out);
    out
}

/// A workspace, beside files outside of it that nothing may change.
pub(super) struct Site {
    pub(super) base: tempfile::TempDir,
}

impl Site {
    pub(super) fn new() -> Self {
        let site = Self { base: tempfile::tempdir().unwrap() };
        fs::create_dir_all(site.outside()).unwrap();
        fs::create_dir(site.workspace()).unwrap();
        fs::write(site.outside().join("file"), "sentinel").unwrap();
        site
    }

    pub(super) fn workspace(&self) -> PathBuf {
        self.base.path().join("workspace")
    }

    pub(super) fn outside(&self) -> PathBuf {
        self.base.path().join("sentinel")
    }

    pub(super) fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.workspace().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(super) fn bytes(&self, path: &str) -> Vec<u8> {
        fs::read(self.workspace().join(path)).unwrap()
    }

    pub(super) fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.workspace().join(path)).unwrap().permissions().mode() & 0o7777
    }

    pub(super) fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(self.workspace().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        snapshot(&self.workspace())
    }

    pub(super) fn tree(&self) -> Tree {
        Tree::open(&self.workspace()).unwrap()
    }

    pub(super) fn look(&self, list: &serde_json::Value) -> ChangeSet {
        self.tree().prepare(&parse_entries(list).unwrap(), ReservedFiles::default()).unwrap()
    }
}

pub(super) fn write(path: &str, content: &str) -> FileEntry {
    FileEntry { path: path.to_owned(), content: Some(content.to_owned()), mode: None }
}
