//! Connections to servers: the proxies and certificates that environment variables name.

mod roots;

use std::path::PathBuf;
use std::sync::Once;

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::model::failure::{Class, Failure};

/// The value of an environment variable, and the variable's name.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxySetting {
    /// The variable's name.
    pub variable: &'static str,
    /// Its value; the URL of a proxy may hold a password.
    pub value: String,
}

/// How orch reaches other machines: its proxies and trusted certificates.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Network {
    http_proxy: Option<ProxySetting>,
    https_proxy: Option<ProxySetting>,
    no_proxy: String,
    /// A file of certificates that are trusted instead of the system's.
    cert_file: Option<PathBuf>,
    /// Folders of such files.
    cert_dirs: Vec<PathBuf>,
}

impl std::fmt::Debug for ProxySetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.phrase())
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network")
            .field("http_proxy", &self.http_proxy)
            .field("https_proxy", &self.https_proxy)
            .field("no_proxy", &self.no_proxy)
            .field("cert_file", &self.cert_file)
            .field("cert_dirs", &self.cert_dirs)
            .finish()
    }
}

impl Network {
    /// Reads `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in upper case before lower case (curl, in
    /// contrast, ignores an upper-case `HTTP_PROXY`), `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    pub fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&'static str; 4]| {
            names.into_iter().find_map(|variable| {
                let value = lookup(variable)?.trim().to_owned();
                (!value.is_empty()).then_some(ProxySetting { variable, value })
            })
        };
        // In a CGI script, a client sets `HTTP_PROXY` with a request header, so it can't be trusted.
        let is_cgi = lookup("REQUEST_METHOD").is_some();
        let proxy = |names| if is_cgi { None } else { first(names) };
        let no_proxy = first(["NO_PROXY", "no_proxy", "NO_PROXY", "no_proxy"]);
        let dirs = lookup("SSL_CERT_DIR").unwrap_or_default();
        Self {
            http_proxy: proxy(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]),
            https_proxy: proxy(["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
            no_proxy: no_proxy.map(|named| named.value).unwrap_or_default(),
            cert_file: lookup("SSL_CERT_FILE").map(PathBuf::from),
            cert_dirs: std::env::split_paths(&dirs).filter(|dir| !dir.as_os_str().is_empty()).collect(),
        }
    }

    /// The proxy for an address; `None` for the loopback and for the exceptions in `NO_PROXY`.
    pub(crate) fn proxy(&self, url: &Url) -> Result<Option<ProxySetting>, Failure> {
        let named = if url.scheme() == "https" { &self.https_proxy } else { &self.http_proxy };
        let Some(named) = named.as_ref().filter(|_| !is_loopback(url)) else { return Ok(None) };
        let Ok(target) = url.as_str().parse::<http::Uri>() else { return Ok(None) };
        let all = Matcher::builder().all(named.value.clone());
        if all.build().intercept(&target).is_none() {
            let message = format!("the proxy `{}`, from {}, is not an address", shown(&named.value), named.variable);
            return Err(Failure::new(Class::BadRequest, message).with_hint(format!(
                "write {} as `http://HOST:PORT`, `https://HOST:PORT`, `socks5://HOST:PORT` or `socks5h://HOST:PORT`",
                named.variable
            )));
        }
        let not_excepted = Matcher::builder().all(named.value.clone()).no(self.no_proxy.clone()).build();
        Ok(not_excepted.intercept(&target).map(|_| named.clone()))
    }
}

impl Network {
    /// The TLS configuration that trusts the named certificates; `None` where the system's apply.
    pub(crate) fn tls(&self) -> Result<Option<rustls::ClientConfig>, Failure> {
        prepare_tls();
        roots::config(self.cert_file.as_deref(), &self.cert_dirs)
    }
}

/// Chooses the cryptography of TLS for the process, once.
pub fn prepare_tls() {
    static RING: Once = Once::new();
    // This costs nothing: it reads no certificate. A provider that the process installed before stays in place.
    RING.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Why a server's certificate is not trusted, and a hint; `None` when the error has another cause.
pub(crate) fn distrust(error: &(dyn std::error::Error + 'static)) -> Option<(String, String)> {
    roots::distrust(error)
}

/// Whether the cause of an error is a server that answered a TLS handshake with something else.
pub(crate) fn is_no_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    roots::is_no_tls(error)
}

/// An address without the parts that may be secret: user, password, query and fragment.
pub(crate) fn shown(url: &str) -> String {
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

impl ProxySetting {
    /// The proxy as part of a sentence, without user and password.
    pub(crate) fn phrase(&self) -> String {
        format!("the proxy {} (from {})", shown(&self.value), self.variable)
    }
}

/// Whether an address is on this machine: `localhost`, or an IP address of the loopback. Names below `localhost` do not
/// count: the system's resolver may ask a server for them.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't go on fails")]
mod tests {
    use super::*;

    fn network(variables: &[(&str, &str)]) -> Network {
        Network::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn chosen(variables: &[(&str, &str)], url: &str) -> Option<String> {
        network(variables).proxy(&Url::parse(url).unwrap()).unwrap().map(|named| named.phrase())
    }

    #[test]
    fn each_scheme_has_its_proxy_and_exceptions_hold() {
        let all = ("ALL_PROXY", "socks5h://u:secret@p:1");
        assert_eq!(chosen(&[all], "http://h/v1").unwrap(), "the proxy socks5h://p:1 (from ALL_PROXY)");
        let two = [all, ("https_proxy", "p:2"), ("HTTP_PROXY", "")];
        assert_eq!(chosen(&two, "https://h/v1").unwrap(), "the proxy p:2 (from https_proxy)");
        assert_eq!(chosen(&two, "http://h/v1").unwrap(), "the proxy socks5h://p:1 (from ALL_PROXY)");
        let some = [all, ("NO_PROXY", "lab.example, 10.0.0.0/8")];
        assert_eq!(chosen(&some, "http://a.lab.example"), None);
        assert_eq!(chosen(&some, "http://10.1.2.3"), None);
        assert!(chosen(&some, "http://other.example").is_some());
        for loopback in ["http://127.0.0.1:9", "https://localhost/v1", "http://[::1]"] {
            assert_eq!(chosen(&[all], loopback), None);
        }
        assert_eq!(chosen(&[all, ("REQUEST_METHOD", "GET")], "http://h"), None);
    }

    #[test]
    fn a_proxy_that_is_no_address_is_named() {
        for value in ["ftp://p:1", "http://", "::"] {
            let url = Url::parse("http://h").unwrap();
            let failure = network(&[("all_proxy", value)]).proxy(&url).unwrap_err();
            assert!(failure.message.contains("from all_proxy"), "{failure:?}");
        }
    }

    #[test]
    fn addresses_are_shown_without_secrets() {
        assert_eq!(shown("https://u:p@host:1/v1?key=k#f"), "https://host:1/v1");
        assert_eq!(shown("http://host"), "http://host");
        assert_eq!(shown("u:p@host"), "host");
        assert_eq!(shown("https://host/a@b"), "https://host/a@b");
    }

    #[test]
    fn loopback_is_known_in_every_spelling() {
        for url in ["http://127.0.0.1:1", "http://LOCALHOST", "http://[::1]:9", "http://127.9.9.9", "http://0x7f.1"] {
            assert!(is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
        for url in [
            "http://10.0.0.1",
            "http://localhost.example",
            "http://[::2]",
            "http://a.localhost",
            "http://localhost.",
            "http://127.0.0.1.localhost",
        ] {
            assert!(!is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
    }
}
