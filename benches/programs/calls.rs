//! The least program that makes HTTP calls: `calls ADDRESS COUNT THREADS` makes COUNT calls on each thread, one after
//! another on one connection. Without arguments, it does nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, address, count, threads] = args.as_slice() else { return };
    let (count, threads): (usize, usize) = (count.parse().unwrap(), threads.parse().unwrap());
    if threads == 1 {
        return call(address, count);
    }
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| call(address, count));
        }
    });
}

fn call(address: &str, count: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for name in ["plan", "code", "review"].iter().cycle().take(count) {
        let body = format!("{{\"response_format\":{{\"json_schema\":{{\"name\":\"{name}\"}}}}}}");
        let head = format!("POST /v1 HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
        read_reply(&mut reader);
    }
}

fn read_reply(reader: &mut BufReader<TcpStream>) {
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the server closed the connection");
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
}
