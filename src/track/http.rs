//! The one way to a tracker: a post with a time limit, and a bounded reply.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};
use secrecy::ExposeSecret as _;

use super::{Clock, Message, Tracker, Verdict};

/// How long one request may take in all.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The most that is read of a reply.
const MAX_REPLY: usize = 64 * 1024;

/// Whether a text is an address with `http` or `https`.
pub(super) fn is_address(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Posts messages to one tracker.
pub(super) struct Poster {
    client: Client,
    clock: Clock,
}

impl Poster {
    pub(super) fn new(url: &str, clock: Clock) -> Result<Self, String> {
        let mut builder = Client::builder()
            .user_agent(concat!("orch/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(TIMEOUT)
            .tcp_nodelay(true);
        if is_loopback(url) {
            builder = builder.no_proxy();
        }
        if url.starts_with("http://") {
            // No certificates: the system's are many files, and plain HTTP needs none.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| causes(error.without_url()))?;
        Ok(Self { client, clock })
    }

    /// Posts a message once.
    pub(super) async fn post(&self, tracker: &dyn Tracker, message: &Message) -> Verdict {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &message.headers {
            match HeaderValue::try_from(value) {
                Ok(value) => headers.insert(HeaderName::from_static(name), value),
                Err(_) => return Verdict::Refused(format!("the header `{name}` can't be sent")),
            };
        }
        for (name, value) in tracker.proof(message, (self.clock)()) {
            let Ok(mut value) = HeaderValue::try_from(value.expose_secret()) else {
                return Verdict::Later("its key has characters that no key has".to_owned());
            };
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        let request = self.client.post(tracker.url()).headers(headers).body(message.body.clone());
        match request.send().await {
            Ok(response) => read(response, tracker).await,
            Err(error) => Verdict::Later(unreachable(error)),
        }
    }
}

async fn read(mut response: Response, tracker: &dyn Tracker) -> Verdict {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while body.len() < MAX_REPLY {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return Verdict::Later(unreachable(error)),
        }
    }
    tracker.verdict(status, &String::from_utf8_lossy(&body))
}

fn unreachable(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("it did not answer within {} s", TIMEOUT.as_secs());
    }
    format!("it can't be reached: {}", causes(error.without_url()))
}

/// The innermost cause, which says most.
fn causes(error: reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = &error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn is_loopback(url: &str) -> bool {
    let url = Url::parse(url).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_has_addresses() {
        assert!(is_address("https://happy-animal-1.convex.cloud") && is_address("http://127.0.0.1:3210"));
        assert!(!is_address("convex.cloud") && !is_address("file:///etc/passwd") && !is_address(""));
    }
}
