//! Stores the documents that the editor has open, each with its URI as the editor spells it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use super::positions::{Encoding, LineIndex, Position};
use crate::config::{EnvAddresses, Sources};

/// The maximum length of a text for which the server handles requests, in bytes. The check has the same limit.
const MAX_TEXT_BYTES: usize = 4 << 20;

/// The maximum length of a file URI, in bytes: a path has at most 4096 bytes, and an escape takes three characters per
/// byte.
const MAX_URI_BYTES: usize = 16 << 10;

/// An open document.
#[derive(Debug)]
pub(super) struct OpenDocument {
    /// Its URI, as the client spells it.
    pub(super) uri: String,
    /// The version number that the client assigned to the text.
    pub(super) version: i32,
    /// The text.
    pub(super) text: Arc<str>,
    /// The last version of the text that is a valid pipeline.
    pub(super) last_valid_text: Option<Arc<str>>,
}

/// One edit: replaces a range, or the entire text if there is no range.
#[derive(Debug)]
pub(super) struct DocumentChange {
    pub(super) range: Option<(Position, Position)>,
    pub(super) text: String,
}

/// All open documents, by the paths of their files.
#[derive(Debug, Default)]
pub(super) struct Documents {
    open_documents: BTreeMap<PathBuf, OpenDocument>,
    /// The addresses of providers in environment variables.
    env_addresses: Arc<EnvAddresses>,
}

/// Converts a URI to a path; returns `None` if the URI does not name a file or is too long.
pub(super) fn uri_to_path(uri: &str) -> Option<PathBuf> {
    if uri.len() > MAX_URI_BYTES {
        return None;
    }
    Url::parse(uri).ok().filter(|url| url.scheme() == "file")?.to_file_path().ok()
}

impl Documents {
    /// Sets the addresses of providers in environment variables.
    pub(super) fn set_env_addresses(&mut self, env_addresses: Arc<EnvAddresses>) {
        self.env_addresses = env_addresses;
    }

    /// Stores a newly opened document.
    pub(super) fn open(&mut self, path: PathBuf, uri: String, version: i32, text: String) {
        self.open_documents.insert(path, OpenDocument { uri, version, text: text.into(), last_valid_text: None });
    }

    /// Applies edits to a document. Each range refers to the text after the previous edits.
    pub(super) fn apply_changes(
        &mut self,
        path: &Path,
        version: i32,
        changes: Vec<DocumentChange>,
        encoding: Encoding,
    ) {
        let Some(document) = self.open_documents.get_mut(path) else { return };
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

    /// Removes a document, so that the server uses the file on the disk again.
    pub(super) fn close(&mut self, path: &Path) {
        self.open_documents.remove(path);
    }

    /// Returns the open document of a file, unless its text is too large for requests.
    pub(super) fn get(&self, path: &Path) -> Option<&OpenDocument> {
        self.open_documents.get(path).filter(|document| document.text.len() <= MAX_TEXT_BYTES)
    }

    /// Returns the version number of an open document.
    pub(super) fn version(&self, path: &Path) -> Option<i32> {
        self.open_documents.get(path).map(|document| document.version)
    }

    /// Records that the current text is a valid pipeline.
    pub(super) fn mark_valid(&mut self, path: &Path) {
        if let Some(document) = self.open_documents.get_mut(path) {
            document.last_valid_text = Some(Arc::clone(&document.text));
        }
    }

    /// Returns the paths of the open documents.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.open_documents.keys().map(PathBuf::as_path)
    }

    /// Returns the files on the disk, with the texts of the open documents in place of theirs.
    pub(super) fn sources(&self) -> Sources {
        let mut sources = Sources::default().with_env_addresses(Arc::clone(&self.env_addresses));
        for (path, document) in &self.open_documents {
            sources.put(path, Arc::clone(&document.text));
        }
        sources
    }

    /// Returns the URI of a file. For an open document, this is the client's own spelling.
    pub(super) fn uri(&self, path: &Path) -> Option<String> {
        match self.open_documents.get(path) {
            Some(document) => Some(document.uri.clone()),
            None => Url::from_file_path(path).ok().map(String::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn uris_are_converted_to_paths_and_back() {
        let path = PathBuf::from("/a b/ü.yaml");
        assert_eq!(uri_to_path("file:///a%20b/%C3%BC.yaml"), Some(path.clone()));
        let mut documents = Documents::default();
        assert_eq!(documents.uri(&path).as_deref(), Some("file:///a%20b/%C3%BC.yaml"));
        documents.open(path.clone(), "file:///a%20b/%c3%bc.yaml".into(), 1, String::new());
        assert_eq!(documents.uri(&path).as_deref(), Some("file:///a%20b/%c3%bc.yaml"));
        assert_eq!((uri_to_path("untitled:Untitled-1"), uri_to_path("x")), (None, None));
        assert_eq!(uri_to_path(&format!("file://{}", "/a".repeat(20_000))), None);
    }

    #[test]
    fn the_range_of_an_edit_refers_to_the_result_of_earlier_edits() {
        let mut documents = Documents::default();
        let path = Path::new("a");
        documents.open(path.into(), "file:///a".into(), 1, "🦀x\nb".into());
        let position = |line, character| Position { line, character };
        let edit = |start, end, text: &str| DocumentChange { range: Some((start, end)), text: text.into() };
        let changes = vec![
            edit(position(0, 2), position(0, 3), "yy"),
            edit(position(0, 4), position(1, 0), "-"),
            edit(position(9, 9), position(9, 9), "!"),
        ];
        documents.apply_changes(path, 2, changes, Encoding::Utf16);
        assert_eq!(documents.get(path).map(|document| (&*document.text, document.version)), Some(("🦀yy-b!", 2)));
    }
}
