//! A transport that removes secrets from everything that a server sends, before any other code reads or shortens it.
//!
//! Two kinds of texts stay, because they go back to the server unchanged and orch needs them for the answer: the ids of
//! messages, and what [`RETURNED_MEMBERS`] and [`QUESTIONS`] name. `questions.rs` refuses them if they contain a secret
//! and orch would record them.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use rmcp::model::{ErrorCode, ErrorData, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::{RoleClient, service};
use serde_json::{Map, Value};

use crate::offload::{LARGE_TEXT_BYTES, run_on_thread};
use crate::secret::Redactor;

use super::stdio::ServerProcesses;

/// The members of a message with texts of the server.
const CONTENT_MEMBERS: [&str; 3] = ["result", "error", "params"];
/// The members of a result that go back to the server unchanged.
const RETURNED_MEMBERS: [&str; 2] = ["nextCursor", "requestState"];
/// The member of a result with the questions of the server, by names that go back to it.
const QUESTIONS: &str = "inputRequests";

/// A transport whose received messages contain no known secret.
pub(super) struct RedactedTransport<T> {
    inner: T,
    redactor: Arc<Redactor>,
    processes: Arc<ServerProcesses>,
    /// Redacts a large message on another thread. The message stays here if the caller drops the future that waits for it.
    redacting: Option<BoxFuture<'static, Option<ServerJsonRpcMessage>>>,
}

impl<T> RedactedTransport<T> {
    /// Wraps a transport of a server with these processes.
    pub(super) fn new(inner: T, redactor: Arc<Redactor>, processes: Arc<ServerProcesses>) -> Self {
        Self { inner, redactor, processes, redacting: None }
    }
}

impl<T: Transport<RoleClient> + 'static> Transport<RoleClient> for RedactedTransport<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: service::TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<service::RxJsonRpcMessage<RoleClient>> {
        loop {
            if let Some(redacting) = &mut self.redacting {
                let message = redacting.await;
                self.redacting = None;
                match message {
                    Some(message) => return Some(message),
                    None => continue,
                }
            }
            let message = self.inner.receive().await?;
            if self.redactor.is_empty() {
                return Some(message);
            }
            let value = serde_json::to_value(&message).unwrap_or_default();
            if text_bytes(&value) < LARGE_TEXT_BYTES {
                match redact_message(message, value, &self.redactor) {
                    Some(message) => return Some(message),
                    None => continue,
                }
            }
            let (redactor, hold) = (self.redactor.clone(), self.processes.groups().hold_virtual_time());
            self.redacting = Some(Box::pin(run_on_thread(hold, move || redact_message(message, value, &redactor))));
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}

/// Removes secrets from a message, whose JSON form is `value`. `None` if nothing of the message can be passed on.
fn redact_message(
    message: ServerJsonRpcMessage,
    mut value: Value,
    redactor: &Redactor,
) -> Option<ServerJsonRpcMessage> {
    let Value::Object(members) = &mut value else { return without_content(message) };
    let mut is_changed = false;
    for name in CONTENT_MEMBERS {
        if let Some(content) = members.get_mut(name) {
            is_changed |= redact_content(content, redactor);
        }
    }
    if is_changed { serde_json::from_value(value).ok().or_else(|| without_content(message)) } else { Some(message) }
}

/// Removes secrets from the content of a message. Returns whether it contained any.
fn redact_content(content: &mut Value, redactor: &Redactor) -> bool {
    let Value::Object(members) = content else { return redact_all(content, redactor) };
    let mut is_changed = false;
    for (name, member) in &mut *members {
        is_changed |= match (name.as_str(), member) {
            (name, _) if RETURNED_MEMBERS.contains(&name) => false,
            (QUESTIONS, Value::Object(questions)) => redact_values(questions, redactor),
            (_, member) => redact_all(member, redactor),
        };
    }
    if members.keys().any(|name| redactor.contains_secret(name)) {
        let renamed = std::mem::take(members).into_iter().map(|(name, member)| (redactor.redact(&name), member));
        *members = renamed.collect();
        is_changed = true;
    }
    is_changed
}

/// Removes secrets from the members of an object, but not from their names. Returns whether they contained any.
fn redact_values(members: &mut Map<String, Value>, redactor: &Redactor) -> bool {
    let mut is_changed = false;
    for member in members.values_mut() {
        is_changed |= redact_all(member, redactor);
    }
    is_changed
}

/// Removes secrets from all texts and names in a value. Returns whether it contained any.
fn redact_all(value: &mut Value, redactor: &Redactor) -> bool {
    let has_secret = redactor.finds_secret_in(value);
    if has_secret {
        *value = redactor.redact_value(std::mem::take(value));
    }
    has_secret
}

/// The message in place of one that has another form without its secrets, so that orch can't read it any more: an error
/// in place of an answer. `None` in place of a notification or a request of the server, which then gets no answer.
fn without_content(message: ServerJsonRpcMessage) -> Option<ServerJsonRpcMessage> {
    let text = "orch could not remove a secret from what the server sent";
    let error = ErrorData::new(ErrorCode::INTERNAL_ERROR, text, None);
    match message {
        JsonRpcMessage::Response(response) => Some(JsonRpcMessage::error(error, Some(response.id))),
        JsonRpcMessage::Error(refusal) => Some(JsonRpcMessage::error(error, refusal.id)),
        JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
    }
}

