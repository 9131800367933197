//! The system calls of commands that write, compared with the table in docs/security.md.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use orch::folder::TEMPORARY_PREFIX;

use crate::step_kinds::{AGENT, answering_server, project};
use crate::support::{Orch, Server};
use crate::syscalls_read_only::{Effect, table_row, trace_with_folder};

/// The names in the table for the places that commands write to.
struct Places<'a> {
    orch: &'a Orch,
    temporary: &'a Path,
}

impl Places<'_> {
    /// The files and folders that a cell of the column `writes` allows.
    fn of(&self, cell: &str) -> Vec<PathBuf> {
        cell.split([';', ',']).map(str::trim).flat_map(|phrase| self.named(phrase)).collect()
    }

    fn named(&self, phrase: &str) -> Vec<PathBuf> {
        let project = self.orch.path();
        let state = project.join(".orch");
        match phrase {
            "nothing" => Vec::new(),
            "the state folder" => vec![state],
            "the journal's files and its note of where the project is" => {
                ["journal.db", "journal.db-wal", "journal.db-shm", "journal.db-journal", "location"]
                    .map(|name| state.join(name))
                    .to_vec()
            }
            "the file of `--to`" => vec![project.join("run.json")],
            "the files that it fixes" => vec![project.join("pipelines")],
            "the files that the run wrote in the workspace" | "the workspace" => vec![project.join("workspace")],
            "then as `resume`" => self.of(&table_row("orch pipeline run")[0]),
            "the folder of `--record`" => vec![project.join("recordings")],
            "your cache of models" | "that cache" => vec![project.join("cache/orch/models")],
            "a temporary folder" => vec![self.temporary.to_owned()],
            "recordings beside the case with `--update`" => vec![project.join("pipelines/tests")],
            "`orch/trusted/` of your configuration folder" => vec![self.orch.configuration().join("orch/trusted")],
            "files of the new project that are not there yet" => vec![project.join("new")],
            other => panic!("docs/security.md names a place that this test does not know: {other}"),
        }
    }
}

/// Runs a command and compares it with its row; returns its effects.
#[track_caller]
fn assert_row(orch: &Orch, command: &str, args: &[&str]) -> Vec<Effect> {
    let temporary = tempfile::tempdir().unwrap();
    let [writes, network, starts] = table_row(command);
    let places = Places { orch, temporary: temporary.path() };
    let allowed = places.of(&writes);
    // A command that opens a journal creates the user's key, through a temporary file beside it.
    let makes_key = writes.contains("the state folder") || writes.contains("a temporary folder");
    let configuration = orch.configuration().join("orch");
    let is_key =
        |path: &Path| makes_key && path.starts_with(&configuration) && !path.starts_with(configuration.join("trusted"));
    let steps_run = starts.contains("the programs of the pipeline") || starts == "as `resume`";
    let acts = trace_with_folder(temporary.path(), orch, args, "", steps_run);
    for act in &acts {
        let fine = match act {
            // Creating an allowed file includes its parent folders, and a temporary file beside it.
            Effect::Write(path) => {
                let path = Path::new(path);
                let is_at = |place: &PathBuf| path.starts_with(place) || place.starts_with(path);
                let is_new = path.to_string_lossy().contains(TEMPORARY_PREFIX);
                is_key(path) || allowed.iter().any(|place| is_at(place) || is_new && path.parent() == place.parent())
            }
            // The servers of these tests are on the loopback, where a connection does not count as an effect.
            Effect::Connect(_) => network != "nothing" && !network.starts_with("nothing;"),
            Effect::Start(_) => steps_run,
        };
        assert!(fine, "`{}` did more than the row of `{command}` says: {act:?}; allowed: {allowed:#?}", args.join(" "));
    }
    acts
}

/// A project whose pipeline asks a model, writes a file and waits for an approval, with its own tracker.
fn project_with_tracker() -> (Server, Orch) {
    let server = answering_server(|_, _| json!([{ "path": "made.txt", "content": "made\n" }]));
    let steps = format!(
        "  - {{ id: one, {AGENT}, prompt: one.md, output: made }}\n  - {{ id: put, write: made, inputs: [made] }}\n  - {{ id: sure, approve: \"Go on?\" }}\n  - {{ id: two, run: [touch, ran] }}\n"
    );
    let orch = project(&server, &steps);
    (server, orch)
}

