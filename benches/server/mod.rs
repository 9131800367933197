//! A model server on the loopback whose replies come at once, or a little late; for the benches.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that can't go on fails")]

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Head and body of one HTTP message with a `content-length`.
pub(crate) fn read_message(reader: &mut impl std::io::BufRead) -> Option<String> {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            return String::from_utf8(body).ok();
        }
    }
}

/// A server that answers each request with what `say` makes of its body, after a while.
pub(crate) fn serve(late: Duration, say: fn(&str) -> &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(&stream, late, say));
        }
    });
    address
}

fn answer(stream: &TcpStream, late: Duration, say: fn(&str) -> &'static str) {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    stream.set_nodelay(true).unwrap();
    while let Some(body) = read_message(&mut reader) {
        std::thread::sleep(late);
        let text = serde_json::Value::String(say(&body).to_owned());
        let events = format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":{text}}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":9}}}}\n\ndata: [DONE]\n\n"
        );
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n", events.len());
        if writer.write_all((head + &events).as_bytes()).is_err() {
            return;
        }
    }
}
