//! Files that a power failure damaged: a resume writes them again if the machine has restarted, and asks about all other
//! changes. A test pretends a restart by another boot id in the lock file of the run.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::step_kinds::{AGENT, answering_server, project, prompt_name};
use crate::support::{Orch, Reply, Server};

/// The file of the completed step.
const FILE: &str = "workspace/x.json";

/// A project whose run was killed during its second step. A server answers the resume at once.
fn project_with_killed_run() -> (Server, Orch) {
    let slow = Server::start(|request| {
        let delay = if prompt_name(request) == "two" { Duration::from_mins(1) } else { Duration::ZERO };
        Reply::openai_text(&json!({ "step": "one", "note": "a text" }).to_string()).delay(delay)
    });
    let steps = format!(
        "  - {{ id: one, {AGENT}, prompt: one.md, output: x }}\n  - {{ id: two, {AGENT}, prompt: two.md, output: y }}\n"
    );
    let orch = project(&slow, &steps);
    let mut child = orch.start(&["pipeline", "run", "pipelines/main.yaml", "--task", "x"]);
    let began = Instant::now();
    while slow.requests().len() < 2 {
        assert!(began.elapsed() < Duration::from_mins(2), "the second request never came");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let quick = answering_server(|_, _| json!({ "step": "two" }));
    let orch = orch.with(&quick);
    (quick, orch)
}

/// The lock file of the run.
fn lock_file(orch: &Orch) -> PathBuf {
    let entries = fs::read_dir(orch.path().join(".orch/locks")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// Changes the boot id in the lock file of the run, as if the machine had restarted since.
fn pretend_restart(orch: &Orch) {
    let path = lock_file(orch);
    let text = fs::read_to_string(&path).unwrap();
    let boot = text.lines().find(|line| line.starts_with("boot ")).unwrap_or_else(|| panic!("no boot id in {text:?}"));
    fs::write(&path, text.replace(boot, "boot 00000000-0000-0000-0000-000000000000")).unwrap();
}

/// The states of a file that a power failure can leave: missing, empty, only zeros, or only its first bytes.
fn torn_states(recorded: &[u8]) -> [Option<Vec<u8>>; 5] {
    let mut zeros_at_end = recorded.to_vec();
    zeros_at_end[recorded.len() / 2..].fill(0);
    [
        None,
        Some(Vec::new()),
        Some(vec![0; recorded.len()]),
        Some(recorded[..recorded.len() / 2].to_vec()),
        Some(zeros_at_end),
    ]
}

/// The last heartbeat of the killed run: the time of the lock file, or the time in it once another process had the lock.
fn last_heartbeat(orch: &Orch) -> SystemTime {
    let path = lock_file(orch);
    let text = fs::read_to_string(&path).unwrap();
    let kept = text.lines().find_map(|line| line.strip_prefix("last seen "));
    match kept {
        Some(nanoseconds) => SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds.parse().unwrap()),
        None => fs::metadata(&path).unwrap().modified().unwrap(),
    }
}

/// Leaves the file in a state that a power failure caused: it was not changed after the last heartbeat of the run.
fn set_torn_state(orch: &Orch, state: Option<&[u8]>) {
    set_state(orch, state, Duration::ZERO);
}

/// Changes the file so long after the last heartbeat of the run.
fn set_state(orch: &Orch, state: Option<&[u8]>, after_heartbeat: Duration) {
    let path = orch.path().join(FILE);
    let Some(bytes) = state else { return fs::remove_file(path).unwrap() };
    fs::write(&path, bytes).unwrap();
    let time = last_heartbeat(orch) + after_heartbeat;
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
}

/// An edit by the user.
fn edit(orch: &Orch, bytes: &[u8]) {
    set_state(orch, Some(bytes), Duration::from_secs(3));
}

#[test]
fn a_resume_after_a_restart_of_the_machine_writes_damaged_files_again() {
    let (_server, orch) = project_with_killed_run();
    let recorded = fs::read(orch.path().join(FILE)).unwrap();
    for state in torn_states(&recorded) {
        let (server, orch) = project_with_killed_run();
        pretend_restart(&orch);
        set_torn_state(&orch, state.as_deref());
        let ran = orch.run(&["pipeline", "resume"]).exits(0);
        assert_eq!(fs::read(orch.path().join(FILE)).unwrap(), recorded, "{state:?}");
        assert_eq!(server.requests().len(), 1, "{state:?}: the reply of the first step was paid for before");
        let is_reported = ran.stderr.contains("was incomplete after a restart of the machine");
        assert_eq!(is_reported, state.is_some(), "{state:?}: {ran:?}");
    }
}

#[test]
fn an_edit_before_a_restart_of_the_machine_is_never_overwritten_without_asking() {
    let (_server, orch) = project_with_killed_run();
    let recorded = fs::read(orch.path().join(FILE)).unwrap();
    pretend_restart(&orch);
    let mut longer = recorded.clone();
    longer.extend(b"\n\n");
    // A user may also shorten or empty the file.
    for edited in [&b"{}\n"[..], &longer[..], &b"\0\0edited"[..], &recorded[..5], &b""[..]] {
        edit(&orch, edited);
        orch.run(&["pipeline", "resume"]).exits(2).says("x.json` was changed").says("--accept-changed");
        assert_eq!(fs::read(orch.path().join(FILE)).unwrap(), edited);
    }
    // The lock file still shows the restart after the resumes that orch refused.
    set_torn_state(&orch, Some(&[]));
    orch.run(&["pipeline", "resume", "--dry-run"]).exits(0);
    orch.run(&["pipeline", "resume"]).exits(0).says("was incomplete after a restart");
    assert_eq!(fs::read(orch.path().join(FILE)).unwrap(), recorded);
}

#[test]
fn without_a_restart_of_the_machine_every_changed_file_is_an_edit() {
    let (_server, orch) = project_with_killed_run();
    let recorded = fs::read(orch.path().join(FILE)).unwrap();
    for state in torn_states(&recorded).iter().flatten() {
        set_torn_state(&orch, Some(state));
        orch.run(&["pipeline", "resume"]).exits(2).says("x.json` was changed");
        assert_eq!(&fs::read(orch.path().join(FILE)).unwrap(), state);
    }
    set_torn_state(&orch, None);
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(fs::read(orch.path().join(FILE)).unwrap(), recorded);
}
