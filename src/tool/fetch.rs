//! The tool `fetch`: reads a page of an allowed host.
//!
//! orch resolves the name of the host once, checks the addresses, and connects only to these addresses, so a later
//! change of the name's addresses has no effect. It follows a redirect only after the same checks. If a proxy resolves
//! the names, orch can check only the names and the addresses in URLs. It connects directly to a host that is listed as
//! private, so that no proxy can lead it elsewhere.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};

use crate::model::http_url::http_url_error;
use crate::model::{Failure, SandboxNetwork, SandboxSpec, ToolGrant, ToolInvocation};
use crate::network::{ProxySetting, send_logged};
use crate::offload::run_on_thread;
use crate::secret::Redactor;

use super::ToolContext;
use super::arguments::FetchArguments;
use super::fetch_policy::{FetchPolicy, check_host_behind_proxy, private_host_message};
use super::http_client::{build_client, client_builder, describe_problem};
use super::job::ToolError;
use super::output::{PerformedTool, RawOutput};
use super::page_text::{PageBody, page_text};

/// The largest part of a page that orch reads, in bytes.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// The maximum number of redirects that orch follows.
const MAX_REDIRECTS: usize = 10;
/// The maximum time for a page.
const MAX_FETCH_TIME: Duration = Duration::from_mins(1);
/// What a model can do about the part of a page that is left out.
const PAGE_ADVICE: &str = "`fetch` can't show this part; look for a page that contains only what you need";
/// The content types that orch requests.
const ACCEPTED_TYPES: &str = "text/html, text/plain, application/json, text/*;q=0.9, */*;q=0.5";

/// How to write an address.
const ADDRESS_ADVICE: &str = "write it as `https://HOST/PATH`";

/// Resolves the name of a host at a port to addresses.
pub type HostLookup = Arc<dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Resolves names as the system does.
pub fn system_lookup() -> HostLookup {
    Arc::new(|name: String, port: u16| {
        async move {
            let addresses = tokio::net::lookup_host((name.as_str(), port)).await?;
            Ok(addresses.collect::<Vec<SocketAddr>>())
        }
        .boxed()
    })
}

/// Reads a page until it is complete, or until `interruption` resolves with the failure to report.
pub(super) async fn run_fetch(
    invocation: &ToolInvocation,
    context: &ToolContext,
    arguments: &FetchArguments,
    interruption: impl Future<Output = Failure>,
) -> PerformedTool {
    let limit = Duration::from_millis(invocation.timeout_ms).min(MAX_FETCH_TIME);
    let network = invocation.sandbox.as_ref().map(|SandboxSpec { network, .. }| network);
    let fetched = async {
        let policy = FetchPolicy::new(&invocation.grants, network, invocation.project_network.as_ref())?;
        PageFetch { context, policy }.fetch(&arguments.url).await
    };
    let fetched = tokio::select! {
        biased;
        failure = interruption => return failure.into(),
        fetched = fetched => fetched,
        () = tokio::time::sleep(limit) => {
            let url = &arguments.url;
            Err(ToolError::Refused(format!("`{url}` was not read within {limit:?}; try it later, or read another page")))
        }
    };
    let redactor = context.redactor.clone();
    match fetched {
        Ok(page) => {
            let hold = context.ending_process_groups.hold_virtual_time();
            // Converting a large page may take long.
            run_on_thread(hold, move || page.into_output(&redactor).finish(&redactor)).await
        }
        Err(ToolError::Refused(message)) => RawOutput::error(message).finish(&redactor),
        Err(ToolError::Failed(failure)) => failure.into(),
    }
}

/// A page as orch received it.
struct FetchedPage {
    url: Url,
    status: StatusCode,
    /// The value of the header `Content-Type`.
    content_type: String,
    bytes: Vec<u8>,
    /// Whether the page is longer than `bytes`.
    is_cut_off: bool,
    /// The proxy through which orch connected.
    proxy: Option<ProxySetting>,
}

