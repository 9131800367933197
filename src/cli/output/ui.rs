//! Writes data to standard output, and messages for people to standard error.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write};
use std::sync::Arc;

use anyhow::Result;
use terminal_size::{Height, Width, terminal_size_of};

use crate::cli::{interrupt, logging};
use crate::diagnostic::{self, Diagnostic};
use crate::durable::{CallProgress, Observer};
use crate::model::visible::escape_line_breaks;
use crate::model::{Event, RunId};
use crate::report::lines::stop_message;
use crate::report::screen::{ScreenTerminal, TerminalSize};
use crate::report::width::{wrap_lines, wrap_row};
use crate::report::{LineReporter, LiveReporter, SuggestedCommands, TerminalStyle, to_printable};
#[cfg(feature = "local")]
use crate::runner::DownloadReporter;
use crate::runner::{CancelHandle, Prompter, Reporter, RunnerError};
use crate::store::ApprovalPrompter;

#[cfg(feature = "local")]
use super::download::DownloadProgressView;
use super::terminal_prompter::TerminalPrompter;
use super::typed_input::{DISCARDED_NOTE, discard_earlier_input};

/// When to colour the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum ColourChoice {
    /// On terminals, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The user interface: writes to the standard streams and asks questions on the terminal.
#[derive(Clone)]
pub(in crate::cli) struct Ui {
    /// The style of texts on standard error.
    pub(in crate::cli) stderr_style: TerminalStyle,
    /// The style of texts on standard output.
    pub(in crate::cli) stdout_style: TerminalStyle,
    /// Whether standard error is a terminal that can redraw lines.
    pub(in crate::cli) can_redraw: bool,
    /// Whether standard error is a terminal.
    stderr_is_terminal: bool,
    /// Whether standard output is a terminal.
    pub(in crate::cli) stdout_is_terminal: bool,
    /// Whether to suppress progress and the summary.
    pub(in crate::cli) quiet: bool,
    /// The suggested commands, with the options of this command line.
    pub(in crate::cli) commands: SuggestedCommands,
}

