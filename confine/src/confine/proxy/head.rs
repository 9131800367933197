//! Parses the head of a request to the HTTP proxy: the target of the request, and the head to send to the server.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The maximum length of a head, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Headers that concern only the connection between the program and the proxy.
const HOP_BY_HOP_HEADERS: &[&str] =
    &["proxy-connection", "proxy-authorization", "proxy-authenticate", "connection", "keep-alive", "te", "upgrade"];

/// The target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The name or address in the request.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
    /// The head to send to the server, without headers for the proxy. `None` for a tunnel (`CONNECT`).
    pub(super) forwarded: Option<Vec<u8>>,
}

/// Reads a head; returns the head and the bytes received after it.
pub(super) async fn read_head(client: &mut (impl AsyncRead + Unpin)) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let search_start = bytes.len().saturating_sub(3);
        let mut chunk = [0; 4096];
        let count = client.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let head_end = bytes.get(search_start..).unwrap_or_default().windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(position) = head_end {
            let rest = bytes.split_off(search_start + position + 4);
            return Ok((bytes, rest));
        }
        if bytes.len() > MAX_HEAD_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// Parses a head; `None` if it is not a valid request to a proxy.
pub(super) fn parse(head: &[u8]) -> Option<Target> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.strip_suffix("\r\n\r\n")?.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || method.is_empty() || !version.starts_with("HTTP/1.") {
        return None;
    }
    if method == "CONNECT" {
        let (host, port) = split_port(target, None)?;
        return Some(Target { host: host.to_owned(), port, forwarded: None });
    }
    let scheme = target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://"))?;
    let address = target.get(scheme.len()..)?;
    let end = address.find(['/', '?', '#']).unwrap_or(address.len());
    let (authority, path) = address.split_at(end);
    let (host, port) = split_port(authority, Some(80))?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut forwarded = format!("{method} {slash}{path} HTTP/1.1\r\nHost: {authority}\r\n");
    for line in lines {
        let (name, _) = line.split_once(':')?;
        // A server could parse a line with such a name differently from this proxy.
        if name.is_empty() || name.contains(|byte: char| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
            return None;
        }
        let name = name.to_ascii_lowercase();
        if name != "host" && !HOP_BY_HOP_HEADERS.contains(&name.as_str()) {
            forwarded.push_str(line);
            forwarded.push_str("\r\n");
        }
    }
    // Each connection serves only one request, because the next request may be for another host.
    forwarded.push_str("Connection: close\r\n\r\n");
    Some(Target { host: host.to_owned(), port, forwarded: Some(forwarded.into_bytes()) })
}

/// Splits `HOST:PORT`. Without a port, uses `default_port`.
fn split_port(authority: &str, default_port: Option<u16>) -> Option<(&str, u16)> {
    let after_host = authority.find(']').map_or(0, |end| end + 1);
    let colon = authority.get(after_host..)?.find(':').map(|position| after_host + position);
    let (host, port) = match colon {
        None => (authority, default_port?),
        Some(colon) => (authority.get(..colon)?, authority.get(colon + 1..)?.parse().ok()?),
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_host) { None } else { Some((host, port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(head: &str) -> Option<(String, u16, Option<String>)> {
        let target = parse(head.as_bytes())?;
        Some((target.host, target.port, target.forwarded.map(|bytes| String::from_utf8(bytes).unwrap())))
    }

    #[test]
    fn a_tunnel_request_has_a_host_and_a_port() {
        assert_eq!(target("CONNECT h.example:443 HTTP/1.1\r\n\r\n"), Some(("h.example".to_owned(), 443, None)));
        assert_eq!(target("CONNECT [::1]:443 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().0, "[::1]");
        for head in
            ["CONNECT h.example HTTP/1.1", "CONNECT h:99999 HTTP/1.1", "CONNECT u@h:1 HTTP/1.1", "CONNECT :1 HTTP/1.1"]
        {
            assert_eq!(target(&format!("{head}\r\n\r\n")), None, "{head}");
        }
    }

    #[test]
    fn a_plain_request_is_forwarded_without_headers_for_the_proxy() {
        let head = "GET http://h.example:8080/a?b HTTP/1.1\r\nHost: other\r\nProxy-Authorization: s\r\nAccept: */*\r\n\
                    Connection: keep-alive\r\n\r\n";
        let (host, port, forwarded) = target(head).unwrap();
        assert_eq!((host.as_str(), port), ("h.example", 8080));
        assert_eq!(
            forwarded.unwrap(),
            "GET /a?b HTTP/1.1\r\nHost: h.example:8080\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        let (_, port, forwarded) = target("GET http://h?q HTTP/1.0\r\n\r\n").unwrap();
        assert!(port == 80 && forwarded.unwrap().starts_with("GET /?q HTTP/1.1\r\nHost: h\r\n"));
    }

    #[test]
    fn invalid_requests_are_refused() {
        for head in [
            "GET / HTTP/1.1",
            "GET https://h/ HTTP/1.1",
            "GET http://u:p@h/ HTTP/1.1",
            "GET http://h/ HTTP/2",
            "x",
            "GET http://h/ HTTP/1.1\r\n folded: x",
            "GET http://h/ HTTP/1.1\r\nA : x",
            "GET http://h/\tb c HTTP/1.1",
        ] {
            assert_eq!(target(&format!("{head}\r\n\r\n")), None, "{head}");
        }
    }

    #[tokio::test]
    async fn a_head_ends_at_the_empty_line_however_it_is_split() {
        let bytes = b"GET x\r\nA: b\r\n\r\nbody";
        for cut in 0..bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let mut reader = tokio::io::AsyncReadExt::chain(first, second);
            let (head, mut rest) = read_head(&mut reader).await.unwrap();
            tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut rest).await.unwrap();
            assert_eq!((head.as_slice(), rest.as_slice()), (&bytes[..15], &bytes[15..]), "{cut}");
        }
        assert!(read_head(&mut &b"GET x\r\n"[..]).await.is_err());
        assert!(read_head(&mut &vec![b'a'; 100 << 10][..]).await.is_err());
    }
}
