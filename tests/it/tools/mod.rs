//! The built-in tools of models, with real files, links, races, commands and servers.

mod editing;
mod escapes;
mod fetch;
mod fetch_proxies;
mod reading;
#[cfg(target_os = "linux")]
mod shell;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use orch::files::WorkspaceBaseline;
use orch::model::step::Access;
use orch::model::{AgentActivity, BuiltinTool, ChangedFile, Failure, Sandbox, SandboxSpec, ToolGrant, ToolInvocation};
use orch::network::Network;
use orch::process::{EndingGroups, SandboxContext, SandboxProbe};
use orch::secret::Redactor;
use orch::tool::{HostLookup, PerformedTool, ToolContext, perform, read_arguments, system_lookup};
use serde_json::{Value, json};

/// A workspace with an agent that has tools, beside files that no tool may read or change.
struct ToolSite {
    base: tempfile::TempDir,
    /// The grants of the agent.
    grants: Vec<String>,
    /// The `sandbox` of `orch.yaml`.
    settings: Value,
    /// The sandbox of the agent; `None` if it is disabled.
    sandbox: Option<Value>,
    /// The files of artifacts.
    reserved: Vec<String>,
    project_files: Vec<String>,
    /// The folder with the journal.
    state_folder: Option<String>,
    network: Network,
    lookup: HostLookup,
    redactor: Arc<Redactor>,
    timeout_ms: u64,
    /// What the tools recorded before they changed the workspace: the paths of planned changes, or `snapshot`.
    recorded: Arc<Mutex<Vec<String>>>,
    /// The error with which recording fails.
    record_error: Option<Failure>,
}

/// The outcome of a call.
#[derive(Debug)]
struct ToolCall {
    text: String,
    is_error: bool,
    full_output: Option<Vec<u8>>,
    changed_files: Vec<ChangedFile>,
    activity: AgentActivity,
}

impl ToolCall {
    /// Asserts that the call succeeded.
    #[track_caller]
    fn succeeds(self) -> Self {
        assert!(!self.is_error, "{self:?}");
        self
    }

    /// Asserts that the call failed with a message that contains this text.
    #[track_caller]
    fn fails_with(self, text: &str) -> Self {
        assert!(self.is_error && self.text.contains(text), "{text}: {self:?}");
        assert!(self.activity.is_empty() && self.changed_files.is_empty(), "{self:?}");
        self
    }
}

impl ToolSite {
    /// A workspace for an agent with these grants.
    fn new(grants: &[&str]) -> Self {
        let site = Self {
            base: tempfile::tempdir().unwrap(),
            grants: grants.iter().map(|text| (*text).to_owned()).collect(),
            settings: json!({}),
            sandbox: Some(json!({})),
            reserved: Vec::new(),
            project_files: Vec::new(),
            state_folder: None,
            network: Network::default(),
            lookup: system_lookup(),
            redactor: Arc::default(),
            timeout_ms: 120_000,
            recorded: Arc::default(),
            record_error: None,
        };
        fs::create_dir(site.path("")).unwrap();
        fs::create_dir(site.outside("")).unwrap();
        fs::write(site.outside("file"), "sentinel").unwrap();
        site
    }

    /// A path in the workspace.
    fn path(&self, path: &str) -> PathBuf {
        self.base.path().canonicalize().unwrap().join("workspace").join(path)
    }

    /// A path beside the workspace.
    fn outside(&self, path: &str) -> PathBuf {
        self.base.path().canonicalize().unwrap().join("outside").join(path)
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn content(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn link(&self, target: impl Into<PathBuf>, path: &str) -> &Self {
        std::os::unix::fs::symlink(target.into(), self.path(path)).unwrap();
        self
    }

    fn context(&self) -> ToolContext {
        let orch = PathBuf::from(env!("CARGO_BIN_EXE_orch"));
        let (recorded, error) = (self.recorded.clone(), self.record_error.clone());
        let record_start = move |before: WorkspaceBaseline<'_>| {
            let mut recorded = recorded.lock().unwrap();
            match before {
                WorkspaceBaseline::Snapshot(_) => recorded.push("snapshot".to_owned()),
                WorkspaceBaseline::Planned(planned) => {
                    recorded.extend(planned.files.iter().map(|change| change.path.clone()));
                }
            }
            error.clone().map_or(Ok(()), Err)
        };
        ToolContext {
            sandbox: Arc::new(SandboxContext {
                project_paths: self.project_files.iter().map(|path| self.path(path)).collect(),
                state_folder: self.state_folder.as_ref().map(|path| self.path(path)),
                ..SandboxContext::new(SandboxProbe::new(orch.clone()), self.path("").components().collect())
            }),
            variables: Arc::new(|name: &str| (name == "PATH").then(|| std::env::var("PATH").ok()).flatten()),
            supervisor: orch.into(),
            ending_process_groups: EndingGroups::default(),
            network: Arc::new(self.network.clone()),
            lookup: self.lookup.clone(),
            redactor: self.redactor.clone(),
            record_start: Arc::new(record_start),
            on_output: Arc::new(|_: &[u8]| {}),
        }
    }

    fn invocation(&self, tool: BuiltinTool, arguments: &Value) -> ToolInvocation {
        let defaults: Sandbox = serde_json::from_value(self.settings.clone()).unwrap();
        let sandbox = self.sandbox.clone().map(|settings| {
            let settings: Sandbox = serde_json::from_value(settings).unwrap();
            SandboxSpec::resolve(&settings, &defaults, Access::Write).unwrap()
        });
        ToolInvocation {
            id: "call-1".to_owned(),
            tool,
            arguments: read_arguments(tool, arguments).unwrap(),
            grants: self.grants.iter().map(|text| ToolGrant::parse(text).unwrap()).collect(),
            reserved: self.reserved.as_slice().into(),
            env: Vec::new(),
            sandbox,
            project_network: defaults.network,
            timeout_ms: self.timeout_ms,
        }
    }

    /// Performs a call until it ends, or until `interruption` resolves.
    fn perform(
        &self,
        tool: BuiltinTool,
        arguments: &Value,
        interruption: impl Future<Output = Failure>,
    ) -> PerformedTool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(perform(&self.invocation(tool, arguments), &self.context(), interruption))
    }

    /// Performs a call that orch can perform.
    #[track_caller]
    fn call(&self, tool: &str, arguments: Value) -> ToolCall {
        let tool = BuiltinTool::from_name(tool).unwrap();
        let performed = self.perform(tool, &arguments, std::future::pending());
        let output = performed.result.unwrap_or_else(|failure| panic!("{failure:?}"));
        assert!(output.content.len() <= orch::tool::MAX_CONTENT_BYTES, "{}", output.content.len());
        ToolCall {
            text: output.content,
            is_error: output.is_error,
            full_output: performed.full_output,
            changed_files: output.changed_files,
            activity: performed.activity,
        }
    }

    /// Performs a call that orch can't perform.
    #[track_caller]
    fn failure(&self, tool: &str, arguments: Value) -> Failure {
        let tool = BuiltinTool::from_name(tool).unwrap();
        self.perform(tool, &arguments, std::future::pending()).result.unwrap_err()
    }

    /// The states that the tools recorded before they changed the workspace.
    fn recorded(&self) -> Vec<String> {
        self.recorded.lock().unwrap().clone()
    }
}
