//! Symbolic links in a project: orch reads and writes nothing outside of the project through them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::step_kinds::{AGENT, answering_server, project};
use crate::support::{Orch, RunOutput, Server};

/// A folder with a file of the user, outside of any project.
struct Victim(TempDir);

/// The paths in a folder, each with its bytes and its mode.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (Option<Vec<u8>>, u32)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        found.insert(folder.clone(), (None, mode(&folder)));
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), (fs::read(&path).ok(), mode(&path)));
            }
        }
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

impl Victim {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join("file"), "the user's own").unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/file"), "also theirs").unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn one_step() -> (Server, Orch) {
    let server = answering_server(|_, _| json!({ "a": "x".repeat(100_000) }));
    let orch = project(&server, &format!("  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"));
    (server, orch)
}

const RUN: [&str; 5] = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it"];

/// The names that may be a link in a project, and whether each is a folder.
const NAMES: [(&str, bool); 14] = [
    (".orch", true),
    (".orch/journal.db", false),
    (".orch/journal.db-wal", false),
    (".orch/journal.db-shm", false),
    (".orch/journal.db-journal", false),
    (".orch/.gitignore", false),
    (".orch/location", false),
    (".orch/blobs", true),
    (".orch/locks", true),
    (".orch/agents", true),
    ("workspace", true),
    ("workspace/.orch.lock", false),
    ("workspace/.orch.programs.lock", false),
    ("workspace/x.json", false),
];

/// Creates a link in place of a file or folder of orch.
fn plant(orch: &Orch, name: &str, target: &Path) {
    let path = orch.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if path.is_dir() {
        fs::remove_dir_all(&path).unwrap();
    } else if path.exists() {
        fs::remove_file(&path).unwrap();
    }
    symlink(target, path).unwrap();
}

#[test]
fn a_link_in_place_of_a_file_of_orch_is_refused_before_any_request() {
    for before in [false, true] {
        for (name, is_folder) in NAMES {
            let (victim, (server, orch)) = (Victim::new(), one_step());
            if before {
                orch.run(&RUN).exits(0);
            }
            let asked = server.requests().len();
            plant(&orch, name, &victim.path(if is_folder { "" } else { "file" }));
            let was = snapshot(victim.0.path());
            let ran = orch.run(&RUN);
            assert_eq!(ran.code, 2, "{name}: {ran:?}");
            let told = ran.stderr.contains("is a symbolic link") || ran.stderr.contains("was not written by orch");
            assert!(told && ran.stderr.contains(name), "{name}: {ran:?}");
            assert_eq!(server.requests().len(), asked, "{name}: a model was asked");
            for args in [
                &["pipeline", "resume"][..],
                &["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--clean", "--reuse"],
                &["pipeline", "plan", "pipelines/main.yaml", "--task", "do it", "--reuse"],
                &["runs", "list"],
                &["runs", "gc", "--yes"],
                &["runs", "revert", "0"],
                &["doctor"],
            ] {
                let ran = orch.run(args);
                assert!(!ran.stderr.contains("panicked"), "{name} {args:?}: {ran:?}");
            }
            assert_eq!(snapshot(victim.0.path()), was, "{name}: what the link leads to was changed");
        }
    }
}

#[test]
fn a_dangling_link_creates_nothing_outside_the_project() {
    for (name, _) in NAMES {
        let (victim, (server, orch)) = (Victim::new(), one_step());
        plant(&orch, name, &victim.path("new"));
        let was = snapshot(victim.0.path());
        let ran = orch.run(&RUN);
        assert_eq!(ran.code, 2, "{name}: {ran:?}");
        orch.run(&["pipeline", "plan", "pipelines/main.yaml", "--task", "do it", "--reuse"]);
        assert!(server.requests().is_empty(), "{name}");
        assert_eq!(snapshot(victim.0.path()), was, "{name}");
    }
}

