//! Addresses, headers and HTTP clients.
//!
//! Builds what every request needs. Requests share a client if they agree in TLS, connect time-out, proxy and
//! certificates. No client follows redirects or retries, and one for plain HTTP loads no certificates.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use secrecy::ExposeSecret as _;

use super::{Endpoint, errors};
use crate::model::address::why_no_http_address;
use crate::model::failure::{Class, Failure};
pub(super) use crate::network::shown;
use crate::network::{Network, ProxySetting, is_loopback, prepare_tls};

/// Parses an address; the failure names the provider.
pub(super) fn address(url: &str, name: &str) -> Result<Url, Failure> {
    let wrong = |why: String| {
        Failure::new(Class::BadRequest, format!("{} is not an address: {why}", shown(url)))
            .with_hint(format!("check the base URL of {name}; it begins with http:// or https://"))
    };
    if let Some(why) = why_no_http_address(url) {
        return Err(wrong(why));
    }
    Url::parse(url).map_err(|error| wrong(error.to_string()))
}

/// All headers of a request; those that may be secret are marked as sensitive.
pub(super) fn header_map(
    call_headers: &[(&'static str, &'static str)],
    endpoint: &Endpoint,
    key: (&'static str, &'static str),
) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::new();
    map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    map.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
    for (name, value) in call_headers {
        map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Some(secret) = &endpoint.api_key {
        let (name, prefix) = match &endpoint.key_header {
            // A custom key header carries the bare key; only `authorization` needs the scheme too.
            Some(own) if own.eq_ignore_ascii_case("authorization") => (own.as_str(), "Bearer "),
            Some(own) => (own.as_str(), ""),
            None => key,
        };
        let mut value = HeaderValue::try_from(format!("{prefix}{}", secret.expose_secret().trim())).map_err(|_| {
            let failure =
                Failure::new(Class::Auth, format!("the key of {} has characters that no key has", endpoint.name));
            match &endpoint.key_variable {
                Some(variable) => failure.with_hint(format!("set {variable} again, without line breaks")),
                None => failure,
            }
        })?;
        value.set_sensitive(true);
        let name = HeaderName::try_from(name).map_err(|_| {
            Failure::new(Class::BadRequest, format!("`key_header` of {} is not the name of a header", endpoint.name))
        })?;
        map.insert(name, value);
    }
    for (name, value) in &endpoint.headers {
        let wrong =
            || Failure::new(Class::BadRequest, format!("the header `{name}` of {} is not a valid one", endpoint.name));
        let name = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        map.insert(name, value);
    }
    Ok(map)
}

/// What requests must agree in to share a client.
#[derive(Clone, PartialEq, Eq)]
struct ClientKey {
    tls: bool,
    connect: Duration,
    /// The proxy for the address, if there is one.
    proxy: Option<ProxySetting>,
    /// Determines which certificates are trusted.
    network: Network,
}

/// The client for an address. Clients are shared, so that their open connections are reused.
pub(super) fn client(url: &Url, connect: Duration, network: &Network) -> Result<Client, Failure> {
    static CLIENTS: Mutex<Vec<(ClientKey, Client)>> = Mutex::new(Vec::new());
    let proxy = network.proxy(url)?;
    let tls = url.scheme() == "https" || proxy.as_ref().is_some_and(|proxy| proxy.value.starts_with("https://"));
    let key = ClientKey { tls, connect, proxy, network: network.clone() };
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, client)) = clients.iter().find(|(known, _)| *known == key) {
        return Ok(client.clone());
    }
    let client = build(&key)?;
    clients.push((key, client.clone()));
    Ok(client)
}

fn build(key: &ClientKey) -> Result<Client, Failure> {
    prepare_tls();
    let unusable = |e: reqwest::Error| {
        Failure::new(Class::ProviderUnavailable, format!("can't set up HTTP: {}", errors::causes(&e)))
    };
    let mut builder = Client::builder()
        .user_agent(concat!("orch/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(key.connect)
        .pool_idle_timeout(Duration::from_secs(30))
        .tcp_nodelay(true)
        // `Network` reads the proxy variables, so that a message can name the variable.
        .no_proxy();
    if let Some(proxy) = &key.proxy {
        builder = builder.proxy(reqwest::Proxy::all(&proxy.value).map_err(unusable)?);
    }
    if !key.tls {
        // No certificates: loading the system's reads many files, and plain HTTP needs none.
        builder = builder.tls_certs_only([]);
    } else if let Some(tls) = key.network.tls()? {
        builder = builder.tls_backend_preconfigured(tls);
    }
    builder.build().map_err(unusable)
}

/// The base URL of a request, with `{model}` replaced by the model's name and without a slash at its end.
pub(super) fn base_url(endpoint: &Endpoint, model: &str) -> String {
    let base = endpoint.base_url.trim_end_matches('/');
    if base.contains("{model}") { base.replace("{model}", &path_segment(model)) } else { base.to_owned() }
}

/// Percent-encodes a text for the path of a URL; slashes stay as they are.
pub(super) fn path_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/@".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

/// The host of an address, in lower case and without a final dot; `None` when it has none.
pub fn host_of(url: &str) -> Option<String> {
    Some(Url::parse(url.trim()).ok()?.host_str()?.trim_end_matches('.').to_owned())
}

/// An address as the URL parser reads it, so that orch shows the one that a request goes to: its host is in ASCII, and
/// characters that the parser ignores are removed.
pub fn understood_address(url: &str) -> String {
    Url::parse(url.trim()).map_or_else(|_| url.to_owned(), |url| url.to_string().replace("%7Bmodel%7D", "{model}"))
}

/// Whether an address is on this machine's loopback. Compares the parsed host, so that neither
/// `http://127.0.0.1@evil.example` nor `http://localhost.evil.example` passes.
pub fn is_loopback_address(url: &str) -> bool {
    Url::parse(url.trim()).is_ok_and(|url| is_loopback(&url))
}

/// Whether others could read what is sent to an address: plain HTTP to a host other than the loopback.
pub fn is_unencrypted_address(url: &str) -> bool {
    Url::parse(url.trim()).is_ok_and(|url| url.scheme() == "http" && !is_loopback(&url))
}
