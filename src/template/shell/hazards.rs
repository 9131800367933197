//! Commands that run their arguments as shell code, and variables whose text bash evaluates.

use std::ops::Range;

use super::fault::{ShellFault, is_shell};
use super::scanner::ScriptScanner;
use super::simple::SimpleCommand;
use super::words::ShellWord;

/// Commands of shells that run their arguments as commands, or take them as names of variables. Bash runs commands in
/// the index of a name such as `a[$(date)]`.
const EXECUTING_COMMANDS: &[&str] = &[
    "alias",
    "bind",
    "compgen",
    "complete",
    "compopt",
    "enable",
    "eval",
    "let",
    "mapfile",
    "read",
    "readarray",
    "trap",
    "unset",
    "wait",
];

/// Commands that set attributes and values of variables.
const DECLARING_COMMANDS: &[&str] = &["declare", "export", "local", "readonly", "typeset"];

/// Variables that are numbers in bash, so it evaluates what a script assigns to them, and variables whose text a shell
/// expands: before it starts a script, or with `set -x`.
const EVALUATED_VARIABLES: &[&str] = &[
    "BASHPID", "BASH_ENV", "EUID", "HISTCMD", "LINENO", "OPTIND", "PPID", "PS4", "RANDOM", "SECONDS", "SRANDOM", "UID",
];

/// Commands, other than shells, whose `-c` or `--command` runs a text as commands.
const COMMAND_RUNNERS: &[&str] = &["flock", "runuser", "script", "su"];

/// Variables that contain the name of a shell.
const SHELL_VARIABLES: &[&str] = &["$0", "$BASH", "$SHELL", "${BASH}", "${SHELL}"];

/// The options of `ssh` that have an argument.
const SSH_OPTIONS_WITH_ARGUMENT: &str = "BDEFIJLOPQRSWbceilmopw";

/// The assignments of values in a script, and the attributes of its variables. An attribute applies to assignments
/// before and after it, because a function or loop can run them in another order.
#[derive(Debug, Default)]
pub(super) struct VariableUses {
    assignments: Vec<ValueAssignment>,
    /// The names of arrays; an empty name stands for all variables.
    arrays: Vec<String>,
    /// The names of variables that are numbers or references; an empty name stands for all variables.
    evaluated: Vec<String>,
}

#[derive(Debug)]
struct ValueAssignment {
    name: String,
    values: Range<usize>,
    is_declared: bool,
}

impl VariableUses {
    pub(super) fn add_assignment(&mut self, name: &str, values: Range<usize>, is_declared: bool) {
        if !values.is_empty() {
            self.assignments.push(ValueAssignment { name: name.to_owned(), values, is_declared });
        }
    }

    pub(super) fn add_array(&mut self, name: &str) {
        self.arrays.push(name.to_owned());
    }

    /// Whether bash evaluates what this assignment assigns.
    fn is_evaluated(&self, assignment: &ValueAssignment) -> bool {
        let has_name = |names: &[String]| names.iter().any(|name| name.is_empty() || *name == assignment.name);
        EVALUATED_VARIABLES.contains(&assignment.name.as_str())
            || has_name(&self.evaluated)
            // `declare` takes a text such as `(…)` as the items of an array.
            || (assignment.is_declared && has_name(&self.arrays))
    }
}

/// Whether bash reads arguments of a command as assignments, so an array index can begin in them.
pub(super) fn has_assignment_arguments(command: &str) -> bool {
    DECLARING_COMMANDS.contains(&command) || matches!(command, "alias" | "eval" | "let")
}

