//! Reverts of changes of a program that replaced files by folders, folders by files or links, or used unusual names.

use std::fs;
use std::os::unix::fs::symlink;

use orch::files::{ChangeSet, FileSnapshot, RevertOutcome, RevertReport, UnrecordedChange};

use super::{Site, snapshot};

/// Makes changes as a program would, and returns their record, with the changed files whose contents it lacks.
fn change(site: &Site, change: impl FnOnce()) -> (ChangeSet, Vec<UnrecordedChange>) {
    let before = FileSnapshot::from_folder(&site.workspace(), &[]);
    change();
    let activity = before.difference(&FileSnapshot::from_folder(&site.workspace(), &[]));
    let unrecorded = activity.left_out.iter().map(|path| UnrecordedChange {
        path: path.clone(),
        reason: "was changed".to_owned(),
        hides_original: true,
    });
    let unrecorded = unrecorded.collect();
    let change_set = activity.files.map(|files| serde_json::from_value(files).unwrap()).unwrap_or_default();
    (change_set, unrecorded)
}

/// Reverts changes. The preview must be the same, and a second revert must change nothing.
fn revert(site: &Site, (change_set, unrecorded): &(ChangeSet, Vec<UnrecordedChange>)) -> RevertReport {
    let change_sets = std::slice::from_ref(change_set);
    let preview = site.tree().preview_revert(change_sets, unrecorded, false);
    let report = site.tree().revert_all(change_sets, unrecorded, false).unwrap();
    assert_eq!(preview, report);
    let reverted = site.snapshot();
    let again = site.tree().revert_all(change_sets, unrecorded, false).unwrap();
    assert_eq!(site.snapshot(), reverted, "a second revert changes nothing");
    assert!(again.files.iter().all(|file| file.outcome != RevertOutcome::Reverted), "{again:?}");
    assert_eq!(skipped(&again), skipped(&report));
    report
}

fn skipped(report: &RevertReport) -> Vec<&str> {
    let files = report.files.iter().filter(|file| file.outcome == RevertOutcome::Skipped);
    files.map(|file| file.path.as_str()).collect()
}

#[test]
fn files_with_any_name_that_a_program_can_give_are_reverted() {
    let site = Site::new();
    site.put("keep", "1");
    site.put("a:b", "1");
    let before = site.snapshot();
    let deep = "d/".repeat(80) + "x";
    let long = format!("{0}/{0}/{0}/{0}/{0}/{0}/x", "n".repeat(200));
    let names = [
        "logs/2026-12-01T01:05:22.log",
        "CON",
        "a\\b",
        "a.",
        "git~1",
        "e\u{1b}[2J",
        "\u{202e}r",
        "a\nb",
        "q/.git",
        ".orch-foo/x.py",
        ".orchestra.txt",
        "sub/.orchrc",
        deep.as_str(),
        long.as_str(),
    ];
    let changes = change(&site, || {
        site.put("keep", "2");
        site.put("a:b", "2");
        for name in names {
            site.put(name, "new");
        }
    });
    let report = revert(&site, &changes);
    assert_eq!((skipped(&report), report.files.len()), (Vec::new(), names.len() + 2), "{report:?}");
    assert_eq!(site.snapshot(), before);
}

#[test]
fn a_file_that_can_not_be_restored_is_skipped_and_the_others_are_restored() {
    let site = Site::new();
    site.put("a", "1");
    site.put("q/.git", "gitdir: elsewhere\n");
    let changes = change(&site, || {
        site.put("a", "2");
        site.put("q/.git", "gitdir: evil\n");
        site.put("sub/.orch/x", "new");
    });
    let report = revert(&site, &changes);
    assert_eq!(skipped(&report), ["q/.git", "sub/.orch/x"]);
    let reasons: Vec<&str> = report.files.iter().filter_map(|file| file.reason.as_deref()).collect();
    assert_eq!(reasons, ["lies in git's own folder `.git`", "is kept for orch's own files (`.orch`)"]);
    assert_eq!((site.bytes("a"), site.bytes("q/.git")), (b"1".to_vec(), b"gitdir: evil\n".to_vec()));
}

#[test]
fn a_file_and_a_folder_that_replaced_one_another_are_restored_at_once() {
    let site = Site::new();
    site.put("f", "file");
    site.put("g/a", "1");
    site.put("g/b/c", "2");
    let before = site.snapshot();
    let changes = change(&site, || {
        fs::remove_file(site.workspace().join("f")).unwrap();
        site.put("f/x", "new");
        site.put("f/y/z", "new");
        fs::remove_dir_all(site.workspace().join("g")).unwrap();
        site.put("g", "file");
    });
    let report = revert(&site, &changes);
    assert!(report.files.iter().all(|file| file.outcome == RevertOutcome::Reverted), "{report:?}");
    assert_eq!(site.snapshot(), before);
}

#[test]
fn a_new_file_stays_if_the_old_one_in_its_place_can_not_be_restored() {
    let site = Site::new();
    site.put("f", "file");
    site.put("moved", "content");
    let changes = change(&site, || {
        fs::remove_file(site.workspace().join("f")).unwrap();
        site.put("f/x", "new");
        fs::rename(site.workspace().join("moved"), site.workspace().join("target")).unwrap();
    });
    site.put("f/mine", "of the user");
    site.put("moved", "of the user");
    let before = site.snapshot();
    let report = revert(&site, &changes);
    assert_eq!(skipped(&report), ["f", "f/x", "moved", "target"]);
    let reason = report.files[1].reason.as_deref();
    assert_eq!(reason, Some("stays, because it is in the place of `f`, which orch can't restore"));
    let reason = report.files[3].reason.as_deref();
    assert_eq!(reason, Some("stays, because it has the content of `moved`, which orch can't restore"));
    assert_eq!(site.snapshot(), before);
}

#[test]
fn a_link_that_a_program_put_in_the_place_of_a_folder_is_removed_and_not_followed() {
    let site = Site::new();
    site.put("d/f", "1");
    site.put("d/config", "2");
    let (before, outside) = (site.snapshot(), snapshot(&site.outside()));
    let place = site.workspace().join("d");
    let changes = change(&site, || {
        fs::rename(&place, site.workspace().join("dd")).unwrap();
        symlink(site.outside(), &place).unwrap();
    });
    let report = revert(&site, &changes);
    assert!(report.files.iter().all(|file| file.outcome == RevertOutcome::Reverted), "{report:?}");
    assert_eq!((site.snapshot(), snapshot(&site.outside())), (before, outside));
}

#[test]
fn a_link_that_the_user_put_in_the_place_of_a_folder_stays_with_the_moved_files() {
    let site = Site::new();
    site.put("d/f", "1");
    let place = site.workspace().join("d");
    let changes = change(&site, || fs::rename(&place, site.workspace().join("dd")).unwrap());
    symlink(site.outside(), &place).unwrap();
    let before = snapshot(site.base.path());
    let report = revert(&site, &changes);
    assert_eq!(skipped(&report), ["d/f", "dd/f"]);
    assert_eq!(snapshot(site.base.path()), before);
}
