//! The questions of a server to the user during a call, and the answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::model::visible::one_line;
use crate::model::{Failure, FailureClass, InputAnswers, InputQuestion, InputRequired};
use crate::process::shorten_middle;
use crate::schema::Schema;
use crate::secret::Redactor;

/// The maximum number of questions at once, or during one call.
pub(super) const MAX_QUESTIONS: usize = 20;
/// The maximum length of each text of a question, in bytes: its message, its name and its address. orch cuts out the
/// middle of a longer message, and does not ask a question with a longer name or address, which it would have to change.
const MAX_MESSAGE_BYTES: usize = 4 << 10;
/// The maximum length of a word of the server in a reason, in characters.
const MAX_QUOTED_CHARS: usize = 100;
/// The maximum size of the schema of an answer, in bytes.
const MAX_SCHEMA_BYTES: usize = 64 << 10;
/// The maximum size of the data that the server gets back, in bytes.
const MAX_STATE_BYTES: usize = 256 << 10;
/// The method of a question.
const ELICITATION: &str = "elicitation/create";

/// Reads the questions in a result. The error is the reason why orch can't ask them; it continues a sentence about the
/// server.
pub(super) fn read_questions(mut members: Map<String, Value>) -> Result<InputRequired, String> {
    let requests = match members.remove("inputRequests") {
        Some(Value::Object(requests)) => requests,
        None | Some(Value::Null) => Map::new(),
        Some(_) => return Err("asked for input in an unknown form".to_owned()),
    };
    let state = match members.remove("requestState") {
        Some(Value::String(state)) if state.len() <= MAX_STATE_BYTES => Some(state),
        Some(Value::String(_)) => {
            return Err(format!("asked for input with more than {} KiB of state", MAX_STATE_BYTES >> 10));
        }
        None | Some(Value::Null) => None,
        Some(_) => return Err("asked for input with a state that is not a text".to_owned()),
    };
    if requests.is_empty() && state.is_none() {
        return Err("asked for input without a question".to_owned());
    }
    if requests.len() > MAX_QUESTIONS {
        return Err(format!("asked more than {MAX_QUESTIONS} questions at once"));
    }
    if requests.keys().any(|name| name.len() > MAX_MESSAGE_BYTES) {
        return Err(format!("asked a question whose name has more than {} KiB", MAX_MESSAGE_BYTES >> 10));
    }
    let questions = requests.into_iter().map(|(name, request)| Ok((name, read_question(&request)?)));
    Ok(InputRequired { questions: questions.collect::<Result<IndexMap<_, _>, String>>()?, state })
}

fn read_question(request: &Value) -> Result<InputQuestion, String> {
    let method = text(request, "method")?.unwrap_or_default();
    if method != ELICITATION {
        return Err(format!("asked for `{}`, which orch does not offer", one_line(method, MAX_QUOTED_CHARS)));
    }
    let params = request.get("params").unwrap_or(&Value::Null);
    let message = text(params, "message")?.ok_or("asked a question without a text")?.to_owned();
    let url = text(params, "url")?.map(str::to_owned);
    match text(params, "mode")? {
        None | Some("form") => {}
        Some("url") if url.is_some() => {}
        Some("url") => return Err("asked the user to open an address, which is missing".to_owned()),
        Some(mode) => return Err(format!("asked a question of the unknown mode `{mode}`")),
    }
    let schema = match params.get("requestedSchema") {
        None | Some(Value::Null) => None,
        Some(schema) if schema.is_object() => Some(Arc::new(schema.clone())),
        Some(_) => return Err("asked a question whose `requestedSchema` is not an object".to_owned()),
    };
    let (question, problem) = limited_question(InputQuestion { message, schema, url });
    problem.map_or(Ok(question), Err)
}

/// The text of a member of a question, if it has the member.
fn text<'a>(object: &'a Value, name: &str) -> Result<Option<&'a str>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("asked a question whose `{name}` is not a text")),
    }
}

