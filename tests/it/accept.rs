//! Conditions on a reply beyond its schema: `accept`, and what a later `write` would refuse.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::step_kinds::{AGENT, project, run, statuses};
use crate::support::{Orch, Reply, Server};

/// A server that answers the requests with these values in order, and repeats the last one.
fn server_with_answers(answers: &[Value]) -> Server {
    let (answers, count) = (answers.to_vec(), AtomicUsize::new(0));
    Server::start(move |_| {
        let place = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        let answer = &answers[place];
        Reply::openai_text(&answer.as_str().map_or_else(|| answer.to_string(), str::to_owned))
    })
}

fn file(path: &str, content: &str) -> Value {
    json!({ "path": path, "content": content })
}

fn step_error<'r>(report: &'r Value, step: &str) -> &'r Value {
    let steps = report["steps"].as_array().unwrap();
    &steps.iter().find(|found| found["name"] == step).unwrap_or_else(|| panic!("{step}: {report:#}"))["error"]
}

/// An agent step, and a step that writes the files of its artifact.
fn code_and_write_steps() -> String {
    format!(
        "  - {{ id: code, {AGENT}, prompt: code.md, output: code }}\n  - {{ id: files, write: code, inputs: [code] }}\n"
    )
}

#[test]
fn entries_that_write_would_refuse_are_sent_back_to_the_model() {
    let bad = json!({ "files": [file("models/User.py", "a"), file("models/User.py", "b"), file("/etc/x", "c"),
        file("../y", "d"), file("code.json", "e"), file("Readme", "f"), file("README", "g")] });
    let good = json!({ "files": [file("models/User.py", "b")] });
    let server = server_with_answers(&[bad.clone(), good]);
    let orch = project(&server, &code_and_write_steps());
    let (ran, report) = run(&orch, &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(statuses(&report), ["code completed", "files completed"]);
    assert_eq!(orch.read("workspace/models/User.py"), "b");

    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    let messages = requests[1].messages();
    assert_eq!(messages[1], ("assistant".to_owned(), bad.to_string()));
    let words = &messages[2].1;
    for line in [
        "- `models/User.py` is listed twice, with different contents\n",
        "- `/etc/x` is absolute",
        "- `../y` has the part `..`",
        "- `code.json` is kept for the artifact that orch writes there",
        "- `README` and `Readme` are one file",
        "Answer again with the whole corrected",
    ] {
        assert!(words.contains(line), "{line}: {words}");
    }
}

#[test]
fn an_agent_step_without_re_asks_left_fails_and_writes_nothing() {
    let server = server_with_answers(&[json!({ "files": [file("a", "1"), file("a", "2")] })]);
    let orch = project(&server, &code_and_write_steps());
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, server.requests().len()), (1, 3), "{ran:?}");
    let failure = step_error(&report, "code");
    assert_eq!(failure["class"], "output_rejected", "{failure:#}");
    let message = "step `files` can't write the files of the reply: `a` is listed twice, with different contents";
    assert_eq!(failure["message"], message);
    assert!(!orch.exists("workspace/a"), "{:?}", orch.files());
}

#[test]
fn paths_are_normalised_and_equal_entries_are_merged() {
    let listed = json!([file("./src/a.py", "1"), file("src//a.py", "1"), file("src/./b.py", "2")]);
    let server = server_with_answers(&[json!({ "files": listed })]);
    let orch = project(&server, &code_and_write_steps());
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, server.requests().len()), (0, 1), "{ran:?}");
    assert_eq!(orch.read("workspace/src/a.py"), "1");
    assert_eq!(orch.read("workspace/src/b.py"), "2");
    let shown = orch.run(&["runs", "diff", report["run"].as_str().unwrap()]).exits(0);
    assert!(!shown.stdout.contains("./") && !shown.stdout.contains("//"), "{shown:?}");
}

