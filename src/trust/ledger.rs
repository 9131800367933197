//! The user's agreements: one file per project, in the user's configuration folder.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::Digest;

/// The agreements of a user.
///
/// Each agreement is a file `trusted/DIGEST.json` below the configuration folder, named by the BLAKE3 digest of the
/// project's absolute path: `{"root": PATH, "digest": DIGEST, "variables": NAMES}`. `digest` is that of the disclosures in
/// `orch.yaml`, or null if none needs an agreement. After moving a project, the user has to agree again.
#[derive(Clone, Debug)]
pub struct TrustLedger {
    folder: PathBuf,
}

/// The result of comparing a user's agreement with a project's current disclosures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustStatus {
    /// The user agreed to exactly these disclosures and to all of these variables, or there are none.
    Trusted,
    /// The user agreed to other disclosures of this project or to fewer variables; the project has changed since.
    Changed,
    /// There is no agreement for this project.
    Unknown,
}

/// The content of an agreement's file.
#[derive(Debug, Deserialize, Serialize)]
struct Agreement {
    root: String,
    /// The digest of the disclosures in `orch.yaml`.
    #[serde(default)]
    digest: Option<Digest>,
    /// The variables that the pipelines may pass to confined programs.
    #[serde(default)]
    variables: BTreeSet<String>,
}

impl TrustLedger {
    /// The folder of the agreements.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Creates a ledger for a configuration folder, such as `~/.config/orch`. Neither reads nor creates files.
    pub fn new(configuration: &Path) -> Self {
        Self { folder: configuration.join("trusted") }
    }

