//! No change leaves the workspace, whatever the paths, links, forged records and races.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use orch::files::{ChangeSet, FileEntry, PathIndex, ReservedFiles, RevertOutcome};
use orch::model::FailureClass;
use serde_json::json;

use super::{Site, snapshot, write};

/// The corpus: each line has a path as a JSON string, and a reason.
fn hostile_paths() -> Vec<(String, String)> {
    let text = fs::read_to_string("tests/data/paths/hostile.txt").unwrap();
    text.lines()
        .map(|line| {
            let mut stream = serde_json::Deserializer::from_str(line).into_iter::<String>();
            let path = stream.next().unwrap().unwrap();
            (path, line[stream.byte_offset()..].trim().to_owned())
        })
        .collect()
}

/// A workspace with the links and files that the corpus refers to.
fn workspace_with_traps() -> Site {
    let site = Site::new();
    let (workspace, outside) = (site.workspace(), site.outside());
    site.put("real/file", "in");
    let links: [(&Path, &str); 11] = [
        (&outside, "link_out"),
        (Path::new("real"), "link_in"),
        (&outside.join("file"), "link_file"),
        (&outside.join("new"), "link_dangling"),
        (Path::new(".."), "link_parent"),
        (Path::new("link_loop"), "link_loop"),
        (Path::new("/etc"), "link_absolute"),
        (Path::new("../.."), "real/link_up"),
        (Path::new("real/file"), "link_file_in"),
        (Path::new("/proc/self"), "link_proc"),
        (&outside, "link_unused"),
    ];
    for (target, name) in links {
        symlink(target, workspace.join(name)).unwrap();
    }
    assert!(Command::new("mkfifo").arg(workspace.join("pipe")).status().unwrap().success());
    site
}

#[test]
fn no_hostile_path_is_written_or_deleted() {
    let site = workspace_with_traps();
    let before = snapshot(site.base.path());
    let reserved = PathIndex::new(["plan.json", "out/review.md"].map(str::to_owned));
    let corpus = hostile_paths();
    assert!(corpus.len() >= 60, "{}", corpus.len());
    for (path, reason) in &corpus {
        for content in [Some("owned".to_owned()), None] {
            let list = [write("fine.txt", "x"), FileEntry { path: path.clone(), content, mode: Some(0o777) }];
            let refused =
                site.tree().prepare(&list, ReservedFiles { artifacts: &reserved, ..ReservedFiles::default() });
            let failure = refused.expect_err(&format!("{path:?} is accepted: {reason}"));
            assert_eq!(failure.class, FailureClass::PathRefused, "{path:?}: {failure}");
            assert!(!failure.message.contains(char::is_control), "{failure:?}");
            assert!(!failure.message.contains("; "), "more than one problem: {failure}");
        }
    }
    assert_eq!(snapshot(site.base.path()), before);
}

#[test]
fn a_forged_record_with_a_hostile_path_is_rejected() {
    let site = workspace_with_traps();
    let outside = snapshot(&site.outside());
    for (path, reason) in hostile_paths() {
        let forged = json!({"files": [{"path": path, "after": {"content": {"text": "owned"}, "mode": "0777"}}],
            "new_folders": [path]});
        let look: ChangeSet = serde_json::from_value(forged).unwrap();
        site.tree().apply(&look).ok();
        site.tree().revert(&look, true).ok();
        assert_eq!(snapshot(&site.outside()), outside, "{path:?}: {reason}");
        let beside = fs::read_dir(site.base.path()).unwrap().count();
        assert_eq!(beside, 2, "{path:?} made something beside the workspace");
    }
}

