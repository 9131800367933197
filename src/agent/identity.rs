//! Identifies a local model file by the digest of its content, so that another file at the same path is another model.
//!
//! Reading gigabytes takes seconds. orch therefore caches a digest in the user's cache folder, together with the file's
//! metadata (size, times, inode), and computes it again when the metadata changed.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// A file that changed within this time may change again without a new modification time, so its digest is not cached.
const SETTLED: Duration = Duration::from_secs(2);

/// The digests of files, each computed once while the file stays the same.
#[derive(Debug)]
pub(super) struct Identities {
    /// The folder of cached digests.
    folder: PathBuf,
    /// The digests that this process returned, with the metadata that the file had then.
    told: Mutex<HashMap<PathBuf, (Stamp, String)>>,
}

/// A file's metadata as one text, to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp(String);

impl Stamp {
    fn of(found: &Metadata) -> Self {
        let since = |time: io::Result<SystemTime>| {
            let time = time.ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
            time.unwrap_or_default().as_nanos()
        };
        #[cfg(unix)]
        let more = {
            use std::os::unix::fs::MetadataExt as _;
            format!("{} {} {}.{}", found.dev(), found.ino(), found.ctime(), found.ctime_nsec())
        };
        #[cfg(not(unix))]
        let more = since(found.created()).to_string();
        Self(format!("{} {} {more}", found.len(), since(found.modified())))
    }
}

impl Identities {
    /// A cache of digests in a subfolder of the folder of embedded models.
    pub(super) fn new(models: &Path) -> Self {
        Self { folder: models.join("digests"), told: Mutex::default() }
    }

    /// The digest of a file's content.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn of(&self, file: &Path) -> io::Result<String> {
        let found = fs::metadata(file)?;
        let stamp = Stamp::of(&found);
        let known = self.told().get(file).filter(|(known, _)| *known == stamp).map(|(_, digest)| digest.clone());
        if let Some(digest) = known.or_else(|| self.kept(file, &stamp)) {
            self.told().insert(file.to_owned(), (stamp, digest.clone()));
            return Ok(digest);
        }
        let mut hash = blake3::Hasher::new();
        hash.update_reader(File::open(file)?)?;
        let digest = hash.finalize().to_hex().to_string();
        let settled = |time: io::Result<SystemTime>| time.ok().and_then(|time| time.elapsed().ok()) > Some(SETTLED);
        if settled(found.modified()) {
            self.keep(file, &stamp, &digest);
        }
        self.told().insert(file.to_owned(), (stamp, digest.clone()));
        Ok(digest)
    }

    /// Whether the digest of a file is cached, so that the file need not be read.
    pub(super) fn knows(&self, file: &Path) -> bool {
        let stamp = fs::metadata(file).map(|found| Stamp::of(&found));
        stamp.is_ok_and(|stamp| {
            self.told().get(file).is_some_and(|(known, _)| *known == stamp) || self.kept(file, &stamp).is_some()
        })
    }

    /// Whether a file changed since this process computed its digest.
    pub(super) fn changed(&self, file: &Path) -> bool {
        let told = self.told().get(file).map(|(stamp, _)| stamp.clone());
        told.is_some_and(|told| fs::metadata(file).map_or(true, |found| Stamp::of(&found) != told))
    }

    fn told(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, (Stamp, String)>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, file: &Path) -> PathBuf {
        let whole = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        self.folder.join(blake3::hash(whole.as_os_str().as_encoded_bytes()).to_hex().as_str())
    }

    fn kept(&self, file: &Path, stamp: &Stamp) -> Option<String> {
        let text = fs::read_to_string(self.place(file)).ok()?;
        let (known, digest) = text.split_once('\n')?;
        (known == stamp.0 && digest.len() == 64).then(|| digest.to_owned())
    }

    /// Caches a digest. If that fails, orch reads the file again the next time.
    fn keep(&self, file: &Path, stamp: &Stamp, digest: &str) {
        let place = self.place(file);
        let new = place.with_extension(std::process::id().to_string());
        let text = format!("{}\n{digest}", stamp.0);
        let written = fs::create_dir_all(&self.folder).and_then(|()| fs::write(&new, text));
        if written.and_then(|()| fs::rename(&new, place)).is_err() {
            drop(fs::remove_file(new));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't go on fails")]
mod tests {
    use super::*;

    fn back(file: &Path, seconds: u64) {
        let time = SystemTime::now() - Duration::from_secs(seconds);
        File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn a_digest_is_of_the_content_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&file, "one").unwrap();
        back(&file, 60);
        let identities = Identities::new(folder.path());
        let first = identities.of(&file).unwrap();
        fs::copy(&file, &other).unwrap();
        assert_eq!(identities.of(&other).unwrap(), first, "the same content is the same model");
        let later = Identities::new(folder.path());
        assert!(later.knows(&file) && !later.knows(&other), "what changed just now is not kept");
        assert_eq!(later.of(&file).unwrap(), first);
    }

    #[test]
    fn another_file_of_the_same_size_and_time_is_another_model() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "one").unwrap();
        back(&file, 60);
        let identities = Identities::new(folder.path());
        let first = identities.of(&file).unwrap();
        assert!(!identities.changed(&file));
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(&file, "two").unwrap();
        File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        assert!(identities.changed(&file));
        assert_ne!(identities.of(&file).unwrap(), first);
        assert_ne!(Identities::new(folder.path()).of(&file).unwrap(), first);
    }
}
