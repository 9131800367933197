//! Connections to servers: proxies and certificates from environment variables.

mod logged_request;
mod roots;

use std::path::PathBuf;
use std::sync::Once;

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::model::failure::{Failure, FailureClass};

pub use logged_request::send_logged;

/// A proxy from an environment variable.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxySetting {
    /// The variable's name.
    pub variable: &'static str,
    /// Its value, which may contain a password.
    pub value: String,
}

/// The network configuration: proxies and trusted certificates.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Network {
    http_proxy: Option<ProxySetting>,
    https_proxy: Option<ProxySetting>,
    no_proxy: String,
    /// A file with the certificates to trust instead of the system's certificates.
    cert_file: Option<PathBuf>,
    /// Folders with files of such certificates.
    cert_dirs: Vec<PathBuf>,
}

impl std::fmt::Debug for ProxySetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.description())
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
    /// Reads `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE` and `SSL_CERT_DIR`. A proxy variable
    /// in upper case takes precedence over the same variable in lower case. (curl, in contrast, ignores an upper-case
    /// `HTTP_PROXY`.)
    pub fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let first_set = |names: [&'static str; 4]| {
            names.into_iter().find_map(|variable| {
                let value = lookup(variable)?.trim().to_owned();
                (!value.is_empty()).then_some(ProxySetting { variable, value })
            })
        };
        // A web server passes the request header `Proxy` to a CGI script as `HTTP_PROXY`, so the variable can't be
        // trusted there.
        let is_cgi = lookup("REQUEST_METHOD").is_some();
        let first_proxy = |names| if is_cgi { None } else { first_set(names) };
        let no_proxy = first_set(["NO_PROXY", "no_proxy", "NO_PROXY", "no_proxy"]);
        let dirs = lookup("SSL_CERT_DIR").unwrap_or_default();
        Self {
            http_proxy: first_proxy(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]),
            https_proxy: first_proxy(["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
            no_proxy: no_proxy.map(|setting| setting.value).unwrap_or_default(),
            cert_file: lookup("SSL_CERT_FILE").map(PathBuf::from),
            cert_dirs: std::env::split_paths(&dirs).filter(|dir| !dir.as_os_str().is_empty()).collect(),
        }
    }

    /// The proxy for an address; `None` if there is none, for a loopback address, and for an exception in `NO_PROXY`.
    pub(crate) fn proxy(&self, url: &Url) -> Result<Option<ProxySetting>, Failure> {
        let setting = if url.scheme() == "https" { &self.https_proxy } else { &self.http_proxy };
        let Some(setting) = setting.as_ref().filter(|_| !is_loopback(url)) else { return Ok(None) };
        let Ok(target) = without_root_dot(url).as_str().parse::<http::Uri>() else { return Ok(None) };
        let without_exceptions = Matcher::builder().all(setting.value.clone());
        if without_exceptions.build().intercept(&target).is_none() {
            let address = without_secrets(&setting.value);
            let message = format!("the proxy `{address}`, from {}, is not an address", setting.variable);
            return Err(Failure::new(FailureClass::BadRequest, message).with_hint(format!(
                "write {} as `http://HOST:PORT`, `https://HOST:PORT`, `socks5://HOST:PORT` or `socks5h://HOST:PORT`",
                setting.variable
            )));
        }
        let with_exceptions = Matcher::builder().all(setting.value.clone()).no(self.no_proxy.clone()).build();
        Ok(with_exceptions.intercept(&target).map(|_| setting.clone()))
    }
}

impl Network {
    /// The TLS configuration that trusts the certificates from the environment; `None` if the environment names none,
    /// so that the system's certificates apply.
    pub(crate) fn tls_config(&self) -> Result<Option<rustls::ClientConfig>, Failure> {
        install_tls_provider();
        roots::client_config(self.cert_file.as_deref(), &self.cert_dirs)
    }
}

