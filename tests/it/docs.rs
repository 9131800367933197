//! The documents match the program: their pipelines are valid, keys are explained, the example script works.

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
fn fenced_blocks<'a>(text: &'a str, info: &str) -> Vec<&'a str> {
    text.split(&format!("```{info}\n")).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn every_whole_pipeline_in_the_documents_is_valid() {
    let mut count = 0;
    for (name, text) in documents() {
        for block in fenced_blocks(&text, "yaml pipeline") {
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
fn the_table_of_agent_programs_matches_the_code() {
    let word = |able: bool| if able { "yes" } else { "no" };
    let text = fs::read_to_string("docs/agents.md").unwrap();
    for kind in orch::model::CliAgentKind::ALL {
        let can = kind.capabilities();
        let cells =
            [can.structured_output, can.tools, can.usage, can.cost, can.resume, can.cancel, can.model, can.max_turns]
                .map(word);
        let row = format!("| `{}` | {} |", kind.as_str(), cells.join(" | "));
        assert!(text.contains(&row), "docs/agents.md lacks {row}");
    }
}

/// The values of a constant in a source file, for the simple expressions that define limits.
fn constant_values(file: &str, name: &str) -> Vec<u64> {
    let text = fs::read_to_string(format!("src/{file}")).unwrap_or_else(|error| panic!("src/{file}: {error}"));
    let marker = format!("const {name}: ");
    let line = text.lines().find(|line| line.contains(&marker)).unwrap_or_else(|| panic!("src/{file} has no {name}"));
    let value = line.rsplit_once(" = ").unwrap().1.trim_end_matches(';').trim_matches(['(', ')']).replace('_', "");
    let number =
        |text: &str| text.trim().parse::<u64>().unwrap_or_else(|error| panic!("{file} {name}: {text}: {error}"));
    let one = |text: &str| match text.split_once("<<") {
        Some((base, shift)) => number(base) << number(shift),
        None => text.split('*').map(number).product(),
    };
    value.split(',').map(one).collect()
}

/// Formats a number as the documents write it.
fn formatted(number: u64) -> String {
    match number {
        n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => format!("{} MiB", n >> 20),
        n if n >= 4 << 10 && n.is_multiple_of(1 << 10) => format!("{} KiB", n >> 10),
        n => {
            let digits = n.to_string();
            let groups: Vec<&str> =
                digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
            groups.join(",")
        }
    }
}

#[test]
fn the_table_of_limits_matches_the_constants() {
    let text = fs::read_to_string("docs/security.md").unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains(".rs` "));
    let mut count = 0;
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        let (limit, names) = (cells[1], cells[2].trim_end_matches('|').trim());
        let mut file = "";
        for name in names.split(", ") {
            let name = match name.strip_prefix('`').and_then(|name| name.split_once("` ")) {
                Some((of, name)) => {
                    file = of;
                    name
                }
                None => name,
            };
            for value in constant_values(file, name) {
                let shown = formatted(value);
                let number = |c: char| c.is_ascii_digit() || c == ',';
                let stands = limit
                    .match_indices(&shown)
                    .any(|(at, _)| !limit[..at].ends_with(number) && !limit[at + shown.len()..].starts_with(number));
                assert!(stands, "{file} {name} is {shown}, and the table says: {limit}");
                count += 1;
            }
        }
    }
    assert!(count > 40, "{count}");
}

#[test]
fn the_documents_have_an_example_of_every_key() {
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
        .flat_map(|(_, text)| ["yaml pipeline", "yaml"].map(|info| fenced_blocks(text, info).join("\n")))
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

/// Commands of `orch runs` in the documents, without the shell syntax around them.
fn documented_commands() -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    for (name, text) in documents() {
        for block in ["sh", "console"].into_iter().flat_map(|info| fenced_blocks(&text, info)) {
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
fn every_command_about_runs_is_documented_and_works_as_documented() {
    let orch = Orch::new();
    let shown = documented_commands();
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

#[test]
fn the_page_about_the_file_lists_every_filter_test_and_function() {
    let page = fs::read_to_string("docs/pipeline-file.md").unwrap();
    let listed = |start: &str| -> Vec<String> {
        let (_, list) = page.split_once(start).unwrap_or_else(|| panic!("no {start:?}"));
        let item = list.split("\n- ").next().unwrap();
        item.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    assert_eq!(listed("- The filters are those of Jinja with these names: "), orch::template::FILTERS);
    assert_eq!(listed("- The tests are: "), orch::template::TESTS);
    assert_eq!(listed("- The functions are "), orch::template::FUNCTIONS);
}
