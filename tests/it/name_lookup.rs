//! Lookup of pipelines, runs and questions without paths and ids: by name, the latest run, the only waiting run.

use serde_json::{Value, json};

use crate::support::Orch;

/// A project with a pipeline in a subfolder, and one whose file name differs from its name.
fn project() -> Orch {
    let orch = Orch::empty();
    let pipeline = |name: &str| {
        format!("name: {name}\nsteps:\n  - {{ id: say, run: [echo, {name}], output: said, schema: text }}\n")
    };
    orch.write("pipelines/default.yaml", &pipeline("default"));
    orch.write("pipelines/sub/nested.yml", &pipeline("nested"));
    orch.write("pipelines/file.yaml", &pipeline("inside"));
    orch
}

fn list_runs(orch: &Orch) -> Value {
    serde_json::from_str(&orch.run(&["runs", "list", "--output", "json"]).exits(0).stdout).unwrap()
}

#[test]
fn a_pipeline_is_found_by_its_name_from_any_folder_of_the_project() {
    let orch = project();
    for (name, pipeline) in [("default", "default"), ("sub/nested", "nested"), ("file", "inside"), ("inside", "inside")]
    {
        orch.run(&["run", name]).exits(0);
        assert_eq!(list_runs(&orch)[0]["pipeline"], pipeline);
        for command in [["pipeline", "show"], ["pipeline", "graph"], ["pipeline", "plan"], ["pipeline", "validate"]] {
            orch.run(&[command[0], command[1], name]).exits(0);
        }
    }
    std::fs::create_dir_all(orch.path().join("deep/er")).unwrap();
    let mut below = orch.command(&["run", "default", "-w", "../../workspace"]);
    assert!(below.current_dir(orch.path().join("deep/er")).status().unwrap().success());
}

#[test]
fn a_path_takes_precedence_over_a_name_and_a_folder_does_not() {
    let orch = project();
    orch.write("default", "name: a_file\nsteps:\n  - { id: say, run: \"true\" }\n");
    orch.run(&["run", "default"]).exits(0);
    assert_eq!(list_runs(&orch)[0]["pipeline"], "a_file");
    std::fs::create_dir(orch.path().join("file")).unwrap();
    orch.run(&["run", "file"]).exits(0);
    assert_eq!(list_runs(&orch)[0]["pipeline"], "inside");
}

#[test]
fn the_message_for_a_typo_suggests_names_that_exist() {
    let orch = project();
    orch.run(&["run", "defualt"]).exits(2).says("there is no pipeline `defualt`").says("did you mean `default`?");
    orch.run(&["run", "default"]).exits(0);
    orch.run(&["validate", "zzz"]).exits(2).says("there is no pipeline `zzz`").says("`default`, `file`, `sub/nested`");
    orch.run(&["run", "nope.yaml"]).exits(2).says("there is no file `nope.yaml`");
    orch.run(&["pipeline", "test", "nope"]).exits(2).says("there is no test case `nope`");
    Orch::empty().run(&["run", "default"]).exits(2).says("`orch init` creates a project with one");
    // Pipelines with the same name are distinguished by their paths.
    orch.write("pipelines/other.yaml", &orch.read("pipelines/file.yaml"));
    orch.run(&["run", "inside"]).exits(2).says("2 pipelines are called `inside`").says("pipelines/other.yaml");
}

#[test]
fn short_commands_do_the_same_as_long_ones_and_the_help_shows_them() {
    let orch = project();
    orch.write("pipelines/fails.yaml", "name: fails\nsteps:\n  - { id: a, run: test -e go }\n");
    orch.run(&["run", "fails"]).exits(1);
    orch.write("workspace/go", "");
    orch.run(&["resume"]).exits(0);
    let plan = |args: &[&str]| orch.run(args).exits(0).stdout;
    assert_eq!(plan(&["plan", "default"]), plan(&["pipeline", "plan", "default"]));
    assert_eq!(plan(&["validate"]), plan(&["pipeline", "validate"]));
    let help = orch.run(&["--help"]).exits(0).stdout;
    for name in ["run", "resume", "validate", "plan"] {
        assert!(help.contains(&format!("`orch pipeline {name}`")), "{help}");
        let (short, long) = (plan(&[name, "--help"]), plan(&["pipeline", name, "--help"]));
        let flags = |help: &str| help.split("Arguments:").nth(1).map(str::to_owned);
        assert!(flags(&short).is_some() && flags(&short) == flags(&long), "{short}");
    }
}

#[test]
fn a_command_about_a_run_uses_the_latest_one_by_default() {
    let orch = project();
    orch.run(&["run", "file"]).exits(0);
    orch.run(&["run", "default"]).exits(0);
    let latest = list_runs(&orch)[0]["run"].as_str().unwrap().to_owned();
    assert_eq!(orch.run(&["runs", "artifact", "said"]).exits(0).stdout, "default\n");
    assert_eq!(orch.run(&["runs", "artifact", &latest, "said"]).exits(0).stdout, "default\n");
    orch.run(&["runs", "diff"]).exits(0).says(&format!("run {latest} changed no files"));
    let exported: Value = serde_json::from_str(&orch.run(&["runs", "export"]).exits(0).stdout).unwrap();
    let one: Value = serde_json::from_str(&orch.run(&["runs", "export", &latest]).exits(0).stdout).unwrap();
    assert_eq!(exported, one);
    for args in [&["runs", "artifact", "said"][..], &["runs", "diff"], &["runs", "export"]] {
        Orch::empty().run(args).exits(2).says("there are no runs in");
    }
}

