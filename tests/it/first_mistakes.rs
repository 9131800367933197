//! The first mistakes of a new user: each has a clear message and the right exit code, and sends no request.

use crate::default_pipeline::good_reply;
use crate::support::{Orch, Reply, Server};

#[test]
fn the_message_for_a_missing_pipeline_names_the_existing_ones() {
    let orch = Orch::new();
    orch.run(&["pipeline", "run", "pipelines/defualt.yaml", "--task", "x"])
        .exits(2)
        .says("there is no file `pipelines/defualt.yaml`")
        .says("did you mean `pipelines/default.yaml`?");
    Orch::empty().run(&["pipeline", "run", "a.yaml", "--task", "x"]).exits(2).says("orch init");
}

#[test]
fn a_misspelt_key_is_marked_with_a_caret_and_no_request_is_sent() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    orch.edit("pipelines/default.yaml", "    prompt: coder.md", "    promt: coder.md");
    let ran = orch.pipeline(&[]).exits(2);
    assert!(ran.stderr.contains("error[ORCH0201]: unknown key `promt`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("pipelines/default.yaml:21:5") && ran.stderr.contains("^^^^^"), "{}", ran.stderr);
    assert!(ran.stderr.contains("did you mean `prompt`?"), "{}", ran.stderr);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn the_message_for_a_missing_prompt_suggests_the_nearest_name() {
    let orch = Orch::new();
    orch.edit("pipelines/default.yaml", "prompt: coder.md", "prompt: codr.md");
    orch.run(&["pipeline", "validate"])
        .exits(2)
        .says("there is no prompt `prompts/codr.md`")
        .says("did you mean `coder.md`?");
}

#[test]
fn invalid_model_names_are_refused_before_the_run() {
    let orch = Orch::new();
    orch.pipeline(&["--model", "antropic/claude"])
        .exits(2)
        .says("unknown provider `antropic`")
        .says("did you mean `anthropic`?");
    orch.pipeline(&["--model", "gpt"]).exits(2).says("unknown model `gpt`");
    #[cfg(feature = "local")]
    orch.pipeline(&["--model", "local/smolm2-135m"]).exits(2).says("did you mean `smollm2-135m`?");
}

#[test]
fn the_message_for_a_missing_key_names_the_variable_to_set() {
    let orch = Orch::new();
    orch.pipeline(&["--model", "anthropic/claude-sonnet-4-5"])
        .exits(2)
        .says("ANTHROPIC_API_KEY is not set")
        .says("export ANTHROPIC_API_KEY");
}

#[test]
fn a_wrong_key_fails_the_step_and_is_never_shown() {
    let server =
        Server::start(|_| Reply::status(401, "{\"error\":{\"message\":\"invalid x-api-key sk-secret-0123456789\"}}"));
    let orch = Orch::new();
    let url = server.url();
    let mut command = orch.command(&["pipeline", "run", "pipelines/default.yaml", "--task", "x", "--output", "json"]);
    command.env("ANTHROPIC_API_KEY", "sk-secret-0123456789").env("ANTHROPIC_BASE_URL", url);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(err.contains("ANTHROPIC_API_KEY is set"), "auto says what it chose and why: {err}");
    assert!(err.contains("auth") && err.contains("ANTHROPIC_API_KEY"), "{err}");
    for text in [&out, &err] {
        assert!(!text.contains("sk-secret-0123456789"), "{text}");
    }
    assert_eq!(server.requests().len(), 1, "a wrong key is not tried again");
    for entry in std::fs::read_dir(orch.path().join(".orch")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(20).any(|w| w == b"sk-secret-0123456789"), "{}", path.display());
        }
    }
}

#[test]
fn an_unreachable_server_fails_the_step_after_its_retries_and_is_named() {
    let orch = Orch::new();
    orch.write("orch.yaml", "providers:\n  lab: { dialect: openai, base_url: \"http://127.0.0.1:9/v1\" }\n");
    let ran = orch.pipeline(&["--model", "lab/x"]).exits(1);
    assert!(ran.stderr.contains("can't reach http://127.0.0.1:9"), "{}", ran.stderr);
    assert!(ran.stderr.contains("attempt 3"), "{}", ran.stderr);
}

#[test]
fn inputs_are_checked_before_the_run() {
    let orch = Orch::new();
    orch.run(&["pipeline", "run", "pipelines/default.yaml"])
        .exits(2)
        .says("the input `task` is missing")
        .says("--task");
    orch.run(&["pipeline", "run", "pipelines/default.yaml", "--task", "  "]).exits(2).says("the task is empty");
    orch.pipeline(&["--input", "langage=rust"]).exits(2).says("the pipeline has no input `langage`");
    orch.pipeline(&["--input", "oops"]).exits(2).says("has no `=`");
    orch.edit("pipelines/default.yaml", "inputs:  ", "inputs:\n  count: { type: integer, minimum: 1, default: 2 } #");
    orch.pipeline(&["--input", "count=0"]).exits(2).says("the input `count` does not fit");
    orch.pipeline(&["--input", "count=x"]).exits(2).says("must be integer");
}