/// Limits the size of a question. Returns the question, without a schema that can't be used, and why orch can't ask it;
/// the reason continues a sentence about the server.
pub(super) fn limited_question(question: InputQuestion) -> (InputQuestion, Option<String>) {
    let message = shorten_middle(&question.message, MAX_MESSAGE_BYTES).into_owned();
    if let Some(url) = question.url {
        let is_too_long = url.len() > MAX_MESSAGE_BYTES;
        let problem = is_too_long
            .then(|| format!("asked the user to open an address of more than {} KiB", MAX_MESSAGE_BYTES >> 10));
        return (InputQuestion { message, schema: None, url: Some(url).filter(|_| !is_too_long) }, problem);
    }
    let problem = match &question.schema {
        None => Some("asked a question without a schema for the answer".to_owned()),
        Some(schema) if schema.to_string().len() > MAX_SCHEMA_BYTES => {
            Some(format!("asked a question whose schema has more than {} KiB", MAX_SCHEMA_BYTES >> 10))
        }
        Some(schema) => Schema::compile("requestedSchema", (**schema).clone())
            .err()
            .map(|error| format!("asked a question whose schema can't be used: {error}")),
    };
    let schema = question.schema.filter(|_| problem.is_none());
    (InputQuestion { message, schema, url: None }, problem)
}

/// Removes secrets from the texts of questions.
///
/// # Errors
/// The data or a name that goes back to the server unchanged contains a secret, which orch would have to save.
pub(super) fn redact_questions(
    server: &str,
    input: InputRequired,
    redactor: &Redactor,
) -> Result<InputRequired, Failure> {
    let has_secret_state = input.state.as_ref().is_some_and(|state| redactor.contains_secret(state));
    let has_secret_name = input.questions.keys().any(|name| redactor.contains_secret(name));
    if has_secret_state || has_secret_name {
        let part = if has_secret_state { "its state" } else { "the name of a question" };
        let message = format!("the MCP server `{server}` asked for input, and {part} contains a secret");
        let hint =
            "orch has to send this back unchanged, and saves no secrets; report this to the author of the server";
        return Err(Failure::new(FailureClass::SecretInReply, message).with_hint(hint));
    }
    let questions =
        input.questions.into_iter().map(|(name, question)| (name, redact_question(question, redactor))).collect();
    Ok(InputRequired { questions, state: input.state })
}

/// Removes secrets from the texts of a question.
pub(super) fn redact_question(question: InputQuestion, redactor: &Redactor) -> InputQuestion {
    InputQuestion {
        message: redactor.redact(&question.message),
        schema: question.schema.map(|schema| Arc::new(redactor.redact_value((*schema).clone()))),
        url: question.url.map(|url| redactor.redact(&url)),
    }
}

