//! The folders that can contain paths which a pattern of a grant matches.

use regex::bytes::Regex;

use super::tool_grant::{compile_glob, split_pattern};

/// The folders that can contain a path which a [`PathPattern`](super::PathPattern) matches.
#[derive(Clone, Debug)]
pub struct FolderPattern {
    /// The names of the pattern; `None` if the path can be in any folder.
    names: Option<Vec<NamePattern>>,
}

/// One name of a pattern.
#[derive(Clone, Debug)]
enum NamePattern {
    /// `**`: any folders.
    AnyFolders,
    Name(Regex),
}

impl FolderPattern {
    /// The folders of a valid pattern of paths. If a part in braces or brackets extends over several names, every folder
    /// counts.
    pub fn new(pattern: &str) -> Self {
        let (is_anchored, relative) = split_pattern(pattern);
        let parse = |name: &str| match name {
            "**" => Some(NamePattern::AnyFolders),
            name => compile_glob(name).ok().map(NamePattern::Name),
        };
        let names = if is_anchored { relative.split('/').map(parse).collect() } else { None };
        Self { names }
    }

    /// Whether a path in the folder can match the pattern. A folder that matches the pattern itself does not count.
    pub fn may_contain_match(&self, folder: &str) -> bool {
        let Some(names) = &self.names else { return true };
        let mut patterns = names.iter();
        for name in folder.split('/').filter(|name| !name.is_empty()) {
            match patterns.next() {
                Some(NamePattern::AnyFolders) => return true,
                Some(NamePattern::Name(pattern)) if pattern.is_match(name.as_bytes()) => {}
                Some(NamePattern::Name(_)) | None => return false,
            }
        }
        patterns.next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_folders_on_the_way_to_a_match_can_contain_one() {
        let cases: [(&str, &[&str], &[&str]); 8] = [
            ("src/**", &["", "src", "src/a", "src/a/b"], &["o", "srcs", "o/src"]),
            ("/docs/*/b.md", &["docs", "docs/a"], &["docs/a/c", "docs/a/b.md/c", "a"]),
            ("./a/**/b/*.rs", &["a", "a/x", "a/x/b"], &["b", "x/b"]),
            ("{a,b}/c*/d", &["a", "b", "b/cc"], &["c", "a/d", "ab"]),
            ("*.md", &["a", "a/b"], &[]),
            ("docs", &["a", "a/b"], &[]),
            ("/docs", &[""], &["a", "docs"]),
            ("{a/b,c}/d", &["a", "x"], &[]),
        ];
        for (pattern, folders, others) in cases {
            let folder_pattern = FolderPattern::new(pattern);
            for folder in folders {
                assert!(folder_pattern.may_contain_match(folder), "{pattern} {folder}");
            }
            for folder in others {
                assert!(!folder_pattern.may_contain_match(folder), "{pattern} {folder}");
            }
        }
    }
}
