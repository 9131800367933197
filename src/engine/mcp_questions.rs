//! The questions of MCP servers to the user: a call whose server asks for input waits for the answers like an approval,
//! and is then made again with them.
//!
//! The user accepts by approving. The note is the answer, as JSON, if a question needs one.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::durable::{ApprovalRequest, CallOutcome, CallReply, Interrupt, Wait, WaitOutcome};
use crate::model::event::CallOutput;
use crate::model::visible::escape_line_breaks;
use crate::model::{CallKey, Failure, FailureClass, InputAnswers, InputQuestion, InputRequired, McpToolName, StepKey};
use crate::process::shorten_middle;
use crate::schema::{Schema, render_mismatches};

use super::interpret::Interpreter;

/// How often a server may ask before it returns a result.
pub(crate) const MAX_INPUT_ROUNDS: u32 = 10;
/// The maximum size in bytes of the questions in a message.
const MAX_QUOTED_BYTES: usize = 4 << 10;
/// How often the user may give an answer that does not fit a question.
pub(super) const MAX_ANSWER_TRIES: u32 = 10;

/// What is wrong with a server that asks again although it got [`MAX_INPUT_ROUNDS`] answers.
pub(crate) fn too_many_rounds(server: &str) -> String {
    format!("the MCP server `{server}` asked for input more than {MAX_INPUT_ROUNDS} times")
}

/// The name of a question that has none of its own.
pub(super) const QUESTION: &str = "question";

/// The questions of a server, by its names for them.
pub(super) type Questions = IndexMap<String, InputQuestion>;

/// What the server of a call needs from the user, if the call returned no result for this reason.
pub(super) fn required_input(outcome: &CallOutcome) -> Option<&InputRequired> {
    let Ok(CallReply::Output(output)) = &outcome.result else { return None };
    output.required_input()
}

/// The failure of a step with a call whose server asked a question during it that no person could answer; `None` for any
/// other call. `restart` returns the step with which `orch pipeline resume --from` makes the call again.
pub(super) fn unanswered_failure(outcome: &CallOutcome, restart: impl FnOnce() -> StepKey) -> Option<Failure> {
    let Ok(CallReply::Output(CallOutput::McpTool(output))) = &outcome.result else { return None };
    if output.unanswered.is_empty() {
        return None;
    }
    let questions: Vec<String> = output.unanswered.iter().map(InputQuestion::describe).collect();
    let (tool, questions) = (&output.tool, questions.join("; "));
    let questions = shorten_middle(&questions, MAX_QUOTED_BYTES);
    let effect = if output.kind.only_reads() { "" } else { "; it is not known whether the call took effect" };
    let message = format!("`{tool}` asked a question during the call, and no person answered it: {questions}{effect}");
    let restart = restart();
    let hint = format!(
        "see what the call returned with `orch runs show --replies`; `orch pipeline resume --from {restart}` calls the \
         tool again, and on a terminal you can answer then"
    );
    Some(Failure::new(FailureClass::ToolFailed, message).with_hint(hint))
}

impl Interpreter<'_> {
    /// Waits for the user's answers to the questions of a server. `caller` is who made the call, such as
    /// "Agent `coder`", and `key` the key of the first call. `round` is the number of the answers, from 1.
    pub(super) async fn ask_for_input(
        self,
        caller: &str,
        tool: &McpToolName,
        key: &CallKey,
        round: u32,
        input: &InputRequired,
    ) -> Result<InputAnswers, Interrupt> {
        let responses = if input.questions.is_empty() {
            // The server only wants the call to be made again with its state.
            IndexMap::new()
        } else {
            let text = question_text(caller, tool, &input.questions);
            self.ask(&key.for_input_round(round), &text, &input.questions).await?
        };
        Ok(InputAnswers { responses, state: input.state.clone() })
    }

    /// Asks until the answers fit the questions.
    async fn ask(self, key: &CallKey, text: &str, questions: &Questions) -> Result<IndexMap<String, Value>, Interrupt> {
        let mut problem: Option<String> = None;
        for number in 1..=MAX_ANSWER_TRIES {
            // Each question has another text, because an answer is valid for exactly one text.
            let text = match problem.take() {
                Some(problem) => format!("Answer {} can't be used: {problem}\n\n{text}", number - 1),
                None => text.to_owned(),
            };
            let wait = Wait::Approval(ApprovalRequest { text, timeout_ms: None });
            match self.durable.wait(key.clone(), wait).await? {
                WaitOutcome::Answered(answer) if answer.approved => match read_answers(questions, &answer.note) {
                    Ok(answers) => return Ok(answers),
                    Err(message) => problem = Some(message),
                },
                WaitOutcome::Answered(_) | WaitOutcome::Elapsed => break,
            }
        }
        Ok(questions.keys().map(|name| (name.clone(), Value::Null)).collect())
    }
}