/// A project whose pipeline asks a question.
fn project_with_question() -> Orch {
    let orch = Orch::empty();
    let question = "Shall it be built,\nand who pays for it?";
    orch.write(
        "pipelines/ask.yaml",
        &format!("name: ask\nsteps:\n  - {{ id: sign_off, approve: {question:?}, output: signed }}\n"),
    );
    orch
}

#[test]
fn the_question_of_a_waiting_run_is_in_its_report_and_in_the_list() {
    let orch = project_with_question();
    let ran = orch.run(&["run", "ask", "--output", "json"]).exits(3);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let question = "Shall it be built,\nand who pays for it?";
    assert_eq!(report["steps"][0]["question"], question);
    let shown: Value = serde_json::from_str(&orch.run(&["runs", "show", "--output", "json"]).exits(0).stdout).unwrap();
    assert_eq!(shown["steps"][0]["question"], question);
    let row = &list_runs(&orch)[0];
    assert_eq!(
        (&row["questions"][0]["step"], &row["questions"][0]["question"]),
        (&"sign_off".into(), &question.into())
    );
    let text = orch.run(&["runs", "list"]).exits(0).stdout;
    assert!(text.contains("step `sign_off` asks: Shall it be built, and who pays for it?"), "{text}");
    // An answered question is not open, and the run only needs a resume.
    orch.run(&["runs", "approve", "--by", "ana", "--note", "fine"]).exits(0);
    let row = &list_runs(&orch)[0];
    assert!(row.get("questions").is_none() && row["status"] == "waiting", "{row}");
    let answered = &row["answered_questions"][0];
    assert_eq!((&answered["step"], &answered["question"]), (&"sign_off".into(), &question.into()));
    let answer = json!({ "approved": true, "note": "fine", "by": "ana" });
    let without_time =
        |answer: &Value| json!({ "approved": answer["approved"], "note": answer["note"], "by": answer["by"] });
    assert_eq!(without_time(&answered["answer"]), answer);
    let text = orch.run(&["runs", "list"]).exits(0).stdout;
    let resume = format!("`orch pipeline resume {}` continues the run", row["run"].as_str().unwrap());
    assert!(text.contains("step `sign_off` was answered by ana (approved: fine)") && !text.contains("asks"), "{text}");
    assert!(text.contains(&resume), "{text}");
    let shown: Value = serde_json::from_str(&orch.run(&["runs", "show", "--output", "json"]).exits(0).stdout).unwrap();
    assert_eq!(without_time(&shown["steps"][0]["answer"]), answer);
    let text = orch.run(&["runs", "show"]).exits(0).stdout;
    assert!(text.contains("· sign_off   answered by ana (approved: fine)"), "{text}");
    assert!(text.contains("answered: the question of step `sign_off` was answered by ana (approved: fine)"), "{text}");
    assert!(text.contains(&resume) && !text.contains("orch runs approve") && !text.contains("asks:"), "{text}");
    let ran = orch.run(&["pipeline", "resume", "--output", "json"]).exits(0);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(report["steps"][0].get("answer").is_none() && report["steps"][0].get("question").is_none(), "{report}");
    let row = &list_runs(&orch)[0];
    assert!(row.get("questions").is_none() && row.get("answered_questions").is_none(), "{row}");
    let text = orch.run(&["runs", "list"]).exits(0).stdout;
    assert!(!text.contains("asks"), "{text}");
}

#[test]
fn an_answer_has_the_name_of_the_current_user_by_default() {
    for (variables, name) in [
        (&[("USER", "ana"), ("LOGNAME", "bob")][..], "ana"),
        (&[("USER", ""), ("LOGNAME", "bob")], "bob"),
        (&[("USERNAME", "eve")], "eve"),
        (&[], "unknown"),
    ] {
        let orch = project_with_question();
        orch.run(&["run", "ask"]).exits(3);
        let mut command = orch.command(&["runs", "approve", "--resume"]);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let events = orch.run(&["runs", "events"]).exits(0).stdout;
        assert!(events.contains(&format!("approved by {name}\n")), "{events}");
    }
}

#[test]
fn the_help_of_each_command_that_records_a_name_says_the_default() {
    let orch = Orch::empty();
    for name in ["approve", "reject", "cancel", "budget"] {
        let help = orch.run(&["runs", name, "--help"]).exits(0).stdout;
        let words: Vec<&str> = help.split_whitespace().collect();
        let default = "[default: the current user, from the variable USER, LOGNAME or USERNAME]";
        assert!(words.join(" ").contains(default), "{help}");
    }
}

#[test]
fn the_only_waiting_run_is_answered_and_several_are_listed() {
    let orch = project_with_question();
    orch.run(&["runs", "approve"]).exits(2).says("there are no runs in");
    orch.run(&["run", "ask"]).exits(3);
    orch.run(&["runs", "reject", "--note", "no"]).exits(0).says("sign_off of run").says("is rejected");
    orch.run(&["runs", "approve"]).exits(2).says("no run waits for an answer");
    for workspace in ["one", "two"] {
        orch.run(&["run", "ask", "-w", workspace]).exits(3);
    }
    let rows = list_runs(&orch);
    let ids = [0, 1].map(|at| rows[at]["run"].as_str().unwrap().to_owned());
    let ran = orch.run(&["runs", "approve"]).exits(2).says("2 runs wait for an answer").says("name the run");
    for id in &ids {
        assert!(ran.stderr.contains(&format!("{id}  ask, step `sign_off`: Shall it be built,")), "{}", ran.stderr);
    }
    orch.run(&["runs", "approve", &ids[0]]).exits(0);
    orch.run(&["runs", "approve"]).exits(0).says(&ids[1]);
}
