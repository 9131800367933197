//! The ids of calls with the answers to the questions of a server.
//!
//! Such a call must have another id than the call before it, which another process of orch may have made over another
//! connection. The crate counts the requests of each connection from 0, so both could have the same id.

use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};

use super::request_ids::is_same_id;

/// The ids of these calls have 52 bits, of which the first one is set. The crate does not count so far, and every program
/// can read such a number.
const FIRST_BIT: u64 = 1 << 51;

/// Gives calls with answers an id of their own.
#[derive(Debug, Default)]
pub(super) struct RetryIds {
    /// The open calls.
    calls: Vec<Renumbered>,
}

/// A call that has another id for the server than for the crate.
#[derive(Debug)]
struct Renumbered {
    own: RequestId,
    sent: RequestId,
}

impl RetryIds {
    /// Replaces the id in a message for the server.
    pub(super) fn replace(&mut self, message: &mut ClientJsonRpcMessage) {
        match message {
            ClientJsonRpcMessage::Request(message) => {
                let ClientRequest::CallToolRequest(call) = &message.request else { return };
                if call.params.input_responses.is_some() {
                    let sent = random_id();
                    self.calls.push(Renumbered { own: message.id.clone(), sent: sent.clone() });
                    message.id = sent;
                }
            }
            ClientJsonRpcMessage::Notification(message) => {
                let ClientNotification::CancelledNotification(cancelled) = &mut message.notification else { return };
                let own = cancelled.params.request_id.clone();
                if let Some(call) = own.and_then(|own| self.take(|call| call.own == own)) {
                    cancelled.params.request_id = Some(call.sent);
                }
            }
            ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_) => {}
        }
    }

    /// Restores the id in a message of the server.
    pub(super) fn restore(&mut self, message: &mut ServerJsonRpcMessage) {
        let id = match message {
            JsonRpcMessage::Response(response) => Some(&mut response.id),
            JsonRpcMessage::Error(error) => error.id.as_mut(),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        if let Some(id) = id
            && let Some(call) = self.take(|call| is_same_id(&call.sent, id))
        {
            *id = call.own;
        }
    }

    /// Removes the open call that matches.
    fn take(&mut self, is_wanted: impl Fn(&Renumbered) -> bool) -> Option<Renumbered> {
        let position = self.calls.iter().position(is_wanted)?;
        Some(self.calls.swap_remove(position))
    }
}

/// An id that no other process gives to a request.
fn random_id() -> RequestId {
    // Without random numbers, the id still differs from those that the crate counts.
    let random = getrandom::u64().unwrap_or_default() % FIRST_BIT;
    RequestId::Number(i64::try_from(FIRST_BIT + random).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A message to the server, after its id was replaced.
    fn sent(ids: &mut RetryIds, message: Value) -> Value {
        let mut message: ClientJsonRpcMessage = serde_json::from_value(message).unwrap();
        ids.replace(&mut message);
        serde_json::to_value(message).unwrap()
    }

    /// A message of the server, after its id was restored.
    fn received(ids: &mut RetryIds, message: Value) -> Value {
        let mut message: ServerJsonRpcMessage = serde_json::from_value(message).unwrap();
        ids.restore(&mut message);
        serde_json::to_value(message).unwrap()
    }

    fn call(id: u32, more: &Value) -> Value {
        let mut params = json!({ "name": "order" });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
    }

    #[test]
    fn only_a_call_with_answers_gets_another_id() {
        let mut ids = RetryIds::default();
        assert_eq!(sent(&mut ids, call(2, &json!({})))["id"], 2);
        let answers = json!({ "inputResponses": {}, "requestState": "s" });
        let first = sent(&mut ids, call(3, &answers))["id"].clone();
        let second = sent(&mut ids, call(4, &answers))["id"].clone();
        assert!(first != second && first.as_i64().unwrap() >= 1 << 51 && first.as_i64().unwrap() < 1 << 52, "{first}");
        // Some servers write the number of a request as a text.
        let text = second.to_string();
        assert_eq!(received(&mut ids, json!({ "jsonrpc": "2.0", "id": text, "result": {} }))["id"], 4);
        let error = json!({ "code": -1, "message": "m" });
        assert_eq!(received(&mut ids, json!({ "jsonrpc": "2.0", "id": first, "error": error }))["id"], 3);
        assert_eq!(received(&mut ids, json!({ "jsonrpc": "2.0", "id": 2, "result": {} }))["id"], 2);
        assert!(ids.calls.is_empty());
    }

    #[test]
    fn a_cancellation_names_the_id_that_the_server_knows() {
        let mut ids = RetryIds::default();
        let id = sent(&mut ids, call(3, &json!({ "inputResponses": {} })))["id"].clone();
        let cancelled =
            |id: u32| json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } });
        assert_eq!(sent(&mut ids, cancelled(2))["params"]["requestId"], 2);
        assert_eq!(sent(&mut ids, cancelled(3))["params"]["requestId"], id);
        assert!(ids.calls.is_empty());
    }
}
