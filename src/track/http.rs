//! The HTTP client for trackers: posts with a time limit, and reads a bounded reply.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};
use secrecy::ExposeSecret as _;

use super::{Tracker, TrackerClock, TrackerDecision, TrackerMessage};
use crate::model::Failure;
use crate::network::{Network, ProxySetting, certificate_problem, send_logged};

/// The time limit of one request, including its reply.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of bytes of a reply that orch reads.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// Posts messages to one tracker.
pub(super) struct HttpSender {
    client: Client,
    clock: TrackerClock,
    /// The proxy between orch and the tracker, for error messages.
    proxy: Option<ProxySetting>,
}

impl HttpSender {
    pub(super) fn new(url: &str, network: &Network, clock: TrackerClock) -> Result<Self, String> {
        let address = Url::parse(url).map_err(|error| format!("its address can't be read: {error}"))?;
        let failure_message = |failure: Failure| failure.message;
        let proxy = network.proxy(&address).map_err(failure_message)?;
        let mut builder = Client::builder()
            .user_agent(concat!("orch/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(REQUEST_TIMEOUT)
            .tcp_nodelay(true)
            .no_proxy();
        if let Some(proxy) = &proxy {
            builder =
                builder.proxy(reqwest::Proxy::all(&proxy.value).map_err(|error| root_cause(error.without_url()))?);
        }
        let uses_tls = |url: &str| url.starts_with("https://");
        if !uses_tls(address.as_str()) && !proxy.as_ref().is_some_and(|proxy| uses_tls(&proxy.value)) {
            // Plain HTTP needs no certificates, and loading the system's certificates would read many files.
            builder = builder.tls_certs_only([]);
        } else if let Some(tls) = network.tls_config().map_err(failure_message)? {
            builder = builder.tls_backend_preconfigured(tls);
        }
        let client = builder.build().map_err(|error| root_cause(error.without_url()))?;
        Ok(Self { client, clock, proxy })
    }

    /// Posts a message once, without a retry.
    pub(super) async fn post(&self, tracker: &dyn Tracker, message: &TrackerMessage) -> TrackerDecision {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &message.headers {
            match HeaderValue::try_from(value) {
                Ok(value) => headers.insert(HeaderName::from_static(name), value),
                Err(_) => return TrackerDecision::Refused(format!("the header `{name}` can't be sent")),
            };
        }
        for (name, value) in tracker.auth_headers(message, (self.clock)()) {
            let Ok(mut value) = HeaderValue::try_from(value.expose_secret()) else {
                return TrackerDecision::RetryLater("its key has characters that a header can't contain".to_owned());
            };
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        let request = self.client.post(tracker.url()).headers(headers).body(message.body.clone());
        match send_logged("tracker", "POST", request).await {
            Ok(response) => self.read_reply(response, tracker).await,
            Err(error) => TrackerDecision::RetryLater(self.describe_error(error)),
        }
    }

    async fn read_reply(&self, mut response: Response, tracker: &dyn Tracker) -> TrackerDecision {
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while body.len() < MAX_REPLY_BYTES {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return TrackerDecision::RetryLater(self.describe_error(error)),
            }
        }
        tracker.parse_reply(status, &String::from_utf8_lossy(&body))
    }

    /// Describes why a request got no reply.
    fn describe_error(&self, error: reqwest::Error) -> String {
        let via_proxy =
            self.proxy.as_ref().map_or_else(String::new, |proxy| format!(" through {}", proxy.description()));
        if error.is_timeout() {
            return format!("it did not reply{via_proxy} within {} s", REQUEST_TIMEOUT.as_secs());
        }
        let error = error.without_url();
        match certificate_problem(&error) {
            Some((reason, hint)) => format!("its certificate is not trusted: {reason}; {hint}"),
            None => format!("it can't be reached{via_proxy}: {}", root_cause(error)),
        }
    }
}

/// The message of the innermost cause, which is the most specific.
fn root_cause(error: reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = &error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
