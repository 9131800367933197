//! The providers that work without configuration.

use super::dialect::Dialect;
use super::http_url::{is_host_within, url_host};

/// A provider that works without configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltinProvider {
    /// The name, which precedes the slash in a model reference.
    pub name: &'static str,
    /// The dialect at the default address.
    pub dialect: Dialect,
    /// The default base URL.
    pub base_url: &'static str,
    /// The environment variable that holds the key; `None` if the provider needs no key.
    pub key_variable: Option<&'static str>,
    /// The environment variable that overrides the base URL, if there is one.
    pub url_variable: Option<&'static str>,
}

impl BuiltinProvider {
    /// The built-in provider with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        BUILTIN_PROVIDERS.iter().find(|builtin| builtin.name == name)
    }

    /// The names of all built-in providers.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILTIN_PROVIDERS.iter().map(|builtin| builtin.name)
    }

    /// The dialect at an address. orch uses the Responses API only at `OpenAI`'s own address. Most other servers that
    /// are compatible with `OpenAI` support only Chat Completions.
    pub fn dialect_at(&self, base_url: &str) -> Dialect {
        let is_own_host = url_host(self.base_url).is_some_and(|host| is_host_within(base_url, &[host.as_str()]));
        if self.dialect == Dialect::Responses && !is_own_host { Dialect::OpenAi } else { self.dialect }
    }

    /// The base URL for a value of `url_variable`. For Ollama the value may be a bare `host:port`, as in Ollama's own
    /// tools.
    pub fn base_url_from(&self, value: &str) -> String {
        let value = value.trim().trim_end_matches('/');
        if value.is_empty() {
            return self.base_url.to_owned();
        }
        if self.name != "ollama" {
            return value.to_owned();
        }
        let (scheme, address) = value.split_once("://").unwrap_or(("http", value));
        // `0.0.0.0` and an absent host mean that Ollama listens on all interfaces, which include the loopback
        // interface.
        let address = if let Some(suffix) = address.strip_prefix("0.0.0.0") {
            format!("127.0.0.1{suffix}")
        } else if address.starts_with(':') {
            format!("127.0.0.1{address}")
        } else {
            address.to_owned()
        };
        let (host, path) = match address.split_once('/') {
            Some((host, path)) => (host.to_owned(), format!("/{path}")),
            None => (address, "/v1".to_owned()),
        };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if has_port || value.contains("://") && scheme == "https" { "" } else { ":11434" };
        format!("{scheme}://{host}{port}{path}")
    }
}

const fn builtin_provider(
    name: &'static str,
    dialect: Dialect,
    base_url: &'static str,
    key_variable: Option<&'static str>,
    url_variable: Option<&'static str>,
) -> BuiltinProvider {
    BuiltinProvider { name, dialect, base_url, key_variable, url_variable }
}

/// The providers that work without configuration.
pub const BUILTIN_PROVIDERS: &[BuiltinProvider] = &[
    builtin_provider(
        "anthropic",
        Dialect::Anthropic,
        "https://api.anthropic.com",
        Some("ANTHROPIC_API_KEY"),
        Some("ANTHROPIC_BASE_URL"),
    ),
    builtin_provider(
        "openai",
        Dialect::Responses,
        "https://api.openai.com/v1",
        Some("OPENAI_API_KEY"),
        Some("OPENAI_BASE_URL"),
    ),
    builtin_provider(
        "gemini",
        Dialect::Gemini,
        "https://generativelanguage.googleapis.com",
        Some("GEMINI_API_KEY"),
        None,
    ),
    builtin_provider("openrouter", Dialect::OpenAi, "https://openrouter.ai/api/v1", Some("OPENROUTER_API_KEY"), None),
    builtin_provider("ollama", Dialect::OpenAi, "http://127.0.0.1:11434/v1", None, Some("OLLAMA_HOST")),
    builtin_provider("lmstudio", Dialect::OpenAi, "http://127.0.0.1:1234/v1", None, None),
    builtin_provider("llamacpp", Dialect::OpenAi, "http://127.0.0.1:8080/v1", None, None),
    builtin_provider("vllm", Dialect::OpenAi, "http://127.0.0.1:8000/v1", None, None),
    builtin_provider("litellm", Dialect::OpenAi, "http://127.0.0.1:4000/v1", Some("LITELLM_API_KEY"), None),
];

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use super::*;

    #[test]
    fn ollama_host_accepts_every_form_that_ollama_accepts() {
        let ollama = BuiltinProvider::find("ollama").unwrap();
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
    fn only_the_address_of_openai_itself_has_the_responses_dialect() {
        let openai = BuiltinProvider::find("openai").unwrap();
        for (url, dialect) in [
            ("https://api.openai.com/v1", Dialect::Responses),
            ("https://eu.api.openai.com/v1", Dialect::Responses),
            ("https://name.openai.azure.com/openai/v1", Dialect::OpenAi),
            ("https://api.openai.com.evil.example/v1", Dialect::OpenAi),
            ("http://127.0.0.1:8000/v1", Dialect::OpenAi),
        ] {
            assert_eq!(openai.dialect_at(url), dialect, "{url}");
        }
        let anthropic = BuiltinProvider::find("anthropic").unwrap();
        assert_eq!(anthropic.dialect_at("http://127.0.0.1:8000"), Dialect::Anthropic);
    }
}
