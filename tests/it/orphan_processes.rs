//! No process that a command started outlives the run, however the run ends.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use orch::process::{EndingGroups, ProgramSpec};

use crate::support::Orch;

/// A command with a child in the background and a grandchild in the foreground; a process that left the process group
/// and the session, and whose parent has ended; and one that ignores SIGTERM, in its own session. Each writes its pid
/// to a file.
const PROCESS_TREE: &str = "sh -c 'echo $$ > child.pid; sleep 600 & echo $! > grandchild.pid; wait' & \
    (setsid sh -c 'sleep 600 & echo $! > gone.pid' &) ; \
    setsid sh -c 'trap \"\" TERM; echo $$ > deaf.pid; while :; do sleep 600; done' & \
    echo $$ > own.pid; wait";
const PIDS: [&str; 5] = ["own", "child", "grandchild", "gone", "deaf"];

/// Ctrl-C may reach a supervisor before it ignores signals: here, the first two supervisors are ended that way.
#[tokio::test]
async fn a_supervisor_that_is_interrupted_before_it_starts_its_program_is_restarted() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (supervisor, count) = (folder.path().join("supervisor"), folder.path().join("count"));
    let script = format!(
        "#!/bin/sh\necho supervisor >> {count}\n[ $(wc -l < {count}) -gt 2 ] || kill -INT $$\nexec {orch} \"$@\"\n",
        count = count.display(),
        orch = env!("CARGO_BIN_EXE_orch")
    );
    std::fs::write(&supervisor, script).unwrap();
    std::fs::set_permissions(&supervisor, std::fs::Permissions::from_mode(0o755)).unwrap();
    let spec = ProgramSpec {
        argv: vec!["sh".to_owned(), "-c".to_owned(), "cat; exit 7".to_owned()],
        cwd: folder.path().into(),
        env: vec![("PATH".to_owned(), std::env::var("PATH").unwrap())],
        stdin: Some(b"read".to_vec()),
        timeout: None,
        max_captured_bytes: 100,
        max_output_bytes: None,
        supervisor: supervisor.into(),
        ending_process_groups: EndingGroups::default(),
        sandbox: None,
    };
    let ended = orch::process::run(&spec, &|_, _| {}).await.unwrap();
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(format!("{:?}", ended.stdout).contains("read") || ended.stdout.last_lines() == "read", "{ended:?}");
    assert_eq!(std::fs::read_to_string(count).unwrap().lines().count(), 3);
}

