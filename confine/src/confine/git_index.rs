//! Reads the index of a git repository, which lists its files and its submodules.
//!
//! A program can add a submodule to the index without the command `git submodule`. `git status` then runs git in the
//! folder of the submodule, with the settings there. So orch must read the index as git does. It can't run git for
//! this, because git itself would run the programs that the settings name.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::repository::{GIT_ENTRY, GitFolder, open_file};

/// The name of the index in a git folder.
const INDEX: &str = "index";
/// The beginning of the names of the files with the shared entries of a split index.
const SHARED_INDEX: &str = "sharedindex.";
/// The bytes at the beginning of an index. The version and the number of entries, which follow, have the same length.
const SIGNATURE: &[u8] = b"DIRC";
/// The versions of the format that this module reads.
const VERSIONS: [u32; 3] = [2, 3, 4];
/// The version in which a name omits the beginning that it shares with the previous name.
const SHORTENED_NAMES: u32 = 4;
/// The length of the fixed part of an entry before the object id: times, device, inode, mode, owner and size.
const STATUS_BYTES: usize = 40;
/// The position of the mode in an entry, after the times, the device and the inode.
const MODE_AT: usize = 24;
/// The length of the flags of an entry.
const FLAGS_BYTES: usize = 2;
/// The flag of an entry that has further flags.
const EXTENDED: u32 = 0x4000;
/// The length to which all versions but the last fill up their entries.
const ALIGNMENT: usize = 8;
/// The mode of a submodule, without the access rights.
const SUBMODULE_MODE: u32 = 0o160_000;
/// The part of a mode that contains the kind of an entry.
const KIND: u32 = 0o170_000;
/// The maximum number of entries, and the maximum length of a name. A program may have written the index.
const MAX_ENTRIES: u32 = 4_000_000;
const MAX_NAME_BYTES: usize = 1 << 16;
/// The maximum number of submodules that orch examines.
const MAX_SUBMODULES: usize = 1000;

/// The entries of an index.
#[derive(Debug, Default)]
pub(super) struct GitIndex {
    /// The paths of the submodules, relative to the folder of the repository's files.
    pub(super) submodules: BTreeSet<PathBuf>,
    /// The paths of the folders that contain files or submodules, relative to the same folder, whose own path is empty.
    pub(super) folders: BTreeSet<PathBuf>,
    /// Whether the whole index could be read. A repository without an index counts as read.
    pub(super) is_readable: bool,
}

impl GitIndex {
    /// Reads the index of a git folder, whose object ids have this length.
    pub(super) fn read(git_folder: &Path, object_id_bytes: usize) -> Self {
        let mut index = Self { is_readable: true, ..Self::default() };
        let Ok(paths) = index_files(git_folder) else { return Self { is_readable: false, ..index } };
        for path in paths {
            match open_file(&path) {
                Some(file) => {
                    let added = index.add(&mut BufReader::new(file), object_id_bytes);
                    index.is_readable &= added.is_some();
                }
                // git removes shared indexes that it no longer needs.
                None => index.is_readable &= path.symlink_metadata().is_err_and(is_missing),
            }
        }
        index
    }

    /// Adds the entries of a file. Returns `None` at the first entry that can't be read.
    fn add(&mut self, input: &mut impl BufRead, object_id_bytes: usize) -> Option<()> {
        let mut next = || read_exactly(input, SIGNATURE.len());
        let (signature, version, count) = (next()?, number(&next()?), number(&next()?));
        if signature != SIGNATURE || !VERSIONS.contains(&version) || count > MAX_ENTRIES {
            return None;
        }
        let mut entry = IndexEntry::default();
        let mut last_folder: Option<Vec<u8>> = None;
        for _ in 0..count {
            entry.read(input, version, object_id_bytes)?;
            let folder = folder_of(&entry.name);
            // The entries are sorted, so the files of a folder follow each other.
            if last_folder.as_deref() != Some(folder) {
                self.add_folder(Path::new(OsStr::from_bytes(folder)));
                last_folder = Some(folder.to_vec());
            }
            if entry.mode & KIND == SUBMODULE_MODE {
                self.submodules.insert(OsStr::from_bytes(&entry.name).into());
            }
        }
        Some(())
    }

    /// Adds a folder and the folders that contain it.
    fn add_folder(&mut self, folder: &Path) {
        for folder in folder.ancestors() {
            if !self.folders.insert(folder.to_owned()) {
                return;
            }
        }
    }
}

/// The files of a git folder that contain the entries of its index. A folder that does not exist has none.
fn index_files(git_folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_index = |name: &OsStr| name == INDEX || name.as_bytes().starts_with(SHARED_INDEX.as_bytes());
    let entries = match fs::read_dir(git_folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if is_index(&name) {
            paths.push(git_folder.join(name));
        }
    }
    Ok(paths)
}

