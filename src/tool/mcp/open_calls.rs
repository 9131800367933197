//! The calls that wait for a result over one connection, and the questions that a server of the old protocol asks
//! meanwhile.
//!
//! Such a server waits for the answer during the call, and its question does not say which call it belongs to. It can
//! only belong to one call if no other call is open, and if every earlier call over the connection has its result: a
//! server does not say when it has stopped a call that orch ended, and may have sent a question for it before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;
use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, watch};

use crate::model::{Digest, InputAnswers, InputQuestion, InputRequired, canonical_json};

use super::context::{Answerer, McpCall};
use super::questions::MAX_QUESTIONS;

/// How many digits of its digest the name of a question has.
const NAME_CHARS: usize = 16;

/// The calls of a connection that have no result yet.
#[derive(Default)]
pub(super) struct OpenCalls {
    calls: Mutex<Vec<OpenCall>>,
    next_id: AtomicU64,
    /// Held exclusively by a call beside which no other call may be open, and shared by all others.
    gate: RwLock<()>,
    /// Whether a call ended before the server had answered it, so that a question may belong to that call.
    has_abandoned: AtomicBool,
    /// Whether no further call may use the connection.
    is_retired: AtomicBool,
}

struct OpenCall {
    id: u64,
    /// Answers the questions of the server while the call is open.
    answerer: Option<Answerer>,
    /// The answers to the questions that the server asked when the same call was made before.
    given: IndexMap<String, Value>,
    /// How often the server has asked each question.
    counts: HashMap<String, u32>,
    /// How many questions the server has asked.
    asked: usize,
    unanswered: UnansweredQuestions,
    /// Dropped with the call, which tells those who subscribed that it has ended.
    end: watch::Sender<()>,
}

/// A call that is open until this value is dropped.
pub(super) struct CallTurn<'a> {
    calls: &'a OpenCalls,
    id: u64,
    state: TurnState,
    _gate: (Option<RwLockReadGuard<'a, ()>>, Option<RwLockWriteGuard<'a, ()>>),
}

/// How far a call is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TurnState {
    /// The server does not know the call.
    NotSent,
    /// The server works on the call.
    Sent,
    /// The server has answered the call.
    Answered,
}

impl CallTurn<'_> {
    /// Notes that the server may receive the call from now on.
    pub(super) fn set_sent(&mut self) {
        self.state = TurnState::Sent;
    }

    /// Notes that the server has answered the call.
    pub(super) fn set_answered(&mut self) {
        self.state = TurnState::Answered;
    }

    /// Whether the server has asked a question that got no answer.
    pub(super) fn has_unanswered(&self) -> bool {
        self.calls.lock().iter().any(|call| call.id == self.id && !call.unanswered.is_empty())
    }

    /// Takes the questions that got no answer.
    pub(super) fn take_unanswered(&self) -> UnansweredQuestions {
        let mut calls = self.calls.lock();
        let call = calls.iter_mut().find(|call| call.id == self.id);
        call.map(|call| std::mem::take(&mut call.unanswered)).unwrap_or_default()
    }
}

impl Drop for CallTurn<'_> {
    fn drop(&mut self) {
        if self.state == TurnState::Sent {
            self.calls.has_abandoned.store(true, Ordering::Relaxed);
        }
        self.calls.lock().retain(|call| call.id != self.id);
    }
}

/// The questions that got no answer during a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct UnansweredQuestions {
    /// The first ones.
    pub(super) questions: Vec<UnansweredQuestion>,
    /// The number of the other ones.
    pub(super) omitted: usize,
}

impl UnansweredQuestions {
    pub(super) fn is_empty(&self) -> bool {
        self.questions.is_empty() && self.omitted == 0
    }
}

/// What is known about a question that a server asks now.
pub(super) struct AskedQuestion {
    /// The name under which the question is answered if the call is made again.
    pub(super) name: String,
    /// Whether the question may belong to another call than the only open one.
    pub(super) is_unclear: bool,
    /// The answer of an earlier round.
    pub(super) given: Option<Value>,
    /// Answers the question now.
    pub(super) answerer: Option<Answerer>,
    /// The calls to which the question may belong.
    pub(super) calls: AskingCalls,
}

/// Calls to which a question may belong.
pub(super) struct AskingCalls(Vec<watch::Receiver<()>>);

impl AskingCalls {
    /// Waits until all of them have ended, so that no call needs the answer any more.
    pub(super) async fn wait_ended(self) {
        for mut call in self.0 {
            while call.changed().await.is_ok() {}
        }
    }
}

