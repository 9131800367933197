//! The mounts of this process, as `/proc/self/mountinfo` lists them.

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
    /// Its number.
    id: u64,
    /// Where it is mounted.
    pub(super) path: PathBuf,
    /// The restrictions that a new mount of it must keep.
    flags: MountFlags,
}

/// Lists the mounts.
pub(super) fn mounts() -> io::Result<Vec<Mount>> {
    let text = fs::read("/proc/self/mountinfo")?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| parse(line).ok_or_else(|| io::Error::other("a line of `/proc/self/mountinfo` is invalid")))
        .collect()
}

/// Reads one line: number, parent, device, root, path, options, and more.
fn parse(line: &[u8]) -> Option<Mount> {
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
            // The kernel keeps the options about access times of a mount for which none are given.
            _ => MountFlags::empty(),
        };
    }
    Some(Mount { id, path, flags })
}

/// Replaces the escapes of spaces, tabs, newlines and backslashes: a backslash and three octal digits.
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
    /// Makes the mount read-only, and takes the effect of set-uid programs away.
    ///
    /// A mount that another one covers can't be named, but can't be reached either, so it is left as it is.
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
            // A kernel that can't tell counts as reachable, so that the error is reported.
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
    fn a_line_gives_the_path_and_the_restrictions_to_keep() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402\134x rw,noatime,nodev,noexec master:1 - ext3 /dev/root rw";
        let mount = parse(line).unwrap();
        assert_eq!((mount.id, mount.path.to_str()), (36, Some(r"/mnt 2\x")));
        assert_eq!(mount.flags, MountFlags::NODEV | MountFlags::NOEXEC);
        assert_eq!(parse(b"36 35"), None);
        assert_eq!(unescape(br"a\04").to_str(), Some(r"a\04"));
    }

    #[test]
    fn the_mounts_of_this_process_include_the_root() {
        assert!(mounts().unwrap().iter().any(|mount| mount.path == Path::new("/")));
    }
}
