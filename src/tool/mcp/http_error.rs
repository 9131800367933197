//! The errors of connections over HTTP.

use std::io;

use rmcp::transport::streamable_http_client::StreamableHttpError;

/// An error of a connection over HTTP.
pub(super) type HttpError = StreamableHttpError<reqwest::Error>;

/// An error for which the crate of the protocol has no kind. It is inside of [`HttpError::Io`].
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpProblem {
    /// A redirect that orch does not follow.
    #[error("a redirect with the HTTP status {status}: {reason}")]
    Redirect {
        /// The HTTP status.
        status: u16,
        /// The address, as far as the server sent one.
        target: Option<String>,
        /// Why orch does not follow it.
        reason: String,
    },
    /// A body that could not be read to its end.
    #[error("a body that ended early: {reason}")]
    CutOff {
        /// The HTTP status.
        status: u16,
        /// What happened to the connection.
        reason: String,
    },
}

impl HttpProblem {
    /// The problem inside of an error.
    pub(super) fn of(error: &HttpError) -> Option<&Self> {
        match error {
            HttpError::Io(error) => error.get_ref()?.downcast_ref(),
            _ => None,
        }
    }
}

impl From<HttpProblem> for HttpError {
    fn from(problem: HttpProblem) -> Self {
        Self::Io(io::Error::other(problem))
    }
}
