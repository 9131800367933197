//! The records of changes to files: plain data that journals store permanently.
//!
//! A [`ChangeSet`] contains all data to apply, show and revert it, so none of these needs the artifact or an earlier
//! state of the disk. New fields must have defaults, so that orch can still read older records.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::model::Digest;

use super::entry::MAX_MODE;

/// The bytes of a file. JSON contains them as text if they are UTF-8, else as Base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "ContentJson", try_from = "ContentJson")]
pub struct Content(Vec<u8>);

/// The JSON form of [`Content`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ContentJson {
    Text(String),
    Base64(String),
}

impl Content {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, when the bytes are UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> Digest {
        Digest::compute(&self.0)
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<Content> for ContentJson {
    fn from(content: Content) -> Self {
        match String::from_utf8(content.0) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Base64(STANDARD.encode(error.as_bytes())),
        }
    }
}

impl TryFrom<ContentJson> for Content {
    type Error = base64::DecodeError;

    fn try_from(json: ContentJson) -> Result<Self, Self::Error> {
        Ok(Self(match json {
            ContentJson::Text(text) => text.into_bytes(),
            ContentJson::Base64(text) => STANDARD.decode(text)?,
        }))
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} bytes, {})", self.0.len(), self.digest().short())
    }
}

/// The state of a file: its bytes and its mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// The bytes.
    pub content: Content,
    /// The permission bits. `None` on a system without permission bits, and for a new file with the system's default.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "octal")]
    pub mode: Option<u32>,
}

impl FileState {
    /// The state that orch can write: this state without mode bits that grant privileges.
    pub(super) fn writable(&self) -> FileState {
        FileState { content: self.content.clone(), mode: self.mode.map(|mode| mode & MAX_MODE) }
    }

    /// Whether the mode has bits that grant privileges, such as setuid.
    pub(crate) fn has_privilege_bits(&self) -> bool {
        self.mode.is_some_and(|mode| mode & !MAX_MODE != 0)
    }

    /// Whether a file on disk has this state. A state without a mode matches every mode.
    pub(super) fn matches(&self, current: &FileState) -> bool {
        self.content == current.content && (self.mode.is_none() || current.mode.is_none() || self.mode == current.mode)
    }
}

/// Whether a file on disk has the expected state. `None` is the state of an absent file.
pub(super) fn states_match(current: Option<&FileState>, expected: Option<&FileState>) -> bool {
    match (current, expected) {
        (None, None) => true,
        (Some(current), Some(expected)) => expected.matches(current),
        _ => false,
    }
}

/// Describes how a file on disk differs from the expected state: `was deleted`.
pub(super) fn describe_difference(current: Option<&FileState>, expected: Option<&FileState>) -> String {
    match (current, expected) {
        (None, _) => "was deleted".to_owned(),
        (Some(_), None) => "was created by the user or another process".to_owned(),
        (Some(current), Some(expected)) if current.content != expected.content => "was edited".to_owned(),
        (Some(current), Some(_)) => match current.mode {
            Some(mode) => format!("got the mode {}", super::format_mode(mode)),
            None => "got another mode".to_owned(),
        },
    }
}

/// The change of a file: its states before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// The path relative to the workspace, with `/`.
    pub path: String,
    /// The file before; `None` if it was absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<FileState>,
    /// The file after; `None` if it should be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<FileState>,
}

impl FileChange {
    /// The kind of the change.
    pub fn kind(&self) -> ChangeKind {
        match (&self.before, &self.after) {
            (before, after) if states_match(before.as_ref(), after.as_ref()) => ChangeKind::Unchanged,
            (None, _) => ChangeKind::Created,
            (Some(_), None) => ChangeKind::Deleted,
            (Some(_), Some(_)) => ChangeKind::Changed,
        }
    }
}

/// The kind of a change to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The file is new.
    Created,
    /// The file has other bytes or another mode.
    Changed,
    /// The file is deleted.
    Deleted,
    /// The file does not change.
    Unchanged,
}

