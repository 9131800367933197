//! Walks a script, and finds out how a shell takes each value in it.
//!
//! A *value* is a place where the template inserts text. The scanner *refuses* a value where a shell would not take the
//! inserted text as one word; orch then reports an error.
//!
//! The scanner follows the grammar of POSIX shells, with the words of bash that matter for values. `lists.rs` has the
//! compound commands, `simple.rs` the simple ones, `words.rs` the quotes, `expansions.rs` what begins with `$` or a
//! backtick, `heredocs.rs` the heredocs, `hazards.rs` the commands that run their arguments as shell code, and
//! `piped_values.rs` those that run their input. Where
//! dash and bash read a text in different ways, the scanner marks the rest as undecidable: it refuses all values there.

use std::ops::Range;

use super::ValueQuoting;
use super::fault::ShellFault;
use super::hazards::VariableUses;
use super::heredocs::PendingHeredoc;
use super::lists::ListEnd;
use super::piped_values::PipedValues;

/// The maximum depth of commands and expansions inside each other.
const MAX_DEPTH: usize = 32;
/// The maximum number of times that a scan goes back to read a text in another way. Bounds the time of a scan.
const MAX_RETRIES: usize = 64;

/// What a script has at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptUnit {
    /// A place where the template inserts a value.
    InsertedValue,
    Char(char),
}

/// A position in a script. Several values can be at one offset.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ScanPosition {
    pub(super) offset: usize,
    /// The index of the next inserted value.
    pub(super) next_value: usize,
}

pub(super) struct ScriptScanner<'t> {
    pub(super) text: &'t str,
    /// The offsets of the values in the text, in order.
    pub(super) value_offsets: &'t [usize],
    pub(super) position: ScanPosition,
    /// Where the part that the scanner reads ends, such as the content of backticks.
    pub(super) end: usize,
    /// The heredocs whose bodies begin after the next line end.
    pub(super) heredocs: Vec<PendingHeredoc>,
    /// Whether a command around this substitution has such heredocs.
    pub(super) has_outer_heredocs: bool,
    /// Whether the scanner reads a substitution.
    pub(super) is_in_substitution: bool,
    /// Whether a heredoc ended before in this substitution. Bash 5.2 then loses a `;`, so a command may become an
    /// argument of the command before it.
    pub(super) substitution_had_heredoc: bool,
    pub(super) variables: VariableUses,
    /// The values that reach the input of the next command.
    pub(super) piped: PipedValues,
    /// Those of the compound commands around it that end with a keyword, from the outermost one.
    pub(super) open_compounds: Vec<PipedValues>,
    uses: Vec<ValueQuoting>,
    depth: usize,
    retries: usize,
    /// Whether shells read the text before in different ways, so the scanner refuses all following values.
    pub(super) is_undecidable: bool,
}

impl<'t> ScriptScanner<'t> {
    pub(super) fn new(text: &'t str, value_offsets: &'t [usize]) -> Self {
        Self {
            text,
            value_offsets,
            position: ScanPosition::default(),
            end: text.len(),
            heredocs: Vec::new(),
            has_outer_heredocs: false,
            is_in_substitution: false,
            substitution_had_heredoc: false,
            variables: VariableUses::default(),
            piped: PipedValues::default(),
            open_compounds: Vec::new(),
            uses: vec![ValueQuoting::Refused(ShellFault::Undecidable); value_offsets.len()],
            depth: 0,
            retries: MAX_RETRIES,
            is_undecidable: false,
        }
    }

    /// Scans the whole script. Returns the use of each value.
    pub(super) fn scan(mut self) -> Vec<ValueQuoting> {
        self.commands(ListEnd::Script);
        self.refuse_evaluated_assignments();
        self.uses
    }

