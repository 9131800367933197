//! Converts errors of a connection to failures that name the server and say what the user can do.

use rmcp::model::{ErrorData, ProtocolVersion};
use rmcp::service::ClientInitializeError;
use rmcp::transport::DynamicTransportError;

use crate::model::visible::escape_line_breaks;
use crate::model::{Failure, FailureClass};
use crate::network::without_secrets;
use crate::process::{ProcessError, shorten_middle};
use crate::tool::http_client::describe_problem;

use super::MAX_MESSAGE_BYTES;
use super::http::HttpError;
use super::messages::{MAX_VALUES, Rejection};
use super::stdio::{ProgramExit, StartError};

/// The maximum length of a text of the server in a message, in bytes.
const MAX_QUOTED_BYTES: usize = 1 << 10;
/// What the user can do about a server that wants a login.
const AUTH_HINT: &str = "orch does not support OAuth for MCP servers: put a token into `headers`, as \
                         `Authorization: { env: VARIABLE }`";
/// What the user can do about a message that is too large.
const TOO_LARGE_HINT: &str = "ask its tools for less at once, for example for one page or one file";

/// The failure of a server that is not ready to list its tools.
pub(super) fn handshake_failure(server: &str, error: &ClientInitializeError) -> Failure {
    let agent_error = |text: String| Failure::new(FailureClass::AgentError, text);
    match error {
        ClientInitializeError::TransportError { error, .. } => transport_failure(server, error),
        // The first attempt spoke the new protocol, which the server may not know.
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => handshake_failure(server, fallback),
        ClientInitializeError::ConnectionClosed(_) => closed_failure(server, "before it was ready"),
        ClientInitializeError::JsonRpcError(error) => {
            if let Some(rejection) = Rejection::of(error) {
                return rejected_failure(server, &rejection);
            }
            agent_error(format!("the MCP server `{server}` refused the connection: {}", describe_error(error)))
        }
        ClientInitializeError::NoCompatibleProtocolVersion { server_supported, .. } => {
            let versions: Vec<&str> = server_supported.iter().map(ProtocolVersion::as_str).collect();
            let versions = versions.join(", ");
            let versions = escape_line_breaks(&versions);
            let versions = shorten_middle(&versions, MAX_QUOTED_BYTES);
            agent_error(format!(
                "the MCP server `{server}` speaks no version of the protocol that orch speaks, but {versions}"
            ))
        }
        other => protocol_failure(server, &other.to_string()),
    }
}

/// Whether another beginning of the connection would fail for the same reason.
pub(super) fn is_final(error: &ClientInitializeError) -> bool {
    let error = match error {
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => return is_final(fallback),
        ClientInitializeError::TransportError { error, .. } => error.error.downcast_ref::<HttpError>(),
        _ => None,
    };
    match error {
        Some(HttpError::AuthRequired(_) | HttpError::InsufficientScope(_) | HttpError::Client(_)) => true,
        Some(HttpError::UnexpectedServerResponse(text)) => text.starts_with("HTTP 401") || text.starts_with("HTTP 403"),
        Some(HttpError::HttpStatus(error)) => error.status == 429,
        Some(_) | None => false,
    }
}

/// The failure of a server that does not follow the protocol.
pub(super) fn protocol_failure(server: &str, reason: &str) -> Failure {
    let reason = escape_line_breaks(reason);
    let reason = shorten_middle(&reason, MAX_QUOTED_BYTES);
    Failure::new(FailureClass::AgentError, format!("the MCP server `{server}` does not follow the protocol: {reason}"))
}

/// The failure of a server whose answer orch does not accept.
pub(super) fn rejected_failure(server: &str, rejection: &Rejection) -> Failure {
    match rejection {
        Rejection::Malformed(reason) => protocol_failure(server, &format!("its answer can't be read: {reason}")),
        Rejection::TooManyValues => {
            let message = format!("the MCP server `{server}` sent a message of more than {MAX_VALUES} JSON values");
            Failure::new(FailureClass::OutputTooLarge, message).with_hint(TOO_LARGE_HINT)
        }
    }
}

/// The failure of a server whose connection ended.
pub(super) fn closed_failure(server: &str, when: &str) -> Failure {
    let message = format!("the MCP server `{server}` closed the connection {when}");
    Failure::new(FailureClass::ProviderUnavailable, message)
}

/// The failure of a server that asks the user where orch can't ask.
pub(super) fn asked_failure(server: &str) -> Failure {
    let message = format!("the MCP server `{server}` asked a question before it listed its tools or began the call");
    Failure::new(FailureClass::AgentError, message)
}

