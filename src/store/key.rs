//! The user's key on this machine. With it orch seals the journals that it writes, to tell them from those that came
//! with a project.
//!
//! The key lies beside the record of trusted projects, where no clone or archive is unpacked. A process that can read
//! it runs as the user.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::folder::{FolderAccess, OwnFolder, open_file};

/// The file's name in the configuration folder.
const FILE: &str = "journal.key";

/// The length of a key in bytes.
const BYTES: usize = 32;

/// The folder of the key, set by [`keep_key_in`].
static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Sets the folder of the user's key, such as `~/.config/orch`; only the first call has an effect. Before that every
/// journal counts as one from elsewhere. Reads and creates nothing yet.
pub fn keep_key_in(folder: PathBuf) {
    FOLDER.get_or_init(|| folder);
}

/// The key; orch never prints it.
#[derive(Clone)]
pub(super) struct UserKey([u8; BYTES]);

/// Why there is no key; completes the sentence "orch can't tell whether it wrote the runs here:".
#[derive(Clone, Debug)]
pub(super) struct NoKey(pub(super) String);

impl UserKey {
    /// The key, if there is one.
    pub(super) fn find() -> Result<Self, NoKey> {
        let folder = folder()?;
        read(folder).map_err(|error| unusable(folder, &error))
    }

    /// The key, created if there is none.
    pub(super) fn find_or_make() -> Result<Self, NoKey> {
        let folder = folder()?;
        read_or_make(folder).map_err(|error| unusable(folder, &error))
    }

    /// The keyed hash of a text, which only a process with the key can compute.
    pub(super) fn seal(&self, text: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.0, text.as_bytes())
    }
}

fn folder() -> Result<&'static Path, NoKey> {
    FOLDER
        .get()
        .map(PathBuf::as_path)
        .ok_or_else(|| NoKey("it has no folder for its key, since neither XDG_CONFIG_HOME nor HOME is set".to_owned()))
}

fn unusable(folder: &Path, error: &io::Error) -> NoKey {
    NoKey(format!("its key `{}` can't be used: {error}", folder.join(FILE).display()))
}

fn read(folder: &Path) -> io::Result<UserKey> {
    let mut bytes = Vec::new();
    open_file(&folder.join(FILE))?.take(BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, format!("it is not {BYTES} bytes long; remove it"));
    bytes.try_into().map(UserKey).map_err(wrong)
}

fn read_or_make(folder: &Path) -> io::Result<UserKey> {
    match read(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(folder)?,
        found => return found,
    }
    read(folder)
}

/// Creates the file as a whole or not at all; keeps one that another process created meanwhile.
fn make(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        OwnFolder::create(folder, FolderAccess::Private)?;
    }
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    // `tempfile` creates files that only their owner can read.
    let mut written = tempfile::NamedTempFile::new_in(folder)?;
    written.write_all(&bytes)?;
    written.as_file().sync_all()?;
    match written.persist_noclobber(folder.join(FILE)) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_a_damaged_one_is_told() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("config/orch");
        assert_eq!(read(&folder).err().unwrap().kind(), io::ErrorKind::NotFound);
        let (one, two) = (read_or_make(&folder).unwrap(), read_or_make(&folder).unwrap());
        assert_eq!(one.seal("x"), two.seal("x"));
        assert_ne!(one.seal("x"), one.seal("y"));
        make(&folder).unwrap();
        assert_eq!(read(&folder).unwrap().0, one.0, "the first one stays");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(folder.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::write(folder.join(FILE), "short").unwrap();
        assert_eq!(read_or_make(&folder).err().unwrap().kind(), io::ErrorKind::InvalidData);
    }
}
