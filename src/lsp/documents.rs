//! Stores the texts that the editor has open, each with its URI as the editor spells it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use super::positions::{Encoding, LineIndex, Position};
use crate::config::Sources;

/// The largest text in which the server looks things up, in bytes. Files to be checked have the same limit.
const MAX_TEXT: usize = 4 << 20;

/// The longest file URI, in bytes: a path has at most 4096 bytes, and an escape takes three characters per byte.
const MAX_ADDRESS: usize = 16 << 10;

/// An open text.
#[derive(Debug)]
pub(super) struct OpenDocument {
    /// Its URI, as the client spells it.
    pub(super) uri: String,
    /// The version number that the client gave the text.
    pub(super) version: i32,
    /// The text.
    pub(super) text: Arc<str>,
    /// The last version of the text that could be loaded as a pipeline.
    pub(super) good: Option<Arc<str>>,
}

/// One edit: replaces a range, or the whole text when there is no range.
#[derive(Debug)]
pub(super) struct DocumentChange {
    pub(super) range: Option<(Position, Position)>,
    pub(super) text: String,
}

/// All open texts, by the paths of their files.
#[derive(Debug, Default)]
pub(super) struct Documents {
    open: BTreeMap<PathBuf, OpenDocument>,
}

/// The path of a URI; `None` if the URI does not name a file or is too long to do so.
pub(super) fn path_of(uri: &str) -> Option<PathBuf> {
    if uri.len() > MAX_ADDRESS {
        return None;
    }
    Url::parse(uri).ok().filter(|url| url.scheme() == "file")?.to_file_path().ok()
}

impl Documents {
    /// Stores a newly opened text.
    pub(super) fn open(&mut self, path: PathBuf, uri: String, version: i32, text: String) {
        self.open.insert(path, OpenDocument { uri, version, text: text.into(), good: None });
    }

    /// Applies edits to a text. Each range refers to the text after the edits before it.
    pub(super) fn change(&mut self, path: &Path, version: i32, changes: Vec<DocumentChange>, encoding: Encoding) {
        let Some(document) = self.open.get_mut(path) else { return };
        let mut text = document.text.to_string();
        for change in changes {
            match change.range {
                None => text = change.text,
                Some((start, end)) => {
                    let lines = LineIndex::new(&text, encoding);
                    let (start, end) = (lines.offset(start), lines.offset(end));
                    text.replace_range(start..end.max(start), &change.text);
                }
            }
        }
        document.text = text.into();
        document.version = version;
    }

    /// Forgets a text, so that the file on the disk counts again.
    pub(super) fn close(&mut self, path: &Path) {
        self.open.remove(path);
    }

    /// The open text of a file, unless it is too large to look things up in.
    pub(super) fn get(&self, path: &Path) -> Option<&OpenDocument> {
        self.open.get(path).filter(|open| open.text.len() <= MAX_TEXT)
    }

    /// The version number of an open text.
    pub(super) fn version(&self, path: &Path) -> Option<i32> {
        self.open.get(path).map(|open| open.version)
    }

    /// Records that the current text can be loaded as a pipeline.
    pub(super) fn is_good(&mut self, path: &Path) {
        if let Some(open) = self.open.get_mut(path) {
            open.good = Some(Arc::clone(&open.text));
        }
    }

    /// The paths of the open files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.open.keys().map(PathBuf::as_path)
    }

    /// The files on the disk, overlaid with the open texts.
    pub(super) fn sources(&self) -> Sources {
        let mut sources = Sources::default();
        for (path, open) in &self.open {
            sources.put(path, Arc::clone(&open.text));
        }
        sources
    }

    /// The URI of a file. For an open file this is the client's own spelling.
    pub(super) fn uri(&self, path: &Path) -> Option<String> {
        match self.open.get(path) {
            Some(open) => Some(open.uri.clone()),
            None => Url::from_file_path(path).ok().map(String::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn addresses_are_paths_with_escapes() {
        let path = PathBuf::from("/a b/ü.yaml");
        assert_eq!(path_of("file:///a%20b/%C3%BC.yaml"), Some(path.clone()));
        let mut documents = Documents::default();
        assert_eq!(documents.uri(&path).as_deref(), Some("file:///a%20b/%C3%BC.yaml"));
        documents.open(path.clone(), "file:///a%20b/%c3%bc.yaml".into(), 1, String::new());
        assert_eq!(documents.uri(&path).as_deref(), Some("file:///a%20b/%c3%bc.yaml"));
        assert_eq!((path_of("untitled:Untitled-1"), path_of("x")), (None, None));
        assert_eq!(path_of(&format!("file://{}", "/a".repeat(20_000))), None);
    }

    #[test]
    fn edits_count_from_what_earlier_ones_left() {
        let mut documents = Documents::default();
        let path = Path::new("a");
        documents.open(path.into(), "file:///a".into(), 1, "🦀x\nb".into());
        let at = |line, character| Position { line, character };
        let edit = |start, end, text: &str| DocumentChange { range: Some((start, end)), text: text.into() };
        let changes =
            vec![edit(at(0, 2), at(0, 3), "yy"), edit(at(0, 4), at(1, 0), "-"), edit(at(9, 9), at(9, 9), "!")];
        documents.change(path, 2, changes, Encoding::Utf16);
        assert_eq!(documents.get(path).map(|open| (&*open.text, open.version)), Some(("🦀yy-b!", 2)));
    }
}
