//! The user's signing key on this machine. orch seals the journals that it writes with this key, to distinguish them
//! from journals that came with a project.
//!
//! The key is in the user's configuration folder, which a cloned or unpacked project can't write to. Only a process of
//! the user can read it.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::folder::{FolderAccess, NoFollowFolder, open_file};

/// The file's name in the configuration folder.
const KEY_FILE: &str = "journal.key";

/// The length of a key in bytes.
const KEY_LENGTH: usize = 32;

/// The folder of the signing key, set by [`set_signing_key_folder`].
static KEY_FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Sets the folder of the signing key, such as `~/.config/orch`. Only the first call has an effect. Without a folder,
/// orch treats every run as foreign. This neither reads nor creates the key.
pub fn set_signing_key_folder(folder: PathBuf) {
    KEY_FOLDER.get_or_init(|| folder);
}

/// The signing key; orch never prints it.
#[derive(Clone)]
pub(super) struct SigningKey([u8; KEY_LENGTH]);

/// The reason why there is no key; completes the sentence "orch can't determine whether it wrote the runs here:".
#[derive(Clone, Debug)]
pub(super) struct KeyUnavailable(pub(super) String);

impl SigningKey {
    /// Reads the key.
    pub(super) fn read() -> Result<Self, KeyUnavailable> {
        let folder = key_folder()?;
        read_key(folder).map_err(|error| unusable_key(folder, &error))
    }

    /// Reads the key, or creates it if there is none.
    pub(super) fn read_or_create() -> Result<Self, KeyUnavailable> {
        let folder = key_folder()?;
        read_or_create_key(folder).map_err(|error| unusable_key(folder, &error))
    }

    /// The keyed hash of a text, which only a process with the key can compute.
    pub(super) fn seal(&self, text: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.0, text.as_bytes())
    }
}

fn key_folder() -> Result<&'static Path, KeyUnavailable> {
    KEY_FOLDER.get().map(PathBuf::as_path).ok_or_else(|| {
        KeyUnavailable("it has no folder for its key, since neither XDG_CONFIG_HOME nor HOME is set".to_owned())
    })
}

fn unusable_key(folder: &Path, error: &io::Error) -> KeyUnavailable {
    KeyUnavailable(format!("its key `{}` can't be used: {error}", folder.join(KEY_FILE).display()))
}

fn read_key(folder: &Path) -> io::Result<SigningKey> {
    let mut bytes = Vec::new();
    open_file(&folder.join(KEY_FILE))?.take(KEY_LENGTH as u64 + 1).read_to_end(&mut bytes)?;
    let invalid =
        |_| io::Error::new(io::ErrorKind::InvalidData, format!("it is not {KEY_LENGTH} bytes long; remove it"));
    bytes.try_into().map(SigningKey).map_err(invalid)
}

fn read_or_create_key(folder: &Path) -> io::Result<SigningKey> {
    match read_key(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create_key(folder)?,
        result => return result,
    }
    read_key(folder)
}

/// Creates the file atomically. Keeps the file of another process that created one at the same time.
fn create_key(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        NoFollowFolder::create(folder, FolderAccess::Private)?;
    }
    let mut bytes = [0; KEY_LENGTH];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    // `tempfile` creates files that only their owner can read.
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(&bytes)?;
    temporary.as_file().sync_all()?;
    match temporary.persist_noclobber(folder.join(KEY_FILE)) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_created_once_for_its_owner_alone_and_a_damaged_key_is_an_error() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("config/orch");
        assert_eq!(read_key(&folder).err().unwrap().kind(), io::ErrorKind::NotFound);
        let (first, second) = (read_or_create_key(&folder).unwrap(), read_or_create_key(&folder).unwrap());
        assert_eq!(first.seal("x"), second.seal("x"));
        assert_ne!(first.seal("x"), first.seal("y"));
        create_key(&folder).unwrap();
        assert_eq!(read_key(&folder).unwrap().0, first.0, "the first key stays");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(folder.join(KEY_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::write(folder.join(KEY_FILE), "short").unwrap();
        assert_eq!(read_or_create_key(&folder).err().unwrap().kind(), io::ErrorKind::InvalidData);
    }
}
