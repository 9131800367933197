//! git accepts the diffs, and applying and reverting have the expected properties.

use std::fs;
use std::path::Path;
use std::process::Command;

use orch::files::{ChangeSet, FileEntry, ReservedFiles, diff};
use proptest::prelude::*;
use serde_json::json;

use super::Site;

/// Runs `git apply` in a folder, without any configuration of git.
fn git_apply(folder: &Path, patch: &str, arguments: &[&str]) {
    use std::io::Write as _;
    let mut git = Command::new("git")
        .arg("apply")
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap())
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    git.stdin.take().unwrap().write_all(patch.as_bytes()).unwrap();
    let output = git.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{patch}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn git_applies_the_diff() {
    let site = Site::new();
    let long: String = (0..40).map(|index| format!("line {index}\n")).collect();
    for (path, text) in
        [("long", long.as_str()), ("crlf", "a\r\nb\r\n"), ("bare", "a\nb"), ("gone", "a"), ("run", "x\n")]
    {
        site.put(path, text);
    }
    site.put("gone-empty", "");
    let changed = long.replace("line 3\n", "line three\n").replace("line 30\n", "");
    let list = json!([{"path": "long", "content": changed}, {"path": "crlf", "content": "a\r\nB\r\nc\r"},
        {"path": "bare", "content": "a\nb\n"}, {"path": "gone", "delete": true}, {"path": "gone-empty", "delete": true},
        {"path": "new dir/a b/ü \"q\" b.txt", "content": "-- a\n++ b\n"}, {"path": "empty", "content": ""},
        {"path": "run", "content": "x\n", "mode": "0755"}, {"path": "bin/x", "content": "#!/bin/sh", "mode": "0755"}]);
    let look = site.look(&list);
    let patch = diff(&look);
    git_apply(&site.workspace(), &patch, &["--check"]);
    git_apply(&site.workspace(), &patch, &[]);
    let by_git = site.snapshot();
    git_apply(&site.workspace(), &patch, &["-R"]);
    site.tree().apply(&look).unwrap();
    assert_eq!(site.snapshot(), by_git);
}

const PATHS: [&str; 9] = ["a", "b.txt", "d/a", "d/b", "d/e/f", "g/h i", "ü", "q\"x", "z/z/z/z"];

/// Texts that are difficult for a diff.
fn text() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "",
        "a",
        "b",
        "c\r",
        "\r",
        "ü",
        "-- a/a",
        "++ b/a",
        "@@ -1 +1 @@",
        "\\ No newline at end of file",
        "\0",
        "diff --git a/a b/a",
        "\u{2028}",
    ]);
    (prop::collection::vec(line, 0..12), any::<bool>())
        .prop_map(|(lines, ended)| lines.join("\n") + if ended { "\n" } else { "" })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![9 => text().prop_map(String::into_bytes), 1 => prop::collection::vec(any::<u8>(), 0..20)]
}

fn path() -> impl Strategy<Value = &'static str> {
    prop::sample::select(PATHS.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn applying_gives_the_entries_and_reverting_gives_the_previous_tree(
        old in prop::collection::btree_map(path(), (bytes(), prop::sample::select(vec![0o644, 0o755, 0o640])), 0..9),
        new in prop::collection::btree_map(path(), (prop::option::weighted(0.8, text()), prop::option::of(prop::sample::select(vec![0o755, 0o600]))), 0..9),
        empty in any::<bool>(),
    ) {
        let site = Site::new();
        for (path, (bytes, mode)) in &old {
            site.put(path, bytes);
            site.chmod(path, *mode);
        }
        if empty {
            fs::create_dir_all(site.workspace().join("d/e")).unwrap();
        }
        let list: Vec<FileEntry> = new.iter()
            .map(|(path, (content, mode))| FileEntry { path: (*path).to_owned(), content: content.clone(), mode: *mode })
            .collect();
        let before = site.snapshot();
        let look = site.tree().prepare(&list, ReservedFiles::default()).unwrap();
        let look: ChangeSet = serde_json::from_str(&serde_json::to_string(&look).unwrap()).unwrap();
        let patch = diff(&look);
        if patch.contains("diff --git") && !patch.contains("\nBinary files") {
            git_apply(&site.workspace(), &patch, &["--check"]);
        }
        let applied = site.tree().apply(&look).unwrap();
        prop_assert_eq!(applied.files.len(), list.len());
        for path in PATHS {
            let expected = match new.get(path) {
                Some((content, _)) => content.clone().map(String::into_bytes),
                None => old.get(path).map(|(bytes, _)| bytes.clone()),
            };
            prop_assert_eq!(fs::read(site.workspace().join(path)).ok(), expected, "{}", path);
        }
        let files = site.snapshot().values().filter(|(_, mode, _)| mode & 0o170_000 == 0o100_000).count();
        let expected = PATHS.iter().filter(|path| site.workspace().join(path).exists()).count();
        prop_assert_eq!(files, expected, "no temporary file is left");
        prop_assert_eq!(site.tree().apply(&look).unwrap().touched, 0);
        site.tree().revert(&look, false).unwrap();
        prop_assert_eq!(site.snapshot(), before);
    }
}
