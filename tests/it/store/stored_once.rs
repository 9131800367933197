//! The journal contains the value of an artifact once: in the reply from which orch extracted it.

use std::fs;

use serde_json::{Value, json};

use super::{assert_journal_whole, open_journal};
use crate::step_kinds::{project, run};
use crate::support::{Orch, Reply, Server};

/// A text that occurs once in each value.
const MARK: &str = "unmistakable";

/// A value of about this many bytes, which contains [`MARK`] once.
fn value(bytes: usize) -> Value {
    json!({ "z": MARK, "notes": ["\u{e9} \"quoted\"", 1.5], "a": { "text": "x".repeat(bytes) } })
}

/// How often [`MARK`] occurs in the events and in the blobs of the journal.
fn count_marks(orch: &Orch) -> usize {
    let journal = open_journal(orch);
    let mut statement = journal.prepare("SELECT coalesce(body, blob) FROM events").unwrap();
    let texts: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let is_blob = |text: &&String| !text.starts_with('{');
    let blobs = texts
        .iter()
        .filter(is_blob)
        .map(|digest| fs::read_to_string(orch.path().join(".orch/blobs").join(&digest[..2]).join(digest)).unwrap());
    let blobs: Vec<String> = blobs.collect();
    texts.iter().chain(&blobs).map(|text| text.matches(MARK).count()).sum()
}

/// A finished run of one step that replies with this text.
fn project_with_reply(reply: &str, schema: &str) -> (Server, Orch, String) {
    let server = Server::always(Reply::openai_text(reply));
    let orch =
        project(&server, &format!("  - {{ id: one, agent: a, prompt: one.md, output: made, schema: {schema} }}\n"));
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    (server, orch, report["run"].as_str().unwrap().to_owned())
}

/// The completion of the step among the events that orch prints.
fn completion(orch: &Orch, state: &str) -> Value {
    let printed = orch.run(&["runs", "events", "--output", "json", "--state", state]).exits(0).stdout;
    let events = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut completions = events.map(|event| event["fact"]["step_completed"].clone()).filter(|fact| !fact.is_null());
    completions.next().unwrap()
}

/// Asserts that every command shows the artifact, whether the journal contains it or refers to a reply.
#[track_caller]
fn assert_artifact(orch: &Orch, id: &str, expected: &Value) {
    let printed = orch.run(&["runs", "artifact", id, "made"]).exits(0).stdout;
    match expected {
        Value::String(text) => assert_eq!(printed.trim_end_matches('\n'), text.trim_end_matches('\n')),
        expected => assert_eq!(printed, format!("{expected:#}\n"), "the order of members does not change"),
    }
    assert_eq!(&completion(orch, ".orch")["artifact"]["value"], expected);
    assert!(orch.run(&["runs", "show", id, "--replies"]).exits(0).stdout.contains(MARK));
    orch.run(&["runs", "export", id, "--to", "run.json"]).exits(0);
    orch.run(&["runs", "import", "run.json", "--state", "imported"]).exits(0);
    assert_eq!(completion(orch, "imported"), completion(orch, ".orch"));
    assert_journal_whole(orch);
}

#[test]
fn the_value_of_an_artifact_is_stored_once_in_a_row_or_in_a_blob() {
    for bytes in [200, 100_000] {
        let value = value(bytes);
        for reply in [
            value.to_string(),
            format!("{value:#}"),
            format!("First I thought about it.\n\n```json\n{value:#}\n```\nThat is all."),
        ] {
            let (_server, orch, id) = project_with_reply(&reply, "any");
            assert_eq!(count_marks(&orch), 1, "{bytes} bytes: {}", &reply[..20]);
            assert_artifact(&orch, &id, &value);
        }
    }
    let text = format!("# {MARK}\n\n{}\n\n- \"a\"\n- {{b}}", "A line. ".repeat(30).trim_end());
    let (_server, orch, id) = project_with_reply(&text, "text");
    assert_eq!(count_marks(&orch), 1);
    assert_artifact(&orch, &id, &Value::String(text));
}

#[test]
fn a_value_that_orch_repaired_or_that_is_small_is_stored_itself() {
    let value = value(200);
    let reply = value.to_string();
    let repaired = format!("{},}}", reply.strip_suffix('}').unwrap());
    let (_server, orch, id) = project_with_reply(&repaired, "any");
    assert_eq!(count_marks(&orch), 2);
    assert_artifact(&orch, &id, &value);
    let small = json!({ "z": MARK });
    let (_server, orch, id) = project_with_reply(&small.to_string(), "any");
    assert_eq!(count_marks(&orch), 2);
    assert_artifact(&orch, &id, &small);
}

#[test]
fn the_json_output_of_a_command_is_stored_once() {
    let server = Server::always(Reply::openai_text("1"));
    let orch = project(&server, "  - { id: one, run: [cat, given.json], schema: any, output: made }\n");
    orch.write("workspace/given.json", &value(200).to_string());
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(count_marks(&orch), 1);
    let printed = orch.run(&["runs", "artifact", report["run"].as_str().unwrap(), "made"]).exits(0).stdout;
    assert_eq!(printed, format!("{:#}\n", value(200)));
}

#[test]
fn a_resume_under_another_schema_and_a_reuse_take_the_value_from_the_recorded_reply() {
    let value = value(200);
    let (server, orch, id) = project_with_reply(&value.to_string(), "any");
    orch.write(
        "schemas/made.schema.json",
        &json!({ "type": "object", "required": ["z"], "properties": { "z": { "type": "string" } } }).to_string(),
    );
    orch.edit("pipelines/main.yaml", "schema: any", "schema: made");
    orch.run(&["pipeline", "resume", &id]).exits(0);
    assert_eq!((server.requests().len(), count_marks(&orch)), (1, 1), "orch parsed the recorded reply again");
    assert_eq!(orch.run(&["runs", "artifact", &id, "made"]).exits(0).stdout, format!("{value:#}\n"));
    // Another run contains the value itself, since the run with the reply may be deleted.
    let (ran, report) = run(&orch, &["--reuse"]);
    assert_eq!((ran.code, server.requests().len(), count_marks(&orch)), (0, 1, 2), "{ran:?}");
    orch.run(&["runs", "delete", &id]).exits(0);
    let printed = orch.run(&["runs", "artifact", report["run"].as_str().unwrap(), "made"]).exits(0).stdout;
    assert_eq!(printed, format!("{value:#}\n"));
}

#[test]
fn a_reference_to_nothing_is_damage() {
    let (_server, orch, id) = project_with_reply(&value(200).to_string(), "any");
    let reference = |seq: u64, start: usize, end: usize| {
        json!({ "seq": seq, "start": start, "end": end, "is_json": true }).to_string()
    };
    for (damaged, expected) in [
        (reference(99, 0, 10), "its value is missing in event 99"),
        (reference(6, 0, 10), "its value is missing in event 6"),
        (reference(4, 0, 1_000_000), "its value is missing in event 4"),
        (reference(4, 9, 3), "its value is missing in event 4"),
        (reference(4, 0, 10), "EOF while parsing"),
        ("{}".to_owned(), "missing field"),
    ] {
        let journal = open_journal(&orch);
        let changed =
            journal.execute("UPDATE events SET value = ?1 WHERE kind = 'step_completed'", [&damaged]).unwrap();
        assert_eq!(changed, 1);
        drop(journal);
        for args in [&["runs", "show", &id][..], &["runs", "export", &id], &["pipeline", "resume", &id]] {
            orch.run(args).exits(2).says(expected).says("is damaged").says("restore the `.orch` folder");
        }
    }
}
