//! The texts that the editor has open, and their names as it writes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use super::positions::{Encoding, LineIndex, Position};
use crate::config::Sources;

/// The largest text in which something is looked up; the largest file that is checked.
const MAX_TEXT: usize = 4 << 20;

/// The longest address of a file, in bytes: a path has 4096 bytes at most, and an escape three characters a byte.
const MAX_ADDRESS: usize = 16 << 10;

/// A text that is open.
#[derive(Debug)]
pub(super) struct OpenDocument {
    /// Its address, as the client writes it.
    pub(super) uri: String,
    /// The client's number of the text.
    pub(super) version: i32,
    /// The text.
    pub(super) text: Arc<str>,
    /// The text when it could be read as what it is for the last time.
    pub(super) good: Option<Arc<str>>,
}

/// One edit: what stands in a range, or everywhere, is replaced.
#[derive(Debug)]
pub(super) struct DocumentChange {
    pub(super) range: Option<(Position, Position)>,
    pub(super) text: String,
}

/// All texts that are open, by the paths of their files.
#[derive(Debug, Default)]
pub(super) struct Documents {
    open: BTreeMap<PathBuf, OpenDocument>,
}

/// The path of an address; `None` for what is no file, and for an address that no file has since it is too long.
pub(super) fn path_of(uri: &str) -> Option<PathBuf> {
    if uri.len() > MAX_ADDRESS {
        return None;
    }
    Url::parse(uri).ok().filter(|url| url.scheme() == "file")?.to_file_path().ok()
}

impl Documents {
    /// Takes over a text.
    pub(super) fn open(&mut self, path: PathBuf, uri: String, version: i32, text: String) {
        self.open.insert(path, OpenDocument { uri, version, text: text.into(), good: None });
    }

    /// Edits a text; later edits count from what earlier ones left.
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

    /// Lets go of a text: the file on the disk counts again.
    pub(super) fn close(&mut self, path: &Path) {
        self.open.remove(path);
    }

    /// The text of a file that is open, if it is not too large to look things up in.
    pub(super) fn get(&self, path: &Path) -> Option<&OpenDocument> {
        self.open.get(path).filter(|open| open.text.len() <= MAX_TEXT)
    }

    /// The number of an open text.
    pub(super) fn version(&self, path: &Path) -> Option<i32> {
        self.open.get(path).map(|open| open.version)
    }

    /// Notes that a text could be read as what it is.
    pub(super) fn is_good(&mut self, path: &Path) {
        if let Some(open) = self.open.get_mut(path) {
            open.good = Some(Arc::clone(&open.text));
        }
    }

    /// The files that are open.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.open.keys().map(PathBuf::as_path)
    }

    /// The files of the disk with the open texts over them.
    pub(super) fn sources(&self) -> Sources {
        let mut sources = Sources::default();
        for (path, open) in &self.open {
            sources.put(path, Arc::clone(&open.text));
        }
        sources
    }

    /// The address of a file: as the client wrote it, if it did.
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
