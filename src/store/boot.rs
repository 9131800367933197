//! The id of the machine's current boot. A lock file stores it, so that the next owner learns whether the machine has
//! restarted since: only then can a power failure have damaged files that orch wrote without a sync.

use std::sync::OnceLock;

/// The id of the current boot; `None` if the system has none.
pub(super) fn current_boot_id() -> Option<&'static str> {
    static BOOT_ID: OnceLock<Option<String>> = OnceLock::new();
    BOOT_ID.get_or_init(read_boot_id).as_deref()
}

#[cfg(target_os = "linux")]
fn read_boot_id() -> Option<String> {
    valid_id(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?)
}

#[cfg(target_os = "macos")]
#[expect(clippy::disallowed_methods, reason = "a run acquires its locks before it starts")]
fn read_boot_id() -> Option<String> {
    let sysctl = std::process::Command::new("/usr/sbin/sysctl").args(["-n", "kern.bootsessionuuid"]).output().ok()?;
    valid_id(&String::from_utf8(sysctl.stdout).ok()?)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn read_boot_id() -> Option<String> {
    None
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
fn valid_id(text: &str) -> Option<String> {
    let id = text.trim();
    let is_valid = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_valid.then(|| id.to_owned())
}
