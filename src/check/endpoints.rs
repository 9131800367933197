//! Checks the providers and trackers of `orch.yaml`: each needs a valid address, and headers that may be sent.

use crate::config::{Address, Document, Project, ProviderSettings, TrackerSettings, child};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::address::{why_no_base_address, why_no_http_address};
use crate::model::name::BUILT_IN;

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let Some(document) = &project.settings_document else { return Vec::new() };
    let mut found = Vec::new();
    for (name, provider) in &project.settings.providers {
        let at = child("/providers", name);
        found.extend(address(document, name, provider, &at));
        found.extend(headers(document, provider, &child(&at, "headers")));
        found.extend(key_header(document, provider, &child(&at, "key_header")));
    }
    found.extend(trackers(document, &project.settings.tracker));
    found
}

fn address(document: &Document, name: &str, provider: &ProviderSettings, at: &str) -> Option<Diagnostic> {
    let Some(url) = &provider.base_url else {
        if BUILT_IN.contains(&name) {
            return None;
        }
        let problem = Diagnostic::error(Code::NoAddress, format!("the provider `{name}` has no `base_url`"));
        let problem = problem.at(&document.file, document.spans.key(at));
        return Some(problem.help("say where it is, as in `base_url: \"http://127.0.0.1:8000/v1\"`"));
    };
    let why = why_no_base_address(url)?;
    let problem = Diagnostic::error(Code::BadAddress, format!("`{url}` is no address of an API: {why}"));
    let problem = problem.at(&document.file, document.spans.value(&child(at, "base_url")));
    Some(problem.help("write it with its scheme, as in `http://127.0.0.1:8000/v1`"))
}

/// Checks the tracker addresses that are written in the file. An address from an environment variable is checked when a
/// run starts.
fn trackers(document: &Document, settings: &TrackerSettings) -> Vec<Diagnostic> {
    let convex = settings.convex.as_ref().map(|convex| ("convex", &convex.url));
    let webhook = settings.webhook.as_ref().map(|webhook| ("webhook", &webhook.url));
    let plain = convex.into_iter().chain(webhook).filter_map(|(name, address)| match address {
        Address::Plain(url) => Some((name, url)),
        Address::Env(_) => None,
    });
    let problem = |(name, url): (&str, &String)| {
        let why = why_no_http_address(url)?;
        let problem = Diagnostic::error(Code::BadAddress, format!("`{url}` is not the address of a tracker: {why}"));
        let at = document.spans.value(&format!("/tracker/{name}/url"));
        Some(problem.at(&document.file, at).help("write it with its scheme, as in `https://example.com/hook`"))
    };
    plain.filter_map(problem).collect()
}

fn key_header(document: &Document, provider: &ProviderSettings, at: &str) -> Option<Diagnostic> {
    let name = provider.key_header.as_ref()?;
    let problem = Diagnostic::error(Code::BadHeader, wrong_name(name)?);
    Some(problem.at(&document.file, document.spans.value(at)).help("letters, digits and `-`, as in `api-key`"))
}

fn headers(document: &Document, provider: &ProviderSettings, at: &str) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, value) in &provider.headers {
        let pointer = child(at, name);
        if let Some(wrong) = wrong_name(name) {
            let problem = Diagnostic::error(Code::BadHeader, wrong);
            let problem = problem.at(&document.file, document.spans.key(&pointer));
            found.push(problem.help("letters, digits and `-`, as in `x-team`"));
        } else if value.bytes().any(|byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
            let message = format!("the header `{name}` has a control character in its value");
            let problem = Diagnostic::error(Code::BadHeader, message);
            found.push(problem.at(&document.file, document.spans.value(&pointer)).help("write it on one line"));
        }
    }
    found
}

/// Headers that decide where a request goes or how it is transferred. orch sets them itself: otherwise a settings file
/// could have an API key sent to another host.
const CARRIED: &[&str] = &[
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

/// Why a header's name is not allowed; `None` if it is.
fn wrong_name(name: &str) -> Option<String> {
    if name.is_empty() || !name.bytes().all(is_name) {
        return Some(format!("`{name}` is no name of a header"));
    }
    let carried = CARRIED.contains(&name.to_ascii_lowercase().as_str());
    carried.then(|| format!("the header `{name}` is set by orch: it says where a request goes or how it is carried"))
}

/// Whether a byte may be part of a header's name (RFC 9110, token).
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