fn is_missing(error: io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// The folder of a path; empty for a path without a folder.
fn folder_of(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    name.get(..end).unwrap_or_default()
}

/// An entry of an index.
#[derive(Debug, Default)]
struct IndexEntry {
    mode: u32,
    /// The path, relative to the folder of the repository's files.
    name: Vec<u8>,
}

impl IndexEntry {
    /// Reads the entry that follows this one.
    fn read(&mut self, input: &mut impl BufRead, version: u32, object_id_bytes: usize) -> Option<()> {
        let fixed = read_exactly(input, STATUS_BYTES + object_id_bytes + FLAGS_BYTES)?;
        self.mode = number(fixed.get(MODE_AT..MODE_AT + 4)?);
        let flags = number(fixed.get(STATUS_BYTES + object_id_bytes..)?);
        let mut length = fixed.len();
        if version > 2 && flags & EXTENDED != 0 {
            length += read_exactly(input, FLAGS_BYTES)?.len();
        }
        let kept = if version == SHORTENED_NAMES { self.name.len().checked_sub(read_varint(input)?)? } else { 0 };
        self.name.truncate(kept);
        let limit = u64::try_from(MAX_NAME_BYTES).ok()?;
        length += input.by_ref().take(limit).read_until(0, &mut self.name).ok()?;
        if self.name.pop() != Some(0) || self.name.len() > MAX_NAME_BYTES {
            return None;
        }
        if version != SHORTENED_NAMES {
            read_exactly(input, length.next_multiple_of(ALIGNMENT) - length)?;
        }
        Some(())
    }
}

fn read_exactly(input: &mut impl BufRead, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// The number in some bytes, of which the first counts most.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| (number << 8) | u32::from(*byte))
}

/// Reads a number in the variable-length encoding of git: seven bits a byte, and each further byte adds one, so that no
/// number has two encodings.
fn read_varint(input: &mut impl BufRead) -> Option<usize> {
    let mut number: usize = 0;
    loop {
        let [byte]: [u8; 1] = read_exactly(input, 1)?.try_into().ok()?;
        number = number.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
        number = number.checked_add(1)?;
    }
}

/// The folders of the submodules of a repository that contain a repository, and those of their submodules.
pub(super) fn populated_submodules(folder: &GitFolder, index: &GitIndex) -> BTreeSet<PathBuf> {
    let top = fs::canonicalize(&folder.top).unwrap_or_else(|_| folder.top.clone());
    let mut found = BTreeSet::new();
    let mut remaining: Vec<PathBuf> = index.submodules.iter().map(|name| top.join(name)).collect();
    while let Some(path) = remaining.pop() {
        // git does not follow a link to a submodule.
        let is_followed = || fs::canonicalize(&path).is_ok_and(|real| real == path);
        let is_populated = path.join(GIT_ENTRY).symlink_metadata().is_ok() && is_followed();
        if is_populated && found.len() < MAX_SUBMODULES && found.insert(path.clone()) {
            let inner = GitFolder::of_working_folder(&path).map(|inner| inner.index()).unwrap_or_default();
            remaining.extend(inner.submodules.iter().map(|name| path.join(name)));
        }
    }
    found
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const FILE_MODE: u32 = 0o100_644;

    /// The bytes of an index with these files and submodules.
    pub(in super::super) fn index_of(files: &[&str], submodules: &[&str]) -> Vec<u8> {
        let entries = files.iter().map(|name| (*name, FILE_MODE));
        let entries: Vec<_> = entries.chain(submodules.iter().map(|name| (*name, SUBMODULE_MODE))).collect();
        aligned_index(&entries, 20, &[0, 1])
    }

    /// The bytes of an entry before its name.
    fn status(mode: u32, object_id_bytes: usize, flags: &[u8]) -> Vec<u8> {
        let mut bytes = vec![1; MODE_AT];
        bytes.extend(mode.to_be_bytes());
        bytes.resize(STATUS_BYTES + object_id_bytes, 1);
        bytes.extend(flags);
        bytes
    }

    /// The bytes of an index of version 2, or of version 3 if `flags` has four bytes.
    fn aligned_index(entries: &[(&str, u32)], object_id_bytes: usize, flags: &[u8]) -> Vec<u8> {
        let version = if flags.len() > FLAGS_BYTES { 3 } else { 2 };
        let mut bytes = header(version, entries.len());
        for (name, mode) in entries {
            let mut entry = status(*mode, object_id_bytes, flags);
            entry.extend(name.as_bytes());
            entry.resize((entry.len() + 1).next_multiple_of(ALIGNMENT), 0);
            bytes.extend(entry);
        }
        bytes.extend(b"TREE and the checksum");
        bytes
    }

    fn header(version: u32, count: usize) -> Vec<u8> {
        let count = u32::try_from(count).unwrap();
        [SIGNATURE, &version.to_be_bytes(), &count.to_be_bytes()].concat()
    }

    fn parse(bytes: &[u8], object_id_bytes: usize) -> Option<GitIndex> {
        let mut index = GitIndex::default();
        index.add(&mut &*bytes, object_id_bytes)?;
        Some(index)
    }

    fn paths(names: &[&str]) -> BTreeSet<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn the_folders_and_the_submodules_of_an_index_are_read() {
        let entries = [("a", FILE_MODE), ("b/c/d", FILE_MODE), ("b/sub", SUBMODULE_MODE), ("exactly7", FILE_MODE)];
        for (object_id_bytes, flags) in [(20, &[0, 1][..]), (32, &[0, 1][..]), (20, &[0x40, 1, 0x20, 0][..])] {
            let index = parse(&aligned_index(&entries, object_id_bytes, flags), object_id_bytes).unwrap();
            assert_eq!(index.submodules, paths(&["b/sub"]));
            assert_eq!(index.folders, paths(&["", "b", "b/c"]));
        }
    }

    #[test]
    fn names_without_the_beginning_of_the_previous_name_are_read() {
        let mut bytes = header(4, 3);
        for (rest, mode) in [("\0folder/one\0", FILE_MODE), ("\x03two\0", FILE_MODE), ("\x0asub\0", SUBMODULE_MODE)] {
            bytes.extend(status(mode, 20, &[0, 1]));
            bytes.extend(rest.as_bytes());
        }
        let index = parse(&bytes, 20).unwrap();
        assert_eq!((index.submodules, index.folders), (paths(&["sub"]), paths(&["", "folder"])));
        // A name can't omit more than the previous name has.
        let invalid = [header(4, 1), status(FILE_MODE, 20, &[0, 1]), b"\x05name\0".to_vec()].concat();
        assert!(parse(&invalid, 20).is_none());
    }

    #[test]
    fn the_numbers_of_git_have_one_encoding() {
        let read = |bytes: &[u8]| read_varint(&mut &*bytes);
        assert_eq!((read(&[0x05]), read(&[0x7f])), (Some(5), Some(127)));
        assert_eq!((read(&[0x80, 0x00]), read(&[0x81, 0x02])), (Some(128), Some(258)));
        assert_eq!((read(&[0x80]), read(&[0xff; 12])), (None, None));
    }

    #[test]
    fn an_index_that_cannot_be_read_is_reported_and_a_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(GitIndex::read(folder.path(), 20).is_readable);
        let bytes = index_of(&[], &["sub"]);
        for broken in [&bytes[..20], b"DIRC", b"other", &header(5, 0), &header(2, 1)] {
            fs::write(folder.path().join(INDEX), broken).unwrap();
            assert!(!GitIndex::read(folder.path(), 20).is_readable, "{broken:?}");
        }
        // git can't read a folder in place of the file either.
        fs::remove_file(folder.path().join(INDEX)).unwrap();
        fs::create_dir(folder.path().join(INDEX)).unwrap();
        assert!(!GitIndex::read(folder.path(), 20).is_readable);
        fs::remove_dir(folder.path().join(INDEX)).unwrap();
        // Entries of a split index are in another file.
        fs::write(folder.path().join(INDEX), header(2, 0)).unwrap();
        fs::write(folder.path().join("sharedindex.0a"), bytes).unwrap();
        let index = GitIndex::read(folder.path(), 20);
        assert!(index.is_readable && index.submodules == paths(&["sub"]));
        assert!(!GitIndex::read(&folder.path().join(INDEX), 20).is_readable, "a file is no git folder");
    }

    #[test]
    fn submodules_of_submodules_are_found_and_folders_without_a_repository_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for (name, submodules) in [(".git", &["empty", "link", "one"][..]), ("one/.git", &["two"][..])] {
            fs::create_dir_all(root.join(name)).unwrap();
            fs::write(root.join(name).join(INDEX), index_of(&[], submodules)).unwrap();
        }
        fs::create_dir_all(root.join("one/two/.git")).unwrap();
        fs::create_dir(root.join("empty")).unwrap();
        std::os::unix::fs::symlink("one", root.join("link")).unwrap();
        let git_folder = GitFolder::of_working_folder(&root).unwrap();
        let found = populated_submodules(&git_folder, &git_folder.index());
        assert_eq!(found, BTreeSet::from([root.join("one"), root.join("one/two")]));
    }
}
