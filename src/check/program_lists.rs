//! Finds the syntax of a shell in lists of a program and its arguments: orch starts the program without a shell, so the
//! program gets it as it is.

use crate::config::{Document, Project, child_pointer, item_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::StepAction;
use crate::model::case::Case;
use crate::model::step::CommandLine;

/// Commands of a shell that no program can replace, because they change the shell itself, and its keywords.
const SHELL_COMMANDS: &[&str] = &[
    ".", "alias", "cd", "eval", "exec", "export", "for", "if", "read", "set", "source", "ulimit", "umask", "unset",
    "while",
];

/// Operators of a shell.
const OPERATORS: &[&str] = &["&&", "||", "|", ">", ">>", "<", "&>", "2>", "2>&1", "1>&2", "2>/dev/null", ">/dev/null"];

/// Programs whose arguments may contain operators, `$` or patterns for the program itself, or for a shell that it starts.
const INTERPRETING_PROGRAMS: &[&str] = &[
    "[", "awk", "bash", "dash", "docker", "envsubst", "expr", "find", "gawk", "grep", "jq", "just", "ksh", "make",
    "mawk", "parallel", "perl", "podman", "rg", "sed", "sh", "ssh", "test", "tmux", "watch", "xargs", "yq", "zsh",
];

/// Options whose next argument is code.
const CODE_OPTIONS: &[&str] = &["-c", "-e", "-q", "--eval", "--query"];

/// Programs that take the names of files and expand no patterns themselves.
const FILE_PROGRAMS: &[&str] = &[
    "cat",
    "chmod",
    "chown",
    "cp",
    "diff",
    "du",
    "file",
    "head",
    "ls",
    "md5sum",
    "mv",
    "rm",
    "sha256sum",
    "stat",
    "tail",
    "touch",
    "wc",
];

/// A mistake in a list of a program and its arguments.
#[derive(Debug, PartialEq, Eq)]
struct ListMistake {
    /// The index of the item.
    index: usize,
    message: String,
    /// What to write, if it is not a line for a shell.
    help: Option<String>,
}

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let document = &project.document;
    let mut diagnostics = Vec::new();
    for (pointer, step) in steps_with_pointers(&project.pipeline) {
        if let Some(StepAction::Command(CommandLine::Argv(list))) = step.action() {
            let line = "write the command as one line, `run: COMMAND`, which a shell runs";
            diagnostics.extend(check_list(document, &child_pointer(&pointer, "run"), list, line));
        }
    }
    for (name, agent) in &project.pipeline.agents {
        let pointer = child_pointer("/agents", name);
        if let Some(list) = &agent.command {
            diagnostics.extend(check_list(document, &child_pointer(&pointer, "command"), list, SHELL_LIST_HELP));
        }
        if let Some(acp) = &agent.acp {
            let pointer = child_pointer(&child_pointer(&pointer, "acp"), "command");
            diagnostics.extend(check_list(document, &pointer, &acp.command, SHELL_LIST_HELP));
        }
    }
    diagnostics
}

/// Checks the commands with which a test case prepares the workspace.
pub(super) fn check_setup(document: &Document, case: &Case) -> Vec<Diagnostic> {
    let commands = case.setup.iter().enumerate();
    commands.filter_map(|(i, list)| check_list(document, &item_pointer("/setup", i), list, SHELL_LIST_HELP)).collect()
}

const SHELL_LIST_HELP: &str = "start a shell, as `[sh, -c, COMMAND]`";

/// Reports the first mistake in a list. `shell_help` says how to write a command for a shell in its place.
fn check_list(document: &Document, pointer: &str, list: &[String], shell_help: &str) -> Option<Diagnostic> {
    let mistake = find_mistake(list)?;
    let span = document.spans.value(&item_pointer(pointer, mistake.index));
    let diagnostic = Diagnostic::warning(Code::ShellSyntaxInList, mistake.message).with_span(&document.file, span);
    let diagnostic = mistake.help.into_iter().fold(diagnostic, Diagnostic::with_help);
    Some(diagnostic.with_help(shell_help))
}

fn find_mistake(list: &[String]) -> Option<ListMistake> {
    let (program, arguments) = list.split_first()?;
    if is_template(program) {
        return None;
    }
    if let Some(mistake) = program_mistake(program, arguments) {
        return Some(mistake);
    }
    let name = program.rsplit('/').next().unwrap_or(program);
    let is_code = |argument: &String| CODE_OPTIONS.contains(&argument.as_str());
    if INTERPRETING_PROGRAMS.contains(&name) || arguments.iter().any(is_code) {
        return None;
    }
    let takes_files = FILE_PROGRAMS.contains(&name);
    arguments.iter().enumerate().filter(|(_, argument)| !is_template(argument)).find_map(|(index, argument)| {
        let message = argument_mistake(argument, takes_files)?;
        Some(ListMistake { index: index + 1, message, help: None })
    })
}

