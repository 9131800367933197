//! What is recorded of a change to files: plain data that a journal keeps for years.
//!
//! A [`Look`] holds everything that applying, showing and taking back needs, so that none of them
//! depends on the artifact or on the disk of the day. New fields come with defaults.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::model::Digest;

use super::entry::MOST_MODE;

/// The bytes of a file; text in JSON where they are text, Base64 elsewhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "ContentForm", try_from = "ContentForm")]
pub struct Content(Vec<u8>);

/// How [`Content`] is written in JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ContentForm {
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
        Digest::of(&self.0)
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<Content> for ContentForm {
    fn from(content: Content) -> Self {
        match String::from_utf8(content.0) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Base64(STANDARD.encode(error.as_bytes())),
        }
    }
}

impl TryFrom<ContentForm> for Content {
    type Error = base64::DecodeError;

    fn try_from(written: ContentForm) -> Result<Self, Self::Error> {
        Ok(Self(match written {
            ContentForm::Text(text) => text.into_bytes(),
            ContentForm::Base64(text) => STANDARD.decode(text)?,
        }))
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} bytes, {})", self.0.len(), self.digest().short())
    }
}

/// A file as it is or shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// The bytes.
    pub content: Content,
    /// The permission bits; absent where the system has none, and for a new file with those of its system.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "octal")]
    pub mode: Option<u32>,
}

impl FileState {
    /// The state that orch can bring about: no file that it writes lends rights.
    pub(super) fn writable(&self) -> FileState {
        FileState { content: self.content.clone(), mode: self.mode.map(|mode| mode & MOST_MODE) }
    }

    /// Whether the mode lends rights, as setuid does.
    pub(crate) fn lends_rights(&self) -> bool {
        self.mode.is_some_and(|mode| mode & !MOST_MODE != 0)
    }

    /// Whether a file on disk is as this says; a mode that is not said may be any.
    pub(super) fn shown_by(&self, found: &FileState) -> bool {
        self.content == found.content && (self.mode.is_none() || found.mode.is_none() || self.mode == found.mode)
    }
}

/// Whether what is on disk is as wanted; `None` is an absent file.
pub(super) fn shows(found: Option<&FileState>, wanted: Option<&FileState>) -> bool {
    match (found, wanted) {
        (None, None) => true,
        (Some(found), Some(wanted)) => wanted.shown_by(found),
        _ => false,
    }
}

/// How a file on disk differs from a state, in words: `was deleted`.
pub(super) fn shown_difference(found: Option<&FileState>, wanted: Option<&FileState>) -> String {
    match (found, wanted) {
        (None, _) => "was deleted".to_owned(),
        (Some(_), None) => "was created by somebody else".to_owned(),
        (Some(found), Some(wanted)) if found.content != wanted.content => "was edited".to_owned(),
        (Some(found), Some(_)) => match found.mode {
            Some(mode) => format!("got the mode {}", super::shown_mode(mode)),
            None => "got another mode".to_owned(),
        },
    }
}

/// One file: how it was and how it shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// The path from the workspace, with `/`.
    pub path: String,
    /// The file before; `None` when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<FileState>,
    /// The file after; `None` when it shall be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<FileState>,
}

impl FileChange {
    /// What the change does to the file.
    pub fn kind(&self) -> ChangeKind {
        match (&self.before, &self.after) {
            (before, after) if shows(before.as_ref(), after.as_ref()) => ChangeKind::Unchanged,
            (None, _) => ChangeKind::Created,
            (Some(_), None) => ChangeKind::Deleted,
            (Some(_), Some(_)) => ChangeKind::Changed,
        }
    }
}

/// What a change does to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The file is new.
    Created,
    /// The file has other bytes or another mode.
    Changed,
    /// The file is gone.
    Deleted,
    /// The file was so before.
    Unchanged,
}

/// Files as they were when they were looked at, and as they shall be. Applying it again does nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSet {
    /// The files, in the order of the artifact.
    #[serde(default)]
    pub files: Vec<FileChange>,
    /// Folders that were not there before, parents first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_folders: Vec<String>,
}

/// Looks that were applied one after another as one: every file before the first and after the last.
pub fn together(looks: &[ChangeSet]) -> ChangeSet {
    let mut files: IndexMap<&str, FileChange> = IndexMap::new();
    let mut new_folders: Vec<String> = Vec::new();
    for look in looks {
        for change in &look.files {
            match files.get_mut(change.path.as_str()) {
                Some(first) => first.after.clone_from(&change.after),
                None => drop(files.insert(&change.path, change.clone())),
            }
        }
        new_folders.extend(look.new_folders.iter().cloned());
    }
    ChangeSet { files: files.into_values().collect(), new_folders }
}

/// What applying a [`Look`] did, without the contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The files, in the order of the artifact; the same however often the look is applied.
    #[serde(default)]
    pub files: Vec<AppliedFile>,
    /// How many files this application wrote or deleted; the others showed their state already.
    #[serde(default)]
    pub touched: usize,
}

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedFile {
    /// The path from the workspace.
    pub path: String,
    /// What the change did.
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

/// What taking a [`Look`] back did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverted {
    /// The files, in the order of the artifact.
    #[serde(default)]
    pub files: Vec<RevertedFile>,
}

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevertedFile {
    /// The path from the workspace.
    pub path: String,
    /// How it ended.
    pub ending: RevertOutcome,
    /// Why it was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a file ended that was to be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevertOutcome {
    /// It is as it was before.
    Restored,
    /// It was as before already.
    Unchanged,
    /// Somebody changed it since, so it was left.
    Left,
}

/// Modes as people write them: `"0644"`.
mod octal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    pub(super) fn serialize<S: Serializer>(mode: &Option<u32>, serializer: S) -> Result<S::Ok, S::Error> {
        match mode {
            Some(mode) => serializer.serialize_str(&crate::files::shown_mode(*mode)),
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
    fn records_of_an_older_program_are_read() {
        let look: ChangeSet =
            serde_json::from_str(r#"{"files":[{"path":"a","after":{"content":{"text":"x"}}}]}"#).unwrap();
        assert_eq!(look.files[0].kind(), ChangeKind::Created);
        assert_eq!(look.new_folders, Vec::<String>::new());
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
