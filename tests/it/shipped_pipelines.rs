//! The other pipelines that `orch init` writes, end to end.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::step_kinds::statuses;
use crate::support::{Orch, ReceivedRequest, Reply, RunOutput, Server};

const RIGHT: &str = "def add(a, b):\n    return a + b\n";
const WRONG: &str = "def add(a, b):\n    return a - b\n";
const TEST: &str = "import unittest\n\nfrom calc import add\n\n\nclass Adding(unittest.TestCase):\n    def test_adds(self):\n        self.assertEqual(add(2, 3), 5)\n";

fn text(value: &Value) -> Reply {
    Reply::openai_text(&value.to_string())
}

/// A code artifact with two files, the first of which is at `path`.
fn code(path: &str, content: &str) -> Reply {
    let file = |path: &str, content: &str| json!({ "path": path, "language": "python", "content": content });
    text(&json!({ "files": [file(path, content), file("test_calc.py", TEST)], "notes": [] }))
}

fn verdict(approved: bool, summary: &str) -> Value {
    json!({ "approved": approved, "score": if approved { 9 } else { 3 }, "summary": format!("{summary}, all in all."), "issues": [] })
}

fn is_engineer(request: &ReceivedRequest) -> bool {
    request.system().contains("You write working code with its tests")
}

fn run(orch: &Orch, pipeline: &str, more: &[&str]) -> (RunOutput, Value) {
    let ran = orch.run(&[&["pipeline", "run", pipeline, "--output", "json"], more].concat());
    let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, report)
}

fn iterate(orch: &Orch) -> (RunOutput, Value) {
    run(orch, "pipelines/iterate.yaml", &["--task", "Add two numbers"])
}

#[test]
fn init_writes_every_pipeline_prompt_and_schema_of_the_repository_and_they_are_valid() {
    let orch = Orch::new();
    for folder in ["pipelines", "prompts", "schemas"] {
        for entry in std::fs::read_dir(folder).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file()) {
            let name = format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy());
            // The schemas of orch's own output are for other programs, so `orch init` does not write them.
            if ["schemas/events.schema.json", "schemas/report.schema.json"].contains(&name.as_str()) {
                continue;
            }
            assert_eq!(orch.read(&name), std::fs::read_to_string(&name).unwrap(), "{name}");
        }
    }
    orch.run(&["pipeline", "validate", "--deny", "warnings"]).exits(0).says("5 pipelines checked");
    for file in ["fix", "iterate", "research", "review-diff"] {
        let shown = orch.run(&["pipeline", "show", &format!("pipelines/{file}.yaml")]).exits(0).stdout;
        let inputs: Vec<&str> = shown.lines().filter(|line| line.starts_with("input ")).collect();
        assert!(!inputs.is_empty() && inputs.iter().all(|line| line.ends_with('.')), "described: {inputs:?}");
    }
}