/// A set of file changes: for each file, the state on disk and the state to write. Applying it a second time changes
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSet {
    /// The files, in the order of the artifact.
    #[serde(default)]
    pub files: Vec<FileChange>,
    /// Folders that did not exist before, parents first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_folders: Vec<String>,
}

/// Merges change sets that were applied one after another. Each file has its state before the first change and its
/// state after the last change.
pub fn merge_change_sets(change_sets: &[ChangeSet]) -> ChangeSet {
    let mut files: IndexMap<&str, FileChange> = IndexMap::new();
    let mut new_folders: Vec<String> = Vec::new();
    for change_set in change_sets {
        for change in &change_set.files {
            match files.get_mut(change.path.as_str()) {
                Some(first) => first.after.clone_from(&change.after),
                None => drop(files.insert(&change.path, change.clone())),
            }
        }
        new_folders.extend(change_set.new_folders.iter().cloned());
    }
    ChangeSet { files: files.into_values().collect(), new_folders }
}

/// The result of applying a [`ChangeSet`], without the contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyReport {
    /// The files, in the order of the artifact. Applying the change set again returns the same list.
    #[serde(default)]
    pub files: Vec<AppliedFile>,
    /// How many files were written or deleted; the others already had the new state.
    #[serde(default)]
    pub touched: usize,
}

/// The applied change of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedFile {
    /// The path relative to the workspace.
    pub path: String,
    /// The kind of the change.
    pub change: ChangeKind,
    /// The digest of the bytes before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Digest>,
    /// The digest of the bytes after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Digest>,
    /// Lines added; 0 where the bytes are not text.
    #[serde(default)]
    pub added: usize,
    /// Lines removed; 0 where the bytes are not text.
    #[serde(default)]
    pub removed: usize,
}

/// The result of reverting a [`ChangeSet`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevertReport {
    /// The files, in the order of the artifact.
    #[serde(default)]
    pub files: Vec<RevertedFile>,
}

/// The outcome for one file of a reverted change set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevertedFile {
    /// The path relative to the workspace.
    pub path: String,
    /// The outcome.
    pub outcome: RevertOutcome,
    /// Why orch skipped the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The outcome of reverting a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevertOutcome {
    /// orch restored the state before the change.
    Reverted,
    /// The file already had the state before the change.
    Unchanged,
    /// orch did not revert the file, for example because it was edited since.
    Skipped,
}

/// Writes modes as octal strings: `"0644"`.
mod octal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde requires this signature")]
    pub(super) fn serialize<S: Serializer>(mode: &Option<u32>, serializer: S) -> Result<S::Ok, S::Error> {
        match mode {
            Some(mode) => serializer.serialize_str(&crate::files::format_mode(*mode)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| u32::from_str_radix(&text, 8).map_err(|_| D::Error::custom("a mode is an octal string")))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_json_as_text_or_base64() {
        for bytes in [&b""[..], b"a\r\nb", "\u{0}ü".as_bytes(), &[0xff, 0xfe, 0]] {
            let content = Content::from(bytes.to_vec());
            let json = serde_json::to_string(&content).unwrap();
            assert_eq!(json.contains("base64"), std::str::from_utf8(bytes).is_err(), "{json}");
            assert_eq!(serde_json::from_str::<Content>(&json).unwrap(), content);
        }
    }

    #[test]
    fn records_without_optional_fields_are_parsed() {
        let change_set: ChangeSet =
            serde_json::from_str(r#"{"files":[{"path":"a","after":{"content":{"text":"x"}}}]}"#).unwrap();
        assert_eq!(change_set.files[0].kind(), ChangeKind::Created);
        assert_eq!(change_set.new_folders, Vec::<String>::new());
        let applied: AppliedFile = serde_json::from_str(r#"{"path":"a","change":"created"}"#).unwrap();
        assert_eq!((applied.added, applied.before), (0, None));
    }

    #[test]
    fn modes_are_written_in_octal() {
        let state = FileState { content: Content::from(vec![]), mode: Some(0o755) };
        let json = serde_json::to_string(&state).unwrap();
        assert_eq!(json, r#"{"content":{"text":""},"mode":"0755"}"#);
        assert_eq!(serde_json::from_str::<FileState>(&json).unwrap(), state);
    }
}
