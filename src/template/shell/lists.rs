//! Lists of commands and compound commands.

use super::ValueQuoting;
use super::fault::ShellFault;
use super::scanner::{ScriptScanner, ScriptUnit, is_delimiter};
use super::words::ShellWord;

/// What ends a list of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListEnd {
    /// The end of the text.
    Script,
    /// A `)`.
    Parenthesis,
    /// A `;;` or `esac`.
    CaseItem,
}

/// How a list of commands ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListClose {
    /// With its own end.
    Closed,
    /// With the `esac` of the `case` around it.
    EndOfCase,
    /// With the end of the text.
    EndOfText,
}

/// The words that a shell reads as a part of the grammar where it expects a command.
const KEYWORDS: &[&str] = &[
    "!", "[[", "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "select", "then",
    "time", "until", "while", "{", "}",
];

/// The operators of `[[` whose operands are arithmetic.
const ARITHMETIC_OPERATORS: &[&str] = &["-eq", "-ge", "-gt", "-le", "-lt", "-ne"];

/// Whether a text is a keyword.
pub(super) fn is_keyword(text: &str) -> bool {
    KEYWORDS.contains(&text)
}

impl ScriptScanner<'_> {
    pub(super) fn commands(&mut self, list_end: ListEnd) -> ListClose {
        let outer_compounds = std::mem::take(&mut self.open_compounds);
        let outer = self.enter_compound();
        let close = self.nested(|scanner| {
            loop {
                if let Some(close) = scanner.command(list_end) {
                    break close;
                }
            }
        });
        (self.piped, self.open_compounds) = (outer, outer_compounds);
        close.unwrap_or(ListClose::EndOfText)
    }

    /// Scans a command, a separator, a comment or a line end. Returns how the list ends, if it ends here.
    fn command(&mut self, list_end: ListEnd) -> Option<ListClose> {
        self.skip_blanks();
        match self.peek() {
            None => return Some(ListClose::EndOfText),
            Some(ScriptUnit::Char('\n')) => {
                self.end_line();
                self.end_command();
            }
            Some(ScriptUnit::Char('#')) => self.comment(),
            Some(ScriptUnit::Char(';')) => return self.semicolon(list_end),
            Some(ScriptUnit::Char('&' | '|')) => self.list_operator(),
            Some(ScriptUnit::Char(')')) => {
                self.advance();
                if list_end == ListEnd::Parenthesis {
                    return Some(ListClose::Closed);
                }
                self.mark_undecidable();
            }
            Some(ScriptUnit::Char('(')) => {
                self.begin_command();
                self.open_parenthesis();
            }
            Some(ScriptUnit::InsertedValue | ScriptUnit::Char(_)) => {
                self.begin_command();
                match self.bare_word().filter(|word| is_keyword(word)) {
                    Some(keyword) => return self.keyword(keyword, list_end),
                    None => self.simple_command(),
                }
            }
        }
        None
    }

    fn semicolon(&mut self, list_end: ListEnd) -> Option<ListClose> {
        self.advance();
        let ends_item = self.eat(";&") || self.eat(";") || self.eat("&");
        if ends_item && list_end == ListEnd::CaseItem {
            return Some(ListClose::Closed);
        }
        if ends_item {
            self.mark_undecidable();
        }
        self.end_command();
        None
    }

    /// Scans a keyword, and the part of its command up to the next place where a shell expects a command.
    fn keyword(&mut self, keyword: &str, list_end: ListEnd) -> Option<ListClose> {
        self.position.offset += keyword.len();
        match keyword {
            "for" | "if" | "select" | "until" | "while" | "{" => {
                let outer = self.enter_compound();
                self.open_compounds.push(outer);
            }
            "done" | "fi" | "}" => self.piped = self.open_compounds.pop().unwrap_or(self.piped),
            _ => {}
        }
        match keyword {
            "case" => self.case_command(),
            "for" | "select" => self.for_command(),
            "function" => self.function_name(),
            "[[" => self.condition(),
            "time" => {
                self.skip_blanks();
                self.eat_word("-p");
            }
            // It may have a name, which looks like a command.
            "coproc" => self.mark_undecidable(),
            "esac" if list_end == ListEnd::CaseItem => return Some(ListClose::EndOfCase),
            _ => {}
        }
        None
    }

    /// Skips a line end, and scans the heredocs that begin there.
    pub(super) fn end_line(&mut self) {
        self.advance();
        if self.has_outer_heredocs {
            self.mark_undecidable();
        }
        let heredocs = std::mem::take(&mut self.heredocs);
        for heredoc in &heredocs {
            self.heredoc_body(heredoc);
        }
        self.substitution_had_heredoc |= self.is_in_substitution && !heredocs.is_empty();
    }

    pub(super) fn comment(&mut self) {
        loop {
            match self.peek() {
                None | Some(ScriptUnit::Char('\n')) => return,
                Some(ScriptUnit::InsertedValue) => self.take_value(ValueQuoting::Comment),
                Some(ScriptUnit::Char(_)) => self.advance(),
            }
        }
    }

    /// Skips blanks, comments and line ends.
    pub(super) fn skip_lines(&mut self) {
        loop {
            self.skip_blanks();
            match self.peek() {
                Some(ScriptUnit::Char('\n')) => self.end_line(),
                Some(ScriptUnit::Char('#')) => self.comment(),
                _ => return,
            }
        }
    }

    /// Whether a word or a comment begins here.
    pub(super) fn is_at_word(&self) -> bool {
        self.peek().is_some_and(|unit| match unit {
            ScriptUnit::InsertedValue => true,
            ScriptUnit::Char(c) => !is_delimiter(c),
        })
    }

    /// Scans a subshell, or `((…))`, which is arithmetic in bash.
    fn open_parenthesis(&mut self) {
        self.advance();
        if self.eat_arithmetic() {
            return;
        }
        let first_value = self.position.next_value;
        if self.commands(ListEnd::Parenthesis) == ListClose::EndOfText {
            self.report_unterminated(first_value, "(");
        }
    }

    fn case_command(&mut self) {
        self.skip_blanks();
        self.word(false);
        self.skip_lines();
        if !self.eat_word("in") {
            return self.mark_undecidable();
        }
        loop {
            self.skip_lines();
            if self.peek().is_none() || self.eat_word("esac") {
                return;
            }
            self.eat("(");
            if !self.case_patterns() {
                return self.mark_undecidable();
            }
            if self.commands(ListEnd::CaseItem) != ListClose::Closed {
                return;
            }
        }
    }

    /// Scans the patterns of a `case` item and the `)` after them. Returns false if there is none.
    fn case_patterns(&mut self) -> bool {
        loop {
            self.skip_blanks();
            if !self.is_at_word() {
                return false;
            }
            self.word(false);
            self.skip_blanks();
            if self.eat(")") {
                return true;
            }
            if !self.eat("|") {
                return false;
            }
        }
    }

    fn for_command(&mut self) {
        self.skip_blanks();
        if self.eat("(") {
            if !self.eat_arithmetic() {
                self.mark_undecidable();
            }
            return;
        }
        let name = self.word(false);
        self.refuse(name.values, &ShellFault::VariableName);
        self.skip_lines();
        if !self.eat_word("in") {
            return;
        }
        let first_value = self.position.next_value;
        loop {
            self.skip_blanks();
            if self.is_at('#') || !self.is_at_word() {
                break;
            }
            self.word(false);
        }
        let values = first_value..self.position.next_value;
        self.variables.add_assignment(&name.prefix, values, false);
    }

    fn function_name(&mut self) {
        self.skip_blanks();
        let name = self.word(false);
        self.refuse(name.values, &ShellFault::CommandName);
        self.skip_blanks();
        if self.eat("(") {
            self.skip_blanks();
            if !self.eat(")") {
                self.mark_undecidable();
            }
        }
    }

    /// Scans a `[[ … ]]` of bash. To other shells `[[` is the name of a command, so an operator such as `||` begins a
    /// new command there.
    fn condition(&mut self) {
        let (mut previous, mut has_operator) = (None, false);
        loop {
            self.skip_blanks();
            match self.peek() {
                None => return,
                Some(ScriptUnit::Char('#')) => self.comment(),
                Some(ScriptUnit::Char(c)) if is_delimiter(c) => {
                    has_operator |= !matches!(c, '<' | '>');
                    previous = None;
                    if c == '\n' { self.end_line() } else { self.advance() }
                }
                Some(ScriptUnit::InsertedValue | ScriptUnit::Char(_)) => {
                    let word = self.word(false);
                    if word.is_bare && word.prefix == "]]" {
                        return;
                    }
                    if has_operator {
                        self.refuse(word.values.clone(), &ShellFault::BashCondition);
                    }
                    self.check_condition_word(previous.as_ref(), &word);
                    previous = Some(word);
                }
            }
        }
    }

    /// Refuses the operands of arithmetic operators, and names of variables.
    fn check_condition_word(&mut self, previous: Option<&ShellWord>, word: &ShellWord) {
        let Some(previous) = previous else { return };
        let is_arithmetic = |word: &ShellWord| word.is_literal && ARITHMETIC_OPERATORS.contains(&word.prefix.as_str());
        let fault = ShellFault::Executed("[[".to_owned());
        if is_arithmetic(previous) || previous.is_literal && matches!(previous.prefix.as_str(), "-v" | "-R") {
            self.refuse(word.values.clone(), &fault);
        }
        if is_arithmetic(word) {
            self.refuse(previous.values.clone(), &fault);
        }
    }
}
