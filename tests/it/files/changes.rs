//! Changes of files: creating, changing, deleting, applying twice, edits in between, reverting.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use orch::files::{ChangeKind, FileEntry, MAX_FILES, ReservedFiles, RevertOutcome};
use orch::model::{Digest, FailureClass};
use serde_json::json;

use super::{Site, write};

#[test]
fn files_are_created_changed_and_deleted_and_a_revert_restores_them() {
    let site = Site::new();
    site.put("src/old.rs", "fn a() {}\n");
    site.put("src/gone.rs", [0xff, 0x00]);
    site.put("same.txt", "same\r\n");
    let before = site.snapshot();
    let look = site.look(&json!({"language": "rust", "files": [
        {"path": "src/old.rs", "content": "fn a() {}\r\nfn b() {}"},
        {"path": "src/gone.rs", "delete": true},
        {"path": "same.txt", "content": "same\r\n"},
        {"path": "Grüße/日本語 👩‍💻.md", "content": "ü"},
        {"path": "empty/__init__.py", "content": ""},
        {"path": "never/there", "delete": true},
    ]}));
    assert_eq!(site.snapshot(), before, "looking writes nothing");
    let applied = site.tree().apply(&look).unwrap();
    let kinds: Vec<ChangeKind> = applied.files.iter().map(|file| file.change).collect();
    assert_eq!(
        kinds,
        [
            ChangeKind::Changed,
            ChangeKind::Deleted,
            ChangeKind::Unchanged,
            ChangeKind::Created,
            ChangeKind::Created,
            ChangeKind::Unchanged
        ]
    );
    assert_eq!((applied.files[0].added, applied.files[0].removed), (2, 1));
    assert_eq!((applied.files[1].added, applied.files[1].removed), (0, 0));
    assert_eq!(applied.files[0].before, Some(Digest::compute(b"fn a() {}\n")));
    assert_eq!(applied.files[0].after, Some(Digest::compute(b"fn a() {}\r\nfn b() {}")));
    assert_eq!((applied.files[1].after.as_ref(), applied.touched), (None, 4));
    assert_eq!(site.bytes("src/old.rs"), b"fn a() {}\r\nfn b() {}");
    assert_eq!(site.bytes("Grüße/日本語 👩‍💻.md"), "ü".as_bytes());
    assert_eq!(site.bytes("empty/__init__.py"), b"");
    assert!(!site.workspace().join("src/gone.rs").exists() && !site.workspace().join("never").exists());
    let reverted = site.tree().revert(&look, false).unwrap();
    assert!(reverted.files.iter().all(|file| file.outcome == RevertOutcome::Reverted), "{reverted:?}");
    assert_eq!(site.snapshot(), before);
}

#[test]
fn applying_twice_changes_nothing_and_reports_the_same() {
    let site = Site::new();
    site.put("a", "1");
    let look = site.look(&json!([{"path": "a", "content": "2"}, {"path": "b/c", "content": "3"}]));
    let first = site.tree().apply(&look).unwrap();
    let inode = |path: &str| fs::metadata(site.workspace().join(path)).unwrap().ino();
    let inodes = [inode("a"), inode("b/c")];
    let second = site.tree().apply(&look).unwrap();
    assert_eq!((first.touched, second.touched), (2, 0));
    assert_eq!(first.files, second.files);
    assert_eq!([inode("a"), inode("b/c")], inodes);
}

#[test]
fn a_file_that_was_edited_in_between_is_named_and_nothing_is_written() {
    let site = Site::new();
    for path in ["a", "b", "c", "d"] {
        site.put(path, path);
    }
    let look = site.look(&json!([{"path": "a", "content": "new"}, {"path": "b", "content": "new"},
        {"path": "c", "content": "new"}, {"path": "d", "content": "new"}, {"path": "e", "content": "new"}]));
    site.put("b", "mine");
    fs::remove_file(site.workspace().join("c")).unwrap();
    site.chmod("d", 0o600);
    site.put("e", "mine");
    let before = site.snapshot();
    let failure = site.tree().apply(&look).unwrap_err();
    assert_eq!(failure.class, FailureClass::PathRefused);
    for part in ["`b` was edited", "`c` was deleted", "`d` got the mode 0600", "`e` was created by the user"] {
        assert!(failure.message.contains(part), "{part}: {failure}");
    }
    assert!(!failure.message.contains("`a`"), "{failure}");
    assert_eq!(site.snapshot(), before);
}

