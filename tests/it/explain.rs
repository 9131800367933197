//! `orch explain` and docs/checks.md: each example of a code shows what its entry says.

use orch::diagnostic::{Code, ExampleFile, example_project, explanation, render_all_explanations};
use serde_json::Value;

use crate::support::{Orch, assert_stored};

/// The project of the examples, in which these files replace the ones of the same name.
fn project(files: &[&ExampleFile]) -> Orch {
    let orch = Orch::empty();
    let replaces = |base: &ExampleFile| {
        files.iter().any(|file| {
            file.path == base.path || base.path.starts_with("pipelines/") && file.path.starts_with("pipelines/")
        })
    };
    for file in example_project().iter().filter(|base| !replaces(base)).chain(files.iter().copied()) {
        orch.write(file.path, &format!("{}\n", file.text));
    }
    orch
}

/// The codes of all findings; with `is_strict`, also of those that only `--strict` reports.
fn codes(orch: &Orch, is_strict: bool) -> Vec<String> {
    let ran = if orch.exists("workspace/plan.json") {
        let args = ["schema", "check", "--artifact", "workspace/plan.json", "--schema", "plan", "--format", "json"];
        orch.run(&args)
    } else {
        let strict: &[&str] = if is_strict { &["--strict"] } else { &[] };
        orch.run(&[&["pipeline", "validate", "pipelines/main.yaml", "--format", "json"], strict].concat())
    };
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let list = report["findings"].as_array().unwrap();
    list.iter().map(|finding| format!("{} {}", finding["code"].as_str().unwrap(), finding["message"])).collect()
}

#[test]
fn each_wrong_example_gives_its_code_and_each_right_one_gives_none() {
    let mut bad = Vec::new();
    assert_eq!(codes(&project(&[]), true), [""; 0], "the project itself is clean");
    for code in Code::ALL {
        let entry = explanation(*code).unwrap();
        for wrong in [true, false] {
            let files: Vec<&ExampleFile> = entry.files.iter().filter(|file| file.is_wrong == wrong).collect();
            if files.is_empty() {
                continue;
            }
            let found = codes(&project(&files), matches!(code, Code::UnportableYaml | Code::UncheckedValue));
            let fits = found.iter().all(|line| line.starts_with(code.as_str())) && found.is_empty() != wrong;
            if !fits {
                bad.push(format!("{code}, wrong: {wrong}: {found:#?}"));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn the_page_of_checks_is_up_to_date() {
    assert_stored("docs/checks.md", &render_all_explanations());
}

#[test]
fn explain_accepts_a_code_in_every_spelling() {
    let orch = Orch::empty();
    for name in ["ORCH0305", "orch0305", "305", "0305"] {
        let ran = orch.run(&["explain", name]).exits(0);
        assert!(ran.stdout.starts_with("ORCH0305: an artifact is unknown\n"), "{}", ran.stdout);
        assert!(ran.stdout.contains("Wrong, `pipelines/main.yaml`:"), "{}", ran.stdout);
    }
    orch.run(&["explain", "ORCH305"]).exits(2).says("there is no code `ORCH305`").says("did you mean `ORCH0305`?");
    orch.run(&["explain", "nonsense"]).exits(2).says("`orch explain` lists all codes");
    assert_eq!(orch.run(&["explain", "--all"]).exits(0).stdout, render_all_explanations());
    assert_eq!(orch.run(&["explain"]).exits(0).stdout.lines().count(), Code::ALL.len());
}