impl FetchedPage {
    /// The text of the page, after a line about the response. The end of a page that is cut off may be a part of a secret.
    fn into_output(self, redactor: &Redactor) -> RawOutput {
        let via = self.proxy.as_ref().map_or_else(String::new, |proxy| {
            let resolver = if proxy.resolves_names() { ", which resolved the name" } else { "" };
            format!(", through {}{resolver}", proxy.description())
        });
        let content_type = if self.content_type.is_empty() { "no content type" } else { &self.content_type };
        let mut text = format!("[{} has status {}, {content_type}{via}]\n", self.url, self.status.as_u16());
        let mut is_error = !self.status.is_success();
        match page_text(&self.content_type, &self.bytes) {
            PageBody::Text(body) => {
                let body = if self.is_cut_off { redactor.redact_beginning(body.trim_end()) } else { body };
                text.push('\n');
                text.push_str(&body);
                if !body.ends_with('\n') {
                    text.push('\n');
                }
            }
            PageBody::Binary(description) => {
                is_error = true;
                text.push_str(&format!("[the page is not text: {description}]\n"));
            }
        }
        if self.is_cut_off {
            text.push_str(&format!(
                "[the page is longer than {MAX_PAGE_BYTES} bytes, and its end is left out; {PAGE_ADVICE}]\n"
            ));
        }
        RawOutput { is_error, ..RawOutput::new(text).with_advice(PAGE_ADVICE) }
    }
}

/// Reads one page, with the redirects to it.
struct PageFetch<'a> {
    context: &'a ToolContext,
    policy: FetchPolicy,
}

impl PageFetch<'_> {
    async fn fetch(&self, url: &str) -> Result<FetchedPage, ToolError> {
        let mut url = parse_url(url)?;
        for _ in 0..=MAX_REDIRECTS {
            let (response, proxy) = self.request(&url).await?;
            match redirect_target(&url, &response)? {
                Some(target) => url = target,
                None => return Ok(receive_page(url, response, proxy).await?),
            }
        }
        Err(ToolError::Refused(format!(
            "`{url}` was not read: there were more than {MAX_REDIRECTS} redirects; read another page"
        )))
    }

    /// Requests a page, after all checks of its host.
    async fn request(&self, url: &Url) -> Result<(Response, Option<ProxySetting>), ToolError> {
        let (name, port) = allowed_host(url, &self.policy)?;
        let may_be_private = self.policy.may_be_private(name, port);
        let proxy = if may_be_private { None } else { self.context.network.proxy(url)? };
        let addresses = match &proxy {
            Some(proxy) if proxy.resolves_names() => {
                check_host_behind_proxy(name, port)?;
                Vec::new()
            }
            Some(_) | None => self.allowed_addresses(name, port).await?,
        };
        let client = self.build_client(url, &addresses, proxy.as_ref())?;
        let request = client.get(url.clone()).header(ACCEPT, HeaderValue::from_static(ACCEPTED_TYPES));
        let response = send_logged("fetch", "GET", request).await.map_err(|error| describe_error(url, &error))?;
        Ok((response, proxy))
    }

    /// Resolves the name of a host, once. Returns the addresses to which orch may connect.
    async fn allowed_addresses(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let bare_name = name.trim_start_matches('[').trim_end_matches(']');
        let addresses = match bare_name.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::from((address, port))],
            Err(_) => (self.context.lookup)(name.to_owned(), port).await.map_err(|error| {
                format!("`{name}` was not read: its name can't be resolved: {error}; check the name")
            })?,
        };
        let is_allowed = |address: &SocketAddr| self.policy.allows_address(name, port, address.ip());
        let allowed: Vec<SocketAddr> = addresses.into_iter().filter(is_allowed).collect();
        if allowed.is_empty() { Err(private_host_message(name, port)) } else { Ok(allowed) }
    }

    /// Builds a client that connects only to these addresses, directly or through the proxy. Without addresses, the
    /// proxy resolves the name.
    fn build_client(
        &self,
        url: &Url,
        addresses: &[SocketAddr],
        proxy: Option<&ProxySetting>,
    ) -> Result<Client, ToolError> {
        let mut builder = client_builder(&self.context.network, url, proxy)?.redirect(Policy::none());
        if let Some(name) = url.host_str().filter(|_| !addresses.is_empty()) {
            builder = builder.resolve_to_addrs(name, addresses);
        }
        Ok(build_client(builder)?)
    }
}

