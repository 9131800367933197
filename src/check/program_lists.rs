//! Finds the syntax of a shell in lists of a program and its arguments: orch starts the program without a shell, so the
//! program gets it as it is.

use crate::config::{Document, Project, child_pointer, item_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::StepAction;
use crate::model::step::CommandLine;
use crate::model::test_case::TestCase;

/// Commands of a shell that no program can replace, because they change the shell itself, and its keywords.
const SHELL_COMMANDS: &[&str] = &[
    ".", "alias", "cd", "eval", "exec", "export", "for", "if", "read", "set", "source", "ulimit", "umask", "unset",
    "while",
];

/// Operators of a shell.
const OPERATORS: &[&str] = &[
    "&", "&&", "&>", "&>>", "1>", "1>&2", "2>", "2>&1", "2>>", ";", ";;", "<", "<<", "<<<", ">", ">&2", ">>", "|",
    "|&", "||",
];

/// Programs that give their arguments to a shell, here or on another machine.
const SHELL_STARTERS: &[&str] = &["parallel", "screen", "ssh", "tmux", "watch"];

/// Programs whose arguments contain comparisons and other operators of their own.
const OPERATOR_PROGRAMS: &[&str] = &["[", "expr", "test"];

/// Programs whose first argument is code, a pattern or a text with `$` of its own.
const CODE_PROGRAMS: &[&str] =
    &["awk", "egrep", "envsubst", "fgrep", "gawk", "grep", "jq", "mawk", "perl", "rg", "sed", "yq"];

/// Programs whose first arguments may be a character that is also an operator, such as the separator of fields.
const SEPARATOR_PROGRAMS: &[&str] = &["column", "cut", "join", "paste", "sort", "tr"];

/// Programs that start the program in their arguments.
const WRAPPERS: &[&str] = &["doas", "env", "nice", "nohup", "setsid", "stdbuf", "sudo", "time", "timeout", "xargs"];

/// Programs whose `-e` sets a variable.
const CONTAINER_PROGRAMS: &[&str] = &["docker", "podman"];

/// Options of `find` before a command that ends with a `;`.
const COMMAND_OPTIONS: &[&str] = &["-exec", "-execdir", "-ok", "-okdir"];

/// Options whose next argument is code.
const CODE_OPTIONS: &[&str] = &["-e", "-q", "--command", "--eval", "--query"];

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
pub(super) fn check_setup(document: &Document, case: &TestCase) -> Vec<Diagnostic> {
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
    let reader = ArgumentReader::new(list);
    (1..list.len()).find_map(|index| Some(ListMistake { index, message: reader.mistake(index)?, help: None }))
}

/// Finds mistakes in the arguments of a program.
struct ArgumentReader<'a> {
    list: &'a [String],
    /// The index of the program that gets the arguments: the first one that does not start another program.
    program: usize,
    /// The name of that program, without its folder.
    name: &'a str,
}

impl<'a> ArgumentReader<'a> {
    fn new(list: &'a [String]) -> Self {
        let name = |index: usize| list.get(index).and_then(|item| item.rsplit('/').next()).unwrap_or_default();
        let is_own_argument = |item: &String| {
            item.starts_with('-') || item.contains('=') || item.starts_with(|first: char| first.is_ascii_digit())
        };
        let mut program = 0;
        while WRAPPERS.contains(&name(program)) {
            program += 1 + list.iter().skip(program + 1).take_while(|item| is_own_argument(item)).count();
        }
        Self { list, program, name: name(program) }
    }

