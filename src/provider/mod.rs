//! Model providers over HTTP: three dialects, one trait.
//!
//! A provider sends one request and reads one streamed reply. It never retries: the
//! engine does, from the class of the [`Failure`].

mod anthropic;
mod discover;
mod errors;
mod gemini;
mod http;
mod openai;
mod price;
mod schema;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use secrecy::SecretString;

use crate::model::chat::{ChatReply, ChatRequest};
use crate::model::failure::Failure;

pub use discover::served_models;
pub use price::cost;

/// Something that answers chat requests.
pub trait Provider: Send + Sync {
    /// The dialect's name: `anthropic`, `openai` or `gemini` for the HTTP ones.
    fn dialect(&self) -> &'static str;

    /// Whether every reply is forced to fit the schema (only the embedded model).
    fn constrains(&self) -> bool {
        false
    }

    /// Sends one request and reads its reply to the end; `sink` hears the parts as they come.
    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        limits: &'a Limits,
        sink: &'a (dyn Fn(Signal) + Send + Sync),
    ) -> BoxFuture<'a, Result<ChatReply, Failure>>;
}

/// How long and how large one request may get.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Until the connection stands, TLS included.
    pub connect: Duration,
    /// From the request to the first byte of the reply's body.
    pub first_byte: Duration,
    /// Between two reads of the reply.
    pub idle: Duration,
    /// For the whole exchange.
    pub total: Duration,
    /// Bytes of the reply's body, decompressed.
    pub max_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_mins(2),
            idle: Duration::from_mins(1),
            total: Duration::from_mins(10),
            max_bytes: 32 * 1024 * 1024,
        }
    }
}

/// What a provider tells while a reply is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// The model is reading the prompt.
    Reading {
        /// Tokens read.
        done: u32,
        /// Tokens in all.
        total: u32,
    },
    /// A piece of the reply.
    Text(String),
    /// A piece of the model's reasoning; not part of the reply.
    Reasoning(String),
}

/// The wire format of an HTTP API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Anthropic's Messages API.
    Anthropic,
    /// `OpenAI`'s Chat Completions API, spoken by most servers.
    OpenAi,
    /// Google's Gemini API.
    Gemini,
}

impl Dialect {
    /// The name, as written in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Gemini => "gemini",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name is not one of a dialect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a dialect: use anthropic, openai or gemini")]
pub struct UnknownDialect(pub String);

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "anthropic" => Ok(Self::Anthropic),
            "openai" => Ok(Self::OpenAi),
            "gemini" => Ok(Self::Gemini),
            other => Err(UnknownDialect(other.to_owned())),
        }
    }
}

/// Where requests go and how they are signed.
#[derive(Clone)]
pub struct Endpoint {
    /// The provider's name, for messages.
    pub name: String,
    /// The wire format.
    pub dialect: Dialect,
    /// The address that the dialect's paths are appended to.
    pub base_url: String,
    /// The key, if there is one.
    pub api_key: Option<SecretString>,
    /// The environment variable that holds the key, for hints.
    pub key_variable: Option<String>,
    /// Further headers of every request; they override the dialect's own.
    pub headers: Vec<(String, String)>,
    /// Whether a schema is sent as native structured output.
    pub structured: bool,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .field("dialect", &self.dialect)
            .field("base_url", &http::shown(&self.base_url))
            .field("api_key", &self.api_key.is_some())
            .field("key_variable", &self.key_variable)
            .field("headers", &headers)
            .field("structured", &self.structured)
            .finish()
    }
}

/// A provider that speaks the endpoint's dialect; nothing is sent yet.
pub fn connect(endpoint: Endpoint) -> Box<dyn Provider> {
    match endpoint.dialect {
        Dialect::Anthropic => Box::new(anthropic::Anthropic::new(endpoint)),
        Dialect::OpenAi => Box::new(openai::OpenAi::new(endpoint)),
        Dialect::Gemini => Box::new(gemini::Gemini::new(endpoint)),
    }
}

/// A provider that is known without configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Builtin {
    /// The name before the slash of a model.
    pub name: &'static str,
    /// The wire format.
    pub dialect: Dialect,
    /// The address, unless the person says another.
    pub base_url: &'static str,
    /// The environment variable of the key; none where no key is needed.
    pub key_variable: Option<&'static str>,
    /// The environment variable that moves the address.
    pub url_variable: Option<&'static str>,
}

