//! What the user agreed to: one file per project, in the user's configuration folder.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::Digest;

/// The agreements of a user.
///
/// Each is a file `trusted/DIGEST.json` below the configuration folder, named by the BLAKE3 digest of the
/// project's absolute path: `{"root": PATH, "digest": DIGEST}`. A project that was moved has to be trusted again.
#[derive(Clone, Debug)]
pub struct TrustLedger {
    folder: PathBuf,
}

/// How a user's agreement compares with what a project sends now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustStatus {
    /// The user agreed to exactly this.
    Trusted,
    /// The user agreed to something else: the project has changed since.
    Changed,
    /// The user never agreed to anything for this project.
    Unknown,
}

/// One agreement, as it is stored.
#[derive(Debug, Deserialize, Serialize)]
struct Agreement {
    root: String,
    digest: Digest,
}

impl TrustLedger {
    /// The folder that holds the agreements.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The ledger in a configuration folder, such as `~/.config/orch`; neither reads nor creates anything yet.
    pub fn new(configuration: &Path) -> Self {
        Self { folder: configuration.join("trusted") }
    }

    /// Compares the user's agreement for the project in `root` with `digest`, what its `orch.yaml` sends now.
    ///
    /// # Errors
    /// The project's path can't be resolved, or the agreement can't be read.
    pub fn status(&self, root: &Path, digest: &Digest) -> io::Result<TrustStatus> {
        let (root, file) = self.place(root)?;
        match fs::read(&file) {
            Ok(bytes) => {
                let agreement: Agreement = serde_json::from_slice(&bytes).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", file.display()))
                })?;
                Ok(match agreement.root == root {
                    true if agreement.digest == *digest => TrustStatus::Trusted,
                    true => TrustStatus::Changed,
                    false => TrustStatus::Unknown,
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(TrustStatus::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Records that the user agrees to a digest for the project in `root`; replaces an earlier agreement.
    ///
    /// # Errors
    /// The project's path can't be resolved, or the file can't be written.
    pub fn record(&self, root: &Path, digest: &Digest) -> io::Result<()> {
        let (root, file) = self.place(root)?;
        private_folder(&self.folder)?;
        let text = serde_json::to_vec(&Agreement { root, digest: digest.clone() })?;
        // `tempfile` creates files that only their owner can read, and the rename leaves no half-written one.
        let mut written = tempfile::NamedTempFile::new_in(&self.folder)?;
        written.write_all(&text)?;
        written.persist(file).map_err(|error| error.error)?;
        Ok(())
    }

    /// Withdraws an agreement; returns whether there was one.
    ///
    /// # Errors
    /// The project's path can't be resolved, or the file can't be removed.
    pub fn revoke(&self, root: &Path) -> io::Result<bool> {
        match fs::remove_file(self.place(root)?.1) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The project's absolute path with links resolved, and the file of its agreement.
    fn place(&self, root: &Path) -> io::Result<(String, PathBuf)> {
        let root = fs::canonicalize(root)?;
        let name = Digest::of(root.as_os_str().as_encoded_bytes());
        Ok((root.to_string_lossy().into_owned(), self.folder.join(format!("{name}.json"))))
    }
}

fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agreement_holds_for_one_project_and_one_digest() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (folder.path().join("here"), folder.path().join("there"));
        fs::create_dir(&here).unwrap();
        fs::create_dir(&there).unwrap();
        let ledger = TrustLedger::new(&folder.path().join("config"));
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let status = |root: &Path, digest: &Digest| ledger.status(root, digest).unwrap();
        assert_eq!(status(&here, &one), TrustStatus::Unknown);
        ledger.record(&here, &one).unwrap();
        assert_eq!(status(&here, &one), TrustStatus::Trusted);
        assert_eq!(status(&here.join("../here"), &one), TrustStatus::Trusted);
        assert_eq!(status(&here, &other), TrustStatus::Changed);
        assert_eq!(status(&there, &one), TrustStatus::Unknown);
        ledger.record(&here, &other).unwrap();
        assert_eq!(status(&here, &one), TrustStatus::Changed, "the later agreement takes the place of the earlier");
        assert!(ledger.revoke(&here).unwrap());
        assert!(!ledger.revoke(&here).unwrap());
        assert_eq!(status(&here, &other), TrustStatus::Unknown);
    }

    #[test]
    fn a_damaged_agreement_is_none_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = TrustLedger::new(folder.path());
        ledger.record(folder.path(), &Digest::of(b"one")).unwrap();
        let file = ledger.place(folder.path()).unwrap().1;
        fs::write(&file, "{").unwrap();
        let error = ledger.status(folder.path(), &Digest::of(b"one")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_agreements() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let ledger = TrustLedger::new(&folder.path().join("config"));
        ledger.record(folder.path(), &Digest::of(b"one")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&ledger.folder), 0o700);
        assert_eq!(mode(&ledger.place(folder.path()).unwrap().1), 0o600);
    }
}
