//! `pipelines/fix.yaml` on small projects whose tests fail, with a scripted model in every dialect.

#[path = "../../../examples/fix_runs/projects.rs"]
mod projects;

use std::process::Command;

use serde_json::{Value, json};

use super::dialects::{DIALECTS, ToolCall, reply_with_calls, tool_results};
use super::{ScriptedTurn, answer, calls, last_results, scripted_reply, scripted_server, use_dialect};
use crate::step_kinds::statuses;
use crate::support::sandbox::reaches_full;
use crate::support::{Orch, Reply, Server, print_skipped};
use projects::{BROKEN_PROJECTS, BrokenProject};

/// How the model fixes a project.
struct Fix {
    /// The calls of the model before it runs the tests, turn by turn.
    turns: Vec<Vec<ToolCall>>,
    /// The file with the mistake, and its content after the fix.
    fixed: (&'static str, &'static str),
}

fn edit(path: &str, old: &str, new: &str) -> ToolCall {
    ("edit", json!({ "path": path, "old": old, "new": new }))
}

fn read(path: &str) -> ToolCall {
    ("read", json!({ "path": path }))
}

/// The fix of each project.
fn fixes() -> [Fix; BROKEN_PROJECTS.len()] {
    [
        Fix {
            turns: vec![vec![read("sum.sh"), read("test.sh")], vec![edit("sum.sh", "$1 - $2", "$1 + $2")]],
            fixed: ("sum.sh", "echo $(($1 + $2))\n"),
        },
        Fix {
            turns: vec![
                vec![("search", json!({ "regex": "def mean", "glob": "*.py" }))],
                vec![read("calc.py")],
                vec![edit("calc.py", "(len(numbers) - 1)", "len(numbers)")],
            ],
            fixed: ("calc.py", "def mean(numbers):\n    return sum(numbers) / len(numbers)\n"),
        },
        Fix {
            turns: vec![
                vec![("list", json!({})), read("slug.js")],
                vec![(
                    "write",
                    json!({ "path": "slug.js",
                        "content": "module.exports = (title) => title.toLowerCase().replaceAll(\" \", \"-\");\n" }),
                )],
            ],
            fixed: ("slug.js", "module.exports = (title) => title.toLowerCase().replaceAll(\" \", \"-\");\n"),
        },
        Fix {
            // The first edit does not fit the file, and its result says so.
            turns: vec![vec![edit("max.c", "a > b ? b : a", "b")], vec![read("max.c")], vec![edit("max.c", "<", ">")]],
            fixed: ("max.c", "int max(int a, int b) { return a > b ? a : b; }\n"),
        },
        Fix {
            turns: vec![
                vec![("search", json!({ "regex": "total" })), ("list", json!({ "glob": "**" }))],
                vec![("shell", json!({ "command": "sed -i 's/\\$1/$2/' lib/total.awk && cat lib/total.awk" }))],
            ],
            fixed: ("lib/total.awk", "{ total += $2 }\nEND { print total }\n"),
        },
    ]
}

/// The report of the model.
fn report_of(tests_pass: bool, file: &str) -> Value {
    json!({
        "tests_pass": tests_pass,
        "cause": "A mistake in one expression.",
        "changes": [{ "file": file, "change": "Corrected the expression." }],
        "notes": [],
    })
}

/// The turns of a model that fixes the project, runs the tests, and reports.
fn turns_of(project: &BrokenProject, fix: &Fix) -> Vec<ScriptedTurn> {
    let fixes = fix.turns.iter().map(|turn| calls(turn.clone()));
    let test = calls([("shell", json!({ "command": project.test }))]);
    fixes.chain([test, answer(&report_of(true, fix.fixed.0))]).collect()
}

fn is_installed(program: &str) -> bool {
    let search = format!("command -v {program}");
    Command::new("sh").args(["-c", &search]).output().is_ok_and(|output| output.status.success())
}

/// Writes the files of a project into the workspace.
fn write_project(orch: &Orch, project: &BrokenProject) {
    for (name, content) in project.files {
        orch.write(&format!("workspace/{name}"), content);
    }
}

/// Runs the pipeline on a project. Returns the exit code and the report.
fn run_fix(orch: &Orch, project: &BrokenProject) -> (i32, Value) {
    let input = format!("test={}", project.test);
    let ran = orch.run(&["pipeline", "run", "pipelines/fix.yaml", "--input", &input, "--output", "json"]);
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran.code, report)
}