#[test]
fn all_findings_are_reported_at_once() {
    let orch = Orch::new();
    orch.edit("pipelines/default.yaml", "agent: coder", "agent: codr");
    orch.edit("pipelines/default.yaml", "inputs: [plan, \"code?\"]", "inputs: [plann, \"code?\"]");
    orch.edit("schemas/plan.schema.json", "\"type\": \"object\"", "\"type\": \"objekt\"");
    orch.edit("prompts/planner.md", "Read the task.", "Read {{ taks }}.");
    let ran = orch.run(&["pipeline", "validate"]).exits(2);
    for text in [
        "unknown agent `codr`",
        "no step produces `plann`",
        "schemas/plan.schema.json:26:17",
        "unknown variable `taks`",
        "prompts/planner.md:3:9",
        "`objekt` is not a type of JSON Schema",
    ] {
        assert!(ran.stderr.contains(text), "no {text:?} in\n{}", ran.stderr);
    }
}

#[cfg(feature = "local")]
#[test]
fn the_message_for_auto_without_any_model_names_three_solutions() {
    let orch = Orch::new();
    let mut command = orch.command(&["pipeline", "run", "pipelines/default.yaml", "--task", "x"]);
    command.env("XDG_CACHE_HOME", orch.path().join("cache"));
    let ran = crate::support::RunOutput::of(&command.output().unwrap()).exits(2);
    for text in ["orch models pull", "ANTHROPIC_API_KEY", "ollama/"] {
        assert!(ran.stderr.contains(text), "no {text:?} in\n{}", ran.stderr);
    }
}

#[test]
fn auto_uses_the_only_model_of_a_local_server_and_refuses_to_choose_among_several() {
    for (list, code, words) in [
        ("{\"data\":[{\"id\":\"qwen\"}]}", 0, "model: ollama/qwen (auto: it is the only model"),
        ("{\"data\":[{\"id\":\"qwen\"},{\"id\":\"llama\"}]}", 2, "--model: ollama/qwen, ollama/llama"),
    ] {
        let server = Server::start(move |request| {
            if request.path.ends_with("/models") {
                Reply::status(200, list).header("content-type", "application/json")
            } else {
                good_reply(request)
            }
        });
        let orch = Orch::new();
        let mut command = orch.command(&["pipeline", "run", "pipelines/default.yaml", "--task", "x"]);
        command.env("OLLAMA_HOST", server.url().trim_start_matches("http://"));
        crate::support::RunOutput::of(&command.output().unwrap()).exits(code).says(words);
    }
}

#[test]
fn an_unwritable_journal_is_reported_before_any_request() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    orch.write(".orch", "a file where the folder should be");
    orch.pipeline(&[]).exits(2).says(".orch");
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn the_message_for_a_time_without_a_unit_shows_the_syntax() {
    let orch = Orch::new();
    orch.edit("pipelines/default.yaml", "    output: plan", "    output: plan\n    timeout: 5");
    orch.run(&["pipeline", "validate"]).exits(2).says("give it a unit, as in `5s` or `5m`");
}

#[test]
fn the_hint_for_a_provider_without_a_key_says_where_to_set_it() {
    let server = Server::always(Reply::status(401, "{\"error\":{\"message\":\"no key\"}}"));
    let orch = Orch::new().with(&server);
    orch.pipeline(&[]).exits(1).says("`providers: { lab: { api_key: { env: NAME } } }` to orch.yaml");
}

#[test]
fn zero_is_refused_as_a_count_of_runs() {
    Orch::new().run(&["runs", "list", "-n", "0"]).exits(2).says("the limit must be at least 1");
    Orch::new().run(&["runs", "list", "-n", "x"]).exits(2).says("`x` is not a number");
}

#[test]
fn a_schema_on_the_command_line_must_be_json() {
    let orch = Orch::new();
    orch.write("reply.txt", "{}");
    let args = ["extract", "--schema", "pipelines/default.yaml", "reply.txt"];
    orch.run(&args).exits(2).says("a schema is a JSON file").says("pipelines/default.yaml:");
    orch.run(&["extract", "--schema", "plan", "reply.txt"]).exits(1);
}

#[cfg(target_os = "linux")]
#[test]
fn an_unwritable_report_is_reported_after_the_run() {
    let server = Server::start(crate::default_pipeline::good_reply);
    let orch = Orch::new().with(&server);
    let args = ["pipeline", "run", "pipelines/default.yaml", "--task", "x", "--output", "json"];
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let out = orch.command(&args).stdout(full).output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("the output can't be written") && text.contains("orch runs show"), "{text}");
    assert!(text.contains("review.json"), "the summary is told all the same: {text}");
    orch.run(&["pipeline", "resume"]).exits(2).says("every run is completed");
}

#[test]
fn a_file_in_place_of_the_workspace_is_reported() {
    let server = Server::start(crate::default_pipeline::good_reply);
    let orch = Orch::new().with(&server);
    orch.write("place", "");
    orch.pipeline(&["-w", "place"]).exits(2).says("a file is in the place of a folder");
    orch.pipeline(&["-w", "place/below"]).exits(2).says("a file is in the place of a folder");
    assert!(server.requests().is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipeline_whose_name_is_not_utf8_is_reported() {
    use std::os::unix::ffi::OsStrExt as _;
    let orch = Orch::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.yaml");
    std::fs::copy(orch.path().join("pipelines/default.yaml"), orch.path().join("pipelines").join(name)).unwrap();
    orch.run(&["pipeline", "validate"]).exits(2).says("ORCH0103").says("is not UTF-8 text");
    let listed = orch.run(&["pipeline", "list"]).exits(0).stdout;
    assert!(listed.contains("caf\u{fffd}.yaml") && listed.contains("can't be read"), "{listed}");
}
