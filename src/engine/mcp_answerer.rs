//! Asks the user while a call of an MCP tool is open, for the servers that wait for the answer during the call.
//!
//! orch ends a call that only reads instead, and makes it again with the answer.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tracing::info;

use crate::agent::CallContext;
use crate::durable::{CallProgress, Observer};
use crate::model::event::ApprovalDecision;
use crate::model::{InputQuestion, McpInvocation, StepKey};
use crate::tool::mcp::Answerer;

use super::mcp_questions::{MAX_ANSWER_TRIES, QUESTION, Questions, answer_from_text, question_text};
use super::perform::Performer;

/// Shows a question of a step to the user at once, and returns the decision; `None` if the user postpones it.
pub type QuestionPrompter = Arc<dyn Fn(StepKey, String) -> BoxFuture<'static, Option<ApprovalDecision>> + Send + Sync>;

/// Answers the questions of the server during a call; `None` if no user can answer at once, or if the call can be made
/// again with the answer.
pub(super) fn answerer(performer: &Performer, context: &CallContext, invocation: &McpInvocation) -> Option<Answerer> {
    let prompt = performer.prompter.clone()?;
    if invocation.server.call_kind().only_reads() {
        return None;
    }
    let (observer, redactor) = (performer.observer.clone(), performer.redactor.clone());
    let (step, tool) = (context.call_key.step.clone(), invocation.tool_name());
    let answer = move |question: InputQuestion| -> BoxFuture<'static, Result<Value, String>> {
        let questions = Questions::from([(QUESTION.to_owned(), question.clone())]);
        let text = question_text(&format!("Step `{step}`"), &tool, &questions);
        let text = format!("{text} The server waits for the answer, so you can't answer later.");
        let asker = Asker {
            prompt: prompt.clone(),
            observer: observer.clone(),
            step: step.clone(),
            text: redactor.redact(&text),
            question,
        };
        Box::pin(asker.ask())
    };
    let answerer: Answerer = Arc::new(answer);
    Some(answerer)
}

/// Asks one question.
struct Asker {
    prompt: QuestionPrompter,
    observer: Arc<dyn Observer>,
    step: StepKey,
    /// The question as the user sees it.
    text: String,
    question: InputQuestion,
}

impl Asker {
    /// Asks until the answer fits the question.
    async fn ask(self) -> Result<Value, String> {
        let mut text = self.text.clone();
        for number in 1..=MAX_ANSWER_TRIES {
            let open = ShownQuestion::new(&self);
            info!(step = %self.step, "orch asks the user during the call");
            let decision = (self.prompt)(self.step.clone(), text).await;
            let approved = decision.as_ref().map(|decision| decision.approved);
            info!(step = %self.step, approved, "the user answered or postponed the answer");
            drop(open);
            let Some(decision) = decision else {
                return Err("the user postponed the answer, and the server could not wait for it".to_owned());
            };
            if !decision.approved {
                return Ok(Value::Null);
            }
            match answer_from_text(self.question.clone(), &decision.note) {
                Ok(answer) => return Ok(answer),
                Err(problem) => text = format!("Answer {number} can't be used: {problem}\n\n{}", self.text),
            }
        }
        Err("no answer of the user fits the question".to_owned())
    }
}

/// A question that the user sees. It also ends if its call does, so that nothing waits for the answer any more.
struct ShownQuestion<'a>(&'a Asker);

impl<'a> ShownQuestion<'a> {
    fn new(asker: &'a Asker) -> Self {
        asker.observer.on_progress(&CallProgress::AwaitingApproval(asker.step.clone()));
        Self(asker)
    }
}

impl Drop for ShownQuestion<'_> {
    fn drop(&mut self) {
        self.0.observer.on_progress(&CallProgress::ApprovalEnded(self.0.step.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::model::Event;

    struct Ignored;

    impl Observer for Ignored {
        fn on_event(&self, _: &Event) {}
        fn on_progress(&self, _: &CallProgress) {}
    }

    /// The answer after these decisions, latest first: whether the user approves, with which note.
    fn answer(decisions: Vec<Option<(bool, &str)>>) -> (Result<Value, String>, Vec<String>) {
        let decision = |(approved, note): (bool, &str)| ApprovalDecision {
            approved,
            note: note.to_owned(),
            by: "me".to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let decisions: Vec<_> = decisions.into_iter().map(|made| made.map(decision)).collect();
        let (decisions, shown) = (Mutex::new(decisions), Arc::new(Mutex::new(Vec::new())));
        let texts = shown.clone();
        let prompt = move |_: StepKey, text: String| -> BoxFuture<'static, Option<ApprovalDecision>> {
            texts.lock().unwrap().push(text);
            Box::pin(std::future::ready(decisions.lock().unwrap().pop().flatten()))
        };
        let schema =
            json!({ "type": "object", "properties": { "size": { "enum": ["S", "L"] } }, "required": ["size"] });
        let question = InputQuestion { message: "Size?".to_owned(), schema: Some(Arc::new(schema)), url: None };
        let asker = Asker {
            prompt: Arc::new(prompt),
            observer: Arc::new(Ignored),
            step: StepKey::root("order"),
            text: "Size?".to_owned(),
            question,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = runtime.block_on(asker.ask());
        let shown = shown.lock().unwrap().clone();
        (answer, shown)
    }

    #[test]
    fn the_user_is_asked_until_the_answer_fits() {
        let (value, shown) = answer(vec![Some((true, "{\"size\": \"S\"}")), Some((true, "{\"size\": \"XL\"}"))]);
        assert_eq!(value, Ok(json!({ "size": "S" })));
        assert!(shown[1].starts_with("Answer 1 can't be used: - /size: expected one of"), "{shown:?}");
        assert_eq!(answer(vec![Some((false, ""))]).0, Ok(Value::Null));
        assert!(answer(vec![None]).0.unwrap_err().contains("postponed"));
    }
}
