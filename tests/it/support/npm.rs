//! Installs Node modules for tests. All checkouts share the modules, in a folder named by the digest of the lock file.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use orch_confine::confine::PRIVATE_FOLDERS;
use sha2::{Digest as _, Sha256};

/// Installs the modules that the lock file in the folder `sources` pins, and returns the folder of the modules.
pub(super) fn install(sources: &str, name: &str) -> Result<PathBuf, String> {
    let lock_content = fs::read(format!("{sources}/package-lock.json")).unwrap();
    let digest: String = Sha256::digest(&lock_content).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let folder = modules_folder()?.join(format!("{name}-{digest}"));
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

/// The folder of all modules: in the cache of the user, if programs in a sandbox can see it. They have folders of their own
/// in place of those in [`PRIVATE_FOLDERS`].
fn modules_folder() -> Result<PathBuf, String> {
    let default_cache = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(default_cache, PathBuf::from);
    fs::create_dir_all(&cache).map_err(|error| error.to_string())?;
    let cache = cache.canonicalize().map_err(|error| error.to_string())?;
    if !PRIVATE_FOLDERS.iter().any(|hidden| cache.starts_with(hidden)) {
        return Ok(cache.join("orch-ci"));
    }
    private_folder_in_var_tmp()
}

#[cfg(unix)]
fn private_folder_in_var_tmp() -> Result<PathBuf, String> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    let user = rustix::process::geteuid().as_raw();
    let folder = PathBuf::from(format!("/var/tmp/orch-ci-{user}"));
    match fs::DirBuilder::new().mode(0o755).create(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.to_string()),
        Ok(()) | Err(_) => {}
    }
    let metadata = fs::symlink_metadata(&folder).map_err(|error| error.to_string())?;
    // Every user can create a folder with this name there.
    let is_ours = metadata.is_dir() && metadata.uid() == user && metadata.mode() & 0o022 == 0;
    if is_ours { Ok(folder) } else { Err(format!("{} belongs to another user", folder.display())) }
}

#[cfg(not(unix))]
fn private_folder_in_var_tmp() -> Result<PathBuf, String> {
    Err("the cache is in a folder that sandboxes hide".to_owned())
}
