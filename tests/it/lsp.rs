//! The language server as an editor uses it: findings, the protocol, and the lifecycle.

use serde_json::{Value, json};

use crate::support::{Editor, Orch};

const PIPELINE: &str = "pipelines/default.yaml";

/// The text in the range of a finding, counted in UTF-16.
fn text_of_range(text: &str, range: &Value) -> String {
    let (start, end) = (&range["start"], &range["end"]);
    assert_eq!(start["line"], end["line"], "{range}");
    let line = text.split('\n').nth(usize::try_from(start["line"].as_u64().unwrap()).unwrap()).unwrap();
    let units: Vec<u16> = line.encode_utf16().collect();
    let at = |point: &Value| usize::try_from(point["character"].as_u64().unwrap()).unwrap();
    String::from_utf16(&units[at(start)..at(end)]).unwrap()
}

#[test]
fn findings_follow_the_open_text_and_not_the_disk() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    editor.open_file(PIPELINE);
    assert_eq!(editor.findings(PIPELINE, Some(1)), [] as [Value; 0]);
    let wrong = orch.read(PIPELINE).replace("agent: coder", "agent: codr");
    editor.change(PIPELINE, 2, &wrong);
    let found = editor.findings(PIPELINE, Some(2));
    let one = found.iter().find(|d| d["code"] == "ORCH0304").unwrap();
    assert_eq!((one["source"].as_str(), one["severity"].as_u64()), (Some("orch"), Some(1)));
    assert!(one["message"].as_str().unwrap().contains("\nhelp: did you mean `coder`?"), "{one}");
    assert_eq!(text_of_range(&wrong, &one["range"]), "codr");
    assert!(one.get("codeDescription").is_none());
    editor.change(PIPELINE, 3, &orch.read(PIPELINE).replace("agents:\n", "agents:\n  spare: { model: auto }\n"));
    let found = editor.findings(PIPELINE, Some(3));
    let unused = found.iter().find(|d| d["code"] == "ORCH0311").unwrap();
    assert_eq!((unused["tags"].clone(), unused["severity"].as_u64()), (json!([1]), Some(2)));
    editor.close(PIPELINE);
    assert_eq!(editor.findings(PIPELINE, None), [] as [Value; 0], "the file on the disk counts again");
}

#[test]
fn a_change_of_a_schema_updates_the_findings_of_prompts() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let prompt = "prompts/reviewer.md";
    orch.write(prompt, "{{ plan.summary }}");
    editor.open_file("schemas/plan.schema.json");
    editor.wait_for_finding("schemas/plan.schema.json", "");
    let schema = orch.read("schemas/plan.schema.json");
    assert!(schema.contains("\"summary\""));
    let renamed = schema.replace("\"summary\"", "\"gist\"");
    editor.change("schemas/plan.schema.json", 2, &renamed);
    let found = editor.wait_for_finding(prompt, "ORCH0601");
    assert!(found[0]["message"].as_str().unwrap().contains("`plan` has no `summary`"), "{found:?}");
    assert_eq!(text_of_range(&orch.read(prompt), &found[0]["range"]), "summary");
    editor.change("schemas/plan.schema.json", 3, &schema);
    editor.wait_for_finding(prompt, "");
}

#[test]
fn findings_have_related_locations() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let text = orch.read(PIPELINE).replace("inputs: [plan]  ", "inputs: [review]");
    editor.open(PIPELINE, &text);
    let found = editor.wait_for_finding(PIPELINE, "ORCH0306");
    let one = found.iter().find(|d| d["code"] == "ORCH0306").unwrap();
    let other = &one["relatedInformation"][0];
    assert_eq!(
        (other["message"].as_str(), other["location"]["uri"].as_str()),
        (Some("produced here"), Some(&*editor.uri(PIPELINE)))
    );
    assert_eq!(text_of_range(&text, &other["location"]["range"]), "review");
}

