//! Draws lines on a terminal: permanent lines, and below them live lines, which it redraws in place.
//!
//! Between two redraws, the cursor is on the line below the last live line. If the terminal itself writes there, such
//! as `^C`, this does not shift the live lines.

use std::fmt::Write as _;
use std::io::Write;

use super::width::{display_width, truncate_end, wrap_lines};

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

/// A terminal with permanent lines, and live lines below them.
pub(super) struct Screen {
    terminal: ScreenTerminal,
    /// The widths of the live lines on the terminal, in columns.
    drawn_widths: Vec<usize>,
}

impl Screen {
    pub(super) fn new(terminal: ScreenTerminal) -> Self {
        Self { terminal, drawn_widths: Vec::new() }
    }

    /// The maximum width of a line. The last column stays empty: after a character in it, a terminal wraps the line
    /// only before the next character, so the position of the cursor would be unclear.
    pub(super) fn width(&self) -> usize {
        (self.terminal.size)().columns.saturating_sub(1).max(1)
    }

    /// Draws permanent lines, and below them live lines in place of the earlier live lines.
    pub(super) fn draw(&mut self, permanent: &str, live_lines: &[String]) {
        let (width, lines) = (self.width(), (self.terminal.size)().lines);
        let mut text = self.move_to_first_line();
        for line in wrap_lines(permanent, width).lines() {
            let _ = writeln!(text, "{line}\x1b[K");
        }
        let max_lines = lines.saturating_sub(2).max(1);
        let excess = live_lines.len().saturating_sub(max_lines);
        let visible = if excess > 0 { max_lines.saturating_sub(1) } else { live_lines.len() };
        let more = (excess > 0).then(|| format!("… {} more", live_lines.len() - visible));
        self.drawn_widths.clear();
        for line in live_lines.iter().take(visible).map(String::as_str).chain(more.as_deref()) {
            let line = truncate_end(line, width);
            self.drawn_widths.push(display_width(&line));
            let _ = writeln!(text, "{line}\x1b[K");
        }
        text.push_str("\x1b[J");
        self.write_raw(&text);
    }

    /// Removes the live lines.
    pub(super) fn clear(&mut self) {
        if self.drawn_widths.is_empty() {
            return;
        }
        let text = format!("{}\x1b[J", self.move_to_first_line());
        self.drawn_widths.clear();
        self.write_raw(&text);
    }

    /// The escape codes that move the cursor to the first live line. If the terminal has become narrower, each line
    /// may take up several rows.
    fn move_to_first_line(&self) -> String {
        let terminal_columns = (self.terminal.size)().columns.max(1);
        let rows: usize = self.drawn_widths.iter().map(|width| width.div_ceil(terminal_columns).max(1)).sum();
        if rows == 0 { "\r".to_owned() } else { format!("\r\x1b[{rows}A") }
    }

    /// Writes a text without changing it.
    pub(super) fn write_raw(&mut self, text: &str) {
        // orch ignores errors, since a closed terminal must not stop the run.
        drop(self.terminal.out.write_all(text.as_bytes()).and_then(|()| self.terminal.out.flush()));
    }
}
