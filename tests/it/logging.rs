//! The log that `ORCH_LOG` turns on: its spans and formats, its filter, and that it contains no secrets.

use serde_json::Value;

use crate::kill::latest_run;
use crate::support::{Orch, Reply, RunOutput, Server};

/// An agent, a command, and a command for each item of a list.
const STEPS: &str = "name: main
agents: { a: { model: lab/test } }
steps:
  - { id: ask, agent: a, prompt: ask.md, output: answer, schema: text }
  - { id: say, run: [echo, said] }
  - { id: each, for_each: '[1, 2]', access: read, run: [echo, item] }
";

fn project(server: &Server) -> Orch {
    let orch = Orch::empty().with(server);
    orch.write("prompts/ask.md", "Say something.").write("pipelines/main.yaml", STEPS);
    orch
}

/// Runs the pipeline with these variables and additional arguments.
fn run_with(orch: &Orch, variables: &[(&str, &str)], args: &[&str]) -> RunOutput {
    let args = [&["pipeline", "run", "pipelines/main.yaml"][..], args].concat();
    RunOutput::of(&orch.command(&args).envs(variables.iter().copied()).output().unwrap())
}

/// The records among the lines of a text; progress and messages are no JSON.
pub(crate) fn records(text: &str) -> Vec<Value> {
    text.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The names of the spans around a record, outermost first.
pub(crate) fn span_names(record: &Value) -> Vec<&str> {
    let spans = record["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
    spans.iter().map(|span| span["name"].as_str().unwrap()).collect()
}

/// The record about the start of a span with a field of this value.
#[track_caller]
pub(crate) fn span_start<'r>(records: &'r [Value], name: &str, field: &str, value: &str) -> &'r Value {
    let is_start = |record: &&Value| record["message"] == "new" && record["span"]["name"] == name;
    let found = records.iter().filter(is_start).find(|record| record["span"][field] == value);
    found.unwrap_or_else(|| panic!("no span {name} with {field} {value}: {records:#?}"))
}

#[test]
fn json_records_have_the_spans_of_the_run_the_step_the_call_and_the_request() {
    let server = Server::always(Reply::openai_text("hello"));
    let orch = project(&server);
    let ran = run_with(&orch, &[("ORCH_LOG", "debug")], &["--log-format", "json"]).exits(0);
    let records = records(&ran.stderr);
    let start = |name, field, value| span_start(&records, name, field, value);

    let run = records.iter().find(|record| record["span"]["name"] == "run").unwrap()["span"]["run"].as_str().unwrap();
    assert!(latest_run(&orch).unwrap().0.replace('-', "").ends_with(run), "{run}");
    assert_eq!(span_names(start("step", "step", "ask")), ["run"]);
    assert_eq!(start("step", "step", "ask")["spans"][0]["run"], run);
    assert_eq!(start("step", "step", "say")["span"]["kind"], "command");
    assert_eq!(span_names(start("step", "step", "each[1]")), ["run", "step"]);
    assert_eq!(start("step", "step", "each[1]")["spans"][1]["step"], "each");

    let request = start("call", "call", "ask@1#1");
    assert_eq!(span_names(request), ["run", "step"]);
    assert_eq!(request["span"]["attempt"], 1);
    assert_eq!(request["span"]["kind"], "request");
    assert_eq!(request["span"]["model"], "lab/test");
    assert_eq!(start("call", "call", "say@1#1")["span"]["kind"], "command");
    assert_eq!(span_names(start("call", "call", "each[0]@1#1")), ["run", "step", "step"]);

    assert_eq!(span_names(start("http_request", "client", "provider")), ["run", "step", "call"]);
    let answered = records.iter().find(|record| record["message"] == "the server answered").unwrap();
    assert_eq!(answered["status"], 200);
    assert_eq!(answered["spans"][2]["call"], "ask@1#1");
    let attempt = records.iter().find(|record| record["message"] == "the attempt starts").unwrap();
    assert_eq!(attempt["attempt"], 1);
    assert_eq!(attempt["agent"], "a");
    assert_eq!(span_names(attempt), ["run", "step"]);

    let commit = records.iter().find(|record| record["message"] == "the writer commits events").unwrap();
    assert_eq!(span_names(commit), ["run", "commit"]);
    assert!(commit["bytes"].as_u64().unwrap() > 0 && commit["sync"].is_boolean(), "{commit}");
    let is_end = |record: &&Value| record["message"] == "close" && record["span"]["call"] == "ask@1#1";
    let end = records.iter().filter(is_end).find(|record| record["span"]["name"] == "call").unwrap();
    assert!(end["time.busy"].is_string() && end["time.idle"].is_string(), "{end}");
    let ended = records.iter().find(|record| record["message"] == "the session ended").unwrap();
    assert_eq!(ended["status"], "completed");
    assert_eq!(ended["level"], "INFO");
}

