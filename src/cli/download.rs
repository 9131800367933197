//! What is seen of a download: a bar on a terminal, and now and then a line elsewhere.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::human::bytes;
use crate::session::{DownloadProgress, DownloadReporter};

use super::ui::Ui;

/// Time between two lines where there is no bar, unless a tenth more has come; the first line comes sooner.
const QUIET: Duration = Duration::from_secs(30);
const FIRST: Duration = Duration::from_secs(3);

/// A download as people see it.
pub(super) struct Download<'a> {
    ui: &'a Ui,
    title: String,
    bar: Option<ProgressBar>,
    lines: Mutex<ShownProgress>,
}

/// What the last line said, and when.
struct ShownProgress {
    tenth: u64,
    wait: Duration,
    at: Instant,
}

impl<'a> Download<'a> {
    /// Begins to show the download of something.
    pub(super) fn new(title: &str, ui: &'a Ui) -> Self {
        let lines = Mutex::new(ShownProgress { tenth: 0, wait: FIRST, at: Instant::now() });
        Self { ui, title: title.to_owned(), bar: Self::bar(title, ui), lines }
    }

    fn bar(title: &str, ui: &Ui) -> Option<ProgressBar> {
        if !ui.live || ui.quiet {
            return None;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        style(&bar, "{spinner} {msg}");
        bar.set_message(title.to_owned());
        // Something moves while the first byte is waited for.
        bar.enable_steady_tick(Duration::from_millis(120));
        Some(bar)
    }

    /// A line that stays, also above a bar.
    fn said(&self, text: &str) {
        let text = format!("{}: {text}", self.ui.style.dim("note"));
        match &self.bar {
            Some(bar) => bar.suspend(|| self.ui.say(text)),
            None => self.ui.say(text),
        }
    }

    /// What happens now.
    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => self.ui.say(text),
        }
    }

    fn bytes(&self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            if bar.length() != Some(total) && total > 0 {
                bar.set_length(total);
                style(
                    bar,
                    "{spinner} {msg}\n  {bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left",
                );
            }
            bar.set_position(done);
            return;
        }
        let mut told = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let tenth = done.saturating_mul(10).checked_div(total).unwrap_or(0);
        if done == 0 || (tenth == told.tenth && told.at.elapsed() < told.wait) {
            return;
        }
        *told = ShownProgress { tenth, wait: QUIET, at: Instant::now() };
        let whole = if total == 0 {
            String::new()
        } else {
            format!(" of {} ({}%)", bytes(total), done.saturating_mul(100) / total)
        };
        self.ui.say(format!("  {}{whole}", bytes(done)));
    }
}

/// Gives a bar its form.
fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

impl DownloadReporter for Download<'_> {
    fn progress(&self, progress: &DownloadProgress) {
        match progress {
            DownloadProgress::Bytes { done, total } => self.bytes(*done, *total),
            DownloadProgress::Waiting => self.line("another orch downloads it; waiting for that"),
            DownloadProgress::Source { name, instead } => {
                if let Some(why) = instead {
                    self.said(&format!("{why}; trying {name}"));
                }
                self.line(&format!("downloading {} from {name}", self.title));
            }
            DownloadProgress::Checking => self.line("checking its SHA-256"),
        }
    }
}

impl Drop for Download<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