impl Builtin {
    /// The base URL from the value of `url_variable`, which may be a bare `host:port`
    /// as Ollama's own tools accept it.
    pub fn base_url_from(&self, value: &str) -> String {
        let value = value.trim().trim_end_matches('/');
        if value.is_empty() {
            return self.base_url.to_owned();
        }
        if self.name != "ollama" {
            return value.to_owned();
        }
        let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
        // A server told to listen everywhere is reached on the loopback.
        let rest = if let Some(port) = rest.strip_prefix("0.0.0.0") {
            format!("127.0.0.1{port}")
        } else if rest.starts_with(':') {
            format!("127.0.0.1{rest}")
        } else {
            rest.to_owned()
        };
        let (host, path) = match rest.split_once('/') {
            Some((host, path)) => (host.to_owned(), format!("/{path}")),
            None => (rest, "/v1".to_owned()),
        };
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if has_port || value.contains("://") && scheme == "https" {
            ""
        } else {
            ":11434"
        };
        format!("{scheme}://{host}{port}{path}")
    }
}

const fn builtin(
    name: &'static str,
    dialect: Dialect,
    base_url: &'static str,
    key_variable: Option<&'static str>,
    url_variable: Option<&'static str>,
) -> Builtin {
    Builtin {
        name,
        dialect,
        base_url,
        key_variable,
        url_variable,
    }
}

/// The providers that need no configuration.
pub const BUILTIN: &[Builtin] = &[
    builtin(
        "anthropic",
        Dialect::Anthropic,
        "https://api.anthropic.com",
        Some("ANTHROPIC_API_KEY"),
        Some("ANTHROPIC_BASE_URL"),
    ),
    builtin(
        "openai",
        Dialect::OpenAi,
        "https://api.openai.com/v1",
        Some("OPENAI_API_KEY"),
        Some("OPENAI_BASE_URL"),
    ),
    builtin(
        "gemini",
        Dialect::Gemini,
        "https://generativelanguage.googleapis.com",
        Some("GEMINI_API_KEY"),
        None,
    ),
    builtin(
        "openrouter",
        Dialect::OpenAi,
        "https://openrouter.ai/api/v1",
        Some("OPENROUTER_API_KEY"),
        None,
    ),
    builtin(
        "ollama",
        Dialect::OpenAi,
        "http://127.0.0.1:11434/v1",
        None,
        Some("OLLAMA_HOST"),
    ),
    builtin("lmstudio", Dialect::OpenAi, "http://127.0.0.1:1234/v1", None, None),
    builtin("llamacpp", Dialect::OpenAi, "http://127.0.0.1:8080/v1", None, None),
    builtin("vllm", Dialect::OpenAi, "http://127.0.0.1:8000/v1", None, None),
    builtin(
        "litellm",
        Dialect::OpenAi,
        "http://127.0.0.1:4000/v1",
        Some("LITELLM_API_KEY"),
        None,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ollama_host_takes_every_form_that_ollama_takes() {
        let ollama = BUILTIN.iter().find(|b| b.name == "ollama").unwrap();
        for (value, url) in [
            ("", "http://127.0.0.1:11434/v1"),
            ("box", "http://box:11434/v1"),
            ("box:99", "http://box:99/v1"),
            ("0.0.0.0", "http://127.0.0.1:11434/v1"),
            ("0.0.0.0:5000", "http://127.0.0.1:5000/v1"),
            (":5000", "http://127.0.0.1:5000/v1"),
            ("http://box:99/", "http://box:99/v1"),
            ("https://box.example", "https://box.example/v1"),
            ("https://box.example/api/v1", "https://box.example/api/v1"),
        ] {
            assert_eq!(ollama.base_url_from(value), url, "{value}");
        }
    }

    #[test]
    fn dialects_parse_from_their_names() {
        for dialect in [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini] {
            assert_eq!(dialect.as_str().parse::<Dialect>(), Ok(dialect));
        }
        assert!("grpc".parse::<Dialect>().is_err());
    }

    #[test]
    fn debug_of_an_endpoint_shows_no_secret() {
        let endpoint = Endpoint {
            name: "x".into(),
            dialect: Dialect::OpenAi,
            base_url: "http://user:hunter2@host/v1?key=hunter2".into(),
            api_key: Some("hunter2".into()),
            key_variable: None,
            headers: vec![("x-token".into(), "hunter2".into())],
            structured: false,
        };
        assert!(!format!("{endpoint:?}").contains("hunter2"));
    }
}