#[test]
fn records_as_text_have_the_same_spans_in_one_line() {
    let server = Server::always(Reply::openai_text("hello"));
    let orch = project(&server);
    let ran = run_with(&orch, &[("ORCH_LOG", "orch=debug")], &[]).exits(0);
    let line = ran.stderr.lines().find(|line| line.contains("the server answered")).unwrap();
    for part in [
        " DEBUG run{run=",
        "}:step{step=ask kind=\"agent\"}:call{call=ask@1#1 step=ask attempt=1 kind=\"request\" model=lab/test}:",
        "http_request{client=\"provider\" method=\"POST\"}: orch::network::logged_request: ",
        "the server answered status=200",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(ran.stderr.lines().any(|line| line.contains("call{call=say@1#1") && line.contains("close time.busy=")));
}

#[test]
fn without_the_variable_there_is_no_log() {
    let server = Server::always(Reply::openai_text("hello"));
    for variable in [("OTHER", "x"), ("ORCH_LOG", ""), ("ORCH_LOG", "off"), ("RUST_LOG", "trace")] {
        let ran = run_with(&project(&server), &[variable], &["--log-format", "json"]).exits(0);
        assert!(records(&ran.stderr).is_empty() && !ran.stderr.contains("orch::"), "{variable:?}: {}", ran.stderr);
        let steps: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("say: ")).collect();
        assert_eq!(steps.len(), 2, "{}", ran.stderr);
    }
}

#[test]
fn a_filter_selects_modules_and_levels() {
    let server = Server::always(Reply::openai_text("hello"));
    let log = |filter| run_with(&project(&server), &[("ORCH_LOG", filter)], &["--log-format", "json"]).exits(0).stderr;
    let records_of = |filter| records(&log(filter));
    assert!(records_of("info").iter().all(|record| record["level"] != "DEBUG"));
    let network = records_of("orch::network=debug");
    assert!(!network.is_empty());
    assert!(network.iter().all(|record| record["target"].as_str().unwrap().starts_with("orch::network")));
    let store_off = records_of("debug,orch::store=off");
    assert!(!store_off.iter().any(|record| record["target"].as_str().unwrap().starts_with("orch::store")));
    // The libraries log only if the filter names them.
    let is_of_library = |record: &Value| record["target"].as_str().unwrap().starts_with("hyper_util");
    assert!(!records_of("trace").iter().any(is_of_library));
    assert!(records_of("hyper_util=trace").iter().any(is_of_library));
}

#[test]
fn a_module_that_does_not_log_is_reported_once() {
    let server = Server::always(Reply::openai_text("hello"));
    let orch = project(&server);
    let ran = run_with(&orch, &[("ORCH_LOG", "orch::stor=debug,orch::stor=info")], &["--log-format", "json"]).exits(0);
    let warning = "warning: `orch::stor` in the variable ORCH_LOG matches no record of the log; did you mean \
                   `orch::store`? The modules that log are orch::engine, orch::network, orch::runner, orch::store, \
                   orch::tool, hyper_util";
    assert_eq!(ran.stderr.matches(warning).count(), 1, "{}", ran.stderr);
    assert!(records(&ran.stderr).is_empty());
    for filter in ["orch::stor=debug,info", "orch::store::calls=debug", "debug"] {
        let ran = run_with(&orch, &[("ORCH_LOG", filter)], &["--log-format", "json"]).exits(0);
        assert_eq!(ran.stderr.contains("warning: `orch::stor`"), filter.contains("stor="), "{}", ran.stderr);
        assert!(!records(&ran.stderr).is_empty(), "{filter}");
    }
}