fn is_alive(pid: &str) -> bool {
    // A zombie has ended, too.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Calls `look` until it returns a value.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_mins(2), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The pids of the process tree.
fn pids(orch: &Orch) -> Vec<String> {
    let told = PIDS.map(|name| {
        let path = orch.path().join(format!("workspace/{name}.pid"));
        let read = || std::fs::read_to_string(&path).ok().map(|text| text.trim().to_owned());
        wait_for(name, || read().filter(|text| !text.is_empty()))
    });
    told.into()
}

/// Starts the process tree, sends signals to orch alone, and waits until orch and all these processes have ended.
fn assert_all_end(timeout: &str, signals: &[&str]) {
    let orch = Orch::empty();
    let step = serde_json::json!({ "id": "family", "run": PROCESS_TREE, "timeout": timeout });
    orch.write("pipelines/main.yaml", &format!("name: family\nsteps:\n  - {step}\n"));
    let args = ["pipeline", "run", "pipelines/main.yaml", "--quiet"];
    let mut run = orch.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pids = pids(&orch);
    for signal in signals {
        assert!(Command::new("kill").args([*signal, &run.id().to_string()]).status().unwrap().success());
    }
    run.wait().unwrap();
    for pid in pids {
        wait_for(&format!("process {pid} survived {signals:?}"), || (!is_alive(&pid)).then_some(()));
    }
}

#[test]
fn no_process_of_a_command_outlives_its_timeout() {
    assert_all_end("1s", &[]);
}

#[test]
fn no_process_of_a_command_outlives_a_stop() {
    assert_all_end("10m", &["-INT"]);
    assert_all_end("10m", &["-TERM"]);
    assert_all_end("10m", &["-HUP"]);
}

#[test]
fn no_process_of_a_command_outlives_an_immediate_second_stop() {
    assert_all_end("10m", &["-TERM", "-TERM"]);
}

#[test]
fn no_process_of_a_command_outlives_a_kill_of_orch() {
    assert_all_end("10m", &["-KILL"]);
}

#[test]
fn files_that_a_command_removes_while_it_is_ended_count_as_removed_by_it() {
    let orch = Orch::empty();
    let run = "trap 'sleep 0.1; rm late; exit' TERM; rm early; touch ../there; sleep 600 & wait";
    let steps = [
        serde_json::json!({ "id": "files", "write": "[{'path': 'early', 'content': '1'}, {'path': 'late', 'content': '1'}]" }),
        serde_json::json!({ "id": "tests", "run": run }),
    ];
    orch.write("pipelines/main.yaml", &format!("name: ended\nsteps: {}\n", serde_json::json!(steps)));
    let args = ["pipeline", "run", "pipelines/main.yaml", "--quiet"];
    let mut child = orch.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the command", || orch.exists("there").then_some(()));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!orch.exists("workspace/late"), "it was asked to end");
    let events = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    let events = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let undone: Vec<_> =
        events.filter_map(|event| event["fact"]["call_ended"].get("reverted_files").cloned()).collect();
    assert_eq!(undone, [serde_json::json!(["early", "late"])]);
}

#[test]
fn no_background_process_outlives_a_successful_command() {
    let orch = Orch::empty();
    let left = "(setsid sh -c 'sleep 600 & echo $! > gone.pid' > /dev/null 2>&1 &); \
        sh -c 'trap \"\" TERM; echo $$ > deaf.pid; while :; do sleep 600; done' > /dev/null 2>&1 & \
        while ! [ -s gone.pid ] || ! [ -s deaf.pid ]; do sleep 0.01; done";
    let then = "for name in gone deaf; do if [ -e /proc/$(cat $name.pid) ]; then echo $name is left; exit 1; fi; done";
    let steps = serde_json::json!([{ "id": "leaves", "run": left }, { "id": "looks", "run": then }]);
    orch.write("pipelines/main.yaml", &format!("name: left\nsteps: {steps}\n"));
    orch.run(&["pipeline", "run", "pipelines/main.yaml", "--quiet"]).exits(0);
}

#[test]
fn a_supervisor_ignores_signals_and_its_program_does_not() {
    let orch = Orch::empty();
    let run = "kill -TERM $PPID; kill -INT $PPID; kill -HUP $PPID; sh -c 'kill -TERM $$; echo survived'; echo $?";
    let step = serde_json::json!({ "id": "asks", "run": run, "output": "said", "schema": "text" });
    orch.write("pipelines/main.yaml", &format!("name: heeds\nsteps: [{step}]\n"));
    let report = orch.run(&["pipeline", "run", "pipelines/main.yaml", "--output", "json"]).exits(0).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["result"], "143\n", "{report:#}");
}

#[test]
fn a_command_whose_supervisor_is_killed_is_ended_and_fails() {
    let orch = Orch::empty();
    let run = "echo $$ > own.pid; sleep 1; kill -9 $PPID; sleep 600";
    let step = serde_json::json!({ "id": "kills", "run": run });
    orch.write("pipelines/main.yaml", &format!("name: unsupervised\nsteps: [{step}]\n"));
    let args = ["pipeline", "run", "pipelines/main.yaml", "--quiet"];
    orch.run(&args).exits(1).says("its supervisor process was killed");
    let pid = orch.read("workspace/own.pid").trim().to_owned();
    wait_for("it survived its supervisor", || (!is_alive(&pid)).then_some(()));
}

