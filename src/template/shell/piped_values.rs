//! Values that a pipeline passes to a command that runs its standard input as a program.

use super::fault::ShellFault;
use super::hazards::{is_standard_input, shell_reads_input, words_after_command_option};
use super::scanner::ScriptScanner;
use super::simple::SimpleCommand;
use super::words::ShellWord;

/// A command that runs the command in its arguments.
struct Wrapper {
    name: &'static str,
    /// The letters of its options that have an argument.
    options_with_argument: &'static str,
    /// The number of its own arguments before the command.
    operands: usize,
}

const fn wrapper(name: &'static str, options_with_argument: &'static str, operands: usize) -> Wrapper {
    Wrapper { name, options_with_argument, operands }
}

const WRAPPERS: &[Wrapper] = &[
    wrapper("builtin", "", 0),
    wrapper("busybox", "", 0),
    wrapper("command", "", 0),
    wrapper("doas", "Cu", 0),
    wrapper("env", "CSu", 0),
    wrapper("exec", "a", 0),
    wrapper("flock", "Ew", 1),
    wrapper("ionice", "cnp", 0),
    wrapper("nice", "n", 0),
    wrapper("nohup", "", 0),
    wrapper("setsid", "", 0),
    wrapper("stdbuf", "eio", 0),
    wrapper("sudo", "CDRTUghpru", 0),
    wrapper("time", "fo", 0),
    wrapper("timeout", "ks", 1),
    wrapper("xargs", "EILPadns", 0),
];

/// Commands that start a command in another place. Any of their words can be its name.
const REMOTE_RUNNERS: &[&str] = &["chroot", "docker", "kubectl", "lxc", "nsenter", "podman", "unshare"];

/// Commands, other than shells, that give their standard input to a shell.
const INPUT_RUNNERS: &[&str] = &["at", "batch"];

/// A program that runs its standard input, if its arguments name no other program.
struct Interpreter {
    /// The name without a version.
    name: &'static str,
    /// The letters of its options that contain a program or name its file.
    program_options: &'static str,
    /// The letters of its other options that have an argument.
    options_with_argument: &'static str,
}

const fn interpreter(
    name: &'static str,
    program_options: &'static str,
    options_with_argument: &'static str,
) -> Interpreter {
    Interpreter { name, program_options, options_with_argument }
}

const INTERPRETERS: &[Interpreter] = &[
    interpreter("lua", "e", "l"),
    interpreter("node", "ep", "r"),
    interpreter("nodejs", "ep", "r"),
    interpreter("perl", "Ee", "IMm"),
    interpreter("php", "BEFRfr", "cd"),
    interpreter("python", "cm", "WX"),
    interpreter("ruby", "e", "Ir"),
];

/// Long options of interpreters after which they do not run their standard input.
const PROGRAM_OPTIONS: &[&str] = &["--eval", "--help", "--print", "--version"];

/// The values of a pipeline that reach the standard input of the next command.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PipedValues {
    /// The first value that reaches the input of the compound command around the pipeline.
    inherited_start: Option<usize>,
    /// The first value of the pipeline.
    pipeline_start: usize,
    /// The first value of the current part of the pipeline. What the parts before it print is its input.
    part_start: usize,
    /// The index of the first heredoc of the pipeline among those whose bodies begin after this line.
    first_heredoc: usize,
    /// Whether a `|` is the last thing before this position, so a line end does not end the pipeline.
    awaits_part: bool,
}

impl PipedValues {
    fn input_start(self) -> Option<usize> {
        self.inherited_start.or((self.part_start > self.pipeline_start).then_some(self.pipeline_start))
    }
}

