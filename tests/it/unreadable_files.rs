//! Unreadable folders and files: every command that needs them names them with the reason, and fails.
#![cfg(unix)]

use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::support::{Orch, RunOutput};

/// A user without any files.
const NOBODY: u32 = 65534;

/// Runs the program as a user for whom permissions apply, because root often runs the tests.
///
/// Other users may be unable to enter the folder of the binary, so the program runs from an open file.
#[cfg(target_os = "linux")]
fn as_nobody(orch: &Orch, args: &[&str]) -> RunOutput {
    let ours = orch.command(args);
    let mut command = Command::new("/proc/self/fd/0");
    command.args(args).current_dir(orch.path()).env_clear();
    command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(File::open(env!("CARGO_BIN_EXE_orch")).unwrap());
    if fs::metadata("/proc/self").is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0) {
        fs::set_permissions(orch.path(), Permissions::from_mode(0o755)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    RunOutput::of(&command.output().unwrap())
}

/// Makes a folder or file unreadable until it is dropped, so that the project can be removed afterwards.
struct Unreadable(std::path::PathBuf);

impl Unreadable {
    fn new(orch: &Orch, name: &str) -> Self {
        let path = orch.path().join(name);
        fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        Self(path)
    }
}

impl Drop for Unreadable {
    fn drop(&mut self) {
        let _ = fs::set_permissions(&self.0, Permissions::from_mode(0o755));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_unreadable_folder_in_pipelines_is_named_and_fails_the_check() {
    let orch = Orch::new();
    orch.write("pipelines/team/own.yaml", "name: own\nsteps:\n  - { id: go, run: ls }\n");
    as_nobody(&orch, &["pipeline", "validate"]).exits(0).says("6 pipelines checked");
    let closed = Unreadable::new(&orch, "pipelines/team");
    let words = "error[ORCH0102]: `pipelines/team` cannot be read: no permission";
    as_nobody(&orch, &["pipeline", "validate"]).exits(2).says(words);
    as_nobody(&orch, &["pipeline", "validate", "pipelines"]).exits(2).says(words);
    as_nobody(&orch, &["pipeline", "validate", "pipelines/team"]).exits(2).says(words);
    let ran = as_nobody(&orch, &["pipeline", "validate", "--format", "json"]).exits(2);
    assert!(ran.stdout.contains("\"path\": \"pipelines/team\""), "{}", ran.stdout);
    let ran = as_nobody(&orch, &["pipeline", "list"]).exits(2).says(words);
    assert!(ran.stdout.contains("pipelines/default.yaml"), "the others are listed: {}", ran.stdout);
    as_nobody(&orch, &["pipeline", "list", "--output", "json"]).exits(2).says(words);
    as_nobody(&orch, &["doctor"]).exits(2).says(words);
    let ran = as_nobody(&orch, &["pipeline", "run", "own"]).exits(2).says(words);
    assert!(!ran.stderr.contains("there is no pipeline"), "{ran:?}");
    drop(closed);
    // The folder belongs to no pipeline, so it is no error when a whole repository is checked.
    fs::create_dir(orch.path().join("database")).unwrap();
    let _closed = Unreadable::new(&orch, "database");
    as_nobody(&orch, &["pipeline", "validate", "."]).exits(0).says("warning[ORCH0102]: `database` cannot be read");
}

#[cfg(target_os = "linux")]
#[test]
fn unreadable_files_and_folders_are_not_reported_as_missing() {
    let orch = Orch::new();
    for (name, words) in [
        ("pipelines/research.yaml", "no permission to read `pipelines/research.yaml`"),
        ("prompts", "no permission to read `prompts/planner.md`"),
        ("schemas", "no permission to read `schemas/plan.schema.json`"),
        ("orch.yaml", "no permission to read `orch.yaml`"),
    ] {
        let _closed = Unreadable::new(&orch, name);
        let ran = as_nobody(&orch, &["pipeline", "validate"]).exits(2).says(words);
        assert!(!ran.stderr.contains("there is no"), "{}", ran.stderr);
    }
    let closed = Unreadable::new(&orch, "schemas");
    as_nobody(&orch, &["schema", "check"]).exits(2).says("`schemas` cannot be read: no permission");
    drop(closed);
    let closed = Unreadable::new(&orch, "schemas/plan.schema.json");
    as_nobody(&orch, &["schema", "check"]).exits(2).says("no permission to read `schemas/plan.schema.json`");
    drop(closed);
    orch.write("pipelines/tests/one.yaml", "pipeline: ../default.yaml\n");
    orch.write("pipelines/tests/two.yaml", "pipeline: ../default.yaml\n");
    let closed = Unreadable::new(&orch, "pipelines/tests/one.yaml");
    let ran = as_nobody(&orch, &["pipeline", "test"]).exits(1);
    assert!(ran.stderr.contains("no permission to read `pipelines/tests/one.yaml`"), "{ran:?}");
    assert!(ran.stdout.contains("2 failed"), "the other is run: {ran:?}");
    drop(closed);
    let _closed = Unreadable::new(&orch, "pipelines/tests");
    as_nobody(&orch, &["pipeline", "test"]).exits(2).says("the test cases of `pipelines/tests` can't be read");
    as_nobody(&orch, &["pipeline", "validate"]).exits(2).says("`pipelines/tests` cannot be read");
}

#[test]
fn dangling_and_circular_links_are_reported() {
    let orch = Orch::new();
    let link = |target: &str, name: &str| symlink(target, orch.path().join(name)).unwrap();
    let unlink = |name: &str| fs::remove_file(orch.path().join(name)).unwrap();
    for (target, words) in [
        ("gone.yaml", "`pipelines/odd.yaml` is a link to `gone.yaml`, which does not exist"),
        ("odd.yaml", "`pipelines/odd.yaml` cannot be read: "),
    ] {
        link(target, "pipelines/odd.yaml");
        orch.run(&["pipeline", "validate"]).exits(2).says(words);
        let ran = orch.run(&["pipeline", "list"]);
        assert!(ran.stdout.contains("can't be read; see `orch pipeline validate`"), "{}", ran.stdout);
        orch.run(&["pipeline", "run", "pipelines/odd.yaml", "--task", "x"]).exits(2).says(words);
        unlink("pipelines/odd.yaml");
    }
    for (target, name, words) in [
        ("gone", "pipelines/sub", "warning[ORCH0102]: `pipelines/sub` is a link to `gone`, which does not exist"),
        ("sub", "pipelines/sub", "warning[ORCH0102]: `pipelines/sub` cannot be read: "),
        ("../prompts", "pipelines/sub", "warning[ORCH0102]: `pipelines/sub` is a link to a folder"),
    ] {
        link(target, name);
        orch.run(&["pipeline", "validate"]).exits(0).says(words);
        orch.run(&["pipeline", "validate", "--deny", "warnings"]).exits(2).says("`pipelines/sub`");
        orch.run(&["pipeline", "list"]).exits(0).says(words);
        unlink(name);
    }
    for (target, words) in [
        ("gone.json", "`schemas/odd.schema.json` is a link to `gone.json`, which does not exist"),
        ("odd.schema.json", "`schemas/odd.schema.json` cannot be read: "),
        ("../orch.yaml", "`odd.schema.json` is a link that leads out of its folder"),
    ] {
        link(target, "schemas/odd.schema.json");
        orch.run(&["schema", "check"]).exits(2).says(words);
        unlink("schemas/odd.schema.json");
    }
    link("case.yaml", "pipelines/case.yaml");
    fs::create_dir(orch.path().join("pipelines/tests")).unwrap();
    link("case.yaml", "pipelines/tests/case.yaml");
    orch.run(&["pipeline", "test"]).exits(1).says("`pipelines/tests/case.yaml` cannot be read");
    orch.edit("prompts/planner.md", "Read", "{% include 'odd.md' %} Read");
    link("gone.md", "prompts/odd.md");
    let ran = orch.run(&["pipeline", "validate"]).exits(2).says("`prompts/odd.md` is a link to `gone.md`");
    assert!(!ran.stderr.contains("there is no prompt"), "{}", ran.stderr);
}

#[test]
fn files_in_place_of_folders_are_reported() {
    let orch = Orch::empty();
    symlink("pipelines", orch.path().join("pipelines")).unwrap();
    for args in [&["pipeline", "validate"][..], &["pipeline", "list"], &["pipeline", "test"]] {
        orch.run(args).exits(2).says("can").says("`pipelines");
    }
    let orch = Orch::empty();
    orch.write("schemas", "");
    orch.run(&["schema", "check"]).exits(2).says("`schemas` is not a folder");
}

#[test]
fn names_that_are_not_utf8_are_reported() {
    let orch = Orch::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.yaml");
    fs::write(orch.path().join("pipelines").join(name), "name: x\n").unwrap();
    orch.run(&["pipeline", "validate"]).exits(2).says("is not UTF-8 text").says("pipelines/caf\u{fffd}.yaml");
    orch.run(&["pipeline", "list"]).exits(0);
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.schema.json");
    fs::write(orch.path().join("schemas").join(name), "{}").unwrap();
    orch.run(&["schema", "check"]).exits(2).says("is not UTF-8 text").says("schemas/caf\u{fffd}.schema.json");
}

#[test]
fn too_deep_and_too_many_folders_are_reported() {
    let orch = Orch::new();
    let deep = format!("pipelines/{}", "a/".repeat(9));
    orch.write(&format!("{deep}deep.yaml"), "name: deep\nsteps:\n  - { id: go, run: ls }\n");
    let words = "lies more than 8 folders deep and is not searched";
    orch.run(&["pipeline", "validate"]).exits(0).says(words);
    orch.run(&["pipeline", "list"]).exits(0).says(words);
}
