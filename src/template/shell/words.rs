//! Words and quotes.

use std::ops::Range;

use super::ValueQuoting;
use super::fault::ShellFault;
use super::lists::is_keyword;
use super::scanner::{ScanPosition, ScriptScanner, ScriptUnit, is_delimiter};

/// A word of a command, as far as it decides what the command does with a value.
#[derive(Clone, Debug)]
pub(super) struct ShellWord {
    /// The text before the first quote, value or expansion.
    pub(super) bare: String,
    /// The text without quotes before the first value or expansion.
    pub(super) prefix: String,
    /// The text without quotes, values and expansions. This is the whole word if its expansions are empty.
    pub(super) literal: String,
    /// Whether it has no value and no expansion, so `prefix` is the whole word.
    pub(super) is_literal: bool,
    /// Whether it is literal and has no quotes.
    pub(super) is_bare: bool,
    /// Whether a value is in it, other than in a substitution.
    pub(super) has_value: bool,
    /// Whether a line continuation is in it.
    is_continued: bool,
    /// The values in it, with those in substitutions.
    pub(super) values: Range<usize>,
    /// Its byte range in the script.
    pub(super) source: Range<usize>,
}

/// The variable that a word assigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AssignedName<'a> {
    pub(super) name: &'a str,
    /// Whether the word assigns an item of an array.
    pub(super) has_index: bool,
}

impl ShellWord {
    fn starting_at(position: ScanPosition) -> Self {
        Self {
            bare: String::new(),
            prefix: String::new(),
            literal: String::new(),
            is_literal: true,
            is_bare: true,
            has_value: false,
            is_continued: false,
            values: position.next_value..position.next_value,
            source: position.offset..position.offset,
        }
    }

    fn push_bare(&mut self, c: char) {
        if self.is_bare {
            self.bare.push(c);
        }
        self.push_text(c);
    }

    fn push_text(&mut self, c: char) {
        if self.is_literal {
            self.prefix.push(c);
        }
        self.literal.push(c);
    }

    fn add_quotes(&mut self) {
        self.is_bare = false;
    }

    fn add_expansion(&mut self) {
        self.is_bare = false;
        self.is_literal = false;
    }

    fn add_value(&mut self) {
        self.add_expansion();
        self.has_value = true;
    }

    /// Whether the word is a path, whatever its values are, and not the name of a command that a shell knows.
    pub(super) fn has_slash(&self) -> bool {
        self.literal.contains('/')
    }

    /// Whether the word may be an option, whatever its value is.
    pub(super) fn may_be_option(&self) -> bool {
        self.has_value && !self.has_slash() && (self.prefix.is_empty() || self.prefix.starts_with('-'))
    }

    /// Whether the word is the `--` after which a word is no option.
    pub(super) fn is_dashes(&self) -> bool {
        self.is_literal && self.prefix == "--"
    }

    /// Whether the word is a keyword with a line continuation in it.
    pub(super) fn is_continued_keyword(&self) -> bool {
        self.is_continued && is_keyword(&self.prefix)
    }

    /// The variable that the word assigns, as in `NAME=…`, `NAME+=…` or `NAME[INDEX]=…`.
    pub(super) fn assigned_name(&self) -> Option<AssignedName<'_>> {
        let (target, _) = self.bare.split_once('=')?;
        let target = target.strip_suffix('+').unwrap_or(target);
        let (name, has_index) = match target.split_once('[') {
            Some((name, index)) if index.ends_with(']') => (name, true),
            Some(_) => return None,
            None => (target, false),
        };
        is_variable_name(name).then_some(AssignedName { name, has_index })
    }

    /// Whether the word is `NAME=` or `NAME+=`, after which a `(` begins an array.
    pub(super) fn begins_array(&self) -> bool {
        self.is_bare && self.bare.ends_with('=') && self.assigned_name().is_some()
    }

    /// Whether the word names a descriptor of the redirection after it, as in `2>` or `{name}>`.
    pub(super) fn is_descriptor(&self) -> bool {
        let name = self.bare.strip_prefix('{').and_then(|bare| bare.strip_suffix('}'));
        let is_number = !self.bare.is_empty() && self.bare.bytes().all(|byte| byte.is_ascii_digit());
        self.is_bare && (is_number || name.is_some_and(is_variable_name))
    }
}

fn is_variable_name(text: &str) -> bool {
    let has_name_characters = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    has_name_characters && text.starts_with(|c: char| !c.is_ascii_digit())
}

