//! Stores the session id of a CLI agent in a file while its turn runs.
//!
//! orch writes the file as soon as the program reports its session, and removes it when the turn has ended. After a
//! kill, a stop or a budget limit in the middle of the turn, the next attempt can continue the session. The file is
//! optional: if orch can't write or read it, the turn starts again from the beginning.

use crate::folder::{NoFollowFile, NoFollowFolder};
use crate::model::Digest;

/// The length of the longest id that orch accepts, in bytes.
const MAX_ID_BYTES: usize = 512;

/// The folder for these files, in the folder of the run's CLI agents.
const FOLDER: &str = "sessions";

/// The file with the session id of one turn.
pub(super) struct SessionFile {
    agents_folder: NoFollowFolder,
    name: String,
}

impl SessionFile {
    /// The file for the turn that `turn_id` identifies, in the folder of the run's CLI agents.
    pub(super) fn new(agents_folder: &NoFollowFolder, turn_id: &str) -> Self {
        Self { agents_folder: agents_folder.clone(), name: Digest::compute(turn_id.as_bytes()).to_string() }
    }

    /// Writes the session's id.
    pub(super) fn write(&self, session: &str) {
        let folder = self.agents_folder.create_subfolder(FOLDER);
        drop(folder.and_then(|folder| folder.file(self.name.as_str()).replace_unsynced(session.as_bytes())));
    }

    /// Reads the session's id.
    pub(super) fn read(&self) -> Option<String> {
        let session = String::from_utf8(self.file().read().ok()?).ok()?;
        // The id becomes an argument of the program, so it must not look like an option.
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        (session.starts_with(char::is_alphanumeric) && session.len() <= MAX_ID_BYTES && session.chars().all(is_allowed))
            .then_some(session)
    }

    /// Removes the file.
    pub(super) fn remove(&self) {
        // The file may not exist.
        drop(self.file().remove());
    }

    fn file(&self) -> NoFollowFile {
        self.agents_folder.file(format!("{FOLDER}/{}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_turn_reads_a_session_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let agents_folder = NoFollowFolder::open(folder.path(), crate::folder::FolderAccess::Private).unwrap();
        let session_file = SessionFile::new(&agents_folder, "ask@1#1");
        assert_eq!(session_file.read(), None);
        session_file.write("0199-abc");
        assert_eq!(SessionFile::new(&agents_folder, "ask@2#1").read(), None);
        for _ in 0..2 {
            assert_eq!(session_file.read().as_deref(), Some("0199-abc"));
        }
        session_file.remove();
        assert_eq!(session_file.read(), None);
        for invalid in ["", "--dangerous", "a b", "a\nb"] {
            session_file.write(invalid);
            assert_eq!(session_file.read(), None, "{invalid:?}");
        }
    }
}
