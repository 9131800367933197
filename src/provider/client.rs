//! Addresses, headers and HTTP clients.
//!
//! Owns what every request shares: one client for each sort of address, without
//! redirects, retries or, for plain HTTP, certificates.

use std::fmt::Write as _;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use secrecy::ExposeSecret as _;

use super::{Endpoint, errors};
use crate::model::failure::{Class, Failure};

/// Parses an address; the failure names the provider.
pub(super) fn address(url: &str, name: &str) -> Result<Url, Failure> {
    let wrong = |why: String| {
        Failure::new(Class::BadRequest, format!("{} is not an address: {why}", shown(url)))
            .with_hint(format!("check the base URL of {name}; it begins with http:// or https://"))
    };
    let url = Url::parse(url).map_err(|e| wrong(e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("no http or https address".to_owned()));
    }
    Ok(url)
}

/// An address without what may be secret in it: user, password, query and fragment.
pub(super) fn shown(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => plain.rsplit_once('@').map_or(plain, |(_, rest)| rest).to_owned(),
    }
}

/// Every header of a request; those that may be secret are marked so.
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
        let (name, prefix) = key;
        let mut value = HeaderValue::try_from(format!("{prefix}{}", secret.expose_secret().trim())).map_err(|_| {
            let failure =
                Failure::new(Class::Auth, format!("the key of {} has characters that no key has", endpoint.name));
            match &endpoint.key_variable {
                Some(variable) => failure.with_hint(format!("set {variable} again, without line breaks")),
                None => failure,
            }
        })?;
        value.set_sensitive(true);
        map.insert(HeaderName::from_static(name), value);
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

/// What clients differ in.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sort {
    loopback: bool,
    tls: bool,
    connect: Duration,
}

/// The client for an address; clients are shared, for their open connections.
pub(super) fn client(url: &Url, connect: Duration) -> Result<Client, Failure> {
    static CLIENTS: Mutex<Vec<(Sort, Client)>> = Mutex::new(Vec::new());
    let sort = Sort { loopback: is_loopback(url), tls: url.scheme() == "https", connect };
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, client)) = clients.iter().find(|(known, _)| *known == sort) {
        return Ok(client.clone());
    }
    let client = build(sort)?;
    clients.push((sort, client.clone()));
    Ok(client)
}

/// Chooses the cryptography of TLS for the process, once.
pub fn prepare_tls() {
    static RING: Once = Once::new();
    // Costs nothing: no certificate is read here. An earlier choice of the process stands.
    RING.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn build(sort: Sort) -> Result<Client, Failure> {
    prepare_tls();
    let mut builder = Client::builder()
        .user_agent(concat!("orch/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(sort.connect)
        .pool_idle_timeout(Duration::from_secs(30))
        .tcp_nodelay(true);
    if sort.loopback {
        builder = builder.no_proxy();
    }
    if !sort.tls {
        // No certificates: the system's are many files, and plain HTTP needs none.
        builder = builder.tls_certs_only([]);
    }
    builder
        .build()
        .map_err(|e| Failure::new(Class::ProviderUnavailable, format!("can't set up HTTP: {}", errors::causes(&e))))
}

/// A text as one segment of a path; a slash stays one.
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

/// The host of an address, lower case and without a final dot; `None` when it has none.
pub fn host_of(url: &str) -> Option<String> {
    Some(Url::parse(url.trim()).ok()?.host_str()?.trim_end_matches('.').to_owned())
}

/// Whether an address is on this machine's loopback: its host is compared as a host, so that neither
/// `http://127.0.0.1@evil.example` nor `http://localhost.evil.example` is.
pub fn is_loopback_address(url: &str) -> bool {
    Url::parse(url.trim()).is_ok_and(|url| is_loopback(&url))
}

/// Whether what is sent to an address can be read on its way: plain HTTP beyond the loopback.
pub fn is_unencrypted_address(url: &str) -> bool {
    Url::parse(url.trim()).is_ok_and(|url| url.scheme() == "http" && !is_loopback(&url))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let host = host.trim_end_matches('.');
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't go on fails")]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        assert_eq!(shown("https://u:p@host:1/v1?key=k#f"), "https://host:1/v1");
        assert_eq!(shown("http://host"), "http://host");
        assert_eq!(shown("u:p@host"), "host");
        assert_eq!(shown("https://host/a@b"), "https://host/a@b");
    }

    #[test]
    fn loopback_is_known_in_every_spelling() {
        for url in
            ["http://127.0.0.1:1", "http://localhost", "http://[::1]:9", "http://127.9.9.9", "http://a.localhost"]
        {
            assert!(is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
        for url in ["http://10.0.0.1", "http://localhost.example", "http://[::2]"] {
            assert!(!is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
    }
}