    /// Compares the user's agreement for the project in `root` with `digest`, the digest of its current disclosures, and
    /// with the variables that a run passes to confined programs.
    ///
    /// # Errors
    /// The project's path can't be resolved, or the agreement can't be read.
    pub fn status(
        &self,
        root: &Path,
        digest: Option<&Digest>,
        variables: &BTreeSet<String>,
    ) -> io::Result<TrustStatus> {
        if digest.is_none() && variables.is_empty() {
            return Ok(TrustStatus::Trusted);
        }
        let (root, file) = self.agreement_file(root)?;
        match fs::read(&file) {
            Ok(bytes) => {
                let agreement: Agreement = serde_json::from_slice(&bytes).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", file.display()))
                })?;
                let covers_digest = digest.is_none() || agreement.digest.as_ref() == digest;
                Ok(match agreement.root == root {
                    true if covers_digest && variables.is_subset(&agreement.variables) => TrustStatus::Trusted,
                    true => TrustStatus::Changed,
                    false => TrustStatus::Unknown,
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(TrustStatus::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Records that the user agrees to the disclosures with this digest and to these variables, for the project in `root`.
    /// Replaces an earlier agreement.
    ///
    /// # Errors
    /// The project's path can't be resolved, or the file can't be written.
    pub fn record(&self, root: &Path, digest: Option<&Digest>, variables: &BTreeSet<String>) -> io::Result<()> {
        let (root, file) = self.agreement_file(root)?;
        create_private_folder(&self.folder)?;
        let agreement = Agreement { root, digest: digest.cloned(), variables: variables.clone() };
        let text = serde_json::to_vec(&agreement)?;
        // `tempfile` creates files that only their owner can read, and the rename prevents incomplete files.
        let mut temporary = tempfile::NamedTempFile::new_in(&self.folder)?;
        temporary.write_all(&text)?;
        temporary.persist(file).map_err(|error| error.error)?;
        Ok(())
    }

    /// Withdraws an agreement. Returns whether there was one.
    ///
    /// # Errors
    /// The project's path can't be resolved, or the file can't be removed.
    pub fn revoke(&self, root: &Path) -> io::Result<bool> {
        match fs::remove_file(self.agreement_file(root)?.1) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The project's absolute path with links resolved, and the file of its agreement.
    fn agreement_file(&self, root: &Path) -> io::Result<(String, PathBuf)> {
        let root = fs::canonicalize(root)?;
        let name = Digest::compute(root.as_os_str().as_encoded_bytes());
        Ok((root.to_string_lossy().into_owned(), self.folder.join(format!("{name}.json"))))
    }
}

fn create_private_folder(folder: &Path) -> io::Result<()> {
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
    fn an_agreement_covers_one_project_and_one_digest() {
        let folder = tempfile::tempdir().unwrap();
        let (project, other_project) = (folder.path().join("project"), folder.path().join("other"));
        fs::create_dir(&project).unwrap();
        fs::create_dir(&other_project).unwrap();
        let ledger = TrustLedger::new(&folder.path().join("config"));
        let (digest, other_digest, none) = (Digest::compute(b"one"), Digest::compute(b"other"), BTreeSet::new());
        let status = |root: &Path, digest: &Digest| ledger.status(root, Some(digest), &none).unwrap();
        assert_eq!(status(&project, &digest), TrustStatus::Unknown);
        ledger.record(&project, Some(&digest), &none).unwrap();
        assert_eq!(status(&project, &digest), TrustStatus::Trusted);
        assert_eq!(status(&project.join("../project"), &digest), TrustStatus::Trusted);
        assert_eq!(status(&project, &other_digest), TrustStatus::Changed);
        assert_eq!(status(&other_project, &digest), TrustStatus::Unknown);
        ledger.record(&project, Some(&other_digest), &none).unwrap();
        assert_eq!(status(&project, &digest), TrustStatus::Changed, "the later agreement replaces the earlier one");
        assert!(ledger.revoke(&project).unwrap());
        assert!(!ledger.revoke(&project).unwrap());
        assert_eq!(status(&project, &other_digest), TrustStatus::Unknown);
    }

    #[test]
    fn an_agreement_covers_the_recorded_variables() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = TrustLedger::new(&folder.path().join("config"));
        let digest = Digest::compute(b"one");
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        let status = |digest: Option<&Digest>, variables: &[&str]| {
            ledger.status(folder.path(), digest, &names(variables)).unwrap()
        };
        assert_eq!((status(None, &[]), status(None, &["A"])), (TrustStatus::Trusted, TrustStatus::Unknown));
        ledger.record(folder.path(), None, &names(&["A", "B"])).unwrap();
        for (digest, variables, expected) in [
            (None, &["A"][..], TrustStatus::Trusted),
            (None, &["A", "B"], TrustStatus::Trusted),
            (None, &["A", "C"], TrustStatus::Changed),
            (Some(&digest), &["A"], TrustStatus::Changed),
        ] {
            assert_eq!(status(digest, variables), expected, "{digest:?} {variables:?}");
        }
        // An agreement of an earlier version has no variables.
        let (root, file) = ledger.agreement_file(folder.path()).unwrap();
        fs::write(file, serde_json::json!({ "root": root, "digest": digest }).to_string()).unwrap();
        assert_eq!(status(Some(&digest), &[]), TrustStatus::Trusted);
        assert_eq!(status(Some(&digest), &["A"]), TrustStatus::Changed);
    }

    #[test]
    fn a_damaged_agreement_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = TrustLedger::new(folder.path());
        let none = BTreeSet::new();
        ledger.record(folder.path(), Some(&Digest::compute(b"one")), &none).unwrap();
        let file = ledger.agreement_file(folder.path()).unwrap().1;
        fs::write(&file, "{").unwrap();
        let error = ledger.status(folder.path(), Some(&Digest::compute(b"one")), &none).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_agreements() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let ledger = TrustLedger::new(&folder.path().join("config"));
        ledger.record(folder.path(), Some(&Digest::compute(b"one")), &BTreeSet::new()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&ledger.folder), 0o700);
        assert_eq!(mode(&ledger.agreement_file(folder.path()).unwrap().1), 0o600);
    }
}
