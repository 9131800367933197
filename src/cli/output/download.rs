//! Shows the progress of a download: a progress bar on a terminal, and an occasional line elsewhere.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::human::format_bytes;
use crate::runner::{DownloadProgress, DownloadReporter};

use super::ui::Ui;

/// The time after which orch prints another line, if there is no progress bar. orch also prints a line when another
/// tenth of the file has arrived.
const LINE_INTERVAL: Duration = Duration::from_secs(30);
/// The time after which orch prints the first line.
const FIRST_LINE_DELAY: Duration = Duration::from_secs(3);

/// Shows one download.
pub(in crate::cli) struct DownloadProgressView<'a> {
    ui: &'a Ui,
    title: String,
    bar: Option<ProgressBar>,
    last_line: Mutex<PrintedLine>,
}

/// The last line that orch printed.
struct PrintedLine {
    /// The number of tenths of the file that had arrived.
    tenths: u64,
    printed_at: Instant,
    /// The time after which orch prints the next line.
    interval: Duration,
}

impl<'a> DownloadProgressView<'a> {
    /// Starts to show a download.
    pub(in crate::cli) fn new(title: &str, ui: &'a Ui) -> Self {
        let last_line = PrintedLine { tenths: 0, printed_at: Instant::now(), interval: FIRST_LINE_DELAY };
        Self { ui, title: title.to_owned(), bar: Self::create_bar(title, ui), last_line: Mutex::new(last_line) }
    }

    fn create_bar(title: &str, ui: &Ui) -> Option<ProgressBar> {
        if !ui.can_redraw || ui.quiet {
            return None;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        set_template(&bar, "{spinner} {msg}");
        bar.set_message(title.to_owned());
        // Keep the spinner moving while orch waits for the first byte.
        bar.enable_steady_tick(Duration::from_millis(120));
        Some(bar)
    }

    /// Prints a permanent line. If there is a progress bar, the line is above it.
    fn print_note(&self, text: &str) {
        let text = format!("{}: {text}", self.ui.stderr_style.dim("note"));
        match &self.bar {
            Some(bar) => bar.suspend(|| self.ui.print_message(text)),
            None => self.ui.print_message(text),
        }
    }

    /// Prints the current activity. If there is a progress bar, the activity becomes its message.
    fn print_activity(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => self.ui.print_message(text),
        }
    }

    fn print_bytes(&self, received: u64, total: u64) {
        if let Some(bar) = &self.bar {
            if bar.length() != Some(total) && total > 0 {
                bar.set_length(total);
                set_template(
                    bar,
                    "{spinner} {msg}\n  {bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left",
                );
            }
            bar.set_position(received);
            return;
        }
        let mut last_line = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        let tenths = received.saturating_mul(10).checked_div(total).unwrap_or(0);
        if received == 0 || (tenths == last_line.tenths && last_line.printed_at.elapsed() < last_line.interval) {
            return;
        }
        *last_line = PrintedLine { tenths, printed_at: Instant::now(), interval: LINE_INTERVAL };
        let total_text = if total == 0 {
            String::new()
        } else {
            format!(" of {} ({}%)", format_bytes(total), received.saturating_mul(100) / total)
        };
        self.ui.print_message(format!("  {}{total_text}", format_bytes(received)));
    }
}

/// Sets the template of a progress bar. An invalid template has no effect.
fn set_template(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

impl DownloadReporter for DownloadProgressView<'_> {
    fn progress(&self, progress: &DownloadProgress) {
        match progress {
            DownloadProgress::Bytes { downloaded, total } => self.print_bytes(*downloaded, *total),
            DownloadProgress::Waiting => {
                self.print_activity("another orch process is downloading this file; waiting for it");
            }
            DownloadProgress::Source { name, previous_failure } => {
                if let Some(reason) = previous_failure {
                    self.print_note(&format!("{reason}; trying {name}"));
                }
                self.print_activity(&format!("downloading {} from {name}", self.title));
            }
            DownloadProgress::Verifying => self.print_activity("verifying the SHA-256 digest"),
        }
    }
}

impl Drop for DownloadProgressView<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