/// The command writes more than a pipe holds to both outputs when it receives SIGTERM.
#[test]
fn a_command_can_write_and_clean_up_on_sigterm() {
    let cleans = "trap 'echo cleaning >&2; head -c 200000 /dev/zero; echo cleaned >&2; : > ../cleaned; exit' TERM; \
        : > ../ready; while :; do sleep 1; done";
    // On a busy machine, the command may not handle the signal yet when the shortest timeout expires.
    let in_time = ["3s", "12s", "48s"].iter().any(|timeout| cleans_up(cleans, timeout));
    assert!(in_time, "it was not asked to end, or had no time to");
    assert!(cleans_up(cleans, "10m"), "an interrupt");
}

/// Whether a command cleans up when its timeout expires, or when a stop interrupts it if the timeout is ten minutes.
fn cleans_up(cleans: &str, timeout: &str) -> bool {
    let orch = Orch::empty();
    let step = serde_json::json!({ "id": "late", "run": cleans, "timeout": timeout });
    orch.write("pipelines/main.yaml", &format!("name: cleans\nsteps: [{step}]\n"));
    let mut child = orch.command(&["pipeline", "run", "pipelines/main.yaml", "--quiet"]).spawn().unwrap();
    if timeout == "10m" {
        wait_for("the command", || orch.exists("ready").then_some(()));
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    }
    assert!(!child.wait().unwrap().success());
    orch.exists("cleaned")
}

/// Many commands that ignore SIGTERM time out together, and another command ends when one of them receives the signal:
/// its result is recorded before theirs.
#[test]
fn commands_are_ended_in_parallel_and_nothing_waits_for_them() {
    let orch = Orch::empty();
    let deaf = "trap ': > ../asked' TERM; while :; do sleep 1; done";
    let quick = "while ! [ -e ../asked ]; do sleep 0.005; done";
    let steps = serde_json::json!([{ "id": "all", "parallel": [
        { "id": "many", "for_each": "range(8)", "max_parallel": 8, "run": deaf, "access": "none", "timeout": "3s", "on_error": "continue" },
        { "id": "quick", "run": quick, "access": "none", "timeout": "1m" },
    ]}]);
    orch.write("pipelines/main.yaml", &format!("name: deaf\nsteps: {steps}\n"));
    orch.run(&["pipeline", "run", "pipelines/main.yaml", "--quiet"]).exits(1);
    let events = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    let events = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let ended = |event: serde_json::Value| event["fact"]["call_ended"]["call"]["step"].as_str().map(str::to_owned);
    let ends: Vec<String> = events.filter_map(ended).collect();
    // If orch ended them one after another, it would record the end of the quick command last.
    let quick = ends.iter().position(|step| step == "all/quick").unwrap();
    assert!(ends.len() == 9 && quick < 8, "{ends:?}");
}

/// The first command ignores SIGTERM and writes until its supervisor kills it; the command of the resume writes to the
/// same file.
#[test]
fn a_resume_waits_until_the_programs_of_a_killed_process_have_ended() {
    let orch = Orch::empty();
    let old = "trap '' TERM; touch ../there; while :; do echo old >> ../log; sleep 0.01; done";
    let run = format!("if [ -e ../there ]; then echo new >> ../log; sleep 1; else {old}; fi");
    let step = serde_json::json!({ "id": "writes", "run": run });
    orch.write("pipelines/main.yaml", &format!("name: waits\nsteps: [{step}]\n"));
    let args = ["pipeline", "run", "pipelines/main.yaml", "--quiet"];
    let mut child = orch.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the command", || orch.exists("log").then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    orch.run(&["pipeline", "resume", "--quiet"]).exits(0);
    let log = orch.read("log");
    assert!(log.starts_with("old\n") && log.ends_with("\nnew\n"), "{log}");
    assert!(!orch.exists("workspace/.orch.programs.lock"));
}

