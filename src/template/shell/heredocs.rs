//! Heredocs: their delimiters, and their bodies, which begin on a later line.

use super::ValueQuoting;
use super::fault::ShellFault;
use super::scanner::{ScriptScanner, ScriptUnit, is_delimiter};
use super::words::Quoting;

/// A heredoc whose body the scanner has not reached yet.
#[derive(Clone, Debug)]
pub(super) struct PendingHeredoc {
    delimiter: String,
    /// Whether a part of the delimiter is quoted, so the shell expands nothing in the body.
    is_quoted: bool,
    /// Whether the operator is `<<-`, which removes tabs at the start of lines.
    strips_tabs: bool,
    /// The command that runs the body as shell code, if it does.
    pub(super) executed_by: Option<String>,
}

impl ScriptScanner<'_> {
    /// Scans the delimiter of a heredoc after its operator.
    pub(super) fn heredoc_delimiter(&mut self, strips_tabs: bool) {
        if !self.is_at_word() {
            return self.mark_undecidable();
        }
        let mut heredoc = PendingHeredoc { delimiter: String::new(), is_quoted: false, strips_tabs, executed_by: None };
        loop {
            match self.peek() {
                None => break,
                Some(ScriptUnit::InsertedValue) => self.refuse_delimiter_value(),
                Some(ScriptUnit::Char(c)) if is_delimiter(c) => break,
                Some(ScriptUnit::Char(c)) => {
                    self.advance();
                    self.delimiter_part(c, &mut heredoc);
                }
            }
        }
        self.heredocs.push(heredoc);
    }

    fn refuse_delimiter_value(&mut self) {
        self.refuse_value(ShellFault::HeredocDelimiter);
        self.mark_undecidable();
    }

    /// Adds a character, or what a quote contains, to a delimiter. Shells disagree about expansions in it, and about
    /// backslashes and line ends in its quotes.
    fn delimiter_part(&mut self, c: char, heredoc: &mut PendingHeredoc) {
        match c {
            '\'' | '"' => {
                heredoc.is_quoted = true;
                self.delimiter_quotes(c, heredoc);
            }
            '\\' => {
                heredoc.is_quoted = true;
                match self.peek() {
                    None | Some(ScriptUnit::InsertedValue | ScriptUnit::Char('\n')) => self.mark_undecidable(),
                    Some(ScriptUnit::Char(escaped)) => {
                        self.advance();
                        heredoc.delimiter.push(escaped);
                    }
                }
            }
            _ => {
                if matches!(c, '$' | '`') {
                    self.mark_undecidable();
                }
                heredoc.delimiter.push(c);
            }
        }
    }

    fn delimiter_quotes(&mut self, quote: char, heredoc: &mut PendingHeredoc) {
        loop {
            match self.peek() {
                None => return self.mark_undecidable(),
                Some(ScriptUnit::InsertedValue) => self.refuse_delimiter_value(),
                Some(ScriptUnit::Char(c)) => {
                    self.advance();
                    if c == quote {
                        return;
                    }
                    if c == '\n' || (c == '\\' && quote == '"') {
                        self.mark_undecidable();
                    }
                    heredoc.delimiter.push(c);
                }
            }
        }
    }

    /// Scans the body of a heredoc and the line of its delimiter. Without that line, the body is the rest of the text.
    pub(super) fn heredoc_body(&mut self, heredoc: &PendingHeredoc) {
        let body_end = self.heredoc_end(heredoc);
        let outer_end = self.end;
        self.end = body_end.unwrap_or(outer_end);
        if heredoc.is_quoted {
            let fault = heredoc.executed_by.clone().map_or(ShellFault::QuotedHeredoc, ShellFault::Executed);
            self.refuse_until(self.end, &fault);
            self.position.offset = self.end;
        } else {
            let value_quoting = match heredoc.executed_by.clone() {
                Some(command) => ValueQuoting::Refused(ShellFault::Executed(command)),
                None => ValueQuoting::Quoted,
            };
            self.expanded_body(&value_quoting);
        }
        self.end = outer_end;
        if body_end.is_some() {
            let line_length = self.rest().split_inclusive('\n').next().unwrap_or_default().len();
            self.position.offset += line_length;
        }
    }

    /// Scans the body of a heredoc in which the shell expands variables.
    fn expanded_body(&mut self, value_quoting: &ValueQuoting) {
        loop {
            match self.peek() {
                None => return,
                Some(ScriptUnit::InsertedValue) => self.take_value(value_quoting.clone()),
                Some(ScriptUnit::Char('$')) => self.dollar(Quoting::Double),
                Some(ScriptUnit::Char('`')) => self.backticks(),
                Some(ScriptUnit::Char('\\')) => {
                    self.advance();
                    if self.peek() == Some(ScriptUnit::InsertedValue) {
                        self.refuse_value(ShellFault::Escaped);
                    } else {
                        self.skip_escaped();
                    }
                }
                Some(ScriptUnit::Char(_)) => self.advance(),
            }
        }
    }

    /// Returns the offset of the line with the delimiter. Marks the text after it as undecidable if a line continuation
    /// joins the delimiter from several lines.
    fn heredoc_end(&mut self, heredoc: &PendingHeredoc) -> Option<usize> {
        let mut line_start = self.position.offset;
        let mut next_value = self.position.next_value;
        let mut joined_line = String::new();
        let mut is_continued = false;
        for line in self.rest().split_inclusive('\n') {
            let (line_end, is_last) = (line_start + line.len(), !line.ends_with('\n'));
            let text = line.strip_suffix('\n').unwrap_or(line);
            let text = if heredoc.strips_tabs { text.trim_start_matches('\t') } else { text };
            let (mut has_value, mut ends_with_value) = (false, false);
            while let Some(offset) = self.value_offsets.get(next_value)
                && (*offset < line_end || (is_last && *offset == line_end))
            {
                has_value = true;
                ends_with_value = offset + 1 == line_end;
                next_value += 1;
            }
            let backslashes = text.len() - text.trim_end_matches('\\').len();
            let continues = !heredoc.is_quoted && backslashes % 2 == 1 && !is_last && !ends_with_value;
            joined_line.push_str(text);
            if !has_value && !continues && joined_line == heredoc.delimiter {
                if !is_continued {
                    return Some(line_start);
                }
                self.mark_undecidable();
            }
            if continues {
                joined_line.pop();
            } else {
                joined_line.clear();
            }
            is_continued = continues;
            line_start = line_end;
        }
        None
    }
}