#[test]
fn characters_are_counted_in_the_encoding_of_the_client() {
    let orch = Orch::new();
    let text = "name: \"🦀é\"\r\nagents: { \"🦀🦀\": {model: auto}, a: {modl: auto} }\r\nsteps:\r\n  - id: x\r\n    run: ls\r\n";
    for (encodings, name, character) in [
        (json!(["utf-16"]), "utf-16", 37),
        (json!(["utf-16", "utf-8"]), "utf-8", 41),
        (json!(["utf-32"]), "utf-16", 37),
    ] {
        let mut editor = Editor::with(&orch, encodings);
        assert_eq!(editor.initialize_result["capabilities"]["positionEncoding"], name);
        editor.open("pipelines/x.yaml", text);
        let found = editor.wait_for_finding("pipelines/x.yaml", "ORCH0201");
        let one = found.iter().find(|d| d["code"] == "ORCH0201").unwrap();
        assert_eq!(one["range"]["start"], json!({ "line": 1, "character": character }), "{name}");
        let start = one["range"]["start"]["character"].as_u64().unwrap();
        assert_eq!(one["range"]["end"]["character"], start + 4);
        // An edit in the same units fixes the finding.
        let range = json!({ "start": one["range"]["start"], "end": one["range"]["end"] });
        editor.edit("pipelines/x.yaml", 2, json!([{ "range": range, "text": "model" }]));
        let found = editor.findings("pipelines/x.yaml", Some(2));
        assert!(found.iter().all(|d| d["code"] != "ORCH0201"), "{found:?}");
    }
}

#[test]
fn a_fix_is_offered_where_only_one_is_possible() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let text = orch.read(PIPELINE).replace("agent: coder", "agent: codr").replace("on_error: stop", "on_error: stp");
    editor.open(PIPELINE, &text);
    let found = editor.wait_for_finding(PIPELINE, "ORCH0204");
    let range = found.iter().find(|d| d["code"] == "ORCH0204").unwrap()["range"].clone();
    let uri = editor.uri(PIPELINE);
    let ask = |only: Value| json!({ "textDocument": { "uri": uri }, "range": range, "context": { "diagnostics": [], "only": only } });
    let actions = editor.request_result("textDocument/codeAction", ask(json!(["quickfix"])));
    assert_eq!(actions.as_array().unwrap().len(), 1, "{actions}");
    assert_eq!(actions[0]["title"], "Change `stp` to `stop`");
    assert_eq!(actions[0]["isPreferred"], true);
    let edit = &actions[0]["edit"]["changes"][&uri][0];
    editor.edit(PIPELINE, 2, json!([{ "range": edit["range"], "text": edit["newText"] }]));
    editor.wait_for_finding(PIPELINE, "ORCH0304");
    let all = editor.request_result("textDocument/codeAction", ask(json!(["source"])));
    assert_eq!(all[0]["kind"], "source.fixAll");
    let edit = &all[0]["edit"]["changes"][&uri][0];
    editor.edit(PIPELINE, 3, json!([{ "range": edit["range"], "text": edit["newText"] }]));
    editor.wait_for_finding(PIPELINE, "");
    assert_eq!(editor.request_result("textDocument/codeAction", ask(json!(null))), json!([]));
}

