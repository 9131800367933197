//! The terminal: what is data goes to standard output, what is for people to standard error.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use terminal_size::{Height, Width, terminal_size_of};

use crate::diagnostic::{self, Diagnostic};
use crate::durable::{CallProgress, Observer};
use crate::model::event::ApprovalDecision;
use crate::model::visible::{one_line, visible};
use crate::model::{Event, RunId, StepKey};
use crate::report::lines::stopping;
use crate::report::screen::{ScreenTerminal as Screen, Size};
use crate::report::width::wrapped;
use crate::report::{LineReport, Live, PrintedCommands, TerminalStyle, printable};
use crate::store::ApprovalPrompter;

#[cfg(feature = "local")]
use crate::session::DownloadReporter;
use crate::session::{CancelHandle, Prompter, Reporter, SessionError};

#[cfg(feature = "local")]
use super::download::Download;
use super::interrupt;

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Colour {
    /// On terminals, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The two streams of the program.
#[derive(Clone)]
pub(super) struct Ui {
    /// Colours for standard error.
    pub(super) style: TerminalStyle,
    /// Colours for standard output.
    pub(super) out_style: TerminalStyle,
    /// Whether standard error is a terminal that can draw.
    pub(super) live: bool,
    /// Whether standard error is a terminal.
    err_terminal: bool,
    /// Whether standard output is a terminal.
    pub(super) out_terminal: bool,
    /// Whether progress and the summary are left out.
    pub(super) quiet: bool,
    /// The options that the commands in messages need.
    pub(super) commands: PrintedCommands,
}

impl Ui {
    pub(super) fn new(colour: Colour) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let auto = |terminal: bool| terminal && !set("NO_COLOR") && !dumb;
        let on = |terminal: bool| match colour {
            Colour::Auto => auto(terminal),
            Colour::Always => true,
            Colour::Never => false,
        };
        let err_terminal = std::io::stderr().is_terminal();
        Self {
            style: TerminalStyle { colour: on(err_terminal) },
            out_style: TerminalStyle { colour: on(std::io::stdout().is_terminal()) },
            live: err_terminal && !dumb,
            err_terminal,
            out_terminal: std::io::stdout().is_terminal(),
            quiet: false,
            commands: PrintedCommands::default(),
        }
    }

    /// Writes data, such as JSON or a diff: into a pipe as it is, on a terminal so that nothing of it steers that.
    pub(super) fn data(&self, text: &str) -> Result<(), SessionError> {
        if self.out_terminal { self.drawn(text) } else { write_out(text.as_bytes()) }
    }

    /// Writes text for people to standard output: what others wrote is made visible, also in a pipe. On a terminal its
    /// lines break between words.
    pub(super) fn text(&self, text: &str) -> Result<(), SessionError> {
        let text = printable(text);
        match self.out_width() {
            Some(width) => write_out(wrapped(&text, width).as_bytes()),
            None => write_out(text.as_bytes()),
        }
    }

    /// The same of what has its lines for a reason, such as a picture.
    #[expect(clippy::unused_self, reason = "who has no `Ui` writes nothing")]
    pub(super) fn drawn(&self, text: &str) -> Result<(), SessionError> {
        write_out(printable(text).as_bytes())
    }

    /// The columns of standard output, if it is a terminal.
    pub(super) fn out_width(&self) -> Option<usize> {
        self.out_terminal.then(|| size_of(std::io::stdout()).columns)
    }

    /// The columns of standard error, if it is a terminal.
    pub(super) fn err_width(&self) -> Option<usize> {
        self.err_terminal.then(|| stderr_size().columns)
    }

    /// Says something to the person.
    pub(super) fn say(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.always(text.as_ref());
        }
    }

    /// Says something to the person even under `--quiet`.
    pub(super) fn always(&self, text: &str) {
        // Nobody to tell that nobody listens.
        drop(writeln!(std::io::stderr().lock(), "{}", self.broken(&printable(text))));
    }

    /// A text for standard error, in lines that fit if it is a terminal.
    fn broken<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.err_width().map_or(Cow::Borrowed(text), |width| wrapped(text, width))
    }

    /// Shows a failed command.
    pub(super) fn error(&self, error: &SessionError) {
        self.findings(error.findings());
        if !error.message().is_empty() {
            self.always(&format!("{} {}", self.style.bad("error:"), one_line(error.message())));
            error.details().iter().for_each(|line| self.always(&one_line(line)));
        }
        for hint in error.hints() {
            self.always(&format!("\n{} {}", self.style.strong("hint:"), one_line(&self.commands.complete(hint))));
        }
    }

    /// Shows findings with carets, and how many there were.
    pub(super) fn findings(&self, findings: &[Diagnostic]) {
        if findings.is_empty() {
            return;
        }
        let mut style = diagnostic::RenderStyle { colour: self.style.colour, ..diagnostic::RenderStyle::default() };
        style.width = self.err_width().unwrap_or(style.width);
        // Its colours are ours; what it shows of files and messages is made visible by the renderer.
        let text = diagnostic::render_all(findings, style);
        drop(writeln!(std::io::stderr().lock(), "{}", self.broken(text.trim_end())));
        self.always(&format!("\n{}", diagnostic::summary(findings)));
    }
}

impl Reporter for Ui {
    fn info(&self, text: &str) {
        self.say(text);
    }

