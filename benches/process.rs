//! The whole process, as a user pays for it: start-up, a checked project, a run of three steps.
//!
//! The floor is a bare Rust program that makes three HTTP calls: this very file, started again, with
//! `--bare` over a socket, with `--client` over the HTTP client that orch uses, and with `--durable` over that
//! client, each reply committed to a database before the next call, which is the least that a run promises.
//! Run it with `cargo bench --profile dist --bench process --no-default-features`.

#![allow(clippy::disallowed_methods, reason = "a bench is no run: it waits for processes")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench that can't go on fails")]

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

mod server;

use server::{read_message, serve};

const ORCH: &str = env!("CARGO_BIN_EXE_orch");
const RUNS: usize = 40;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let after = |flag: &str| args.iter().position(|arg| arg == flag).map(|at| args[at + 1].as_str());
    if let Some(address) = after("--bare") {
        return bare(address);
    }
    if let Some(address) = after("--client") {
        return client(address, |_| {});
    }
    if let Some(address) = after("--durable") {
        return durable(address);
    }
    let address = serve(Duration::ZERO, say);
    let project = tempfile::tempdir().unwrap();
    prepare(project.path(), &address);
    let own = std::env::current_exe().unwrap();
    let floor = |name: &str, flag: &str| {
        median(name, || {
            let mut command = Command::new(&own);
            command.args([flag, &address]).current_dir(project.path());
            command
        })
    };
    let bare = floor("three HTTP calls over a socket", "--bare");
    let client = floor("three HTTP calls with reqwest", "--client");
    let durable = floor("three of them, each committed", "--durable");
    median("orch --version", || {
        let mut command = Command::new(ORCH);
        command.arg("--version");
        command
    });
    median("orch pipeline validate", || {
        let mut command = Command::new(ORCH);
        command.args(["pipeline", "validate", "pipelines/default.yaml"]).current_dir(project.path());
        command
    });
    let whole = median("orch pipeline run, three steps", || run(project.path()));
    let times = |floor: Duration| whole.as_secs_f64() / floor.as_secs_f64();
    println!(
        "a run is {:.1} times the calls over a socket, {:.1} times those with reqwest, {:.1} times the committed ones",
        times(bare),
        times(client),
        times(durable)
    );
    println!("peak memory of a run: {}", peak(project.path()));
}

fn median(name: &str, command: impl Fn() -> Command) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let mut command = command();
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let began = Instant::now();
            let status = command.status().unwrap();
            assert!(status.success(), "{name}: {status}");
            began.elapsed()
        })
        .collect();
    times.sort();
    let at = |part: usize| times[times.len() * part / 10];
    println!("{name:<32} median {:>8.2?}   p10 {:>8.2?}   p90 {:>8.2?}", at(5), at(1), at(9));
    at(5)
}

/// Names the provider of a project.
fn point(folder: &Path, address: &str) {
    let settings = format!("providers:\n  lab: {{ dialect: openai, base_url: \"http://{address}/v1\" }}\n");
    std::fs::write(folder.join("orch.yaml"), settings).unwrap();
}

fn run(folder: &Path) -> Command {
    let mut command = Command::new(ORCH);
    command.args(["pipeline", "run", "pipelines/default.yaml", "--task", "x", "--model", "lab/m", "-q"]);
    command.current_dir(folder);
    command
}

/// The default project with a provider at `address`.
fn prepare(folder: &Path, address: &str) {
    assert!(Command::new(ORCH).arg("init").current_dir(folder).stderr(Stdio::null()).status().unwrap().success());
    point(folder, address);
    // The bare calls write no code, so neither does this run.
    let (file, write) = (folder.join("pipelines/default.yaml"), "  - id: files\n");
    let text = std::fs::read_to_string(&file).unwrap();
    let (head, tail) = text.split_once(write).unwrap();
    let (_, rest) = tail.split_once("  - id: review\n").unwrap();
    std::fs::write(&file, format!("{head}  - id: review\n{rest}")).unwrap();
}

/// The most memory that a run holds, read while its last reply is late.
fn peak(folder: &Path) -> String {
    let late = serve(Duration::from_millis(200), say);
    point(folder, &late);
    let mut child = run(folder).spawn().unwrap();
    let mut most = String::new();
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        if let Some(line) = status.lines().find(|line| line.starts_with("VmHWM")) {
            most = line.trim_start_matches("VmHWM:").trim().to_owned();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    most
}

fn bare(address: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    for name in ["plan", "code", "review"] {
        let body = format!("{{\"response_format\":{{\"json_schema\":{{\"name\":\"{name}\"}}}}}}");
        let head = format!("POST /v1 HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
        read_message(&mut BufReader::new(&stream)).unwrap();
    }
}

fn durable(address: &str) {
    let journal = rusqlite::Connection::open("bare.db").unwrap();
    let settings =
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE IF NOT EXISTS replies (body TEXT)";
    journal.execute_batch(settings).unwrap();
    client(address, |reply| {
        journal.execute("INSERT INTO replies VALUES (?1)", [reply]).unwrap();
    });
}

fn client(address: &str, keep: impl Fn(&str)) {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
    runtime.block_on(async {
        for name in ["plan", "code", "review"] {
            let body = format!("{{\"response_format\":{{\"json_schema\":{{\"name\":\"{name}\"}}}}}}");
            let reply = client.post(format!("http://{address}/v1")).body(body).send().await.unwrap();
            let reply = reply.text().await.unwrap();
            assert!(!reply.is_empty());
            keep(&reply);
        }
    });
}

/// What each step of the default pipeline should answer.
fn say(body: &str) -> &'static str {
    if body.contains("\"name\":\"plan\"") {
        r#"{"summary":"A user model with hashed passwords.","steps":[{"title":"Write the model","detail":"A User class with its fields.","files":["user.py"],"acceptance":["it can be imported"]}],"risks":[]}"#
    } else if body.contains("\"name\":\"code\"") {
        r#"{"files":[{"path":"user.py","language":"python","content":"class User:\n    pass  # fields follow\n"}],"notes":[]}"#
    } else {
        r#"{"approved":true,"score":8,"summary":"A small change that does its work.","issues":[]}"#
    }
}
