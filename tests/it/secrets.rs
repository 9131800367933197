//! No key appears in anything that orch writes, wherever the key comes from.

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::kill::latest_run;
use crate::support::{Orch, ReceivedRequest, Reply, Server};

/// The forms in which no output may contain the secret.
fn secret_forms(secret: &str) -> Vec<String> {
    let quoted = |text: &str| {
        let json = Value::from(text).to_string();
        json[1..json.len() - 1].to_owned()
    };
    let percent = |upper: bool| -> String {
        secret
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
                _ if upper => format!("%{byte:02X}"),
                _ => format!("%{byte:02x}"),
            })
            .collect()
    };
    vec![
        secret.to_owned(),
        quoted(secret),
        quoted(&quoted(secret)),
        percent(true),
        percent(false),
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        // As the password of a user, without the last characters, which depend on the padding.
        STANDARD.encode(format!("user:{secret}")).trim_end_matches('=')[7..].to_owned(),
        secret.bytes().map(|byte| format!("\\u{:04x}", u16::from(byte))).collect(),
        secret.bytes().map(|byte| format!("{byte:02x}")).collect(),
    ]
}

/// A pipeline in which the secret returns in values, as text, as an error, and from a command; a step writes an agent's
/// reply into files.
const STEPS: &str = "name: leaky
inputs:
  task: { type: string }
agents:
  a: { model: lab/test }
steps:
  - { id: value, agent: a, schema: any, prompt: value.md, output: value }
  - { id: text, agent: a, schema: text, prompt: text.md, output: text }
  - { id: files, agent: a, schema: any, prompt: files.md, output: files }
  - { id: write, write: files, inputs: [files], output: written }
  - { id: say, run: [cat, FILE], output: said }
  - { id: cry, run: [sh, -c, 'cat FILE >&2; exit 3'], output: cried }
  - { id: refused, agent: a, schema: any, prompt: refused.md, output: refused }
  - { id: garbled, agent: a, schema: any, prompt: garbled.md, output: garbled }
";

const RUN: [&str; 5] = ["pipeline", "run", "pipelines/main.yaml", "--task", "x"];

/// A streamed reply whose text arrives in these pieces.
fn reply_in_deltas(secret: &str, pieces: &[String]) -> Reply {
    let content =
        |piece: &String| json!({ "id": secret, "model": secret, "choices": [{ "delta": { "content": piece } }] });
    let mut events: Vec<Value> = pieces.iter().map(content).collect();
    events.push(json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] }));
    Reply::events(&events)
}

/// Splits a text into pieces of so many letters.
fn split_text(text: &str, letters: usize) -> Vec<String> {
    text.chars().collect::<Vec<_>>().chunks(letters).map(|part| part.iter().collect()).collect()
}

/// Splits every form at each of its positions.
fn split_forms(forms: &[String]) -> Vec<String> {
    let all = forms.iter().flat_map(|form| (1..form.len()).map(move |at| form.split_at(at)));
    all.flat_map(|(one, other)| [one.to_owned(), other.to_owned(), " | ".to_owned()]).collect()
}

/// Replies with the secret in every form; text arrives in deltas of `letters` and packets of `bytes`.
fn reply_with_secret(request: &ReceivedRequest, secret: &str, letters: usize, bytes: usize) -> Reply {
    let forms = secret_forms(secret);
    let all = forms.join(" | ");
    let said = |text: &str| reply_in_deltas(secret, &split_text(text, letters));
    if request.path.contains("hook") {
        // The receiver of the tracker refuses the request, and quotes the key.
        return Reply::status(422, json!({ "message": format!("bad signature {all}") }).to_string());
    }
    let reply = match request.system().trim() {
        "value" => said(&json!({ "forms": forms, secret: secret, "deep": [[{ "x": all }]] }).to_string()),
        "text" => reply_in_deltas(secret, &split_forms(&forms)),
        "files" => said(&json!([{ "path": "out/a.txt", "content": all }]).to_string()),
        "refused" => {
            Reply::status(400, json!({ "error": { "message": format!("bad key {all}"), "type": all } }).to_string())
        }
        _ => Reply::typed("text/plain", format!("<b>what</b> {all}")),
    };
    reply.pieces(bytes, Duration::ZERO)
}

