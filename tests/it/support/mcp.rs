//! MCP servers for tests (those of npm, one of the official Python SDK, and a hostile one), and a site that connects to
//! them.

use std::collections::HashMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use orch::config::McpServerSettings;
use orch::folder::{FolderAccess, NoFollowFolder};
use orch::model::{Failure, InputAnswers, McpServerSpec, Sandbox, SandboxUse};
use orch::network::Network;
use orch::process::{EndingGroups, SandboxContext, SandboxProbe};
use orch::secret::Redactor;
use orch::tool::mcp::{ListedServer, McpCall, McpContext, McpResult, McpServers, StartLimits};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::wait::until_ended;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp");
/// The programs of servers in sandboxes are part of their command lines: a sandbox has a `/tmp` of its own, and the project
/// may be a clone below `/tmp`.
pub(crate) const HOSTILE: &str = include_str!("../mcp/hostile.py");
const PEER: &str = include_str!("../../mcp/peer.py");
/// How long a server may take until it accepts connections. Only a server that hangs takes longer.
const PATIENCE: Duration = Duration::from_mins(2);
/// Limits within which every program starts, also on a busy machine.
pub(crate) const PATIENT_START: StartLimits =
    StartLimits { total: Duration::from_mins(4), program_discovery: PATIENCE, http_discovery: PATIENCE };

/// The folder of the Node modules. Prints a notice and returns `None` if npm can't install them.
pub(crate) fn modules() -> Option<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(|| super::npm::install(SOURCES, "mcp")) {
        Ok(folder) => Some(folder),
        Err(reason) => {
            super::print_skipped("the MCP servers of npm are not tested", reason);
            None
        }
    }
}

/// The command line of a server of npm, such as `everything`, with these arguments.
pub(crate) fn npm_server(name: &str, arguments: &[&str]) -> Option<Vec<String>> {
    let script = modules()?.join(format!("node_modules/@modelcontextprotocol/server-{name}/dist/index.js"));
    let command = ["node", script.to_str().unwrap()].into_iter().chain(arguments.iter().copied());
    Some(command.map(str::to_owned).collect())
}

/// The Python with the official SDK. Prints a notice and returns `None` if there is none.
fn python() -> Option<String> {
    let python = std::env::var("ORCH_TEST_MCP_PYTHON").ok();
    if python.is_none() {
        super::print_skipped("the Python SDK of MCP is not tested", "ORCH_TEST_MCP_PYTHON is not set");
    }
    python
}

/// The command line of the server of the Python SDK.
pub(crate) fn python_server(argument: &str) -> Option<Vec<String>> {
    Some(vec![python()?, "-c".to_owned(), PEER.to_owned(), argument.to_owned()])
}

/// The command line of the hostile server. It writes its log to `mcp.log` in the workspace.
pub(crate) fn hostile_server(mode: &str) -> Vec<String> {
    ["python3", "-c", HOSTILE, mode, "mcp.log"].map(str::to_owned).to_vec()
}

/// A server that speaks HTTP on the loopback. Dropping this value ends it.
pub(crate) struct HttpServer {
    process: Child,
    port: u16,
}

impl HttpServer {
    /// Starts `everything` of npm.
    pub(crate) fn everything() -> Option<Self> {
        let command = npm_server("everything", &["streamableHttp"])?;
        let preload = format!("{SOURCES}/loopback.cjs");
        Some(Self::start(|port| {
            let mut node = Command::new(&command[0]);
            node.arg("--require").arg(&preload).args(&command[1..]).env("PORT", port.to_string());
            node
        }))
    }

    /// Starts the server of the Python SDK.
    pub(crate) fn python() -> Option<Self> {
        let command = python_server("")?;
        Some(Self::start(|port| {
            let mut python = Command::new(&command[0]);
            python.args(&command[1..command.len() - 1]).arg(port.to_string());
            python
        }))
    }

