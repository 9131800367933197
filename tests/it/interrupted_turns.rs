//! Turns of CLI agents that a time budget, a stop or a kill interrupts: orch records what the agent did until then.
#![cfg(unix)]

use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Orch, RunOutput};

/// A script in place of Claude Code: it reports its session and a tool call, writes a file, and hangs.
const HANGS: &str = r#"echo '{"type":"system","subtype":"init","session_id":"s-1"}'
echo "$@" >> ../asked
echo '{"type":"assistant","message":{"content":[{"type":"tool_use","id":"t","name":"Write","input":{"file_path":"made.txt"}}]}}'
echo half > made.txt
echo $$ > ../there.new
mv ../there.new ../there
sleep 300"#;

fn project(keys: &str) -> (Orch, String) {
    with_program(keys, HANGS)
}

fn with_program(keys: &str, program: &str) -> (Orch, String) {
    use std::os::unix::fs::PermissionsExt as _;
    let orch = Orch::empty();
    orch.write("prompts/ask.md", "You answer.\n");
    orch.write("pipelines/main.yaml", &format!("name: test\ninputs: {{ task: {{ type: string }} }}\nagents:\n  a: {{ cli: claude, tools: [Write]{keys} }}\nsteps:\n  - {{ id: ask, agent: a, prompt: ask.md, output: answer, schema: any }}\n"));
    orch.write("bin/claude", &format!("#!/bin/sh\n{program}\n"));
    let path = orch.path().join("bin");
    std::fs::set_permissions(path.join("claude"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
    orch.disable_sandboxes();
    (orch, path)
}

const RUN: [&str; 6] = ["pipeline", "run", "pipelines/main.yaml", "--task", "t", "--quiet"];

/// Asserts that one call is recorded, with this class and the work that its program did.
fn assert_interrupted_call(orch: &Orch, class: &str) {
    let text = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    let all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let run = all[0]["run"].as_str().unwrap().to_owned();
    let calls: Vec<Value> = all.iter().filter_map(|event| event["fact"].get("call_ended").cloned()).collect();
    assert_eq!(calls.len(), 1, "{calls:#?}");
    assert_eq!(calls[0]["failure"]["class"], class, "{calls:#?}");
    let work = &calls[0]["agent_activity"];
    assert_eq!(work["changed"], serde_json::json!(["made.txt"]), "{calls:#?}");
    assert!(work["tools"][0].as_str().unwrap().starts_with("Write"), "{calls:#?}");
    assert_eq!(work["session"], "s-1");
    // The program has ended, and `runs diff` shows its work.
    let stat = format!("/proc/{}/stat", orch.read("there").trim());
    assert!(std::fs::read_to_string(stat).map_or(true, |stat| stat.contains(") Z ")), "it survived");
    let diff = orch.run(&["runs", "diff", &run]).exits(0).stdout;
    assert!(diff.contains("+half"), "{diff}");
}

#[test]
fn the_work_of_a_turn_that_exceeds_its_time_budget_is_recorded() {
    let (orch, path) = project(", budget: { seconds: 2 }");
    RunOutput::of(&orch.command(&RUN).env("PATH", &path).output().unwrap())
        .exits(4)
        .says("the budget of agent `a` is 2 s");
    assert_interrupted_call(&orch, "budget_exceeded");
    // With more time, orch repeats the turn in the same session.
    orch.edit("pipelines/main.yaml", "seconds: 2", "seconds: 4");
    RunOutput::of(&orch.command(&["pipeline", "resume"]).env("PATH", &path).output().unwrap()).exits(4);
    assert!(orch.read("asked").lines().next_back().unwrap().contains("--resume s-1"), "{}", orch.read("asked"));
}

fn signal(child: &Child, signal: &str) {
    let done = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(done.success());
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_mins(1), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether orch has stored the session of a turn, from which the next attempt continues.
fn has_stored_session(orch: &Orch) -> bool {
    let files = |folder: std::path::PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
    // Until orch has written all of a file, it has a temporary name.
    let is_whole = |file: std::fs::DirEntry| !file.file_name().to_string_lossy().starts_with('.');
    files(orch.path().join(".orch/agents")).any(|run| files(run.path().join("sessions")).any(is_whole))
}

/// Runs the command, and presses Ctrl-C once a file exists.
fn stop_when_file_exists(orch: &Orch, path: &str, args: &[&str], there: &str) {
    let child = orch.command(args).env("PATH", path).stderr(std::process::Stdio::piped()).spawn().unwrap();
    wait_until(there, || orch.exists(there));
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
}

#[test]
fn the_work_of_a_turn_that_ctrl_c_interrupts_is_recorded() {
    let (orch, path) = project("");
    stop_when_file_exists(&orch, &path, &RUN, "there");
    assert_interrupted_call(&orch, "cancelled");
}

#[test]
fn a_session_is_kept_when_its_resumed_turn_is_interrupted_before_any_output() {
    let silent = "case \"$*\" in *--resume*) echo \"$@\" >> ../asked; touch ../again; sleep 300;; esac";
    let (orch, path) = with_program("", &format!("{silent}\n{HANGS}"));
    stop_when_file_exists(&orch, &path, &RUN, "there");
    for times in 1..3 {
        stop_when_file_exists(&orch, &path, &["pipeline", "resume", "--quiet"], "again");
        std::fs::remove_file(orch.path().join("again")).unwrap();
        let asked = orch.read("asked");
        assert_eq!(asked.matches("--resume s-1").count(), times, "{asked}");
    }
}

#[test]
fn a_reply_is_kept_if_ctrl_c_comes_while_orch_examines_the_workspace() {
    let answers = r#"echo '{"type":"system","subtype":"init","session_id":"s-1"}'
echo "$@" >> ../asked
seq 1 3000 | split -l 1 -a 4
echo '{"type":"result","subtype":"success","is_error":false,"result":"7","session_id":"s-1","usage":{"input_tokens":1,"output_tokens":1}}'
echo $$ > ../there"#;
    let (orch, path) = with_program("", answers);
    let child = orch.command(&RUN).env("PATH", &path).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let ended = || {
        let pid = std::fs::read_to_string(orch.path().join("there")).unwrap_or_default();
        pid.ends_with('\n') && !std::path::Path::new(&format!("/proc/{}", pid.trim())).exists()
    };
    wait_until("the end of the program", ended);
    // orch reaps the program only after its end, and examining the files takes longer than this pause.
    std::thread::sleep(Duration::from_millis(60));
    signal(&child, "-INT");
    // The run waited for nothing after this answer.
    RunOutput::of(&child.wait_with_output().unwrap()).exits(0);
    assert_eq!(orch.read("workspace/answer.json").trim(), "7");
}

#[test]
fn files_of_an_interrupted_turn_may_be_deleted_before_the_turn_is_repeated() {
    let (orch, path) = project(", budget: { seconds: 2 }");
    let ran = RunOutput::of(&orch.command(&RUN).env("PATH", &path).output().unwrap()).exits(4);
    let began = "half\n";
    assert_eq!(orch.read("workspace/made.txt"), began, "{ran:?}");
    std::fs::remove_file(orch.path().join("workspace/made.txt")).unwrap();
    orch.edit("pipelines/main.yaml", "seconds: 2", "seconds: 4");
    let dry = orch.command(&["pipeline", "resume", "--dry-run"]).env("PATH", &path).output().unwrap();
    assert!(!RunOutput::of(&dry).exits(0).stderr.contains("was deleted"));
    // orch does not ask about the deleted file, and repeats the turn.
    RunOutput::of(&orch.command(&["pipeline", "resume"]).env("PATH", &path).output().unwrap()).exits(4);
    assert_eq!(orch.read("asked").lines().count(), 2);
}

#[test]
fn a_resume_records_the_work_of_a_turn_during_which_orch_was_killed() {
    let answers = "case \"$*\" in *--resume*) cat > /dev/null; echo more > made-2.txt; \
        echo '{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"7\",\"session_id\":\"s-1\"}'; exit;; esac";
    let (orch, path) = with_program("", &format!("{answers}\n{HANGS}"));
    orch.write("workspace/theirs.txt", "before\n");
    let mut child = orch.command(&RUN).env("PATH", &path).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until("the turn", || orch.exists("there"));
    // The program's output may still be in its pipe.
    wait_until("the session on disk", || has_stored_session(&orch));
    signal(&child, "-KILL");
    child.wait().unwrap();
    let stat = format!("/proc/{}/stat", orch.read("there").trim());
    wait_until("the end of the program", || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")));
    let resumed = RunOutput::of(&orch.command(&["pipeline", "resume"]).env("PATH", &path).output().unwrap()).exits(0);
    assert!(resumed.stderr.contains("a turn of step `ask` was interrupted after it changed 1 file"), "{resumed:?}");
    let text = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    let all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let calls: Vec<&Value> = all.iter().filter_map(|event| event["fact"].get("call_ended")).collect();
    let class = calls[0]["failure"]["class"].as_str();
    assert_eq!(
        (calls.len(), class, &calls[0]["agent_activity"]["changed"]),
        (2, Some("crashed"), &serde_json::json!(["made.txt"]))
    );
    assert_eq!(calls[1]["agent_activity"]["changed"], serde_json::json!(["made-2.txt"]), "{calls:#?}");
    let run = all[0]["run"].as_str().unwrap().to_owned();
    let diff = orch.run(&["runs", "diff", &run]).exits(0).stdout;
    assert!(diff.contains("+half") && diff.contains("+more"), "{diff}");
    orch.run(&["runs", "revert", &run]).exits(0);
    assert!(!orch.exists("workspace/made.txt") && !orch.exists("workspace/made-2.txt"));
    assert_eq!(orch.read("workspace/theirs.txt"), "before\n");
    // After this resume, no snapshot of a turn is left for another one.
    let notes: Vec<_> = std::fs::read_dir(orch.path().join(format!(".orch/agents/{run}/turns"))).unwrap().collect();
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn an_answer_is_kept_when_the_supervisor_is_killed_after_the_program_printed_it() {
    let answers = r#"echo '{"type":"system","subtype":"init","session_id":"s-1"}'
echo '{"type":"result","subtype":"success","is_error":false,"result":"7","session_id":"s-1","usage":{"input_tokens":1,"output_tokens":1}}'
kill -9 $PPID; sleep 300"#;
    let (orch, path) = with_program("", answers);
    RunOutput::of(&orch.command(&RUN).env("PATH", &path).output().unwrap()).exits(0);
    assert_eq!(orch.read("workspace/answer.json").trim(), "7");
}

#[test]
fn a_stop_interrupts_a_turn_that_began_anew_because_its_session_was_missing() {
    let gone = r#"case "$*" in *--resume*)
echo '{"type":"result","subtype":"error_during_execution","is_error":true,"errors":["No conversation found"]}'; exit 1;; esac
if [ -e ../there ]; then touch ../again; sleep 10; touch ../late; exit; fi"#;
    let (orch, path) = with_program("", &format!("{gone}\n{HANGS}"));
    stop_when_file_exists(&orch, &path, &RUN, "there");
    stop_when_file_exists(&orch, &path, &["pipeline", "resume", "--quiet"], "again");
    assert!(!orch.exists("late"), "it went on to its end");
}

/// Starts a command, waits for a file, and kills orch.
fn kill_when_file_exists(orch: &Orch, path: &str, args: &[&str], there: &str) {
    let mut child = orch.command(args).env("PATH", path).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until(there, || orch.exists(there));
    signal(&child, "-KILL");
    child.wait().unwrap();
}

/// The recorded calls, and the id of the run.
fn calls(orch: &Orch) -> (Vec<Value>, String) {
    let text = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    let all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let run = all[0]["run"].as_str().unwrap().to_owned();
    (all.iter().filter_map(|event| event["fact"].get("call_ended").cloned()).collect(), run)
}

/// The form of the id of a run that messages contain.
fn short_id(run: &str) -> &str {
    run.rsplit('-').next().unwrap()
}

#[test]
fn the_files_of_two_killed_turns_of_one_call_are_both_recorded() {
    let answers = r#"if [ -e ../again ]; then
echo '{"type":"result","subtype":"success","is_error":false,"result":"7","session_id":"s-1","usage":{"input_tokens":1,"output_tokens":1}}'; exit; fi
if [ -e ../there ]; then echo more > made-2.txt; touch ../again; sleep 300; fi"#;
    let (orch, path) = with_program("", &format!("{answers}\n{HANGS}"));
    kill_when_file_exists(&orch, &path, &RUN, "there");
    kill_when_file_exists(&orch, &path, &["pipeline", "resume", "--quiet"], "again");
    let resumed = orch.command(&["pipeline", "resume", "--quiet"]).env("PATH", &path).output().unwrap();
    let (calls, _) = calls(&orch);
    let changed: Vec<_> = calls.iter().map(|call| call["agent_activity"]["changed"].clone()).collect();
    assert_eq!(changed[..2], [serde_json::json!(["made.txt"]), serde_json::json!(["made-2.txt"])], "{calls:#?}");
    RunOutput::of(&resumed).exits(0);
}

/// A program that answers at once if `there` exists, and else does this, and hangs.
fn answers_after(work: &str) -> String {
    let answer = r#"if [ -e ../there ]; then
echo '{"type":"result","subtype":"success","is_error":false,"result":"7","session_id":"s-1","usage":{"input_tokens":1,"output_tokens":1}}'; exit; fi"#;
    format!("{answer}\n{work}\n{HANGS}")
}

#[test]
fn the_list_of_a_killed_turn_says_that_it_lacks_changed_files() {
    let (orch, path) = with_program("", &answers_after("seq 1 1001 | split -l 1 -a 4"));
    kill_when_file_exists(&orch, &path, &RUN, "there");
    let resumed = RunOutput::of(&orch.command(&["pipeline", "resume"]).env("PATH", &path).output().unwrap()).exits(0);
    let (calls, run) = calls(&orch);
    let work = &calls[0]["agent_activity"];
    assert_eq!((work["changed"].as_array().unwrap().len(), &work["partial"]), (1000, &serde_json::json!(true)));
    let reasons = serde_json::json!(["more than 1000 files changed"]);
    assert_eq!(work["partial_reasons"], reasons);
    let note = "orch could not compare everything: more than 1000 files changed; more files may have changed";
    let command = format!("orch runs diff {}", short_id(&run));
    resumed.says(&format!("was interrupted after it changed 1000 files: see `{command}`; {note}"));
    let shown = orch.run(&["runs", "show", "--replies"]).exits(0).stdout;
    assert_eq!(shown.matches(note).count(), 2, "of the step and of the call: {shown}");
    let events = orch.run(&["runs", "events"]).exits(0).stdout;
    assert!(events.contains("at least 1000 files changed"), "{events}");
    orch.run(&["runs", "diff"]).exits(0).says(&format!("ask: {note}"));
    orch.run(&["runs", "revert", &run, "--dry-run"]).exits(1).says(&format!("ask: {note}; the revert leaves"));
    let report: Value = serde_json::from_str(&orch.run(&["runs", "show", "--output", "json"]).stdout).unwrap();
    assert_eq!(report["steps"][0]["partial_changes"], reasons);
}

#[test]
fn without_the_state_before_a_killed_turn_its_changes_are_unknown() {
    let (orch, path) = with_program("", &answers_after(""));
    kill_when_file_exists(&orch, &path, &RUN, "there");
    let (_, run) = calls(&orch);
    std::fs::remove_dir_all(orch.path().join(format!(".orch/agents/{run}/turns"))).unwrap();
    orch.run(&["runs", "diff"]).exits(0).says("ask: the changes of a turn are not recorded");
    let resumed = RunOutput::of(&orch.command(&["pipeline", "resume"]).env("PATH", &path).output().unwrap());
    resumed.exits(0).says(
        "a turn of step `ask` was interrupted; orch could not compare everything: the record of the files before is \
         missing; files may have changed",
    );
}

#[test]
fn a_killed_turn_of_a_program_that_may_not_write_has_changed_nothing() {
    let (orch, path) = with_program("", &answers_after(""));
    orch.edit("pipelines/main.yaml", "tools: [Write]", "tools: [Read]");
    orch.edit("pipelines/main.yaml", "output: answer", "output: answer, access: read");
    kill_when_file_exists(&orch, &path, &RUN, "there");
    let diff = orch.run(&["runs", "diff"]).exits(0);
    assert!(!diff.stderr.contains("not recorded"), "{diff:?}");
    let resumed = RunOutput::of(&orch.command(&["pipeline", "resume"]).env("PATH", &path).output().unwrap()).exits(0);
    assert!(!resumed.stderr.contains("was interrupted"), "{resumed:?}");
    assert_eq!(calls(&orch).0.len(), 1);
}

#[test]
fn a_revert_after_a_killed_turn_keeps_files_that_others_changed_before_the_resume() {
    let answers = r#"if [ -e ../there ]; then
echo '{"type":"result","subtype":"success","is_error":false,"result":"7","session_id":"s-1","usage":{"input_tokens":1,"output_tokens":1}}'; exit; fi"#;
    let (orch, path) = with_program("", &format!("{answers}\n{HANGS}"));
    orch.write("workspace/theirs.txt", "before\n");
    kill_when_file_exists(&orch, &path, &RUN, "there");
    // This is longer than a killed process's programs may run after orch last saw them.
    std::thread::sleep(Duration::from_secs(3));
    orch.write("workspace/theirs.txt", "edited\n").write("workspace/new.txt", "new\n");
    RunOutput::of(&orch.command(&["pipeline", "resume", "--quiet"]).env("PATH", &path).output().unwrap()).exits(0);
    let (calls, run) = calls(&orch);
    let work = &calls[0]["agent_activity"];
    assert_eq!(work["changed"], serde_json::json!(["made.txt", "new.txt", "theirs.txt"]), "{calls:#?}");
    assert_eq!(work["left_out"], serde_json::json!(["new.txt", "theirs.txt"]), "{calls:#?}");
    let reverted = orch.run(&["runs", "revert", &run, "--force"]).exits(1);
    for name in ["theirs.txt", "new.txt"] {
        let words =
            format!("{name}: it was changed by step `ask`, but orch did not record its content: another process");
        assert!(reverted.stdout.contains(&words), "{reverted:?}");
    }
    assert_eq!(
        (orch.read("workspace/theirs.txt"), orch.read("workspace/new.txt")),
        ("edited\n".into(), "new\n".into())
    );
    assert!(!orch.exists("workspace/made.txt"));
}

#[test]
fn the_changes_of_a_killed_turn_are_unknown_until_the_resume() {
    let (orch, path) = project("");
    kill_when_file_exists(&orch, &path, &RUN, "there");
    let (_, run) = calls(&orch);
    let words = "ask: the changes of a turn are not recorded";
    orch.run(&["runs", "diff", &run]).exits(0).says(words).says(&format!("orch pipeline resume {}", short_id(&run)));
    orch.run(&["runs", "revert", &run, "--dry-run"]).exits(1).says(words);
    let reverted = orch.run(&["runs", "revert", &run, "--output", "json"]).exits(1);
    let report: Value = serde_json::from_str(&reverted.stdout).unwrap();
    assert_eq!(
        (&report["files"], &report["incomplete"][0]["step"]),
        (&serde_json::json!([]), &serde_json::json!("ask"))
    );
    assert!(orch.exists("workspace/made.txt"));
    // Even if the file about the turn is damaged, the turn counts as unknown.
    for entry in std::fs::read_dir(orch.path().join(format!(".orch/agents/{run}/turns"))).unwrap() {
        std::fs::write(entry.unwrap().path(), "{").unwrap();
    }
    orch.run(&["runs", "diff", &run]).exits(0).says("can't be read");
    orch.run(&["runs", "revert", &run]).exits(1).says("can't be read");
}

#[test]
fn the_files_of_a_killed_turn_are_recorded_beside_a_file_older_than_1970() {
    use std::os::unix::fs::PermissionsExt as _;
    let (orch, path) = project("");
    orch.write("workspace/old.txt", "old\n");
    let old = std::fs::File::options().write(true).open(orch.path().join("workspace/old.txt")).unwrap();
    old.set_modified(std::time::SystemTime::UNIX_EPOCH - Duration::from_secs(100)).unwrap();
    kill_when_file_exists(&orch, &path, &RUN, "there");
    let (_, run) = calls(&orch);
    let notes = std::fs::read_dir(orch.path().join(format!(".orch/agents/{run}/turns"))).unwrap();
    let modes: Vec<u32> = notes.map(|note| note.unwrap().metadata().unwrap().permissions().mode() & 0o777).collect();
    assert_eq!(modes, [0o600]);
    std::fs::remove_file(orch.path().join("there")).unwrap();
    stop_when_file_exists(&orch, &path, &["pipeline", "resume", "--quiet"], "there");
    assert_eq!(calls(&orch).0[0]["agent_activity"]["changed"], serde_json::json!(["made.txt"]));
}

#[test]
fn a_turn_whose_files_cannot_be_recorded_does_not_start() {
    let (orch, path) = project("");
    kill_when_file_exists(&orch, &path, &RUN, "there");
    let (_, run) = calls(&orch);
    let turns = orch.path().join(format!(".orch/agents/{run}/turns"));
    std::fs::remove_dir_all(&turns).unwrap();
    std::fs::write(&turns, "no folder").unwrap();
    std::fs::remove_file(orch.path().join("there")).unwrap();
    let resumed = orch.command(&["pipeline", "resume", "--quiet"]).env("PATH", &path).output().unwrap();
    RunOutput::of(&resumed).says("the list of files in the workspace before the turn can't be saved");
    assert!(!orch.exists("there"), "it ran");
}
