//! Providers of `orch.yaml`: each has an address that can be asked, and headers that can be sent.

use crate::config::{Document, Project, ProviderSettings, child};
use crate::diagnostic::{Code, Diagnostic};
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
    let why = wrong(url)?;
    let problem = Diagnostic::error(Code::BadAddress, format!("`{url}` is no address of an API: {why}"));
    let problem = problem.at(&document.file, document.spans.value(&child(at, "base_url")));
    Some(problem.help("write it with its scheme, as in `http://127.0.0.1:8000/v1`"))
}

/// What is wrong with an address, if anything is.
fn wrong(text: &str) -> Option<String> {
    let url = match url::Url::parse(text) {
        Ok(url) => url,
        Err(error) => return Some(error.to_string()),
    };
    // `localhost:8000` has the scheme `localhost`.
    if !matches!(url.scheme(), "http" | "https") {
        return Some("it does not begin with `http://` or `https://`".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Some(
            "paths of methods are put behind it, so it has no `?` or `#`; what belongs there goes under `query:`"
                .to_owned(),
        );
    }
    None
}

fn key_header(document: &Document, provider: &ProviderSettings, at: &str) -> Option<Diagnostic> {
    let name = provider.key_header.as_ref().filter(|name| name.is_empty() || !name.bytes().all(is_name))?;
    let problem = Diagnostic::error(Code::BadHeader, format!("`{name}` is no name of a header"));
    Some(problem.at(&document.file, document.spans.value(at)).help("letters, digits and `-`, as in `api-key`"))
}

fn headers(document: &Document, provider: &ProviderSettings, at: &str) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, value) in &provider.headers {
        let pointer = child(at, name);
        if name.is_empty() || !name.bytes().all(is_name) {
            let problem = Diagnostic::error(Code::BadHeader, format!("`{name}` is no name of a header"));
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

/// Whether a byte may be in the name of a header (RFC 9110, token).
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
