//! Converts errors of a connection over HTTP to failures.

use crate::model::visible::{escape_line_breaks, escape_unsafe};
use crate::model::{Failure, FailureClass};
use crate::network::without_secrets;
use crate::process::shorten_middle;
use crate::secret::Redactor;
use crate::tool::http_client::describe_problem;

use super::failures::{closed_failure, protocol_failure, too_large_failure};
use super::http_error::{HttpError, HttpProblem};

/// The maximum length of an address of the server in a message, in bytes.
const MAX_ADDRESS_BYTES: usize = 300;
/// What the user can do about a server that wants a login and to which orch sends no credentials.
pub(super) const AUTH_HINT: &str = "orch does not support OAuth for MCP servers: put a token into `headers`, as \
                         `Authorization: { env: VARIABLE }`";

/// The failure of a request over HTTP.
pub(super) fn http_failure(server: &str, error: &HttpError, redactor: &Redactor) -> Failure {
    let unavailable =
        |text: String| Failure::new(FailureClass::ProviderUnavailable, format!("the MCP server `{server}` {text}"));
    if let Some(problem) = HttpProblem::of(error) {
        return problem_failure(server, problem, redactor);
    }
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
            let is_unsent = error.is_connect() || error.is_builder();
            let what = if is_unsent { "can't be reached" } else { "did not answer" };
            unavailable(format!("{what}{url}: {}", describe_problem(error)))
        }
        HttpError::SessionExpired => {
            let failure =
                unavailable("does not know the session any more, so it did not perform the request".to_owned());
            Failure { unperformed: true, ..failure }
        }
        HttpError::ResponseBodyTooLarge { .. } => too_large_failure(server),
        HttpError::TransportChannelClosed | HttpError::UnexpectedEndOfStream => {
            closed_failure(server, "before it answered")
        }
        HttpError::UnexpectedContentType(content_type) => {
            let content_type = content_type.as_ref();
            let content_type = content_type.map_or_else(|| "no content type".to_owned(), |name| format!("`{name}`"));
            protocol_failure(server, &format!("its answer has {content_type} in place of JSON or events"), redactor)
        }
        other => protocol_failure(server, &other.to_string(), redactor),
    }
}

fn auth_failure(server: &str, status: u16) -> Failure {
    let message = format!("the MCP server `{server}` refused orch with the HTTP status {status}");
    Failure { status: Some(status), ..Failure::new(FailureClass::Auth, message).with_hint(AUTH_HINT) }
}

/// The failure of a response that orch does not accept.
fn problem_failure(server: &str, problem: &HttpProblem, redactor: &Redactor) -> Failure {
    match problem {
        HttpProblem::Redirect { status, target, reason } => {
            let target = target.as_deref().map(|target| shown_address(target, redactor));
            let to = target.as_ref().map(|target| format!(" to {target}")).unwrap_or_default();
            let message = format!(
                "the MCP server `{server}` redirects the request{to} (HTTP status {status}), and orch does not follow: \
                 {reason}"
            );
            let hint = match target {
                Some(_) => format!("if requests may go to that address, write it as `mcp.{server}.url` into orch.yaml"),
                None => format!("check the address in `mcp.{server}.url`"),
            };
            Failure { status: Some(*status), ..Failure::new(FailureClass::AgentError, message).with_hint(hint) }
        }
        HttpProblem::CutOff { status, reason } => {
            let message = format!(
                "the MCP server `{server}` answered with the HTTP status {status}, but the body of its answer ended early \
                 or is damaged: {reason}"
            );
            Failure { status: Some(*status), ..Failure::new(FailureClass::ProviderUnavailable, message) }
        }
    }
}

/// An address that a server sent, for a message: without secrets, on one line, and not too long.
fn shown_address(address: &str, redactor: &Redactor) -> String {
    let address = redactor.redact(&without_secrets(address));
    shorten_middle(&escape_line_breaks(&escape_unsafe(&address)), MAX_ADDRESS_BYTES).into_owned()
}