    fn start(command: impl FnOnce(u16) -> Command) -> Self {
        let port = unused_port();
        let mut command = command(port);
        let process = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut server = Self { process, port };
        let began = std::time::Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.process.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "the server does not accept connections: {ended:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }
}

/// A call without answers and with a limit that only a server that hangs reaches.
fn patient_call<'a>(server: &'a McpServerSpec, tool: &'a str, arguments: &'a Value) -> McpCall<'a> {
    McpCall { server, tool, arguments, answers: None, answerer: None, timeout: PATIENCE, on_progress: &|_| {} }
}

/// A port that no program uses, below the ports that Linux and macOS give to programs which ask for any: no other test
/// takes it before the server does.
fn unused_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        // The server ends with its standard input.
        drop(self.process.stdin.take());
        until_ended(&mut self.process);
    }
}

/// A workspace whose MCP servers run until the site is dropped.
pub(crate) struct McpSite {
    base: tempfile::TempDir,
    runtime: Runtime,
    servers: McpServers,
    context: McpContext,
    variables: Arc<Mutex<HashMap<String, String>>>,
    /// The progress that servers reported.
    pub(crate) progress: Mutex<Vec<String>>,
}

impl McpSite {
    pub(crate) fn new() -> Self {
        Self::with_variables(&[], &[])
    }

    /// A site whose environment has these variables beside `PATH`. The values of `secrets` are secrets, too.
    pub(crate) fn with_variables(variables: &[(&str, &str)], secrets: &[&str]) -> Self {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().canonicalize().unwrap();
        for folder in ["workspace", "outside", "state"] {
            fs::create_dir(path.join(folder)).unwrap();
        }
        let mut environment: HashMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        environment.insert("PATH".to_owned(), std::env::var("PATH").unwrap());
        let secrets: Vec<(String, SecretString)> =
            secrets.iter().map(|name| ((*name).to_owned(), SecretString::from(environment[*name].clone()))).collect();
        let redactor = Redactor::new(secrets.iter().map(|(name, secret)| (name.as_str(), secret)));
        let variables = Arc::new(Mutex::new(environment));
        let lookup = variables.clone();
        let orch = PathBuf::from(env!("CARGO_BIN_EXE_orch"));
        let state = NoFollowFolder::open(&path.join("state"), FolderAccess::Private).unwrap();
        let context = McpContext {
            sandbox: Arc::new(SandboxContext::new(SandboxProbe::new(orch.clone()), path.join("workspace"))),
            variables: Arc::new(move |name: &str| lookup.lock().unwrap().get(name).cloned()),
            supervisor: orch.into(),
            ending_process_groups: EndingGroups::default(),
            network: Arc::new(Network::default()),
            redactor: Arc::new(redactor),
            legacy_servers: Some(state.file("mcp-legacy.json")),
            start_limits: PATIENT_START,
            can_ask: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let servers = McpServers::new(context.clone());
        Self { base, runtime, servers, context, variables, progress: Mutex::default() }
    }

    /// Lets every server take at most this long to get ready. Without this, a server takes longer only if it hangs.
    pub(crate) fn with_start_limits(mut self, limits: StartLimits) -> Self {
        self.context.start_limits = limits;
        self.restart();
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn set_variable(&self, name: &str, value: &Path) {
        self.variables.lock().unwrap().insert(name.to_owned(), value.to_str().unwrap().to_owned());
    }

    /// A path in the workspace.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.context.sandbox.workspace.join(name)
    }

    /// A path beside the workspace.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.base().join("outside").join(name)
    }

    /// The server `peer` with these settings, as in `orch.yaml`.
    pub(crate) fn spec(settings: Value) -> McpServerSpec {
        let settings: McpServerSettings = serde_json::from_value(settings).unwrap();
        settings.spec("peer", &Sandbox::default()).unwrap()
    }

    /// A server that may write into the workspace and gets these variables, without a sandbox where this machine has
    /// none.
    pub(crate) fn program(command: &[String], env: &[&str]) -> McpServerSpec {
        let sandbox = if super::sandbox::is_full() { json!({ "write": ["."] }) } else { json!({ "enabled": false }) };
        Self::spec(json!({ "command": command, "env": env, "sandbox": sandbox }))
    }

