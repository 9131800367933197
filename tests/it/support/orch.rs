//! Runs the real program in a temporary project.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::Server;

/// A temporary folder with the default project.
pub(crate) struct Orch {
    folder: TempDir,
    /// The configuration of a temporary user, so that a test does not change the configuration of the user who runs it.
    configuration: TempDir,
    url: Option<String>,
}

impl Orch {
    /// Creates the default project with `orch init`.
    pub(crate) fn new() -> Self {
        let orch = Self::empty();
        let output = orch.command(&["init"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        orch
    }

    /// Creates an empty folder.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), configuration: tempfile::tempdir().unwrap(), url: None }
    }

    /// Configures this server as the provider `lab`, in OpenAI's dialect.
    pub(crate) fn with(mut self, server: &Server) -> Self {
        self.url = Some(server.url());
        let settings = format!(
            "providers:\n  lab: {{ dialect: openai, base_url: \"{}/v1\" }}\ndefaults: {{ model: lab/test }}\n",
            server.url()
        );
        self.write("orch.yaml", &settings);
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path().join(name).exists()
    }

    /// Replaces a text in a file of the project. Panics if the file does not contain the text.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) -> &Self {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from:?}");
        self.write(name, &text.replace(from, to))
    }

    /// Prepares a run of the program in the project's folder, with a minimal environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orch"));
        command.args(args).current_dir(self.path()).env_clear();
        for name in
            ["PATH", "HOME", "SystemRoot", "LLVM_PROFILE_FILE", "XDG_CACHE_HOME", "RUST_BACKTRACE", "ORCH_BRANCHES"]
        {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        // No server runs at this address. Otherwise, `auto` could find an Ollama server on the machine.
        command.env("OLLAMA_HOST", "127.0.0.1:9");
        command.env("XDG_CONFIG_HOME", self.configuration.path());
        command.stdin(Stdio::null());
        command
    }

    /// Trusts the project with its current settings.
    #[track_caller]
    pub(crate) fn trust(&self) -> &Self {
        self.run(&["trust"]).exits(0);
        self
    }

    /// Turns off the sandbox of CLI agents in `orch.yaml`, for scripts that write outside of the workspace or store
    /// their process ids. A later change of `orch.yaml` must keep this setting.
    #[track_caller]
    pub(crate) fn disable_sandboxes(&self) -> &Self {
        const DISABLED: &str = "sandbox: { enabled: false }\n";
        let settings = if self.exists("orch.yaml") { self.read("orch.yaml") } else { String::new() };
        if settings.contains(DISABLED) {
            return self;
        }
        self.write("orch.yaml", &format!("{settings}{DISABLED}")).trust()
    }

    /// Turns off the sandbox of CLI agents if this machine can't enforce it, for tests of other subjects.
    #[track_caller]
    pub(crate) fn disable_unsupported_sandboxes(&self) -> &Self {
        if super::sandbox::is_full() { self } else { self.disable_sandboxes() }
    }

    /// The folder of the user's configuration.
    pub(crate) fn configuration(&self) -> &Path {
        self.configuration.path()
    }

    /// Runs the program and waits until it ends.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> RunOutput {
        RunOutput::of(&self.command(args).output().unwrap())
    }

    /// Runs the default pipeline with additional arguments.
    #[track_caller]
    pub(crate) fn pipeline(&self, additional_args: &[&str]) -> RunOutput {
        let args = ["pipeline", "run", "pipelines/default.yaml", "--task", "Create a User model"];
        self.run(&[&args, additional_args].concat())
    }

    /// Runs the default pipeline, and returns its exit code and report.
    #[track_caller]
    pub(crate) fn report(&self, additional_args: &[&str]) -> (i32, Value) {
        let output = self.pipeline(&[&["--output", "json"], additional_args].concat());
        let report = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (output.code, report)
    }

    /// Starts the program without waiting for its end.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The sorted paths of all files in the folder, except for the folders `.orch` and `.git`.
    pub(crate) fn files(&self) -> Vec<String> {
        fn collect_files(folder: &Path, root: &Path, paths: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path: PathBuf = entry.unwrap().path();
                if path.is_dir() && !path.ends_with(".orch") && !path.ends_with(".git") {
                    collect_files(&path, root, paths);
                } else if path.is_file() {
                    paths.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let mut paths = Vec::new();
        collect_files(self.path(), self.path(), &mut paths);
        paths.sort();
        paths
    }
}

/// The exit code and the output of a run of the program.
#[derive(Debug)]
pub(crate) struct RunOutput {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl RunOutput {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Asserts that standard error contains a text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "standard error does not contain {text:?}:\n{}", self.stderr);
        self
    }
}