#[test]
fn a_forged_record_makes_no_git_repository() {
    let site = Site::new();
    let paths = ["x/config", "x/objects/a", "x/refs/heads/a", "x/HEAD"];
    let forged = |side: &str| -> ChangeSet {
        let files =
            paths.iter().chain(&["fine.txt"]).map(|path| json!({"path": path, side: {"content": {"text": "x"}}}));
        serde_json::from_value(json!({ "files": files.collect::<Vec<_>>() })).unwrap()
    };
    let failure = site.tree().apply(&forged("after")).unwrap_err();
    assert_eq!(failure.class, FailureClass::PathRefused);
    for path in paths {
        assert!(failure.message.contains(&format!("`{path}` would make `x` a git repository")), "{failure}");
    }
    assert!(site.snapshot().is_empty());
    let forged = forged("before");
    let preview = site.tree().preview_revert(std::slice::from_ref(&forged), &[], false);
    let reverted = site.tree().revert(&forged, false).unwrap();
    assert_eq!(preview, reverted);
    let restored: Vec<&str> = reverted
        .files
        .iter()
        .filter(|file| file.outcome == RevertOutcome::Reverted)
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(restored, ["fine.txt"]);
    assert!(reverted.files[0].reason.as_ref().unwrap().contains("a git repository"), "{reverted:?}");
    assert!(!site.workspace().join("x").exists());
}

#[test]
fn all_hostile_paths_together_give_one_failure_that_names_ten() {
    let site = workspace_with_traps();
    let list: Vec<FileEntry> = hostile_paths().iter().map(|(path, _)| write(path, "x")).collect();
    let failure = site.tree().prepare(&list, ReservedFiles::default()).unwrap_err();
    assert!(failure.message.starts_with("the files can't be written: `` is empty; `/` is absolute"), "{failure}");
    assert!(failure.message.contains("; and "), "{failure}");
    assert!(failure.hint.is_some());
}

#[test]
fn a_forced_change_never_writes_through_a_link_or_over_a_folder() {
    let site = Site::new();
    site.put("a", "1");
    site.put("b", "1");
    let look = site.look(&json!([{"path": "a", "content": "2"}, {"path": "b", "content": "2"}]));
    site.tree().apply(&look).unwrap();
    fs::remove_file(site.workspace().join("a")).unwrap();
    symlink(site.outside().join("file"), site.workspace().join("a")).unwrap();
    fs::remove_file(site.workspace().join("b")).unwrap();
    fs::create_dir(site.workspace().join("b")).unwrap();
    let before = snapshot(site.base.path());
    let reverted = site.tree().revert(&look, true).unwrap();
    assert!(reverted.files.iter().all(|file| file.outcome == RevertOutcome::Skipped), "{reverted:?}");
    assert_eq!(snapshot(site.base.path()), before);
}

#[test]
fn a_hard_link_to_a_file_outside_is_replaced_and_not_written_through() {
    let site = Site::new();
    fs::hard_link(site.outside().join("file"), site.workspace().join("a")).unwrap();
    let look = site.look(&json!([{"path": "a", "content": "new"}]));
    site.tree().apply(&look).unwrap();
    assert_eq!(fs::read(site.outside().join("file")).unwrap(), b"sentinel");
    assert_eq!(site.bytes("a"), b"new");
}

#[test]
fn a_folder_that_alternates_with_a_link_never_leads_outside() {
    let site = Site::new();
    site.put("real/x", "1");
    let outside = snapshot(&site.outside());
    let (real, away) = (site.workspace().join("real"), site.workspace().join("away"));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                fs::rename(&real, &away).ok();
                // Meanwhile, orch may have created the folder again.
                fs::remove_dir_all(&real).ok();
                symlink(site.outside(), &real).ok();
                fs::remove_file(&real).ok();
                fs::rename(&away, &real).ok();
            }
        });
        let tree = site.tree();
        for round in 0..200 {
            let list = [write("real/x", &round.to_string()), write("real/file", "owned"), write("real/new/y", "2")];
            if let Ok(look) = tree.prepare(&list, ReservedFiles::default()) {
                tree.apply(&look).ok();
                tree.revert(&look, true).ok();
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(snapshot(&site.outside()), outside);
}
