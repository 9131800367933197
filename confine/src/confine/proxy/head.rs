//! The head of a request to an HTTP proxy: where it goes, and what the server gets instead of it.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest head, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Headers that are for the proxy, or that say how the connection to it goes on.
const OWN_HEADERS: &[&str] =
    &["proxy-connection", "proxy-authorization", "proxy-authenticate", "connection", "keep-alive", "te", "upgrade"];

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The name or address, as the program wrote it.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
    /// What the server gets first: the request without what is for the proxy. `None` for a tunnel (`CONNECT`).
    pub(super) forwarded: Option<Vec<u8>>,
}

/// Reads up to the end of a head; returns it and the bytes that follow.
pub(super) async fn read_head(client: &mut (impl AsyncRead + Unpin)) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let searched_from = bytes.len().saturating_sub(3);
        let mut piece = [0; 4096];
        let count = client.read(&mut piece).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        let found = bytes.get(searched_from..).unwrap_or_default().windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(position) = found {
            let rest = bytes.split_off(searched_from + position + 4);
            return Ok((bytes, rest));
        }
        if bytes.len() > MAX_HEAD_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// Reads a head; `None` if it is not one for a proxy.
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
        // A line that a server could read as another header than this proxy does.
        if name.is_empty() || name.contains(|byte: char| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
            return None;
        }
        let name = name.to_ascii_lowercase();
        if name != "host" && !OWN_HEADERS.contains(&name.as_str()) {
            forwarded.push_str(line);
            forwarded.push_str("\r\n");
        }
    }
    // One request for each connection: the next one may be for another host.
    forwarded.push_str("Connection: close\r\n\r\n");
    Some(Target { host: host.to_owned(), port, forwarded: Some(forwarded.into_bytes()) })
}

/// Splits `HOST:PORT`; `default` is the port if none is written.
fn split_port(authority: &str, default: Option<u16>) -> Option<(&str, u16)> {
    let after_host = authority.find(']').map_or(0, |end| end + 1);
    let colon = authority.get(after_host..)?.find(':').map(|position| after_host + position);
    let (host, port) = match colon {
        None => (authority, default?),
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
    fn a_tunnel_names_host_and_port() {
        assert_eq!(target("CONNECT h.example:443 HTTP/1.1\r\n\r\n"), Some(("h.example".to_owned(), 443, None)));
        assert_eq!(target("CONNECT [::1]:443 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().0, "[::1]");
        for head in
            ["CONNECT h.example HTTP/1.1", "CONNECT h:99999 HTTP/1.1", "CONNECT u@h:1 HTTP/1.1", "CONNECT :1 HTTP/1.1"]
        {
            assert_eq!(target(&format!("{head}\r\n\r\n")), None, "{head}");
        }
    }

    #[test]
    fn a_plain_request_goes_on_without_what_is_for_the_proxy() {
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
    fn what_is_no_request_to_a_proxy_is_refused() {
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
    async fn a_head_ends_at_the_empty_line_wherever_it_is_cut() {
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
