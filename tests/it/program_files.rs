//! Files that a program of a run changed: `runs diff`, `runs revert`, `runs export` and `runs import` accept every name.

use crate::unrecorded_changes::{project, run};

#[test]
fn files_with_any_name_and_replaced_files_are_shown_reverted_and_imported() {
    let script = "printf new > 2026-12-01T01:05:22.log; printf new > CON; touch \"$(printf 'a\\nreverted  b')\"; \
                  mkdir .orch-foo; printf new > .orch-foo/x.py; printf new > .orchestra.txt; printf 2 > .orchrc; \
                  printf 2 > keep.txt; rm f; mkdir f; printf new > f/x; rm -r g; printf new > g";
    let orch = project(&[script]);
    for (path, content) in [(".orchrc", "1"), ("keep.txt", "1"), ("f", "file"), ("g/a", "1"), ("g/b/c", "1")] {
        orch.write(&format!("workspace/{path}"), content);
    }
    let workspace_files = || -> Vec<String> {
        let is_changed_by_orch = |path: &String| path.ends_with(".lock") || path.contains("said_one");
        let files = orch.files().into_iter().filter(|path| path.starts_with("workspace/"));
        files.filter(|path| !is_changed_by_orch(path)).collect()
    };
    let before = workspace_files();
    let id = run(&orch);
    assert_ne!(workspace_files(), before);
    let diff = orch.run(&["runs", "diff", &id]).exits(0);
    for path in ["2026-12-01T01:05:22.log", "CON", "a\\nreverted  b", ".orch-foo/x.py", ".orchestra.txt", ".orchrc"] {
        assert!(diff.stdout.contains(path), "{path}: {diff:?}");
    }
    orch.run(&["runs", "export", &id, "--to", "run.json"]).exits(0);
    orch.run(&["runs", "import", "run.json", "--state", "imported"]).exits(0);
    let reverted = orch.run(&["runs", "revert", &id]).exits(0);
    assert!(reverted.stdout.lines().all(|line| line.starts_with("reverted  ")), "{reverted:?}");
    assert!(reverted.stdout.lines().any(|line| line == "reverted  a\\nreverted  b"), "{reverted:?}");
    assert_eq!(workspace_files(), before);
    for (path, content) in [(".orchrc", "1"), ("keep.txt", "1"), ("f", "file"), ("g/b/c", "1")] {
        assert_eq!(orch.read(&format!("workspace/{path}")), content);
    }
    let again = orch.run(&["runs", "revert", &id]).exits(0);
    assert!(again.stdout.lines().all(|line| line.starts_with("unchanged ")), "{again:?}");
    assert_eq!(workspace_files(), before);
}
