//! Reads the mounts of this process from `/proc/self/mountinfo`, and makes them read-only.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_remount};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    id: u64,
    /// The mount point.
    pub(super) path: PathBuf,
    /// The restrictions that a remount must preserve.
    flags: MountFlags,
}

/// Lists the mounts.
pub(super) fn mounts() -> io::Result<Vec<Mount>> {
    let text = fs::read("/proc/self/mountinfo")?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| parse_line(line).ok_or_else(|| io::Error::other("a line of `/proc/self/mountinfo` is invalid")))
        .collect()
}

/// Parses one line: id, parent's id, device, root, mount point, options, and further fields.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let path = unescape(fields.nth(3)?);
    let mut flags = MountFlags::empty();
    for option in fields.next()?.split(|byte| *byte == b',') {
        flags |= match option {
            b"nosuid" => MountFlags::NOSUID,
            b"nodev" => MountFlags::NODEV,
            b"noexec" => MountFlags::NOEXEC,
            b"nosymfollow" => MountFlags::NOSYMFOLLOW,
            // The kernel preserves the options for access times if a remount specifies none.
            _ => MountFlags::empty(),
        };
    }
    Some(Mount { id, path, flags })
}

/// Decodes the escapes for spaces, tabs, newlines and backslashes: a backslash and three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let octal =
            after.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|byte| (b'0'..b'8').contains(byte)));
        let value = octal.map(|digits| digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0')));
        let escaped = value.and_then(|value| u8::try_from(value).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    OsString::from_vec(bytes).into()
}

impl Mount {
    /// Makes the mount read-only, and disables set-uid programs on it.
    ///
    /// Does nothing if another mount covers this one: no path leads to it, so the program can't use it either.
    pub(super) fn make_read_only(&self) -> io::Result<()> {
        let flags = self.flags | MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID;
        match mount_remount(&self.path, flags, c"") {
            Ok(()) => Ok(()),
            Err(Errno::INVAL | Errno::NOENT | Errno::ACCESS | Errno::NOTDIR) if !self.is_reachable() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the path leads to this mount.
    fn is_reachable(&self) -> bool {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match statx(CWD, &self.path, flags, StatxFlags::MNT_ID) {
            Ok(stat) if stat.stx_mask & StatxFlags::MNT_ID.bits() != 0 => stat.stx_mnt_id == self.id,
            // If the kernel does not report mount ids, assume that the mount is reachable, so that the caller fails.
            Ok(_) => true,
            Err(_) => false,
        }
    }
}

/// Makes every mount at or below a path read-only.
pub(super) fn make_read_only_below(path: &Path) -> Result<(), (PathBuf, io::Error)> {
    let mounts = mounts().map_err(|error| (path.to_owned(), error))?;
    for mount in mounts.iter().filter(|mount| mount.path.starts_with(path)) {
        mount.make_read_only().map_err(|error| (mount.path.clone(), error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_path_and_the_restrictions_to_preserve() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402\134x rw,noatime,nodev,noexec master:1 - ext3 /dev/root rw";
        let mount = parse_line(line).unwrap();
        assert_eq!((mount.id, mount.path.to_str()), (36, Some(r"/mnt 2\x")));
        assert_eq!(mount.flags, MountFlags::NODEV | MountFlags::NOEXEC);
        assert_eq!(parse_line(b"36 35"), None);
        assert_eq!(unescape(br"a\04").to_str(), Some(r"a\04"));
    }

    #[test]
    fn the_mounts_of_this_process_include_the_root() {
        assert!(mounts().unwrap().iter().any(|mount| mount.path == Path::new("/")));
    }
}
