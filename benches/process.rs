//! The whole process, as a user pays for it: start-up, a checked project, a run of three steps.
//!
//! The floors are programs that make three HTTP calls: `programs/calls.rs` over a socket, and this very file, started
//! again, with `--committed` over a socket with each reply committed to a database before the next call, which is the
//! least that a run promises, with `--client` over the HTTP client that orch uses, and with `--durable` over that
//! client, committed. The script `programs/calls.sh` does the same work with curl and jq. Run it with
//! `cargo bench --profile dist --bench process --no-default-features`.

#![allow(clippy::disallowed_methods, reason = "a bench is no run: it waits for processes")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench that can't go on fails")]

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

mod measure;
mod server;

use measure::{Samples, bytes, compile, count_syncs, measure, print_head, print_row, run_as_helper, time};
use server::{read_message, serve};

const ORCH: &str = env!("CARGO_BIN_EXE_orch");
const RUNS: usize = 40;
const NAMES: [&str; 3] = ["plan", "code", "review"];

fn main() {
    if run_as_helper() {
        return;
    }
    let args: Vec<String> = std::env::args().collect();
    let after = |flag: &str| args.iter().position(|arg| arg == flag).map(|at| args[at + 1].as_str());
    if let Some(address) = after("--committed") {
        return committed(address);
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
    compare(project.path(), &address);
}

/// A row of the table.
struct Row {
    name: &'static str,
    command: Command,
    samples: Samples,
}

impl Row {
    fn new(name: &'static str, program: impl AsRef<std::ffi::OsStr>, args: &[&str], folder: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(args).current_dir(folder);
        Self { name, command, samples: Samples::default() }
    }

    fn print(&self) {
        let samples = &self.samples;
        print_row(&[
            self.name.to_owned(),
            time(samples.wall(5)),
            format!("{} to {}", time(samples.wall(1)), time(samples.wall(9))),
            time(samples.median(|usage| usage.cpu)),
            samples.median(|usage| usage.faults).to_string(),
            bytes(samples.median(|usage| usage.memory)),
            bytes(samples.median(|usage| usage.stored)),
        ]);
    }
}

fn compare(folder: &Path, address: &str) {
    let own = std::env::current_exe().unwrap();
    let calls = compile("calls", folder);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/programs/calls.sh");
    let run = ["pipeline", "run", "pipelines/default.yaml", "--task", "x", "--model", "lab/m", "-q"];
    let mut rows = vec![
        Row::new("a bare Rust program", &calls, &[], folder),
        Row::new("`orch --version`", ORCH, &["--version"], folder),
        Row::new("`orch pipeline validate`", ORCH, &["pipeline", "validate", "pipelines/default.yaml"], folder),
        Row::new("three HTTP calls over a socket", &calls, &[address, "3", "1"], folder),
        Row::new("three calls over a socket, each committed", &own, &["--committed", address], folder),
        Row::new("three HTTP calls with reqwest", &own, &["--client", address], folder),
        Row::new("three calls with reqwest, each committed", &own, &["--durable", address], folder),
        Row::new("`orch pipeline run`, three steps", ORCH, &run, folder),
    ];
    if is_installed("curl") && is_installed("jq") {
        rows.push(Row::new("a script with curl and jq", "sh", &[script, address], folder));
    } else {
        println!("curl or jq is not installed: the table has no row for the script");
    }
    // The rows take turns, so that a change of the machine's speed affects all of them.
    for _ in 0..RUNS {
        for row in &mut rows {
            row.samples.add(measure(&row.command));
        }
    }
    print_head(&["", "median", "10th to 90th percentile", "CPU", "page faults", "memory", "stored"]);
    rows.iter().for_each(Row::print);
    print_ratios(&rows);
}

fn print_ratios(rows: &[Row]) {
    let (floors, run) = (&rows[3..7], &rows[7]);
    print_head(&["", "a run of three steps takes as many times as long"]);
    for floor in floors {
        let times = run.samples.wall(5).as_secs_f64() / floor.samples.wall(5).as_secs_f64();
        print_row(&[floor.name.to_owned(), format!("{times:.1}")]);
    }
    print_head(&["", "fsyncs"]);
    for row in [&rows[4], run] {
        let syncs = count_syncs(&row.command);
        print_row(&[row.name.to_owned(), syncs.map_or("strace is missing".to_owned(), |count| count.to_string())]);
    }
}

fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The default project with a provider at `address`.
fn prepare(folder: &Path, address: &str) {
    assert!(Command::new(ORCH).arg("init").current_dir(folder).stderr(Stdio::null()).status().unwrap().success());
    let settings = format!("providers:\n  lab: {{ dialect: openai, base_url: \"http://{address}/v1\" }}\n");
    std::fs::write(folder.join("orch.yaml"), settings).unwrap();
    // The bare calls write no code, so neither does this run.
    let (file, write) = (folder.join("pipelines/default.yaml"), "  - id: files\n");
    let text = std::fs::read_to_string(&file).unwrap();
    let (head, tail) = text.split_once(write).unwrap();
    let (_, rest) = tail.split_once("  - id: review\n").unwrap();
    std::fs::write(&file, format!("{head}  - id: review\n{rest}")).unwrap();
}

/// The body of a request for a reply of this name.
fn request(name: &str) -> String {
    format!("{{\"response_format\":{{\"json_schema\":{{\"name\":\"{name}\"}}}}}}")
}

fn committed(address: &str) {
    let journal = journal();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    for name in NAMES {
        let body = request(name);
        let head = format!("POST /v1 HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
        let reply = read_message(&mut BufReader::new(&stream)).unwrap();
        journal.execute("INSERT INTO replies VALUES (?1)", [reply]).unwrap();
    }
}

fn durable(address: &str) {
    let journal = journal();
    client(address, |reply| {
        journal.execute("INSERT INTO replies VALUES (?1)", [reply]).unwrap();
    });
}

/// A database that commits as orch's journal does.
fn journal() -> rusqlite::Connection {
    let journal = rusqlite::Connection::open("bare.db").unwrap();
    let settings =
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE IF NOT EXISTS replies (body TEXT)";
    journal.execute_batch(settings).unwrap();
    journal
}

fn client(address: &str, keep: impl Fn(&str)) {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
    runtime.block_on(async {
        for name in NAMES {
            let reply = client.post(format!("http://{address}/v1")).body(request(name)).send().await.unwrap();
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
