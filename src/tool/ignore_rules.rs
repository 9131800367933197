//! The patterns of excluded files in the folders of a workspace, as git reads them.

use std::io::Read as _;
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::files::Tree;
use crate::model::text::decode_output_lossy;

use super::job::join_path;
use super::missed_paths::MissedPaths;

/// The largest part of a file with patterns that orch reads, in bytes.
const MAX_IGNORE_BYTES: u64 = 128 << 10;
/// The maximum size of the patterns that apply to a folder, in bytes: those in the folder and in the folders above it.
/// The walk keeps all of them, and compiled patterns take about 200 times their size.
const MAX_RULE_BYTES: usize = 256 << 10;
/// The files with patterns of excluded files. The later ones take precedence.
const IGNORE_FILES: [&str; 2] = [".gitignore", ".ignore"];
/// The patterns of a repository that are not in a `.gitignore`.
const REPOSITORY_EXCLUDES: &str = ".git/info/exclude";

/// The patterns of excluded files in a folder, and those of the folders above it.
pub(super) struct IgnoreRules {
    parent: Option<Arc<IgnoreRules>>,
    folder: String,
    patterns: Gitignore,
    /// The size of these patterns and of those of the folders above, in bytes.
    bytes: usize,
}

impl IgnoreRules {
    /// Reads the patterns in a folder. Returns the rules of its parent if it has none. Adds the files whose patterns do
    /// not apply to `missed`.
    pub(super) fn for_folder(
        tree: &Tree,
        folder: &str,
        parent: Option<Arc<Self>>,
        missed: &mut MissedPaths,
    ) -> Option<Arc<Self>> {
        let in_folder = IGNORE_FILES.iter().map(|name| join_path(folder, name));
        let in_repository = folder.is_empty().then(|| REPOSITORY_EXCLUDES.to_owned());
        let mut bytes = parent.as_ref().map_or(0, |rules| rules.bytes);
        let mut builder = GitignoreBuilder::new("");
        let mut has_lines = false;
        for path in in_repository.into_iter().chain(in_folder) {
            let Some(text) = read_text(tree, &path, missed) else { continue };
            if bytes + text.len() > MAX_RULE_BYTES {
                let limit = MAX_RULE_BYTES >> 10;
                missed.add(format!("with `{path}`, more than {limit} KiB of patterns would apply to its folder"));
                continue;
            }
            bytes += text.len();
            for line in text.lines() {
                // Like git, ignore a pattern that is not valid.
                has_lines |= builder.add_line(None, line).is_ok();
            }
        }
        if !has_lines {
            return parent;
        }
        let Ok(patterns) = builder.build() else {
            let place = if folder.is_empty() { "the workspace".to_owned() } else { format!("`{folder}`") };
            missed.add(format!("the patterns in {place} are too complex"));
            return parent;
        };
        Some(Arc::new(Self { parent, folder: folder.to_owned(), patterns, bytes }))
    }

    /// Whether the patterns exclude a path. The patterns of the innermost folder take precedence.
    pub(super) fn exclude(&self, path: &str, is_folder: bool) -> bool {
        let mut level = Some(self);
        while let Some(rules) = level {
            let in_folder = path.strip_prefix(rules.folder.as_str()).unwrap_or(path).trim_start_matches('/');
            let matched = rules.patterns.matched(in_folder, is_folder);
            if !matched.is_none() {
                return matched.is_ignore();
            }
            level = rules.parent.as_deref();
        }
        false
    }
}

/// Reads the beginning of a small text file; `None` if there is no such file. Adds a file that is too long to `missed`.
fn read_text(tree: &Tree, path: &str, missed: &mut MissedPaths) -> Option<String> {
    let mut bytes = Vec::new();
    tree.open_file(path).ok()?.take(MAX_IGNORE_BYTES + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > MAX_IGNORE_BYTES {
        missed.add(format!("`{path}` has more than {} KiB", MAX_IGNORE_BYTES >> 10));
        // The beginning of a pattern may match other files than the pattern.
        let end = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or_default();
        bytes.truncate(end);
    }
    Some(decode_output_lossy(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_huge_list_of_ignored_files_only_whole_lines_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let limit = usize::try_from(MAX_IGNORE_BYTES).unwrap();
        let text = format!("{}\nkept-out-of-sight", "#".repeat(limit - 5));
        std::fs::write(folder.path().join(".gitignore"), text).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let mut missed = MissedPaths::default();
        let text = read_text(&tree, ".gitignore", &mut missed).unwrap();
        assert_eq!(text.len(), limit - 5, "the pattern `kept` is not in the file");
        assert_eq!(missed.reasons(), "`.gitignore` has more than 128 KiB");
    }

    #[test]
    fn the_patterns_that_apply_to_a_folder_have_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let comment = format!("# {}\n", "x".repeat(100 << 10));
        for (path, pattern) in [("", "*.a"), ("n", "*.b"), ("n/n", "*.c"), ("m", "*.d")] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join(".gitignore"), format!("{comment}{pattern}\n")).unwrap();
        }
        std::fs::write(folder.path().join("n/n/.ignore"), "*.e\n").unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let mut missed = MissedPaths::default();
        let root = IgnoreRules::for_folder(&tree, "", None, &mut missed);
        let outer = IgnoreRules::for_folder(&tree, "n", root.clone(), &mut missed);
        let beside = IgnoreRules::for_folder(&tree, "m", root, &mut missed);
        assert!(missed.is_empty() && beside.unwrap().exclude("m/x.d", false));
        let inner = IgnoreRules::for_folder(&tree, "n/n", outer, &mut missed).unwrap();
        let excluded = ["a", "b", "c", "e"].map(|extension| inner.exclude(&format!("n/n/x.{extension}"), false));
        assert_eq!(excluded, [true, true, false, true], "a file that fits in the limit still applies");
        let expected = "with `n/n/.gitignore`, more than 256 KiB of patterns would apply to its folder";
        assert_eq!(missed.reasons(), expected);
    }

    #[test]
    fn patterns_that_are_too_complex_do_not_apply() {
        let folder = tempfile::tempdir().unwrap();
        let nested = format!("{}x{}\n", "{a,b".repeat(100), "}".repeat(100));
        std::fs::write(folder.path().join(".gitignore"), nested).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let mut missed = MissedPaths::default();
        assert!(IgnoreRules::for_folder(&tree, "", None, &mut missed).is_none());
        assert_eq!(missed.reasons(), "the patterns in the workspace are too complex");
    }
}