impl ScriptScanner<'_> {
    /// Scans a word. `can_assign` says whether an array index may begin in it, because it may be an assignment.
    pub(super) fn word(&mut self, can_assign: bool) -> ShellWord {
        let mut word = ShellWord::starting_at(self.position);
        loop {
            match self.peek() {
                None => break,
                Some(ScriptUnit::InsertedValue) => {
                    self.take_value(ValueQuoting::Word);
                    word.add_value();
                }
                Some(ScriptUnit::Char(c)) if is_delimiter(c) => break,
                Some(ScriptUnit::Char('\'')) => self.single_quotes(&mut word),
                Some(ScriptUnit::Char('"')) => self.double_quotes(&mut word),
                Some(ScriptUnit::Char('\\')) => self.escape(&mut word),
                Some(ScriptUnit::Char('$')) => {
                    word.add_expansion();
                    self.dollar(Quoting::None);
                }
                Some(ScriptUnit::Char('`')) => {
                    word.add_expansion();
                    self.backticks();
                }
                Some(ScriptUnit::Char('[')) if can_assign && word.is_bare && is_variable_name(&word.bare) => {
                    self.array_index(&mut word);
                }
                Some(ScriptUnit::Char(c)) => {
                    word.push_bare(c);
                    self.advance();
                }
            }
        }
        word.values.end = self.position.next_value;
        word.source.end = self.position.offset;
        word
    }

    /// Scans a backslash and the character after it, outside of quotes.
    fn escape(&mut self, word: &mut ShellWord) {
        self.advance();
        match self.peek() {
            None => {}
            Some(ScriptUnit::InsertedValue) => {
                self.refuse_value(ShellFault::Escaped);
                word.add_value();
            }
            Some(ScriptUnit::Char('\n')) => {
                self.advance();
                word.is_continued = true;
            }
            Some(ScriptUnit::Char(c)) => {
                self.advance();
                word.add_quotes();
                word.push_text(c);
            }
        }
    }

    pub(super) fn single_quotes(&mut self, word: &mut ShellWord) {
        let first_value = self.position.next_value;
        word.add_quotes();
        self.advance();
        loop {
            match self.peek() {
                None => return self.report_unterminated(first_value, "'"),
                Some(ScriptUnit::InsertedValue) => {
                    self.take_value(ValueQuoting::SingleQuoted);
                    word.add_value();
                }
                Some(ScriptUnit::Char(c)) => {
                    self.advance();
                    if c == '\'' {
                        return;
                    }
                    word.push_text(c);
                }
            }
        }
    }

    pub(super) fn double_quotes(&mut self, word: &mut ShellWord) {
        let first_value = self.position.next_value;
        word.add_quotes();
        self.advance();
        loop {
            match self.peek() {
                None => return self.report_unterminated(first_value, "\""),
                Some(ScriptUnit::InsertedValue) => {
                    self.take_value(ValueQuoting::Quoted);
                    word.add_value();
                }
                Some(ScriptUnit::Char('"')) => return self.advance(),
                Some(ScriptUnit::Char('\\')) => self.quoted_escape(word),
                Some(ScriptUnit::Char('$')) => {
                    word.add_expansion();
                    self.dollar(Quoting::Double);
                }
                Some(ScriptUnit::Char('`')) => {
                    word.add_expansion();
                    self.backticks();
                }
                Some(ScriptUnit::Char(c)) => {
                    word.push_text(c);
                    self.advance();
                }
            }
        }
    }

    /// Scans a backslash and the character after it, in double quotes.
    fn quoted_escape(&mut self, word: &mut ShellWord) {
        self.advance();
        match self.peek() {
            None => {}
            Some(ScriptUnit::InsertedValue) => {
                self.refuse_value(ShellFault::Escaped);
                word.add_value();
            }
            Some(ScriptUnit::Char(c)) => {
                word.push_text(c);
                self.advance();
            }
        }
    }

    /// Scans quotes whose content does not matter.
    pub(super) fn skip_quotes(&mut self, quote: char) {
        let mut ignored = ShellWord::starting_at(self.position);
        if quote == '\'' { self.single_quotes(&mut ignored) } else { self.double_quotes(&mut ignored) }
    }

    /// Scans the index of an array up to its `]`, which bash reads as a part of the word, whatever is in it. If no `]`
    /// follows, the `[` is a character of the word. Other shells end the command at the end of the line.
    fn array_index(&mut self, word: &mut ShellWord) {
        let start = self.position;
        let was_undecidable = self.is_undecidable;
        self.advance();
        let (mut open_brackets, mut has_line_end) = (1_usize, false);
        while open_brackets > 0 {
            match self.peek() {
                None => {
                    self.is_undecidable = was_undecidable;
                    self.go_back(start);
                    word.push_bare('[');
                    if self.is_at('[') {
                        self.advance();
                    }
                    return;
                }
                Some(ScriptUnit::InsertedValue) => self.refuse_value(ShellFault::ArrayIndex),
                Some(ScriptUnit::Char('\n')) => {
                    has_line_end = true;
                    self.advance();
                }
                Some(ScriptUnit::Char('[')) => {
                    open_brackets += 1;
                    self.advance();
                }
                Some(ScriptUnit::Char(']')) => {
                    open_brackets -= 1;
                    self.advance();
                }
                Some(ScriptUnit::Char(c)) => self.skip_expression_part(c, Quoting::None),
            }
        }
        self.refuse_since(start.next_value, &ShellFault::ArrayIndex);
        if has_line_end {
            self.mark_undecidable();
        }
        word.push_bare('[');
        word.push_bare(']');
    }

    /// Scans a quote, an expansion, an escaped or another character inside an expression of the shell.
    pub(super) fn skip_expression_part(&mut self, c: char, quoting: Quoting) {
        match c {
            '\'' | '"' => self.skip_quotes(c),
            '$' => self.dollar(quoting),
            '`' => self.backticks(),
            '\\' => {
                self.advance();
                self.skip_escaped();
            }
            _ => self.advance(),
        }
    }
}

/// The quotes around an expansion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoting {
    /// None.
    None,
    /// Double quotes, or a heredoc.
    Double,
}