/// Collects every file in a folder, with its bytes.
pub(crate) fn collect_files(folder: &Path, out: &mut Vec<(String, Vec<u8>)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect_files(&path, out);
        } else {
            out.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

/// Runs the pipeline and searches every file and output for the secret.
fn find_leak(secret: &str, letters: usize, bytes: usize) -> Option<String> {
    let (key, forms) = (secret.to_owned(), secret_forms(secret));
    let server = Server::start({
        let key = key.clone();
        move |request| reply_with_secret(request, &key, letters, bytes)
    });
    let orch = Orch::empty();
    let url = server.openai_url();
    let settings = format!(
        "providers:\n  lab: {{ dialect: openai, base_url: \"{url}\", api_key: {{ env: LAB_KEY }} }}\ntracker:\n  webhook: {{ url: \"{}/hook\", secret: {{ env: HOOK_SECRET }} }}\n",
        server.url()
    );
    orch.write("orch.yaml", &settings).trust();
    orch.write("pipelines/tests/main.yaml", "pipeline: ../main.yaml\ninputs: { task: x }\n");
    // The command prints into a folder that the test does not search.
    let echo = orch.path().join("echo.txt");
    fs::write(&echo, forms.join("\n")).unwrap();
    orch.write("pipelines/main.yaml", &STEPS.replace("FILE", &echo.display().to_string()));
    for name in ["value", "text", "files", "refused", "garbled"] {
        orch.write(&format!("prompts/{name}.md"), name);
    }
    let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
    for args in [
        &[&RUN[..], &["--continue-on-error", "--output", "json", "--record", "recordings"]].concat()[..],
        &["runs", "show", "--replies"],
        &["runs", "events"],
        &["runs", "events", "--output", "json"],
        &["runs", "show", "--replies", "--output", "json"],
        &["runs", "list", "--output", "json"],
        &["runs", "track"],
        &["runs", "export", "LATEST", "--to", "out/run.json"],
        &["runs", "artifact", "LATEST", "said"],
        &["runs", "diff", "LATEST"],
        &["pipeline", "resume", "--dry-run"],
        &["pipeline", "test", "--update", "--format", "junit"],
        &["pipeline", "test"],
        &["pipeline", "validate", "--format", "sarif"],
        &["doctor", "--output", "json"],
    ] {
        let run = latest_run(&orch);
        let args: Vec<&str> =
            args.iter().map(|arg| if *arg == "LATEST" { run.as_ref().unwrap().0.as_str() } else { arg }).collect();
        let done = orch.command(&args).env("LAB_KEY", secret).env("HOOK_SECRET", secret).output().unwrap();
        seen.push((format!("stdout of {}", args.join(" ")), done.stdout));
        seen.push((format!("stderr of {}", args.join(" ")), done.stderr));
    }
    let said = String::from_utf8_lossy(&seen[6].1).into_owned();
    assert_eq!(
        said.matches("\"call_ended\"").count(),
        9,
        "every step made its calls: {said}{}",
        String::from_utf8_lossy(&seen[1].1)
    );
    assert!(said.contains("[secret LAB_KEY]"));
    assert!(orch.read("workspace/out/a.txt").contains("[secret LAB_KEY]"));
    collect_files(&orch.path().join(".orch"), &mut seen);
    collect_files(&orch.path().join("workspace"), &mut seen);
    for folder in ["recordings", "out", "pipelines"] {
        collect_files(&orch.path().join(folder), &mut seen);
    }
    let refused = seen.iter().filter(|(name, _)| name.ends_with("runs track")).map(|(_, text)| text.as_slice());
    let refused = String::from_utf8_lossy(&refused.collect::<Vec<_>>().concat()).into_owned();
    assert!(refused.contains("bad signature [secret HOOK_SECRET]"), "{refused}");
    assert!(seen.iter().any(|(name, _)| name.contains("recordings/value")), "{:?}", orch.files());
    let found = |text: &[u8], form: &str| text.windows(form.len()).any(|part| part == form.as_bytes());
    for (name, text) in &seen {
        if let Some(form) = forms.iter().find(|form| found(text, form)) {
            return Some(format!("{form} is in {name}: {}", String::from_utf8_lossy(text)));
        }
    }
    None
}

#[test]
fn no_file_or_output_contains_a_key_wherever_replies_are_split() {
    for (letters, bytes) in [(1, 1), (2, 7), (3, 1_000), (19, 64)] {
        assert_eq!(find_leak("sk-Lab/0+1\"2\\3%4=567", letters, bytes), None, "in pieces of {letters}");
    }
}

#[test]
fn no_file_or_output_contains_a_key_of_any_kind() {
    let mut runner = TestRunner::new(Config { cases: 8, failure_persistence: None, ..Config::default() });
    let kinds = ("[!-~]{8,60}", 1..40_usize, 1..200_usize);
    runner
        .run(&kinds, |(secret, letters, bytes)| {
            prop_assert_eq!(find_leak(&secret, letters, bytes), None);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_key_among_the_inputs_is_refused_before_anything_is_recorded() {
    let server = Server::saying("{}");
    let orch = Orch::new();
    let url = server.openai_url();
    let settings = format!(
        "providers:\n  lab: {{ dialect: openai, base_url: \"{url}\", api_key: {{ env: LAB_KEY }} }}\ndefaults: {{ model: lab/m }}\n"
    );
    orch.write("orch.yaml", &settings).trust();
    let args = ["pipeline", "run", "pipelines/default.yaml", "--task", "use sk-0123\"456789 please"];
    let done = orch.command(&args).env("LAB_KEY", "sk-0123\"456789").output().unwrap();
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{text}");
    assert!(text.contains("the input `task` contains a secret") && !text.contains("456789"), "{text}");
    assert!(!orch.exists(".orch") && server.requests().is_empty());
}

/// A command that prints its environment.
const PRINTS_ENVIRONMENT: &str = "name: says
inputs:
  task: { type: string }
steps:
  - { id: say, run: [env], env: [DEPLOY_TOKEN, STAGING_LOGIN, DATABASE_URL, MODE, SHORT_KEY], output: said }
";

#[test]
fn variables_of_a_command_are_redacted_if_they_are_named_like_secrets_or_listed() {
    let orch = Orch::empty();
    orch.write("orch.yaml", "secrets: [STAGING_LOGIN, PIN]\n").write("pipelines/main.yaml", PRINTS_ENVIRONMENT);
    let done = orch
        .command(&RUN)
        .env("DEPLOY_TOKEN", "tok-0123456789abcdef")
        .env("STAGING_LOGIN", "me and mine")
        .env("DATABASE_URL", "postgres://me:correct-horse-battery@db:5432/x")
        .env("MODE", "an ordinary long value")
        .env("SHORT_KEY", "postgres")
        .env("PIN", "1234")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = orch.json("workspace/said.json")["stdout"].as_str().unwrap().to_owned();
    for line in [
        "DEPLOY_TOKEN=[secret DEPLOY_TOKEN]",
        "STAGING_LOGIN=[secret STAGING_LOGIN]",
        "DATABASE_URL=postgres://me:[secret DATABASE_URL]@db:5432/x",
        "MODE=an ordinary long value",
        "SHORT_KEY=postgres",
    ] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    let note = "the value of PIN is too short to redact it from the records";
    assert!(String::from_utf8_lossy(&done.stderr).contains(note), "{}", String::from_utf8_lossy(&done.stderr));
    let mut left = Vec::new();
    collect_files(&orch.path().join(".orch"), &mut left);
    for needle in ["0123456789abcdef", "me and mine", "correct-horse"] {
        let found = left.iter().find(|(_, text)| text.windows(needle.len()).any(|part| part == needle.as_bytes()));
        assert!(found.is_none(), "{needle} is in {:?}", found.map(|(name, _)| name));
    }
}

#[test]
fn variables_of_an_agent_program_are_redacted_in_its_reply_and_its_files() {
    let value = "x7Kp2qL9mZ4vT1wB8s";
    let orch = Orch::empty();
    orch.write("agent.sh", "echo \"$LOGIN\" > leaked.txt; echo fine > clean.txt; echo \"I saw $LOGIN\"\n");
    orch.write("prompts/ask.md", "You answer.\n");
    let agent = format!("command: [sh, {}/agent.sh], tools: [run], env: [LOGIN]", orch.path().display());
    orch.write(
        "pipelines/main.yaml",
        &format!("name: test\ninputs: {{ task: {{ type: string }} }}\nagents:\n  a: {{ {agent} }}\nsteps:\n  - {{ id: ask, agent: a, prompt: ask.md, output: answer, schema: text }}\n"),
    );
    orch.disable_unsupported_sandboxes();
    let done = orch.command(&RUN).env("LOGIN", value).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(orch.read("workspace/answer.md"), "I saw [secret LOGIN]\n");
    let id = orch.run(&["runs", "list", "--output", "json"]);
    let id = serde_json::from_str::<Value>(&id.stdout).unwrap()[0]["id"].as_str().unwrap().to_owned();
    let diff = orch.run(&["runs", "diff", &id]).exits(0).says("orch did not record the change of `leaked.txt`");
    assert!(diff.stdout.contains("+++ b/clean.txt") && !diff.stdout.contains("leaked.txt"), "{}", diff.stdout);
    let mut left = Vec::new();
    collect_files(&orch.path().join(".orch"), &mut left);
    let found = left.iter().find(|(_, text)| text.windows(value.len()).any(|part| part == value.as_bytes()));
    assert!(found.is_none(), "it is in {:?}", found.map(|(name, _)| name));
}