impl ScriptScanner<'_> {
    /// Starts a pipeline at this position.
    fn begin_pipeline(&mut self) {
        self.piped = PipedValues {
            inherited_start: self.piped.inherited_start,
            pipeline_start: self.position.next_value,
            part_start: self.position.next_value,
            first_heredoc: self.heredocs.len(),
            awaits_part: false,
        };
    }

    /// Starts the next part of a pipeline, after its `|`.
    fn begin_pipeline_part(&mut self) {
        self.piped.part_start = self.position.next_value;
        self.piped.awaits_part = true;
    }

    /// Notes that a command begins.
    pub(super) fn begin_command(&mut self) {
        self.piped.awaits_part = false;
    }

    /// Notes the end of a line or a `;`. After a `|`, a line end does not end the pipeline.
    pub(super) fn end_command(&mut self) {
        if self.piped.awaits_part {
            self.begin_pipeline_part();
        } else {
            self.begin_pipeline();
        }
    }

    /// Starts the commands inside a compound command or a substitution, which have the same input as it has. Returns
    /// the values that count again after these commands.
    pub(super) fn enter_compound(&mut self) -> PipedValues {
        let outer = self.piped;
        self.piped = PipedValues {
            inherited_start: outer.input_start(),
            pipeline_start: self.position.next_value,
            part_start: self.position.next_value,
            first_heredoc: outer.first_heredoc.min(self.heredocs.len()),
            awaits_part: false,
        };
        outer
    }

    /// Skips `&`, `&&`, `||`, `|` or `|&`.
    pub(super) fn list_operator(&mut self) {
        let is_pipe = self.is_at('|') && !self.looking_at("||");
        if !(self.eat("||") || self.eat("&&") || self.eat("|&")) {
            self.advance();
        }
        if is_pipe {
            self.begin_pipeline_part();
        } else {
            self.begin_pipeline();
        }
    }

    /// Refuses the values in the input of a command, if the command runs it as a program.
    pub(super) fn check_program_input(&mut self, command: &SimpleCommand) {
        if let Some(name) = self.input_runner(&command.words) {
            self.refuse_program_input(&name, command);
        }
    }

    /// Refuses the values in the input of a command that runs it: in its heredocs and texts, in the commands
    /// of `<(…)`, and in the parts of the pipeline before it.
    pub(super) fn refuse_program_input(&mut self, name: &str, command: &SimpleCommand) {
        let fault = ShellFault::Executed(name.to_owned());
        let piped = self.piped;
        if let Some(start) = piped.input_start() {
            self.refuse(start..piped.part_start, &fault);
        }
        for heredoc in self.heredocs.iter_mut().skip(piped.first_heredoc) {
            heredoc.executed_by = Some(name.to_owned());
        }
        for values in command.input_values.iter().chain(&command.substituted_values) {
            self.refuse(values.clone(), &fault);
        }
    }

    /// The name of the program that runs its standard input, if these words start one.
    fn input_runner(&self, words: &[ShellWord]) -> Option<String> {
        let (mut index, mut xargs) = (0, None);
        loop {
            let word = words.get(index)?;
            let arguments = words.get(index + 1..).unwrap_or_default();
            if let Some(shell) = self.shell_name(word) {
                let runs_input =
                    shell_reads_input(arguments) || xargs.is_some_and(|options| shell_runs_items(options, arguments));
                return runs_input.then_some(shell);
            }
            if word.has_value {
                return None;
            }
            let name = word.literal.rsplit('/').next().unwrap_or_default();
            if let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.name == name) {
                let next = index + 1 + wrapped_index(wrapper, arguments);
                if name == "xargs" {
                    xargs = words.get(index + 1..next);
                }
                index = next;
                continue;
            }
            if self.may_vanish(word) {
                index += 1;
                continue;
            }
            let runs_input = match name {
                "." | "source" => arguments.first().is_none_or(is_standard_input),
                "su" => !arguments.iter().any(|word| word.prefix.starts_with("-c") || word.prefix == "--command"),
                _ if REMOTE_RUNNERS.contains(&name) => return self.remote_input_runner(arguments),
                _ if INPUT_RUNNERS.contains(&name) => true,
                _ => interpreter_reads_input(name, arguments),
            };
            return runs_input.then(|| name.to_owned());
        }
    }

    /// The name of a shell that runs its standard input, among the arguments of a command that starts another one.
    fn remote_input_runner(&self, arguments: &[ShellWord]) -> Option<String> {
        let mut words = arguments.iter().enumerate();
        let (index, shell) = words.find_map(|(index, word)| Some((index, self.shell_name(word)?)))?;
        shell_reads_input(arguments.get(index + 1..).unwrap_or_default()).then_some(shell)
    }
}

/// The index of the word that names the command, among the arguments of a wrapper.
fn wrapped_index(wrapper: &Wrapper, arguments: &[ShellWord]) -> usize {
    let (mut index, mut operands) = (0, wrapper.operands);
    while let Some(word) = arguments.get(index) {
        if word.prefix.starts_with('-') {
            let position = word.prefix.find(|letter: char| wrapper.options_with_argument.contains(letter));
            let is_last = position.is_some_and(|position| position + 1 == word.prefix.len());
            let has_argument = word.is_literal && is_last && !word.prefix.starts_with("--");
            index += if has_argument { 2 } else { 1 };
        } else if word.assigned_name().is_some() {
            index += 1;
        } else if operands > 0 {
            operands -= 1;
            index += 1;
        } else {
            break;
        }
    }
    index
}

/// Whether a shell that `xargs` starts runs the items that `xargs` reads: because its script is missing, or because
/// `xargs` replaces a part of the script. `options` are those of `xargs`.
fn shell_runs_items(options: &[ShellWord], arguments: &[ShellWord]) -> bool {
    let Some(words) = words_after_command_option(arguments) else { return false };
    let Some(script) = words.first() else { return true };
    options.iter().enumerate().any(|(index, word)| {
        let next = options.get(index + 1).map(|next| next.literal.as_str());
        let replaced = match word.prefix.as_str() {
            "-I" => next,
            "-i" | "--replace" => Some("{}"),
            option => option.strip_prefix("-I").or_else(|| option.strip_prefix("--replace=")),
        };
        replaced.is_some_and(|replaced| !replaced.is_empty() && script.literal.contains(replaced))
    })
}

/// Whether an interpreter with these arguments runs its standard input.
fn interpreter_reads_input(name: &str, arguments: &[ShellWord]) -> bool {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let Some(interpreter) = INTERPRETERS.iter().find(|interpreter| interpreter.name == name) else { return false };
    let mut index = 0;
    loop {
        let Some(word) = arguments.get(index) else { return true };
        if is_standard_input(word) {
            return true;
        }
        let Some(letters) = word.prefix.strip_prefix('-') else { return false };
        if PROGRAM_OPTIONS.iter().any(|option| word.prefix.starts_with(option)) {
            return false;
        }
        let has_argument = |letter: char| interpreter.options_with_argument.contains(letter);
        let has_program = |letter: char| interpreter.program_options.contains(letter);
        let position = letters.find(|letter: char| has_argument(letter) || has_program(letter));
        let option = position.filter(|_| !letters.starts_with('-'));
        match option.and_then(|position| letters.get(position..)) {
            Some(rest) if rest.starts_with(has_program) => return false,
            Some(rest) if rest.len() == 1 => index += 2,
            Some(_) | None => index += 1,
        }
    }
}
