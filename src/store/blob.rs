//! Stores payloads that are too large for a journal row in files that are named by their digests.

use crate::crash::crash_point;
use crate::folder::{NoFollowFile, NoFollowFolder};
use crate::model::Digest;

use super::StoreError;

/// The size from which orch stores a payload as a blob, in bytes.
pub(super) const MIN_BLOB_BYTES: usize = 64 * 1024;

/// The subfolder of the state folder with the blobs.
const BLOB_FOLDER: &str = "blobs";

/// The folder `blobs/`: one file per payload, named by its BLAKE3 digest.
#[derive(Clone, Debug)]
pub(super) struct Blobs {
    state: NoFollowFolder,
}

impl Blobs {
    pub(super) fn new(state: NoFollowFolder) -> Self {
        Self { state }
    }

    /// The folder of a blob, relative to the state folder.
    fn folder_of(digest: &str) -> String {
        format!("{BLOB_FOLDER}/{}", digest.get(..2).unwrap_or("__"))
    }

    pub(super) fn file(&self, digest: &str) -> NoFollowFile {
        self.state.file(format!("{}/{digest}", Self::folder_of(digest)))
    }

    /// Every file in the folder.
    pub(super) fn files(&self) -> Result<Vec<NoFollowFile>, StoreError> {
        let list_folder = |name: &str| {
            self.state.list(name).map_err(|error| StoreError::io("list", &self.state.path().join(name))(error))
        };
        let mut files = Vec::new();
        for (name, _) in list_folder(BLOB_FOLDER)?.into_iter().filter(|(_, meta)| meta.is_dir()) {
            let folder = format!("{BLOB_FOLDER}/{name}");
            files
                .extend(list_folder(&folder)?.into_iter().map(|(name, _)| self.state.file(format!("{folder}/{name}"))));
        }
        Ok(files)
    }

    /// Writes a payload durably: temporary file, fsync, rename, fsync of the folder.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::compute(bytes);
        let (file, folder) = (self.file(digest.as_str()), Self::folder_of(digest.as_str()));
        // A blob with this name may have been damaged by a power failure, so compare its bytes.
        if file.read().is_ok_and(|stored| stored == bytes) {
            // The process that created the blob may have died before it synced the folder.
            self.sync(&folder)?;
            return Ok(digest);
        }
        crash_point!("blob::put");
        file.replace(bytes).map_err(StoreError::io("write", &file.path()))?;
        self.sync(&folder)?;
        self.sync(BLOB_FOLDER)?;
        crash_point!("blob::stored");
        Ok(digest)
    }

    fn sync(&self, folder: &str) -> Result<(), StoreError> {
        self.state.sync(folder).map_err(StoreError::io("sync", &self.state.path().join(folder)))
    }

    /// Reads a payload and checks its digest.
    pub(super) fn get(&self, digest: &str) -> Result<Vec<u8>, StoreError> {
        let file = self.file(digest);
        let bytes = match file.read() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Damaged { path: file.path(), problem: "the file is missing".to_owned() });
            }
            result => result.map_err(StoreError::io("read", &file.path()))?,
        };
        if Digest::compute(&bytes).as_str() == digest {
            Ok(bytes)
        } else {
            Err(StoreError::Damaged { path: file.path(), problem: "its bytes do not match its name".to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::FolderAccess;

    fn blobs(folder: &std::path::Path) -> Blobs {
        Blobs::new(NoFollowFolder::open(folder, FolderAccess::Private).unwrap())
    }

    #[test]
    fn a_missing_blob_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let error = blobs(folder.path()).get("00").unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }

    #[test]
    fn a_damaged_blob_is_detected_and_written_again() {
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