    fn item(&self, index: usize) -> &'a str {
        self.list.get(index).map_or("", String::as_str)
    }

    /// Why an argument has no effect or another one than in a shell; `None` if it is fine.
    fn mistake(&self, index: usize) -> Option<String> {
        let argument = self.item(index);
        if is_template(argument) || SHELL_STARTERS.contains(&self.name) {
            return None;
        }
        if is_operator(argument) {
            return (!self.takes_operator(index))
                .then(|| format!("`{argument}` is an operator of the shell: here it is an argument of the program"));
        }
        if self.is_code(index) {
            return None;
        }
        if let Some(reference) = shell_reference(argument).filter(|reference| !self.replaces(reference)) {
            return Some(format!(
                "`{reference}` is not replaced: the program gets it as it is, because no shell runs it"
            ));
        }
        let has_pattern = argument.contains('*') || argument.starts_with("~/");
        let is_pattern = FILE_PROGRAMS.contains(&self.name) && has_pattern && !argument.contains(' ');
        is_pattern
            .then(|| format!("`{argument}` is not expanded: the program gets it as it is, because no shell runs it"))
    }

    /// Whether an operator at this index is an argument for the program itself.
    fn takes_operator(&self, index: usize) -> bool {
        let before = self.list.get(self.program + 1..index).unwrap_or_default();
        let ends_command = || before.iter().any(|item| COMMAND_OPTIONS.contains(&item.as_str()));
        // The code or the separator comes first, or after its option.
        let is_first = || before.iter().all(|item| item.starts_with('-')) || self.item(index - 1) == "-e";
        OPERATOR_PROGRAMS.contains(&self.name)
            || self.item(index) == ";" && ends_command()
            || (CODE_PROGRAMS.contains(&self.name) || SEPARATOR_PROGRAMS.contains(&self.name)) && is_first()
    }

    /// Whether an argument is code, in which `$` has a meaning of its own.
    fn is_code(&self, index: usize) -> bool {
        let option = self.item(index - 1);
        // A shell accepts several letters in one option, as in `bash -lc`.
        let letters = option.strip_prefix('-').filter(|letters| letters.len() <= 4 && letters.ends_with('c'));
        let is_command = letters.is_some_and(|letters| letters.chars().all(|c| c.is_ascii_lowercase()));
        let sets_variable = option == "-e" && CONTAINER_PROGRAMS.contains(&self.name);
        CODE_PROGRAMS.contains(&self.name) || is_command || CODE_OPTIONS.contains(&option) && !sets_variable
    }

    /// Whether the program itself replaces a reference, as `make` does with `$(NAME)`.
    fn replaces(&self, reference: &str) -> bool {
        matches!(self.name, "gmake" | "make") && (reference.starts_with("$(") || reference.starts_with("${"))
    }
}

/// Whether an argument is an operator of a shell, or a redirection with its file, such as `>out.txt`.
fn is_operator(argument: &str) -> bool {
    let file = argument.trim_start_matches(['1', '2', '&']).trim_start_matches('>');
    let is_redirection = file.len() < argument.trim_start_matches(['1', '2', '&']).len()
        && !file.contains(char::is_whitespace)
        && file.starts_with(|c: char| c.is_alphabetic() || matches!(c, '/' | '.' | '~'))
        && !file.contains(['<', '>']);
    OPERATORS.contains(&argument) || is_redirection
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
            ("cd", [folder]) => Some(format!("set the working directory of a command with `cwd: {folder}`")),
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
            (&["make", "test", "&&", "ls"], 2, "`&&` is an operator"),
            (&["make", "test", "|", "tee", "log"], 2, "`|` is an operator"),
            (&["make", "test", ";", "ls"], 2, "`;` is an operator"),
            (&["make", "test", "2>&1"], 2, "`2>&1` is an operator"),
            (&["make", "test", ">log.txt"], 2, "`>log.txt` is an operator"),
            (&["make", "DIR=$HOME"], 1, "`$HOME` is not replaced"),
            (&["docker", "run", "-v", "$PWD:/x", "image", "sh", "-c", "echo $HOME"], 3, "`$PWD` is not replaced"),
            (&["docker", "run", "-e", "HOME=$HOME", "image"], 3, "`$HOME` is not replaced"),
            (&["grep", "-c", "a", "file", "|", "wc"], 4, "`|` is an operator"),
            (&["jq", ".a", "file", ">", "out"], 3, "`>` is an operator"),
            (&["sh", "-c", "ls", "&&", "pwd"], 3, "`&&` is an operator"),
            (&["sudo", "-n", "ls", "-t", "|", "head"], 4, "`|` is an operator"),
            (&["find", ".", "-name", "x", ";", "ls"], 4, "`;` is an operator"),
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
            &["sudo", "find", ".", "-exec", "rm", "{}", ";"],
            &["grep", "-c", ">", "sequences.fa"],
            &["grep", "-e", "a", "-e", "|", "file"],
            &["cut", "-d", "|", "-f1", "file"],
            &["tr", "|", ","],
            &["timeout", "5", "bash", "-lc", "echo $HOME | cat"],
            &["docker", "run", "image", "sh", "-c", "echo $HOME > x"],
            &["ssh", "host", "cd", "x", "&&", "ls"],
            &["pip", "install", "a>=2", ">5"],
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
