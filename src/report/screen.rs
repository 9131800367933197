//! The end of a terminal that moves: lines that are drawn again and again below those that stay.
//!
//! The cursor waits in the line below the last, so that what the terminal itself writes there, such as `^C`, moves
//! nothing.

use std::fmt::Write as _;
use std::io::Write;

use super::width::{columns, fitted, wrapped};

/// How many columns and lines a terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: usize,
    /// Lines.
    pub lines: usize,
}

/// Where the lines of a screen go, and how large it is now.
pub struct ScreenTerminal {
    /// Where to.
    pub out: Box<dyn Write + Send>,
    /// How large.
    pub size: Box<dyn Fn() -> Size + Send>,
}

/// Lines that stay, and lines that move below them.
pub(super) struct Screen {
    terminal: ScreenTerminal,
    /// The widths of the moving lines that are drawn.
    drawn: Vec<usize>,
}

impl Screen {
    pub(super) fn new(terminal: ScreenTerminal) -> Self {
        Self { terminal, drawn: Vec::new() }
    }

    /// The columns that a line may take. The last column stays free: a terminal that filled it waits with the next line.
    pub(super) fn width(&self) -> usize {
        (self.terminal.size)().columns.saturating_sub(1).max(1)
    }

    /// Draws printed lines that stay, and below them the moving lines in place of those that were drawn before.
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

    /// Takes the moving lines away.
    pub(super) fn clear(&mut self) {
        if self.drawn.is_empty() {
            return;
        }
        let text = format!("{}\x1b[J", self.back());
        self.drawn.clear();
        self.put(&text);
    }

    /// Leads to the first moving line. On a terminal that became narrower since, they take more lines.
    fn back(&self) -> String {
        let columns = (self.terminal.size)().columns.max(1);
        let lines: usize = self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum();
        if lines == 0 { "\r".to_owned() } else { format!("\r\x1b[{lines}A") }
    }

    /// Writes a text as it is.
    pub(super) fn put(&mut self, text: &str) {
        // A terminal that went away must not stop the run.
        drop(self.terminal.out.write_all(text.as_bytes()).and_then(|()| self.terminal.out.flush()));
    }
}