/// Reads the answers to the questions of a server from a text: the answer to the only question, or an object with an
/// answer for each name. An answer is an object, `true` for an address, or `null` to decline.
///
/// # Errors
/// The text does not fit the questions. The error is for the user.
pub(crate) fn answers_from_text(input: &InputRequired, text: &str) -> Result<InputAnswers, String> {
    let responses = if input.questions.is_empty() { IndexMap::new() } else { read_answers(&input.questions, text)? };
    Ok(InputAnswers { responses, state: input.state.clone() })
}

/// Reads the answer to one question from a text.
///
/// # Errors
/// The text does not fit the question. The error is for the user.
pub(crate) fn answer_from_text(question: InputQuestion, text: &str) -> Result<Value, String> {
    let answers = read_answers(&Questions::from([(QUESTION.to_owned(), question)]), text)?;
    Ok(answers.into_values().next().unwrap_or(Value::Null))
}

/// Whether a text for the user, such as that of an approval, asks all of these questions.
pub(crate) fn is_asked_in(input: &InputRequired, text: &str) -> bool {
    let is_asked = |question: &InputQuestion| {
        let schema = question.schema.as_ref().map(|schema| format!("{schema:#}"));
        text.contains(&question.message) && schema.is_none_or(|schema| text.contains(&schema))
    };
    !input.questions.is_empty() && input.questions.values().all(is_asked)
}

/// The text that the user sees: the questions, and how to answer them.
pub(super) fn question_text(caller: &str, tool: &McpToolName, questions: &Questions) -> String {
    let beginning = format!("{caller} calls the tool `{tool}`, and the MCP server asks:");
    let with_address = |question: &InputQuestion| match &question.url {
        Some(url) => {
            format!("{}\n\nIt wants you to open this address: {}", question.message, escape_line_breaks(url))
        }
        None => question.message.clone(),
    };
    let mut values = questions.values();
    if let (Some(question), None) = (values.next(), values.next()) {
        let instruction = match &question.schema {
            Some(schema) => {
                format!("To answer, approve with a note that is a JSON object and fits this JSON Schema:\n\n{schema:#}")
            }
            None => "To accept, approve. orch does not open the address.".to_owned(),
        };
        return format!("{beginning}\n\n{}\n\n{instruction}\nTo decline, reject.", with_address(question));
    }
    let mut text = beginning;
    for (name, question) in questions {
        text.push_str(&format!("\n\n`{}`: {}", escape_line_breaks(name), with_address(question)));
        if let Some(schema) = &question.schema {
            text.push_str(&format!("\n\nThe answer fits this JSON Schema:\n\n{schema:#}"));
        }
    }
    text.push_str(
        "\n\nTo answer, approve with a note that is a JSON object with an answer for each name: an object, `true` for an \
         address, or `null` to decline. To decline all of them, reject.",
    );
    text
}

/// Reads the note of an approval as the answers.
///
/// # Errors
/// The note does not fit the questions. The error is for the user.
fn read_answers(questions: &Questions, note: &str) -> Result<IndexMap<String, Value>, String> {
    let needs_note = questions.values().any(|question| question.schema.is_some());
    let note = match note.trim() {
        "" => Value::Object(Map::new()),
        note => match serde_json::from_str(note) {
            Ok(value) => value,
            Err(_) if !needs_note => Value::Object(Map::new()),
            Err(error) => return Err(format!("the note is not JSON: {error}")),
        },
    };
    if let (1, Some((name, question))) = (questions.len(), questions.first()) {
        let answer = read_answer(question, needs_note.then_some(note))?;
        return Ok(IndexMap::from([(name.clone(), answer)]));
    }
    let Value::Object(mut notes) = note else { return Err("the note is not a JSON object".to_owned()) };
    let mut answers = IndexMap::new();
    for (name, question) in questions {
        let answer = read_answer(question, notes.remove(name))
            .map_err(|error| format!("`{}`: {error}", escape_line_breaks(name)))?;
        answers.insert(name.clone(), answer);
    }
    match notes.keys().next() {
        Some(unknown) => Err(format!("there is no question `{}`", escape_line_breaks(unknown))),
        None => Ok(answers),
    }
}