impl Ui {
    pub(in crate::cli) fn new(colour: ColourChoice) -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let supports_colour = |is_terminal: bool| is_terminal && !is_set("NO_COLOR") && !is_dumb;
        let use_colour = |is_terminal: bool| match colour {
            ColourChoice::Auto => supports_colour(is_terminal),
            ColourChoice::Always => true,
            ColourChoice::Never => false,
        };
        let stderr_is_terminal = std::io::stderr().is_terminal();
        Self {
            stderr_style: TerminalStyle { colour: use_colour(stderr_is_terminal) },
            stdout_style: TerminalStyle { colour: use_colour(std::io::stdout().is_terminal()) },
            can_redraw: stderr_is_terminal && !is_dumb,
            stderr_is_terminal,
            stdout_is_terminal: std::io::stdout().is_terminal(),
            quiet: false,
            commands: SuggestedCommands::default(),
        }
    }

    /// Writes data, such as JSON or a diff. On a terminal, escapes unsafe characters ([`to_printable`]). Elsewhere,
    /// writes the data unchanged.
    pub(in crate::cli) fn write_data(&self, text: &str) -> Result<()> {
        if self.stdout_is_terminal { self.write_preformatted(text) } else { write_out(text.as_bytes()) }
    }

    /// Writes text for people to standard output, with unsafe characters escaped ([`to_printable`]). On a terminal,
    /// wraps lines between words.
    pub(in crate::cli) fn write_text(&self, text: &str) -> Result<()> {
        let text = to_printable(text);
        match self.stdout_width() {
            Some(width) => write_out(wrap_lines(&text, width).as_bytes()),
            None => write_out(text.as_bytes()),
        }
    }

    /// Writes a row of a table for people to standard output. `label` contains the first columns with the spaces after
    /// them, and `text` is the last column. On a terminal, all lines of the text begin in the same column
    /// ([`wrap_row`]).
    pub(in crate::cli) fn write_row(&self, label: &str, text: &str) -> Result<()> {
        write_out(printable_row(label, text, self.stdout_width()).as_bytes())
    }

    /// Writes text for people, such as a drawing, without wrapping its lines.
    #[expect(clippy::unused_self, reason = "only a `Ui` writes to the standard streams")]
    pub(in crate::cli) fn write_preformatted(&self, text: &str) -> Result<()> {
        write_out(to_printable(text).as_bytes())
    }

    /// The width of standard output in columns, if it is a terminal.
    pub(in crate::cli) fn stdout_width(&self) -> Option<usize> {
        self.stdout_is_terminal.then(|| terminal_size_or_default(std::io::stdout()).columns)
    }

    /// The width of standard error in columns, if it is a terminal.
    pub(in crate::cli) fn stderr_width(&self) -> Option<usize> {
        self.stderr_is_terminal.then(|| stderr_size().columns)
    }

    /// Prints a message, unless `--quiet` is set.
    pub(in crate::cli) fn print_message(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.print_always(text.as_ref());
        }
    }

    /// Prints a row of a table as [`Ui::write_row`] writes it, unless `--quiet` is set.
    pub(in crate::cli) fn print_row(&self, label: &str, text: &str) {
        if !self.quiet {
            // Ignore the error: standard error may be closed.
            drop(writeln!(std::io::stderr().lock(), "{}", printable_row(label, text, self.stderr_width())));
        }
    }

    /// Prints a message even if `--quiet` is set.
    pub(in crate::cli) fn print_always(&self, text: &str) {
        // Ignore the error: standard error may be closed.
        drop(writeln!(std::io::stderr().lock(), "{}", self.wrap_for_stderr(&to_printable(text))));
    }

    /// Wraps a text if standard error is a terminal.
    fn wrap_for_stderr<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.stderr_width().map_or(Cow::Borrowed(text), |width| wrap_lines(text, width))
    }

    /// Prints the error of a failed command.
    pub(in crate::cli) fn print_error(&self, error: &RunnerError) {
        self.print_findings(error.findings());
        if !error.message().is_empty() {
            self.print_always(&format!(
                "{} {}",
                self.stderr_style.error("error:"),
                escape_line_breaks(error.message())
            ));
            error.details().iter().for_each(|line| self.print_always(&escape_line_breaks(line)));
        }
        for hint in error.hints() {
            self.print_always(&format!(
                "\n{} {}",
                self.stderr_style.bold("hint:"),
                escape_line_breaks(&self.commands.complete_commands(hint))
            ));
        }
    }

    /// Prints findings with excerpts of their files, and the number of findings.
    pub(in crate::cli) fn print_findings(&self, findings: &[Diagnostic]) {
        if findings.is_empty() {
            return;
        }
        let style = diagnostic::RenderStyle {
            colour: self.stderr_style.colour,
            width: self.stderr_width().unwrap_or(diagnostic::RenderStyle::UNLIMITED_WIDTH),
            ..diagnostic::RenderStyle::default()
        };
        // The renderer escapes unsafe characters itself, so do not escape its colour codes again.
        let text = diagnostic::render_all(findings, style);
        drop(writeln!(std::io::stderr().lock(), "{}", self.wrap_for_stderr(text.trim_end())));
        self.print_always(&format!("\n{}", diagnostic::render_counts(findings)));
    }
}

impl Reporter for Ui {
    fn info(&self, text: &str) {
        self.print_message(text);
    }

    fn note(&self, text: &str) {
        self.print_message(format!("{} {text}", self.stderr_style.warning("note:")));
    }

    fn warning(&self, text: &str) {
        self.print_message(format!("{} {text}", self.stderr_style.warning("warning:")));
    }

    fn problem(&self, text: &str) {
        self.print_always(&format!("{} {text}", self.stderr_style.warning("note:")));
    }

    fn findings(&self, findings: &[Diagnostic]) {
        if !self.quiet {
            Self::print_findings(self, findings);
        }
    }

    /// Returns an observer that redraws live lines on a terminal, and prints plain lines elsewhere.
    fn observer(&self, run: RunId, events: &[Event]) -> Arc<dyn Observer> {
        if self.quiet {
            return Arc::new(QuietObserver);
        }
        if self.can_redraw {
            let terminal = ScreenTerminal { out: Box::new(std::io::stderr()), size: Box::new(stderr_size) };
            let reporter = LiveReporter::new(run, events, self.stderr_style, terminal);
            logging::write_above_live_lines(reporter.line_writer());
            return Arc::new(reporter);
        }
        Arc::new(LineReporter::new(run, events, Box::new(std::io::stderr())))
    }

    fn run_started(&self, _: RunId, cancel: &CancelHandle) {
        interrupt::listen_for_signals(cancel.clone());
    }

