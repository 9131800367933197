//! Remembers the session of a CLI agent whose turn was cut off: its id, in a file.
//!
//! orch writes the file as soon as the program reports its session, and removes it when the turn has ended. After a
//! kill, a stop or a budget limit in the middle of the turn, the next attempt can continue the session. The file is
//! optional: if it can't be written or read, the turn starts again from the beginning.

use crate::folder::{OwnFile, OwnFolder};
use crate::model::Digest;

/// The longest id that is accepted, in bytes.
const LONGEST: usize = 512;

/// The folder for these files, in the folder of the run's CLI agents.
const FOLDER: &str = "sessions";

/// The file for the session of one turn.
pub(super) struct Bookmark {
    homes: OwnFolder,
    name: String,
}

impl Bookmark {
    /// The file for the turn that `mark` identifies, in the folder of the run's CLI agents.
    pub(super) fn of(homes: &OwnFolder, mark: &str) -> Self {
        Self { homes: homes.clone(), name: Digest::of(mark.as_bytes()).to_string() }
    }

    /// Writes the session's id.
    pub(super) fn put(&self, session: &str) {
        drop(self.homes.make(FOLDER).and_then(|folder| folder.file(self.name.as_str()).note(session.as_bytes())));
    }

    /// Reads the session's id.
    pub(super) fn session(&self) -> Option<String> {
        let session = String::from_utf8(self.file().read().ok()?).ok()?;
        // The id becomes an argument of the program, so it must not look like an option.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        (session.starts_with(char::is_alphanumeric) && session.len() <= LONGEST && session.chars().all(plain))
            .then_some(session)
    }

    /// Removes the file.
    pub(super) fn remove(&self) {
        // The file may never have been written.
        drop(self.file().remove());
    }

    fn file(&self) -> OwnFile {
        self.homes.file(format!("{FOLDER}/{}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_until_it_is_removed_and_only_by_its_own_turn() {
        let folder = tempfile::tempdir().unwrap();
        let homes = OwnFolder::open(folder.path(), crate::folder::FolderAccess::Private).unwrap();
        let bookmark = Bookmark::of(&homes, "ask@1#1");
        assert_eq!(bookmark.session(), None);
        bookmark.put("0199-abc");
        assert_eq!(Bookmark::of(&homes, "ask@2#1").session(), None);
        for _ in 0..2 {
            assert_eq!(bookmark.session().as_deref(), Some("0199-abc"));
        }
        bookmark.remove();
        assert_eq!(bookmark.session(), None);
        for odd in ["", "--dangerous", "a b", "a\nb"] {
            bookmark.put(odd);
            assert_eq!(bookmark.session(), None, "{odd:?}");
        }
    }
}
