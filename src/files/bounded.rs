//! Reads files with a size limit, since a file may be very large or endless, such as a device.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Reads a file of at most `max_bytes` bytes.
///
/// # Errors
/// The file can't be read, or it is larger ([`io::ErrorKind::FileTooLarge`]). The size of a regular file is checked
/// before the file is read.
pub fn read_file_bounded(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() > max_bytes {
        return Err(too_large_error(max_bytes));
    }
    read_to_end_bounded(file, max_bytes)
}

/// Reads a reader to its end, at most `max_bytes` bytes.
///
/// # Errors
/// Reading fails, or the reader has more bytes ([`io::ErrorKind::FileTooLarge`]).
pub fn read_to_end_bounded(reader: impl Read, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes { Err(too_large_error(max_bytes)) } else { Ok(bytes) }
}

fn too_large_error(max_bytes: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {} MiB", max_bytes >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_file_bounded(&path, 5).unwrap(), b"12345");
        assert_eq!(read_file_bounded(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_to_end_bounded(io::repeat(b'x'), 1 << 20).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_file_bounded(Path::new("/nowhere"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