/// The failure of a server that sent a message over the size limit.
pub(super) fn too_large_failure(server: &str) -> Failure {
    let message = format!("the MCP server `{server}` sent a message of more than {} MiB", MAX_MESSAGE_BYTES >> 20);
    Failure::new(FailureClass::OutputTooLarge, message).with_hint(TOO_LARGE_HINT)
}

/// The failure of a message that could not be sent, or of its answer.
pub(super) fn transport_failure(server: &str, error: &DynamicTransportError) -> Failure {
    if let Some(error) = error.error.downcast_ref::<HttpError>() {
        return http_failure(server, error);
    }
    let message = format!("the connection to the MCP server `{server}` failed: {}", error.error);
    Failure::new(FailureClass::ProviderUnavailable, message)
}

/// Whether a server refused a request because it does not know the session. It did not perform the request.
pub(super) fn is_session_lost(error: &DynamicTransportError) -> bool {
    matches!(error.error.downcast_ref::<HttpError>(), Some(HttpError::SessionExpired))
}

fn http_failure(server: &str, error: &HttpError) -> Failure {
    let unavailable =
        |text: String| Failure::new(FailureClass::ProviderUnavailable, format!("the MCP server `{server}` {text}"));
    match error {
        HttpError::AuthRequired(_) => auth_failure(server, 401),
        HttpError::InsufficientScope(_) => auth_failure(server, 403),
        // A refusal without a challenge.
        HttpError::UnexpectedServerResponse(text) if text.starts_with("HTTP 401") => auth_failure(server, 401),
        HttpError::UnexpectedServerResponse(text) if text.starts_with("HTTP 403") => auth_failure(server, 403),
        HttpError::HttpStatus(error) => {
            let class = if error.status == 429 { FailureClass::RateLimited } else { FailureClass::ProviderUnavailable };
            let message = format!("the MCP server `{server}` answered with the HTTP status {}", error.status);
            Failure { status: Some(error.status), ..Failure::new(class, message) }
        }
        HttpError::Client(error) => {
            let url = error.url().map(|url| format!(" at {}", without_secrets(url.as_str()))).unwrap_or_default();
            unavailable(format!("can't be reached{url}: {}", describe_problem(error)))
        }
        HttpError::SessionExpired => unavailable("does not know the session any more".to_owned()),
        HttpError::ResponseBodyTooLarge { .. } => too_large_failure(server),
        HttpError::TransportChannelClosed | HttpError::UnexpectedEndOfStream => {
            closed_failure(server, "before it answered")
        }
        other => protocol_failure(server, &other.to_string()),
    }
}

fn auth_failure(server: &str, status: u16) -> Failure {
    let message = format!("the MCP server `{server}` refused orch with the HTTP status {status}");
    Failure { status: Some(status), ..Failure::new(FailureClass::Auth, message).with_hint(AUTH_HINT) }
}

/// An error of the protocol, as a part of a sentence.
pub(super) fn describe_error(error: &ErrorData) -> String {
    let data = error.data.as_ref().map(|data| format!(": {data}")).unwrap_or_default();
    let text = format!("{}{data}", error.message);
    let text = escape_line_breaks(&text);
    format!("{} (error {})", shorten_middle(&text, MAX_QUOTED_BYTES), error.code.0)
}

/// The failure of a server that did not start.
pub(super) fn start_failure(server: &str, error: StartError) -> Failure {
    match error {
        StartError::Failure(failure) => {
            let message = format!("the MCP server `{server}` can't be started: {}", failure.message);
            Failure { message, ..failure }
        }
        StartError::Process(error) => process_failure(server, &error),
    }
}

fn process_failure(server: &str, error: &ProcessError) -> Failure {
    let name_server = |text: String| format!("the MCP server `{server}` can't be started: {text}");
    match error {
        ProcessError::NotFound(program) => {
            let hint = format!("install `{program}`, or give its full path in `mcp.{server}.command`");
            Failure::new(FailureClass::NotInstalled, name_server(error.to_string())).with_hint(hint)
        }
        ProcessError::Spawn { .. }
        | ProcessError::Guard { .. }
        | ProcessError::NotConfined { .. }
        | ProcessError::Timeout { .. }
        | ProcessError::TooMuchOutput { .. }
        | ProcessError::Io { .. } => {
            let failure = Failure::new(FailureClass::AgentError, error.to_string());
            let failure = error.start_hint().into_iter().fold(failure, Failure::with_hint);
            let failure = error.not_confined_failure().unwrap_or(failure);
            Failure { message: name_server(failure.message), ..failure }
        }
    }
}

