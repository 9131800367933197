//! Simple commands: assignments, arguments and redirections.

use std::ops::Range;

use super::fault::ShellFault;
use super::hazards::has_assignment_arguments;
use super::scanner::{ScriptScanner, ScriptUnit, is_delimiter};
use super::words::ShellWord;

/// The redirections, those that begin like another one first.
const REDIRECTIONS: &[&str] = &["<<<", "<<-", "<<", "<&", "<>", ">>", ">&", ">|", "<", ">"];

/// A simple command, without its assignments and redirections.
#[derive(Debug, Default)]
pub(super) struct SimpleCommand {
    pub(super) words: Vec<ShellWord>,
    /// The index of its first heredoc among those whose bodies begin after this line.
    pub(super) first_heredoc: usize,
    /// The values in the texts after `<<<`.
    pub(super) input_values: Vec<Range<usize>>,
    /// The values in the commands of `<(…)`, whose output the command can read as a file.
    pub(super) substituted_values: Vec<Range<usize>>,
    /// Whether an assignment or a redirection precedes its first word.
    has_prefix: bool,
    /// Whether bash reads its next words as assignments, if they look like some.
    has_assignments: bool,
}

impl ScriptScanner<'_> {
    pub(super) fn simple_command(&mut self) {
        let mut command = SimpleCommand { first_heredoc: self.heredocs.len(), ..SimpleCommand::default() };
        loop {
            self.skip_blanks();
            match self.peek() {
                None | Some(ScriptUnit::Char('\n' | ';' | '&' | '|' | ')')) => break,
                Some(ScriptUnit::Char('#')) => self.comment(),
                Some(ScriptUnit::Char('<' | '>')) => self.redirection(&mut command),
                Some(ScriptUnit::Char('(')) => {
                    if self.function_parentheses(&command) {
                        return;
                    }
                }
                Some(ScriptUnit::InsertedValue | ScriptUnit::Char(_)) => self.command_word(&mut command),
            }
        }
        self.check_command(&command);
    }

    /// Scans the parentheses after the name of a function, whose body is the next command. Returns false if they are
    /// something else.
    fn function_parentheses(&mut self, command: &SimpleCommand) -> bool {
        self.advance();
        self.skip_blanks();
        if let [name] = command.words.as_slice()
            && !command.has_prefix
            && self.eat(")")
        {
            self.refuse(name.values.clone(), &ShellFault::CommandName);
            return true;
        }
        self.mark_undecidable();
        false
    }

    fn command_word(&mut self, command: &mut SimpleCommand) {
        let is_first = command.words.is_empty();
        let mut word = self.word(is_first || command.has_assignments);
        if word.is_descriptor() && matches!(self.peek(), Some(ScriptUnit::Char('<' | '>'))) {
            return;
        }
        if word.begins_array() && self.eat("(") {
            self.array(&mut word);
            command.has_prefix |= is_first;
            if !is_first {
                command.words.push(word);
            }
            return;
        }
        if is_first && self.record_assignment(&word, false) {
            command.has_prefix = true;
            return;
        }
        if is_first && word.is_continued_keyword() {
            self.mark_undecidable();
        }
        command.has_assignments |= has_assignment_arguments(&word.literal);
        command.words.push(word);
    }

    /// Records the assignment of a word, if it is one. `is_declared` is true if a command such as `declare` assigns it.
    pub(super) fn record_assignment(&mut self, word: &ShellWord, is_declared: bool) -> bool {
        let Some(assigned) = word.assigned_name() else { return false };
        if assigned.has_index {
            self.variables.add_array(assigned.name);
        }
        self.variables.add_assignment(assigned.name, word.values.clone(), is_declared);
        true
    }

    /// Scans the items of an array after its `(`, up to its `)`.
    fn array(&mut self, word: &mut ShellWord) {
        let first_value = self.position.next_value;
        loop {
            self.skip_lines();
            match self.peek() {
                None => return self.report_unterminated(first_value, "("),
                Some(ScriptUnit::Char(')')) => break,
                Some(ScriptUnit::Char(c)) if is_delimiter(c) => {
                    self.mark_undecidable();
                    self.advance();
                }
                Some(ScriptUnit::InsertedValue | ScriptUnit::Char(_)) => {
                    let item = self.word(false);
                    if item.bare.starts_with('[') {
                        self.refuse(item.values, &ShellFault::ArrayIndex);
                    }
                }
            }
        }
        self.advance();
        word.values.end = self.position.next_value;
        if let Some(assigned) = word.assigned_name() {
            self.variables.add_array(assigned.name);
            self.variables.add_assignment(assigned.name, first_value..self.position.next_value, false);
        }
    }

    fn redirection(&mut self, command: &mut SimpleCommand) {
        command.has_prefix |= command.words.is_empty();
        if let Some(opening) = ["<(", ">("].into_iter().find(|opening| self.eat(opening)) {
            let first_value = self.position.next_value;
            self.substitution(opening);
            if opening == "<(" {
                command.substituted_values.push(first_value..self.position.next_value);
            }
            return;
        }
        let operator = REDIRECTIONS.iter().find(|operator| self.looking_at(operator)).copied().unwrap_or("<");
        self.eat(operator);
        // A line continuation could be inside the operator.
        if self.looking_at("\\\n") {
            self.mark_undecidable();
        }
        self.skip_blanks();
        if operator == "<<" || operator == "<<-" {
            return self.heredoc_delimiter(operator == "<<-");
        }
        if !self.is_at_word() {
            return self.mark_undecidable();
        }
        let word = self.word(false);
        if operator == "<<<" {
            command.input_values.push(word.values);
        }
    }
}
