//! Identifies a local model file by the digest of its content, so that orch notices when another file replaces it at
//! the same path.
//!
//! Reading gigabytes takes seconds. orch therefore caches the digest in the user's cache folder, together with the
//! file's metadata (size, times, inode), and computes the digest again when the metadata has changed.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The minimum age of a file whose digest orch writes to disk. A younger file could change again and keep its
/// modification time.
const MIN_AGE: Duration = Duration::from_secs(2);

/// A cache of file digests, in memory and on disk.
#[derive(Debug)]
pub(super) struct DigestCache {
    /// The folder of the digests on disk.
    folder: PathBuf,
    /// The digests that this process returned, each with the metadata of the file at that time.
    in_memory: Mutex<HashMap<PathBuf, (FileStamp, String)>>,
}

/// A file's metadata as one text, for comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileStamp(String);

impl FileStamp {
    fn new(metadata: &Metadata) -> Self {
        let unix_nanos = |time: io::Result<SystemTime>| {
            let time = time.ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
            time.unwrap_or_default().as_nanos()
        };
        #[cfg(unix)]
        let platform_fields = {
            use std::os::unix::fs::MetadataExt as _;
            format!("{} {} {}.{}", metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
        };
        #[cfg(not(unix))]
        let platform_fields = unix_nanos(metadata.created()).to_string();
        Self(format!("{} {} {platform_fields}", metadata.len(), unix_nanos(metadata.modified())))
    }
}

impl DigestCache {
    /// A cache in a subfolder of the folder of embedded models.
    pub(super) fn new(models_folder: &Path) -> Self {
        Self { folder: models_folder.join("digests"), in_memory: Mutex::default() }
    }

    /// The digest of a file's content.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn digest(&self, file: &Path) -> io::Result<String> {
        let metadata = fs::metadata(file)?;
        let stamp = FileStamp::new(&metadata);
        let in_memory =
            self.lock().get(file).filter(|(cached_stamp, _)| *cached_stamp == stamp).map(|(_, digest)| digest.clone());
        if let Some(digest) = in_memory.or_else(|| self.read_cached(file, &stamp)) {
            self.lock().insert(file.to_owned(), (stamp, digest.clone()));
            return Ok(digest);
        }
        let mut hash = blake3::Hasher::new();
        hash.update_reader(File::open(file)?)?;
        let digest = hash.finalize().to_hex().to_string();
        let is_old = |time: io::Result<SystemTime>| time.ok().and_then(|time| time.elapsed().ok()) > Some(MIN_AGE);
        if is_old(metadata.modified()) {
            self.write_cached(file, &stamp, &digest);
        }
        self.lock().insert(file.to_owned(), (stamp, digest.clone()));
        Ok(digest)
    }

    /// Whether the digest of a file is cached, so that orch need not read the file.
    pub(super) fn is_cached(&self, file: &Path) -> bool {
        let stamp = fs::metadata(file).map(|metadata| FileStamp::new(&metadata));
        stamp.is_ok_and(|stamp| {
            let in_memory = self.lock().get(file).is_some_and(|(cached_stamp, _)| *cached_stamp == stamp);
            in_memory || self.read_cached(file, &stamp).is_some()
        })
    }

    /// Whether a file changed since this process computed its digest.
    pub(super) fn has_changed(&self, file: &Path) -> bool {
        let cached_stamp = self.lock().get(file).map(|(stamp, _)| stamp.clone());
        let has_stamp =
            |stamp: &FileStamp| fs::metadata(file).is_ok_and(|metadata| FileStamp::new(&metadata) == *stamp);
        cached_stamp.is_some_and(|stamp| !has_stamp(&stamp))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, (FileStamp, String)>> {
        self.in_memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path of the cache entry for a file.
    fn entry_path(&self, file: &Path) -> PathBuf {
        let absolute = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        self.folder.join(blake3::hash(absolute.as_os_str().as_encoded_bytes()).to_hex().as_str())
    }

    fn read_cached(&self, file: &Path, stamp: &FileStamp) -> Option<String> {
        let text = fs::read_to_string(self.entry_path(file)).ok()?;
        let (cached_stamp, digest) = text.split_once('\n')?;
        (cached_stamp == stamp.0 && digest.len() == 64).then(|| digest.to_owned())
    }

    /// Writes a digest to disk. If that fails, the next process reads the file again.
    fn write_cached(&self, file: &Path, stamp: &FileStamp, digest: &str) {
        let entry = self.entry_path(file);
        let temporary = entry.with_extension(std::process::id().to_string());
        let text = format!("{}\n{digest}", stamp.0);
        let written = fs::create_dir_all(&self.folder).and_then(|()| fs::write(&temporary, text));
        if written.and_then(|()| fs::rename(&temporary, entry)).is_err() {
            drop(fs::remove_file(temporary));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;

    fn set_age(file: &Path, seconds: u64) {
        let time = SystemTime::now() - Duration::from_secs(seconds);
        File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn equal_contents_have_equal_digests_and_the_digest_of_an_old_file_is_cached() {
        let folder = tempfile::tempdir().unwrap();
        let (file, copy) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&file, "one").unwrap();
        set_age(&file, 60);
        let cache = DigestCache::new(folder.path());
        let first = cache.digest(&file).unwrap();
        fs::copy(&file, &copy).unwrap();
        assert_eq!(cache.digest(&copy).unwrap(), first, "the same content is the same model");
        let reopened = DigestCache::new(folder.path());
        assert!(reopened.is_cached(&file) && !reopened.is_cached(&copy), "the digest of a new file is not cached");
        assert_eq!(reopened.digest(&file).unwrap(), first);
    }

    #[test]
    fn another_file_of_the_same_size_and_time_is_another_model() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "one").unwrap();
        set_age(&file, 60);
        let cache = DigestCache::new(folder.path());
        let first = cache.digest(&file).unwrap();
        assert!(!cache.has_changed(&file));
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(&file, "two").unwrap();
        File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        assert!(cache.has_changed(&file));
        assert_ne!(cache.digest(&file).unwrap(), first);
        assert_ne!(DigestCache::new(folder.path()).digest(&file).unwrap(), first);
    }
}