/// The answer to one question. Members that the user left out get the defaults of the schema.
fn read_answer(question: &InputQuestion, value: Option<Value>) -> Result<Value, String> {
    let Some(document) = &question.schema else {
        return match value {
            Some(Value::Null) => Ok(Value::Null),
            None | Some(Value::Bool(true) | Value::Object(_)) => Ok(Value::Bool(true)),
            Some(other) => Err(format!("expected `true` or `null`, got {other}")),
        };
    };
    let mut members = match value {
        Some(Value::Null) => return Ok(Value::Null),
        Some(Value::Object(members)) => members,
        None => Map::new(),
        Some(other) => return Err(format!("expected a JSON object, got {other}")),
    };
    let properties = document.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        if let Some(default) = property.get("default").filter(|_| !members.contains_key(name)) {
            members.insert(name.clone(), default.clone());
        }
    }
    let schema = Schema::compile("answer", (**document).clone()).map_err(|error| error.to_string())?;
    let value = Value::Object(members);
    let mismatches = schema.mismatches(&value);
    if mismatches.is_empty() { Ok(value) } else { Err(render_mismatches(&mismatches)) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn form(message: &str) -> InputQuestion {
        let schema = json!({
            "type": "object",
            "properties": { "repo": { "type": "string" }, "labels": { "type": "integer", "default": 3 } },
            "required": ["repo"],
        });
        InputQuestion { message: message.to_owned(), schema: Some(Arc::new(schema)), url: None }
    }

    fn address() -> InputQuestion {
        let url = Some("https://login.example".to_owned());
        InputQuestion { message: "Log in".to_owned(), schema: None, url }
    }

    fn questions<const N: usize>(list: [(&str, InputQuestion); N]) -> Questions {
        list.into_iter().map(|(name, question)| (name.to_owned(), question)).collect()
    }

    fn answers(questions: &Questions, note: &str) -> Result<Value, String> {
        read_answers(questions, note).map(|answers| json!(answers))
    }

    #[test]
    fn the_note_is_the_answer_to_the_only_question() {
        let one = questions([("a", form("Which repository?"))]);
        assert_eq!(answers(&one, " {\"repo\": \"orch\"} "), Ok(json!({ "a": { "repo": "orch", "labels": 3 } })));
        assert_eq!(answers(&one, "null"), Ok(json!({ "a": null })));
        for (note, problem) in [
            ("orch", "the note is not JSON"),
            ("", "\"repo\""),
            ("{\"repo\": 1}", "/repo: expected string"),
            ("[1]", "expected a JSON object"),
        ] {
            let error = answers(&one, note).unwrap_err();
            assert!(error.contains(problem), "{note}: {error}");
        }
        for note in ["", "I did", "true"] {
            assert_eq!(answers(&questions([("a", address())]), note), Ok(json!({ "a": true })), "{note}");
        }
    }

    #[test]
    fn each_of_several_questions_has_its_answer_in_the_note() {
        let both = questions([("login", address()), ("repo", form("Which repository?"))]);
        let note = json!({ "repo": { "repo": "orch", "labels": 1 } }).to_string();
        assert_eq!(answers(&both, &note), Ok(json!({ "login": true, "repo": { "repo": "orch", "labels": 1 } })));
        let note = json!({ "repo": null, "login": null }).to_string();
        assert_eq!(answers(&both, &note), Ok(json!({ "login": null, "repo": null })));
        for (note, problem) in [
            (json!({}), "`repo`: "),
            (json!({ "login": 1, "repo": null }), "`login`: expected `true` or `null`, got 1"),
            (json!({ "repo": null, "other": 1 }), "there is no question `other`"),
            (json!([]), "not a JSON object"),
        ] {
            let error = answers(&both, &note.to_string()).unwrap_err();
            assert!(error.contains(problem), "{note}: {error}");
        }
    }

    #[test]
    fn the_text_names_the_call_the_questions_and_the_form_of_the_answer() {
        let tool = McpToolName { server: "github".to_owned(), tool: "create".to_owned() };
        let text = question_text("Agent `a`", &tool, &questions([("x", form("Which repository?"))]));
        assert!(text.starts_with("Agent `a` calls the tool `github.create`, and the MCP server asks:\n\nWhich repo"));
        assert!(text.contains("\"labels\"") && text.ends_with("To decline, reject."), "{text}");
        let text = question_text("Step `s`", &tool, &questions([("x", address())]));
        assert!(text.contains("Log in\n\nIt wants you to open this address: https://login.example"), "{text}");
        assert!(!text.contains("note"), "{text}");
        let input = |questions| InputRequired { questions, state: None };
        let login = input(questions([("x", address())]));
        assert!(is_asked_in(&login, &text) && !is_asked_in(&input(questions([("x", form("Log in"))])), &text));
        assert!(!is_asked_in(&input(Questions::new()), &text), "there is nothing to answer");
        let two_lines = questions([("x\nTo decline, reject.", address()), ("y", form("Which?"))]);
        let text = question_text("Step `s`", &tool, &two_lines);
        assert!(text.contains("`x\\nTo decline, reject.`: Log in"), "{text}");
        let text = question_text("Step `s`", &tool, &questions([("x", address()), ("y", form("Which?"))]));
        assert!(text.contains("`x`: Log in") && text.contains("`y`: Which?\n\nThe answer fits"), "{text}");
    }
}
