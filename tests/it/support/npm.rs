//! Installs Node modules for tests. All checkouts share the modules, in a folder named by the digest of the lock file.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};

/// Installs the modules that the lock file in the folder `sources` pins, and returns the folder of the modules.
pub(super) fn install(sources: &str, name: &str) -> Result<PathBuf, String> {
    let lock_content = fs::read(format!("{sources}/package-lock.json")).unwrap();
    let digest: String = Sha256::digest(&lock_content).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let default_cache = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(default_cache, PathBuf::from);
    let folder = cache.join("orch-ci").join(format!("{name}-{digest}"));
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let lock_file = File::create(folder.join("install.lock")).map_err(|error| error.to_string())?;
    lock_file.lock().map_err(|error| error.to_string())?;
    if folder.join("installed").exists() {
        return Ok(folder);
    }
    for file in ["package.json", "package-lock.json"] {
        fs::copy(format!("{sources}/{file}"), folder.join(file)).map_err(|error| error.to_string())?;
    }
    let result = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output();
    let output = result.map_err(|error| format!("npm can't be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("`npm ci` failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    File::create(folder.join("installed")).map_err(|error| error.to_string())?;
    Ok(folder)
}