fn assert_fixed(project: &BrokenProject, fix: &Fix, dialect: &str) {
    let place = format!("{} in {dialect}", project.program);
    let server = scripted_server(turns_of(project, fix));
    let orch = Orch::new();
    use_dialect(&orch, &server, dialect);
    write_project(&orch, project);
    let (code, report) = run_fix(&orch, project);
    assert_eq!(code, 0, "{place}: {report:#}");
    assert_eq!(report["result"]["exit_code"], 0, "{place}: {report:#}");
    assert_eq!(report["result"]["report"]["tests_pass"], true, "{place}: {report:#}");
    let first_request = server.requests()[0].body.to_string();
    assert!(first_request.contains("# The tests ended with exit code 1"), "{place}: {first_request}");
    assert!(project.files.iter().all(|(name, _)| first_request.contains(name)), "{place}: {first_request}");
    let results = last_results(&server);
    assert!(results.last().unwrap().contains("[exit code 0]"), "{place}: {results:?}");
    let (name, content) = fix.fixed;
    let (path, run) = (format!("workspace/{name}"), report["run"].as_str().unwrap());
    assert_eq!(orch.read(&path), content, "{place}");
    // The run knows what its tools changed.
    let diff = orch.run(&["runs", "diff", run]).exits(0).stdout;
    assert!(diff.contains(&format!("+++ b/{name}")), "{place}: {diff}");
    orch.run(&["runs", "revert", run]).exits(0);
    let broken = project.files.iter().find(|(file, _)| *file == name).unwrap().1;
    assert_eq!(orch.read(&path), broken, "{place}");
}

#[test]
fn the_pipeline_fix_makes_the_tests_of_broken_projects_pass_in_every_dialect() {
    if !reaches_full() {
        return;
    }
    for (project, fix) in BROKEN_PROJECTS.iter().zip(fixes()) {
        if !is_installed(project.program) {
            print_skipped("a broken project is not tested", &format!("`{}` is not installed", project.program));
            continue;
        }
        for dialect in DIALECTS {
            assert_fixed(project, &fix, dialect);
        }
    }
}

#[test]
fn a_claim_that_the_tests_pass_leads_to_another_attempt_with_their_output() {
    if !reaches_full() {
        return;
    }
    let [project, ..] = &BROKEN_PROJECTS;
    let [fix, ..] = fixes();
    let turns = turns_of(project, &fix);
    let server = Server::start(move |request| {
        let has = |text: &str| request.messages().iter().any(|(_, message)| message.contains(text));
        if has("After the attempt before this one, the tests still fail.") {
            return scripted_reply(&turns, request);
        }
        let is_refused = has("The tests do not pass yet, so the project is not fixed.");
        match tool_results(request).len() {
            0 => reply_with_calls(request, 1, &[read("sum.sh")]),
            _ => Reply::openai_text(&report_of(is_refused, "sum.sh").to_string()),
        }
    });
    let orch = Orch::new().with(&server);
    write_project(&orch, project);
    let (code, report) = run_fix(&orch, project);
    assert_eq!((code, &report["result"]["exit_code"]), (0, &json!(0)), "{report:#}");
    let requests = server.requests();
    // A call, an answer that `accept` refuses, an answer with a false claim, and then the second attempt.
    let second = requests[3].last();
    assert!(second.contains("2 + 3 is not 5") && second.contains("\"tests_pass\": true"), "{second}");
    assert_eq!(requests.len(), 3 + fix.turns.len() + 2);
    assert_eq!(orch.read("workspace/sum.sh"), fix.fixed.1);
}

#[test]
fn an_attempt_that_ends_early_is_followed_by_another_one_and_the_tests_decide() {
    if !reaches_full() {
        return;
    }
    let [project, ..] = &BROKEN_PROJECTS;
    let server = Server::start(|request| {
        let turn = tool_results(request).len() + 1;
        reply_with_calls(request, turn, &[read("sum.sh")])
    });
    let orch = Orch::new().with(&server);
    write_project(&orch, project);
    let (code, report) = run_fix(&orch, project);
    assert_eq!(code, 1, "{report:#}");
    let ended = statuses(&report);
    for step in ["rounds[2]/fix failed", "rounds[2]/tests completed"] {
        assert!(ended.contains(&step.to_owned()), "{ended:?}");
    }
    let second = server.requests().iter().find(|request| request.last().contains("It ended early")).unwrap().last();
    assert!(second.contains("5 times with the same arguments and result"), "{second}");
}
