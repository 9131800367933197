//! The files for CI systems: they are valid YAML, and their commands do what they say.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Orch, RunOutput};

fn parse(name: &str, text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"))
}

fn examples() -> Vec<Value> {
    let text = fs::read_to_string("docs/ci.md").unwrap();
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|block| parse("docs/ci.md", block)).collect()
}

/// Collects the lines of all texts in a value that are commands of orch.
fn collect_commands(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) => out.extend(text.lines().filter(|line| line.starts_with("orch ")).map(str::to_owned)),
        Value::Array(items) => items.iter().for_each(|item| collect_commands(item, out)),
        // A title may look like a command.
        Value::Object(map) => {
            map.iter().filter(|(key, _)| *key != "name").for_each(|(_, inner)| collect_commands(inner, out));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn bash(orch: &Orch, script: &str) -> Command {
    let mut command = Command::new("bash");
    let program = Path::new(env!("CARGO_BIN_EXE_orch")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    command.args(["-eo", "pipefail", "-c", script]).current_dir(orch.path()).env("PATH", path);
    command
}

fn run(mut command: Command) -> RunOutput {
    RunOutput::of(&command.output().unwrap())
}

#[test]
fn each_command_of_the_examples_accepts_a_valid_project_and_rejects_an_invalid_one() {
    let mut lines = Vec::new();
    for example in examples() {
        collect_commands(&example, &mut lines);
    }
    collect_commands(&parse("hooks", &fs::read_to_string(".pre-commit-hooks.yaml").unwrap()), &mut lines);
    assert!(lines.len() >= 6, "{lines:?}");
    for line in lines {
        let orch = Orch::new();
        run(bash(&orch, &line)).exits(0);
        orch.edit("pipelines/default.yaml", "agent: coder", "agent: nobody");
        orch.edit("schemas/plan.schema.json", "\"type\": \"object\"", "\"type\": \"objekt\"");
        run(bash(&orch, &line)).exits(2);
    }
}

#[test]
fn the_examples_use_only_inputs_that_the_action_defines() {
    let action = parse("action.yml", &fs::read_to_string("action.yml").unwrap());
    let text = fs::read_to_string("docs/ci.md").unwrap();
    for name in action["inputs"].as_object().unwrap().keys() {
        assert!(text.contains(&format!("| `{name}` |")), "docs/ci.md does not explain `{name}`");
    }
    let mut uses = 0;
    for example in examples() {
        let Some(steps) = example.pointer("/jobs/validate/steps").and_then(Value::as_array) else { continue };
        for step in
            steps.iter().filter(|step| step["uses"].as_str().is_some_and(|name| name.starts_with("OWNER/orch@")))
        {
            uses += 1;
            for name in step["with"].as_object().unwrap().keys() {
                assert!(action["inputs"].get(name).is_some(), "the action has no input `{name}`");
            }
        }
    }
    assert_eq!(uses, 3);
}

/// A git repository with the default project in a folder; its pipeline names an agent that does not exist.
fn repository_with_project_in(folder: &str) -> Orch {
    let (orch, made) = (Orch::empty(), Orch::new());
    run(bash(&orch, "git init --quiet .")).exits(0);
    let mut copy = Command::new("cp");
    fs::create_dir_all(orch.path().join(folder)).unwrap();
    run({
        copy.arg("-r").arg(format!("{}/.", made.path().display())).arg(orch.path().join(folder));
        copy
    })
    .exits(0);
    orch.edit(&format!("{folder}/pipelines/default.yaml"), "agent: coder", "agent: nobody");
    orch
}

/// Collects every location of a SARIF log.
fn collect_uris(log: &Value, out: &mut Vec<String>) {
    match log {
        Value::Object(map) => {
            out.extend(map.get("uri").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| collect_uris(value, out));
        }
        Value::Array(list) => list.iter().for_each(|value| collect_uris(value, out)),
        _ => {}
    }
}

#[test]
fn the_action_reports_files_by_their_path_in_the_repository() {
    let orch = repository_with_project_in("services/agents");
    let given = [("binary", env!("CARGO_BIN_EXE_orch")), ("working-directory", "services/agents")];
    let ran = run_action(&orch, &given).exits(2);
    let file = "services/agents/pipelines/default.yaml";
    assert!(ran.stdout.starts_with(&format!("::error file={file},line=")), "{}", ran.stdout);
    // The file that `output` names lies where the later steps look for it.
    run_action(&orch, &[&given[..], &[("format", "sarif"), ("output", "reports/orch.sarif")]].concat()).exits(2);
    let mut places = Vec::new();
    collect_uris(&orch.json("reports/orch.sarif")["runs"], &mut places);
    assert!(!places.is_empty() && places.iter().all(|uri| uri == file), "{places:?}");
    assert!(places.iter().all(|uri| orch.exists(uri)), "{places:?}");
    run_action(
        &orch,
        &[&given[..], &[("format", "junit"), ("output", "orch.xml"), ("paths", "pipelines/default.yaml")]].concat(),
    )
    .exits(2);
    let report = orch.read("orch.xml");
    assert!(report.contains(&format!("testsuite name=\"{file}\"")), "{report}");
    assert!(report.contains(&format!("file=\"{file}\"")), "{report}");
}

#[test]
fn reported_paths_are_relative_to_the_given_folder() {
    let orch = repository_with_project_in("services/agents");
    let path = |flags: &str, folder: &str| {
        let line = format!("cd {folder} && orch pipeline validate --format json {flags} || test $? = 2");
        let report: Value = serde_json::from_str(&run(bash(&orch, &line)).exits(0).stdout).unwrap();
        let first = report["findings"][0]["location"]["path"].as_str().unwrap().to_owned();
        assert!(report["checked"].as_array().unwrap().contains(&first.clone().into()), "{report}");
        first
    };
    assert_eq!(path("", "services/agents"), "pipelines/default.yaml", "what a script can open");
    assert_eq!(path("--relative-to ../..", "services/agents"), "services/agents/pipelines/default.yaml");
    assert_eq!(path("--relative-to ..", "services/agents"), "agents/pipelines/default.yaml");
    assert_eq!(path("services/agents", "."), "services/agents/pipelines/default.yaml");
    assert_eq!(path("--relative-to services services/agents", "."), "agents/pipelines/default.yaml");
    let refused =
        |flags: &str| run(bash(&orch, &format!("cd services/agents && orch pipeline validate {flags}"))).exits(2);
    refused("--relative-to ..").says("`github`");
    refused("--relative-to nowhere --format json").says("`--relative-to nowhere`");
    refused("--relative-to orch.yaml --format json").says("is a file, not a folder");
}

#[test]
fn paths_in_a_worktree_are_relative_to_the_worktree() {
    let orch = repository_with_project_in("app");
    let commit =
        "git add . && git -c user.name=a -c user.email=a@b commit --quiet -m x && git worktree add --quiet tree";
    run(bash(&orch, commit)).exits(0);
    let ran = run(bash(&orch, "cd tree/app/pipelines && orch pipeline validate --format github default.yaml")).exits(2);
    assert!(ran.stdout.starts_with("::error file=app/pipelines/default.yaml,"), "{}", ran.stdout);
}

#[test]
fn hooks_run_for_the_files_of_a_project_in_any_folder() {
    let hooks = parse("hooks", &fs::read_to_string(".pre-commit-hooks.yaml").unwrap());
    let mut patterns: Vec<String> =
        hooks.as_array().unwrap().iter().map(|hook| hook["files"].as_str().unwrap().to_owned()).collect();
    for example in examples() {
        let hook = example.pointer("/repos/0/hooks/0/files").and_then(Value::as_str);
        patterns.extend(hook.map(str::to_owned));
    }
    assert_eq!(patterns.len(), 4);
    for pattern in patterns {
        let pattern = regex::Regex::new(&pattern).unwrap();
        for folder in ["", "services/agents/"] {
            for file in ["pipelines/a.yaml", "prompts/a/b.md", "schemas/a.schema.json", "orch.yaml"] {
                assert!(pattern.is_match(&format!("{folder}{file}")), "{pattern}: {folder}{file}");
            }
        }
        for other in ["src/main.rs", "my-pipelines/a.yaml", "orch.yaml.bak", "docs/torch.yaml"] {
            assert!(!pattern.is_match(other), "{pattern}: {other}");
        }
    }
    // The hook gets the folder as an argument, as docs/ci.md says.
    let orch = repository_with_project_in("services/agents");
    let entry = hooks[0]["entry"].as_str().unwrap();
    run(bash(&orch, &format!("{entry} services/agents"))).exits(2).says("services/agents/pipelines/default.yaml:");
    orch.edit("services/agents/pipelines/default.yaml", "agent: nobody", "agent: coder");
    run(bash(&orch, &format!("{entry} services/agents"))).exits(0);
}

/// Runs the steps of the action as a runner does, without the cache.
fn run_action(orch: &Orch, given: &[(&str, &str)]) -> RunOutput {
    let action = parse("action.yml", &fs::read_to_string("action.yml").unwrap());
    let input = |name: &str| {
        let given = given.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        given.unwrap_or_else(|| action["inputs"][name]["default"].as_str().unwrap().to_owned())
    };
    let fill = |text: &str| match text.strip_prefix("${{ ").and_then(|rest| rest.strip_suffix(" }}")) {
        Some("github.action_path") => env!("CARGO_MANIFEST_DIR").to_owned(),
        Some("github.action_ref") => String::new(),
        Some(output) if output.starts_with("steps.choose.outputs.") => {
            let name = output.replace("steps.choose.outputs.", "");
            let text = orch.read("runner/output");
            let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
            value.unwrap_or_else(|| panic!("{name} in {text}")).to_owned()
        }
        // The address of releases has a default that depends on the repository.
        Some(expression) => input(expression.strip_prefix("inputs.").unwrap().split(' ').next().unwrap()),
        None => text.to_owned(),
    };
    let has_binary = !input("binary").is_empty();
    let is_skipped = |step: &Value| match step["if"].as_str() {
        Some("inputs.binary == ''") => has_binary,
        Some("inputs.binary != ''") => !has_binary,
        _ => step["run"].is_null(),
    };
    orch.write("runner/path", "");
    orch.write("runner/output", "");
    let mut last = None;
    for step in action["runs"]["steps"].as_array().unwrap().iter().filter(|step| !is_skipped(step)) {
        let script = step["run"].as_str().unwrap();
        let added = orch.read("runner/path").lines().collect::<Vec<_>>().join(":");
        let mut command = bash(orch, script);
        // The earlier steps added these folders to the path.
        command.env("PATH", format!("{added}:{}", std::env::var("PATH").unwrap()));
        command.env("RUNNER_TEMP", orch.path().join("runner")).env("GITHUB_PATH", orch.path().join("runner/path"));
        command.env("GITHUB_OUTPUT", orch.path().join("runner/output"));
        command.env("GITHUB_STEP_SUMMARY", orch.path().join("runner/summary"));
        for (name, value) in step["env"].as_object().unwrap() {
            command.env(name, fill(value.as_str().unwrap()));
        }
        if let Some(folder) = step["working-directory"].as_str() {
            command.current_dir(orch.path().join(fill(folder)));
        }
        let ran = run(command);
        if ran.code != 0 {
            return ran;
        }
        last = Some(ran);
    }
    last.unwrap()
}

#[test]
fn the_action_uses_the_given_program() {
    let binary = ("binary", env!("CARGO_BIN_EXE_orch"));
    let orch = Orch::new();
    run_action(&orch, &[binary]).exits(0);
    orch.edit("pipelines/default.yaml", "agents:", "agents:\n  spare: { model: auto }");
    let ran = run_action(&orch, &[binary]).exits(0);
    assert!(ran.stdout.starts_with("::warning file=pipelines/default.yaml,"), "{}", ran.stdout);
    let ran =
        run_action(&orch, &[binary, ("deny", "warnings"), ("paths", "pipelines pipelines/default.yaml")]).exits(2);
    assert!(ran.stdout.starts_with("::error file=pipelines/default.yaml,"), "{}", ran.stdout);
    run_action(&orch, &[binary, ("format", "sarif"), ("output", "orch.sarif")]).exits(0);
    assert_eq!(orch.json("orch.sarif")["version"], "2.1.0");
}

#[test]
fn the_action_writes_a_second_report_and_a_summary() {
    let binary = ("binary", env!("CARGO_BIN_EXE_orch"));
    let orch = Orch::new();
    run_action(&orch, &[binary, ("sarif", "reports/orch.sarif")]).exits(0);
    assert_eq!(orch.json("reports/orch.sarif")["version"], "2.1.0");
    let summary = orch.read("runner/summary");
    assert!(summary.contains("| `orch pipeline validate` | passed |"), "{summary}");
    assert!(summary.contains("| `orch schema check` | passed |"), "{summary}");
    orch.edit("pipelines/default.yaml", "agent: coder", "agent: nobody");
    orch.edit("schemas/plan.schema.json", "\"type\": \"object\"", "\"type\": \"objekt\"");
    let ran = run_action(&orch, &[binary, ("sarif", "reports/orch.sarif")]).exits(2);
    assert!(ran.stdout.contains("::error file=pipelines/default.yaml,"), "{}", ran.stdout);
    let summary = orch.read("runner/summary");
    assert!(summary.contains("| `orch schema check` | failed (exit code 2) |"), "{summary}");
    assert!(summary.contains("nobody"), "the summary has the findings: {summary}");
    let uses = |checks: &'static str| run_action(&orch, &[binary, ("checks", checks), ("summary", "false")]);
    uses("test").exits(2).says("there are no test cases");
    for checks in ["tests", "", " \n"] {
        let ran = uses(checks).exits(2);
        assert!(ran.stdout.contains("the checks are validate, schemas and test"), "{}", ran.stdout);
    }
    orch.write("runner/summary", "");
    run_action(&orch, &[binary, ("checks", "schemas")]).exits(2);
    let summary = orch.read("runner/summary");
    assert!(!summary.contains("nobody"), "only `validate` shows the findings: {summary}");
    orch.edit("schemas/plan.schema.json", "\"type\": \"objekt\"", "\"type\": \"object\"");
    // A report that can't be made fails the action, although the checks that were asked for pass.
    let failing = [binary, ("checks", "schemas"), ("sarif", "orch.sarif"), ("paths", "--nowhere")];
    run_action(&orch, &failing).exits(2);
}

/// Makes a release whose archive has a script that starts the tested program. Returns its address and digest.
fn release(orch: &Orch) -> (String, String) {
    let script = format!("#!/bin/sh\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_orch"));
    let name = "orch-9.9.9-$(uname -m | sed s/arm64/aarch64/)-$(\
        if [ \"$(uname)\" = Darwin ]; then echo apple-darwin; else echo unknown-linux-gnu; fi)";
    orch.write("release/orch", &script);
    let make = format!(
        "name={name}; cd release; mkdir -p $name/man $name/completions v9.9.9; touch $name/man/orch.1; \
         for file in orch.bash _orch orch.fish; do touch $name/completions/$file; done; chmod +x orch; mv orch $name/; \
         tar -czf v9.9.9/$name.tar.gz $name; cd v9.9.9; \
         (sha256sum $name.tar.gz || shasum -a 256 $name.tar.gz) > SHA256SUMS; cut -d ' ' -f 1 SHA256SUMS"
    );
    let digest = run(bash(orch, &make)).exits(0).stdout.trim().to_owned();
    (format!("file://{}/release", orch.path().display()), digest)
}

/// How many programs the action installed.
fn installed(orch: &Orch) -> usize {
    let folders = fs::read_dir(orch.path().join("runner")).unwrap();
    folders.filter(|folder| folder.as_ref().unwrap().path().join("bin/orch").exists()).count()
}

#[test]
fn the_action_installs_a_release_only_with_the_right_digest() {
    let orch = Orch::new();
    let (address, digest) = release(&orch);
    let version = ("version", "v9.9.9");
    let given = [version, ("releases", address.as_str()), ("sha256", digest.as_str())];
    run_action(&orch, &given).exits(0);
    assert_eq!(installed(&orch), 1);
    // The second time, the program is there as from a cache.
    fs::remove_dir_all(orch.path().join("release")).unwrap();
    run_action(&orch, &given).exits(0);
    // It does not serve another digest, release or place.
    let wrong = "0".repeat(64);
    run_action(&orch, &[given[0], given[1], ("sha256", wrong.as_str())]).exits(1);
    run_action(&orch, &[("version", "v9.9.8"), given[1], given[2]]).exits(1);
    run_action(&orch, &[given[0], ("releases", "file:///nowhere"), given[2]]).exits(1).says("nowhere");
    assert_eq!(installed(&orch), 1);
    let orch = Orch::new();
    let (address, digest) = release(&orch);
    let ran = run_action(&orch, &[version, ("releases", address.as_str()), ("sha256", wrong.as_str())]).exits(3);
    assert!(ran.stderr.contains("nothing was installed"), "{ran:?}");
    // In capitals, it is the same digest.
    let capitals = digest.to_uppercase();
    run_action(&orch, &[version, ("releases", address.as_str()), ("sha256", capitals.as_str())]).exits(0);
    assert_eq!(installed(&orch), 1);
}

#[test]
fn the_action_does_not_build_orch_if_a_digest_is_given() {
    let orch = Orch::new();
    let digest = ("sha256", "0123456789abcdef");
    let ran = run_action(&orch, &[digest]).exits(2);
    assert!(ran.stdout.starts_with("::error::`sha256` needs a release"), "{ran:?}");
    let ran = run_action(&orch, &[digest, ("git", "file:///nowhere"), ("version", "v9.9.9")]).exits(2);
    assert!(ran.stdout.starts_with("::error::`sha256` is the digest of a release"), "{ran:?}");
}