#[test]
fn created_and_deleted_files_update_the_findings() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    editor.open_file(PIPELINE);
    editor.findings(PIPELINE, Some(1));
    let watch =
        editor.server_requests.iter().find(|request| request["method"] == "client/registerCapability").unwrap().clone();
    assert_eq!(watch["params"]["registrations"][0]["method"], "workspace/didChangeWatchedFiles");
    editor.send_body(&json!({ "jsonrpc": "2.0", "id": watch["id"], "result": null }).to_string());
    let event = |uri: String, kind: u8| json!({ "changes": [{ "uri": uri, "type": kind }] });
    std::fs::rename(orch.path().join("prompts/coder.md"), orch.path().join("prompts/codr.md")).unwrap();
    let uri = editor.uri("prompts/coder.md");
    editor.notify("workspace/didChangeWatchedFiles", event(uri.clone(), 3));
    let found = editor.wait_for_finding(PIPELINE, "ORCH0407");
    assert!(found[0]["message"].as_str().unwrap().contains("did you mean `codr.md`?"), "{found:?}");
    // An open text counts as a file, even if it is not on the disk.
    editor.open("prompts/coder.md", "{{ nothing }}");
    editor.wait_for_finding(PIPELINE, "");
    editor.wait_for_finding("prompts/coder.md", "ORCH0406");
    editor.close("prompts/coder.md");
    editor.wait_for_finding(PIPELINE, "ORCH0407");
    editor.wait_for_finding("prompts/coder.md", "");
    std::fs::rename(orch.path().join("prompts/codr.md"), orch.path().join("prompts/coder.md")).unwrap();
    editor.notify("workspace/didChangeWatchedFiles", event(uri, 1));
    editor.wait_for_finding(PIPELINE, "");
    // When a broken pipeline is deleted, its findings disappear.
    orch.write("pipelines/broken.yaml", "name: [");
    let uri = editor.uri("pipelines/broken.yaml");
    editor.notify("workspace/didChangeWatchedFiles", event(uri.clone(), 1));
    editor.wait_for_finding("pipelines/broken.yaml", "ORCH0110");
    std::fs::remove_file(orch.path().join("pipelines/broken.yaml")).unwrap();
    editor.notify("workspace/didChangeWatchedFiles", event(uri, 3));
    editor.wait_for_finding("pipelines/broken.yaml", "");
}

#[test]
fn findings_of_neighbouring_projects_do_not_mix() {
    let orch = Orch::empty();
    let mut editor = Editor::new(&orch);
    for folder in ["a b", "ü%"] {
        let pipeline = "name: p\nagents: { x: {model: auto} }\nsteps:\n  - id: s\n    agent: x\n    prompt: s.md\n    output: o\n    schema: text\n";
        orch.write(&format!("{folder}/pipelines/p.yaml"), pipeline);
    }
    orch.write("a b/prompts/s.md", "fine");
    orch.write("ü%/prompts/s.md", "{{ nothing }}");
    editor.open_file("a b/pipelines/p.yaml");
    editor.open_file("ü%/pipelines/p.yaml");
    assert_eq!(editor.findings("a b/pipelines/p.yaml", Some(1)), [] as [Value; 0]);
    editor.wait_for_finding("ü%/prompts/s.md", "ORCH0406");
    assert!(!editor.published.contains_key(&editor.uri("a b/prompts/s.md")));
    let folder = json!({ "uri": editor.uri("ü%"), "name": "two" });
    editor.notify("workspace/didChangeWorkspaceFolders", json!({ "event": { "added": [], "removed": [folder] } }));
    editor.wait_for_finding("ü%/prompts/s.md", "");
}

#[test]
fn files_of_other_tools_have_no_findings() {
    let orch = Orch::empty();
    let mut editor = Editor::new(&orch);
    editor.open("compose.yaml", "services: [");
    editor.open(".github/workflows/ci.yaml", "name: ci\njobs: {}\nsteps:\n  - run: x\n");
    editor.open("notes/prompts/idea.md", "{{ nothing ");
    editor.open("one.yaml", "name: one\nsteps:\n  - id: a\n    rn: ls\n");
    editor.wait_for_finding("one.yaml", "ORCH0201");
    editor.notify(
        "textDocument/didOpen",
        json!({ "textDocument": { "uri": "untitled:1", "languageId": "yaml", "version": 1, "text": "name: [" } }),
    );
    let hover = editor.request_at("hover", "compose.yaml", (0, 0));
    assert_eq!(hover, Value::Null);
    let outline = editor.request_at("documentSymbol", ".github/workflows/ci.yaml", (0, 0));
    assert_eq!(outline, Value::Null);
    assert_eq!(editor.published.keys().cloned().collect::<Vec<_>>(), [editor.uri("one.yaml")]);
}

#[test]
fn a_prompt_that_no_pipeline_uses_is_checked_too() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    editor.open("prompts/spare.md", "{{ anything }} {{ oops | nofilter }}");
    let found = editor.wait_for_finding("prompts/spare.md", "ORCH0405");
    assert_eq!(found.len(), 1, "without a step there are no variables to know: {found:?}");
}

