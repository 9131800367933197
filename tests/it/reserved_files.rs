//! Reserved files: a run whose workspace is its project does not overwrite the files that it consists of.
#![cfg(unix)]

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::step_kinds::{answering_server, project, run};
use crate::support::{Orch, Server};

/// A pipeline that writes the files that its first step lists, and calls another pipeline; the project has every kind
/// of file.
fn project_with_every_file(server: &Server) -> Orch {
    let orch = project(
        server,
        "  - { id: plan, agent: a, prompt: plan.md, schema: strict, output: list, message: list }
  - { id: call, pipeline: inner.yaml, with: { task: task } }
  - { id: files, write: list | list, inputs: [list], output: written }
",
    );
    orch.edit("orch.yaml", "providers:", "# Ours.\nproviders:");
    orch.write("prompts/plan.md", "step:plan\n{% include \"part.md\" %}\n{% include \"may/be.md\" ignore missing %}\n")
        .write("prompts/part.md", "Be brief.\n");
    orch.write("schemas/strict.schema.json", "{ \"type\": \"array\", \"items\": { \"$ref\": \"entry.json\" } }");
    orch.write("schemas/entry.json", "{ \"type\": \"object\" }");
    orch.write(
        "pipelines/inner.yaml",
        "name: inner\ninputs: { task: { type: string } }\nsteps: [{ id: nothing, run: 'true', access: none }]\n",
    );
    orch
}

fn server_listing(list: Value) -> Server {
    answering_server(move |_, _| list.clone())
}

const WHOLE: [&str; 8] = [
    "orch.yaml",
    "pipelines/main.yaml",
    "pipelines/inner.yaml",
    "prompts/plan.md",
    "prompts/part.md",
    "schemas/strict.schema.json",
    "schemas/entry.json",
    "Prompts/PLAN.md",
];

fn file_entry(path: &str) -> Value {
    json!({ "path": path, "content": "taken over" })
}

#[test]
fn no_file_that_the_run_uses_is_written_or_deleted() {
    for path in WHOLE {
        for entry in [file_entry(path), json!({ "path": path, "delete": true })] {
            let server = server_listing(json!([entry, { "path": "fine.txt", "content": "x" }]));
            let orch = project_with_every_file(&server);
            let before: Vec<String> = orch.files().iter().map(|name| orch.read(name)).collect();
            let (ran, report) = run(&orch, &["--workspace", "."]);
            assert_eq!(ran.code, 1, "{path}: {ran:?}");
            let error = &report["steps"].as_array().unwrap().last().unwrap()["error"];
            assert_eq!(error["class"], "path_refused", "{path}: {report:#}");
            let file = path.to_lowercase();
            let what = if path == file {
                format!("`{path}` is kept, since it defines this run")
            } else {
                format!("`{path}` is kept, since this run itself is made of `{file}`")
            };
            assert!(error["message"].as_str().unwrap().contains(&what), "{error:#}");
            assert!(!orch.exists("fine.txt"), "all or none");
            orch.files().iter().filter(|name| *name != "list.json").zip(before).for_each(|(name, text)| {
                assert_eq!(orch.read(name), text, "{name}");
            });
        }
    }
}

#[test]
fn no_list_makes_a_git_repository_or_changes_its_settings() {
    let repository = ["HEAD", "objects/info/packs", "refs/heads/main"];
    let new: Vec<Value> =
        repository.iter().chain(&["config"]).map(|name| file_entry(&format!("data/{name}"))).collect();
    for (list, reason) in [
        (json!(new), "`data/config` would make `data` a git repository"),
        (json!([file_entry("old/config")]), "`old/config` would change a file of the git repository in `old`"),
        (
            json!([file_entry("old/hooks/update")]),
            "`old/hooks/update` would change a file of the git repository in `old`",
        ),
    ] {
        let server = server_listing(list);
        let orch = project_with_every_file(&server);
        for name in repository {
            orch.write(&format!("old/{name}"), "");
        }
        let (ran, report) = run(&orch, &["--workspace", "."]);
        assert_eq!(ran.code, 1, "{reason}: {ran:?}");
        let error = &report["steps"].as_array().unwrap().last().unwrap()["error"];
        assert_eq!(error["class"], "path_refused", "{report:#}");
        assert!(error["message"].as_str().unwrap().contains(reason), "{error:#}");
        assert!(!orch.exists("data") && !orch.exists("old/config") && !orch.exists("old/hooks"));
    }
}

#[test]
fn all_reserved_files_are_reported_at_once_including_missing_settings() {
    let server = server_listing(json!([
        file_entry("orch.yaml"),
        file_entry("prompts/plan.md"),
        file_entry("pipelines"),
        file_entry("pipelines/orch.yaml"),
        file_entry("prompts/may/be.md")
    ]));
    let orch = project_with_every_file(&server);
    let settings = orch.read("orch.yaml");
    let (_, report) = run(&orch, &["--workspace", "."]);
    let message = report["steps"][3]["error"]["message"].as_str().unwrap().to_owned();
    for path in ["orch.yaml", "prompts/plan.md", "pipelines", "pipelines/orch.yaml", "prompts/may/be.md"] {
        let path = format!("`{path}` is kept");
        assert!(message.contains(&path), "{message}");
    }
    // In a project without settings, a new `orch.yaml` could decide where the next session sends its keys.
    std::fs::remove_file(orch.path().join("orch.yaml")).unwrap();
    orch.edit("pipelines/main.yaml", "model: auto", "model: openai/test");
    let mut command = orch.command(&[
        "pipeline",
        "run",
        "pipelines/main.yaml",
        "--task",
        "x",
        "--workspace",
        ".",
        "--output",
        "json",
    ]);
    command.env("OPENAI_BASE_URL", format!("{}/v1", server.url())).env("OPENAI_API_KEY", "sk-0123456789");
    let ran = crate::support::RunOutput::of(&command.output().unwrap());
    assert!(ran.stdout.contains("`orch.yaml` is kept"), "{ran:?}");
    assert!(!orch.exists("orch.yaml"));
    assert!(!settings.is_empty());
}

