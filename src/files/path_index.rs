//! A list of paths with an index, by which orch compares a path with all of them at once.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::path::fold_path;
use super::tree::ancestors_of;

/// Paths of files and folders of a workspace, indexed by the form in which paths are compared.
#[derive(Clone, Debug, Default)]
pub struct PathIndex {
    paths: Arc<[String]>,
    /// The position of the first path with this folded form.
    positions: BTreeMap<String, usize>,
}

impl PathIndex {
    /// Indexes the paths.
    pub fn new(paths: impl Into<Arc<[String]>>) -> Self {
        let paths: Arc<[String]> = paths.into();
        let mut positions = BTreeMap::new();
        for (position, path) in paths.iter().enumerate() {
            positions.entry(fold_path(path)).or_insert(position);
        }
        Self { paths, positions }
    }

    /// The paths, in their order.
    pub fn paths(&self) -> &Arc<[String]> {
        &self.paths
    }

    /// The first path that is the same as the path with the folded form `key`, contains it, or lies in it. The time
    /// grows with the logarithm of the number of paths.
    pub(super) fn overlapping(&self, key: &str) -> Option<&str> {
        let containing = ancestors_of(key).chain([key]).filter_map(|path| self.positions.get(path));
        let folder = format!("{key}/");
        let from_folder: (Bound<&str>, Bound<&str>) = (Bound::Included(&folder), Bound::Unbounded);
        let inside = self.positions.range::<str, _>(from_folder).take_while(|(path, _)| path.starts_with(&folder));
        let first = containing.chain(inside.map(|(_, position)| position)).min()?;
        self.paths.get(*first).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_path_that_overlaps_is_found_in_any_spelling() {
        let index = PathIndex::new(["b/Plan.json", "a.md", "b", "b.md", "b/c", "A.md", "é"].map(str::to_owned));
        for (key, expected) in [
            ("a.md", Some("a.md")),
            ("a.md/x/y", Some("a.md")),
            ("b", Some("b/Plan.json")),
            ("b/plan.json", Some("b/Plan.json")),
            ("b/c", Some("b")),
            ("b/c/d", Some("b")),
            ("b/x", Some("b")),
            ("b.md", Some("b.md")),
            ("b.m", None),
            ("b.mdx", None),
            ("c", None),
            ("", None),
            (fold_path("E\u{301}").as_str(), Some("é")),
        ] {
            assert_eq!(index.overlapping(key), expected, "{key:?}");
        }
        assert_eq!(PathIndex::default().overlapping("a"), None);
    }
}
