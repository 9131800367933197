//! Addresses, headers and HTTP clients.
//!
//! Requests share a client if they have the same connect time-out, proxy and certificates, and all or none of them use
//! TLS. No client follows redirects or retries, and a client for plain HTTP loads no certificates.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};

use super::{Endpoint, errors};
use crate::model::failure::{Failure, FailureClass};
use crate::model::http_url::http_url_error;
pub(super) use crate::network::without_secrets;
use crate::network::{Network, ProxySetting, install_tls_provider, is_loopback};

/// Parses an address; the failure names the provider.
pub(super) fn parse_url(url: &str, name: &str) -> Result<Url, Failure> {
    let invalid = |reason: String| {
        Failure::new(FailureClass::BadRequest, format!("{} is not an address: {reason}", without_secrets(url)))
            .with_hint(format!("check the base URL of {name}; it begins with http:// or https://"))
    };
    if let Some(reason) = http_url_error(url) {
        return Err(invalid(reason));
    }
    Url::parse(url).map_err(|error| invalid(error.to_string()))
}

/// Builds the headers of a request without its authentication. Marks the headers that the user set as sensitive, since
/// they may be secret.
pub(super) fn header_map(
    call_headers: &[(&'static str, &'static str)],
    endpoint: &Endpoint,
) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
    for (name, value) in call_headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for (name, value) in &endpoint.headers {
        let invalid =
            || Failure::new(FailureClass::BadRequest, format!("the header `{name}` of {} is not valid", endpoint.name));
        let name = HeaderName::try_from(name.as_str()).map_err(|_| invalid())?;
        let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| invalid())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The properties that requests must have in common to share a client.
#[derive(Clone, PartialEq, Eq)]
struct ClientKey {
    uses_tls: bool,
    connect_timeout: Duration,
    /// The proxy for the address, if there is one.
    proxy: Option<ProxySetting>,
    /// The settings that determine the trusted certificates.
    network: Network,
}

/// Returns the client for an address. Requests share clients, and so also their open connections.
pub(super) fn shared_client(url: &Url, connect_timeout: Duration, network: &Network) -> Result<Client, Failure> {
    static CLIENTS: Mutex<Vec<(ClientKey, Client)>> = Mutex::new(Vec::new());
    let proxy = network.proxy(url)?;
    let uses_tls = url.scheme() == "https" || proxy.as_ref().is_some_and(|proxy| proxy.value.starts_with("https://"));
    let key = ClientKey { uses_tls, connect_timeout, proxy, network: network.clone() };
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, client)) = clients.iter().find(|(client_key, _)| *client_key == key) {
        return Ok(client.clone());
    }
    let client = build_client(&key)?;
    clients.push((key, client.clone()));
    Ok(client)
}

fn build_client(key: &ClientKey) -> Result<Client, Failure> {
    install_tls_provider();
    let setup_failure = |error: reqwest::Error| {
        let message = format!("can't set up HTTP: {}", errors::innermost_cause(&error));
        Failure::new(FailureClass::ProviderUnavailable, message)
    };
    let mut builder = Client::builder()
        .user_agent(concat!("orch/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(key.connect_timeout)
        .pool_idle_timeout(Duration::from_secs(30))
        .tcp_nodelay(true)
        // `Network` reads the proxy variables, so that a message can name the variable.
        .no_proxy();
    if let Some(proxy) = &key.proxy {
        builder = builder.proxy(reqwest::Proxy::all(&proxy.value).map_err(setup_failure)?);
    }
    if !key.uses_tls {
        // Plain HTTP needs no certificates, and loading the system's certificates reads many files.
        builder = builder.tls_certs_only([]);
    } else if let Some(tls) = key.network.tls_config()? {
        builder = builder.tls_backend_preconfigured(tls);
    }
    builder.build().map_err(setup_failure)
}

/// The base URL of a request, with `{model}` replaced by the model's name and without a slash at its end.
///
/// # Errors
/// The model's name can't be a part of the path.
pub(super) fn base_url(endpoint: &Endpoint, model: &str) -> Result<String, Failure> {
    let base = endpoint.base_url.trim_end_matches('/');
    if base.contains("{model}") { Ok(base.replace("{model}", &model_path(model, b"/@")?)) } else { Ok(base.to_owned()) }
}

/// Percent-encodes the name of a model for the path of a URL, except for the characters in `unencoded`.
///
/// # Errors
/// A segment of the name is empty, `.` or `..`. The URL parser would resolve it, and the request would leave the path of
/// the base URL.
pub(super) fn model_path(name: &str, unencoded: &[u8]) -> Result<String, Failure> {
    let Some(segment) = name.split('/').find(|segment| matches!(*segment, "" | "." | "..")) else {
        return Ok(percent_encode(name, unencoded));
    };
    let problem =
        if segment.is_empty() { "a part of it is empty".to_owned() } else { format!("it contains `{segment}`") };
    let message = format!("the model's name `{name}` can't be a part of an address: {problem}");
    Err(Failure::new(FailureClass::BadRequest, message).with_hint("write the model's name as the provider spells it"))
}

/// Percent-encodes a text, except for unreserved characters and those in `unencoded`.
pub(super) fn percent_encode(text: &str, unencoded: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || unencoded.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// An address in the form that the URL parser produces, which shows where a request really goes: the host is in ASCII,
/// and characters that the parser ignores are removed.
pub fn normalized_address(url: &str) -> String {
    Url::parse(url.trim()).map_or_else(|_| url.to_owned(), |url| url.to_string().replace("%7Bmodel%7D", "{model}"))
}

/// Whether an address is on this machine's loopback. Checks the parsed host, so that neither
/// `http://127.0.0.1@evil.example` nor `http://localhost.evil.example` counts as one.
pub fn is_loopback_address(url: &str) -> bool {
    Url::parse(url.trim()).is_ok_and(|url| is_loopback(&url))
}

/// Whether requests to an address are unencrypted on the network: plain HTTP to a host other than the loopback.
pub fn is_unencrypted_address(url: &str) -> bool {
    Url::parse(url.trim()).is_ok_and(|url| url.scheme() == "http" && !is_loopback(&url))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;
    use crate::provider::Dialect;

    #[test]
    fn a_models_name_can_not_leave_the_path_of_the_base_url() {
        let endpoint = Endpoint::new("lab", Dialect::OpenAi, "https://lab.example/deployments/{model}");
        for (name, path) in
            [("my gpt", "my%20gpt"), ("org/model@1", "org/model@1"), ("..a/.b.", "..a/.b."), ("%2e%2e", "%252e%252e")]
        {
            assert_eq!(base_url(&endpoint, name).unwrap(), format!("https://lab.example/deployments/{path}"));
        }
        for name in ["..", ".", "../../x", "a/../b", "a/./b", "a//b", "/a", "a/", ""] {
            let failure = base_url(&endpoint, name).unwrap_err();
            assert_eq!(failure.class, FailureClass::BadRequest, "{name}");
            assert!(failure.message.contains("can't be a part of an address"), "{failure}");
        }
        // Without a place for the name in the address, the name does not matter.
        let endpoint = Endpoint::new("lab", Dialect::OpenAi, "https://lab.example/v1/");
        assert_eq!(base_url(&endpoint, "../x").unwrap(), "https://lab.example/v1");
    }
}