    #[cfg(feature = "local")]
    fn download(&self, title: &str) -> Box<dyn DownloadReporter + '_> {
        Box::new(DownloadProgressView::new(title, self))
    }

    fn command_options(&self) -> SuggestedCommands {
        self.commands.clone()
    }
}

impl Prompter for Ui {
    fn confirm(&self, question: &str) -> Option<bool> {
        if !self.can_redraw || !std::io::stdin().is_terminal() {
            return None;
        }
        let note = if discard_earlier_input() { DISCARDED_NOTE } else { "" };
        drop(write!(
            std::io::stderr().lock(),
            "{}",
            self.wrap_for_stderr(&format!("{note}{} [y/N] ", to_printable(question)))
        ));
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).ok()?;
        Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Returns a prompter if the user can answer on the terminal.
    fn approver(&self) -> Option<Arc<dyn ApprovalPrompter>> {
        (self.can_redraw && !self.quiet && std::io::stdin().is_terminal())
            .then(|| Arc::new(TerminalPrompter::default()) as Arc<dyn ApprovalPrompter>)
    }
}

/// A row of a table with unsafe characters escaped, wrapped to the width of a terminal.
fn printable_row(label: &str, text: &str, terminal_width: Option<usize>) -> String {
    let (label, text) = (to_printable(label), to_printable(text));
    match terminal_width {
        Some(width) => wrap_row(&label, &text, width),
        None => format!("{label}{text}").trim_end().to_owned(),
    }
}

/// Writes bytes to standard output. Adds a final line break if there is none.
fn write_out(text: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text)?;
    if !text.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

/// The assumed size of a terminal that does not report its size.
const DEFAULT_SIZE: TerminalSize = TerminalSize { columns: 80, lines: 24 };

/// The size of the terminal of standard error.
pub(super) fn stderr_size() -> TerminalSize {
    terminal_size_or_default(std::io::stderr())
}

#[cfg(unix)]
fn terminal_size_or_default(terminal: impl std::os::fd::AsFd) -> TerminalSize {
    size_or_default(terminal_size_of(terminal))
}

#[cfg(windows)]
fn terminal_size_or_default(terminal: impl std::os::windows::io::AsHandle) -> TerminalSize {
    size_or_default(terminal_size_of(terminal))
}

fn size_or_default(reported: Option<(Width, Height)>) -> TerminalSize {
    match reported {
        Some((Width(columns @ 1..), Height(lines @ 1..))) => {
            TerminalSize { columns: columns.into(), lines: lines.into() }
        }
        Some(_) | None => DEFAULT_SIZE,
    }
}

/// The name of the current user: the default of `--by`.
pub(in crate::cli) fn user_name() -> String {
    let names = ["USER", "LOGNAME", "USERNAME"].iter();
    names
        .filter_map(|name| std::env::var(name).ok())
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Prints the parser's message about the arguments of this process. On a terminal, wraps lines between words.
pub(in crate::cli) fn print_argument_error(error: &clap::Error) {
    let ui = Ui::new(ColourChoice::Auto);
    // The parser wraps its help itself.
    let Some(width) = ui.stderr_width().filter(|_| error.use_stderr()) else {
        // Ignore the error: the reader may have closed the pipe.
        drop(error.print());
        return;
    };
    let message = error.render();
    let text = if ui.stderr_style.colour { message.ansi().to_string() } else { message.to_string() };
    drop(write!(std::io::stderr().lock(), "{}", wrap_lines(&text, width)));
}

/// The message that orch prints when the user stops a run, wrapped between words if standard error is a terminal.
pub(in crate::cli) fn wrapped_stop_message(immediately: bool) -> Cow<'static, str> {
    let message = stop_message(immediately);
    let is_terminal = std::io::stderr().is_terminal();
    if is_terminal { wrap_lines(message, stderr_size().columns) } else { Cow::Borrowed(message) }
}

/// An observer that prints only the stop message.
struct QuietObserver;

impl Observer for QuietObserver {
    fn on_event(&self, _: &Event) {}

    fn on_progress(&self, progress: &CallProgress) {
        if let CallProgress::Stopping { immediately } = progress {
            // Ignore the error: standard error may be closed.
            drop(writeln!(std::io::stderr(), "\n{}", wrapped_stop_message(*immediately)));
        }
    }
}
