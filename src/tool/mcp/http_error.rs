//! The errors of connections over HTTP.

use rmcp::transport::streamable_http_client::StreamableHttpError;

/// An error of a connection over HTTP.
pub(super) type HttpError = StreamableHttpError<reqwest::Error>;
