//! The part of a terminal that is redrawn: moving lines below permanent ones.
//!
//! The cursor rests on the line below the last one, so that output of the terminal itself, such as `^C`, shifts
//! nothing.

use std::fmt::Write as _;
use std::io::Write;

use super::width::{columns, fitted, wrapped};

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: usize,
    /// Lines.
    pub lines: usize,
}

/// A terminal: its output and its current size.
pub struct ScreenTerminal {
    /// The output.
    pub out: Box<dyn Write + Send>,
    /// Returns the current size.
    pub size: Box<dyn Fn() -> Size + Send>,
}

/// Permanent lines, and moving lines below them.
pub(super) struct Screen {
    terminal: ScreenTerminal,
    /// The widths of the moving lines on the terminal, in columns.
    drawn: Vec<usize>,
}

impl Screen {
    pub(super) fn new(terminal: ScreenTerminal) -> Self {
        Self { terminal, drawn: Vec::new() }
    }

    /// The maximum width of a line. The last column stays empty: when it is filled, terminals wrap only before the next
    /// character.
    pub(super) fn width(&self) -> usize {
        (self.terminal.size)().columns.saturating_sub(1).max(1)
    }

    /// Draws permanent lines, and below them the moving lines that replace the earlier ones.
    pub(super) fn draw(&mut self, stay: &str, moving: &[String]) {
        let (width, lines) = (self.width(), (self.terminal.size)().lines);
        let mut text = self.back();
        for line in wrapped(stay, width).lines() {
            let _ = writeln!(text, "{line}\x1b[K");
        }
        let most = lines.saturating_sub(2).max(1);
        let over = moving.len().saturating_sub(most);
        let shown = if over > 0 { most.saturating_sub(1) } else { moving.len() };
        let more = (over > 0).then(|| format!("… {} more", moving.len() - shown));
        self.drawn.clear();
        for line in moving.iter().take(shown).map(String::as_str).chain(more.as_deref()) {
            let line = fitted(line, width);
            self.drawn.push(columns(&line));
            let _ = writeln!(text, "{line}\x1b[K");
        }
        text.push_str("\x1b[J");
        self.put(&text);
    }

    /// Removes the moving lines.
    pub(super) fn clear(&mut self) {
        if self.drawn.is_empty() {
            return;
        }
        let text = format!("{}\x1b[J", self.back());
        self.drawn.clear();
        self.put(&text);
    }

    /// The escape codes that move the cursor to the first moving line. If the terminal has become narrower, each line
    /// may take up several rows.
    fn back(&self) -> String {
        let columns = (self.terminal.size)().columns.max(1);
        let lines: usize = self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum();
        if lines == 0 { "\r".to_owned() } else { format!("\r\x1b[{lines}A") }
    }

    /// Writes a text unchanged.
    pub(super) fn put(&mut self, text: &str) {
        // Errors are ignored: a terminal that was closed must not stop the run.
        drop(self.terminal.out.write_all(text.as_bytes()).and_then(|()| self.terminal.out.flush()));
    }
}