#[test]
fn folders_that_the_user_names_may_be_links() {
    let (_server, orch) = one_step();
    let place = tempfile::tempdir().unwrap();
    for name in ["state", "workspace"] {
        fs::create_dir(place.path().join(name)).unwrap();
        symlink(place.path().join(name), orch.path().join(name)).unwrap();
    }
    orch.run(&[&RUN[..], &["--workspace", "workspace", "--state", "state"]].concat()).exits(0);
    assert!(place.path().join("state/journal.db").exists() && place.path().join("workspace/x.json").exists());
    orch.run(&["runs", "show", "--state", "state"]).exits(0);
    let ran = orch.run(&RUN).exits(2).says("`workspace` is a symbolic link").says("--workspace");
    assert!(!orch.exists(".orch/locks"), "{ran:?}");
}

#[test]
fn plan_with_reuse_writes_nothing() {
    let (_server, orch) = one_step();
    let plan = ["pipeline", "plan", "pipelines/main.yaml", "--task", "do it", "--reuse"];
    fs::create_dir(orch.path().join(".orch")).unwrap();
    let was = snapshot(orch.path());
    orch.run(&plan).exits(0);
    assert_eq!(snapshot(orch.path()), was);
    orch.run(&RUN).exits(0);
    let was = snapshot(orch.path());
    let ran = orch.run(&plan).exits(0);
    assert!(ran.stdout.contains("reuse") || ran.stdout.contains("earlier"), "{ran:?}");
    orch.run(&["doctor"]);
    assert_eq!(snapshot(orch.path()), was);
}

/// Runs the program with this umask.
fn with_umask(orch: &Orch, umask: &str, args: &[&str]) -> RunOutput {
    let program = orch.command(args);
    let mut shell = orch.command(&[]);
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(format!("umask {umask}; exec \"$0\" \"$@\"")).arg(program.get_program()).args(args);
    command.current_dir(orch.path()).env_clear();
    command.envs(shell.env("X", "").get_envs().filter_map(|(name, value)| Some((name, value?))));
    RunOutput::of(&command.output().unwrap())
}

