//! What the documents show is true: pipelines check clean, keys are explained, the script runs.

use std::fs;

use serde_json::Value;

use crate::support::Orch;

fn documents() -> Vec<(String, String)> {
    let mut names = vec!["README.md".to_owned()];
    for entry in fs::read_dir("docs").unwrap() {
        names.push(format!("docs/{}", entry.unwrap().file_name().to_string_lossy()));
    }
    names.into_iter().filter(|n| n.ends_with(".md")).map(|n| (n.clone(), fs::read_to_string(&n).unwrap())).collect()
}

/// The fenced blocks of a document with exactly this info string.
fn blocks<'a>(text: &'a str, info: &str) -> Vec<&'a str> {
    text.split(&format!("```{info}\n")).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn every_whole_pipeline_in_the_documents_checks_clean() {
    let mut count = 0;
    for (name, text) in documents() {
        for block in blocks(&text, "yaml pipeline") {
            let orch = Orch::new();
            orch.write("pipelines/shown.yaml", block);
            let ran = orch.run(&["pipeline", "validate", "pipelines/shown.yaml"]);
            assert_eq!(ran.code, 0, "{name}:\n{block}\n{}", ran.stderr);
            count += 1;
        }
    }
    assert!(count >= 3, "only {count} pipelines are shown");
}

#[test]
fn the_table_of_agent_programs_is_what_the_code_says() {
    let word = |able: bool| if able { "yes" } else { "no" };
    let text = fs::read_to_string("docs/agents.md").unwrap();
    for kind in orch::model::ProgramKind::ALL {
        let can = kind.abilities();
        let cells = [can.structured, can.tools, can.usage, can.cost, can.resume, can.cancel, can.model, can.max_turns]
            .map(word);
        let row = format!("| `{}` | {} |", kind.as_str(), cells.join(" | "));
        assert!(text.contains(&row), "docs/agents.md lacks {row}");
    }
}

#[test]
fn every_key_of_the_files_stands_in_the_documents_as_an_example() {
    fn keys(schema: &Value, out: &mut Vec<String>) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            out.extend(properties.keys().cloned());
        }
        match schema {
            Value::Object(map) => map.values().for_each(|inner| keys(inner, out)),
            Value::Array(items) => items.iter().for_each(|inner| keys(inner, out)),
            _ => {}
        }
    }
    let shown: String = documents()
        .iter()
        .flat_map(|(_, text)| ["yaml pipeline", "yaml"].map(|info| blocks(text, info).join("\n")))
        .collect();
    for name in ["pipeline", "orch"] {
        let schema: Value =
            serde_json::from_str(&fs::read_to_string(format!("schemas/{name}.schema.json")).unwrap()).unwrap();
        let mut all = Vec::new();
        keys(&schema, &mut all);
        for key in all {
            assert!(shown.contains(&format!("{key}:")), "no example has `{key}:` ({name})");
        }
    }
}

/// Commands of `orch runs` in the documents, without what a shell makes of the rest of the line.
fn shown_commands() -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    for (name, text) in documents() {
        for block in ["sh", "console"].into_iter().flat_map(|info| blocks(&text, info)) {
            let lines = block.lines().map(|line| line.trim_start_matches("$ "));
            for line in lines.filter(|line| line.starts_with("orch runs ")) {
                let end = line.find(['|', '>', '&', '#']).unwrap_or(line.len());
                let words = line[..end].split_whitespace().skip(1).map(|word| word.trim_matches('\'').to_owned());
                all.push((name.clone(), words.collect()));
            }
        }
    }
    all
}

#[test]
fn every_command_about_runs_is_shown_and_taken_as_it_is_shown() {
    let orch = Orch::new();
    let shown = shown_commands();
    for (name, words) in &shown {
        let args: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = orch.run(&args);
        assert!(!ran.stderr.contains("--help"), "{name}: {}\n{}", args.join(" "), ran.stderr);
    }
    let help = orch.run(&["runs", "--help"]).stdout;
    let listed = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let reference = fs::read_to_string("docs/cli.md").unwrap();
    for command in listed.lines().filter_map(|line| line.split_whitespace().next()).filter(|word| *word != "help") {
        let answers = ["approve", "reject"].contains(&command);
        assert!(answers || shown.iter().any(|(_, words)| words[1] == command), "`orch runs {command}` is not shown");
        assert!(answers || reference.contains(&format!("## orch runs {command}\n")), "no section for {command}");
    }
}

#[cfg(unix)]
#[test]
fn the_example_script_shows_success_and_failure() {
    let done = std::process::Command::new("sh")
        .arg("examples/run.sh")
        .env("ORCH", env!("CARGO_BIN_EXE_orch"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{text}");
    assert!(text.contains("completed") && text.contains("skipped") && text.contains("approved"), "{text}");
}
