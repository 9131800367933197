//! Content-addressed payloads that are too large for a journal row.

use crate::crash::crash_point;
use crate::folder::{OwnFile, OwnFolder};
use crate::model::Digest;

use super::StoreError;

/// Payloads of at least this many bytes are stored as blobs.
pub(super) const THRESHOLD: usize = 64 * 1024;

/// The folder in the state folder that holds the blobs.
const FOLDER: &str = "blobs";

/// The folder `blobs/`: one file per payload, named by its BLAKE3 digest.
#[derive(Clone, Debug)]
pub(super) struct Blobs {
    state: OwnFolder,
}

impl Blobs {
    pub(super) fn new(state: OwnFolder) -> Self {
        Self { state }
    }

    fn folder(digest: &str) -> String {
        format!("{FOLDER}/{}", digest.get(..2).unwrap_or("__"))
    }

    pub(super) fn file(&self, digest: &str) -> OwnFile {
        self.state.file(format!("{}/{digest}", Self::folder(digest)))
    }

    /// Every file in the folder.
    pub(super) fn files(&self) -> Result<Vec<OwnFile>, StoreError> {
        let list = |name: &str| {
            self.state.list(name).map_err(|error| StoreError::io("list", &self.state.path().join(name))(error))
        };
        let mut files = Vec::new();
        for (name, _) in list(FOLDER)?.into_iter().filter(|(_, meta)| meta.is_dir()) {
            let folder = format!("{FOLDER}/{name}");
            files.extend(list(&folder)?.into_iter().map(|(name, _)| self.state.file(format!("{folder}/{name}"))));
        }
        Ok(files)
    }

    /// Writes a payload durably: temporary file, fsync, rename, fsync of the folder.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let (file, folder) = (self.file(digest.as_str()), Self::folder(digest.as_str()));
        // An existing blob was renamed into place as a whole, but a power cut may have torn it: compare the bytes.
        if file.read().is_ok_and(|found| found == bytes) {
            // The process that renamed it may have died before it synced the folder.
            self.sync(&folder)?;
            return Ok(digest);
        }
        crash_point!("blob::put");
        file.replace(bytes).map_err(StoreError::io("write", &file.path()))?;
        self.sync(&folder)?;
        self.sync(FOLDER)?;
        crash_point!("blob::kept");
        Ok(digest)
    }

    fn sync(&self, folder: &str) -> Result<(), StoreError> {
        self.state.sync(folder).map_err(StoreError::io("sync", &self.state.path().join(folder)))
    }

    /// Reads a payload back and checks its digest.
    pub(super) fn get(&self, digest: &str) -> Result<Vec<u8>, StoreError> {
        let file = self.file(digest);
        let bytes = match file.read() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Damaged { path: file.path(), what: "the file is gone".to_owned() });
            }
            read => read.map_err(StoreError::io("read", &file.path()))?,
        };
        if Digest::of(&bytes).as_str() == digest {
            Ok(bytes)
        } else {
            Err(StoreError::Damaged { path: file.path(), what: "its bytes do not match its name".to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::FolderAccess;

    fn blobs(folder: &std::path::Path) -> Blobs {
        Blobs::new(OwnFolder::open(folder, FolderAccess::Private).unwrap())
    }

    #[test]
    fn a_blob_that_is_gone_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let found = blobs(folder.path()).get("00").unwrap_err();
        assert!(matches!(found, StoreError::Damaged { .. }), "{found}");
    }

    #[test]
    fn a_torn_blob_is_noticed_and_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = blobs(folder.path());
        let digest = blobs.put(b"payload").unwrap();
        assert_eq!(blobs.get(digest.as_str()).unwrap(), b"payload");
        std::fs::write(blobs.file(digest.as_str()).path(), b"payl").unwrap();
        assert!(matches!(blobs.get(digest.as_str()), Err(StoreError::Damaged { .. })));
        blobs.put(b"payload").unwrap();
        assert_eq!(blobs.get(digest.as_str()).unwrap(), b"payload");
    }
}