#[test]
fn an_ignored_sigchld_that_orch_inherits_does_not_hide_how_a_command_ended() {
    let orch = Orch::empty();
    let step = serde_json::json!({ "id": "ends", "run": "(exit 3); echo $?", "output": "said", "schema": "text" });
    orch.write("pipelines/main.yaml", &format!("name: ends\nsteps: [{step}]\n"));
    let own = orch.command(&["pipeline", "run", "pipelines/main.yaml", "--output", "json"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' CHLD; exec \"$0\" \"$@\""]).arg(own.get_program()).args(own.get_args());
    shell.current_dir(own.get_current_dir().unwrap());
    shell.env_clear().envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = crate::support::RunOutput::of(&shell.output().unwrap()).exits(0);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["result"], "3\n", "{report:#}");
}

#[test]
fn a_second_stop_ends_orch_although_nobody_reads_its_output() {
    let orch = Orch::empty();
    let step = serde_json::json!({ "id": "waits", "run": "touch ../there; sleep 600" });
    orch.write("pipelines/main.yaml", &format!("name: waits\nsteps: [{step}]\n"));
    let (_reader, mut writer) = std::io::pipe().unwrap();
    let mut command = orch.command(&["pipeline", "run", "pipelines/main.yaml", "--quiet"]);
    let mut child = command.stdout(Stdio::null()).stderr(writer.try_clone().unwrap()).spawn().unwrap();
    wait_for("the command", || orch.exists("there").then_some(()));
    // This thread fills the pipe, and then waits for a reader.
    std::thread::spawn(move || std::io::Write::write_all(&mut writer, "x".repeat(1 << 20).as_bytes()));
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..2 {
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        std::thread::sleep(Duration::from_millis(300));
    }
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > Duration::from_mins(2) {
            child.kill().unwrap();
            panic!("it took no notice of the second stop");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(130));
}

/// A stop does not lose the answer of an agent program whose leftover processes are being ended. On a busy machine,
/// these may be killed before they handle SIGTERM: then the run completes before the stop, and the test tries again.
#[test]
fn an_answer_is_kept_if_a_stop_comes_while_leftover_processes_are_ended() {
    assert!((0..20).any(|_| stopped_while_leftovers_are_ended()), "no stop came in that moment");
}

/// Whether the stop came while leftover processes were being ended; asserts in any case that the answer is kept.
fn stopped_while_leftovers_are_ended() -> bool {
    let orch = Orch::empty();
    // The agent writes files outside of the workspace.
    orch.disable_sandboxes();
    let left = "trap ': > ../asked' TERM; : > ../ready; while :; do sleep 1; done";
    let answers = format!(
        "echo turn >> ../turns; sh -c '{}' > /dev/null 2>&1 & while ! [ -e ../ready ]; do sleep 0.01; done; echo 7",
        left.replace('\'', "'\\''")
    );
    let agents = serde_json::json!({ "a": { "command": ["sh", "-c", answers] } });
    let step = serde_json::json!({ "id": "asks", "agent": "a", "prompt": "p.md", "output": "n", "schema": "any" });
    orch.write("prompts/p.md", "Count.");
    orch.write("pipelines/main.yaml", &format!("name: kept\nagents: {agents}\nsteps: [{step}]\n"));
    let mut child = orch.command(&["pipeline", "run", "pipelines/main.yaml", "--quiet"]).spawn().unwrap();
    let seen = wait_for("the end of the turn", || {
        let ended = child.try_wait().unwrap().is_some();
        if orch.exists("asked") { Some(!ended) } else { ended.then_some(false) }
    });
    if seen {
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    }
    child.wait().unwrap();
    let events = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    assert!(!events.contains("the run was stopped"), "{events}");
    orch.run(&["pipeline", "resume", "--quiet"]);
    assert_eq!((orch.read("turns").as_str(), orch.json("workspace/n.json")), ("turn\n", serde_json::json!(7)));
    seen
}
