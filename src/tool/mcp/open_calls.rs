//! The calls that wait for a result over one connection, and the questions that a server of the old protocol asks
//! meanwhile.
//!
//! Such a server waits for the answer during the call, and its question does not say which call it belongs to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;
use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::model::{Digest, InputAnswers, InputQuestion, InputRequired, canonical_json};

use super::context::{Answerer, McpCall};

/// How many digits of its digest the name of a question has.
const NAME_CHARS: usize = 16;

/// The calls of a connection that have no result yet.
#[derive(Default)]
pub(super) struct OpenCalls {
    calls: Mutex<Vec<OpenCall>>,
    next_id: AtomicU64,
    /// Held exclusively by a call beside which no other call may be open, and shared by all others.
    gate: RwLock<()>,
}

struct OpenCall {
    id: u64,
    /// Answers the questions of the server while the call is open.
    answerer: Option<Answerer>,
    /// The answers to the questions that the server asked when the same call was made before.
    given: IndexMap<String, Value>,
    /// How often the server has asked each question.
    counts: HashMap<String, u32>,
}

/// A call that is open until this value is dropped.
pub(super) struct CallTurn<'a> {
    calls: &'a OpenCalls,
    id: u64,
    _gate: (Option<RwLockReadGuard<'a, ()>>, Option<RwLockWriteGuard<'a, ()>>),
}

impl Drop for CallTurn<'_> {
    fn drop(&mut self) {
        self.calls.lock().retain(|call| call.id != self.id);
    }
}

/// What is known about a question that a server asks now.
pub(super) struct Asked {
    /// The name under which the question is answered if the call is made again.
    pub(super) name: String,
    /// The number of open calls. The question belongs to one of them.
    pub(super) open_calls: usize,
    /// The answer of an earlier round.
    pub(super) given: Option<Value>,
    /// Answers the question now.
    pub(super) answerer: Option<Answerer>,
}

/// A question that got no answer during its call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unanswered {
    pub(super) name: String,
    pub(super) question: InputQuestion,
    /// Why it has no answer; empty if no person could answer it.
    pub(super) reason: String,
    /// Whether orch can't ask it at all.
    pub(super) is_unusable: bool,
    /// The number of open calls. The question belongs to one of them.
    pub(super) open_calls: usize,
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
        self.lock().push(OpenCall { id, answerer, given, counts: HashMap::new() });
        CallTurn { calls: self, id, _gate: gate }
    }

    /// Looks for an answer to a question.
    pub(super) fn ask(&self, question: &InputQuestion) -> Asked {
        let mut calls = self.lock();
        let (open_calls, key) = (calls.len(), question_key(question));
        let answerer = calls.iter().find_map(|call| call.answerer.clone());
        let only_call = calls.first_mut().filter(|_| open_calls == 1);
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
        Asked { name, open_calls, given, answerer }
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
pub(super) fn required_input(call: &McpCall<'_>, asked: Unanswered) -> InputRequired {
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
            let turn = calls.begin(&call, given.is_some()).now_or_never().unwrap();
            // The server asks everything again, and gets the same answers.
            let expected = [("Size?", "S"), ("Size?", "L")].into_iter().take(answer_count(given.as_ref()));
            for (message, answer) in expected {
                assert_eq!(calls.ask(&question(message)).given, Some(json!(answer)));
            }
            let asked = calls.ask(&question(message));
            assert!(asked.given.is_none() && asked.open_calls == 1 && asked.answerer.is_none());
            let (reason, is_unusable) = (String::new(), false);
            let question = question(message);
            let unanswered = Unanswered { name: asked.name.clone(), question, reason, is_unusable, open_calls: 1 };
            let input = required_input(&call, unanswered);
            let responses = IndexMap::from([(asked.name, json!(answer))]);
            drop(turn);
            answers = Some(InputAnswers { responses, state: input.state });
        }
        assert_eq!(answer_count(answers.as_ref()), 3);
    }

    fn answer_count(answers: Option<&InputAnswers>) -> usize {
        answers.map(all_answers).unwrap_or_default().len()
    }

    #[test]
    fn a_question_beside_several_open_calls_belongs_to_none_for_certain() {
        let (calls, server, arguments) = (OpenCalls::default(), server(), json!({}));
        let call = McpCall {
            server: &server,
            tool: "order",
            arguments: &arguments,
            answers: None,
            answerer: None,
            timeout: Duration::from_secs(1),
            on_progress: &|_| {},
        };
        let first = calls.begin(&call, false).now_or_never().unwrap();
        let second = calls.begin(&call, false).now_or_never().unwrap();
        assert_eq!(calls.ask(&question("Size?")).open_calls, 2);
        assert!(calls.begin(&call, true).now_or_never().is_none(), "it waits for the others");
        drop((first, second));
        let alone = calls.begin(&call, true).now_or_never().unwrap();
        assert!(calls.begin(&call, false).now_or_never().is_none(), "the others wait for it");
        assert_eq!(calls.ask(&question("Size?")).open_calls, 1);
        drop(alone);
        assert_eq!(calls.ask(&question("Size?")).open_calls, 0);
    }
}