#[test]
fn the_test_cases_of_the_repository_pass_from_their_recordings() {
    let orch = Orch::empty();
    let args = ["pipeline", "test", concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/tests")];
    let ran = RunOutput::of(&orch.command(&args).output().unwrap()).exits(0);
    assert!(ran.stdout.contains("5 passed, 0 failed") && !ran.stderr.contains("warning"), "{ran:?}");
}

#[test]
fn the_recorded_tests_of_iterate_fail_in_the_first_iteration_and_pass_in_the_second() {
    let entries = std::fs::read_dir("pipelines/tests/iterate").unwrap();
    let recordings = entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let results = recordings.filter_map(|text| {
        let recording: Value = serde_json::from_str(&text).unwrap();
        let exit_code = recording["result"]["exited"]["exit_code"].as_i64()?;
        Some((recording["step"].as_str().unwrap().to_owned(), exit_code))
    });
    let mut results: Vec<(String, i64)> = results.collect();
    results.sort();
    let expected = [("work[0]/rounds[0]/run_tests", 1), ("work[0]/rounds[1]/run_tests", 0)];
    assert_eq!(results, expected.map(|(step, exit_code)| (step.to_owned(), exit_code)));
}

#[test]
fn the_schema_of_code_accepts_usual_paths_and_rejects_hostile_ones() {
    let orch = Orch::new();
    let fits = |path: &str| {
        let file = json!({ "path": path, "language": "text", "content": "Some words that are long enough.\n" });
        orch.write("code.json", &json!({ "files": [file], "notes": [] }).to_string());
        orch.run(&["schema", "check", "--artifact", "code.json", "--schema", "code"]).code == 0
    };
    for path in [
        "src/main.py",
        "Makefile",
        ".github/workflows/ci.yml",
        ".gitignore",
        "web/.env.local",
        ".golangci.yml",
        "deps/lib.git/config",
        "docs/Über uns.md",
        "My App/main.swift",
        "日本語/メモ.txt",
        "e\u{301}.md",
        "app/[...slug]/page.tsx",
        "routes/users.$id.tsx",
        "a, b & c - d.md",
        "v1. Intro.md",
        "src/main/java/com/example/app/service/impl/Foo.java",
    ] {
        assert!(fits(path), "{path}");
    }
    for path in [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a/..",
        "..",
        ".",
        "./a",
        "a//b",
        "a/",
        "a\\b",
        "C:/x",
        "a\nb",
        "a\tb",
        "a\0",
        " a",
        "a ",
        "a.",
        "a /b",
        "a./b",
        "a/ b",
        "x\u{85}y",
        "a\"b",
        "a*",
        "a\u{2028}b",
        "\u{a0}a",
        ".git",
        ".git/config",
        "src/.git/hooks/pre-commit",
    ] {
        assert!(!fits(path), "{path:?}");
    }
    assert!(!fits(&"a".repeat(201)) && !fits(&format!("{}x", "a/".repeat(40))));
}

#[test]
fn the_default_pipeline_writes_files_with_spaces_and_umlauts_but_no_reserved_ones() {
    let refused = [(".git/config", "schema_mismatch"), ("x/.orch/y", "output_rejected")];
    let accepted = ["docs/Über uns.md", "My App/main.swift"].map(|path| (path, ""));
    for (path, class) in accepted.into_iter().chain(refused) {
        let server = Server::start(move |request| match crate::default_pipeline::step_of(request) {
            "code" => code(path, RIGHT),
            _ => crate::default_pipeline::good_reply(request),
        });
        let orch = Orch::new().with(&server);
        let ran = orch.pipeline(&[]).exits(i32::from(!class.is_empty()));
        assert_eq!(orch.exists(&format!("workspace/{path}")), class.is_empty(), "{path}");
        assert!(ran.stderr.contains(class), "{ran:?}");
        assert!(!ran.stderr.contains("A-Za-z"), "the message describes the path and quotes no pattern: {ran:?}");
    }
}

#[test]
fn iterate_ends_after_an_approved_iteration() {
    let server =
        Server::start(
            |request| {
                if is_engineer(request) { code("calc.py", RIGHT) } else { text(&verdict(true, "It adds")) }
            },
        );
    let orch = Orch::new().with(&server);
    let (ran, report) = iterate(&orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(report["result"]["review"]["approved"], true);
    assert_eq!(orch.json("workspace/tests.json")["exit_code"], 0, "the tests did run");
    assert_eq!(orch.read("workspace/calc.py"), RIGHT);
    assert!(statuses(&report).contains(&"work[0]/ask skipped".to_owned()), "{:?}", statuses(&report));
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn iterate_shows_failing_tests_to_the_engineer_and_never_accepts_code_that_fails() {
    let server = Server::start(|request| match (is_engineer(request), request.last().contains("# The review")) {
        (true, true) => code("calc.py", RIGHT),
        (true, false) => code("calc.py", WRONG),
        // This reviewer approves everything.
        (false, _) => text(&verdict(true, "It adds")),
    });
    let orch = Orch::new().with(&server);
    let (ran, report) = iterate(&orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests[1].system().contains("The tests did not pass. Do not approve."), "{}", requests[1].system());
    assert!(requests[1].last().contains("# The tests ended with exit code 1"), "{}", requests[1].last());
    assert!(requests[2].last().contains("-1 != 5"), "the engineer sees why: {}", requests[2].last());
    assert!(requests[2].last().contains("return a - b"), "and its own code: {}", requests[2].last());
    assert!(!requests[3].system().contains("Do not approve."));
    assert!(statuses(&report).contains(&"work[0]/rounds[1]/run_tests completed".to_owned()));
    assert_eq!(orch.read("workspace/calc.py"), RIGHT);
}

#[test]
fn iterate_asks_for_approval_after_its_last_iteration_and_passes_the_note_to_the_engineer() {
    let server = Server::start(|request| {
        if is_engineer(request) {
            return code("calc.py", RIGHT);
        }
        text(&verdict(false, "It adds whatever it is given"))
    });
    let orch = Orch::new().with(&server);
    let (ran, report) = iterate(&orch);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(report["status"], "waiting");
    assert!(ran.stderr.contains("score 3 of 10") && ran.stderr.contains("whatever it is given"), "{}", ran.stderr);
    assert_eq!(server.requests().len(), 6, "three rounds of engineer and reviewer");
    let id = report["run"].as_str().unwrap();

    let pleased = Server::start(|request| {
        if is_engineer(request) { code("calc.py", RIGHT) } else { text(&verdict(true, "It refuses text")) }
    });
    let orch = orch.with(&pleased);
    orch.run(&["runs", "reject", id, "--note", "Refuse anything but integers", "--resume"]).exits(0);
    let requests = pleased.requests();
    assert_eq!(requests.len(), 2, "one iteration was enough");
    assert!(requests[0].last().contains("Refuse anything but integers"), "{}", requests[0].last());
    assert!(requests[0].last().contains("whatever it is given"), "the last review too: {}", requests[0].last());
    assert!(requests[0].system().contains("A person looked at the code"));
}

#[test]
fn iterate_completes_after_an_approval_and_fails_without_one() {
    let server = Server::start(|request| {
        if is_engineer(request) { code("calc.py", RIGHT) } else { text(&verdict(false, "It could be better")) }
    });
    let orch = Orch::new().with(&server);
    let id = iterate(&orch).1["run"].as_str().unwrap().to_owned();
    orch.run(&["runs", "approve", &id, "--resume"]).exits(0);
    assert_eq!(server.requests().len(), 6, "nothing was asked again");

    let orch = Orch::new().with(&server);
    let id = iterate(&orch).1["run"].as_str().unwrap().to_owned();
    orch.run(&["runs", "reject", &id, "--note", "no", "--resume"]).exits(3);
    orch.run(&["runs", "reject", &id, "--note", "no", "--resume"]).exits(1).says("max_iterations_reached");
    assert_eq!(server.requests().len(), 18);
}

#[test]
fn iterate_continues_when_files_cannot_be_written_or_tests_time_out() {
    let server = Server::start(|request| match (is_engineer(request), request.last()) {
        (true, said) if said.contains("was not written") => code("calc.py", "import time\n\ntime.sleep(60)\n"),
        (true, said) if said.contains("did not end") => code("calc.py", RIGHT),
        (true, _) => code("taken", "There is a folder of this name.\n"),
        (false, said) if said.contains("could not be written") => text(&verdict(true, "taken was not written")),
        (false, said) if said.contains("did not run to their end") => text(&verdict(true, "The tests did not end")),
        (false, _) => text(&verdict(true, "It adds")),
    });
    let orch = Orch::new().with(&server);
    orch.edit("pipelines/iterate.yaml", "timeout: 5m", "timeout: 12s");
    orch.write("workspace/taken/by.txt", "");
    let (ran, report) = iterate(&orch);
    assert_eq!(ran.code, 0, "{ran:?}");
    let all = statuses(&report);
    for step in ["files failed", "run_tests skipped", "reviewer completed"] {
        assert!(all.contains(&format!("work[0]/rounds[0]/{step}")), "{step}: {all:?}");
    }
    assert!(all.contains(&"work[0]/rounds[1]/run_tests failed".to_owned()), "{all:?}");
    assert_eq!(server.requests().len(), 6);
    assert!(server.requests()[1].last().contains("`taken`"), "{}", server.requests()[1].last());
}

/// A project in a git repository, with a file that was changed since its commit.
fn project_with_change(server: &Server) -> Orch {
    let orch = Orch::new().with(server);
    orch.write("src/price.py", "def price(amount):\n    return amount * 2\n").write(".gitignore", ".orch\nworkspace\n");
    let git = |args: &[&str]| {
        let name = ["-c", "user.name=ana", "-c", "user.email=ana@example.org"];
        let done = Command::new("git").args(name).args(args).current_dir(orch.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "first"]);
    orch.edit("src/price.py", "amount * 2", "amount * 3");
    orch
}

/// The lens of a request of `review-diff`, or `judge`.
fn lens(request: &ReceivedRequest) -> &'static str {
    let system = request.system();
    let all = ["correctness", "security", "design"];
    all.into_iter().find(|lens| system.contains(&format!("Your lens is {lens}"))).unwrap_or("judge")
}

#[test]
fn review_diff_merges_the_reviews_of_three_lenses() {
    let server = Server::start(|request| text(&verdict(lens(request) != "security", &format!("By {}", lens(request)))));
    let orch = project_with_change(&server);
    let (ran, report) = run(&orch, "pipelines/review-diff.yaml", &["--task", "Raise prices", "--input", "base=HEAD"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(report["result"]["summary"], "By judge, all in all.");
    assert!(orch.read("workspace/diff.md").contains("+    return amount * 3"));
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    for request in &requests {
        let said = request.last();
        assert!(said.contains("-    return amount * 2") && said.contains("Raise prices"), "{said}");
        assert!(request.system().contains("Answer with the review as one JSON object"), "{}", request.system());
    }
    for lens in ["correctness", "security", "design"] {
        assert!(requests[3].last().contains(&format!("By {lens}, all in all.")), "{lens}");
        assert!(orch.exists(&format!("workspace/{lens}.json")));
    }
}

#[test]
fn review_diff_continues_without_a_failed_lens_and_sends_no_request_without_changes() {
    let server = Server::start(|request| match lens(request) {
        "design" => Reply::status(400, "{\"error\":{\"message\":\"no\"}}"),
        lens => text(&verdict(true, &format!("By {lens}"))),
    });
    let orch = project_with_change(&server);
    let (ran, report) = run(&orch, "pipelines/review-diff.yaml", &[]);
    assert_eq!(ran.code, 1, "a failed step fails the run: {ran:?}");
    assert_eq!(report["result"]["summary"], "By judge, all in all.");
    let judged = server.requests().last().unwrap().last();
    assert!(judged.contains("# The review of security") && !judged.contains("# The review of design"), "{judged}");

    let before = server.requests().len();
    orch.edit("src/price.py", "amount * 3", "amount * 2");
    let (ran, report) = run(&orch, "pipelines/review-diff.yaml", &["--workspace", "other"]);
    assert_eq!((ran.code, server.requests().len()), (0, before), "{ran:?}");
    assert_eq!(statuses(&report).last().unwrap(), "judge skipped");
}

#[test]
fn review_diff_refuses_an_option_of_git_as_a_base_and_quotes_the_error_of_git() {
    let server = Server::saying("{}");
    let orch = project_with_change(&server);
    let args = ["pipeline", "run", "pipelines/review-diff.yaml", "--input"];
    orch.run(&[&args[..], &["base=--output=stolen"]].concat()).exits(2);
    assert!(!orch.exists("stolen") && !orch.exists("workspace/stolen"));
    orch.run(&[&args[..], &["base=no-such-branch"]].concat()).exits(1).says("command_failed").says("no-such-branch");
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn research_answers_in_parallel_and_names_unanswered_questions() {
    let bad = Arc::new(AtomicBool::new(true));
    let flag = bad.clone();
    let server = Server::start(move |request| {
        let (system, said) = (request.system(), request.last());
        if system.contains("You plan research") {
            let question =
                |n: u32| json!({ "question": format!("What about part {n}?"), "why": "The report needs it." });
            let questions: Vec<Value> = (1..=5).map(question).collect();
            return text(&json!({ "goal": "Tell what the parts are about.", "questions": questions }));
        }
        if system.contains("You write reports") {
            return Reply::openai_text("# Parts\n\nAll of them.");
        }
        if said.contains("part 3?") && flag.load(Ordering::SeqCst) {
            return Reply::status(400, "{\"error\":{\"message\":\"no\"}}");
        }
        let part = said.split("part ").nth(1).and_then(|rest| rest.split('?').next()).unwrap().to_owned();
        Reply::openai_text(&format!("Part {part} is fine."))
    });
    let orch = Orch::new().with(&server);
    let (ran, report) = run(&orch, "pipelines/research.yaml", &["--task", "Parts", "--input", "context=Some notes"]);
    assert_eq!(ran.code, 1, "a failed step fails the run: {ran:?}");
    assert!(statuses(&report).contains(&"research[2] failed".to_owned()), "{:?}", statuses(&report));
    assert_eq!(orch.read("workspace/report.md").trim(), "# Parts\n\nAll of them.");
    let answers = orch.json("workspace/answers.json");
    assert_eq!((&answers[1]["value"], &answers[2]["status"]), (&json!("Part 2 is fine."), &json!("failed")));
    let requests = server.requests();
    assert_eq!(requests.len(), 7);
    let asked = requests.last().unwrap().last();
    assert!(
        asked.contains("Part 5 is fine.") && asked.contains("What about part 3?\n\n(There is no answer"),
        "{asked}"
    );
    assert!(requests[1].last().contains("Some notes"), "{}", requests[1].last());

    bad.store(false, Ordering::SeqCst);
    orch.run(&["pipeline", "resume", report["run"].as_str().unwrap()]).exits(0);
    let requests = server.requests();
    assert_eq!(requests.len(), 9, "the failed question and the report, and nothing else");
    assert!(requests[8].last().contains("Part 3 is fine."));
}