/// Conflicting files are rejected at the agent step, which can ask again, wherever orch can trace its artifact to a
/// `write`; elsewhere the `write` step rejects them.
#[test]
fn conflicting_files_are_rejected_at_the_agent_step_where_the_write_is_known() {
    let code = |more: &str| format!("{{ id: code, {AGENT}, prompt: code.md, output: code, re_ask: 0{more} }}");
    let write = |files: &str| format!("{{ id: files, write: {files}, inputs: [code] }}");
    let (plain, files) = (code(""), write("code.files"));
    let followed = [
        format!("  - {plain}\n  - {files}\n"),
        format!("  - {plain}\n  - {}\n", write("\"code['files']\"")),
        format!("  - {plain}\n  - {{ id: files, write: code.files, inputs: [code], when: code.files }}\n"),
        format!("  - {}\n  - {{ id: files, write: code, inputs: ['code?'], when: code is defined }}\n", code(", when: \"task | length > 0\"")),
        format!("  - {{ id: group, steps: [{plain}] }}\n  - {files}\n"),
        format!("  - {plain}\n  - {{ id: group, steps: [{files}] }}\n"),
        format!("  - {{ id: both, parallel: [{plain}, {{ id: one, {AGENT}, prompt: one.md, output: x }}] }}\n  - {files}\n"),
        format!("  - {{ id: fix, repeat: {{ max: 1, steps: [{plain}, {files}] }} }}\n"),
        format!("  - {{ id: fix, repeat: {{ max: 1, steps: [{plain}] }} }}\n  - {files}\n"),
        format!(
            "  - {{ id: fix, repeat: {{ max: 2, steps: [{{ id: files, write: loop.previous.code, when: loop.previous.code is defined }}, {plain}] }} }}\n"
        ),
        format!("  - {{ id: each, for_each: \"[1]\", max_parallel: 1, steps: [{plain}, {files}] }}\n"),
        format!("  - {plain}\n  - {{ id: call, pipeline: put.yaml, inputs: [code], with: {{ list: code.files }} }}\n"),
        "  - { id: call, pipeline: make.yaml, with: { task: task } }\n  - { id: files, write: made.files, inputs: [made] }\n"
            .to_owned(),
        "  - { id: call, pipeline: make.yaml, with: { task: task }, output: all }\n  - { id: files, write: all.made, inputs: [all] }\n"
            .to_owned(),
    ];
    let refused_later = [
        format!("  - {plain}\n  - {}\n", write("\"code.files | list\"")),
        format!(
            "  - {plain}\n  - {{ id: copy, run: [cat], stdin: code, schema: any, output: copy, inputs: [code] }}\n  - {{ id: files, write: copy, inputs: [copy] }}\n"
        ),
    ];
    let server = server_with_answers(&[json!({ "files": [file("a", "1"), file("a", "2")] })]);
    let all = followed.iter().map(|steps| (steps, "output_rejected"));
    for (steps, class) in all.chain(refused_later.iter().map(|steps| (steps, "path_refused"))) {
        let orch = project(&server, steps);
        let head = "inputs: { list: { type: array } }\nagents: { a: { model: auto } }\nsteps:\n";
        orch.write("pipelines/put.yaml", &format!("name: put\n{head}  - {{ id: put, write: list }}\n"));
        let head = head.replace("list: { type: array }", "task: { type: string }");
        let made = format!("name: make\n{head}  - {plain}\noutputs: {{ made: code }}\n");
        orch.write("pipelines/make.yaml", &made);
        let (ran, report) = run(&orch, &[]);
        assert_eq!(ran.code, 1, "{steps}: {ran:?}");
        let failed: Vec<&Value> =
            report["steps"].as_array().unwrap().iter().map(|step| &step["error"]["class"]).collect();
        assert!(failed.contains(&&json!(class)), "{steps}: {failed:?} {ran:?}");
        assert!(!orch.exists("workspace/a"), "{steps}");
    }
}

/// A project with one agent step that has these keys.
fn project_with_condition(server: &Server, more: &str) -> Orch {
    project(server, &format!("  - {{ id: plan, {AGENT}, prompt: plan.md, output: plan, {more} }}\n"))
}

const SHORT: &str = r#"accept: [{ that: "plan.steps | length <= 2", else: "plan two steps at most" }]"#;

#[test]
fn the_message_of_a_failed_condition_is_sent_back_to_the_model() {
    let server = server_with_answers(&[json!({ "steps": [1, 2, 3] }), json!({ "steps": [1] })]);
    let orch = project_with_condition(&server, SHORT);
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, server.requests().len()), (0, 2), "{ran:?}");
    assert_eq!(report["result"], json!({ "steps": [1] }));
    let words = server.requests()[1].last();
    assert!(words.contains("- plan two steps at most\n"), "{words}");
}

