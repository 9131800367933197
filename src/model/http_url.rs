//! Checks URLs from files, the environment and the command line.

/// Returns why a text is not an HTTP URL; `None` if it is one.
pub fn http_url_error(text: &str) -> Option<String> {
    // The URL parser silently removes some of these characters. orch would show one URL and use another.
    if text.trim().contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some("it contains a space or a control character".to_owned());
    }
    let url = match url::Url::parse(text) {
        Ok(url) => url,
        Err(error) => return Some(error.to_string()),
    };
    // The URL parser reads `localhost` in `localhost:8000` as the scheme.
    if !matches!(url.scheme(), "http" | "https") {
        return Some("it does not begin with `http://` or `https://`".to_owned());
    }
    url.host_str().is_none().then(|| "it has no host".to_owned())
}

/// Returns why a text is not the base URL of an API, to which orch appends paths; `None` if it is one.
pub fn base_url_error(text: &str) -> Option<String> {
    let (scheme, after_scheme) = text.split_once("://").unwrap_or(("", text));
    let authority = after_scheme.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    if scheme.contains("{model}") || authority.contains("{model}") {
        return Some("`{model}` may only be in its path: the host must be the same for every model".to_owned());
    }
    let has_query_or_fragment =
        |text: &str| url::Url::parse(text).is_ok_and(|url| url.query().is_some() || url.fragment().is_some());
    let query_error = "orch appends endpoint paths to it, so it can have no `?` or `#`; put parameters under `query:`";
    http_url_error(text).or_else(|| has_query_or_fragment(text).then(|| query_error.to_owned()))
}

/// The host of a URL, in lower case and without a final dot; `None` if it has none.
pub fn url_host(url: &str) -> Option<String> {
    Some(url::Url::parse(url.trim()).ok()?.host_str()?.trim_end_matches('.').to_owned())
}

/// The host of an HTTP URL with its port: `lab.example:443`, `[::1]:8000`. `None` if the text is not an HTTP URL.
pub fn host_with_port(text: &str) -> Option<String> {
    let url = url::Url::parse(text.trim()).ok()?;
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

/// Whether the host of a URL is one of these domains, or a subdomain of one.
pub fn is_host_within(url: &str, domains: &[&str]) -> bool {
    url_host(url).is_some_and(|host| {
        domains
            .iter()
            .any(|domain| host == *domain || host.strip_suffix(domain).is_some_and(|prefix| prefix.ends_with('.')))
    })
}

/// The domains of `OpenAI`, and of Azure's servers with `OpenAI`'s models, in every cloud of Azure.
const OPENAI_DOMAINS: &[&str] = &[
    "api.openai.com",
    "openai.azure.com",
    "openai.azure.us",
    "openai.azure.cn",
    "cognitiveservices.azure.com",
    "cognitiveservices.azure.us",
    "cognitiveservices.azure.cn",
];

/// The domains of Azure's servers that have `OpenAI`'s API under `/openai`, and other APIs under other paths.
const FOUNDRY_DOMAINS: &[&str] = &["services.ai.azure.com", "services.ai.azure.us"];

/// Whether a URL is of `OpenAI`'s own servers, or of Azure's with the same models, which refuse the same parameters.
pub fn is_openai_url(url: &str) -> bool {
    let is_below_openai = |url: url::Url| url.path_segments().is_some_and(|mut names| names.next() == Some("openai"));
    is_host_within(url, OPENAI_DOMAINS)
        || (is_host_within(url, FOUNDRY_DOMAINS) && url::Url::parse(url.trim()).is_ok_and(is_below_openai))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_of_openai_and_azure_are_openai_urls() {
        for url in [
            "https://api.openai.com/v1",
            "https://eu.api.openai.com/v1",
            "https://x.openai.azure.com/openai/v1",
            "https://x.openai.azure.us/openai/deployments/{model}",
            "https://x.cognitiveservices.azure.com/openai/v1",
            "https://x.services.ai.azure.com/openai/v1",
        ] {
            assert!(is_openai_url(url), "{url}");
        }
        for url in [
            "https://evilopenai.azure.com/v1",
            "https://api.openai.com.evil.example/v1",
            "https://x.services.ai.azure.com/anthropic",
            "https://x.services.ai.azure.com/models",
            "http://127.0.0.1:1/v1",
        ] {
            assert!(!is_openai_url(url), "{url}");
        }
    }

    #[test]
    fn the_port_of_a_url_is_its_own_or_that_of_its_scheme() {
        for (text, host) in [
            ("https://lab.example/v1", "lab.example:443"),
            ("http://LAB.example", "lab.example:80"),
            ("http://127.0.0.1:8000/v1", "127.0.0.1:8000"),
            ("http://[::1]:9/", "[::1]:9"),
        ] {
            assert_eq!(host_with_port(text).as_deref(), Some(host));
        }
        assert_eq!(host_with_port("lab.example"), None);
    }

    #[test]
    fn only_http_urls_are_accepted() {
        for valid in
            ["http://127.0.0.1:8000/v1", "https://api.example", "http://[::1]:9", "http://x/deployments/{model}"]
        {
            assert_eq!(base_url_error(valid), None, "{valid}");
        }
        for (text, expected) in [
            ("localhost:8000/v1", "does not begin with"),
            ("127.0.0.1:8000/v1", "relative URL without a base"),
            ("ftp://x", "does not begin with"),
            ("http://", "empty host"),
            ("http://x/v1?api-version=1", "no `?` or `#`"),
            ("http://x/v1#a", "no `?` or `#`"),
            ("http://{model}@127.0.0.1/v1", "only be in its path"),
            ("http://{model}.lab.example/v1", "only be in its path"),
            ("http://lab.example\n.evil.example/v1", "control character"),
            ("http://lab.example/v1 \t.evil.example/v1", "control character"),
        ] {
            let error = base_url_error(text).unwrap_or_default();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert_eq!(http_url_error("http://x/hook?token=1"), None);
    }
}
