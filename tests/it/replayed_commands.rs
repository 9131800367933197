//! Replays of commands, of the files that programs changed, and of requests whose texts change from run to run.

use serde_json::json;

use crate::step_kinds::{answering_server, project, run};
use crate::support::{Orch, Server};

/// A command whose output differs in every run, and an agent that reads it. The command counts its runs in `ran.txt`.
const CHECK: &str = r#"  - id: check
    run: [sh, -c, 'echo ran >> PROJECT/ran.txt; echo "Ran 3 tests in 0.$$s"; pwd; date; mktemp -u; EXTRA']
    output: check
  - { id: fix, agent: a, schema: any, prompt: code.md, inputs: [check], message: "{{ check.stdout }}", output: fix }
"#;

const CASE: &str = "pipeline: ../main.yaml\ninputs: { task: do it }\n";

/// A project with these steps and a test case with these further lines.
fn project_with_case(steps: &str, lines: &str) -> (Server, Orch) {
    let server = answering_server(|step, _| json!({ "step": step }));
    let orch = project(&server, "");
    let folder = orch.path().display().to_string();
    let steps = steps.replace("PROJECT", &folder).replace("; EXTRA", "");
    orch.edit("pipelines/main.yaml", "steps:\n", &format!("steps:\n{steps}"));
    orch.write("pipelines/tests/main.yaml", &format!("{CASE}{lines}"));
    (server, orch)
}

/// Runs the test cases, and returns the results and the warnings.
#[track_caller]
fn run_cases(orch: &Orch, more: &[&str], code: i32) -> String {
    let ran = orch.run(&[&["pipeline", "test"], more].concat()).exits(code);
    ran.stdout + &ran.stderr
}

/// How often the command ran.
fn run_count(orch: &Orch) -> usize {
    orch.read("ran.txt").lines().count()
}

/// The names of the recordings of a step.
fn recordings_of(orch: &Orch, step: &str) -> Vec<String> {
    let is_recording =
        |name: &String| name.rsplit('/').next().is_some_and(|name| name.starts_with(&format!("{step}.")));
    orch.files().into_iter().filter(|name| name.ends_with(".json") && is_recording(name)).collect()
}

#[test]
fn a_case_passes_right_after_its_update_although_its_commands_print_something_else() {
    for (commands, runs) in
        [("", 1), ("commands: replay\n", 1), ("commands: run\n", 2), ("commands: { check: run }\n", 2)]
    {
        let (server, orch) = project_with_case(CHECK, commands);
        run_cases(&orch, &["--update"], 0);
        let said = run_cases(&orch, &[], 0);
        assert!(said.contains("1 passed") && !said.contains("warning"), "{commands}{said}");
        assert_eq!((run_count(&orch), server.requests().len()), (runs, 1), "{commands}");
        assert_eq!(recordings_of(&orch, "check").len(), usize::from(runs == 1), "{commands}");
    }
}

#[test]
fn recordings_name_the_folders_of_the_run_by_placeholders() {
    let (_server, orch) = project_with_case(CHECK, "");
    run_cases(&orch, &["--update"], 0);
    let names = recordings_of(&orch, "check");
    let [command] = &names[..] else { panic!("{:?}", orch.files()) };
    let text = orch.read(command);
    assert!(text.contains("\"‹workspace›\"") && text.contains("‹project›/ran.txt"), "{text}");
    assert!(!text.contains(&orch.path().display().to_string()), "{text}");
    assert_eq!(orch.json(command)["result"]["exited"]["exit_code"], 0);
}