    /// The text from here to the end of the part.
    pub(super) fn rest(&self) -> &'t str {
        self.text.get(self.position.offset..self.end).unwrap_or_default()
    }

    /// The offset of the next value; larger than any offset if no value follows.
    fn next_value_offset(&self) -> usize {
        self.value_offsets.get(self.position.next_value).copied().unwrap_or(usize::MAX)
    }

    pub(super) fn peek(&self) -> Option<ScriptUnit> {
        if self.next_value_offset() == self.position.offset {
            return Some(ScriptUnit::InsertedValue);
        }
        self.rest().chars().next().map(ScriptUnit::Char)
    }

    pub(super) fn is_at(&self, c: char) -> bool {
        self.peek() == Some(ScriptUnit::Char(c))
    }

    /// Whether this token follows, without a value in it.
    pub(super) fn looking_at(&self, token: &str) -> bool {
        self.rest().starts_with(token) && self.next_value_offset() >= self.position.offset + token.len()
    }

    /// Skips this token, if it follows.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        let follows = self.looking_at(token);
        if follows {
            self.position.offset += token.len();
        }
        follows
    }

    /// Skips a character. Must not be called at a value.
    pub(super) fn advance(&mut self) {
        self.position.offset += self.rest().chars().next().map_or(0, char::len_utf8);
    }

    /// Skips the character after a backslash.
    pub(super) fn skip_escaped(&mut self) {
        if matches!(self.peek(), Some(ScriptUnit::Char(_))) {
            self.advance();
        }
    }

    /// The text up to the next delimiter, if no value is in it or directly after it.
    pub(super) fn bare_word(&self) -> Option<&'t str> {
        let rest = self.rest();
        let length = rest.find(is_delimiter).unwrap_or(rest.len());
        rest.get(..length).filter(|_| self.next_value_offset() > self.position.offset + length)
    }

    /// Skips this word, if it follows.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let follows = self.bare_word() == Some(word);
        if follows {
            self.position.offset += word.len();
        }
        follows
    }

    /// Skips blanks and line continuations.
    pub(super) fn skip_blanks(&mut self) {
        loop {
            match self.peek() {
                Some(ScriptUnit::Char(' ' | '\t')) => self.advance(),
                _ if self.eat("\\\n") => {}
                _ => return,
            }
        }
    }

    /// Records how the shell takes the value at this position, and skips the value.
    pub(super) fn take_value(&mut self, value_quoting: ValueQuoting) {
        let is_undecidable = self.is_undecidable || self.substitution_had_heredoc;
        let value_quoting = if is_undecidable { ValueQuoting::Refused(ShellFault::Undecidable) } else { value_quoting };
        if let Some(recorded) = self.uses.get_mut(self.position.next_value) {
            *recorded = value_quoting;
        }
        self.position.next_value += 1;
    }

    pub(super) fn refuse_value(&mut self, fault: ShellFault) {
        self.take_value(ValueQuoting::Refused(fault));
    }

    /// Refuses the values up to an offset that the scanner does not read.
    pub(super) fn refuse_until(&mut self, offset: usize, fault: &ShellFault) {
        while self.next_value_offset() <= offset {
            self.refuse_value(fault.clone());
        }
    }

    /// Refuses values that the scanner has read. A value in a comment reaches no command, so it stays as it is.
    pub(super) fn refuse(&mut self, values: Range<usize>, fault: &ShellFault) {
        for value_quoting in self.uses.get_mut(values).into_iter().flatten() {
            if !matches!(value_quoting, ValueQuoting::Refused(_) | ValueQuoting::Comment) {
                *value_quoting = ValueQuoting::Refused(fault.clone());
            }
        }
    }

    pub(super) fn refuse_since(&mut self, first_value: usize, fault: &ShellFault) {
        self.refuse(first_value..self.position.next_value, fault);
    }

    /// Refuses all following values, because shells read the text before them in different ways.
    pub(super) fn mark_undecidable(&mut self) {
        self.is_undecidable = true;
    }

    /// Refuses the values since the first one after a quote or bracket that is not closed.
    pub(super) fn report_unterminated(&mut self, first_value: usize, opening: &'static str) {
        self.refuse_since(first_value, &ShellFault::Unterminated(opening));
        self.mark_undecidable();
    }

    /// Refuses all following values, and goes to the end of the part.
    pub(super) fn skip_rest(&mut self) {
        self.mark_undecidable();
        self.refuse_until(self.end, &ShellFault::Undecidable);
        self.position.offset = self.end;
    }

    /// Goes one level deeper to scan a part of the text. Skips the rest of the text if it is too deep.
    pub(super) fn nested<T>(&mut self, scan_part: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.depth >= MAX_DEPTH {
            self.skip_rest();
            return None;
        }
        self.depth += 1;
        let result = scan_part(self);
        self.depth -= 1;
        Some(result)
    }

    /// Goes back to a position. Skips the rest of the text if this happens too often.
    pub(super) fn go_back(&mut self, position: ScanPosition) {
        self.position = position;
        self.retries = self.retries.saturating_sub(1);
        if self.retries == 0 {
            self.skip_rest();
        }
    }
}

/// Whether a character ends a word.
pub(super) fn is_delimiter(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')')
}