#[test]
fn only_the_owner_can_read_the_state_folder_whatever_the_umask() {
    let (_server, orch) = one_step();
    fs::create_dir(orch.path().join(".orch")).unwrap();
    fs::set_permissions(orch.path().join(".orch"), fs::Permissions::from_mode(0o777)).unwrap();
    let ran = with_umask(&orch, "000", &[&RUN[..], &["--record", "records"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let mut files = 0;
    for (path, (bytes, mode)) in snapshot(&orch.path().join(".orch")) {
        files += usize::from(bytes.is_some());
        let wanted = if bytes.is_some() { 0o600 } else { 0o700 };
        assert_eq!(mode, wanted, "{} has the mode {mode:o}", path.display());
    }
    assert!(files >= 4, "a journal, a note, a list for git and a blob");
    assert_eq!(mode(&orch.path().join("workspace/x.json")), 0o666, "artifacts are for whom the umask allows");
}

const SECRET: &str = "secret-of-the-user";

/// Files of the user that could replace each kind of file of a project, with a secret in them.
fn files_with_a_secret() -> Victim {
    let victim = Victim::new();
    let pipeline = format!(
        "name: {SECRET}\nagents: {{ a: {{ model: auto }} }}\nsteps:\n  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n"
    );
    for (name, text) in [
        ("one.md", format!("{SECRET}\n")),
        ("x.schema.json", format!("{{ \"title\": \"{SECRET}\" }}")),
        ("main.yaml", pipeline),
        ("orch.yaml", format!("aliases: {{ {SECRET}: lab/test }}\n")),
    ] {
        fs::write(victim.path(name), text).unwrap();
    }
    victim
}

#[test]
fn a_link_from_a_project_file_to_the_outside_is_a_finding_and_its_target_is_not_sent() {
    for (name, target) in [
        ("prompts", ""),
        ("schemas", ""),
        ("pipelines", ""),
        ("prompts/one.md", "one.md"),
        ("prompts/sub", ""),
        ("schemas/x.schema.json", "x.schema.json"),
        ("pipelines/main.yaml", "main.yaml"),
        ("orch.yaml", "orch.yaml"),
    ] {
        let victim = files_with_a_secret();
        let server = answering_server(|_, _| json!("fine"));
        let prompt = if name == "prompts/sub" { "sub/one.md" } else { "one.md" };
        let orch = project(&server, &format!("  - {{ id: one, agent: a, prompt: {prompt}, output: x }}\n"));
        orch.write("schemas/x.schema.json", "{}");
        plant(&orch, name, &victim.path(target));
        let was = snapshot(victim.0.path());
        for args in [
            &["pipeline", "validate"][..],
            &["pipeline", "validate", "pipelines/main.yaml"],
            &RUN,
            &["pipeline", "plan", "pipelines/main.yaml", "--task", "do it"],
            &["pipeline", "validate", "--fix", "pipelines/main.yaml"],
        ] {
            let ran = orch.run(args);
            assert_eq!(ran.code, 2, "{name} {args:?}: {ran:?}");
            let told = ran.stderr.contains("ORCH0106") && ran.stderr.contains("link that leads out of the project");
            assert!(told && ran.stderr.contains(name), "{name} {args:?}: {ran:?}");
            assert!(!ran.stderr.contains(SECRET) && !ran.stdout.contains(SECRET), "{name} {args:?}: {ran:?}");
        }
        assert!(server.requests().is_empty(), "{name}: a model was asked");
        for args in [
            &["pipeline", "list"][..],
            &["pipeline", "show", "pipelines/main.yaml"],
            &["pipeline", "graph", "pipelines/main.yaml"],
            &["schema", "check"],
            &["doctor"],
            &["trust", "--print"],
        ] {
            let ran = orch.run(args);
            assert!(!ran.stderr.contains(SECRET) && !ran.stdout.contains(SECRET), "{name} {args:?}: {ran:?}");
        }
        assert_eq!(snapshot(victim.0.path()), was, "{name}");
    }
}

#[test]
fn a_test_case_does_not_read_or_write_outside_of_its_project() {
    let case = |more: &str| format!("pipeline: ../main.yaml\ninputs: {{ task: x }}\n{more}");
    for (more, link) in [
        ("recordings: ../../../VICTIM\n", None),
        ("recordings: /VICTIM\n", None),
        ("recordings: linked\n", Some("pipelines/tests/linked")),
        ("recordings: linked/sub\n", Some("pipelines/tests/linked")),
        ("", Some("pipelines/tests/one")),
        ("workspace: linked\n", Some("pipelines/tests/linked")),
        ("workspace: ../../../VICTIM\n", None),
        ("workspace: files\n", Some("pipelines/tests/files/linked")),
    ] {
        let (victim, (server, orch)) = (Victim::new(), one_step());
        fs::write(victim.path("sub/old.json"), "{}").unwrap();
        fs::write(victim.path("old.json"), "{}").unwrap();
        let whole = victim.0.path().display().to_string();
        let name = victim.0.path().file_name().unwrap().to_string_lossy().into_owned();
        let more = more.replace("/VICTIM", if more.contains("..") { "/VICTIM" } else { &whole });
        orch.write("pipelines/tests/one.yaml", &case(&more.replace("VICTIM", &name)));
        orch.run(&["pipeline", "validate"]);
        if let Some(link) = link {
            plant(&orch, link, victim.0.path());
        }
        let was = snapshot(victim.0.path());
        for args in [&["pipeline", "test", "--update"][..], &["pipeline", "test"]] {
            let ran = orch.run(args);
            assert!(ran.code == 1 || ran.code == 2, "{more:?} {link:?} {args:?}: {ran:?}");
        }
        assert_eq!(snapshot(victim.0.path()), was, "{more:?} {link:?}");
        let sent: String = server.requests().iter().map(|request| request.last() + &request.system()).collect();
        assert!(!sent.contains("theirs") && !sent.contains("own"), "{more:?} {link:?}: {sent}");
    }
}

#[test]
fn a_new_project_is_not_written_through_links() {
    let (victim, orch) = (Victim::new(), Orch::empty());
    plant(&orch, "prompts", victim.0.path());
    let was = snapshot(victim.0.path());
    orch.run(&["init"]).exits(2).says("`prompts` is a symbolic link");
    assert_eq!(snapshot(victim.0.path()), was);
}

#[test]
fn only_the_owner_can_read_recordings() {
    let (_server, orch) = one_step();
    with_umask(&orch, "000", &[&RUN[..], &["--record", "records"]].concat()).exits(0);
    let files = snapshot(&orch.path().join("records"));
    assert!(files.len() > 1 && files.values().all(|(_, mode)| mode | 0o700 == 0o700), "{:?}", files.keys());
}
