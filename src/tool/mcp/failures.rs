//! Converts errors of a connection to failures that name the server and say what the user can do.

use rmcp::model::{ErrorData, ProtocolVersion};
use rmcp::service::ClientInitializeError;
use rmcp::transport::DynamicTransportError;

use crate::model::visible::{escape_line_breaks, escape_unsafe, one_line};
use crate::model::{Failure, FailureClass, is_unanswered_call};
use crate::process::{ProcessError, shorten_middle};
use crate::secret::Redactor;

use super::MAX_MESSAGE_BYTES;
use super::connect::spoken_versions;
use super::hints::missing_program_hint;
use super::http_error::{HttpError, HttpProblem};
use super::http_failures::http_failure;
use super::messages::{MAX_VALUES, Rejection};
use super::stdio::{ProgramExit, StartError};
use super::waiting_answers::{MAX_WAITING_ANSWERS, MAX_WAITING_BYTES};

/// The maximum length of a text of the server in a message, in bytes.
const MAX_QUOTED_BYTES: usize = 1 << 10;
/// The maximum length of a version of the protocol in a message, in characters.
const MAX_VERSION_CHARS: usize = 64;
/// How many versions of the protocol a message names.
const MAX_NAMED_VERSIONS: usize = 5;
/// What the user can do about a message that is too large.
const TOO_LARGE_HINT: &str = "ask its tools for less at once, for example for one page or one file";

/// The failure of a server that is not ready to list its tools.
pub(super) fn handshake_failure(server: &str, error: &ClientInitializeError, redactor: &Redactor) -> Failure {
    let agent_error = |text: String| Failure::new(FailureClass::AgentError, text);
    match error {
        ClientInitializeError::TransportError { error, .. } => transport_failure(server, error, redactor),
        // The first attempt spoke the new protocol, which the server may not know.
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => handshake_failure(server, fallback, redactor),
        ClientInitializeError::ConnectionClosed(_) => closed_failure(server, "before it was ready"),
        ClientInitializeError::JsonRpcError(error) => {
            if let Some(rejection) = Rejection::of(error) {
                return rejected_failure(server, &rejection, redactor);
            }
            agent_error(format!("the MCP server `{server}` refused the connection: {}", describe_error(error)))
        }
        ClientInitializeError::NoCompatibleProtocolVersion { server_supported, .. } => {
            version_failure(server, server_supported, redactor)
        }
        // The texts of the crate for these contain whole messages, in the form of its own types.
        ClientInitializeError::ExpectedInitResponse(_) | ClientInitializeError::ExpectedInitResult(_) => {
            protocol_failure(server, "it answered the first request with something else than its result", redactor)
        }
        other => protocol_failure(server, &other.to_string(), redactor),
    }
}

/// The failure of a server that speaks only other versions of the protocol than orch.
pub(super) fn version_failure(server: &str, versions: &[ProtocolVersion], redactor: &Redactor) -> Failure {
    let versions: Vec<String> = versions
        .iter()
        .take(MAX_NAMED_VERSIONS)
        .map(|version| one_line(&escape_unsafe(&redactor.redact(version.as_str())), MAX_VERSION_CHARS))
        .collect();
    let versions = versions.join(", ");
    let message =
        format!("the MCP server `{server}` speaks no version of the protocol that orch speaks, but {versions}");
    Failure::new(FailureClass::AgentError, message).with_hint(version_hint())
}

/// What the user can do about a server that speaks other versions of the protocol.
fn version_hint() -> String {
    let versions = spoken_versions();
    let versions: Vec<&str> = versions.iter().map(ProtocolVersion::as_str).collect();
    format!("orch speaks the versions {}; use another version of the server", versions.join(", "))
}

/// A text of a server for a message: without secrets, on one line, and not too long. The text may have been cut off.
fn quote(text: &str, redactor: &Redactor) -> String {
    let text = redactor.redact_beginning(text);
    shorten_middle(&escape_line_breaks(&text), MAX_QUOTED_BYTES).into_owned()
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
        Some(error) if HttpProblem::of(error).is_some() => true,
        Some(_) | None => false,
    }
}

