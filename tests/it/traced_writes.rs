//! What commands that write may do, by the calls that they make of the system: held against the table in
//! docs/security.md.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use orch::folder::TEMPORARY_PREFIX;

use crate::control::{AGENT, answering, project};
use crate::support::{Orch, Server};
use crate::traced::{Act, row, traced_in};

/// What the table calls the places that commands write to.
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
            "then as `resume`" => self.of(&row("orch pipeline run")[0]),
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

/// Runs a command and holds it against its row; what it did.
#[track_caller]
fn holds(orch: &Orch, command: &str, args: &[&str]) -> Vec<Act> {
    let temporary = tempfile::tempdir().unwrap();
    let [writes, network, starts] = row(command);
    let places = Places { orch, temporary: temporary.path() };
    let allowed = places.of(&writes);
    // Commands that have a journal make the user's key, through a temporary file beside it.
    let makes_key = writes.contains("the state folder") || writes.contains("a temporary folder");
    let configuration = orch.configuration().join("orch");
    let is_key =
        |path: &Path| makes_key && path.starts_with(&configuration) && !path.starts_with(configuration.join("trusted"));
    let steps_run = starts.contains("the programs of the pipeline") || starts == "as `resume`";
    let acts = traced_in(temporary.path(), orch, args, "", steps_run);
    for act in &acts {
        let fine = match act {
            // Folders on the way to an allowed place are made with it, and new files under a temporary name beside it.
            Act::Write(path) => {
                let path = Path::new(path);
                let is_at = |place: &PathBuf| path.starts_with(place) || place.starts_with(path);
                let is_new = path.to_string_lossy().contains(TEMPORARY_PREFIX);
                is_key(path) || allowed.iter().any(|place| is_at(place) || is_new && path.parent() == place.parent())
            }
            // The servers of these tests are on the loopback, where no connection is an act.
            Act::Connect(_) => network != "nothing" && !network.starts_with("nothing;"),
            Act::Start(_) => steps_run,
        };
        assert!(fine, "`{}` did more than the row of `{command}` says: {act:?}; allowed: {allowed:#?}", args.join(" "));
    }
    acts
}

/// A project whose pipeline asks a model, writes a file and waits for a person, with a tracker of its own.
fn waiting() -> (Server, Orch) {
    let server = answering(|_, _| json!([{ "path": "made.txt", "content": "made\n" }]));
    let steps = format!(
        "  - {{ id: one, {AGENT}, prompt: one.md, output: made }}\n  - {{ id: put, write: made, inputs: [made] }}\n  - {{ id: sure, approve: \"Go on?\" }}\n  - {{ id: two, run: [touch, ran] }}\n"
    );
    let orch = project(&server, &steps);
    (server, orch)
}

#[test]
fn commands_that_write_do_no_more_than_the_table_says() {
    let (_server, orch) = waiting();
    let wrote =
        |acts: &[Act], name: &str| acts.iter().any(|act| matches!(act, Act::Write(path) if path.contains(name)));
    let run = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it"];
    let acts = holds(&orch, "orch pipeline run", &run);
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
        holds(&orch, "orch runs list", args);
    }
    assert!(orch.exists("run.json"));
    let acts = holds(&orch, "orch runs approve", &["runs", "approve", "--resume"]);
    assert!(wrote(&acts, ".orch/journal.db"), "{acts:#?}");
    assert!(acts.iter().any(|act| matches!(act, Act::Start(program) if program.ends_with("/touch"))), "{acts:#?}");
    let list = orch.run(&["runs", "list", "--output", "json"]).exits(0).stdout;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let id = list[0]["run"].as_str().or_else(|| list["runs"][0]["run"].as_str()).unwrap().to_owned();
    let acts = holds(&orch, "orch runs revert", &["runs", "revert", &id]);
    assert!(wrote(&acts, "/workspace/") && !orch.exists("workspace/made.txt"), "{acts:#?}");
    holds(&orch, "orch runs import", &["runs", "delete", &id]);
    holds(&orch, "orch runs import", &["runs", "import", "run.json"]);
    holds(&orch, "orch runs import", &["runs", "gc", "--keep", "0"]);
}

#[test]
fn commands_that_make_and_check_projects_do_no_more_than_the_table_says() {
    let (server, orch) = waiting();
    fs::create_dir(orch.path().join("new")).unwrap();
    holds(&orch, "orch init", &["init", "new"]);
    assert!(orch.exists("new/pipelines/default.yaml"));
    fs::remove_dir_all(orch.path().join("new")).unwrap();
    holds(&orch, "orch trust", &["trust"]);
    orch.write("reply.txt", "{\"a\": 1}");
    holds(&orch, "orch extract", &["extract", "reply.txt"]);
    holds(&orch, "orch extract", &["schema", "pipeline"]);
    holds(&orch, "orch extract", &["explain", "ORCH0101"]);
    orch.edit("pipelines/main.yaml", "output: made", "outptu: made");
    let acts = holds(&orch, "orch pipeline validate --fix", &["pipeline", "validate", "--fix"]);
    assert!(
        acts.iter().any(|act| matches!(act, Act::Write(_)))
            && orch.read("pipelines/main.yaml").contains("output: made")
    );
    orch.write("pipelines/main.yaml", &format!("name: main\nagents:\n  a: {{ model: auto }}\nsteps:\n  - {{ id: one, {AGENT}, prompt: one.md, output: made }}\n  - {{ id: two, run: [touch, ran] }}\n"));
    orch.write("pipelines/tests/one.yaml", "pipeline: ../main.yaml\n");
    holds(&orch, "orch pipeline test", &["pipeline", "test", "--update", "--model", "lab/m", "--yes"]);
    drop(server);
    let acts = holds(&orch, "orch pipeline test", &["pipeline", "test"]);
    assert!(acts.iter().any(|act| matches!(act, Act::Start(program) if program.ends_with("/touch"))), "{acts:#?}");
}
