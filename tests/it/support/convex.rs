//! A Convex deployment for tests: the functions of `convex/` on Convex's own test double, behind a proxy that can fail
//! every request.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::{ReceivedRequest, Reply, Server};

/// The deploy key in all tests.
pub(crate) const KEY: &str = "prod:test|0123456789abcdef";

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/convex");

/// The folder with the modules of the test double. Prints a notice and returns `None` if npm can't install them.
fn modules() -> Option<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(|| super::npm::install(SOURCES, "convex")) {
        Ok(folder) => Some(folder),
        Err(reason) => {
            super::print_skipped("the functions of convex/ are not tested", reason);
            None
        }
    }
}

/// Copies the functions into a folder below the modules, so that their imports find the modules.
fn copy_functions(modules: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(modules).unwrap();
    for name in ["schema.ts", "workflows.ts", "tsconfig.json"] {
        fs::copy(format!("convex/{name}"), folder.path().join(name)).unwrap();
    }
    folder
}

/// Checks the types of the functions with TypeScript, and returns the output. Returns `None` without npm.
pub(crate) fn type_check() -> Option<std::process::Output> {
    let modules = modules()?;
    let folder = copy_functions(modules);
    let checker = modules.join("node_modules/typescript/bin/tsc");
    Some(Command::new("node").arg(checker).arg("-p").arg(folder.path()).output().unwrap())
}

/// How the proxy handles requests.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// The proxy forwards requests to the deployment.
    Open,
    /// The proxy answers after this delay and forwards nothing.
    Slow(Duration),
    /// The proxy answers with this status and text.
    Status(u16, &'static str),
    /// The proxy answers with the headers of the request.
    Echo,
    /// The proxy forwards requests about this step with a status that the deployment's validator rejects.
    Spoiled(&'static str),
}

/// A deployment behind its proxy. Dropping this value ends it.
pub(crate) struct Convex {
    process: Child,
    upstream: String,
    mode: Arc<Mutex<Mode>>,
    proxy: Option<Server>,
    port: u16,
    accepted_bodies: Arc<Mutex<Vec<Value>>>,
    _functions: tempfile::TempDir,
}

impl Convex {
    /// Starts a deployment. Prints a notice and returns `None` if npm can't install its modules.
    pub(crate) fn start() -> Option<Self> {
        let modules = modules()?;
        let functions = copy_functions(modules);
        fs::copy(format!("{SOURCES}/server.mjs"), functions.path().join("server.mjs")).unwrap();
        let mut process = Command::new("node")
            .args(["--import", "tsx", "server.mjs", "."])
            .current_dir(functions.path())
            .env("CONVEX_TEST_KEY", KEY)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let upstream = url.trim().strip_prefix("http://").expect("the deployment did not start").to_owned();
        let mode = Arc::new(Mutex::new(Mode::Open));
        let mut convex = Self {
            process,
            upstream,
            mode,
            proxy: None,
            port: 0,
            accepted_bodies: Arc::default(),
            _functions: functions,
        };
        convex.up();
        Some(convex)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes how the proxy handles requests.
    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// Closes the port of the proxy.
    pub(crate) fn down(&mut self) {
        self.proxy = None;
    }

    /// Opens the same port again.
    pub(crate) fn up(&mut self) {
        let (mode, upstream, accepted_bodies) =
            (self.mode.clone(), self.upstream.clone(), self.accepted_bodies.clone());
        let proxy = Server::start_on(self.port, move |request| {
            let mode = mode.lock().unwrap_or_else(PoisonError::into_inner).clone();
            handle(mode, request, &upstream, &accepted_bodies)
        });
        self.port = proxy.port();
        self.proxy = Some(proxy);
    }

    /// Queries the deployment directly, without the proxy.
    #[track_caller]
    pub(crate) fn query(&self, function: &str, args: Value) -> Value {
        let body = json!({ "path": format!("workflows:{function}"), "args": args, "format": "json" });
        let (status, reply) = post(&self.upstream, "/api/query", &format!("Convex {KEY}"), &body);
        assert_eq!((status, &reply["status"]), (200, &json!("success")), "{reply}");
        reply["value"].clone()
    }

    /// Calls a mutation of the deployment directly, without the proxy.
    pub(crate) fn mutate(&self, body: &Value) -> Value {
        post(&self.upstream, "/api/mutation", &format!("Convex {KEY}"), body).1
    }

    /// The requests that the deployment accepted, in order.
    pub(crate) fn accepted_calls(&self) -> Vec<Value> {
        self.accepted_bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Convex {
    fn drop(&mut self) {
        // The deployment ends when its standard input is closed.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn handle(mode: Mode, request: &ReceivedRequest, upstream: &str, accepted_bodies: &Mutex<Vec<Value>>) -> Reply {
    let mut body = request.body.clone();
    match mode {
        Mode::Open => {}
        Mode::Slow(time) => return Reply::status(200, "{}").delay(time),
        Mode::Status(status, text) => return Reply::status(status, text),
        Mode::Echo => return Reply::status(500, format!("{:?}", request.headers)),
        Mode::Spoiled(step) if body["args"]["key"] == step => body["args"]["status"] = json!("spoiled"),
        Mode::Spoiled(_) => {}
    }
    let (status, reply) = post(upstream, &request.path, request.header("authorization").unwrap_or_default(), &body);
    if reply["status"] == "success" {
        accepted_bodies.lock().unwrap_or_else(PoisonError::into_inner).push(request.body.clone());
    }
    Reply::status(status, reply.to_string())
}

/// Sends one request over its own connection.
fn post(host: &str, path: &str, authorization: &str, body: &Value) -> (u16, Value) {
    let mut stream = TcpStream::connect(host).unwrap();
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: {authorization}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let status = reply.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let text = reply.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    // The body may be chunked, with the size of each chunk on a line.
    let json = text.lines().find(|line| line.starts_with('{')).unwrap_or("null");
    (status, serde_json::from_str(json).unwrap())
}