#[test]
fn writing_commands_do_no_more_than_the_table_says() {
    let (_server, orch) = project_with_tracker();
    let wrote =
        |acts: &[Effect], name: &str| acts.iter().any(|act| matches!(act, Effect::Write(path) if path.contains(name)));
    let run = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it"];
    let acts = assert_row(&orch, "orch pipeline run", &run);
    assert!(
        wrote(&acts, ".orch/journal.db") && wrote(&acts, "/workspace/") && orch.exists("workspace/made.txt"),
        "{acts:#?}"
    );
    for args in [
        &["runs", "list"][..],
        &["runs", "show"],
        &["runs", "events"],
        &["runs", "artifact", "made"],
        &["runs", "diff"],
        &["runs", "export", "--to", "run.json"],
    ] {
        assert_row(&orch, "orch runs list", args);
    }
    assert!(orch.exists("run.json"));
    let acts = assert_row(&orch, "orch runs approve", &["runs", "approve", "--resume"]);
    assert!(wrote(&acts, ".orch/journal.db"), "{acts:#?}");
    assert!(acts.iter().any(|act| matches!(act, Effect::Start(program) if program.ends_with("/touch"))), "{acts:#?}");
    let list = orch.run(&["runs", "list", "--output", "json"]).exits(0).stdout;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let id = list[0]["run"].as_str().or_else(|| list["runs"][0]["run"].as_str()).unwrap().to_owned();
    let acts = assert_row(&orch, "orch runs revert", &["runs", "revert", &id]);
    assert!(wrote(&acts, "/workspace/") && !orch.exists("workspace/made.txt"), "{acts:#?}");
    assert_row(&orch, "orch runs import", &["runs", "delete", &id]);
    assert_row(&orch, "orch runs import", &["runs", "import", "run.json"]);
    assert_row(&orch, "orch runs import", &["runs", "gc", "--keep", "0"]);
}

#[test]
fn commands_that_create_and_check_projects_do_no_more_than_the_table_says() {
    let (server, orch) = project_with_tracker();
    fs::create_dir(orch.path().join("new")).unwrap();
    assert_row(&orch, "orch init", &["init", "new"]);
    assert!(orch.exists("new/pipelines/default.yaml"));
    fs::remove_dir_all(orch.path().join("new")).unwrap();
    assert_row(&orch, "orch trust", &["trust"]);
    orch.write("reply.txt", "{\"a\": 1}");
    assert_row(&orch, "orch extract", &["extract", "reply.txt"]);
    assert_row(&orch, "orch extract", &["schema", "pipeline"]);
    assert_row(&orch, "orch extract", &["explain", "ORCH0101"]);
    orch.edit("pipelines/main.yaml", "output: made", "outptu: made");
    let acts = assert_row(&orch, "orch pipeline validate --fix", &["pipeline", "validate", "--fix"]);
    assert!(
        acts.iter().any(|act| matches!(act, Effect::Write(_)))
            && orch.read("pipelines/main.yaml").contains("output: made")
    );
    orch.write("pipelines/main.yaml", &format!("name: main\nagents:\n  a: {{ model: auto }}\nsteps:\n  - {{ id: one, {AGENT}, prompt: one.md, output: made }}\n  - {{ id: two, run: [touch, ran] }}\n"));
    orch.write("pipelines/tests/one.yaml", "pipeline: ../main.yaml\ncommands: run\n");
    assert_row(&orch, "orch pipeline test", &["pipeline", "test", "--update", "--model", "lab/m", "--yes"]);
    drop(server);
    let acts = assert_row(&orch, "orch pipeline test", &["pipeline", "test"]);
    assert!(acts.iter().any(|act| matches!(act, Effect::Start(program) if program.ends_with("/touch"))), "{acts:#?}");
}
