//! Tests of `edit` and `write`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use orch::files::{ChangeSet, Tree};
use orch::model::{Digest, Failure, FailureClass};
use serde_json::json;

use super::ToolSite;

#[test]
fn an_edit_replaces_a_unique_text_and_records_the_change() {
    let site = ToolSite::new(&["edit"]);
    site.put("src/a.rs", "fn a() -> u8 {\n    1\n}\n");
    fs::set_permissions(site.path("src/a.rs"), fs::Permissions::from_mode(0o755)).unwrap();
    let call = site.call("edit", json!({"path": "src/a.rs", "old": "    1\n", "new": "    2\n"})).succeeds();
    assert_eq!(site.content("src/a.rs"), "fn a() -> u8 {\n    2\n}\n");
    assert!(call.text.starts_with("Replaced 1 occurrence in `src/a.rs`, in line 2.\n"), "{}", call.text);
    assert!(call.text.contains("-    1\n+    2\n"), "{}", call.text);
    assert_eq!(fs::metadata(site.path("src/a.rs")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(site.recorded(), ["src/a.rs"], "the change is recorded before it is made");
    let changed = &call.changed_files[0];
    assert_eq!((changed.path.as_str(), call.changed_files.len()), ("src/a.rs", 1));
    assert_eq!(changed.before, Some(Digest::compute(b"fn a() -> u8 {\n    1\n}\n")));
    assert_eq!(changed.after, Some(Digest::compute(b"fn a() -> u8 {\n    2\n}\n")));
    assert_eq!(call.activity.changed, ["src/a.rs"]);
    let change_set: ChangeSet = serde_json::from_value(call.activity.files.unwrap()).unwrap();
    Tree::open(&site.path("").components().collect::<PathBuf>()).unwrap().revert(&change_set, false).unwrap();
    assert_eq!(site.content("src/a.rs"), "fn a() -> u8 {\n    1\n}\n");
}

#[test]
fn an_edit_that_does_not_fit_says_what_is_there() {
    let site = ToolSite::new(&["edit"]);
    site.put("a.py", "def f():\n\treturn 1\n\ndef g():\n\treturn 1\n").put("latin", b"caf\xe9");
    let edit = |old: &str| site.call("edit", json!({"path": "a.py", "old": old, "new": "x"}));
    edit("return 1").fails_with("`old` occurs 2 times in `a.py`, in lines 2, 5; add lines around it");
    edit("def f():\n    return 1").fails_with("line 2 is indented with 1 tab, and `old` with 4 spaces");
    let call = edit("def g():\n\treturn 2").fails_with("The most similar lines of the file are:\n     4\tdef g():\n");
    assert!(call.text.contains("Line 5 has: \treturn 1\n`old` has: \treturn 2"), "{}", call.text);
    edit("     1\tdef f():\n     2\t\treturn 1").fails_with("contains the line numbers of `read`");
    edit("class Other:").fails_with("does not occur in `a.py`");
    assert_eq!(site.content("a.py"), "def f():\n\treturn 1\n\ndef g():\n\treturn 1\n");
    site.call("edit", json!({"path": "a.py", "old": "return 1", "new": "return 2", "all": true})).succeeds();
    assert_eq!(site.content("a.py"), "def f():\n\treturn 2\n\ndef g():\n\treturn 2\n");
    site.call("edit", json!({"path": "latin", "old": "caf", "new": "x"})).fails_with("is not UTF-8 text");
    site.call("edit", json!({"path": "b.py", "old": "a", "new": "b"})).fails_with("`b.py` does not exist");
}

#[test]
fn a_file_is_written_with_its_folders() {
    let site = ToolSite::new(&["write"]);
    let call = site.call("write", json!({"path": "new/deep/a.txt", "content": "1\n2\n"})).succeeds();
    assert_eq!(call.text, "Created `new/deep/a.txt`: 2 lines, 4 bytes.\n");
    assert_eq!((call.changed_files[0].before.clone(), site.content("new/deep/a.txt")), (None, "1\n2\n".to_owned()));
    let call = site.call("write", json!({"path": "./new/deep/a.txt", "content": "1\n3\n4\n"})).succeeds();
    assert_eq!(call.text, "Replaced `new/deep/a.txt`: 3 lines, 6 bytes (+2 −1 line).\n");
    let call = site.call("write", json!({"path": "new/deep/a.txt", "content": "1\n3\n4\n"})).succeeds();
    assert_eq!(call.text, "`new/deep/a.txt` already has this content.\n");
    assert!(call.changed_files.is_empty() && call.activity.is_empty());
    site.call("write", json!({"path": "new/deep", "content": ""})).fails_with("is a folder, not a file");
    site.call("write", json!({"path": "new/deep/a.txt/b", "content": ""})).fails_with("which is a file");
    site.call("write", json!({"path": ".", "content": ""})).fails_with("is the folder of the workspace");
    assert_eq!(fs::read_dir(site.path("new/deep")).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn protected_and_reserved_files_can_not_be_changed() {
    let mut site = ToolSite::new(&["edit", "write"]);
    site.reserved = vec!["out/plan.json".to_owned(), "pipelines/main.yaml".to_owned()];
    site.project_files = vec!["pipelines/main.yaml".to_owned()];
    let paths = [
        ".git/hooks/pre-commit",
        ".git/config",
        ".orch/journal.db",
        ".orch.lock",
        "orch.yaml",
        ".github/workflows/ci.yml",
        "pipelines/main.yaml",
        "out/plan.json",
    ];
    for path in paths {
        site.put(path, "old");
        site.call("write", json!({"path": path, "content": "new"})).fails_with(path);
        site.call("edit", json!({"path": path, "old": "old", "new": "new"})).fails_with(path);
        assert_eq!(site.content(path), "old", "{path}");
    }
    for (path, message) in [
        (
            "orch.yaml",
            "nothing was changed: `orch.yaml` is protected, because git, GitHub or orch reads or runs it later",
        ),
        (
            ".github/x",
            "`.github/x` lies in `.github`, which is protected, because git, GitHub or orch reads or runs it",
        ),
        ("out/plan.json", "`out/plan.json` is kept for the artifact that orch writes there"),
    ] {
        let call = site.call("write", json!({"path": path, "content": "new"})).fails_with(message);
        assert!(call.text.ends_with("describe it in your answer, so that the user can make it"), "{}", call.text);
    }
    for path in ["ORCH.yaml", ".GitHub/x", "OUT/plan.json", ".git", ".github"] {
        assert!(site.call("write", json!({"path": path, "content": "new"})).is_error, "{path}");
    }
    site.call("write", json!({"path": "out/other.json", "content": "{}"})).succeeds();
    assert_eq!(site.recorded(), ["out/other.json"]);
}

#[test]
fn the_file_tools_make_no_git_repository_and_change_none() {
    let site = ToolSite::new(&["edit", "write"]);
    let program = site.outside("program").display().to_string();
    let settings = format!("[core]\n\tfsmonitor = {program}\n");
    for (path, content) in [("x/config", settings.as_str()), ("x/objects/info/packs", ""), ("x/refs/heads/.keep", "")] {
        site.call("write", json!({"path": path, "content": content})).succeeds();
    }
    for path in ["x/HEAD", "x/head", "x/commondir"] {
        let call = site.call("write", json!({"path": path, "content": "ref: refs/heads/main\n"}));
        let is_head = path != "x/commondir";
        assert_eq!(call.is_error, is_head, "{path}: {call:?}");
        assert!(!is_head || call.text.contains("would make `x` a git repository"), "{call:?}");
    }
    // `commondir` takes the place of `objects` and `refs`.
    site.call("write", json!({"path": "y/HEAD", "content": "ref: refs/heads/main\n"})).succeeds();
    site.call("write", json!({"path": "y/commondir", "content": "../x\n"}))
        .fails_with("would make `y` a git repository");
    assert!(!site.path("x/HEAD").exists() && !site.path("y/commondir").exists());

    site.put("z.git/HEAD", "ref: refs/heads/main\n").put("z.git/config", "[core]\n\tbare = true\n");
    site.put("z.git/objects/info/packs", "").put("z.git/refs/heads/a", "").put("z.git/hooks/update", "exit 0\n");
    let refused = "would change a file of the git repository in `z.git`";
    site.call("edit", json!({"path": "z.git/config", "old": "bare = true", "new": "x = y"})).fails_with(refused);
    site.call("edit", json!({"path": "z.git/hooks/update", "old": "exit 0", "new": "exit 1"})).fails_with(refused);
    site.call("write", json!({"path": "z.git/hooks/pre-receive", "content": ""})).fails_with(refused);
    assert_eq!(site.content("z.git/config"), "[core]\n\tbare = true\n");
    site.call("write", json!({"path": "z.git/description", "content": "x"})).succeeds();
}

#[test]
fn the_sandbox_limits_what_the_file_tools_may_read_and_change() {
    let mut site = ToolSite::new(&["read", "list", "search", "edit", "write"]);
    site.sandbox = Some(json!({ "write": ["src"], "deny_read": ["keys", "src/private"] }));
    site.put("src/a", "needle").put("src/private/b", "needle").put("keys/c", "needle").put("docs/d", "needle");
    site.link("keys", "link").link("../keys/c", "src/key");
    for path in ["keys/c", "src/private/b", "KEYS/c", "link/c", "src/key", "keys/missing"] {
        site.call("read", json!({"path": path})).fails_with("may not be read: the sandbox of this agent denies");
    }
    site.call("list", json!({"path": "keys"})).fails_with("denies `keys`");
    assert_eq!(site.call("list", json!({})).succeeds().text, "docs/\nlink\t(symbolic link)\nsrc/\n");
    let found = site.call("search", json!({"regex": "needle"})).succeeds().text;
    assert_eq!(found, "docs/d:1: needle\nsrc/a:1: needle\n[2 lines in 2 files match]\n");
    site.call("edit", json!({"path": "src/private/b", "old": "x", "new": "y"})).fails_with("may not be read");
    site.call("write", json!({"path": "keys/new", "content": "x"})).fails_with("may not be read");
    site.call("write", json!({"path": "docs/d", "content": "x"})).fails_with("allows it to change only `src`");
    site.call("write", json!({"path": "src/new", "content": "x"})).succeeds();
    site.sandbox = None;
    site.call("read", json!({"path": "keys/c"})).succeeds();
    site.call("write", json!({"path": "docs/d", "content": "x"})).succeeds();
}

#[test]
fn a_change_that_can_not_be_recorded_is_not_made() {
    let mut site = ToolSite::new(&["edit", "write"]);
    site.put("a", "old");
    site.record_error = Some(Failure::new(FailureClass::Storage, "the disk is full"));
    for (tool, arguments) in [
        ("edit", json!({"path": "a", "old": "old", "new": "new"})),
        ("write", json!({"path": "a", "content": "new"})),
        ("write", json!({"path": "b", "content": "new"})),
    ] {
        assert_eq!(site.failure(tool, arguments).class, FailureClass::Storage);
    }
    assert_eq!(site.content("a"), "old");
    assert!(!site.path("b").exists());
}
