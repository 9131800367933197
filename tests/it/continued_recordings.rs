//! Recordings of a run that several processes execute: each resume continues them.

use serde_json::{Value, json};

use crate::kill::latest_run;
use crate::step_kinds::{AGENT, answering_server, project};
use crate::support::{Orch, RunOutput, Server};

const RUN: [&str; 5] = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it"];

/// A project with a question between two requests.
fn project_with_question() -> (Server, Orch) {
    let server = answering_server(|step, message| json!({ "step": step, "heard": message.trim() }));
    let steps = format!(
        "  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan }}\n  - {{ id: ask, approve: \"ok?\", output: verdict }}\n  - {{ id: work, {AGENT}, prompt: code.md, inputs: [verdict], message: \"{{{{ verdict.approved }}}}\", output: done }}\n"
    );
    let orch = project(&server, &steps);
    (server, orch)
}

/// Starts a run that records and waits for the answer. Returns its id.
fn start_recording(orch: &Orch) -> String {
    orch.run(&[&RUN[..], &["--record", "recordings"]].concat()).exits(3);
    latest_run(orch).unwrap().0
}

/// Replays the recordings in a folder, up to the end of the pipeline.
fn replay(orch: &Orch, folder: &str) -> RunOutput {
    orch.run(&[&RUN[..], &["--replay", folder, "--workspace", "second"]].concat()).exits(3);
    let (run, _) = latest_run(orch).unwrap();
    orch.run(&["runs", "approve", &run, "--resume"])
}

/// The number of recordings in a folder, without those of answers.
fn recording_count(orch: &Orch, folder: &str) -> usize {
    let is_counted = |name: &&String| name.starts_with(&format!("{folder}/")) && !name.contains(".answer.");
    orch.files().iter().filter(is_counted).count()
}

/// The folder of recordings in each start and resume of the latest run.
fn recording_folders(orch: &Orch) -> Vec<Value> {
    let facts = orch.run(&["runs", "events", "--output", "json"]).exits(0).stdout;
    let folder = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        let fact = ["run_started", "run_resumed"].iter().find_map(|kind| event["fact"].get(*kind))?;
        Some(fact["recording_folder"].clone())
    };
    facts.lines().filter_map(folder).collect()
}

#[test]
fn a_resume_in_another_process_continues_the_recordings_of_the_run() {
    for resumes_at_once in [true, false] {
        let (server, orch) = project_with_question();
        let run = start_recording(&orch);
        if resumes_at_once {
            orch.run(&["runs", "approve", &run, "--resume"]).exits(0);
        } else {
            orch.run(&["runs", "approve", &run]).exits(0);
            orch.run(&["pipeline", "resume", &run]).exits(0);
        }
        assert_eq!((server.requests().len(), recording_count(&orch, "recordings")), (2, 2), "{:?}", orch.files());
        assert_eq!(recording_folders(&orch), [json!("recordings"), json!("recordings")]);
        replay(&orch, "recordings").exits(0);
        assert_eq!(orch.json("second/done.json"), orch.json("workspace/done.json"));
        assert_eq!(server.requests().len(), 2, "a replay calls no model");
    }
}

#[test]
fn a_resume_records_into_another_folder_if_it_names_one_and_the_run_remembers_it() {
    for resumes_at_once in [true, false] {
        let (_server, orch) = project_with_question();
        let run = start_recording(&orch);
        if resumes_at_once {
            orch.run(&["runs", "approve", &run, "--resume", "--record", "other"]).exits(0);
        } else {
            // This resume only waits again.
            orch.run(&["pipeline", "resume", &run, "--record", "other"]).exits(3);
            orch.run(&["runs", "approve", &run, "--resume"]).exits(0);
        }
        assert_eq!((recording_count(&orch, "recordings"), recording_count(&orch, "other")), (1, 1));
        assert_eq!(recording_folders(&orch).last(), Some(&json!("other")));
    }
}

#[test]
fn a_missing_folder_of_recordings_refuses_the_resume_before_the_answer_is_recorded() {
    let (server, orch) = project_with_question();
    let run = start_recording(&orch);
    let folder = orch.path().join("recordings");
    std::fs::rename(&folder, orch.path().join("moved")).unwrap();
    for args in [&["runs", "approve", &run, "--resume"][..], &["pipeline", "resume", &run]] {
        orch.run(args).exits(2).says("which does not exist any more").says("--record");
    }
    std::fs::write(&folder, "a file").unwrap();
    for args in [&["runs", "approve", &run, "--resume"][..], &["pipeline", "resume", &run]] {
        orch.run(args).exits(2).says("which is not a folder any more").says("--record");
    }
    assert_eq!((server.requests().len(), latest_run(&orch).unwrap().1.as_str()), (1, "waiting"));
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(orch.path().join("moved"), &folder).unwrap();
    orch.run(&["runs", "approve", &run, "--resume"]).exits(0);
    assert_eq!(recording_count(&orch, "recordings"), 2);
}

#[test]
fn options_for_recordings_of_an_answer_need_resume_and_fit_the_run() {
    let (_server, orch) = project_with_question();
    let run = start_recording(&orch);
    orch.run(&["runs", "approve", &run, "--record", "other"]).exits(2).says("--resume");
    let ran = orch.run(&["runs", "approve", &run, "--resume", "--replay", "recordings"]).exits(2);
    assert!(ran.stderr.contains("calls models, so it can't continue with recordings"), "{ran:?}");
    orch.run(&["runs", "approve", &run, "--resume"]).exits(0);
    orch.run(&[&RUN[..], &["--replay", "recordings", "--workspace", "second"]].concat()).exits(3);
    let (replay, _) = latest_run(&orch).unwrap();
    let ran = orch.run(&["runs", "approve", &replay, "--resume", "--record", "other"]).exits(2);
    assert!(ran.stderr.contains("--record has no effect"), "{ran:?}");
    std::fs::rename(orch.path().join("recordings"), orch.path().join("moved")).unwrap();
    orch.run(&["runs", "approve", &replay, "--resume", "--replay", "moved"]).exits(0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_can_not_be_written_is_an_error_before_the_first_request() {
    use std::os::unix::fs::PermissionsExt as _;

    use crate::store::disk::Disk;
    use crate::support::print_skipped;

    let (server, orch) = project_with_question();
    let folder = orch.path().join("recordings");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o500)).unwrap();
    // The superuser may write into every folder, except on a disk that is read-only.
    let is_superuser = std::fs::write(folder.join("probe"), "").is_ok();
    let disk = is_superuser.then(|| Disk::small(&folder, 16)).flatten();
    match &disk {
        Some(disk) => disk.remount("ro"),
        None if is_superuser => {
            return print_skipped("a folder that can't be written is not tested", "this user may not mount a disk");
        }
        None => {}
    }
    let ran = orch.run(&[&RUN[..], &["--record", "recordings"]].concat()).exits(2);
    assert!(ran.stderr.contains("the recordings can't be written to `recordings`"), "{ran:?}");
    assert_eq!(server.requests().len(), 0);
}
