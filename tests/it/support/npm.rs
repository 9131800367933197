//! Node modules for tests: installed once for all checkouts, by the digest of the lock file.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

/// Installs the pinned modules of a folder with a lock file; returns their folder.
pub(super) fn install(sources: &str, name: &str) -> Result<PathBuf, String> {
    let lock = fs::read(format!("{sources}/package-lock.json")).unwrap();
    let digest: String = Sha256::digest(&lock).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    let folder = cache.join("orch-ci").join(format!("{name}-{digest}"));
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let guard = File::create(folder.join("install.lock")).map_err(|error| error.to_string())?;
    guard.lock().map_err(|error| error.to_string())?;
    if folder.join("installed").exists() {
        return Ok(folder);
    }
    for file in ["package.json", "package-lock.json"] {
        fs::copy(format!("{sources}/{file}"), folder.join(file)).map_err(|error| error.to_string())?;
    }
    let npm = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output();
    let done = npm.map_err(|error| format!("npm can't be run: {error}"))?;
    if !done.status.success() {
        return Err(format!("`npm ci` failed: {}", String::from_utf8_lossy(&done.stderr)));
    }
    File::create(folder.join("installed")).map_err(|error| error.to_string())?;
    Ok(folder)
}
