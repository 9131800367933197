//! Asks the user for approvals and for the answers to questions, on the terminal of a run.
//!
//! A question is withdrawn if nothing waits for its answer any more, for example because another process gave it or
//! because the time of the call is up whose server asked. Then orch reads no answer to it. What the user has typed before
//! a question is on the terminal never counts as its answer, since it was meant for another question or for none.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::model::StepKey;
use crate::model::event::ApprovalDecision;
use crate::model::visible::escape_unsafe;
use crate::report::width::wrap_lines;
use crate::store::ApprovalPrompter;

use super::typed_input::{DISCARDED_NOTE, discard_earlier_input, discard_input, has_input};
use super::ui::{stderr_size, user_name};

/// Asks the user on the terminal, one question at a time. The user can answer with yes, no or later.
#[derive(Default)]
pub(super) struct TerminalPrompter {
    /// Only the question that holds the lock may read from the terminal.
    terminal: Arc<Mutex<()>>,
    /// The latest question of each step, as long as something waits for its answer.
    questions: Mutex<HashMap<StepKey, Weak<TerminalQuestion>>>,
}

impl TerminalPrompter {
    fn questions(&self) -> MutexGuard<'_, HashMap<StepKey, Weak<TerminalQuestion>>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_question(&self, question: &Arc<TerminalQuestion>) {
        let mut questions = self.questions();
        questions.retain(|_, question| question.strong_count() > 0);
        questions.insert(question.step.clone(), Arc::downgrade(question));
    }
}

impl ApprovalPrompter for TerminalPrompter {
    fn prompt(&self, step: StepKey, question: String) -> BoxFuture<'static, Option<ApprovalDecision>> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let question = Arc::new(TerminalQuestion { step, text: question, stage: Mutex::new(QuestionStage::Waiting) });
        self.add_question(&question);
        let open = OpenQuestion(question.clone());
        let terminal = self.terminal.clone();
        // Do not use a thread of the runtime, because the runtime would wait for it before it shuts down.
        std::thread::spawn(move || {
            let _terminal = terminal.lock().unwrap_or_else(PoisonError::into_inner);
            // Ignore the error: after a withdrawal or Ctrl-C, nothing waits for the answer.
            drop(sender.send(question.ask()));
        });
        async move {
            let _open = open;
            receiver.await.ok().flatten()
        }
        .boxed()
    }

    fn show_other_answer(&self, step: &StepKey, decision: &ApprovalDecision) {
        let question = self.questions().get(step).and_then(Weak::upgrade);
        if let Some(question) = question {
            question.withdraw(&format!("the question was {}; your answer does not count", decision.summary()));
        }
    }
}

/// A question whose answer something waits for. Dropping this value withdraws the question.
struct OpenQuestion(Arc<TerminalQuestion>);

impl Drop for OpenQuestion {
    fn drop(&mut self) {
        self.0.withdraw("orch no longer waits for this answer: the step, its call or its time is over");
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
    /// withdrawn. The caller holds the lock of the terminal.
    fn ask(&self) -> Option<ApprovalDecision> {
        let decision = self.read_decision();
        let mut stage = self.stage();
        if *stage == QuestionStage::Withdrawn {
            return None;
        }
        *stage = QuestionStage::Ended;
        decision
    }

    fn read_decision(&self) -> Option<ApprovalDecision> {
        let (step, question) = (&self.step, escape_unsafe(&self.text));
        self.write(&format!("\n{step} asks:\n\n{question}\n\n"))?;
        if discard_earlier_input() {
            self.write(DISCARDED_NOTE)?;
        }
        self.write("approve? [y]es, [n]o, anything else for later: ")?;
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
        loop {
            let is_ready = has_input();
            let stage = self.stage();
            if *stage == QuestionStage::Withdrawn {
                return None;
            }
            if is_ready {
                return read_terminal_line(stage);
            }
        }
    }

    /// Withdraws the question. If the terminal shows it, says why.
    fn withdraw(&self, reason: &str) {
        let mut stage = self.stage();
        match *stage {
            QuestionStage::Ended | QuestionStage::Withdrawn => return,
            QuestionStage::Waiting => {}
            QuestionStage::Shown => {
                discard_input();
                write_wrapped(&escape_unsafe(&format!("\n{}: {reason}\n", self.step)));
            }
        }
        *stage = QuestionStage::Withdrawn;
    }
}

/// Reads a line that the user has typed. The question can't be withdrawn meanwhile: a withdrawal discards the line, and
/// then this would wait for the next one, which may be the answer to another question.
#[cfg(unix)]
fn read_terminal_line(_stage: MutexGuard<'_, QuestionStage>) -> Option<String> {
    read_stdin_line()
}

/// Waits for a line. The question can be withdrawn meanwhile.
#[cfg(not(unix))]
fn read_terminal_line(stage: MutexGuard<'_, QuestionStage>) -> Option<String> {
    drop(stage);
    read_stdin_line()
}

fn read_stdin_line() -> Option<String> {
    let mut text = String::new();
    let count = std::io::stdin().read_line(&mut text).ok()?;
    (count > 0).then(|| text.trim().to_owned())
}

fn write_wrapped(text: &str) {
    // Ignore the error: standard error may be closed.
    drop(std::io::stderr().lock().write_all(wrap_lines(text, stderr_size().columns).as_bytes()));
}
