//! Equivalents of the syntax of other tools: each mistake has one line of advice, and a pipeline that follows it is
//! valid.

mod agents;
mod expressions;
mod files;
mod steps;
mod values;

use std::collections::BTreeSet;

use orch::diagnostic::equivalents::known_keys;
use regex::Regex;
use serde_json::Value;

use crate::support::Orch;

/// Where lines belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the top of the pipeline.
    Top,
    /// In its only agent.
    Agent,
    /// In a step, below its id.
    Step,
    /// As a separate step, with its dash, before that step.
    Before,
    /// As the whole pipeline.
    File,
    /// In orch.yaml.
    Settings,
    /// In a test case.
    Case,
    /// In the prompt.
    Prompt,
}

/// Lines with a mistake, the line of advice, and the lines that follow it.
struct Row {
    at: At,
    wrong: &'static str,
    says: &'static str,
    right: &'static [(At, &'static str)],
}

/// Settings with a provider that accepts every option of an agent.
const LAB: &str = "providers: { lab: { dialect: openai, base_url: 'http://127.0.0.1:1/v1' } }";

const fn row(at: At, wrong: &'static str, says: &'static str, right: &'static [(At, &'static str)]) -> Row {
    Row { at, wrong, says, right }
}

fn rows() -> impl Iterator<Item = &'static Row> {
    [steps::ROWS, agents::ROWS, files::ROWS, values::ROWS, expressions::ROWS].into_iter().flatten()
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

/// A project with these parts; the other parts are valid.
fn project(parts: &[(At, &str)]) -> Orch {
    let part =
        |at: At, usual: &'static str| parts.iter().find(|(place, _)| *place == at).map_or(usual, |(_, text)| text);
    let orch = Orch::empty();
    let usual = format!(
        "name: words\ninputs: {{ task: {{ type: string }} }}\n{}\nagents:\n  coder:\n{}steps:\n  - id: plan\n    \
         agent: coder\n    prompt: coder.md\n    output: plan\n{}  - id: it\n{}",
        part(At::Top, ""),
        indented(part(At::Agent, "model: openai/gpt-4.1-mini"), 4),
        indented(part(At::Before, ""), 2),
        indented(part(At::Step, "run: echo it"), 4),
    );
    let whole = parts.iter().find(|(place, _)| *place == At::File).map(|(_, text)| (*text).to_owned());
    orch.write("pipelines/words.yaml", &whole.unwrap_or(usual));
    orch.write(
        "pipelines/other.yaml",
        "name: other\ninputs: { topic: { type: string, default: x } }\nsteps:\n  - { id: \
         tell, run: \"echo {{ topic }}\" }\n",
    );
    let case = part(At::Case, "");
    // A test case that names its pipeline itself does not need the default line.
    let pipeline =
        if case.starts_with("workflow:") || case.starts_with("pipeline:") { "" } else { "pipeline: ../words.yaml\n" };
    orch.write("pipelines/tests/words.yaml", &format!("{pipeline}{case}"));
    orch.write("orch.yaml", part(At::Settings, "limits: { max_concurrency: 4 }"));
    orch.write("prompts/coder.md", part(At::Prompt, "Do it.\n"));
    orch.write(
        "schemas/plan.schema.json",
        r#"{"type":"object","required":["title","ok","score","steps"],"properties":{"title":{"type":"string"},"ok":{"type":"boolean"},"score":{"type":"number"},"steps":{"type":"array","items":{"type":"string"}}}}"#,
    );
    orch
}

/// The file that a row is about.
fn file_of(at: At) -> &'static str {
    if at == At::Case { "pipelines/tests/words.yaml" } else { "pipelines/words.yaml" }
}

/// The findings of `validate`.
fn findings(orch: &Orch, file: &str) -> Vec<Value> {
    let ran = orch.run(&["pipeline", "validate", "--format", "json", file]);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    report["findings"].as_array().unwrap().clone()
}

