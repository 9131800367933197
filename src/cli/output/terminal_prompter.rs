//! Asks the user for approvals and for the answers to questions, on the terminal of a run.
//!
//! A question is withdrawn if nothing waits for its answer any more, for example because another process gave it or
//! because the time of the call is up whose server asked. Then orch reads no answer to it, and does not take what the user
//! has typed for it as the answer to the next question.

use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::model::StepKey;
use crate::model::event::ApprovalDecision;
use crate::model::visible::escape_unsafe;
use crate::report::width::wrap_lines;
use crate::store::ApprovalPrompter;

use super::ui::{stderr_size, user_name};

/// How often orch looks whether a question was withdrawn, while it waits for the answer.
#[cfg(unix)]
const POLL_INTERVAL: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Asks the user on the terminal, one question at a time. The user can answer with yes, no or later.
#[derive(Default)]
pub(super) struct TerminalPrompter {
    input: Arc<Mutex<TerminalInput>>,
}

/// The input of the terminal. Only the question that holds the lock may read it.
#[derive(Default)]
struct TerminalInput {
    /// Whether the last question was withdrawn, so that the user may have typed its answer since.
    is_stale: bool,
}

impl ApprovalPrompter for TerminalPrompter {
    fn prompt(&self, step: StepKey, question: String) -> BoxFuture<'static, Option<ApprovalDecision>> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let question = Arc::new(TerminalQuestion { step, text: question, stage: Mutex::new(QuestionStage::Waiting) });
        let open = OpenQuestion(question.clone());
        let input = self.input.clone();
        // Do not use a thread of the runtime, because the runtime would wait for it before it shuts down.
        std::thread::spawn(move || {
            let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
            // Ignore the error: after a withdrawal or Ctrl-C, nothing waits for the answer.
            drop(sender.send(question.ask(&mut input)));
        });
        async move {
            let _open = open;
            receiver.await.ok().flatten()
        }
        .boxed()
    }
}

/// A question whose answer something waits for. Dropping this value withdraws the question.
struct OpenQuestion(Arc<TerminalQuestion>);

impl Drop for OpenQuestion {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

/// How far a question is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum QuestionStage {
    /// Another question is on the terminal.
    Waiting,
    /// The terminal shows the question, which has no answer yet.
    Shown,
    /// The question needs no further input.
    Ended,
    /// Nothing waits for the answer any more.
    Withdrawn,
}

/// A question of a step.
struct TerminalQuestion {
    step: StepKey,
    text: String,
    stage: Mutex<QuestionStage>,
}

impl TerminalQuestion {
    fn stage(&self) -> MutexGuard<'_, QuestionStage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints the question and reads the answer. Returns `None` if the user wants to answer later, or if the question is
    /// withdrawn.
    fn ask(&self, input: &mut TerminalInput) -> Option<ApprovalDecision> {
        if *self.stage() == QuestionStage::Withdrawn {
            return None;
        }
        if std::mem::take(&mut input.is_stale) {
            discard_input();
        }
        let decision = self.read_decision();
        let mut stage = self.stage();
        input.is_stale = *stage == QuestionStage::Withdrawn;
        if *stage == QuestionStage::Withdrawn {
            return None;
        }
        *stage = QuestionStage::Ended;
        decision
    }

    fn read_decision(&self) -> Option<ApprovalDecision> {
        let (step, question) = (&self.step, escape_unsafe(&self.text));
        self.write(&format!("\n{step} asks:\n\n{question}\n\napprove? [y]es, [n]o, anything else for later: "))?;
        let approved = match self.read_line()?.to_ascii_lowercase().as_str() {
            "y" | "yes" => true,
            "n" | "no" => false,
            _ => return None,
        };
        self.write("note (may be empty): ")?;
        let note = self.read_line()?;
        Some(ApprovalDecision { approved, note, by: user_name(), at: jiff::Timestamp::now() })
    }

    /// Writes a text of the question. Returns `None` if the question is withdrawn.
    fn write(&self, text: &str) -> Option<()> {
        let mut stage = self.stage();
        if *stage == QuestionStage::Withdrawn {
            return None;
        }
        *stage = QuestionStage::Shown;
        write_wrapped(text);
        Some(())
    }

    /// Reads a line from standard input. Returns `None` at the end of the input, or if the question is withdrawn.
    fn read_line(&self) -> Option<String> {
        while !has_input() {
            if *self.stage() == QuestionStage::Withdrawn {
                return None;
            }
        }
        let mut text = String::new();
        let count = std::io::stdin().read_line(&mut text).ok()?;
        (count > 0 && *self.stage() != QuestionStage::Withdrawn).then(|| text.trim().to_owned())
    }

    /// Withdraws the question. If the terminal shows it, says so.
    fn withdraw(&self) {
        let mut stage = self.stage();
        match *stage {
            QuestionStage::Ended | QuestionStage::Withdrawn => return,
            QuestionStage::Waiting => {}
            QuestionStage::Shown => {
                discard_input();
                let step = &self.step;
                write_wrapped(&format!(
                    "\n{step}: orch no longer waits for this answer: another process gave it, or the call or its time is \
                     over\n"
                ));
            }
        }
        *stage = QuestionStage::Withdrawn;
    }
}

fn write_wrapped(text: &str) {
    // Ignore the error: standard error may be closed.
    drop(std::io::stderr().lock().write_all(wrap_lines(text, stderr_size().columns).as_bytes()));
}

/// Waits a short time for input. Returns whether there is some, or its end. A terminal gives one line at a time, so nothing
/// of it is in a buffer of this process.
#[cfg(unix)]
fn has_input() -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let stdin = std::io::stdin();
    let count = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&POLL_INTERVAL));
    // If orch can't find out whether there is input, it reads until there is.
    count.map_or_else(|error| error != rustix::io::Errno::INTR, |count| count > 0)
}

/// Where orch can't find out whether there is input, it reads until there is.
#[cfg(not(unix))]
fn has_input() -> bool {
    true
}

/// Discards what the user has typed and orch has not read.
#[cfg(unix)]
fn discard_input() {
    // Ignore the error: it means that standard input is no terminal any more.
    rustix::termios::tcflush(std::io::stdin(), rustix::termios::QueueSelector::IFlush).unwrap_or_default();
}

#[cfg(not(unix))]
fn discard_input() {}
