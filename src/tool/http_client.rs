//! The HTTP client of tools: proxies and certificates from the environment, and no request is sent twice.

use std::error::Error;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Url};

use crate::model::{Failure, FailureClass};
use crate::network::{Network, ProxySetting, certificate_problem, install_tls_provider, is_not_tls};

/// The maximum time to connect to a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The settings of a client for an address, which it reaches through the proxy if there is one.
pub(super) fn client_builder(
    network: &Network,
    url: &Url,
    proxy: Option<&ProxySetting>,
) -> Result<ClientBuilder, Failure> {
    install_tls_provider();
    let mut builder = Client::builder()
        .user_agent(concat!("orch/", env!("CARGO_PKG_VERSION")))
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        // `Network` reads the proxy variables.
        .no_proxy();
    if let Some(proxy) = proxy {
        builder = builder.proxy(reqwest::Proxy::all(&proxy.value).map_err(|error| setup_failure(&error))?);
    }
    let uses_tls = url.scheme() == "https" || proxy.is_some_and(|proxy| proxy.value.starts_with("https://"));
    if !uses_tls {
        // Plain HTTP needs no certificates, and loading the system's certificates reads many files.
        builder = builder.tls_certs_only([]);
    } else if let Some(tls) = network.tls_config()? {
        builder = builder.tls_backend_preconfigured(tls);
    }
    Ok(builder)
}

/// Builds a client.
pub(super) fn build_client(builder: ClientBuilder) -> Result<Client, Failure> {
    builder.build().map_err(|error| setup_failure(&error))
}

fn setup_failure(error: &reqwest::Error) -> Failure {
    Failure::new(FailureClass::Internal, format!("can't set up HTTP: {}", innermost_cause(error)))
}

/// The reason why a request had no response, for a message.
pub(super) fn describe_problem(error: &reqwest::Error) -> String {
    if is_not_tls(error) {
        "the server does not speak TLS".to_owned()
    } else if let Some((reason, _)) = certificate_problem(error) {
        format!("its certificate is not trusted: {reason}")
    } else if error.is_timeout() {
        format!("it did not accept a connection within {CONNECT_TIMEOUT:?}")
    } else {
        innermost_cause(error)
    }
}

fn innermost_cause(error: &reqwest::Error) -> String {
    let first: &(dyn Error + 'static) = error;
    let innermost = std::iter::successors(Some(first), |&error| error.source()).last();
    innermost.map(ToString::to_string).unwrap_or_default()
}