#[test]
fn invalid_messages_are_answered_and_the_server_continues() {
    let orch = Orch::new();
    let mut editor = Editor::uninitialized(&orch);
    let early = editor.send_request("textDocument/hover", json!({}));
    assert_eq!(early["error"]["code"], -32002, "{early}");
    drop(editor);
    let mut editor = Editor::new(&orch);
    for (body, code) in [
        ("{", -32700),
        ("[1]", -32600),
        ("{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"x\"}", -32600),
        ("{\"jsonrpc\":\"2.0\",\"id\":7}", -32600),
    ] {
        editor.send_body(body);
        let answer = editor.read_until(|message| message.get("error").is_some());
        assert_eq!(answer["error"]["code"], code, "{body}");
    }
    editor.send_bytes(b"Content-Length: x\r\n\r\n");
    assert_eq!(editor.read_until(|message| message.get("error").is_some())["error"]["code"], -32600);
    assert_eq!(editor.send_request("orch/nothing", json!({}))["error"]["code"], -32601);
    assert_eq!(editor.send_request("textDocument/hover", json!({ "position": 1 }))["error"]["code"], -32602);
    editor.notify("textDocument/didChange", json!({ "textDocument": {} }));
    editor.notify(
        "textDocument/didChange",
        json!({ "textDocument": { "uri": "file:///nowhere", "version": 1 }, "contentChanges": [{ "text": "x" }] }),
    );
    editor.open_file(PIPELINE);
    assert_eq!(editor.findings(PIPELINE, Some(1)), [] as [Value; 0]);
    assert!(
        editor.log_messages[0]["message"].as_str().unwrap().contains("textDocument/didChange"),
        "{:?}",
        editor.log_messages
    );
    // One range lies beyond the last line, another one ends before it begins.
    let range = json!({ "start": { "line": 9999, "character": 9 }, "end": { "line": 0, "character": 99999 } });
    editor.edit(PIPELINE, 2, json!([{ "range": range, "text": "\n# end\n" }]));
    editor.findings(PIPELINE, Some(2));
}

#[test]
fn a_session_ends_on_shutdown_and_exit() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    assert_eq!(editor.request_result("shutdown", Value::Null), Value::Null);
    assert_eq!(editor.send_request("textDocument/hover", json!({}))["error"]["code"], -32600);
    editor.notify("exit", Value::Null);
    assert_eq!(editor.disconnect(), 0);
    let mut editor = Editor::new(&orch);
    editor.notify("exit", Value::Null);
    assert_eq!(editor.disconnect(), 1, "`exit` without `shutdown`");
    assert_eq!(Editor::new(&orch).disconnect(), 1, "the editor disconnects");
}

#[test]
fn settings_and_schemas_are_checked_without_a_pipeline() {
    let orch = Orch::empty();
    let mut editor = Editor::new(&orch);
    orch.write("orch.yaml", "").write("schemas/a.json", "{ \"type\": \"strin\" }");
    editor.open("orch.yaml", "defaults: { modl: auto }\n");
    editor.wait_for_finding("orch.yaml", "ORCH0201");
    editor.wait_for_finding("schemas/a.json", "ORCH0502");
}

#[test]
fn a_text_that_is_too_large_is_a_finding() {
    let orch = Orch::new();
    let mut editor = Editor::new(&orch);
    let text = format!("{}# {}\n", orch.read(PIPELINE), "x".repeat(5 << 20));
    editor.open(PIPELINE, &text);
    editor.wait_for_finding(PIPELINE, "ORCH0104");
    assert_eq!(editor.request_at("hover", PIPELINE, (1, 1)), Value::Null);
    editor.change(PIPELINE, 2, &orch.read(PIPELINE));
    editor.wait_for_finding(PIPELINE, "");
}

#[test]
fn the_help_of_the_command_describes_the_language_server() {
    let orch = Orch::empty();
    let help = orch.run(&["lsp", "--help"]).stdout;
    assert!(help.contains("docs/editors.md") && help.contains("exit code 0"), "{help}");
    assert!(
        orch.run(&["pipeline", "validate", "--help"])
            .stdout
            .contains("checks every pipeline and test case of the project")
    );
    let list = orch.run(&["--help"]).stdout;
    assert!(list.contains("Start the language server for editors") && !list.contains("docs/editors.md"), "{list}");
}