/// The mistake in the name of the program.
fn program_mistake(program: &str, arguments: &[String]) -> Option<ListMistake> {
    let new_mistake = |message: String, help: Option<String>| Some(ListMistake { index: 0, message, help });
    let mut words = program.split_whitespace();
    let first_word = words.next()?;
    // The path of a program may contain spaces.
    if words.next().is_some() && !first_word.contains('/') {
        let items: Vec<String> = program.split_whitespace().map(quoted_item).collect();
        let message = format!("there is no program `{program}`: the first item is the program alone");
        let help = format!("write one item for each argument: `[{}{}]`", items.join(", "), more_items(arguments));
        return new_mistake(message, Some(help));
    }
    if SHELL_COMMANDS.contains(&program) {
        let help = match (program, arguments) {
            ("cd", [folder]) => Some(format!("set the folder of a command with `cwd: {folder}`")),
            _ => None,
        };
        return new_mistake(format!("`{program}` is a command of the shell, not a program"), help);
    }
    None
}

/// An item of a list, with quotes if YAML needs them.
fn quoted_item(word: &str) -> String {
    let is_plain = word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '='));
    if is_plain && !word.starts_with('-') { word.to_owned() } else { format!("{word:?}") }
}

fn more_items(arguments: &[String]) -> &'static str {
    if arguments.is_empty() { "" } else { ", …" }
}

/// Why an argument has no effect or another one than in a shell; `None` if it is fine.
fn argument_mistake(argument: &str, takes_files: bool) -> Option<String> {
    if OPERATORS.contains(&argument) {
        return Some(format!("`{argument}` is an operator of the shell: here it is an argument of the program"));
    }
    if let Some(reference) = shell_reference(argument) {
        return Some(format!("`{reference}` is not replaced: the program gets it as it is, because no shell runs it"));
    }
    let has_pattern = argument.contains('*') || argument.starts_with("~/");
    let is_pattern = takes_files && has_pattern && !argument.contains(' ');
    is_pattern.then(|| format!("`{argument}` is not expanded: the program gets it as it is, because no shell runs it"))
}

/// The reference to a variable of the environment, or the command substitution, in an argument.
fn shell_reference(argument: &str) -> Option<&str> {
    for (start, _) in argument.match_indices('$') {
        let reference = argument.get(start..)?;
        if reference.starts_with("$(") {
            return Some(reference);
        }
        let name_start = if reference.starts_with("${") { 2 } else { 1 };
        let name = reference.get(name_start..)?;
        let length = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        let is_variable = name.starts_with(|c: char| c.is_ascii_uppercase()) && length > 1;
        // Lower case is a placeholder for a value, which another check reports.
        if is_variable && !name.get(..length)?.contains(|c: char| c.is_ascii_lowercase()) {
            let closing = usize::from(name_start == 2 && name.get(length..)?.starts_with('}'));
            return reference.get(..name_start + length + closing);
        }
    }
    None
}

fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(list: &[&str]) -> Option<(usize, String)> {
        let list: Vec<String> = list.iter().map(|item| (*item).to_owned()).collect();
        find_mistake(&list).map(|mistake| (mistake.index, mistake.message))
    }

    #[test]
    fn the_syntax_of_a_shell_is_found() {
        for (list, index, message) in [
            (&["python3 scripts/count.py"][..], 0, "there is no program `python3 scripts/count.py`"),
            (&["echo $HOME"], 0, "there is no program `echo $HOME`"),
            (&["cd", "sub"], 0, "`cd` is a command of the shell"),
            (&["ls", "*.txt"], 1, "`*.txt` is not expanded"),
            (&["ls", "~/x"], 1, "`~/x` is not expanded"),
            (&["echo", "a", "&&", "echo", "b"], 2, "`&&` is an operator"),
            (&["echo", "in $HOME now"], 1, "`$HOME` is not replaced"),
            (&["cargo", "--dir=${OUT_DIR}/x"], 1, "`${OUT_DIR}` is not replaced"),
            (&["echo", "$(date)"], 1, "`$(date)` is not replaced"),
        ] {
            let found = mistake(list);
            assert!(
                found.as_ref().is_some_and(|found| found.0 == index && found.1.starts_with(message)),
                "{list:?}: {found:?}"
            );
        }
    }

    #[test]
    fn arguments_that_the_program_interprets_are_fine() {
        for list in [
            &["sh", "-c", "cd sub && echo $HOME > x"][..],
            &["find", ".", "-name", "*.txt", "-exec", "rm", "{}", ";"],
            &["git", "add", "*.txt"],
            &["awk", "{print $1}", "x"],
            &["python3", "-c", "print('$HOME' | 1)"],
            &["/opt/My App/run", "x"],
            &["echo", "{{ a | b }}", "costs $5 & more", "2 * 3"],
            &["make", "DIR=$(OUT)"],
            &["expr", "1", "<", "2"],
            &["pytest", "-k", "a and b", "tests/*"],
        ] {
            assert_eq!(mistake(list), None, "{list:?}");
        }
    }

    #[test]
    fn the_advice_splits_the_words_of_a_program() {
        let list = vec!["python3 scripts/count.py --all".to_owned()];
        let help = find_mistake(&list).and_then(|mistake| mistake.help);
        let expected = "write one item for each argument: `[python3, scripts/count.py, \"--all\"]`";
        assert_eq!(help.as_deref(), Some(expected));
    }
}
