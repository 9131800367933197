//! An MCP server over HTTP that follows a script, and projects whose models call its tools.

use serde_json::{Value, json};

use crate::support::{Orch, ReceivedRequest, Reply, Server};
use crate::tool_loop::{ScriptedTurn, scripted_server, tool_project};

/// The protocol that a server speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// The version 2025-11-25, which begins with `initialize`.
    Old,
    /// The version 2026-07-28, in which a call may return questions.
    New,
}

/// How a server answers a call.
pub(super) enum CallAnswer {
    /// With this result.
    Result(Value),
    /// Never.
    Nothing,
    /// With an HTTP status and no result.
    Status(u16),
    /// Not at all: the HTTP status says that the server has accepted the call.
    Accepted,
    /// With an event that has this text as the result.
    Event(&'static str),
    /// With this HTTP status and this body, as JSON. `ID` stands for the id of the call, and `CUT` for half a character.
    Body(u16, String),
    /// With this response.
    Reply(Reply),
}

/// A call that returns a text.
pub(super) fn text(text: &str) -> CallAnswer {
    CallAnswer::Result(json!({ "content": [{ "type": "text", "text": text }] }))
}

/// A tool with the required argument `text`.
pub(super) fn tool(name: &str, description: &str) -> Value {
    let schema = json!({ "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"] });
    json!({ "name": name, "description": description, "inputSchema": schema })
}

/// The server. It lives in the process of the test, so it sees every call also if orch is killed.
pub(super) struct McpServer(Server);

impl McpServer {
    /// Starts a server. `tools` returns the tools that it lists, and `call` the answer to a call with these parameters.
    pub(super) fn start(
        protocol: Protocol,
        tools: impl Fn() -> Value + Send + Sync + 'static,
        call: impl Fn(&Value) -> CallAnswer + Send + Sync + 'static,
    ) -> Self {
        Self(Server::start(move |request| respond(protocol, &tools, &call, request)))
    }

    /// Starts a server with the tool `find`, which returns its argument.
    pub(super) fn echo() -> Self {
        Self::start(Protocol::Old, || json!([tool("find", "Finds a text.")]), |params| text(&echoed(params)))
    }

    /// The settings of the server in `orch.yaml`.
    pub(super) fn settings(&self, access: &str) -> Value {
        json!({ "url": format!("{}/mcp", self.0.url()), "access": access })
    }

    /// The parameters of the calls so far.
    pub(super) fn calls(&self) -> Vec<Value> {
        let is_call = |request: &ReceivedRequest| request.body["method"] == "tools/call";
        self.0.requests().into_iter().filter(is_call).map(|request| request.body["params"].clone()).collect()
    }

    /// The ids of the calls so far.
    pub(super) fn call_ids(&self) -> Vec<Value> {
        let is_call = |request: &ReceivedRequest| request.body["method"] == "tools/call";
        self.0.requests().into_iter().filter(is_call).map(|request| request.body["id"].clone()).collect()
    }

    /// How often the server has listed its tools.
    pub(super) fn list_count(&self) -> usize {
        self.0.requests().iter().filter(|request| request.body["method"] == "tools/list").count()
    }
}

/// What the tool `find` of [`McpServer::echo`] returns for these parameters.
fn echoed(params: &Value) -> String {
    format!("found {}", params["arguments"]["text"].as_str().unwrap_or_default())
}

fn respond(
    protocol: Protocol,
    tools: &dyn Fn() -> Value,
    call: &dyn Fn(&Value) -> CallAnswer,
    request: &ReceivedRequest,
) -> Reply {
    let message = |member: &str, value: Value| {
        let message = json!({ "jsonrpc": "2.0", "id": request.body["id"], member: value });
        Reply::status(200, message.to_string())
    };
    let result = |value: Value| message("result", value);
    let capabilities = json!({ "tools": {} });
    match (request.method.as_str(), request.body["method"].as_str().unwrap_or_default()) {
        ("POST", "server/discover") if protocol == Protocol::New => result(json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities, "ttlMs": 0,
            "cacheScope": "private",
        })),
        ("POST", "initialize") => result(json!({
            "protocolVersion": "2025-11-25", "capabilities": capabilities,
            "serverInfo": { "name": "scripted", "version": "1" },
        })),
        ("POST", "tools/list") => {
            result(json!({ "tools": tools(), "resultType": "complete", "ttlMs": 0, "cacheScope": "private" }))
        }
        ("POST", "tools/call") => match call(&request.body["params"]) {
            CallAnswer::Result(value) => result(value),
            CallAnswer::Nothing => result(json!({})).stall_after(0),
            CallAnswer::Status(status) => Reply::status(status, ""),
            CallAnswer::Accepted => Reply::status(202, ""),
            CallAnswer::Event(text) => {
                let data = format!(r#"data: {{"jsonrpc":"2.0","id":{},"result":{text}}}"#, request.body["id"]);
                Reply::typed("text/event-stream", format!("{data}\n\n"))
            }
            CallAnswer::Reply(reply) => reply,
            CallAnswer::Body(status, body) => {
                Reply::status(status, body.replace("ID", &request.body["id"].to_string()).replace("CUT", "\\ud83d"))
            }
        },
        ("POST", method) if method.starts_with("notifications/") => Reply::status(202, ""),
        ("POST", _) => message("error", json!({ "code": -32601, "message": "unknown method" })),
        _ => Reply::status(405, ""),
    }
}

/// A trusted project with these MCP servers. Its only step is `work`, whose agent and step have these additional keys
/// and whose model follows a script. Returns the server of the model, and the project.
pub(super) fn project(turns: Vec<ScriptedTurn>, agent: &Value, step: &Value, servers: &Value) -> (Server, Orch) {
    let model = scripted_server(turns);
    let orch = tool_project(&model, agent, step);
    let settings = orch.read("orch.yaml");
    orch.write("orch.yaml", &format!("{settings}mcp: {servers}\n")).trust();
    (model, orch)
}