/// Installs the cryptography provider of TLS for the process, once.
pub fn install_tls_provider() {
    static RING: Once = Once::new();
    // This is cheap, since it reads no certificates. It fails if the process has installed a provider already, which
    // then stays installed.
    RING.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// The reason why orch does not trust a server's certificate, and a hint; `None` if the error has another cause.
pub(crate) fn certificate_problem(error: &(dyn std::error::Error + 'static)) -> Option<(String, String)> {
    roots::certificate_problem(error)
}

/// Whether the cause of an error is a server that does not reply to a TLS handshake with TLS.
pub(crate) fn is_not_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    roots::is_not_tls(error)
}

/// An address without the parts that may be secret: user, password, query and fragment.
pub(crate) fn without_secrets(url: &str) -> String {
    let without_query = url.split(['?', '#']).next().unwrap_or_default();
    match without_query.split_once("://") {
        Some((scheme, address)) => {
            let (host, path) = address.find('/').map_or((address, ""), |slash| address.split_at(slash));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => without_query.rsplit_once('@').map_or(without_query, |(_, address)| address).to_owned(),
    }
}

impl ProxySetting {
    /// Whether the proxy resolves the names of hosts. Otherwise this machine does.
    pub(crate) fn resolves_names(&self) -> bool {
        let scheme = self.value.split_once("://").map_or("", |(scheme, _)| scheme);
        !["socks4", "socks5"].contains(&scheme)
    }

    /// The proxy as a phrase for a message, without user and password.
    pub(crate) fn description(&self) -> String {
        format!("the proxy {} (from {})", without_secrets(&self.value), self.variable)
    }
}

/// An address without the dot of the root at the end of its host's name. With the dot, a host would match no exception
/// in `NO_PROXY`, although it is the same host.
fn without_root_dot(url: &Url) -> Url {
    let mut shortened = url.clone();
    let name = url.host_str().and_then(|name| name.strip_suffix('.'));
    let is_shortened = name.is_some_and(|name| shortened.set_host(Some(name)).is_ok());
    if is_shortened { shortened } else { url.clone() }
}

/// Whether an address is on this machine: `localhost` or a loopback IP address. A subdomain of `localhost` does not
/// count, since the system's resolver may query a server for it.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;

    fn network(variables: &[(&str, &str)]) -> Network {
        Network::from_variables(|name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn proxy_description(variables: &[(&str, &str)], url: &str) -> Option<String> {
        network(variables).proxy(&Url::parse(url).unwrap()).unwrap().map(|proxy| proxy.description())
    }

    #[test]
    fn each_scheme_has_its_proxy_and_exceptions_apply() {
        let all = ("ALL_PROXY", "socks5h://u:secret@p:1");
        assert_eq!(proxy_description(&[all], "http://h/v1").unwrap(), "the proxy socks5h://p:1 (from ALL_PROXY)");
        let several = [all, ("https_proxy", "p:2"), ("HTTP_PROXY", "")];
        assert_eq!(proxy_description(&several, "https://h/v1").unwrap(), "the proxy p:2 (from https_proxy)");
        assert_eq!(proxy_description(&several, "http://h/v1").unwrap(), "the proxy socks5h://p:1 (from ALL_PROXY)");
        let with_exceptions = [all, ("NO_PROXY", "lab.example, 10.0.0.0/8")];
        for url in ["http://a.lab.example", "http://a.lab.example.", "http://LAB.example./a"] {
            assert_eq!(proxy_description(&with_exceptions, url), None, "{url}");
        }
        assert_eq!(proxy_description(&with_exceptions, "http://10.1.2.3"), None);
        assert!(proxy_description(&with_exceptions, "http://other.example").is_some());
        for loopback in ["http://127.0.0.1:9", "https://localhost/v1", "http://[::1]"] {
            assert_eq!(proxy_description(&[all], loopback), None);
        }
        assert_eq!(proxy_description(&[all, ("REQUEST_METHOD", "GET")], "http://h"), None);
    }

    #[test]
    fn a_proxy_resolves_names_unless_its_scheme_says_that_this_machine_does() {
        for (value, resolves_names) in [
            ("p:1", true),
            ("http://p:1", true),
            ("https://p:1", true),
            ("socks5h://p:1", true),
            ("socks4a://p:1", true),
            ("socks5://u:p@p:1", false),
            ("socks4://p:1", false),
        ] {
            let proxy = ProxySetting { variable: "ALL_PROXY", value: value.to_owned() };
            assert_eq!(proxy.resolves_names(), resolves_names, "{value}");
        }
    }

    #[test]
    fn an_invalid_proxy_address_is_an_error_with_the_variable() {
        for value in ["ftp://p:1", "http://", "::"] {
            let url = Url::parse("http://h").unwrap();
            let failure = network(&[("all_proxy", value)]).proxy(&url).unwrap_err();
            assert!(failure.message.contains("from all_proxy"), "{failure:?}");
        }
    }

    #[test]
    fn displayed_addresses_have_no_secrets() {
        assert_eq!(without_secrets("https://u:p@host:1/v1?key=k#f"), "https://host:1/v1");
        assert_eq!(without_secrets("http://host"), "http://host");
        assert_eq!(without_secrets("u:p@host"), "host");
        assert_eq!(without_secrets("https://host/a@b"), "https://host/a@b");
    }

    #[test]
    fn is_loopback_recognizes_every_spelling() {
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