#[test]
fn waits_questions_and_answers_are_logged_without_their_texts() {
    let server = Server::start(|_| Reply::status(429, "busy"));
    let orch = project(&server);
    let steps = concat!(
        "name: main\nagents: { a: { model: lab/test } }\nsteps:\n",
        "  - { id: fails, agent: a, prompt: fails.md, output: x, schema: text, retry: { max: 2, backoff: 10ms }, on_error: continue }\n",
        "  - { id: sign, approve: question-71f3, output: verdict }\n",
    );
    orch.write("prompts/fails.md", "Fail.").write("pipelines/main.yaml", steps);
    let log = ["--log-format", "json"];
    let first = run_with(&orch, &[("ORCH_LOG", "info")], &log).exits(3);
    let answer = ["runs", "approve", "--note", "note-71f3", "--by", "name-71f3", "--resume", "--log-format", "json"];
    // The step that failed fails again.
    let second = RunOutput::of(&orch.command(&answer).env("ORCH_LOG", "info").output().unwrap()).exits(1);
    let (first, second) = (records(&first.stderr), records(&second.stderr));
    let find = |records: &[Value], message: &str| {
        let found = records.iter().find(|record| record["message"] == message).cloned();
        found.unwrap_or_else(|| panic!("no record {message:?}: {records:#?}"))
    };

    assert_eq!(find(&first, "the session starts")["resumed"], false);
    let pause = find(&first, "the step waits before the next try");
    assert_eq!(span_names(&pause), ["run", "step", "wait"]);
    assert_eq!((&pause["spans"][2]["step"], &pause["spans"][2]["reason"]), (&"fails".into(), &"retry".into()));
    let asked = find(&first, "orch asks the user");
    assert_eq!(asked["spans"][2]["call"], "sign@1#1");
    assert_eq!((&asked["spans"][2]["reason"], &asked["on_terminal"]), (&"answer".into(), &false.into()));
    find(&first, "the run stops until the user answers");
    assert_eq!(find(&second, "the session starts")["resumed"], true);
    assert_eq!(find(&second, "the run takes a message of another process")["kind"], "answer");
    // The answer was recorded before the step asked, so the step did not wait.
    assert_eq!(find(&second, "the question has a recorded answer")["approved"], true);
    assert!(!second.iter().any(|record| record["message"] == "the user answered"), "{second:#?}");
    for record in first.iter().chain(&second) {
        assert!(!record.to_string().contains("-71f3"), "{record}");
    }
}

#[test]
fn a_wrong_directive_ends_the_command_before_the_run() {
    let server = Server::always(Reply::openai_text("hello"));
    let orch = project(&server);
    for (filter, reason) in [
        ("orch=loud", "error: the directive `orch=loud` of the variable ORCH_LOG is not valid: `loud` is not a level"),
        ("info,h2=trace", "the log never contains records of `h2`, which may contain secrets"),
        ("loud", "`loud` is not a level"),
        ("orch[step]=info", "orch can't filter by spans, fields or texts"),
    ] {
        let ran = run_with(&orch, &[("ORCH_LOG", filter)], &[]).exits(2).says(reason);
        assert!(ran.stderr.contains("hint: write `ORCH_LOG=debug`, or a level for a module"), "{}", ran.stderr);
    }
    let missing_folder = orch.path().join("missing/orch.log").display().to_string();
    let expected = format!("error: the file `{missing_folder}` of `--log-file` can't be opened");
    run_with(&orch, &[], &["--log-file", &missing_folder]).exits(2).says(&expected);
    run_with(&orch, &[], &["--log-format", "xml"]).exits(2).says("text, json");
    assert!(server.requests().is_empty() && !orch.exists(".orch"));
}

