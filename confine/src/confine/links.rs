//! Resolves the links in a path, also if the path does not exist.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The maximum number of links in a path. The kernel refuses a path with more links.
const MAX_LINKS: usize = 40;

/// A path without its links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedPath {
    /// The place to which the path leads. It may not exist: a program could create it later.
    pub target: PathBuf,
    /// The links on the way, each as a path without links.
    pub links: Vec<PathBuf>,
}

/// Resolves the links in an absolute path.
pub fn resolve_links(path: &Path) -> ResolvedPath {
    let mut target = PathBuf::new();
    let mut links = Vec::new();
    // The names that follow, in reverse order.
    let mut remaining = reversed_names(path);
    while let Some(name) = remaining.pop() {
        if name == "." {
            continue;
        }
        if name == ".." {
            target.pop();
            continue;
        }
        // The root of an absolute link replaces the whole path.
        let next = target.join(&name);
        match fs::read_link(&next) {
            Ok(leads_to) if links.len() < MAX_LINKS => {
                links.push(next);
                remaining.extend(reversed_names(&leads_to));
            }
            // It is no link, or does not exist.
            Ok(_) | Err(_) => target = next,
        }
    }
    ResolvedPath { target, links }
}

/// The parts of a path, the last one first. Each is a name, `/`, `.` or `..`.
fn reversed_names(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|component| component.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_resolved_up_to_a_place_that_may_not_exist() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir_all(root.join("real/sub")).unwrap();
        symlink("real", root.join("link")).unwrap();
        symlink("../missing/x", root.join("real/dangling")).unwrap();
        symlink(root.join("link/sub"), root.join("absolute")).unwrap();
        for (path, target, links) in [
            ("real/sub", "real/sub", &[] as &[&str]),
            ("link/sub/new/file", "real/sub/new/file", &["link"][..]),
            ("link/dangling", "missing/x", &["link", "real/dangling"][..]),
            ("absolute/file", "real/sub/file", &["absolute", "link"][..]),
            ("link/../real/./file", "real/file", &["link"][..]),
        ] {
            let links: Vec<PathBuf> = links.iter().map(|name| root.join(name)).collect();
            assert_eq!(resolve_links(&root.join(path)), ResolvedPath { target: root.join(target), links }, "{path}");
        }
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(resolve_links(&root.join("loop")).links.len(), MAX_LINKS);
    }
}
