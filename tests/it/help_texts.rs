//! `--help` of every command, on a terminal of 80 columns.

use crate::support::Orch;

const WIDTH: usize = 80;

fn help_of(orch: &Orch, command: &[String]) -> String {
    let args: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
    let output = orch.command(&args).env("COLUMNS", WIDTH.to_string()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names of the subcommands that a help lists.
fn subcommands(help: &str) -> Vec<String> {
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let entries = list.lines().take_while(|line| !line.is_empty());
    let names = entries.filter(|line| is_entry(line)).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Adds the help of a command and of all its subcommands.
fn add_helps(orch: &Orch, command: &[String], helps: &mut Vec<(String, String)>) {
    let help = help_of(orch, command);
    for name in subcommands(&help) {
        add_helps(orch, &[command, &[name]].concat(), helps);
    }
    helps.push((command.join(" "), help));
}

fn all_helps() -> Vec<(String, String)> {
    let mut helps = Vec::new();
    add_helps(&Orch::empty(), &[], &mut helps);
    helps
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Whether a line is an entry of a list: `name  description`, `- value: description`.
fn is_entry(line: &str) -> bool {
    let text = line.trim_start();
    text.starts_with("- ") || text.split_once("  ").is_some_and(|(name, _)| !name.contains(' '))
}

/// Whether the second line begins with a word for which the first line has room, although the text continues.
fn is_broken_short(first: &str, second: &str) -> bool {
    let Some(word) = second.split_whitespace().next() else { return false };
    let continues = !first.trim().is_empty() && indent(first) == indent(second) && !is_entry(second);
    continues && first.trim_end().chars().count() + 1 + word.chars().count() <= WIDTH
}

#[test]
fn no_help_has_a_line_that_is_too_long_or_broken_short() {
    let helps = all_helps();
    assert!(helps.len() > 40, "{} commands", helps.len());
    for (command, help) in &helps {
        let (text, _) = help.split_once("\nExamples:\n").unwrap_or((help.as_str(), ""));
        for line in help.lines() {
            assert!(line.chars().count() <= WIDTH, "orch {command} --help: {line:?}");
        }
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2) {
            assert!(!is_broken_short(pair[0], pair[1]), "orch {command} --help: {pair:#?}");
        }
    }
}

#[test]
fn every_example_in_a_help_is_on_one_line() {
    let mut count = 0;
    for (command, help) in all_helps() {
        let Some((_, examples)) = help.split_once("\nExamples:\n") else { continue };
        for line in examples.lines().take_while(|line| !line.is_empty()) {
            assert!(line.starts_with("  orch "), "orch {command} --help: {line:?}");
            count += 1;
        }
    }
    assert!(count > 10, "{count} examples");
}