    fn note(&self, text: &str) {
        self.say(format!("{} {text}", self.style.warn("note:")));
    }

    fn warning(&self, text: &str) {
        self.say(format!("{} {text}", self.style.warn("warning:")));
    }

    fn problem(&self, text: &str) {
        self.always(&format!("{} {text}", self.style.warn("note:")));
    }

    fn findings(&self, findings: &[Diagnostic]) {
        if !self.quiet {
            Self::findings(self, findings);
        }
    }

    /// Lines, or something livelier on a terminal.
    fn observer(&self, run: RunId, events: &[Event]) -> Arc<dyn Observer> {
        if self.quiet {
            return Arc::new(Quiet);
        }
        if self.live {
            let terminal = Screen { out: Box::new(std::io::stderr()), size: Box::new(stderr_size) };
            return Arc::new(Live::new(run, events, self.style, terminal));
        }
        Arc::new(LineReport::new(run, events, Box::new(std::io::stderr())))
    }

    fn run_started(&self, _: RunId, cancel: &CancelHandle) {
        interrupt::listen(cancel.clone());
    }

    #[cfg(feature = "local")]
    fn download(&self, title: &str) -> Box<dyn DownloadReporter + '_> {
        Box::new(Download::new(title, self))
    }

    fn commands(&self) -> PrintedCommands {
        self.commands.clone()
    }
}

impl Prompter for Ui {
    fn confirm(&self, question: &str) -> Option<bool> {
        if !self.live || !std::io::stdin().is_terminal() {
            return None;
        }
        drop(write!(std::io::stderr().lock(), "{}", self.broken(&format!("{} [y/N] ", printable(question)))));
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).ok()?;
        Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// The person in front of the terminal.
    fn approver(&self) -> Option<Arc<dyn ApprovalPrompter>> {
        (self.live && !self.quiet && std::io::stdin().is_terminal())
            .then(|| Arc::new(TerminalPrompter::default()) as Arc<dyn ApprovalPrompter>)
    }
}

/// Writes bytes, which end with a line end after this.
fn write_out(text: &[u8]) -> Result<(), SessionError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text)?;
    if !text.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

/// Asks on the terminal: yes, no with a note, or later.
#[derive(Default)]
struct TerminalPrompter {
    /// One question at a time.
    turn: Arc<Mutex<()>>,
}

impl ApprovalPrompter for TerminalPrompter {
    fn ask(&self, step: StepKey, shown: String) -> BoxFuture<'static, Option<ApprovalDecision>> {
        let (send, asked) = tokio::sync::oneshot::channel();
        // A thread of its own: the runtime would wait at its end for one that waits for a person.
        let turn = self.turn.clone();
        std::thread::spawn(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody waits for the answer any more after Ctrl-C.
            drop(send.send(ask_on_terminal(&step, &shown)));
        });
        async move { asked.await.ok().flatten() }.boxed()
    }
}

/// The size of a terminal that does not tell its own.
const SIZE: Size = Size { columns: 80, lines: 24 };

/// The size of the terminal of standard error.
fn stderr_size() -> Size {
    size_of(std::io::stderr())
}

#[cfg(unix)]
fn size_of(terminal: impl std::os::fd::AsFd) -> Size {
    size(terminal_size_of(terminal))
}

#[cfg(windows)]
fn size_of(terminal: impl std::os::windows::io::AsHandle) -> Size {
    size(terminal_size_of(terminal))
}

fn size(told: Option<(Width, Height)>) -> Size {
    match told {
        Some((Width(columns @ 1..), Height(lines @ 1..))) => Size { columns: columns.into(), lines: lines.into() },
        Some(_) | None => SIZE,
    }
}

/// Asks and waits for a line; `None` for later.
fn ask_on_terminal(step: &StepKey, shown: &str) -> Option<ApprovalDecision> {
    let shown = visible(shown);
    let question = format!("\n{step} asks:\n\n{shown}\n\napprove? [y]es, [n]o, anything else for later: ");
    // Nobody to tell that nobody listens.
    drop(std::io::stderr().lock().write_all(wrapped(&question, stderr_size().columns).as_bytes()));
    let approved = match line()?.to_ascii_lowercase().as_str() {
        "y" | "yes" => true,
        "n" | "no" => false,
        _ => return None,
    };
    drop(std::io::stderr().lock().write_all(b"note (may be empty): "));
    let (note, by) = (line()?, user());
    Some(ApprovalDecision { approved, note, by, at: jiff::Timestamp::now() })
}

/// A line of what the person types; `None` at the end of input.
fn line() -> Option<String> {
    let mut text = String::new();
    let count = std::io::stdin().read_line(&mut text).ok()?;
    (count > 0).then(|| text.trim().to_owned())
}

/// The person's name, as the system knows it.
pub(super) fn user() -> String {
    let names = ["USER", "LOGNAME", "USERNAME"].iter();
    names
        .filter_map(|name| std::env::var(name).ok())
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "somebody".to_owned())
}

/// Shows nothing of a run but that it stops.
struct Quiet;

impl Observer for Quiet {
    fn event(&self, _: &Event) {}

    fn signal(&self, signal: &CallProgress) {
        if let CallProgress::Stopping { at_once } = signal {
            // Nobody to tell that nobody listens.
            drop(writeln!(std::io::stderr(), "\n{}", stopping(*at_once)));
        }
    }
}