fn help_lines(finding: &Value) -> Vec<&str> {
    finding["help"].as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// Whether a text contains a part of the advice in backticks; words in capitals stand for anything.
fn matches_advice(text: &str, part: &str) -> bool {
    let blank = Regex::new(r"[A-Z]{2,}|\b[A-Z]\b").unwrap();
    let mut pattern = String::new();
    let mut done = 0;
    for found in blank.find_iter(part) {
        pattern.push_str(&regex::escape(&part[done..found.start()]));
        pattern.push_str(r"(?s:.+)");
        done = found.end();
    }
    pattern.push_str(&regex::escape(&part[done..]));
    Regex::new(&pattern).unwrap().is_match(text)
}

#[test]
fn each_mistake_has_one_line_of_advice_and_following_it_works() {
    let mut wrong = Vec::new();
    for row in rows() {
        let orch = project(&[(row.at, row.wrong)]);
        let found = findings(&orch, file_of(row.at));
        let told = found.iter().any(|finding| help_lines(finding) == [row.says]);
        if !told {
            let shown: Vec<String> = found.iter().map(|f| format!("{}: {:?}", f["message"], help_lines(f))).collect();
            wrong.push(format!(
                "{:?} {:?}\n  wanted {:?}\n  said   {}",
                row.at,
                row.wrong,
                row.says,
                shown.join("\n         ")
            ));
            continue;
        }
        let mended = project(row.right);
        let left: Vec<Value> = findings(&mended, file_of(row.at))
            .into_iter()
            .filter(|f| f["severity"] == "error" || help_lines(f) == [row.says])
            .collect();
        if !left.is_empty() {
            let shown: Vec<String> = left.iter().map(|f| format!("{} {:?}", f["message"], help_lines(f))).collect();
            wrong.push(format!("{:?} is refused: {}", row.right, shown.join("; ")));
        }
        let text: String = row.right.iter().map(|(_, text)| format!("{text}\n")).collect();
        let mut parts = row.says.split('`').skip(1).step_by(2);
        let has_parts = row.says.contains('`') && !row.says.contains("remove");
        if has_parts && !parts.any(|part| matches_advice(&text, part)) {
            wrong.push(format!("{:?} does not do what {:?} says", row.right, row.says));
        }
        // The user writes the lines that the row adds elsewhere.
        let alone = row.right.iter().all(|(at, _)| *at == row.at);
        if alone && found.iter().any(|finding| help_lines(finding) == [row.says] && finding.get("fix").is_some()) {
            let ran = orch.run(&["pipeline", "validate", "--fix", file_of(row.at)]);
            if ran.code != 0 {
                wrong.push(format!("{:?}: --fix leaves {}", row.wrong, ran.stderr));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows().count(), wrong.join("\n"));
}

/// A file with some lines at a place of it.
fn with_keys(place: &str, keys: &str) -> Option<(Orch, At)> {
    let below = |at: At, head: &str| {
        let text = if head.is_empty() { keys.to_owned() } else { format!("{head}\n{}", indented(keys, 2)) };
        Some((project(&[(at, &text)]), at))
    };
    let inside = |at: At, head: &str| Some((project(&[(at, &format!("{head}{}", indented(keys, 4)))]), at));
    match place {
        "Pipeline" => below(At::Top, ""),
        "Step" => below(At::Step, ""),
        "Repeat" => below(At::Step, "repeat:"),
        "Retry" => below(At::Step, "retry:"),
        "Accept" => inside(At::Step, "accept:\n  -\n"),
        "Expect" => below(At::Step, "expect:"),
        "Agent" => below(At::Agent, ""),
        "Acp" => below(At::Agent, "acp:"),
        "Budget" => below(At::Top, "budget:"),
        "Settings" => below(At::Settings, ""),
        "ProviderSettings" => inside(At::Settings, "providers:\n  lab:\n"),
        "McpServerSettings" => inside(At::Settings, "mcp:\n  docs:\n"),
        "ModelSettings" => inside(At::Settings, "models:\n  small:\n"),
        "ConvexSettings" => inside(At::Settings, "tracker:\n  convex:\n"),
        "WebhookSettings" => inside(At::Settings, "tracker:\n  webhook:\n"),
        "CannedAnswers" => inside(At::Case, "answers:\n  ask:\n"),
        "CannedAnswer" => inside(At::Case, "answers:\n  ask:\n  -\n"),
        "Case" => below(At::Case, ""),
        "Expected" => below(At::Case, "expect:"),
        _ => None,
    }
}

#[test]
fn every_word_of_the_table_has_advice_that_a_row_follows() {
    let told: BTreeSet<&str> = rows().map(|row| row.says).collect();
    let places: BTreeSet<&str> = known_keys().map(|(place, _)| place).collect();
    let mut wrong = Vec::new();
    for place in places {
        let words: Vec<&str> = known_keys().filter(|(at, _)| *at == place).map(|(_, word)| word).collect();
        let lines: String = words.iter().map(|word| format!("{word}: 1\n")).collect();
        let (orch, at) = with_keys(place, &lines).unwrap_or_else(|| panic!("no file for {place}"));
        let found = findings(&orch, file_of(at));
        for word in words {
            let message = format!("unknown key `{word}`");
            let Some(finding) = found.iter().find(|finding| finding["message"] == message) else {
                wrong.push(format!("{place}: {word} is known"));
                continue;
            };
            let lines = help_lines(finding);
            let covered = match lines.as_slice() {
                [line] => match line.strip_suffix(&format!(" in place of `{word}`")) {
                    Some(written) => told.iter().any(|says| says.starts_with(&format!("{written} in place of"))),
                    None => told.contains(line),
                },
                _ => false,
            };
            if !covered {
                wrong.push(format!("{place}: {word}: no row for {lines:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
