//! Where a program was when its turn was cut off: the id of its own session, in a file.
//!
//! It is written as soon as the program tells its session and goes when the turn has ended, so that it
//! is found after this process was killed in the middle of the turn, or a stop or a budget cut it off. It is
//! a convenience: a bookmark that can't be written or read means that the turn begins anew.

use crate::folder::{OwnFile, OwnFolder};
use crate::model::Digest;

/// Longer ids are none.
const LONGEST: usize = 512;

/// The folder of bookmarks, in that of the run's programs.
const FOLDER: &str = "sessions";

/// The bookmark of one turn.
pub(super) struct Bookmark {
    homes: OwnFolder,
    name: String,
}

impl Bookmark {
    /// The bookmark of the turn with this mark, in the folder of the run's programs.
    pub(super) fn of(homes: &OwnFolder, mark: &str) -> Self {
        Self { homes: homes.clone(), name: Digest::of(mark.as_bytes()).to_string() }
    }

    /// Notes the session.
    pub(super) fn put(&self, session: &str) {
        drop(self.homes.make(FOLDER).and_then(|folder| folder.file(self.name.as_str()).note(session.as_bytes())));
    }

    /// The session that was noted.
    pub(super) fn session(&self) -> Option<String> {
        let session = String::from_utf8(self.file().read().ok()?).ok()?;
        // It becomes an argument of the program.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        (session.starts_with(char::is_alphanumeric) && session.len() <= LONGEST && session.chars().all(plain))
            .then_some(session)
    }

    /// Removes the note.
    pub(super) fn remove(&self) {
        // It may never have been written.
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
