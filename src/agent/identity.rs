//! Which file a local model is: the digest of its content, so that another file under the same path is another model.
//!
//! To read gigabytes takes seconds, so a digest is kept in the user's cache folder beside what the system says of the
//! file (its size, its times, its number), and recomputed when any of that changed.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// A file that changed so lately may change again without another time: its digest is not kept.
const SETTLED: Duration = Duration::from_secs(2);

/// The digests of files, each computed once.
#[derive(Debug)]
pub(super) struct Identities {
    /// Where digests are kept.
    folder: PathBuf,
    /// What was told of each file in this process.
    told: Mutex<HashMap<PathBuf, (Stamp, String)>>,
}

/// What the system says of a file.
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
    /// Digests that are kept below the folder of embedded models.
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

    /// Whether the digest of a file is known without reading it.
    pub(super) fn knows(&self, file: &Path) -> bool {
        let stamp = fs::metadata(file).map(|found| Stamp::of(&found));
        stamp.is_ok_and(|stamp| {
            self.told().get(file).is_some_and(|(known, _)| *known == stamp) || self.kept(file, &stamp).is_some()
        })
    }

    /// Whether a file is not what it was when its digest was told.
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

    /// Keeps a digest; where it can't be kept, the file is read again the next time.
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