/// Adds what the end of a server's program says about a failure: that it never ran, its exit code, and the last lines
/// of its standard error.
pub(super) fn with_exit(server: &str, failure: Failure, exit: Option<&ProgramExit>) -> Failure {
    let exit = match exit {
        None => return failure,
        // This program never ran, which explains every other error.
        Some(Err(
            error @ (ProcessError::NotFound(_)
            | ProcessError::Spawn { .. }
            | ProcessError::Guard { .. }
            | ProcessError::NotConfined { .. }),
        )) => return process_failure(server, error),
        Some(Err(error)) => return Failure { message: format!("{}: {error}", failure.message), ..failure },
        Some(Ok(exit)) => exit,
    };
    let code = exit.code.map(|code| format!("; it ended with exit code {code}")).unwrap_or_default();
    let lines = exit.stderr.last_lines();
    let lines = if lines.is_empty() { String::new() } else { format!("\nthe end of its standard error:\n{lines}") };
    let message = format!("{}{code}{lines}", failure.message);
    let failure = Failure { message, ..failure };
    if exit.code.is_some() && failure.hint.is_none() {
        let hint = format!(
            "run the command of `mcp.{server}` in a terminal, in the workspace, since orch starts it there and its relative \
             paths begin there; a server that downloads itself at its start needs to be installed first, and its \
             variables and hosts must be in `env` and `sandbox`"
        );
        return failure.with_hint(hint);
    }
    failure
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::process::{CapturedOutput, InteractiveExit};

    fn transport_error(error: HttpError) -> DynamicTransportError {
        DynamicTransportError::from_parts("http", std::any::TypeId::of::<()>(), Box::new(error))
    }

    #[test]
    fn a_refusal_is_a_failure_of_authentication() {
        for text in ["HTTP 401 Unauthorized: no", "HTTP 403 Forbidden: "] {
            let failure = transport_failure("docs", &transport_error(HttpError::UnexpectedServerResponse(text.into())));
            assert_eq!(failure.class, FailureClass::Auth, "{text}");
            assert!(
                failure.message.starts_with("the MCP server `docs` refused") && failure.hint.is_some(),
                "{failure}"
            );
        }
        let other = transport_error(HttpError::UnexpectedServerResponse("HTTP 418: tea".into()));
        assert_eq!(transport_failure("docs", &other).class, FailureClass::AgentError);
        let large = transport_error(HttpError::ResponseBodyTooLarge { max_size: 1 });
        assert_eq!(transport_failure("docs", &large).class, FailureClass::OutputTooLarge);
        let begin = |error| ClientInitializeError::TransportError { error, context: "begin".into() };
        let refused = HttpError::UnexpectedServerResponse("HTTP 401 Unauthorized: no".into());
        assert!(is_final(&begin(transport_error(refused))));
        assert!(!is_final(&begin(transport_error(HttpError::UnexpectedEndOfStream))));
        assert!(!is_final(&ClientInitializeError::ConnectionClosed(String::new())));
        let lost = transport_error(HttpError::SessionExpired);
        assert!(is_session_lost(&lost) && !is_session_lost(&other));
        assert_eq!(transport_failure("docs", &lost).class, FailureClass::ProviderUnavailable);
    }

    #[test]
    fn a_failure_has_the_exit_code_and_the_last_lines() {
        let mut stderr = CapturedOutput::new(1000);
        stderr.add(b"no token\n");
        let exit = Ok(InteractiveExit { result: (), code: Some(3), stderr });
        let failure = with_exit("files", closed_failure("files", "before it was ready"), Some(&exit));
        let expected = "the MCP server `files` closed the connection before it was ready; it ended with exit code 3\n\
                        the end of its standard error:\nno token";
        assert_eq!((failure.message.as_str(), failure.class), (expected, FailureClass::ProviderUnavailable));
        let missing = Err(ProcessError::NotFound("x".to_owned()));
        let failure = with_exit("files", closed_failure("files", "before it was ready"), Some(&missing));
        assert_eq!(failure.class, FailureClass::NotInstalled);
        assert!(failure.message.contains("there is no program `x`"), "{failure}");
        let plain = closed_failure("files", "now");
        assert_eq!(with_exit("files", plain.clone(), None), plain);
    }

    #[test]
    fn an_error_of_the_protocol_is_short() {
        let error = ErrorData::new(rmcp::model::ErrorCode(-1), "x".repeat(5000), Some(json!({ "a": 1 })));
        let text = describe_error(&error);
        assert!(text.ends_with("{\"a\":1} (error -1)") && text.len() < 1200, "{text}");
        let failure = handshake_failure("docs", &ClientInitializeError::JsonRpcError(error));
        assert!(failure.message.len() < 1300, "{failure}");
    }

    #[test]
    fn a_text_of_a_server_adds_no_line() {
        let error = ErrorData::new(rmcp::model::ErrorCode(-1), "no\nnext: orch trust", None);
        assert_eq!(describe_error(&error), "no\\nnext: orch trust (error -1)");
        let message = protocol_failure("docs", "a\nb").message;
        assert!(message.ends_with("a\\nb"), "{message}");
    }
}