#[test]
fn a_log_file_gets_all_records_and_turns_the_log_on() {
    let server = Server::always(Reply::openai_text("hello"));
    let orch = project(&server);
    let file = orch.path().join("orch.log").display().to_string();
    for (session, filter) in [(1, ""), (2, "orch::runner=info")] {
        let ran =
            run_with(&orch, &[("ORCH_LOG", filter)], &["--quiet", "--color", "always", "--log-file", &file]).exits(0);
        assert!(!ran.stderr.contains("orch::"), "{}", ran.stderr);
        let log = orch.read("orch.log");
        assert_eq!(log.matches("the session ended status=\"completed\"").count(), session, "{log}");
        assert_eq!(log.matches("the server answered").count(), 1, "{log}");
        assert!(!log.contains('\x1b'), "{log}");
    }
}

/// Texts that only models, programs, prompts, addresses and arguments contain. The redactor does not know them, so
/// the log must not contain such texts at all.
const MARKERS: [&str; 7] =
    ["prompt-71f3", "reply-71f3", "printed-71f3", "argument-71f3", "path-71f3", "input-71f3", "error-71f3"];

#[test]
fn no_record_contains_a_secret_or_a_text_of_a_model_or_a_program() {
    let key = "sk-Lab-0123456789-abcdef-42";
    let server = Server::start(|request| {
        let reply = format!("reply-71f3 sk-Lab-0123456789-abcdef-42 {}", request.path);
        if request.system().contains("refused") {
            return Reply::status(400, format!(r#"{{"error":{{"message":"error-71f3 {reply}"}}}}"#));
        }
        Reply::openai_text(&reply).header("x-answer", &reply)
    });
    let orch = Orch::empty();
    let settings = format!(
        "providers:\n  lab:\n    dialect: openai\n    base_url: \"{}/v1/path-71f3\"\n    api_key: {{ env: LAB_KEY }}\n",
        server.url()
    );
    orch.write("orch.yaml", &settings);
    orch.write("prompts/ask.md", "prompt-71f3 {{ task }}").write("prompts/refused.md", "refused prompt-71f3");
    let steps = concat!(
        "name: main\ninputs: { task: { type: string } }\nagents: { a: { model: lab/test } }\nsteps:\n",
        "  - { id: ask, agent: a, prompt: ask.md, output: answer, schema: text }\n",
        "  - { id: say, run: [sh, -c, 'echo printed-71f3 $0 $LAB_KEY; echo printed-71f3 >&2', argument-71f3], env: [LAB_KEY] }\n",
        "  - { id: fails, run: [sh, -c, 'echo error-71f3; exit 3'], on_error: continue }\n",
        "  - { id: refused, agent: a, prompt: refused.md, output: other, schema: text, on_error: continue }\n",
    );
    orch.write("pipelines/main.yaml", steps).trust();
    for format in ["text", "json"] {
        let log = format!("{format}.log");
        let file = orch.path().join(&log).display().to_string();
        let variables = [("LAB_KEY", key), ("ORCH_LOG", "trace,hyper_util=trace")];
        let args = ["--task", "input-71f3", "--continue-on-error", "--log-format", format, "--log-file", &file];
        run_with(&orch, &variables, &args);
        let log = orch.read(&log);
        for call in ["ask@1#1", "say@1#1", "fails@1#1", "refused@1#1"] {
            assert!(log.contains(call), "{call}: {log}");
        }
        for text in MARKERS.iter().copied().chain([key, "Bearer"]) {
            assert!(!log.contains(text), "{text}: {log}");
        }
    }
}

#[test]
fn a_secret_in_a_name_is_redacted() {
    let key = "sk-Lab-0123456789-abcdef-42";
    let server = Server::always(Reply::openai_text("hello"));
    let orch = project(&server);
    orch.write("pipelines/main.yaml", &STEPS.replace("lab/test", &format!("lab/{key}")));
    let ran = run_with(&orch, &[("ORCH_LOG", "debug"), ("OTHER_API_KEY", key)], &["--log-format", "json", "--quiet"]);
    let records = records(&ran.exits(0).stderr);
    assert_eq!(span_start(&records, "call", "call", "ask@1#1")["span"]["model"], "lab/[secret OTHER_API_KEY]");
    assert!(!records.iter().any(|record| record.to_string().contains(key)));
}
