//! A change set is applied completely or not at all, also if the system reports an error in the middle.

use std::path::Path;
use std::process::Command;

use orch::files::{FileEntry, ReservedFiles, Tree};
use orch::model::FailureClass;
use serde_json::json;

use super::{Site, write};
use crate::support::print_skipped;

#[test]
fn a_failure_during_the_swaps_restores_every_file() {
    let site = Site::new();
    for path in ["a", "b", "c"] {
        site.put(path, "old");
    }
    let look = site.look(&json!([{"path": "a", "content": "new"}, {"path": "n/x", "content": "new"},
        {"path": "b", "content": "new"}, {"path": "c", "delete": true}]));
    let before = site.snapshot();
    // Not even root may replace this one file; that needs root and a file system with the attribute.
    let file = site.workspace().join("b");
    let frozen =
        |flag: &str| Command::new("chattr").arg(flag).arg(&file).output().is_ok_and(|out| out.status.success());
    if !frozen("+i") {
        print_skipped("a failure during the swaps is not tested", "`chattr +i` does not work here");
        return;
    }
    let result = site.tree().apply(&look);
    assert!(frozen("-i"));
    let failure = result.unwrap_err();
    assert_eq!(failure.class, FailureClass::Storage);
    assert!(failure.message.contains("`b` can't be replaced"), "{failure}");
    assert!(failure.message.ends_with("all files are as they were"), "{failure}");
    assert_eq!(site.snapshot(), before);
    assert_eq!(site.tree().apply(&look).unwrap().touched, 4);
}

#[test]
fn a_full_disk_leaves_every_file_unchanged() {
    let site = Site::new();
    site.put("a", "old");
    site.put("d", "old");
    let before = site.snapshot();
    // A limit on the size of files imitates the full disk: the system refuses to write more in both cases.
    let output = Command::new("bash")
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["files::faults::a_write_on_a_full_disk_fails", "--exact", "--ignored"])
        .env("ORCH_TEST_FULL_DISK", site.workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    assert_eq!(site.snapshot(), before);
}

#[test]
#[ignore = "started by the test of the full disk"]
fn a_write_on_a_full_disk_fails() {
    let Some(workspace) = std::env::var_os("ORCH_TEST_FULL_DISK") else { return };
    let tree = Tree::open(Path::new(&workspace)).unwrap();
    let large = "line\n".repeat(100_000);
    let delete = FileEntry { content: None, ..write("d", "") };
    let list = [write("a", "new"), delete, write("n/m/b", "new"), write("n/large", &large)];
    let look = tree.prepare(&list, ReservedFiles::default()).unwrap();
    let failure = tree.apply(&look).unwrap_err();
    assert_eq!(failure.class, FailureClass::Storage);
    assert!(failure.message.contains("`n/large` can't be written"), "{failure}");
}