/// Checks the address of a call as far as the grants, the sandbox and the `sandbox.network` of `orch.yaml` determine it,
/// before orch resolves the name of its host.
///
/// # Errors
/// A sentence for the model.
pub(super) fn check_address(
    url: &str,
    grants: &[ToolGrant],
    sandbox: Option<&SandboxSpec>,
    project_network: Option<&SandboxNetwork>,
) -> Result<(), String> {
    let policy = FetchPolicy::new(grants, sandbox.map(|sandbox| &sandbox.network), project_network)?;
    allowed_host(&parse_url(url)?, &policy).map(drop)
}

/// The host and the port of an address, if the policy allows them.
fn allowed_host<'u>(url: &'u Url, policy: &FetchPolicy) -> Result<(&'u str, u16), String> {
    let (Some(name), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(format!("`{url}` has no host; write it as `https://HOST/PATH`"));
    };
    policy.check_host(name, port)?;
    Ok((name, port))
}

/// Parses an address from the model or from a redirect.
fn parse_url(text: &str) -> Result<Url, String> {
    if let Some(reason) = http_url_error(text) {
        return Err(format!("`{text}` is not an address that can be read: {reason}; {ADDRESS_ADVICE}"));
    }
    let mut url =
        Url::parse(text.trim()).map_err(|error| format!("`{text}` is not an address: {error}; {ADDRESS_ADVICE}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        let host = url.host_str().unwrap_or_default();
        return Err(format!(
            "the address of `{host}` contains a user or a password, which orch does not send; omit them"
        ));
    }
    url.set_fragment(None);
    Ok(url)
}

/// The target of a redirect; `None` for any other response.
fn redirect_target(url: &Url, response: &Response) -> Result<Option<Url>, String> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(location) = response.headers().get(LOCATION).filter(|_| is_redirect) else { return Ok(None) };
    let location = String::from_utf8_lossy(location.as_bytes());
    let target = url.join(&location);
    let target =
        target.map_err(|error| format!("`{url}` redirects to no valid address: {error}; read another page"))?;
    parse_url(target.as_str()).map(Some)
}

/// Reads the body of a response, up to a limit.
async fn receive_page(url: Url, mut response: Response, proxy: Option<ProxySetting>) -> Result<FetchedPage, String> {
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let (mut bytes, mut is_cut_off) = (Vec::new(), false);
    while let Some(chunk) = response.chunk().await.map_err(|error| describe_error(&url, &error))? {
        let room = MAX_PAGE_BYTES - bytes.len();
        bytes.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        if chunk.len() > room {
            is_cut_off = true;
            break;
        }
    }
    Ok(FetchedPage {
        status: response.status(),
        url,
        content_type: content_type.unwrap_or_default(),
        bytes,
        is_cut_off,
        proxy,
    })
}

/// The message about a request that failed.
fn describe_error(url: &Url, error: &reqwest::Error) -> String {
    format!("`{url}` was not read: {}; check the address, try it later, or read another page", describe_problem(error))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn the_part_of_a_secret_at_the_end_of_a_page_that_is_cut_off_is_redacted() {
        let secret = SecretString::from("s3cret-value-of-a-key");
        let page = FetchedPage {
            url: Url::parse("https://docs.rs/").unwrap(),
            status: StatusCode::OK,
            content_type: "text/plain".to_owned(),
            bytes: b"the key is s3cret-value-".to_vec(),
            is_cut_off: true,
            proxy: None,
        };
        let text = page.into_output(&Redactor::new([("KEY", &secret)])).text;
        assert!(text.contains("the key is [secret KEY]\n[the page is longer"), "{text}");
    }

    #[test]
    fn only_addresses_of_web_pages_are_accepted() {
        for text in ["file:///etc/passwd", "ftp://x", "docs.rs", "http://", "javascript:x", "http://u:p@docs.rs/"] {
            assert!(parse_url(text).is_err(), "{text}");
        }
        let error = parse_url("http://user:secret@docs.rs/").unwrap_err();
        assert!(error.contains("contains a user or a password") && !error.contains("secret"), "{error}");
        assert_eq!(parse_url(" https://docs.rs/a#b ").unwrap().as_str(), "https://docs.rs/a");
        assert_eq!(parse_url("http://0x7f.1/").unwrap().host_str(), Some("127.0.0.1"));
    }
}
