//! Content-addressed payloads that are too large for a journal row.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::crash::crash_point;
use crate::model::Digest;

use super::{StoreError, sync_folder};

/// How the names of files begin that are not whole yet.
pub(super) const TEMPORARY: &str = ".orch-tmp-";

/// Payloads of at least this many bytes become blobs.
pub(super) const THRESHOLD: usize = 64 * 1024;

/// The folder `blobs/`: one file a payload, named by its BLAKE3 digest.
#[derive(Clone, Debug)]
pub(super) struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    pub(super) fn new(state: &Path) -> Self {
        Self { folder: state.join("blobs") }
    }

    pub(super) fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(digest.get(..2).unwrap_or("__")).join(digest)
    }

    /// Every file of the folder.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let list = |folder: &Path| -> Result<Vec<PathBuf>, StoreError> {
            let error = |source| StoreError::io("list", folder)(source);
            match std::fs::read_dir(folder) {
                Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(error)).collect(),
                Err(found) if found.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(found) => Err(error(found)),
            }
        };
        let mut files = Vec::new();
        for folder in list(&self.folder)?.iter().filter(|path| path.is_dir()) {
            files.extend(list(folder)?);
        }
        Ok(files)
    }

    /// Writes a payload durably: temporary file, fsync, rename, fsync of the folder.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.path(digest.as_str());
        // A blob that is there is whole (it was renamed into place), but may be torn by a power cut: compare.
        let folder = path.parent().unwrap_or(&self.folder);
        if std::fs::read(&path).is_ok_and(|found| found == bytes) {
            // Whoever renamed it into place may have died before its name was durable.
            sync_folder(folder)?;
            return Ok(digest);
        }
        std::fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
        crash_point!("blob::put");
        write_atomically(&path, bytes)?;
        sync_folder(folder)?;
        sync_folder(&self.folder)?;
        crash_point!("blob::kept");
        Ok(digest)
    }

    /// Reads a payload back and checks its digest.
    pub(super) fn get(&self, digest: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.path(digest);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Damaged { path, what: "the file is gone".to_owned() });
            }
            read => read.map_err(StoreError::io("read", &path))?,
        };
        if Digest::of(&bytes).as_str() == digest {
            Ok(bytes)
        } else {
            Err(StoreError::Damaged { path, what: "its bytes do not match its name".to_owned() })
        }
    }
}

/// Replaces a file by a rename, its bytes durable before; the folder is not synced.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .permissions_for_new_files()
        .tempfile_in(folder)
        .map_err(StoreError::io("create a file in", folder))?;
    crash_point!("file::created");
    file.write_all(bytes).map_err(StoreError::io("write", path))?;
    crash_point!("file::written");
    file.as_file().sync_all().map_err(StoreError::io("sync", path))?;
    crash_point!("file::synced");
    file.persist(path).map_err(|error| StoreError::io("replace", path)(error.error))?;
    crash_point!("file::renamed");
    Ok(())
}

trait Permissions<'a, 'b> {
    fn permissions_for_new_files(&mut self) -> &mut tempfile::Builder<'a, 'b>;
}

impl<'a, 'b> Permissions<'a, 'b> for tempfile::Builder<'a, 'b> {
    /// Temporary files are private by default; what people read gets the mode of an ordinary new file.
    fn permissions_for_new_files(&mut self) -> &mut tempfile::Builder<'a, 'b> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            self.permissions(std::fs::Permissions::from_mode(0o666))
        }
        #[cfg(not(unix))]
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_that_is_gone_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let found = Blobs::new(folder.path()).get("00").unwrap_err();
        assert!(matches!(found, StoreError::Damaged { .. }), "{found}");
    }

    #[test]
    fn a_torn_blob_is_noticed_and_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(folder.path());
        let digest = blobs.put(b"payload").unwrap();
        assert_eq!(blobs.get(digest.as_str()).unwrap(), b"payload");
        std::fs::write(blobs.path(digest.as_str()), b"payl").unwrap();
        assert!(matches!(blobs.get(digest.as_str()), Err(StoreError::Damaged { .. })));
        blobs.put(b"payload").unwrap();
        assert_eq!(blobs.get(digest.as_str()).unwrap(), b"payload");
    }
}
