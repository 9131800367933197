//! Draws lines on a terminal: permanent lines, and below them live lines that it redraws in place.
//!
//! Between two redraws, the cursor is on the line below the last live line. So when the terminal echoes `^C`, the live
//! lines do not shift.

use std::fmt::Write as _;
use std::io::Write;

use super::width::{display_width, truncate_end, wrap_lines};

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// The number of columns.
    pub columns: usize,
    /// The number of lines.
    pub lines: usize,
}

/// A terminal: its output and its current size.
pub struct ScreenTerminal {
    /// The writer to the terminal.
    pub out: Box<dyn Write + Send>,
    /// Returns the current size.
    pub size: Box<dyn Fn() -> TerminalSize + Send>,
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

    /// The maximum width of a line, in columns. The last column stays empty, because terminals differ in the position
    /// of the cursor after a character in the last column.
    pub(super) fn width(&self) -> usize {
        (self.terminal.size)().columns.saturating_sub(1).max(1)
    }

    /// The maximum number of live lines that the terminal shows.
    pub(super) fn max_live_lines(&self) -> usize {
        (self.terminal.size)().lines.saturating_sub(2).max(1)
    }

    /// Replaces the live lines with permanent lines, and draws new live lines below them. `live_lines` are the first of
    /// `line_count` lines, at least as many as the terminal shows.
    pub(super) fn draw(&mut self, permanent: &str, live_lines: &[String], line_count: usize) {
        let width = self.width();
        let mut text = self.move_to_first_line();
        for line in wrap_lines(permanent, width).lines() {
            let _ = writeln!(text, "{line}\x1b[K");
        }
        let max_lines = self.max_live_lines();
        let has_excess = line_count > max_lines;
        let visible_count = if has_excess { max_lines.saturating_sub(1) } else { live_lines.len() };
        let overflow_line = has_excess.then(|| format!("… {} more", line_count - visible_count));
        self.drawn_widths.clear();
        for line in live_lines.iter().take(visible_count).map(String::as_str).chain(overflow_line.as_deref()) {
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

    /// Returns the escape codes that move the cursor to the first live line. If the terminal has become narrower, a
    /// line may take several rows.
    fn move_to_first_line(&self) -> String {
        let terminal_columns = (self.terminal.size)().columns.max(1);
        let rows: usize = self.drawn_widths.iter().map(|width| width.div_ceil(terminal_columns).max(1)).sum();
        if rows == 0 { "\r".to_owned() } else { format!("\r\x1b[{rows}A") }
    }

    /// Writes a text unchanged.
    pub(super) fn write_raw(&mut self, text: &str) {
        // Ignore errors, because a closed terminal must not stop the run.
        drop(self.terminal.out.write_all(text.as_bytes()).and_then(|()| self.terminal.out.flush()));
    }
}