/// A question that got no answer during its call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct UnansweredQuestion {
    pub(super) name: String,
    pub(super) question: InputQuestion,
    /// Why it has no answer; empty if no person could answer it.
    pub(super) reason: String,
    /// Whether orch can't ask it at all.
    pub(super) is_unusable: bool,
    /// Whether the question may belong to another call.
    pub(super) is_unclear: bool,
}

impl OpenCalls {
    fn lock(&self) -> MutexGuard<'_, Vec<OpenCall>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a call. Waits until no other call is open if it `is_alone`.
    pub(super) async fn begin(&self, call: &McpCall<'_>, is_alone: bool) -> CallTurn<'_> {
        let gate = if is_alone { (None, Some(self.gate.write().await)) } else { (Some(self.gate.read().await), None) };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answerer, given) = (call.answerer.cloned(), call.answers.map(all_answers).unwrap_or_default());
        let (counts, unanswered) = (HashMap::new(), UnansweredQuestions::default());
        let end = watch::Sender::new(());
        self.lock().push(OpenCall { id, answerer, given, counts, asked: 0, unanswered, end });
        CallTurn { calls: self, id, state: TurnState::NotSent, _gate: gate }
    }

    /// Whether a call ended before the server had answered it, so that even the question during a call beside which no
    /// other one is open may belong to that call.
    pub(super) fn has_abandoned(&self) -> bool {
        self.has_abandoned.load(Ordering::Relaxed)
    }

    /// Lets no further call use the connection.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
    }

    /// Whether no further call may use the connection.
    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
    }

    /// Counts a question for the open calls. Returns whether it is one of the first ones of a call. orch reads no others.
    pub(super) fn admit(&self) -> bool {
        let mut is_admitted = false;
        for call in &mut *self.lock() {
            call.asked += 1;
            if call.asked <= MAX_QUESTIONS {
                is_admitted = true;
            } else {
                call.unanswered.omitted += 1;
            }
        }
        is_admitted
    }

    /// Adds a question without an answer to the calls that it may belong to.
    pub(super) fn add_unanswered(&self, unanswered: &UnansweredQuestion) {
        for call in &mut *self.lock() {
            // A call that had too many before it has counted it.
            if call.unanswered.questions.len() < MAX_QUESTIONS {
                call.unanswered.questions.push(unanswered.clone());
            }
        }
    }

    /// Looks for an answer to a question.
    pub(super) fn ask(&self, question: &InputQuestion) -> AskedQuestion {
        let mut calls = self.lock();
        let (is_unclear, key) = (calls.len() > 1 || self.has_abandoned(), question_key(question));
        let answerer = calls.iter().find_map(|call| call.answerer.clone());
        let asking = AskingCalls(calls.iter().map(|call| call.end.subscribe()).collect());
        let only_call = calls.first_mut().filter(|_| !is_unclear);
        let (name, given) = match only_call {
            Some(call) => {
                let count = call.counts.entry(key.clone()).or_default();
                *count += 1;
                let name = format!("{key}-{count}");
                let given = call.given.get(&name).cloned();
                (name, given)
            }
            None => (format!("{key}-1"), None),
        };
        AskedQuestion { name, is_unclear, given, answerer, calls: asking }
    }
}

/// Identifies a question by what it asks.
fn question_key(question: &InputQuestion) -> String {
    let digest = Digest::compute(canonical_json(&json!(question)).as_bytes());
    digest.as_str().chars().take(NAME_CHARS).collect()
}

/// The answers of all rounds. For a server of the old protocol, orch itself writes the state: the answers of the rounds
/// before the last one.
fn all_answers(answers: &InputAnswers) -> IndexMap<String, Value> {
    let state = answers.state.as_deref().unwrap_or_default();
    let mut all: IndexMap<String, Value> = serde_json::from_str(state).unwrap_or_default();
    all.extend(answers.responses.clone());
    all
}

