//! Replaces the folders of a run by placeholders, so that its recordings do not depend on where it ran.

use std::path::{Path, PathBuf};

/// The placeholder for the workspace.
const WORKSPACE: &str = "‹workspace›";
/// The placeholder for the project's folder.
const PROJECT: &str = "‹project›";
/// The placeholder for the folder of temporary files.
const TEMPORARY: &str = "‹temporary›";
/// The folder of temporary files of a run whose environment does not name one.
const DEFAULT_TEMPORARY: &str = "/tmp";

/// The absolute paths of the folders of a run.
#[derive(Clone, Debug, Default)]
pub struct RunPaths {
    /// The forms of each path that programs may print, longest first: a folder may be inside another one.
    patterns: Vec<(String, &'static str)>,
    /// The path of each placeholder.
    expansions: Vec<(&'static str, String)>,
}

impl RunPaths {
    /// The paths of a run. `temporary` is the folder that the environment names for temporary files.
    pub fn new(workspace: &Path, project: &Path, temporary: Option<PathBuf>) -> Self {
        let mut run_paths = Self::default();
        run_paths.add(WORKSPACE, workspace);
        run_paths.add(PROJECT, project);
        run_paths.add(TEMPORARY, &temporary.unwrap_or_default());
        // The sort is stable, so the workspace precedes the project if both are the same folder.
        run_paths.patterns.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        run_paths
    }

    /// Adds a folder. Ignores the root of the file system, which every path contains.
    fn add(&mut self, placeholder: &'static str, folder: &Path) {
        let path_text = |path: &Path| {
            let is_usable = path.is_absolute() && path.parent().is_some();
            is_usable.then(|| path.to_string_lossy().trim_end_matches('/').to_owned())
        };
        let Some(path) = path_text(folder) else { return };
        // Programs print the path that they were given, or the path without links.
        let resolved = folder.canonicalize().ok().and_then(|resolved| path_text(&resolved));
        self.patterns.extend(resolved.filter(|resolved| *resolved != path).map(|resolved| (resolved, placeholder)));
        self.patterns.push((path.clone(), placeholder));
        self.expansions.push((placeholder, path));
    }

    /// Replaces the paths in a text by their placeholders.
    pub(super) fn to_placeholders(&self, text: &str) -> String {
        let replace = |text: String, (path, placeholder): &(String, &str)| replace_path(&text, path, placeholder);
        self.patterns.iter().fold(text.to_owned(), replace)
    }

    /// Replaces the placeholders in a text by the paths of this run.
    pub(super) fn fill_placeholders(&self, text: &str) -> String {
        if !text.contains('‹') {
            return text.to_owned();
        }
        let replace = |text: String, (placeholder, path): &(&str, String)| text.replace(placeholder, path);
        self.expansions.iter().fold(text.to_owned(), replace).replace(TEMPORARY, DEFAULT_TEMPORARY)
    }
}

/// Replaces each occurrence of a path that is not the beginning of a longer name.
fn replace_path(text: &str, path: &str, placeholder: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for (start, found) in text.match_indices(path) {
        let continues_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        if text.get(start + found.len()..).is_some_and(|rest| rest.starts_with(continues_name)) {
            continue;
        }
        out.push_str(text.get(end..start).unwrap_or_default());
        out.push_str(placeholder);
        end = start + found.len();
    }
    out.push_str(text.get(end..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_replaced_by_placeholders_and_back() {
        let project = Path::new("/home/ana/project");
        let paths = RunPaths::new(&project.join("workspace"), project, Some("/scratch".into()));
        let text = "in /home/ana/project/workspace/a.py:3, /home/ana/project-2, /home/ana/project and /scratch/x";
        let portable = "in ‹workspace›/a.py:3, /home/ana/project-2, ‹project› and ‹temporary›/x";
        assert_eq!(paths.to_placeholders(text), portable);
        assert_eq!(paths.fill_placeholders(portable), text);
        let elsewhere = RunPaths::new(Path::new("/w"), Path::new("/p"), None);
        assert_eq!(
            elsewhere.fill_placeholders("‹workspace›/a ‹project› ‹temporary›/x ‹other›"),
            "/w/a /p /tmp/x ‹other›"
        );
        let same_folder = RunPaths::new(Path::new("/w"), Path::new("/w"), None);
        assert_eq!(same_folder.to_placeholders("/w/a"), "‹workspace›/a");
        let root = RunPaths::new(Path::new("/"), Path::new(""), None);
        assert_eq!(root.to_placeholders("/a"), "/a", "the root of the file system is in every path");
    }
}
