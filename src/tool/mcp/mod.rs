//! The client of MCP servers: starts or reaches them, lists their tools and calls them.
//!
//! [`McpServers`] holds the servers of a run. A server starts when it is first needed, all steps share it, and
//! [`McpServers::shutdown`] ends it.
//!
//! Guarantees:
//! - A server that orch starts runs in the sandbox of its settings, with the variables that they name, and ends with
//!   every process that it started.
//! - orch sends a call once. It never repeats one by itself, also if the connection ends during the call.
//! - What a server sends is limited in size. orch removes known secrets from it before any other code reads it.
//! - The answers of orch that a server does not read are limited, too. Over the limit, the connection ends.
//! - A message that orch can't read fails the request that it answers at once.
//! - A server can't make orch call a model or show it the user's folders. A server of the new protocol may return
//!   questions instead of a result, and so may one of the old protocol if its calls only read. A question during any
//!   other call is cancelled, unless the caller can answer it at once, and the result of the call has the question.
//! - The texts of a server are data. Whether a call may change anything follows from the settings of the server, and
//!   not from what it says about its tools.
//!
//! This module does not know runs, steps or journals. It is the only one that uses the crate of the protocol.

mod connect;
mod connection;
mod context;
mod credentials;
mod event_limit;
mod failures;
mod handler;
mod hints;
mod http;
mod http_client;
mod http_error;
mod http_failures;
mod http_post;
mod json_parts;
mod legacy;
mod lines;
mod listed_tools;
mod listing;
mod messages;
mod names;
mod open_calls;
mod pool;
mod probe;
mod questions;
mod redacted;
mod replies;
mod request_error;
mod request_ids;
mod result;
mod retry_ids;
mod server_log;
mod stdio;
mod text_worker;
mod tool_pages;
mod waiting_answers;

pub use context::{Answerer, McpCall, McpContext, StartLimits};
pub use hints::missing_program_hint;
pub use listing::ListedServer;
pub use names::model_tool_name;
pub use pool::McpServers;
pub use result::McpResult;
pub use tool_pages::MAX_TOOLS;

/// The maximum size of a message of a server, in bytes: a line, an event or the body of a response.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;