#[test]
fn other_files_in_the_same_folders_are_written() {
    let others = ["prompts/other.md", "pipelines/next.yaml", "schemas/other.schema.json", "prompts/plan.md.txt"];
    let server = server_listing(Value::Array(others.map(file_entry).to_vec()));
    let orch = project_with_every_file(&server);
    orch.write("prompts/other.md", "an old one that nothing here uses");
    let (ran, report) = run(&orch, &["--workspace", "."]);
    assert_eq!(ran.code, 0, "{ran:?} {report:#}");
    for path in others {
        assert_eq!(orch.read(path), "taken over");
    }
}

#[test]
fn reserved_files_are_recognized_through_links_and_in_a_workspace_inside_the_project() {
    // `prompts` is a link to a folder that has another name in the workspace.
    let reached = server_listing(json!([file_entry("texts/plan.md")]));
    let orch = project_with_every_file(&reached);
    std::fs::rename(orch.path().join("prompts"), orch.path().join("texts")).unwrap();
    symlink("texts", orch.path().join("prompts")).unwrap();
    let before = orch.read("texts/plan.md");
    let (_, report) = run(&orch, &["--workspace", "."]);
    let message = report["steps"][3]["error"]["message"].as_str().unwrap_or_else(|| panic!("{report:#}")).to_owned();
    assert!(message.contains("`texts/plan.md` is kept"), "{message}");
    assert_eq!(orch.read("texts/plan.md"), before);
    // The workspace is a folder of the project, reached through a link.
    let inside = server_listing(json!([file_entry("main.yaml")]));
    let orch = project_with_every_file(&inside);
    symlink("pipelines", orch.path().join("here")).unwrap();
    let (_, report) = run(&orch, &["--workspace", "here"]);
    let message = report["steps"][3]["error"]["message"].as_str().unwrap_or_else(|| panic!("{report:#}")).to_owned();
    assert!(message.contains("`main.yaml` is kept"), "{message}");
    // In a separate workspace, these names are not reserved.
    let elsewhere = server_listing(json!([file_entry("orch.yaml"), file_entry("prompts/plan.md")]));
    let orch = project_with_every_file(&elsewhere);
    assert_eq!(run(&orch, &[]).0.code, 0);
    assert_eq!(orch.read("workspace/orch.yaml"), "taken over");
}

#[test]
fn a_resume_does_not_overwrite_files_that_were_added_to_the_project() {
    let server = server_listing(json!([file_entry("prompts/later.md")]));
    let orch = project_with_every_file(&server);
    orch.edit(
        "pipelines/main.yaml",
        "  - { id: files",
        "  - { id: stop, run: test -e go, access: none }\n  - { id: files",
    );
    let (ran, _) = run(&orch, &["--workspace", "."]);
    assert_eq!(ran.code, 1, "{ran:?}");
    // The file now belongs to the project.
    orch.write("go", "").write("prompts/later.md", "step:later\n");
    orch.write("prompts/part.md", "Be brief. {% include \"later.md\" %}\n");
    orch.run(&["pipeline", "resume"]).exits(1).says("`prompts/later.md` is kept");
    assert_eq!(orch.read("prompts/later.md"), "step:later\n");
}

#[test]
fn an_artifact_file_does_not_overwrite_a_prompt() {
    let server = answering_server(|_, _| json!("# A plan"));
    let orch = project(&server, "  - { id: plan, agent: a, prompt: plan.md, schema: text, output: plan }\n");
    let args = ["pipeline", "run", "pipelines/main.yaml", "--task", "x", "--workspace", "prompts"];
    let ran = orch.run(&args).exits(2);
    assert!(ran.stderr.contains("the artifact file `plan.md` would overwrite a project file"), "{ran:?}");
    assert_eq!((orch.read("prompts/plan.md"), server.requests().len()), ("step:plan\n".to_owned(), 0));
}

#[test]
fn clean_keeps_files_that_have_become_part_of_the_project() {
    let server = server_listing(json!([file_entry("prompts/made.md"), file_entry("made.txt")]));
    let orch = project_with_every_file(&server);
    assert_eq!(run(&orch, &["--workspace", "."]).0.code, 0);
    orch.write("prompts/part.md", "Be brief. {% include \"made.md\" %}\n");
    // The run fails, but only after orch cleaned the workspace.
    let (ran, _) = run(&orch, &["--workspace", ".", "--clean"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(orch.exists("prompts/made.md"), "{ran:?}");
    assert!(!orch.exists("made.txt"), "{ran:?}");
}

#[test]
fn a_resume_restores_no_artifact_file_over_a_prompt() {
    let server = answering_server(|_, _| json!("# A plan"));
    let orch = project(&server, "  - { id: plan, agent: a, prompt: plan.md, schema: text, output: kept }\n");
    let (ran, report) = run(&orch, &["--workspace", "prompts"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    // The prompt now has the path of the artifact file, and was edited.
    orch.edit("pipelines/main.yaml", "prompt: plan.md", "prompt: kept.md");
    orch.write("prompts/kept.md", "step:mine\n");
    let id = report["run"].as_str().unwrap();
    for more in ["--dry-run", "--discard-changed"] {
        let ran = orch.run(&["pipeline", "resume", id, more]).exits(2);
        assert!(ran.stderr.contains("would overwrite a project file"), "{ran:?}");
        assert_eq!(orch.read("prompts/kept.md"), "step:mine\n", "{more}");
    }
}