#[test]
fn conditions_see_the_inputs_of_the_step_and_every_failed_one_is_reported() {
    let server = server_with_answers(&[json!({ "n": 1 })]);
    let accept = r#"re_ask: 0, accept: [{ that: "plan.n == 1", else: "n is 1" }, { that: "plan.n > task | length", else: "n is more than the letters of the task" }, { that: "plan.missing.deeper == 1", else: "missing is there" }]"#;
    let (ran, report) = run(&project_with_condition(&server, accept), &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let failure = step_error(&report, "plan");
    assert_eq!(failure["class"], "output_rejected");
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.contains("n is more than the letters of the task; ") && message.contains("missing is there ("),
        "{message}"
    );
    assert!(!message.contains("n is 1"), "{message}");
}

#[test]
fn conditions_apply_to_each_item_and_to_text() {
    let server = server_with_answers(&[json!("no"), json!("yes"), json!("yes")]);
    let orch = project(
        &server,
        "  - { id: one, agent: a, schema: text, prompt: one.md, for_each: \"[1, 2]\", max_parallel: 1, message: \"{{ item }}\", output: said, accept: [{ that: \"said == 'yes'\", else: \"say yes\" }] }\n",
    );
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, server.requests().len()), (0, 3), "{ran:?}");
    assert_eq!(report["result"], json!(["yes", "yes"]));
    let words = server.requests()[1].last();
    assert!(words.contains("- say yes\n") && words.contains("the whole corrected answer"), "{words}");
}

/// The conditions are not part of the request: with other conditions, orch reads the recorded reply again.
#[test]
fn a_changed_condition_asks_the_model_only_if_no_recorded_reply_meets_it() {
    let server = server_with_answers(&[json!({ "steps": [1, 2] }), json!({ "steps": [1] })]);
    let orch = project_with_condition(&server, SHORT);
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, server.requests().len()), (0, 1), "{ran:?}");
    let id = report["run"].as_str().unwrap().to_owned();
    let resume = |orch: &Orch| orch.run(&["pipeline", "resume", &id, "--output", "json"]);

    orch.edit("pipelines/main.yaml", "length <= 2", "length < 3");
    assert_eq!((resume(&orch).code, server.requests().len()), (0, 1), "the recorded reply is taken");
    // Another message for the model does not change which replies are accepted.
    orch.edit("pipelines/main.yaml", "plan two steps at most", "two steps at most");
    assert_eq!((resume(&orch).code, server.requests().len()), (0, 1));
    orch.edit("pipelines/main.yaml", "length < 3", "length < 2");
    let told = orch.run(&["pipeline", "resume", &id, "--dry-run"]).exits(0);
    assert!(told.stdout.contains("accept"), "{told:?}");
    assert_eq!((resume(&orch).code, server.requests().len()), (0, 2), "the model is asked again");
    assert_eq!(orch.json("workspace/plan.json"), json!({ "steps": [1] }));
}

/// The condition uses a value that is not in the request: another value invalidates the result.
#[test]
fn the_values_that_a_condition_uses_belong_to_the_fingerprint() {
    let server = server_with_answers(&[json!({ "n": 5 }), json!({ "n": 9 })]);
    let orch = project(
        &server,
        &format!(
            "  - {{ id: one, run: [cat, ../least], schema: any, output: least, access: read }}\n  - {{ id: plan, {AGENT}, prompt: plan.md, message: Go., inputs: [least], output: plan, accept: [{{ that: \"plan.n >= least\", else: too small }}] }}\n"
        ),
    );
    orch.write("least", "3");
    let (ran, report) = run(&orch, &[]);
    assert_eq!((ran.code, server.requests().len()), (0, 1), "{ran:?}");
    let id = report["run"].as_str().unwrap().to_owned();
    orch.write("least", "7");
    let again = orch.run(&["pipeline", "resume", &id, "--from", "one", "--output", "json"]);
    assert_eq!((again.code, server.requests().len()), (0, 2), "{again:?}");
    assert_eq!(orch.json("workspace/plan.json"), json!({ "n": 9 }));
}

#[test]
fn a_failed_step_uses_its_recorded_reply_once_the_condition_holds() {
    let server = server_with_answers(&[json!({ "steps": [1, 2, 3] })]);
    let orch = project_with_condition(&server, SHORT);
    let (ran, _) = run(&orch, &[]);
    assert_eq!((ran.code, server.requests().len()), (1, 3), "{ran:?}");
    orch.edit("pipelines/main.yaml", "length <= 2", "length <= 3");
    orch.run(&["pipeline", "resume"]).exits(0);
    assert_eq!(server.requests().len(), 3, "nothing is paid for twice");
}
