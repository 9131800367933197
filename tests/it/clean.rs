//! `--clean` removes the files that orch wrote, and no others.

use crate::default_pipeline::good_reply;
use crate::support::{Orch, Server};

#[test]
fn clean_removes_recorded_files_and_nothing_else() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    let git = |args: &[&str]| {
        let done = std::process::Command::new("git").args(args).current_dir(orch.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    orch.write("src/main.py", "print(1)\n").write("notes.json", "{}\n").write("sub/plan.json", "{}\n");
    orch.write("pipelines/other.yaml", "name: other\nsteps:\n  - { id: nothing, run: [\"true\"] }\n");
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    let before = orch.files();
    orch.pipeline(&["--workspace", "."]).exits(0);
    assert!(orch.exists("plan.json"));
    // An artifact that the user edited belongs to the user.
    orch.write("code.json", "{ \"mine\": true }\n");
    orch.pipeline(&["--workspace", ".", "--clean"]).exits(2).says("was not written by orch");
    assert!(orch.exists("plan.json") && orch.exists("review.json"), "nothing goes for a run that can't begin");
    orch.run(&["pipeline", "run", "pipelines/other.yaml", "--workspace", ".", "--clean"])
        .exits(0)
        .says("code.json changed since orch wrote it, so it is not removed");
    let mut after = orch.files();
    assert!(
        after.contains(&"code.json".to_owned())
            && !after.contains(&"plan.json".to_owned())
            && !after.contains(&"review.json".to_owned())
    );
    // A file that a `write` step wrote and that is unchanged is removed, too.
    after.retain(|name| name != "code.json");
    assert_eq!(after, before);
}

#[test]
fn clean_removes_files_of_write_steps_unless_someone_else_changed_them() {
    let orch = Orch::empty();
    let write = |name: &str, files: &str| {
        let step = format!("{{ id: files, write: \"[{files}]\" }}");
        orch.write(&format!("pipelines/{name}.yaml"), &format!("name: {name}\nsteps:\n  - {step}\n"));
        orch.run(&["pipeline", "run", &format!("pipelines/{name}.yaml")])
    };
    orch.write("workspace/theirs.txt", "mine\n");
    let files = ["made.txt", "src/made.txt", "edited.txt", "theirs.txt", "again.txt"];
    let entry = |path: &&str| format!("{{'path': '{path}', 'content': 'x'}}");
    write("first", &files.iter().map(entry).collect::<Vec<_>>().join(", ")).exits(0);
    orch.write("workspace/edited.txt", "mine\n").write("workspace/again.txt", "mine\n");
    // A later run replaces a file that the user had changed: it belonged to the user.
    write("second", "{'path': 'again.txt', 'content': 'y'}").exits(0);
    orch.write("pipelines/none.yaml", "name: none\nsteps:\n  - { id: nothing, run: [\"true\"] }\n");
    orch.run(&["pipeline", "run", "pipelines/none.yaml", "--clean"])
        .exits(0)
        .says("removed made.txt, src/made.txt")
        .says("edited.txt changed since orch wrote it, so it is not removed");
    let mut left = orch.files();
    left.retain(|name| name.starts_with("workspace/") && !name.ends_with(".lock"));
    assert_eq!(left, ["workspace/again.txt", "workspace/edited.txt", "workspace/theirs.txt"]);
    assert_eq!(orch.read("workspace/theirs.txt"), "x", "a file that was there before stays as the step left it");
}

#[test]
fn clean_keeps_files_of_agent_programs() {
    let orch = Orch::empty();
    orch.write("prompts/go.md", "Go.\n");
    let pipeline = "name: main\nagents:\n  a: { command: [sh, -c, \"cat > heard.txt; echo '{}'\"], tools: [sh] }\nsteps:\n  - { id: go, agent: a, prompt: go.md, output: done, schema: any }\n";
    orch.write("pipelines/main.yaml", pipeline);
    orch.disable_unsupported_sandboxes();
    let ran = orch.run(&["pipeline", "run", "pipelines/main.yaml", "--output", "json"]).exits(0);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let diff = orch.run(&["runs", "diff", report["run"].as_str().unwrap()]).exits(0);
    assert!(diff.stdout.contains("heard.txt"), "it is on record: {}", diff.stdout);
    let said = orch.run(&["pipeline", "run", "pipelines/main.yaml", "--clean"]).exits(0).stderr;
    assert!(said.contains("removed done.json") && !said.contains("heard.txt"), "{said}");
}