/// The question that the user has to answer before a call is made again.
pub(super) fn required_input(call: &McpCall<'_>, asked: UnansweredQuestion) -> InputRequired {
    let state = call.answers.map(|answers| json!(all_answers(answers)).to_string());
    InputRequired { questions: IndexMap::from([(asked.name, asked.question)]), state }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::model::{McpAccess, McpServerSpec, McpTransport};

    fn server() -> McpServerSpec {
        let transport = McpTransport::Http { url: "https://shop.example".to_owned(), headers: IndexMap::new() };
        McpServerSpec { name: "shop".to_owned(), transport, tools: None, access: McpAccess::Read }
    }

    fn question(message: &str) -> InputQuestion {
        InputQuestion { message: message.to_owned(), ..InputQuestion::default() }
    }

    #[test]
    fn a_call_that_is_made_again_has_the_answers_of_all_rounds() {
        let (calls, server, arguments) = (OpenCalls::default(), server(), json!({}));
        let mut answers: Option<InputAnswers> = None;
        for (message, answer) in [("Size?", "S"), ("Size?", "L"), ("Colour?", "red")] {
            let given = answers.take();
            let call = McpCall {
                server: &server,
                tool: "order",
                arguments: &arguments,
                answers: given.as_ref(),
                answerer: None,
                timeout: Duration::from_secs(1),
                on_progress: &|_| {},
            };
            let mut turn = calls.begin(&call, given.is_some()).now_or_never().unwrap();
            // The server asks everything again, and gets the same answers.
            let expected = [("Size?", "S"), ("Size?", "L")].into_iter().take(answer_count(given.as_ref()));
            for (message, answer) in expected {
                assert_eq!(calls.ask(&question(message)).given, Some(json!(answer)));
            }
            let asked = calls.ask(&question(message));
            assert!(asked.given.is_none() && !asked.is_unclear && asked.answerer.is_none());
            let input = required_input(&call, unanswered(&asked.name, message));
            let responses = IndexMap::from([(asked.name, json!(answer))]);
            turn.set_answered();
            drop(turn);
            answers = Some(InputAnswers { responses, state: input.state });
        }
        assert_eq!(answer_count(answers.as_ref()), 3);
    }

    fn unanswered(name: &str, message: &str) -> UnansweredQuestion {
        let (name, question) = (name.to_owned(), question(message));
        UnansweredQuestion { name, question, reason: String::new(), is_unusable: false, is_unclear: false }
    }

    fn answer_count(answers: Option<&InputAnswers>) -> usize {
        answers.map(all_answers).unwrap_or_default().len()
    }

    fn call<'a>(server: &'a McpServerSpec, arguments: &'a Value) -> McpCall<'a> {
        McpCall {
            server,
            tool: "order",
            arguments,
            answers: None,
            answerer: None,
            timeout: Duration::from_secs(1),
            on_progress: &ignore,
        }
    }

    fn ignore(_: &str) {}

    #[test]
    fn a_question_beside_several_open_calls_belongs_to_none_for_certain() {
        let (calls, server, arguments) = (OpenCalls::default(), server(), json!({}));
        let call = call(&server, &arguments);
        let first = calls.begin(&call, false).now_or_never().unwrap();
        let second = calls.begin(&call, false).now_or_never().unwrap();
        assert!(calls.ask(&question("Size?")).is_unclear);
        assert!(calls.begin(&call, true).now_or_never().is_none(), "it waits for the others");
        drop((first, second));
        let alone = calls.begin(&call, true).now_or_never().unwrap();
        assert!(calls.begin(&call, false).now_or_never().is_none(), "the others wait for it");
        assert!(!calls.ask(&question("Size?")).is_unclear);
        drop(alone);
    }

    #[test]
    fn a_question_after_a_call_without_an_answer_belongs_to_none_for_certain() {
        let (calls, server, arguments) = (OpenCalls::default(), server(), json!({}));
        let call = call(&server, &arguments);
        for (is_answered, has_abandoned) in [(true, false), (false, true)] {
            let mut turn = calls.begin(&call, false).now_or_never().unwrap();
            turn.set_sent();
            if is_answered {
                turn.set_answered();
            }
            drop(turn);
            let next = calls.begin(&call, true).now_or_never().unwrap();
            let asked = calls.ask(&question("Size?"));
            assert_eq!((calls.has_abandoned(), asked.is_unclear), (has_abandoned, has_abandoned));
            drop(next);
        }
    }

    #[test]
    fn only_the_first_questions_of_a_call_are_kept_and_the_others_counted() {
        let (calls, server, arguments) = (OpenCalls::default(), server(), json!({}));
        let call = call(&server, &arguments);
        assert!(!calls.admit(), "no call is open");
        let first = calls.begin(&call, false).now_or_never().unwrap();
        let ask = |count: usize| {
            let admitted = (0..count).filter(|_| {
                let is_admitted = calls.admit();
                if is_admitted {
                    calls.add_unanswered(&unanswered("a", "Size?"));
                }
                is_admitted
            });
            admitted.count()
        };
        assert_eq!(ask(MAX_QUESTIONS + 5), MAX_QUESTIONS);
        let second = calls.begin(&call, false).now_or_never().unwrap();
        assert_eq!(ask(3), 3, "the second call has room");
        let counts = |turn: &CallTurn<'_>| {
            let unanswered = turn.take_unanswered();
            (unanswered.questions.len(), unanswered.omitted)
        };
        assert!(first.has_unanswered());
        assert_eq!((counts(&first), counts(&second)), ((MAX_QUESTIONS, 8), (3, 0)));
        assert!(!first.has_unanswered());
    }
}