/// The length of all texts and names in a value.
fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(members) => members.iter().map(|(name, member)| name.len() + text_bytes(member)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;

    use futures_util::FutureExt as _;
    use secrecy::SecretString;
    use serde_json::json;

    use super::*;
    use crate::process::EndingGroups;

    const SECRET: &str = "s3cret-value-of-a-key";

    fn redactor() -> Redactor {
        let secret = SecretString::from(SECRET);
        Redactor::new([("KEY", &secret)])
    }

    fn message(value: &Value) -> ServerJsonRpcMessage {
        serde_json::from_value(value.clone()).unwrap()
    }

    fn redacted(value: &Value) -> Value {
        let message = message(value);
        let value = serde_json::to_value(&message).unwrap();
        serde_json::to_value(redact_message(message, value, &redactor()).unwrap()).unwrap()
    }

    #[test]
    fn every_text_of_every_kind_of_message_is_redacted() {
        let schema = json!({ "type": "object", "properties": { SECRET: { "type": "string", "title": SECRET } } });
        let initialized = json!({
            "protocolVersion": SECRET, "capabilities": { "tools": {} }, "instructions": SECRET,
            "serverInfo": { "name": SECRET, "version": SECRET },
        });
        let listed = json!({ "tools": [{
            "name": SECRET, "title": SECRET, "description": SECRET, "inputSchema": schema, "outputSchema": schema,
            "annotations": { "title": SECRET }, "_meta": { SECRET: [SECRET] },
        }] });
        let called = json!({
            "content": [
                { "type": "text", "text": SECRET, "annotations": { "audience": ["user"], "lastModified": SECRET } },
                { "type": "image", "data": "", "mimeType": SECRET },
                { "type": "resource_link", "uri": SECRET, "name": SECRET, "title": SECRET, "mimeType": SECRET },
                { "type": "resource", "resource": { "uri": SECRET, "text": SECRET } },
            ],
            "structuredContent": { SECRET: [{ SECRET: SECRET }] }, "_meta": { "x": SECRET },
        });
        let asked = json!({ "mode": "form", "message": SECRET, "requestedSchema": schema });
        let progress = json!({ "progressToken": 1, "progress": 1, "message": SECRET });
        for message in [
            json!({ "jsonrpc": "2.0", "id": 1, "result": initialized }),
            json!({ "jsonrpc": "2.0", "id": 1, "result": listed }),
            json!({ "jsonrpc": "2.0", "id": 1, "result": called }),
            json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -1, "message": SECRET, "data": { SECRET: SECRET } } }),
            json!({ "jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": asked }),
            json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": progress }),
        ] {
            let redacted = redacted(&message);
            let text = redacted.to_string();
            assert!(text.contains("[secret KEY]") && !text.contains(SECRET), "{message}: {text}");
            assert_eq!((&redacted["id"], &redacted["method"]), (&message["id"], &message["method"]), "{text}");
        }
    }

    #[test]
    fn what_goes_back_to_the_server_is_unchanged() {
        let question = json!({ "method": "elicitation/create", "params": { "message": SECRET } });
        let result = json!({
            "resultType": "input_required", "requestState": SECRET, "inputRequests": { SECRET: question },
        });
        let redacted = redacted(&json!({ "jsonrpc": "2.0", "id": 1, "result": result }));
        assert_eq!(redacted["result"]["requestState"], SECRET);
        assert_eq!(redacted["result"]["inputRequests"][SECRET]["params"]["message"], "[secret KEY]");
        let plain = json!({ "jsonrpc": "2.0", "id": 1, "result": { "content": [], "x": [0.50] } });
        let plain = message(&plain);
        let value = serde_json::to_value(&plain).unwrap();
        let redacted = redact_message(plain, value.clone(), &redactor()).unwrap();
        assert_eq!(serde_json::to_value(redacted).unwrap(), value);
    }

    #[test]
    fn an_answer_that_can_not_be_redacted_becomes_an_error() {
        let answer = message(&json!({ "jsonrpc": "2.0", "id": 7, "result": { "x": SECRET } }));
        let replaced = serde_json::to_value(redact_message(answer, Value::Null, &redactor()).unwrap()).unwrap();
        assert_eq!((&replaced["id"], &replaced["error"]["code"]), (&json!(7), &json!(-32603)));
    }

    /// A transport that has received these messages.
    struct Received(VecDeque<ServerJsonRpcMessage>);

    impl Transport<RoleClient> for Received {
        type Error = io::Error;

        fn send(
            &mut self,
            _: service::TxJsonRpcMessage<RoleClient>,
        ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
            std::future::ready(Ok(()))
        }

        fn receive(&mut self) -> impl Future<Output = Option<service::RxJsonRpcMessage<RoleClient>>> + Send {
            std::future::ready(self.0.pop_front())
        }

        fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
            std::future::ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_large_message_is_not_lost_if_the_caller_stops_waiting() {
        let text = format!("{SECRET} {}", "x".repeat(LARGE_TEXT_BYTES));
        let answer = |id: u32, text: &str| {
            let content = json!([{ "type": "text", "text": text }]);
            message(&json!({ "jsonrpc": "2.0", "id": id, "result": { "content": content } }))
        };
        let received = Received([answer(1, &text), answer(2, SECRET)].into());
        let processes = Arc::new(ServerProcesses::new(EndingGroups::default()));
        let mut transport = RedactedTransport::new(received, Arc::new(redactor()), processes);
        // The first poll begins to redact the message. Whether it has ended then depends on the other thread.
        let first = transport.receive().now_or_never().flatten();
        let first = match first {
            Some(message) => message,
            None => transport.receive().await.unwrap(),
        };
        for (message, id) in [(first, 1), (transport.receive().await.unwrap(), 2)] {
            let message = serde_json::to_value(message).unwrap();
            assert_eq!(message["id"], id);
            let text = message["result"]["content"][0]["text"].as_str().unwrap();
            assert!(text.starts_with("[secret KEY]") && !text.contains(SECRET), "{}", text.len());
        }
        assert!(transport.receive().await.is_none());
    }
}
