//! Sends HTTP requests, and logs each of them without its address, its headers and its body, which may contain secrets.

use reqwest::{RequestBuilder, Response};
use tracing::{Instrument as _, debug, debug_span};

/// Sends a request, and waits for the status and the headers of the response. `client` is the part of orch that sends
/// the request, and `method` its method, for the log.
pub async fn send_logged(
    client: &'static str,
    method: &'static str,
    request: RequestBuilder,
) -> reqwest::Result<Response> {
    let exchange = async {
        debug!("orch sends the request");
        let result = request.send().await;
        match &result {
            Ok(response) => debug!(status = response.status().as_u16(), "the server answered"),
            Err(error) => debug!(reason = failure_reason(error), "the request got no answer"),
        }
        result
    };
    exchange.instrument(debug_span!("http_request", client, method)).await
}

/// Why a request got no answer. The text of the error itself may contain the address.
fn failure_reason(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "connect"
    } else if error.is_redirect() {
        "redirect"
    } else {
        "other"
    }
}
