//! Expansions: what begins with `$` or a backtick, and arithmetic.

use super::fault::ShellFault;
use super::lists::{ListClose, ListEnd};
use super::scanner::{ScriptScanner, ScriptUnit};
use super::words::Quoting;

impl ScriptScanner<'_> {
    /// Scans a `$` and the expansion that it begins.
    pub(super) fn dollar(&mut self, quoting: Quoting) {
        self.nested(|scanner| scanner.expansion(quoting));
    }

    fn expansion(&mut self, quoting: Quoting) {
        self.advance();
        match self.peek() {
            None => {}
            Some(ScriptUnit::InsertedValue) => self.refuse_value(ShellFault::AfterDollar),
            Some(ScriptUnit::Char('(')) => {
                self.advance();
                if !self.eat_arithmetic() {
                    self.substitution("$(");
                }
            }
            Some(ScriptUnit::Char('{')) => {
                self.advance();
                self.parameter(quoting);
            }
            Some(ScriptUnit::Char('[')) => {
                self.advance();
                self.old_arithmetic();
            }
            Some(ScriptUnit::Char('\'')) if quoting == Quoting::None => self.ansi_quotes(),
            Some(ScriptUnit::Char('\\')) if self.looking_at("\\\n") => self.mark_undecidable(),
            // These characters are names of parameters. A `#` would otherwise begin a comment, and a `$` an expansion.
            Some(ScriptUnit::Char('#' | '?' | '!' | '*' | '@' | '-' | '$' | '0'..='9')) => self.advance(),
            Some(ScriptUnit::Char(_)) => {}
        }
    }

    /// Scans the commands after `$(`, `<(` or `>(`, up to the `)`.
    pub(super) fn substitution(&mut self, opening: &'static str) {
        let first_value = self.position.next_value;
        let close = self.inner_commands(ListEnd::Parenthesis);
        if close == ListClose::EndOfText {
            self.report_unterminated(first_value, opening);
        }
    }

    /// Scans commands in a substitution. Shells disagree about heredocs that begin inside and end outside, or the other
    /// way round.
    fn inner_commands(&mut self, list_end: ListEnd) -> ListClose {
        let outer_heredocs = std::mem::take(&mut self.heredocs);
        let (had_outer_heredocs, was_in_substitution) = (self.has_outer_heredocs, self.is_in_substitution);
        // Bash 5.2 loses a `;` after a heredoc only inside the same substitution.
        let outer_had_heredoc = self.substitution_had_heredoc;
        self.has_outer_heredocs |= !outer_heredocs.is_empty();
        self.is_in_substitution = true;
        let close = self.commands(list_end);
        if !self.heredocs.is_empty() {
            self.mark_undecidable();
        }
        self.heredocs = outer_heredocs;
        (self.has_outer_heredocs, self.is_in_substitution) = (had_outer_heredocs, was_in_substitution);
        self.substitution_had_heredoc = outer_had_heredoc;
        close
    }

    /// Scans the content of backticks. A shell first looks for the closing backtick, then removes backslashes, and then
    /// reads the rest as commands.
    pub(super) fn backticks(&mut self) {
        self.advance();
        let Some(length) = backticks_length(self.rest()) else { return self.skip_rest() };
        let content_end = self.position.offset + length;
        let content = self.rest().get(..length).unwrap_or_default();
        if content.contains(['\\', '#']) || content.contains("<<") {
            self.refuse_until(content_end, &ShellFault::Backticks);
        } else {
            let outer_end = std::mem::replace(&mut self.end, content_end);
            self.inner_commands(ListEnd::Script);
            self.end = outer_end;
        }
        self.position.offset = content_end + 1;
    }

    /// Scans `(…))` after a `(` as arithmetic. Returns false and stays there if the text is no arithmetic.
    pub(super) fn eat_arithmetic(&mut self) -> bool {
        let (start, was_undecidable) = (self.position, self.is_undecidable);
        if !self.eat("(") {
            return false;
        }
        let is_arithmetic = self.arithmetic();
        if !is_arithmetic {
            self.is_undecidable = was_undecidable;
            self.go_back(start);
        }
        is_arithmetic
    }

    /// Scans an arithmetic expression up to its `))`. Returns false if it ends in another way.
    fn arithmetic(&mut self) -> bool {
        let (mut open_parentheses, mut is_ambiguous) = (0_usize, false);
        loop {
            match self.peek() {
                None => return false,
                Some(ScriptUnit::InsertedValue) => self.refuse_value(ShellFault::Arithmetic),
                Some(ScriptUnit::Char(')')) if open_parentheses == 0 => break,
                Some(ScriptUnit::Char(c)) => match c {
                    '(' => {
                        open_parentheses += 1;
                        self.advance();
                    }
                    ')' => {
                        open_parentheses -= 1;
                        self.advance();
                    }
                    // Shells disagree about the meaning of this character, and so about the following parentheses.
                    '\'' => {
                        is_ambiguous = true;
                        self.advance();
                    }
                    '"' => {
                        let start = self.position.offset;
                        self.skip_quotes(c);
                        let quoted = self.text.get(start..self.position.offset).unwrap_or_default();
                        is_ambiguous |= quoted.contains(['(', ')', '\\']);
                    }
                    _ => {
                        is_ambiguous |= c == '\\';
                        self.skip_expression_part(c, Quoting::Double);
                    }
                },
            }
        }
        let is_arithmetic = self.eat("))");
        if is_arithmetic && is_ambiguous {
            self.mark_undecidable();
        }
        is_arithmetic
    }

    /// Scans `$[…]`, an obsolete form of arithmetic in bash. To dash it is text.
    fn old_arithmetic(&mut self) {
        let mut open_brackets = 1_usize;
        while open_brackets > 0 {
            match self.peek() {
                None | Some(ScriptUnit::Char('\n')) => return self.mark_undecidable(),
                Some(ScriptUnit::InsertedValue) => self.refuse_value(ShellFault::Arithmetic),
                Some(ScriptUnit::Char('$')) => self.dollar(Quoting::Double),
                Some(ScriptUnit::Char(c)) => {
                    if "'\"`\\#;&|<>(){}".contains(c) {
                        self.mark_undecidable();
                    }
                    open_brackets += usize::from(c == '[');
                    open_brackets -= usize::from(c == ']');
                    self.advance();
                }
            }
        }
    }

    /// Scans `$'…'` from its quote.
    fn ansi_quotes(&mut self) {
        let first_value = self.position.next_value;
        self.advance();
        loop {
            match self.peek() {
                None => return self.report_unterminated(first_value, "$'"),
                Some(ScriptUnit::InsertedValue) => self.refuse_value(ShellFault::AnsiQuotes),
                Some(ScriptUnit::Char('\'')) => return self.advance(),
                Some(ScriptUnit::Char('\\')) => {
                    self.advance();
                    // The quote ends here, unless the shell knows `$'…'`.
                    if self.is_at('\'') {
                        self.mark_undecidable();
                    }
                    self.skip_escaped();
                }
                Some(ScriptUnit::Char(_)) => self.advance(),
            }
        }
    }

    /// Scans `${…}` after its brace, and refuses all values in it: an operator may take them as a pattern, and shells
    /// disagree about quotes in it.
    fn parameter(&mut self, quoting: Quoting) {
        let first_value = self.position.next_value;
        // Bash 5.3 runs commands after such a character.
        if matches!(self.peek(), Some(ScriptUnit::Char(' ' | '\t' | '\n' | '|'))) {
            self.mark_undecidable();
        }
        let has_pattern = matches!(parameter_operator(self.rest()), Some('#' | '%'));
        loop {
            match self.peek() {
                None => return self.report_unterminated(first_value, "${"),
                Some(ScriptUnit::InsertedValue) => self.refuse_value(ShellFault::ParameterExpansion),
                Some(ScriptUnit::Char('}')) => break,
                Some(ScriptUnit::Char('\'')) if quoting == Quoting::Double && !has_pattern => self.literal_quote(),
                Some(ScriptUnit::Char(c)) => {
                    let start = self.position.offset;
                    self.skip_expression_part(c, quoting);
                    let part = self.text.get(start..self.position.offset).unwrap_or_default();
                    if c == '"' && quoting == Quoting::Double && part.contains('}') {
                        self.mark_undecidable();
                    }
                }
            }
        }
        self.advance();
        self.refuse_since(first_value, &ShellFault::ParameterExpansion);
    }

    /// Scans a `'` in `"${NAME:-…}"`, which is a quote to some shells and a character to others. The difference does
    /// not matter if only plain text is between two such `'`.
    fn literal_quote(&mut self) {
        self.advance();
        let rest = self.rest();
        let quoted = rest.split_once('\'').map(|(quoted, _)| quoted);
        let Some(quoted) = quoted.filter(|quoted| !quoted.contains(['}', '"', '`', '$', '\\', '\n'])) else {
            return self.mark_undecidable();
        };
        let quoted_end = self.position.offset + quoted.len();
        self.refuse_until(quoted_end, &ShellFault::ParameterExpansion);
        self.position.offset = quoted_end + 1;
    }
}

