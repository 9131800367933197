//! Writes the text of a page, with one space in place of all white space between words.

/// The maximum number of spaces before a list item.
const MAX_INDENTATION: usize = 20;

/// The text so far, and the white space before the next word.
#[derive(Default)]
pub(super) struct TextWriter {
    text: String,
    pending_lines: usize,
    has_pending_space: bool,
    list_depth: usize,
    /// Whether the text is in a code block, which keeps its white space.
    is_code_block: bool,
}

impl TextWriter {
    /// Adds text.
    pub(super) fn push_text(&mut self, text: &str) {
        if self.is_code_block {
            self.text.push_str(text);
            return;
        }
        for c in text.chars() {
            if c.is_whitespace() {
                self.has_pending_space = true;
            } else {
                self.flush();
                self.text.push(c);
            }
        }
    }

    /// Adds a mark before or after a word, such as a backtick. Adds nothing in a code block, where the mark would
    /// become a part of the code.
    pub(super) fn push_inline_mark(&mut self, mark: &str) {
        if !self.is_code_block {
            self.flush();
            self.text.push_str(mark);
        }
    }

    /// Begins a new line before the next word; with `count` 2, also inserts an empty line.
    pub(super) fn break_lines(&mut self, count: usize) {
        if !self.is_code_block {
            self.pending_lines = self.pending_lines.max(count);
        }
    }

    /// Begins or ends a list, which may be nested in another list.
    pub(super) fn change_list_depth(&mut self, is_end: bool) {
        self.list_depth = if is_end { self.list_depth.saturating_sub(1) } else { self.list_depth + 1 };
    }

    /// Begins an item of a list.
    pub(super) fn begin_item(&mut self) {
        self.break_lines(1);
        self.flush();
        let indentation = (self.list_depth.saturating_sub(1) * 2).min(MAX_INDENTATION);
        self.text.push_str(&" ".repeat(indentation));
        self.text.push_str("- ");
    }

    /// Begins a block of code.
    pub(super) fn begin_code_block(&mut self) {
        self.flush();
        if !self.is_code_block {
            self.text.push_str("```\n");
        }
        self.is_code_block = true;
    }

    /// Ends a block of code.
    pub(super) fn end_code_block(&mut self) {
        if std::mem::take(&mut self.is_code_block) {
            if !self.text.ends_with('\n') {
                self.text.push('\n');
            }
            self.text.push_str("```");
            self.pending_lines = 2;
        }
    }

    /// Writes the white space before the next word.
    fn flush(&mut self) {
        if self.pending_lines > 0 {
            if !self.text.is_empty() {
                self.text.push_str(&"\n".repeat(self.pending_lines));
            }
        } else if self.has_pending_space && !self.text.is_empty() && !self.text.ends_with([' ', '\n']) {
            self.text.push(' ');
        }
        (self.pending_lines, self.has_pending_space) = (0, false);
    }

    /// Returns the text, with a line break at its end.
    pub(super) fn finish(mut self) -> String {
        self.end_code_block();
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text
    }
}
