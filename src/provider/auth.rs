//! The authentication of requests: a key in a header, or a signature.

mod aws;
mod sigv4;

use std::fmt::Debug;

use jiff::Timestamp;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};

use crate::model::failure::{Failure, FailureClass};

pub use aws::{AWS_SECRET_VARIABLE, AWS_VARIABLES, AwsAuth};

/// A `POST` request that lacks only its authentication.
pub struct UnauthenticatedRequest<'a> {
    /// The provider's name, for messages.
    pub provider: &'a str,
    /// The address, with its query.
    pub url: &'a Url,
    /// The headers so far, without those that the HTTP client adds.
    pub headers: &'a mut HeaderMap,
    /// The body, as orch sends it.
    pub body: &'a [u8],
    /// The current time.
    pub now: Timestamp,
    /// The header in which the dialect expects a key, and the prefix of the key in that header.
    pub key_header: (&'static str, &'static str),
}

/// Authenticates requests to a server. orch calls an implementation for every request, so that it can sign the request
/// or read a token that changes.
pub trait Auth: Debug + Send + Sync {
    /// Adds the headers that authenticate a request.
    ///
    /// # Errors
    /// A secret is missing, or has characters that a header can't have. The message contains no secret.
    fn authenticate(&self, request: &mut UnauthenticatedRequest<'_>) -> Result<(), Failure>;

    /// The environment variables that hold the secrets; empty if the server needs none.
    fn variables(&self) -> Vec<&str>;

    /// The first required environment variable that is not set.
    fn missing_variable(&self) -> Option<&str>;

    /// The secrets, each with the name of its variable if there is one.
    fn secrets(&self) -> Vec<(Option<&str>, &SecretString)>;

    /// What the user can do if the server refuses the authentication.
    fn refused_hint(&self, provider: &str) -> String;

    /// What the user can do if the server accepts the authentication, but allows no access to the model.
    fn denied_hint(&self, provider: &str) -> String;
}

/// Authentication with a key in a header. By default, there is no key.
#[derive(Clone, Debug, Default)]
pub struct KeyAuth {
    /// The key, if there is one.
    pub key: Option<SecretString>,
    /// The environment variable that holds the key.
    pub variable: Option<String>,
    /// The header that carries the key, instead of the dialect's own.
    pub header: Option<String>,
}

impl Auth for KeyAuth {
    fn authenticate(&self, request: &mut UnauthenticatedRequest<'_>) -> Result<(), Failure> {
        let Some(key) = &self.key else { return Ok(()) };
        let (name, prefix) = match &self.header {
            // A custom header contains only the key, except that `authorization` needs the scheme too.
            Some(custom) if custom.eq_ignore_ascii_case("authorization") => (custom.as_str(), "Bearer "),
            Some(custom) => (custom.as_str(), ""),
            None => request.key_header,
        };
        let name = HeaderName::try_from(name).map_err(|_| {
            let message = format!("`key_header` of {} is not the name of a header", request.provider);
            Failure::new(FailureClass::BadRequest, message)
                .with_hint("a header's name has letters, digits and `-`, as in `api-key`")
        })?;
        // A header that the user set takes precedence.
        if !request.headers.contains_key(&name) {
            let value = secret_header(&format!("{prefix}{}", key.expose_secret().trim()));
            let value = value.ok_or_else(|| invalid_secret(request.provider, "key", self.variable.as_deref()))?;
            request.headers.insert(name, value);
        }
        Ok(())
    }

    fn variables(&self) -> Vec<&str> {
        self.variable.iter().map(String::as_str).collect()
    }

    fn missing_variable(&self) -> Option<&str> {
        if self.key.is_some() { None } else { self.variable.as_deref() }
    }

    fn secrets(&self) -> Vec<(Option<&str>, &SecretString)> {
        self.key.iter().map(|key| (self.variable.as_deref(), key)).collect()
    }

    fn refused_hint(&self, provider: &str) -> String {
        match &self.variable {
            Some(variable) if self.key.is_some() => format!("check the key in {variable}"),
            Some(variable) => format!("set {variable}"),
            None => format!(
                "add `providers: {{ {provider}: {{ api_key: {{ env: NAME }} }} }}` to orch.yaml, and set that variable"
            ),
        }
    }

    fn denied_hint(&self, provider: &str) -> String {
        match &self.variable {
            Some(variable) if self.key.is_some() => format!(
                "check at {provider} what the key in {variable} has access to, or name another model with --model"
            ),
            _ => self.refused_hint(provider),
        }
    }
}

/// The value of a header that is or contains a secret; `None` if it has characters that a header can't have.
pub(super) fn secret_header(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The failure for a secret with characters that a header can't have.
pub(super) fn invalid_secret(provider: &str, kind: &str, variable: Option<&str>) -> Failure {
    let message = format!("the {kind} of {provider} has characters that a {kind} can't have");
    let failure = Failure::new(FailureClass::Auth, message);
    match variable {
        Some(variable) => failure.with_hint(format!("set {variable} again, without line breaks")),
        None => failure.with_hint("set it again, without line breaks"),
    }
}