impl ScriptScanner<'_> {
    /// Refuses values that the script assigns to variables that bash evaluates.
    pub(super) fn refuse_evaluated_assignments(&mut self) {
        let variables = std::mem::take(&mut self.variables);
        for assignment in variables.assignments.iter().filter(|assignment| variables.is_evaluated(assignment)) {
            let fault = ShellFault::EvaluatedVariable(assignment.name.clone());
            self.refuse(assignment.values.clone(), &fault);
        }
    }

    /// Refuses the values of a simple command that it would not take as one word.
    pub(super) fn check_command(&mut self, command: &SimpleCommand) {
        let (mut start, mut last_name) = (0, 0);
        while let Some(index) = self.command_index(&command.words, start) {
            last_name = index;
            let Some(name) = command.words.get(index) else { break };
            let arguments = command.words.get(index + 1..).unwrap_or_default();
            self.check_arguments(&name.literal, arguments, command);
            if !self.may_vanish(name) {
                break;
            }
            start = index + 1;
        }
        for (index, word) in command.words.iter().enumerate() {
            if let Some(shell) = self.shell_name(word) {
                let arguments = command.words.get(index + 1..).unwrap_or_default();
                self.check_shell_arguments(&shell, arguments, command, index <= last_name);
            }
        }
        self.check_program_input(command);
    }

    /// Whether the word consists of expansions without quotes. If they are empty, the next word names the command.
    pub(super) fn may_vanish(&self, word: &ShellWord) -> bool {
        let source = self.text.get(word.source.clone()).unwrap_or_default();
        word.literal.is_empty() && !word.has_value && !source.contains(['"', '\''])
    }

    /// The name of a shell, if the word is one: its name or path, also after an expansion that may be empty, or a
    /// variable such as `$SHELL`.
    pub(super) fn shell_name(&self, word: &ShellWord) -> Option<String> {
        let source = self.text.get(word.source.clone()).unwrap_or_default().replace(['"', '\''], "");
        let is_shell = is_shell(&word.literal) || SHELL_VARIABLES.contains(&source.as_str());
        is_shell.then(|| if word.is_literal { word.literal.clone() } else { source })
    }

    /// Returns the index of the word that names the command, from `start` on. It may follow words such as `command` and
    /// their options. Returns nothing for `command -v`, which only looks a name up.
    fn command_index(&mut self, words: &[ShellWord], start: usize) -> Option<usize> {
        let mut index = start;
        loop {
            let word = words.get(index)?;
            let is_name = start == 0 || index > start;
            if is_name && word.has_value && !word.has_slash() {
                self.refuse(word.values.clone(), &ShellFault::CommandName);
            }
            let name = word.literal.as_str();
            if word.has_value || !matches!(name, "builtin" | "command" | "exec") {
                return Some(index);
            }
            index += 1;
            while let Some(option) = words.get(index).filter(|word| word.is_literal && word.prefix.starts_with('-')) {
                if name == "command" && option.prefix.contains(['v', 'V']) {
                    return None;
                }
                index += if name == "exec" && option.prefix.ends_with('a') { 2 } else { 1 };
            }
        }
    }

    fn check_arguments(&mut self, name: &str, arguments: &[ShellWord], command: &SimpleCommand) {
        match name {
            "printf" => self.check_printf(arguments),
            "[" | "test" => self.check_test(arguments),
            "ssh" => self.check_ssh(arguments, command),
            _ if EXECUTING_COMMANDS.contains(&name) => self.refuse_words(arguments, name),
            _ if DECLARING_COMMANDS.contains(&name) => self.check_declaration(name, arguments),
            _ if COMMAND_RUNNERS.contains(&name) => self.check_command_runner(name, arguments),
            _ => {}
        }
        if matches!(name, "mapfile" | "read" | "readarray") {
            self.variables.add_array("");
        }
    }

    fn refuse_words(&mut self, words: &[ShellWord], command: &str) {
        let fault = ShellFault::Executed(command.to_owned());
        for word in words {
            self.refuse(word.values.clone(), &fault);
        }
    }

    /// `printf -v NAME` evaluates the index of the name. The format may be this option, if a word follows it.
    fn check_printf(&mut self, arguments: &[ShellWord]) {
        let mut remaining = arguments;
        while let Some((word, following)) = remaining.split_first() {
            if word.is_literal && word.prefix == "-v" {
                self.refuse_words(following.get(..1).unwrap_or_default(), "printf -v");
                remaining = following.get(1..).unwrap_or_default();
            } else if word.is_literal && word.prefix.starts_with("-v") {
                remaining = following;
            } else {
                if word.may_be_option() && !following.is_empty() {
                    self.refuse(word.values.clone(), &ShellFault::ProbableOption("printf".to_owned()));
                }
                return;
            }
        }
    }

    /// `test -v NAME` evaluates the index of the name.
    fn check_test(&mut self, arguments: &[ShellWord]) {
        for (word, following) in arguments.iter().zip(arguments.iter().skip(1)) {
            let is_operator = word.is_literal && matches!(word.prefix.as_str(), "-v" | "-R");
            if is_operator || word.may_be_option() {
                self.refuse(following.values.clone(), &ShellFault::Executed("test -v".to_owned()));
            }
        }
    }

    /// Records the attributes that a command such as `declare` sets, and the values that it assigns.
    fn check_declaration(&mut self, command: &str, arguments: &[ShellWord]) {
        let option_count = arguments.iter().take_while(|word| is_option(word)).count();
        let (options, declared) = arguments.split_at(option_count);
        let has_option = |letters: [char; 2]| options.iter().any(|option| option.prefix.contains(letters));
        for word in declared {
            let literal_name = if word.is_literal { word.prefix.as_str() } else { "" };
            let name = word.assigned_name().map_or(literal_name, |assigned| assigned.name).to_owned();
            if has_option(['a', 'A']) {
                self.variables.arrays.push(name.clone());
            }
            if has_option(['i', 'n']) {
                self.variables.evaluated.push(name);
            }
            if !self.record_assignment(word, command != "export" && !word.begins_array()) {
                self.refuse_words(std::slice::from_ref(word), command);
            }
        }
    }

    fn check_command_runner(&mut self, name: &str, arguments: &[ShellWord]) {
        for (index, word) in arguments.iter().enumerate() {
            if word.prefix.starts_with("--command=") {
                self.refuse_words(std::slice::from_ref(word), name);
            }
            let is_short = word.prefix.ends_with('c') && word.prefix.starts_with('-') && !word.prefix.starts_with("--");
            if word.is_literal && (is_short || word.prefix == "--command") {
                self.refuse_words(arguments.get(index + 1..index + 2).unwrap_or_default(), name);
            }
        }
    }

    /// `ssh` gives the words after the host to a shell on that host or, if there are none, its standard input.
    fn check_ssh(&mut self, arguments: &[ShellWord], command: &SimpleCommand) {
        let mut index = 0;
        while let Some(option) = arguments.get(index).filter(|word| word.prefix.starts_with('-')) {
            let position = option.prefix.find(|letter: char| SSH_OPTIONS_WITH_ARGUMENT.contains(letter));
            let is_last = position.is_some_and(|position| position + 1 == option.prefix.len());
            index += if option.is_literal && is_last { 2 } else { 1 };
        }
        let remote_words = arguments.get(index + 1..).unwrap_or_default();
        self.refuse_words(remote_words, "ssh");
        if remote_words.is_empty() {
            self.refuse_program_input("ssh", command);
        }
    }

    /// Checks the words after the name of a shell: its options, and a script or the file of a script.
    fn check_shell_arguments(
        &mut self,
        shell: &str,
        arguments: &[ShellWord],
        command: &SimpleCommand,
        is_command: bool,
    ) {
        let options = ShellOptions::read(arguments);
        let operands = arguments.get(options.count..).unwrap_or_default();
        let script = operands.get(..1).unwrap_or_default();
        if options.has_command {
            return self.refuse_words(script, shell);
        }
        if shell_reads_input(arguments) {
            self.refuse_input(shell, command);
        }
        let has_arguments = operands.iter().skip(1).any(|word| !word.values.is_empty());
        if let [file] = script
            && is_command
            && has_arguments
            && file.may_be_option()
            && !options.ends_with_dashes
        {
            self.refuse(file.values.clone(), &ShellFault::ProbableOption(shell.to_owned()));
        }
    }

    /// Refuses values in the heredocs and texts that a command reads and runs.
    fn refuse_input(&mut self, name: &str, command: &SimpleCommand) {
        for heredoc in self.heredocs.iter_mut().skip(command.first_heredoc) {
            heredoc.executed_by = Some(name.to_owned());
        }
        for values in &command.input_values {
            self.refuse(values.clone(), &ShellFault::Executed(name.to_owned()));
        }
    }
}

