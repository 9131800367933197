//! Writes a single file atomically.

use std::io::{self, Write as _};
use std::path::Path;

use crate::crash::crash_point;
use crate::folder::new_temporary_name;

/// Writes a file under a temporary name in the folder of `path`, makes its bytes durable and renames it. An existing
/// file is an error unless `replace` is set.
pub fn write_atomically(path: &Path, bytes: &[u8], replace: bool) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = new_temporary_name();
    let mut builder = tempfile::Builder::new();
    builder.prefix(&name).rand_bytes(0);
    // Temporary files are private by default, but this file gets the permissions of any new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    crash_point!("atomic_write::written");
    let renamed = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    renamed.map_err(|error| error.error)?;
    crash_point!("atomic_write::renamed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_replaced_only_with_replace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomically(&path, b"1", false).unwrap();
        assert_eq!(write_atomically(&path, b"2", false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"1");
        write_atomically(&path, b"3", true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"3");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
