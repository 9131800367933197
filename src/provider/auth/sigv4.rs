//! Version 4 of AWS's request signature
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Url;
use reqwest::header::HeaderMap;
use sha2::{Digest as _, Sha256};

use crate::provider::client::percent_encode;

/// A request to sign: the parts that the signature covers.
pub(super) struct SignableRequest<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a Url,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
    /// The time, as in `20150830T123600Z`.
    pub(super) timestamp: &'a str,
}

/// The region and the service for which a signature is valid.
pub(super) struct CredentialScope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

impl CredentialScope<'_> {
    /// The scope as AWS writes it, with the date of a timestamp.
    fn render(&self, timestamp: &str) -> String {
        format!("{}/{}/{}/aws4_request", date(timestamp), self.region, self.service)
    }
}

/// A signature, with the names of the headers that it covers.
pub(super) struct Signature {
    signed_headers: String,
    /// The signature in hexadecimal.
    hex: String,
}

impl Signature {
    /// The value of the header `authorization`.
    pub(super) fn authorization(&self, access_key_id: &str, scope: &CredentialScope<'_>, timestamp: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={access_key_id}/{}, SignedHeaders={}, Signature={}",
            scope.render(timestamp),
            self.signed_headers,
            self.hex
        )
    }
}

/// Signs a request with a secret key.
pub(super) fn sign(request: &SignableRequest<'_>, scope: &CredentialScope<'_>, secret: &str) -> Signature {
    let (signed_headers, canonical_headers) = canonical_headers(request);
    let canonical_request = format!(
        "{}\n{}\n{}\n{canonical_headers}\n{signed_headers}\n{}",
        request.method,
        // AWS requires that the path, which is encoded in the URL, is encoded a second time.
        percent_encode(request.url.path(), b"/"),
        canonical_query(request.url),
        hex(&Sha256::digest(request.body)),
    );
    let string_to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{}\n{}",
        request.timestamp,
        scope.render(request.timestamp),
        hex(&Sha256::digest(canonical_request.as_bytes())),
    );
    let mut signing_key = format!("AWS4{secret}").into_bytes();
    for scope_part in [date(request.timestamp), scope.region, scope.service, "aws4_request"] {
        signing_key = hmac(&signing_key, scope_part.as_bytes());
    }
    Signature { signed_headers, hex: hex(&hmac(&signing_key, string_to_sign.as_bytes())) }
}

/// The date of a timestamp: `20150830` for `20150830T123600Z`.
fn date(timestamp: &str) -> &str {
    timestamp.split('T').next().unwrap_or(timestamp)
}

/// The names of the signed headers, and these headers as lines. orch signs the host, the content type and the `x-amz-*`
/// headers. It does not sign other headers, because a proxy may change them.
fn canonical_headers(request: &SignableRequest<'_>) -> (String, String) {
    let is_signed = |name: &str| name == "content-type" || name.starts_with("x-amz-");
    let mut headers: Vec<(&str, String)> = request
        .headers
        .iter()
        .filter(|(name, _)| is_signed(name.as_str()))
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).trim().to_owned()))
        .collect();
    headers.push(("host", host(request.url)));
    headers.sort();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    (names.join(";"), lines.concat())
}

/// The header `host`, as the HTTP client sends it: with the port unless it is the default.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The query, sorted and encoded.
fn canonical_query(url: &Url) -> String {
    let mut pairs: Vec<String> = url
        .query_pairs()
        .map(|(name, value)| format!("{}={}", percent_encode(&name, b""), percent_encode(&value, b"")))
        .collect();
    pairs.sort();
    pairs.join("&")
}

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    // HMAC accepts a key of any length, so this can't fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const TIMESTAMP: &str = "20150830T123600Z";

    /// The header `authorization` of a request.
    fn authorization(
        method: &str,
        url: &str,
        headers: &[(&'static str, &'static str)],
        body: &[u8],
        service: &str,
    ) -> String {
        let mut header_map = HeaderMap::new();
        header_map.insert("x-amz-date", HeaderValue::from_static(TIMESTAMP));
        header_map.insert("accept", HeaderValue::from_static("application/json"));
        for (name, value) in headers {
            header_map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let url = Url::parse(url).unwrap();
        let request = SignableRequest { method, url: &url, headers: &header_map, body, timestamp: TIMESTAMP };
        let scope = CredentialScope { region: "us-east-1", service };
        sign(&request, &scope, SECRET).authorization("AKIDEXAMPLE", &scope, TIMESTAMP)
    }

    #[test]
    fn signatures_equal_those_of_the_published_test_suite() {
        // The cases `get-vanilla`, `get-vanilla-query-order-key-case` and `get-vanilla-with-session-token`.
        let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        for (query, token, signed_headers, signature) in [
            ("", None, "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                "?Param2=value2&Param1=value1",
                None,
                "host;x-amz-date",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "",
                Some(token),
                "host;x-amz-date;x-amz-security-token",
                "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
            ),
        ] {
            let headers: Vec<_> = token.into_iter().map(|token| ("x-amz-security-token", token)).collect();
            let url = format!("http://example.amazonaws.com/{query}");
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders={signed_headers}, Signature={signature}"
            );
            assert_eq!(authorization("GET", &url, &headers, b"", "service"), expected, "{query}");
        }
    }

    #[test]
    fn a_path_and_a_query_with_encoded_characters_are_signed_as_botocore_signs_them() {
        let header = authorization(
            "POST",
            "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-v2%3A1/converse?b=2&a=%C3%A9%20x",
            &[("content-type", "application/json"), ("x-amz-security-token", "TOKEN")],
            b"{\"a\":1}",
            "bedrock",
        );
        let signature = "d49eb606065447826c0c5a35e9e9012a8a16d072c9d0ae9234a66c6f8d1f3a5b";
        let signed_headers = "content-type;host;x-amz-date;x-amz-security-token";
        assert!(header.ends_with(&format!("SignedHeaders={signed_headers}, Signature={signature}")), "{header}");
    }

    #[test]
    fn the_host_has_its_port_unless_it_is_the_default() {
        for (url, expected) in [
            ("https://example.com/", "example.com"),
            ("https://example.com:443/", "example.com"),
            ("http://127.0.0.1:9000/x", "127.0.0.1:9000"),
            ("http://[::1]:9/", "[::1]:9"),
        ] {
            assert_eq!(host(&Url::parse(url).unwrap()), expected);
        }
    }
}