    /// The hostile server, with the variable `TOKEN`.
    pub(crate) fn hostile(mode: &str) -> McpServerSpec {
        Self::program(&hostile_server(mode), &["TOKEN"])
    }

    /// The log of the hostile server.
    pub(crate) fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("mcp.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    pub(crate) fn list(&self, spec: &McpServerSpec) -> Result<ListedServer, Failure> {
        self.runtime.block_on(self.servers.list(spec))
    }

    /// Lists the tools of a server twice at the same time.
    pub(crate) fn list_both(&self, spec: &McpServerSpec) -> [Result<ListedServer, Failure>; 2] {
        let both = futures_util::future::join(self.servers.list(spec), self.servers.list(spec));
        let (first, second) = self.runtime.block_on(both);
        [first, second]
    }

    /// The names of the tools, and the version of the protocol.
    #[track_caller]
    pub(crate) fn listed(&self, spec: &McpServerSpec) -> (Vec<String>, String) {
        let listing = self.list(spec).unwrap_or_else(|failure| panic!("{failure:?}")).listing;
        (listing.tools.iter().map(|tool| tool.name.clone()).collect(), listing.protocol_version.clone())
    }

    /// Calls a tool until the call ends, `interruption` resolves, or `timeout` has passed.
    pub(crate) fn call_until(
        &self,
        spec: &McpServerSpec,
        tool: &str,
        arguments: &Value,
        timeout: Duration,
        interruption: impl Future<Output = Failure>,
    ) -> Result<McpResult, Failure> {
        let on_progress = |text: &str| self.note(text);
        let call = McpCall { timeout, on_progress: &on_progress, ..patient_call(spec, tool, arguments) };
        self.runtime.block_on(self.servers.call(call, interruption))
    }

    fn note(&self, text: &str) {
        self.progress.lock().unwrap().push(text.to_owned());
    }

    pub(crate) fn call(&self, spec: &McpServerSpec, tool: &str, arguments: Value) -> Result<McpResult, Failure> {
        self.call_until(spec, tool, &arguments, PATIENCE, std::future::pending())
    }

    /// Makes a call again, with the answers to the questions of the server.
    pub(crate) fn answer(
        &self,
        spec: &McpServerSpec,
        tool: &str,
        answers: &InputAnswers,
    ) -> Result<McpResult, Failure> {
        let arguments = json!({});
        let call = McpCall { answers: Some(answers), ..patient_call(spec, tool, &arguments) };
        self.runtime.block_on(self.servers.call(call, std::future::pending()))
    }

    /// The text of a call that succeeds.
    #[track_caller]
    pub(crate) fn text(&self, spec: &McpServerSpec, tool: &str, arguments: Value) -> String {
        let result = self.call(spec, tool, arguments).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert!(!result.is_error, "{result:?}");
        result.content
    }

    /// Runs two calls at the same time.
    pub(crate) fn call_both(
        &self,
        spec: &McpServerSpec,
        tool: &str,
        arguments: [&Value; 2],
    ) -> [Result<McpResult, Failure>; 2] {
        let call = |arguments| self.servers.call(patient_call(spec, tool, arguments), std::future::pending());
        let both = futures_util::future::join(call(arguments[0]), call(arguments[1]));
        let (first, second) = self.runtime.block_on(both);
        [first, second]
    }

    pub(crate) fn sandbox_use(&self) -> Option<SandboxUse> {
        self.servers.sandbox_use("peer")
    }

    /// The folder with the workspace, the folder `outside` and the folder `state`.
    pub(crate) fn base(&self) -> PathBuf {
        self.base.path().canonicalize().unwrap()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.servers.is_running("peer")
    }

    pub(crate) fn end(&self) {
        self.runtime.block_on(self.servers.end("peer"));
    }

    pub(crate) fn shutdown(&self) {
        self.runtime.block_on(self.servers.shutdown());
    }

    /// Ends all servers, and begins anew as another run in the same project does.
    pub(crate) fn restart(&mut self) {
        self.shutdown();
        self.servers = McpServers::new(self.context.clone());
    }
}

impl Drop for McpSite {
    fn drop(&mut self) {
        self.shutdown();
    }
}