#[test]
fn a_request_that_differs_in_a_number_needs_a_normalizer_which_the_error_suggests() {
    let steps = CHECK.replace("EXTRA", "echo seed $$");
    let (server, orch) = project_with_case(&steps, "commands: run\n");
    run_cases(&orch, &["--update"], 0);
    let said = run_cases(&orch, &[], 1);
    for part in [
        "no recording in `",
        "the first difference is in line 5 of the user message:",
        "recorded:  seed ",
        "requested: seed ",
        "`normalize: [{ match: 'seed [0-9.,:]+', as: 'seed …' }]` in the test case",
        "`orch pipeline test --update pipelines/tests/main.yaml`",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let rule = r"normalize: [{ match: 'seed \d+', as: 'seed …' }]";
    orch.write("pipelines/tests/main.yaml", &format!("{CASE}commands: run\n{rule}\n"));
    let said = run_cases(&orch, &[], 0);
    assert!(!said.contains("warning"), "{said}");
    orch.write("pipelines/tests/main.yaml", &format!("{CASE}commands: run\n"));
    let settings = orch.read("orch.yaml");
    orch.write("orch.yaml", &format!("{settings}recordings:\n  {rule}\n"));
    let said = run_cases(&orch, &[], 0);
    assert!(!said.contains("warning"), "{said}");
    orch.run(&["pipeline", "validate"]).exits(0);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_difference_in_words_is_shown_without_a_normalizer() {
    let (_server, orch) = project_with_case(CHECK, "");
    run_cases(&orch, &["--update"], 0);
    orch.edit("prompts/code.md", "step:code", "step:code\nBe bold.");
    let said = run_cases(&orch, &[], 1);
    assert!(said.contains("in line 2 of the system prompt:") && said.contains("+Be bold."), "{said}");
    assert!(said.contains("recorded:  (the end)") && !said.contains("normalize"), "{said}");
    // A command that was not recorded fails as well, and names the mode that runs it.
    orch.edit("pipelines/main.yaml", "echo ran", "echo run");
    let said = run_cases(&orch, &[], 1);
    assert!(said.contains("matches the command of step `check`") && said.contains("`commands: run`"), "{said}");
}

#[test]
fn a_normalizer_that_matches_nothing_is_reported() {
    let (_server, orch) = project_with_case(CHECK, "normalize:\n  - { match: 'no such text', as: x }\n");
    let settings = orch.read("orch.yaml");
    orch.write("orch.yaml", &format!("{settings}recordings:\n  normalize: [{{ match: 'nor this', as: x }}]\n"));
    let said = run_cases(&orch, &["--update"], 0);
    assert!(!said.contains("warning"), "{said}");
    let warning = "warning: pipelines/tests/main.yaml:4: no request of the test contains a match of the normalizer";
    let said = run_cases(&orch, &[], 0);
    assert!(said.contains(&format!("{warning} `no such text`")) && said.contains("`nor this`"), "{said}");
    // The rules of orch.yaml may serve the cases that did not run.
    let said = run_cases(&orch, &["pipelines/tests/main.yaml"], 0);
    assert!(said.contains("`no such text`") && !said.contains("`nor this`"), "{said}");
}

#[test]
fn mistakes_in_a_test_case_are_findings_with_their_position() {
    let (_server, orch) = project_with_case(CHECK, "");
    for (line, said) in [
        (r"normalize: [{ match: 'Ran (\d+', as: x }]", "unclosed group"),
        (r"normalize: [{ match: 'Ran (?=x)', as: x }]", "look-around"),
        ("normalize: [{ match: 'x*', as: x }]", "it matches the empty text"),
        ("commands: { chekc: run }", "did you mean `check`?"),
        ("commands: { fix: run }", "no step `fix` runs a command"),
        ("commands: sometimes", "pipelines/tests/main.yaml:3"),
    ] {
        orch.write("pipelines/tests/main.yaml", &format!("{CASE}{line}\n"));
        orch.run(&["pipeline", "validate"]).exits(2).says(said).says("pipelines/tests/main.yaml:3:");
    }
    let pattern = r"normalize: [{ match: 'Ran (\d+', as: x }]";
    orch.write("pipelines/tests/main.yaml", &format!("{CASE}{pattern}\n"));
    orch.run(&["pipeline", "validate"]).exits(2).says("pipelines/tests/main.yaml:3:27");
    let said = run_cases(&orch, &[], 1);
    assert!(said.contains("unclosed group") && said.contains("the files contain errors"), "{said}");
    orch.write("pipelines/tests/main.yaml", CASE);
    let settings = orch.read("orch.yaml");
    orch.write("orch.yaml", &format!("{settings}recordings:\n  {pattern}\n"));
    orch.run(&["pipeline", "validate"]).exits(2).says("unclosed group").says("orch.yaml:");
}

/// A command that changes a file and creates others, and one that reads them.
const BUILD: &str = r#"  - id: build
    run: [sh, -c, 'echo ran >> PROJECT/ran.txt; echo "built by $$" > built.txt; mkdir -p out; pwd > out/at; echo new > given.txt']
    output: build
  - { id: show, run: [cat, built.txt, out/at, given.txt], output: shown }
"#;

/// The further lines of its test case. The recorded folder is that of the test's own workspace.
const BUILD_CASE: &str = r#"commands: { show: run }
workspace: main-files
expect:
  assert: ["'built by' in shown.stdout", "'/workspace' in shown.stdout", "'new' in shown.stdout"]
"#;

#[test]
fn the_files_that_a_command_changed_are_repeated() {
    let (_server, orch) = project_with_case(BUILD, BUILD_CASE);
    orch.write("pipelines/tests/main-files/given.txt", "old\n");
    run_cases(&orch, &["--update"], 0);
    run_cases(&orch, &[], 0);
    assert_eq!(run_count(&orch), 1, "the command did not run again");
    // The recorded change of a file needs the file that it changed.
    orch.write("pipelines/tests/main-files/given.txt", "other\n");
    let said = run_cases(&orch, &[], 1);
    assert!(said.contains("the recorded changes of step `build` don't fit the workspace"), "{said}");
    assert!(said.contains("no_recording") && said.contains("`given.txt` has another content"), "{said}");
    let advice = "the test begins with the files of `workspace: main-files` and `setup`";
    assert!(said.find(advice).unwrap() < said.find("orch pipeline test --update").unwrap(), "{said}");
    // Without `workspace:`, the file is absent.
    orch.edit("pipelines/tests/main.yaml", "workspace: main-files\n", "");
    let said = run_cases(&orch, &[], 1);
    assert!(said.contains("`given.txt` does not exist here, but existed in the recorded run"), "{said}");
    assert!(said.contains("the test case has no `workspace:`") && !said.contains("was deleted"), "{said}");
}

#[test]
fn a_recording_without_all_changes_is_reported_when_it_is_written_and_when_it_is_replayed() {
    let steps = "  - { id: link, run: [sh, -c, 'echo made > made.txt; ln -s made.txt link'], output: linked }\n";
    let (_server, orch) = project_with_case(steps, "");
    let warning =
        "the recording of step `link` is incomplete: it lacks the changes of `link`; a replay may have other files";
    for more in [&["--update"][..], &[], &["--format", "junit"]] {
        let said = run_cases(&orch, more, 0);
        assert!(said.contains("warning: ") && said.contains(warning), "{more:?}: {said}");
    }
    run(&orch, &["--record", "recorded"]).0.exits(0).says(warning);
    run(&orch, &["--replay", "recorded", "--workspace", "second", "--quiet"]).0.exits(0).says(warning);
    assert!(orch.exists("second/made.txt") && !orch.exists("second/link"));
}

#[test]
fn a_run_replays_the_commands_or_runs_them() {
    let (_server, orch) = project_with_case(CHECK, "");
    run(&orch, &["--record", "recorded"]).0.exits(0);
    let (_, replayed) = run(&orch, &["--replay", "recorded", "--workspace", "second"]);
    assert_eq!((run_count(&orch), replayed["success"].as_bool()), (1, Some(true)));
    let first = orch.json("workspace/check.json")["stdout"].as_str().unwrap().to_owned();
    let second = orch.json("second/check.json")["stdout"].as_str().unwrap().to_owned();
    assert!(second.contains("/second\n"), "the output names the folder of this run: {second}");
    assert_eq!(first.lines().next(), second.lines().next(), "the output is the recorded one");
    let events = orch.run(&["runs", "events"]).exits(0).stdout;
    assert!(events.contains("exit code 0 (from a recording)"), "{events}");
    run(&orch, &["--replay", "recorded", "--commands", "run", "--workspace", "third"]).0.exits(0);
    assert_eq!(run_count(&orch), 2);
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "do it", "--commands", "run"];
    orch.run(&args).exits(2).says("--replay");
}

#[test]
fn a_command_that_failed_fails_again_in_a_replay() {
    let steps =
        "  - { id: check, run: [sh, -c, 'echo ran >> PROJECT/ran.txt; echo broken >&2; exit 3'], output: check }\n";
    let (_server, orch) = project_with_case(steps, "");
    let (_, recorded) = run(&orch, &["--record", "recorded"]);
    let (_, replayed) = run(&orch, &["--replay", "recorded", "--workspace", "second"]);
    let error = |report: &serde_json::Value| report["steps"][0]["error"]["message"].as_str().map(str::to_owned);
    assert!(error(&recorded).is_some_and(|message| message.contains("exit code 3")), "{recorded:#}");
    assert_eq!((error(&recorded), run_count(&orch)), (error(&replayed), 1));
}

/// A loop whose test fails in the first iteration and passes in the second.
const LOOP: &str = r#"  - id: rounds
    repeat:
      until: tests.exit_code == 0
      max: 3
      steps:
        - id: work
          agent: a
          schema: any
          prompt: code.md
          message: "go on {% if loop.previous.tests %}{{ loop.previous.tests.stdout }}{% endif %}"
          output: code
        - id: check
          run: [sh, -c, 'echo ran >> PROJECT/ran.txt; echo "Ran 1 test in 0.$$s"; if test -e seen; then echo OK; else touch seen; echo FAILED; exit 1; fi']
          expect: { exit_code: [] }
          output: tests
"#;

#[test]
fn each_iteration_of_a_loop_has_its_own_result_of_its_command() {
    let lines = "expect:\n  steps: { \"rounds[1]/check\": completed }\n  assert: [\"'OK' in tests.stdout\"]\n";
    for commands in ["", "commands: run\n"] {
        let (server, orch) = project_with_case(LOOP, &format!("{commands}{lines}"));
        run_cases(&orch, &["--update"], 0);
        assert!(server.requests()[1].last().contains("FAILED"), "the model is told: {:?}", server.requests()[1].last());
        run_cases(&orch, &[], 0);
        let runs = if commands.is_empty() { 2 } else { 4 };
        assert_eq!((run_count(&orch), server.requests().len()), (runs, 2), "{commands}");
    }
}

#[test]
fn the_files_that_a_cli_agent_changed_are_repeated() {
    let server = answering_server(|_, _| json!(1));
    let orch = project(&server, "  - { id: turn, agent: c, access: write, prompt: one.md, output: x, schema: text }\n");
    let script =
        format!("cat > /dev/null; echo ran >> {}/ran.txt; echo made > made.txt; echo fine", orch.path().display());
    orch.edit("pipelines/main.yaml", "agents:\n", &format!("agents:\n  c: {{ command: [sh, -c, '{script}'] }}\n"));
    orch.disable_sandboxes();
    run(&orch, &["--record", "recorded"]).0.exits(0);
    run(&orch, &["--replay", "recorded", "--workspace", "second"]).0.exits(0);
    assert_eq!((orch.read("second/made.txt").as_str(), run_count(&orch)), ("made\n", 1));
}

#[test]
fn a_replay_warns_about_changes_that_the_recording_lacks() {
    let steps = "  - { id: check, run: [sh, -c, 'echo made > made.txt'], output: check }\n";
    let (_server, orch) = project_with_case(steps, "recordings: recorded\n");
    run(&orch, &["--record", "pipelines/tests/recorded"]).0.exits(0);
    assert!(!run_cases(&orch, &[], 0).contains("warning"));
    let name = recordings_of(&orch, "check").remove(0);
    let mut recording = orch.json(&name);
    recording["changes"]["left_out"] = json!(["large.bin"]);
    orch.write(&name, &recording.to_string());
    let warning = "the recording of step `check` is incomplete: it lacks the changes of `large.bin`";
    let (replayed, _) = run(&orch, &["--replay", "pipelines/tests/recorded", "--workspace", "second"]);
    replayed.exits(0).says(warning);
    let said = run_cases(&orch, &[], 0);
    assert!(said.contains(&format!("warning: pipelines/tests/main.yaml: {warning}")), "{said}");
}

#[test]
fn a_test_without_recordings_does_not_run_commands_unnoticed() {
    let steps = "  - { id: check, run: [sh, -c, 'echo ran >> PROJECT/ran.txt'], output: check }\n";
    let (_server, orch) = project_with_case(steps, "recordings: gone\n");
    let said = run_cases(&orch, &[], 1);
    assert!(said.contains("gone` can't be read") && said.contains("orch pipeline test --update"), "{said}");
    assert!(!orch.exists("ran.txt"), "{said}");
    // The test case says that the commands run.
    orch.write("pipelines/tests/main.yaml", &format!("{CASE}recordings: gone\ncommands: run\n"));
    let said = run_cases(&orch, &[], 0);
    assert!(!said.contains("warning") && run_count(&orch) == 1, "{said}");
    orch.write("pipelines/tests/main.yaml", CASE);
    let said = run_cases(&orch, &[], 0);
    let warning = "warning: pipelines/tests/main.yaml: there are no recordings in `main`, so the test ran the commands";
    assert!(said.contains(warning) && run_count(&orch) == 2, "{said}");
    run_cases(&orch, &["--update"], 0);
    assert!(!run_cases(&orch, &[], 0).contains("warning"));
    assert_eq!(run_count(&orch), 3);
}
