//! The server of llama.cpp as a process of its own, for tests and benches of this workspace.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The server of llama.cpp, which exits when its standard input is closed.
pub(crate) struct LlamaProcess {
    child: Child,
    /// The base URL of its OpenAI-compatible API.
    api_url: String,
}

impl LlamaProcess {
    /// Starts the server for a model file, with a Python that has the package `xllamacpp`, and waits until it is ready.
    pub(crate) fn start(python: &OsStr, model: &Path) -> Self {
        let script = "tests/it/support/llamacpp.py";
        // A package of this workspace has its own folder below the root.
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let script = folders.map(|folder| folder.join(script)).find(|script| script.exists()).unwrap();
        let mut command = Command::new(python);
        command.arg(script).arg(model).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut api_url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut api_url).unwrap();
        let api_url = api_url.trim().to_owned();
        assert!(api_url.starts_with("http://127.0.0.1:"), "the server did not start: {api_url:?}");
        Self { child, api_url }
    }

    /// The base URL of its OpenAI-compatible API.
    pub(crate) fn api_url(&self) -> &str {
        &self.api_url
    }

    /// The base URL of its own API.
    pub(crate) fn base_url(&self) -> &str {
        self.api_url.trim_end_matches("/v1")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for LlamaProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