/// The length of the content of backticks, up to the closing one.
fn backticks_length(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'`' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

/// `text` follows the `${`. Returns the character after the parameter's name, or after a `:` that follows it. This is
/// `}` if there is no operator. Returns `None` if the `:` begins an offset, as in `${x:1}`, or if the text ends.
fn parameter_operator(text: &str) -> Option<char> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let prefixed = text.strip_prefix(['#', '!']).filter(|rest| rest.starts_with(is_name)).unwrap_or(text);
    let after_name = prefixed.trim_start_matches(is_name);
    let after_parameter = if after_name.len() == prefixed.len() {
        prefixed.strip_prefix(['@', '*', '#', '?', '$', '!', '-']).unwrap_or(prefixed)
    } else {
        after_name
    };
    let mut chars = after_parameter.chars();
    match chars.next()? {
        ':' => chars.next().filter(|c| matches!(c, '-' | '=' | '+' | '?')),
        operator => Some(operator),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_of_an_expansion_follows_its_parameter() {
        for (text, operator) in [
            ("x}", Some('}')),
            ("x:-a}", Some('-')),
            ("x-a}", Some('-')),
            ("x#a}", Some('#')),
            ("#x}", Some('}')),
            ("#}", Some('}')),
            ("##a}", Some('#')),
            ("1%a}", Some('%')),
            ("@:1}", None),
            ("x/a/b}", Some('/')),
            ("", None),
        ] {
            assert_eq!(parameter_operator(text), operator, "{text}");
        }
    }
}
