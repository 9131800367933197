//! The HTTP client for trackers: posts with a time limit, and reads a bounded reply.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};
use secrecy::ExposeSecret as _;

use super::{EncodedEvent, Tracker, TrackerClock, TrackerMessage};
use crate::model::Failure;
use crate::network::{Network, ProxySetting, distrust};

/// The time limit of one request, its reply included.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How much of a reply is read, in bytes.
const MAX_REPLY: usize = 64 * 1024;

/// Posts messages to one tracker.
pub(super) struct Poster {
    client: Client,
    clock: TrackerClock,
    /// The proxy between orch and the tracker, for messages.
    proxy: Option<ProxySetting>,
}

impl Poster {
    pub(super) fn new(url: &str, network: &Network, clock: TrackerClock) -> Result<Self, String> {
        let address = Url::parse(url).map_err(|error| format!("its address can't be read: {error}"))?;
        let failed = |failure: Failure| failure.message;
        let proxy = network.proxy(&address).map_err(failed)?;
        let mut builder = Client::builder()
            .user_agent(concat!("orch/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(TIMEOUT)
            .tcp_nodelay(true)
            .no_proxy();
        if let Some(proxy) = &proxy {
            builder = builder.proxy(reqwest::Proxy::all(&proxy.value).map_err(|error| causes(error.without_url()))?);
        }
        let tls = |url: &str| url.starts_with("https://");
        if !tls(address.as_str()) && !proxy.as_ref().is_some_and(|proxy| tls(&proxy.value)) {
            // No certificates: loading the system's reads many files, and plain HTTP needs none.
            builder = builder.tls_certs_only([]);
        } else if let Some(tls) = network.tls().map_err(failed)? {
            builder = builder.tls_backend_preconfigured(tls);
        }
        let client = builder.build().map_err(|error| causes(error.without_url()))?;
        Ok(Self { client, clock, proxy })
    }

    /// Posts a message once, without a retry.
    pub(super) async fn post(&self, tracker: &dyn Tracker, message: &TrackerMessage) -> EncodedEvent {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &message.headers {
            match HeaderValue::try_from(value) {
                Ok(value) => headers.insert(HeaderName::from_static(name), value),
                Err(_) => return EncodedEvent::Refused(format!("the header `{name}` can't be sent")),
            };
        }
        for (name, value) in tracker.proof(message, (self.clock)()) {
            let Ok(mut value) = HeaderValue::try_from(value.expose_secret()) else {
                return EncodedEvent::Later("its key has characters that no key has".to_owned());
            };
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        let request = self.client.post(tracker.url()).headers(headers).body(message.body.clone());
        match request.send().await {
            Ok(response) => self.read(response, tracker).await,
            Err(error) => EncodedEvent::Later(self.unreachable(error)),
        }
    }

    async fn read(&self, mut response: Response, tracker: &dyn Tracker) -> EncodedEvent {
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while body.len() < MAX_REPLY {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return EncodedEvent::Later(self.unreachable(error)),
            }
        }
        tracker.verdict(status, &String::from_utf8_lossy(&body))
    }

    fn unreachable(&self, error: reqwest::Error) -> String {
        let through = self.proxy.as_ref().map_or_else(String::new, |proxy| format!(" through {}", proxy.phrase()));
        if error.is_timeout() {
            return format!("it did not answer{through} within {} s", TIMEOUT.as_secs());
        }
        let error = error.without_url();
        match distrust(&error) {
            Some((why, hint)) => format!("its certificate is not trusted: {why}; {hint}"),
            None => format!("it can't be reached{through}: {}", causes(error)),
        }
    }
}

/// The message of the innermost cause, which is the most specific.
fn causes(error: reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = &error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