/// The options at the start of a shell's arguments.
#[derive(Debug, Default)]
struct ShellOptions {
    /// The number of words.
    count: usize,
    /// Whether `-c` is among them.
    has_command: bool,
    /// Whether `-s` is among them.
    has_standard_input: bool,
    ends_with_dashes: bool,
}

impl ShellOptions {
    fn read(arguments: &[ShellWord]) -> Self {
        let mut options = Self::default();
        while let Some(word) = arguments.get(options.count).filter(|word| is_option(word) || word.is_dashes()) {
            options.count += 1;
            if word.is_dashes() {
                options.ends_with_dashes = true;
                break;
            }
            if word.prefix.starts_with("--") {
                options.count += usize::from(matches!(word.prefix.as_str(), "--init-file" | "--rcfile"));
            } else {
                options.has_command |= word.prefix.starts_with('-') && word.prefix.contains('c');
                options.has_standard_input |= word.prefix.contains('s');
                // `-o` has the name of an option as its argument.
                options.count += usize::from(word.prefix.contains(['o', 'O']));
            }
        }
        options
    }
}

/// Whether a shell with these arguments runs its standard input.
pub(super) fn shell_reads_input(arguments: &[ShellWord]) -> bool {
    let options = ShellOptions::read(arguments);
    let is_input = options.has_standard_input || arguments.get(options.count).is_none_or(is_standard_input);
    is_input && !options.has_command
}

/// The script and its arguments, if the arguments of a shell have the option `-c`.
pub(super) fn words_after_command_option(arguments: &[ShellWord]) -> Option<&[ShellWord]> {
    let options = ShellOptions::read(arguments);
    options.has_command.then(|| arguments.get(options.count..).unwrap_or_default())
}

/// Whether a word stands for the standard input.
pub(super) fn is_standard_input(word: &ShellWord) -> bool {
    word.is_literal && matches!(word.prefix.as_str(), "-" | "/dev/fd/0" | "/dev/stdin" | "/proc/self/fd/0")
}

/// Whether a word is an option, and neither `-` nor the `--` after the options.
fn is_option(word: &ShellWord) -> bool {
    word.is_literal && word.prefix.len() > 1 && word.prefix.starts_with(['-', '+']) && !word.is_dashes()
}
