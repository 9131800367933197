//! Shell completion, tested in a real bash with the script that orch prints.
#![cfg(unix)]

use std::process::Command;

use crate::support::Orch;

/// What bash offers for a command line whose last word is being typed.
fn completions_of(orch: &Orch, line: &str) -> Vec<String> {
    let ask = r#"
set -e
source <(orch completions bash)
read -r -a COMP_WORDS <<< "$1"
case "$1" in *" ") COMP_WORDS+=("");; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9
_clap_complete_orch orch "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_orch"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", ask, "bash", line]).current_dir(orch.path()).env("PATH", path);
    let done = bash.output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    let offered = String::from_utf8(done.stdout).unwrap();
    // Every command accepts flags.
    offered.lines().map(str::to_owned).filter(|word| !word.is_empty() && !word.starts_with("--")).collect()
}

/// A project with a failed run and a waiting one.
fn project() -> (Orch, String, String) {
    let orch = Orch::empty();
    orch.write(
        "pipelines/build.yaml",
        "name: build\nsteps:\n  - { id: compile, run: \"true\" }\n  - { id: check, run: exit 1 }\n",
    );
    orch.write(
        "pipelines/ask.yaml",
        "name: ask\nsteps:\n  - { id: sign_off, approve: \"Shall it be?\", output: signed }\n",
    );
    orch.run(&["run", "build"]).exits(1);
    orch.run(&["run", "ask"]).exits(3);
    let list: serde_json::Value =
        serde_json::from_str(&orch.run(&["runs", "list", "--output", "json"]).exits(0).stdout).unwrap();
    let id = |at: usize| list[at]["run"].as_str().unwrap().to_owned();
    let (waiting, failed) = (id(0), id(1));
    (orch, failed, waiting)
}

#[test]
fn bash_completes_commands_pipelines_runs_steps_and_codes() {
    let (orch, failed, waiting) = project();
    assert!(completions_of(&orch, "orch pipe").contains(&"pipeline".to_owned()));
    assert_eq!(completions_of(&orch, "orch run bu"), ["build"]);
    assert!(completions_of(&orch, "orch pipeline run ").contains(&"ask".to_owned()));
    let runs = completions_of(&orch, "orch runs show ");
    assert!(runs.contains(&failed) && runs.contains(&waiting), "{runs:?}");
    assert_eq!(completions_of(&orch, &format!("orch resume {}", &failed[..6])), [failed.as_str()]);
    // Only a waiting run can be answered.
    assert_eq!(completions_of(&orch, "orch runs approve "), [waiting.as_str()]);
    assert_eq!(completions_of(&orch, &format!("orch runs approve {waiting} ")), ["sign_off"]);
    assert_eq!(completions_of(&orch, &format!("orch resume {failed} --from ")), ["compile", "check"]);
    assert_eq!(completions_of(&orch, "orch plan build --step co"), ["compile"]);
    assert_eq!(completions_of(&orch, "orch explain ORCH0305"), ["ORCH0305"]);
    assert!(completions_of(&orch, "orch explain ORCH").len() > 20);
    // Flags for files complete file names.
    orch.write("list.json", "{}");
    assert_eq!(completions_of(&orch, "orch run build --input-file li"), ["list.json"]);
}

#[test]
fn completion_works_outside_a_project_and_with_another_state_folder() {
    let orch = Orch::empty();
    assert!(completions_of(&orch, "orch runs show ").is_empty());
    assert!(!orch.exists(".orch"), "to complete makes nothing");
    orch.write("pipelines/build.yaml", "name: build\nsteps:\n  - { id: compile, run: \"true\" }\n");
    orch.run(&["run", "build", "--state", "kept"]).exits(0);
    assert_eq!(completions_of(&orch, "orch runs show --state kept ").len(), 1);
    assert_eq!(completions_of(&orch, "orch runs show --state=kept ").len(), 1);
}

#[test]
fn names_with_terminal_escapes_are_not_offered() {
    let orch = Orch::empty();
    orch.write("pipelines/build.yaml", "name: build\nsteps: []\n").write("pipelines/bu\u{1b}[31m.yaml", "");
    orch.write("pipelines/two words.yaml", "");
    let names = completions_of(&orch, "orch run ");
    assert!(names.contains(&"build".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains('\u{1b}') || name.contains("two words")), "{names:?}");
}

#[test]
fn orch_prints_a_script_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Orch::empty().run(&["completions", shell]).exits(0).stdout;
        assert!(script.contains("ORCH_COMPLETE") && script.contains("orch"), "{shell}: {script}");
    }
}
