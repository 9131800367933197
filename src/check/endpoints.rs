//! Checks the providers and trackers of `orch.yaml`: each needs a valid address and may set only allowed headers.

use crate::config::{Address, Document, ProviderSettings, Settings, TrackerSettings, child_pointer};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::BuiltinProvider;
use crate::model::http_url::{base_url_error, http_url_error};

pub(super) fn check(document: &Document, settings: &Settings) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (name, provider) in &settings.providers {
        let pointer = child_pointer("/providers", name);
        diagnostics.extend(check_address(document, name, provider, &pointer));
        diagnostics.extend(check_headers(document, provider, &child_pointer(&pointer, "headers")));
        diagnostics.extend(check_key_header(document, provider, &child_pointer(&pointer, "key_header")));
        diagnostics.extend(check_signing(document, provider, &pointer));
    }
    diagnostics.extend(check_trackers(document, &settings.tracker));
    diagnostics
}

fn check_address(document: &Document, name: &str, provider: &ProviderSettings, pointer: &str) -> Option<Diagnostic> {
    let Some(url) = provider.address() else {
        if BuiltinProvider::find(name).is_some() {
            return None;
        }
        let diagnostic = Diagnostic::error(Code::MissingBaseUrl, format!("the provider `{name}` has no `base_url`"));
        let diagnostic = diagnostic.with_span(&document.file, document.spans.key(pointer));
        return Some(diagnostic.with_help("set it, as in `base_url: \"http://127.0.0.1:8000/v1\"`"));
    };
    let reason = base_url_error(&url)?;
    let diagnostic = Diagnostic::error(Code::InvalidUrl, format!("`{url}` is not the address of an API: {reason}"));
    let diagnostic = diagnostic.with_span(&document.file, document.spans.value(&child_pointer(pointer, "base_url")));
    Some(diagnostic.with_help("write it with its scheme, as in `http://127.0.0.1:8000/v1`"))
}

/// Checks the tracker addresses in the file. orch checks an address from an environment variable when a run starts.
fn check_trackers(document: &Document, settings: &TrackerSettings) -> Vec<Diagnostic> {
    let convex = settings.convex.as_ref().map(|convex| ("convex", &convex.url));
    let webhook = settings.webhook.as_ref().map(|webhook| ("webhook", &webhook.url));
    let plain_addresses = convex.into_iter().chain(webhook).filter_map(|(name, address)| match address {
        Address::Plain(url) => Some((name, url)),
        Address::Env(_) => None,
    });
    let check_url = |(name, url): (&str, &String)| {
        let reason = http_url_error(url)?;
        let diagnostic =
            Diagnostic::error(Code::InvalidUrl, format!("`{url}` is not the address of a tracker: {reason}"));
        let span = document.spans.value(&format!("/tracker/{name}/url"));
        Some(
            diagnostic
                .with_span(&document.file, span)
                .with_help("write it with its scheme, as in `https://example.com/hook`"),
        )
    };
    plain_addresses.filter_map(check_url).collect()
}

fn check_key_header(document: &Document, provider: &ProviderSettings, pointer: &str) -> Option<Diagnostic> {
    let name = provider.key_header.as_ref()?;
    let diagnostic = Diagnostic::error(Code::InvalidHeader, header_name_error(name)?);
    Some(
        diagnostic
            .with_span(&document.file, document.spans.value(pointer))
            .with_help("letters, digits and `-`, as in `api-key`"),
    )
}

/// Reports keys that have no effect on a provider whose requests orch signs.
fn check_signing(document: &Document, provider: &ProviderSettings, pointer: &str) -> Vec<Diagnostic> {
    let keys = [("api_key", provider.api_key.is_some()), ("key_header", provider.key_header.is_some())];
    let unused_keys = keys.into_iter().filter(|(_, is_set)| *is_set && provider.aws.is_some());
    unused_keys
        .map(|(key, _)| {
            let message = format!("`{key}` does not apply to a provider with `aws`: orch signs its requests");
            Diagnostic::error(Code::KeyNotApplicable, message)
                .with_span(&document.file, document.spans.key(&child_pointer(pointer, key)))
                .with_help(format!("remove `{key}`, or `aws`"))
        })
        .collect()
}

fn check_headers(document: &Document, provider: &ProviderSettings, parent: &str) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (name, value) in &provider.headers {
        let pointer = child_pointer(parent, name);
        if let Some(error) = header_name_error(name) {
            let diagnostic = Diagnostic::error(Code::InvalidHeader, error);
            let diagnostic = diagnostic.with_span(&document.file, document.spans.key(&pointer));
            diagnostics.push(diagnostic.with_help("letters, digits and `-`, as in `x-team`"));
        } else if value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
            let message = format!("the header `{name}` has a control character in its value");
            let diagnostic = Diagnostic::error(Code::InvalidHeader, message);
            diagnostics.push(
                diagnostic.with_span(&document.file, document.spans.value(&pointer)).with_help("write it on one line"),
            );
        }
    }
    diagnostics
}

/// Headers that control the destination or the transfer of a request. Only orch sets them: otherwise a settings file
/// could redirect an API key to another host.
const RESERVED_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The reason why a header's name is not allowed; `None` if it is allowed.
pub(super) fn header_name_error(name: &str) -> Option<String> {
    if name.is_empty() || !name.bytes().all(is_name_byte) {
        return Some(format!("`{name}` is not a valid header name"));
    }
    let is_reserved = RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str());
    is_reserved
        .then(|| format!("orch sets the header `{name}` itself: it controls the destination or transfer of requests"))
}

/// Whether a byte may be part of a header's name (RFC 9110, token).
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
