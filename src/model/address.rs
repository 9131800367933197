//! Checks addresses, wherever they come from: a file, the environment or the command line.

/// Why a text is not an HTTP address; `None` if it is one.
pub fn why_no_http_address(text: &str) -> Option<String> {
    // The URL parser drops some of these characters silently, so orch would use another address than the one shown.
    if text.trim().contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some("it holds a space or a control character".to_owned());
    }
    let url = match url::Url::parse(text) {
        Ok(url) => url,
        Err(error) => return Some(error.to_string()),
    };
    // A URL parser takes `localhost:8000` for the scheme `localhost`.
    if !matches!(url.scheme(), "http" | "https") {
        return Some("it does not begin with `http://` or `https://`".to_owned());
    }
    url.host_str().is_none().then(|| "it names no host".to_owned())
}

/// Why a text is not the base address of an API, to which paths are appended; `None` if it is one.
pub fn why_no_base_address(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    if scheme.contains("{model}") || authority.contains("{model}") {
        return Some("`{model}` may only be in its path: the host is the same for every model".to_owned());
    }
    let why = why_no_http_address(text);
    let has_end = |text: &str| url::Url::parse(text).is_ok_and(|url| url.query().is_some() || url.fragment().is_some());
    let end = "paths of methods are put behind it, so it has no `?` or `#`; what belongs there goes under `query:`";
    why.or_else(|| has_end(text).then(|| end.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_other_texts() {
        for fine in
            ["http://127.0.0.1:8000/v1", "https://api.example", "http://[::1]:9", "http://x/deployments/{model}"]
        {
            assert_eq!(why_no_base_address(fine), None, "{fine}");
        }
        for (text, why) in [
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
            let found = why_no_base_address(text).unwrap_or_default();
            assert!(found.contains(why), "{text}: {found}");
        }
        assert_eq!(why_no_http_address("http://x/hook?token=1"), None);
    }
}