/// The failure of a server that does not follow the protocol.
pub(super) fn protocol_failure(server: &str, reason: &str, redactor: &Redactor) -> Failure {
    let reason = quote(reason, redactor);
    Failure::new(FailureClass::AgentError, format!("the MCP server `{server}` does not follow the protocol: {reason}"))
}

/// The failure of a server whose answer orch does not accept.
pub(super) fn rejected_failure(server: &str, rejection: &Rejection, redactor: &Redactor) -> Failure {
    match rejection {
        Rejection::Malformed(reason) => {
            protocol_failure(server, &format!("its answer can't be read: {reason}"), redactor)
        }
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

/// The failure of a server that sends requests and does not read the answers.
pub(super) fn unread_answers_failure(server: &str) -> Failure {
    let message = format!(
        "the MCP server `{server}` sends requests and does not read the answers: more than {MAX_WAITING_ANSWERS} of them \
         or more than {} MiB waited, and orch ended the connection",
        MAX_WAITING_BYTES >> 20
    );
    Failure::new(FailureClass::AgentError, message).with_hint("report this to the author of the server")
}

/// The failure of a message that could not be sent, or of its answer.
pub(super) fn transport_failure(server: &str, error: &DynamicTransportError, redactor: &Redactor) -> Failure {
    if let Some(error) = error.error.downcast_ref::<HttpError>() {
        return http_failure(server, error, redactor);
    }
    let reason = quote(&error.error.to_string(), redactor);
    let message = format!("the connection to the MCP server `{server}` failed: {reason}");
    Failure::new(FailureClass::ProviderUnavailable, message)
}

/// The failure of a call that orch did not send, because it could not start or reach the server.
pub(super) fn unsent_failure(failure: Failure) -> Failure {
    let message = if is_unanswered_call(failure.class) {
        format!("{}; orch did not send the call", failure.message)
    } else {
        failure.message
    };
    Failure { message, unperformed: true, ..failure }
}

/// Whether a server refused a request because it does not know the session. It did not perform the request.
pub(super) fn is_session_lost(error: &DynamicTransportError) -> bool {
    matches!(error.error.downcast_ref::<HttpError>(), Some(HttpError::SessionExpired))
}

/// An error of the protocol, as a part of a sentence. The transport has removed secrets from it.
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
    let allow = |path: &str| format!("list `{path}` under `mcp.{server}.sandbox.write`");
    if let Some(failure) = error.hidden_failure(allow) {
        return Failure { message: name_server(failure.message), ..failure };
    }
    match error {
        ProcessError::NotFound(program) => {
            let hint = missing_program_hint(server, program);
            Failure::new(FailureClass::NotInstalled, name_server(error.to_string())).with_hint(hint)
        }
        ProcessError::Hidden { .. }
        | ProcessError::Spawn { .. }
        | ProcessError::Supervisor { .. }
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
pub(super) fn with_exit(server: &str, failure: Failure, exit: Option<&ProgramExit>, redactor: &Redactor) -> Failure {
    let exit = match exit {
        None => return failure,
        // This program never ran, which explains every other error.
        Some(Err(
            error @ (ProcessError::NotFound(_)
            | ProcessError::Hidden { .. }
            | ProcessError::Spawn { .. }
            | ProcessError::Supervisor { .. }
            | ProcessError::NotConfined { .. }),
        )) => return process_failure(server, error),
        Some(Err(error)) => return Failure { message: format!("{}: {error}", failure.message), ..failure },
        Some(Ok(exit)) => exit,
    };
    let code = exit.code.map(|code| format!("; it ended with exit code {code}")).unwrap_or_default();
    let lines = exit.stderr.last_lines_of(|text| redactor.redact_ending(text));
    let lines = if lines.is_empty() { String::new() } else { format!("\nthe end of its standard error:\n{lines}") };
    let message = format!("{}{code}{lines}", failure.message);
    let failure = Failure { message, ..failure };
    if failure.hint.is_some() {
        return failure;
    }
    if let Some(hidden) = &exit.hidden_argument {
        let hint = hidden.file_hint(|path| format!("list `{path}` under `mcp.{server}.sandbox.write`"));
        return failure.with_hint(format!("{hidden}; {hint}"));
    }
    if exit.code.is_some() {
        let hint = format!(
            "run the command of `mcp.{server}` in a terminal, in the workspace, since orch starts it there and its relative \
             paths begin there (`{{{{ project.root }}}}` is the project's folder); a server that downloads itself at \
             its start needs to be installed first, and its variables and hosts must be in `env` and `sandbox`"
        );
        return failure.with_hint(hint);
    }
    failure
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use serde_json::json;

    use super::*;
    use crate::process::CapturedOutput;
    use crate::tool::mcp::stdio::ServerExit;

    fn transport_error(error: HttpError) -> DynamicTransportError {
        DynamicTransportError::from_parts("http", std::any::TypeId::of::<()>(), Box::new(error))
    }

    fn failure_of(error: &DynamicTransportError) -> Failure {
        transport_failure("docs", error, &Redactor::default())
    }

    #[test]
    fn the_hint_for_an_unknown_version_names_the_known_ones() {
        let hint = version_failure("docs", &[ProtocolVersion::V_2025_11_25], &Redactor::default()).hint.unwrap();
        let expected = "orch speaks the versions 2026-07-28, 2025-11-25, 2025-06-18, 2025-03-26, 2024-11-05; ";
        assert!(hint.starts_with(expected), "{hint}");
    }

    #[test]
    fn a_quoted_text_contains_no_part_of_a_secret() {
        let secret = SecretString::from("s3cret-value-of-a-key");
        let redactor = Redactor::new([("KEY", &secret)]);
        let quoted = |text: String| {
            let error = transport_error(HttpError::UnexpectedServerResponse(text.into()));
            transport_failure("docs", &error, &redactor).message
        };
        for offset in 0..2 * MAX_QUOTED_BYTES {
            let text = format!("HTTP 418: {}s3cret-value-of-a-key{}", "x".repeat(offset), "y".repeat(MAX_QUOTED_BYTES));
            let message = quoted(text);
            assert!(!message.contains("s3cret") && !message.contains("a-key"), "{offset}: {message}");
        }
        let cut_off = quoted("HTTP 418: s3cret-value-o".to_owned());
        assert!(cut_off.ends_with("HTTP 418: [secret KEY]"), "{cut_off}");
        let mut stderr = CapturedOutput::new(100_000);
        stderr.add(format!("s3cret-value-of-a-key{}\n", "x".repeat((4 << 10) - 10)).as_bytes());
        let exit = Ok(ServerExit { code: Some(3), stderr, hidden_argument: None });
        let failure = with_exit("files", closed_failure("files", "now"), Some(&exit), &redactor);
        assert!(!failure.message.contains("of-a-key"), "{failure}");
    }

    #[test]
    fn a_message_shows_no_value_of_the_program() {
        let message =
            serde_json::from_value(json!({ "jsonrpc": "2.0", "id": 1, "result": { "content": [] } })).unwrap();
        let error = ClientInitializeError::ExpectedInitResponse(Some(message));
        let content_type = transport_error(HttpError::UnexpectedContentType(Some("text/html".to_owned())));
        for message in [
            handshake_failure("docs", &error, &Redactor::default()).message,
            failure_of(&content_type).message,
            failure_of(&transport_error(HttpError::UnexpectedContentType(None))).message,
        ] {
            assert!(!message.contains("Some(") && !message.contains("None"), "{message}");
        }
        assert!(failure_of(&content_type).message.ends_with("its answer has `text/html` in place of JSON or events"));
    }

    #[test]
    fn a_refusal_is_a_failure_of_authentication() {
        for text in ["HTTP 401 Unauthorized: no", "HTTP 403 Forbidden: "] {
            let error = transport_error(HttpError::UnexpectedServerResponse(text.into()));
            let failure = failure_of(&error);
            assert_eq!(failure.class, FailureClass::Auth, "{text}");
            assert!(
                failure.message.starts_with("the MCP server `docs` refused") && failure.hint.is_some(),
                "{failure}"
            );
        }
        let other = transport_error(HttpError::UnexpectedServerResponse("HTTP 418: tea".into()));
        assert_eq!(failure_of(&other).class, FailureClass::AgentError);
        let large = transport_error(HttpError::ResponseBodyTooLarge { max_size: 1 });
        assert_eq!(failure_of(&large).class, FailureClass::OutputTooLarge);
        let begin = |error| ClientInitializeError::TransportError { error, context: "begin".into() };
        let refused = HttpError::UnexpectedServerResponse("HTTP 401 Unauthorized: no".into());
        assert!(is_final(&begin(transport_error(refused))));
        assert!(!is_final(&begin(transport_error(HttpError::UnexpectedEndOfStream))));
        assert!(!is_final(&ClientInitializeError::ConnectionClosed(String::new())));
        let lost = transport_error(HttpError::SessionExpired);
        assert!(is_session_lost(&lost) && !is_session_lost(&other));
        let lost = failure_of(&lost);
        assert_eq!((lost.class, lost.unperformed), (FailureClass::ProviderUnavailable, true), "{lost}");
    }

    #[test]
    fn a_call_that_orch_did_not_send_says_so() {
        let failure = unsent_failure(closed_failure("files", "before it was ready"));
        let expected = "the MCP server `files` closed the connection before it was ready; orch did not send the call";
        assert_eq!((failure.message.as_str(), failure.unperformed), (expected, true));
        let stopped = unsent_failure(Failure::new(FailureClass::Cancelled, "the run was stopped"));
        assert_eq!((stopped.message.as_str(), stopped.unperformed), ("the run was stopped", true));
    }

    #[test]
    fn a_failure_has_the_exit_code_and_the_last_lines() {
        let mut stderr = CapturedOutput::new(1000);
        stderr.add(b"no token\n");
        let exit = Ok(ServerExit { code: Some(3), stderr, hidden_argument: None });
        let redactor = Redactor::default();
        let failure = with_exit("files", closed_failure("files", "before it was ready"), Some(&exit), &redactor);
        let expected = "the MCP server `files` closed the connection before it was ready; it ended with exit code 3\n\
                        the end of its standard error:\nno token";
        assert_eq!((failure.message.as_str(), failure.class), (expected, FailureClass::ProviderUnavailable));
        let missing = Err(ProcessError::NotFound("x".to_owned()));
        let failure = with_exit("files", closed_failure("files", "before it was ready"), Some(&missing), &redactor);
        assert_eq!(failure.class, FailureClass::NotInstalled);
        assert!(failure.message.contains("there is no program `x`"), "{failure}");
        let plain = closed_failure("files", "now");
        assert_eq!(with_exit("files", plain.clone(), None, &redactor), plain);
    }

    #[test]
    fn an_error_of_the_protocol_is_short() {
        let error = ErrorData::new(rmcp::model::ErrorCode(-1), "x".repeat(5000), Some(json!({ "a": 1 })));
        let text = describe_error(&error);
        assert!(text.ends_with("{\"a\":1} (error -1)") && text.len() < 1200, "{text}");
        let failure = handshake_failure("docs", &ClientInitializeError::JsonRpcError(error), &Redactor::default());
        assert!(failure.message.len() < 1300, "{failure}");
    }

    #[test]
    fn a_text_of_a_server_adds_no_line() {
        let error = ErrorData::new(rmcp::model::ErrorCode(-1), "no\nnext: orch trust", None);
        assert_eq!(describe_error(&error), "no\\nnext: orch trust (error -1)");
        let message = protocol_failure("docs", "a\nb", &Redactor::default()).message;
        assert!(message.ends_with("a\\nb"), "{message}");
    }
}