#[test]
fn a_revert_keeps_later_edits_unless_forced() {
    let site = Site::new();
    site.put("a", "1");
    site.put("b", "1");
    let before = site.snapshot();
    let list = json!([{"path": "a", "content": "2"}, {"path": "b", "content": "2"}, {"path": "n/c", "content": "2"}]);
    let look = site.look(&list);
    site.tree().apply(&look).unwrap();
    site.put("b", "mine");
    site.put("n/c", "mine");
    let reverted = site.tree().revert(&look, false).unwrap();
    let outcomes: Vec<RevertOutcome> = reverted.files.iter().map(|file| file.outcome).collect();
    assert_eq!(outcomes, [RevertOutcome::Reverted, RevertOutcome::Skipped, RevertOutcome::Skipped]);
    assert_eq!(reverted.files[1].reason.as_deref(), Some("was edited since orch wrote it"));
    assert_eq!((site.bytes("a"), site.bytes("b")), (b"1".to_vec(), b"mine".to_vec()));
    let reverted = site.tree().revert(&look, true).unwrap();
    let outcomes: Vec<RevertOutcome> = reverted.files.iter().map(|file| file.outcome).collect();
    assert_eq!(outcomes, [RevertOutcome::Unchanged, RevertOutcome::Reverted, RevertOutcome::Reverted]);
    assert_eq!(site.snapshot(), before);
}

#[test]
fn a_revert_keeps_folders_that_contain_new_files() {
    let site = Site::new();
    let look = site.look(&json!([{"path": "new/deep/a", "content": "1"}]));
    site.tree().apply(&look).unwrap();
    site.put("new/mine", "1");
    site.tree().revert(&look, false).unwrap();
    assert!(site.workspace().join("new/mine").is_file() && !site.workspace().join("new/deep").exists());
}

#[test]
fn modes_are_kept_and_set_without_setuid_bits() {
    let site = Site::new();
    for (path, mode) in [("script", 0o755), ("secret", 0o600), ("lent", 0o4755), ("only", 0o644), ("read", 0o444)] {
        site.put(path, "1");
        site.chmod(path, mode);
    }
    let before = site.snapshot();
    let look = site.look(&json!([
        {"path": "script", "content": "2"}, {"path": "secret", "content": "2"}, {"path": "lent", "content": "2"},
        {"path": "only", "content": "1", "mode": "0755"}, {"path": "read", "content": "2"},
        {"path": "new", "content": "1", "mode": "0700"}, {"path": "plain", "content": "1"},
    ]));
    let applied = site.tree().apply(&look).unwrap();
    assert_eq!(applied.touched, 7);
    assert_eq!(applied.files[3].change, ChangeKind::Changed);
    let expected =
        [("script", 0o755), ("secret", 0o600), ("lent", 0o755), ("only", 0o755), ("read", 0o444), ("new", 0o700)];
    for (path, mode) in expected {
        assert_eq!(site.mode(path), mode, "{path}");
    }
    site.put("ordinary", "1");
    assert_eq!(site.mode("plain"), site.mode("ordinary"));
    fs::remove_file(site.workspace().join("ordinary")).unwrap();
    site.tree().revert(&look, false).unwrap();
    // A record of a file's earlier state may be forged, so a revert sets no setuid bit either.
    assert_eq!(site.mode("lent"), 0o755);
    let again = site.tree().revert(&look, false).unwrap();
    assert!(again.files.iter().all(|file| file.outcome == RevertOutcome::Unchanged), "{again:?}");
    site.chmod("lent", 0o4755);
    assert_eq!(site.snapshot(), before);
}

#[test]
fn the_maximum_number_of_files_is_prepared_quickly() {
    let site = Site::new();
    let list: Vec<FileEntry> = (0..MAX_FILES).map(|index| write(&format!("d{}/f{index}", index % 7), "x")).collect();
    let look = site.tree().prepare(&list, ReservedFiles::default()).unwrap();
    assert_eq!((look.files.len(), look.new_folders.len()), (MAX_FILES, 7));
}