/// The answers in the form of the protocol. `null` declines a question, an object is the content of an answer, and any
/// other value accepts a question that has no content.
pub(super) fn input_responses(answers: &InputAnswers) -> BTreeMap<String, Value> {
    let response = |answer: &Value| match answer {
        Value::Null => json!({ "action": "decline" }),
        Value::Object(_) => json!({ "action": "accept", "content": answer }),
        _ => json!({ "action": "accept" }),
    };
    answers.responses.iter().map(|(name, answer)| (name.clone(), response(answer))).collect()
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn read(result: Value) -> Result<InputRequired, String> {
        match result {
            Value::Object(members) => read_questions(members),
            other => panic!("{other}"),
        }
    }

    /// A result with one question.
    fn asked(params: Value) -> Value {
        json!({ "inputRequests": { "a": { "method": "elicitation/create", "params": params } } })
    }

    fn form(schema: Value) -> Value {
        let params = json!({ "mode": "form", "message": "Which?", "requestedSchema": schema });
        json!({ "method": "elicitation/create", "params": params })
    }

    /// A question with an address of this length.
    fn address(length: usize) -> Value {
        let params = json!({ "mode": "url", "message": "Open", "url": "x".repeat(length) });
        json!({ "method": "elicitation/create", "params": params })
    }

    #[test]
    fn questions_have_a_schema_or_an_address() {
        let schema = json!({ "type": "object", "properties": { "size": { "type": "string", "enum": ["S"] } } });
        let params = json!({ "mode": "url", "message": "Open", "url": "https://a" });
        let url = json!({ "method": "elicitation/create", "params": params });
        let input =
            read(json!({ "inputRequests": { "b": form(schema.clone()), "a": url }, "requestState": "s" })).unwrap();
        assert_eq!(input.questions.keys().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!((input.questions["b"].schema.as_deref(), input.state.as_deref()), (Some(&schema), Some("s")));
        assert_eq!(input.questions["a"].url.as_deref(), Some("https://a"));
        assert_eq!(read(json!({ "requestState": "s" })).unwrap().questions.len(), 0);
    }

    #[test]
    fn what_orch_cannot_ask_is_refused_with_a_reason() {
        let many: Map<String, Value> =
            (0..=MAX_QUESTIONS).map(|number| (number.to_string(), form(json!({})))).collect();
        for (result, reason) in [
            (json!({}), "without a question"),
            (json!({ "inputRequests": [] }), "an unknown form"),
            (json!({ "inputRequests": { "a": { "method": "sampling/createMessage" } } }), "`sampling/createMessage`"),
            (json!({ "inputRequests": { "a": form(json!(true)) } }), "whose `requestedSchema` is not an object"),
            (json!({ "inputRequests": { "a": form(Value::Null) } }), "without a schema"),
            (json!({ "inputRequests": { "a": { "method": 5 } } }), "whose `method` is not a text"),
            (asked(json!({ "requestedSchema": {} })), "without a text"),
            (asked(json!({ "message": 5, "requestedSchema": {} })), "whose `message` is not a text"),
            (asked(json!({ "message": "m", "mode": "url", "url": 5 })), "whose `url` is not a text"),
            (asked(json!({ "message": "m", "mode": "url" })), "to open an address, which is missing"),
            (asked(json!({ "message": "m", "mode": "voice" })), "the unknown mode `voice`"),
            (json!({ "inputRequests": { "a": form(json!({ "type": 1 })) } }), "can't be used"),
            (json!({ "inputRequests": { "a": form(json!({ "title": "x".repeat(MAX_SCHEMA_BYTES) })) } }), "64 KiB"),
            (json!({ "inputRequests": many }), "more than 20 questions"),
            (
                json!({ "inputRequests": { "n".repeat(MAX_MESSAGE_BYTES + 1): form(json!({})) } }),
                "name has more than 4 KiB",
            ),
            (json!({ "inputRequests": { "a": address(MAX_MESSAGE_BYTES + 1) } }), "an address of more than 4 KiB"),
            (json!({ "inputRequests": { "a": { "method": "x\n".repeat(1000) } } }), "asked for `x\\nx\\n"),
            (json!({ "requestState": 1 }), "not a text"),
            (json!({ "requestState": "x".repeat(MAX_STATE_BYTES + 1) }), "256 KiB"),
        ] {
            let error = read(result).unwrap_err();
            assert!(error.contains(reason) && error.len() < 300, "{reason}: {error}");
        }
        assert!(read(json!({ "inputRequests": { "a": address(MAX_MESSAGE_BYTES) } })).is_ok());
    }

    #[test]
    fn secrets_are_removed_from_questions_and_refused_in_the_state() {
        let secret = SecretString::from("s3cret-value-of-a-key");
        let redactor = Redactor::new([("KEY", &secret)]);
        let schema = json!({ "type": "object", "description": "s3cret-value-of-a-key" });
        let input = read(json!({ "inputRequests": { "a": form(schema) } })).unwrap();
        let input = redact_questions("files", input, &redactor).unwrap();
        assert_eq!(input.questions["a"].schema.as_ref().unwrap()["description"], "[secret KEY]");
        let input = read(json!({ "requestState": "s3cret-value-of-a-key" })).unwrap();
        let failure = redact_questions("files", input, &redactor).unwrap_err();
        assert_eq!(failure.class, FailureClass::SecretInReply);
        assert!(!failure.message.contains("s3cret"), "{failure}");
        let input = read(json!({ "inputRequests": { "s3cret-value-of-a-key": form(json!({})) } })).unwrap();
        let failure = redact_questions("files", input, &redactor).unwrap_err();
        assert_eq!(failure.class, FailureClass::SecretInReply);
        assert!(failure.message.ends_with("the name of a question contains a secret"), "{failure}");
    }

    #[test]
    fn an_answer_accepts_or_declines() {
        let answers = InputAnswers {
            responses: IndexMap::from([
                ("a".to_owned(), json!({ "size": "S" })),
                ("b".to_owned(), Value::Null),
                ("c".to_owned(), json!(true)),
            ]),
            state: None,
        };
        assert_eq!(
            json!(input_responses(&answers)),
            json!({
                "a": { "action": "accept", "content": { "size": "S" } },
                "b": { "action": "decline" },
                "c": { "action": "accept" },
            })
        );
    }
}
