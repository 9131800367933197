//! Lists and calls tools without a run: the tools of orch, and those of the MCP servers in `orch.yaml`.
//!
//! Servers and built-in tools run in the same sandboxes as in a run. Nothing is recorded, so a call can't be resumed.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use indexmap::IndexMap;
use serde_json::Value;

use crate::clock::SystemClock;
use crate::config::Settings;
use crate::diagnostic::did_you_mean;
use crate::engine::interrupted_call::unknown_effect_text;
use crate::engine::mcp_questions::{MAX_INPUT_ROUNDS, answer_from_text, answers_from_text, too_many_rounds};
use crate::files::WorkspaceBaseline;
use crate::model::event::CallKind;
use crate::model::failure::RAISE_TIMEOUT_HINT;
use crate::model::{
    AgentActivity, BuiltinTool, Failure, FailureClass, InputAnswers, InputQuestion, InputRequired, McpServerSpec,
    McpToolName, Sandbox, SandboxSpec, ToolGrant, ToolInvocation, is_unanswered_call,
};
use crate::network::Network;
use crate::process::{EndingGroups, SandboxContext, SupervisorSpec};
use crate::secret::{Redactor, secrets_for_servers};
use crate::store::Workspace;
use crate::tool::mcp::{Answerer, ListedServer, McpCall, McpServers};
use crate::tool::{self, ToolContext, system_lookup};
use crate::trust::VariableDisclosures;

use super::Runner;
use super::error::{ExitStatus, RunnerError};
use super::execute::workspace_path;
use super::locks::{WorkspaceLocks, remove_project_placeholders};
use super::mcp_servers::{ServerParts, mcp_servers};
use super::preflight::ProjectPlace;
use super::prepare;
use super::project_files::{resolve_links, settings_paths};
use super::project_state::{StateFolder, project_root, project_settings};
use super::tool_info::{Target, ToolInfo, builtin_tool, shortened_list, unknown_server, unknown_tool};

/// The folders of a project, which no tool may change.
const PROJECT_FOLDERS: [&str; 3] = ["pipelines", "prompts", "schemas"];
/// The id of the call, in place of the id that a model gives to each of its calls.
const CALL_ID: &str = "call";

/// The tools of an MCP server, or why orch could not list them.
pub(crate) struct ServerToolList {
    /// The name of the server.
    pub(crate) server: String,
    /// The version of the protocol, the tools sorted by name, and the tools that orch left out, each with the reason.
    pub(crate) listed: Result<ServerTools, Failure>,
}

/// The tools of an MCP server.
pub(crate) struct ServerTools {
    /// The version of the protocol that orch and the server use.
    pub(crate) protocol_version: String,
    /// The tools that `orch.yaml` allows, sorted by name.
    pub(crate) tools: Vec<ToolInfo>,
    /// The tools that orch can't offer, each with the reason.
    pub(crate) notes: Vec<String>,
}

impl ServerTools {
    fn new(server: &McpServerSpec, ListedServer { listing, notes }: ListedServer) -> Self {
        let tools = listing.tools.iter().map(|definition| ToolInfo::of_server(server, definition)).collect();
        Self { protocol_version: listing.protocol_version.clone(), tools, notes }
    }
}

/// Where tools run, and how the user agreed to `orch.yaml`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToolsRequest {
    /// The workspace; `None` for that of a run.
    pub(crate) workspace: Option<PathBuf>,
    /// The folder of the journal, which no tool may change.
    pub(crate) state: StateFolder,
    /// The digest that `orch trust` prints, if the user agreed to what `orch.yaml` does.
    pub(crate) trusted_digest: Option<String>,
    /// The answer to the questions of servers, as JSON; `None` to return the questions.
    pub(crate) answer: Option<String>,
}

/// How to call a tool.
pub(crate) struct ToolCallOptions<'a> {
    /// The time limit of each call.
    pub(crate) timeout: Duration,
    /// Receives the progress that the server reports, without secrets.
    pub(crate) on_progress: &'a (dyn Fn(&str) + Send + Sync),
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ToolCallOutcome {
    /// The tool returned something.
    Output {
        /// The text for a model, without secrets.
        content: String,
        /// Whether the tool reports an error.
        is_error: bool,
        /// The structured result, if it fits the schema of the tool.
        structured: Option<Value>,
    },
    /// The server asks the user for input first.
    Questions(InputRequired),
}

/// The tools of a project outside of a run. The servers start when they are first needed.
pub(crate) struct ProjectTools {
    settings: Settings,
    specs: IndexMap<String, McpServerSpec>,
    servers: Arc<McpServers>,
    context: ToolContext,
    place: ProjectPlace,
    answer: Option<String>,
    /// Answers the questions of a server of the old protocol during a call, with the same answer.
    answerer: Option<Answerer>,
    _locks: WorkspaceLocks,
}

impl Runner {
    /// The settings of the project of the current folder, and its root.
    ///
    /// # Errors
    /// Every mistake of `orch.yaml`.
    pub(crate) fn project_settings(&self) -> Result<(PathBuf, Settings), RunnerError> {
        let root = project_root(self.current_dir());
        let settings = project_settings(&root, self.current_dir()).map_err(RunnerError::with_findings)?;
        Ok((root, settings))
    }

    /// Prepares the tools of the project of the current folder. Starts no server yet.
    ///
    /// # Errors
    /// The user did not agree to `orch.yaml`, or the workspace can't be used, because another process uses it, for
    /// example.
    pub(crate) fn open_tools(
        &self,
        root: &Path,
        settings: Settings,
        request: &ToolsRequest,
    ) -> Result<ProjectTools, RunnerError> {
        // No pipeline runs, so none passes variables to its programs.
        let variables = VariableDisclosures::default();
        let trusted = self.ensure_trusted(root, &settings, &variables, request.trusted_digest.as_deref())?;
        let specs = prepare::mcp_servers(&settings);
        let registry = self.model_registry(root, &settings, Some(&trusted));
        let variables = self.environment.variable_lookup();
        let listed = specs.values().flat_map(McpServerSpec::variables);
        let secrets = listed.filter_map(|name| Some((name.to_owned(), variables(name)?)));
        let redactor = Arc::new(registry.redactor_with(&secrets_for_servers(secrets)));
        let workspace = Workspace::open(&workspace_path(request.workspace.as_ref(), self.current_dir()))?;
        let owner = format!("process {} (`orch tools`)", std::process::id());
        let locks = WorkspaceLocks::acquire(&workspace, &owner)?;
        let root = resolve_links(root).unwrap_or_else(|| root.to_owned());
        remove_project_placeholders(&workspace, &root, &[])?;
        let place = self.project_place(&root, workspace.folder());
        let sandbox = self.tools_sandbox(root, &workspace, &request.state);
        let supervisor = SupervisorSpec {
            path: self.environment.supervisor().to_owned(),
            locked_file: locks.programs.shared_file(),
        };
        let parts = ServerParts {
            sandbox: sandbox.clone(),
            supervisor: supervisor.clone(),
            redactor: redactor.clone(),
            legacy_servers: None,
            can_ask: request.answer.is_some(),
        };
        let servers = mcp_servers(parts, self);
        let context = self.tool_context(sandbox, supervisor, redactor);
        let answer = request.answer.clone();
        let answerer = answer.clone().map(answerer);
        Ok(ProjectTools { settings, specs, servers, context, place, answer, answerer, _locks: locks })
    }

    /// What the sandboxes of tools share: the files of the project are readable, and no tool may change them.
    fn tools_sandbox(&self, root: PathBuf, workspace: &Workspace, state: &StateFolder) -> Arc<SandboxContext> {
        let state_folder = state.path_for(&root);
        let state_folder = resolve_links(&state_folder).unwrap_or(state_folder);
        let folders = PROJECT_FOLDERS.iter().map(|name| root.join(name)).filter(|folder| folder.is_dir());
        let paths = folders.chain(settings_paths(&root, &[])).filter_map(|path| resolve_links(&path));
        let protected: Vec<PathBuf> = paths.chain([state_folder.clone()]).collect();
        self.sandbox_host(workspace.folder().to_path_buf(), Some(root), protected, Some(state_folder))
    }

    fn tool_context(
        &self,
        sandbox: Arc<SandboxContext>,
        supervisor: SupervisorSpec,
        redactor: Arc<Redactor>,
    ) -> ToolContext {
        let variables = self.environment.variable_lookup();
        ToolContext {
            sandbox,
            network: Arc::new(Network::from_variables(|name| variables(name))),
            variables: variables.clone(),
            supervisor,
            ending_process_groups: EndingGroups::new(Arc::new(SystemClock)),
            lookup: system_lookup(),
            redactor,
            record_start: Arc::new(|_: WorkspaceBaseline<'_>| Ok(())),
            on_output: Arc::new(|_: &[u8]| {}),
        }
    }
}

impl ProjectTools {
    /// The MCP servers of the project, by name.
    pub(crate) fn specs(&self) -> &IndexMap<String, McpServerSpec> {
        &self.specs
    }

    /// Starts these MCP servers and lists their tools. Does not start a server whose program its sandbox hides.
    pub(crate) async fn list<'a>(&self, specs: impl IntoIterator<Item = &'a McpServerSpec>) -> Vec<ServerToolList> {
        let list = |server: &'a McpServerSpec| async move {
            let listed = match self.place.hidden_failure(server, &self.context.sandbox).await {
                Some(failure) => Err(failure),
                None => self.servers.list(server).await.map(|listed| ServerTools::new(server, listed)),
            };
            ServerToolList { server: server.name.clone(), listed }
        };
        join_all(specs.into_iter().map(list)).await
    }

    /// The MCP server with this name.
    ///
    /// # Errors
    /// `orch.yaml` has no such server.
    pub(crate) fn server(&self, name: &str) -> Result<&McpServerSpec, RunnerError> {
        self.specs.get(name).ok_or_else(|| unknown_server(name, &self.specs))
    }

    /// Finds a tool by its name in pipelines. Starts its MCP server.
    ///
    /// # Errors
    /// There is no such tool, or its server can't be started or reached.
    pub(crate) async fn find(&self, name: &str) -> Result<ToolInfo, RunnerError> {
        if let Some(tool) = builtin_tool(name) {
            return Ok(tool);
        }
        let Some(McpToolName { server, tool }) = McpToolName::parse(name) else { return Err(unknown_tool(name)) };
        let spec = self.server(&server)?;
        if !spec.allows(&tool) {
            let message = format!("`orch.yaml` does not allow the tool `{tool}` of the MCP server `{server}`");
            return Err(RunnerError::usage(message).with_hint(format!("add it to `tools` under `mcp.{server}`")));
        }
        let listed = self.servers.list(spec).await?;
        let definition = listed.listing.find(&tool);
        definition.map(|definition| ToolInfo::of_server(spec, definition)).ok_or_else(|| {
            let names: Vec<&str> = listed.listing.tools.iter().map(|tool| tool.name.as_str()).collect();
            let error = RunnerError::usage(format!("the MCP server `{server}` has no tool `{tool}`"))
                .with_details(listed.notes.clone());
            error.with_hint(match did_you_mean(&tool, names.iter().copied()) {
                Some(nearest) => format!("did you mean `{server}.{nearest}`?"),
                None if names.is_empty() => "it lists no tools".to_owned(),
                None => format!("its tools are {}", shortened_list(&names)),
            })
        })
    }

    /// Calls a tool once, with arguments that [`ToolInfo::read_arguments`] has accepted. If the server asks for input,
    /// makes the call again with the answer.
    ///
    /// # Errors
    /// orch could not perform the call, the server gave no answer, or `interruption` resolved.
    pub(crate) async fn call(
        &self,
        tool: &ToolInfo,
        arguments: &Value,
        options: &ToolCallOptions<'_>,
        interruption: impl Future<Output = Failure>,
    ) -> Result<ToolCallOutcome, RunnerError> {
        match &tool.target {
            Target::Builtin(tool) => {
                let invocation = self.builtin_call(*tool, arguments, options.timeout);
                let performed = tool::perform(&invocation, &self.context, interruption).await;
                let activity = performed.activity;
                let without_result = |failure| call_error(CallKind::Tool(*tool), failure, Some(&activity));
                let output = performed.result.map_err(without_result)?;
                Ok(ToolCallOutcome::Output { content: output.content, is_error: output.is_error, structured: None })
            }
            Target::Mcp(server, tool) => {
                let call = McpCall {
                    server,
                    tool,
                    arguments,
                    answers: None,
                    answerer: self.answerer.as_ref(),
                    timeout: options.timeout,
                    on_progress: options.on_progress,
                };
                self.call_server(call, interruption).await
            }
        }
    }

    /// Calls a tool of a server, again with the answer as long as the server asks.
    async fn call_server(
        &self,
        call: McpCall<'_>,
        interruption: impl Future<Output = Failure>,
    ) -> Result<ToolCallOutcome, RunnerError> {
        let mut interruption = pin!(interruption);
        let kind = CallKind::McpTool(call.server.call_kind());
        let mut answers: Option<InputAnswers> = None;
        for _ in 0..=MAX_INPUT_ROUNDS {
            let call = McpCall { answers: answers.as_ref(), ..call };
            let result = self.servers.call(call, interruption.as_mut()).await;
            let result = result.map_err(|failure| call_error(kind, failure, None))?;
            let Some(input) = result.input_required else {
                let (content, is_error, structured) = (result.content, result.is_error, result.structured);
                return Ok(ToolCallOutcome::Output { content, is_error, structured });
            };
            let needs_answer = !input.questions.is_empty();
            let text = match self.answer.as_deref() {
                Some(text) => text,
                None if needs_answer => return Ok(ToolCallOutcome::Questions(input)),
                None => "",
            };
            let read = answers_from_text(&input, text).map_err(|message| {
                let mut lines = message.lines();
                RunnerError::usage(format!("the answer can't be used: {}", lines.next().unwrap_or_default()))
                    .with_details(lines.map(str::to_owned))
                    .with_hint("without --answer, orch prints the questions")
            })?;
            answers = Some(read);
        }
        Err(RunnerError::usage(too_many_rounds(&call.server.name)).with_status(ExitStatus::Failed))
    }

    /// The call of a tool of orch, as a step would make it.
    fn builtin_call(&self, tool: BuiltinTool, arguments: &Value, timeout: Duration) -> ToolInvocation {
        let project = &self.settings.sandbox;
        ToolInvocation {
            id: CALL_ID.to_owned(),
            tool,
            arguments: arguments.clone(),
            grants: vec![ToolGrant { tool, pattern: None }],
            reserved: [].into(),
            env: Vec::new(),
            sandbox: SandboxSpec::resolve(&Sandbox::default(), project, tool.access()),
            project_network: project.network.clone().filter(|_| tool == BuiltinTool::Fetch),
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Ends all servers, and waits until no process of them is left.
    pub(crate) async fn close(self) {
        self.servers.shutdown().await;
    }
}

/// Answers each question with this text.
fn answerer(text: String) -> Answerer {
    let answer = move |question: InputQuestion| -> BoxFuture<'static, Result<Value, String>> {
        Box::pin(std::future::ready(answer_from_text(question, &text)))
    };
    Arc::new(answer)
}

/// The error for a call that has no result. There is no step with a time limit, but an option of the command. Like the
/// failure of a step that calls a tool, the error says if it is not known whether the call took effect.
fn call_error(kind: CallKind, failure: Failure, activity: Option<&AgentActivity>) -> RunnerError {
    let failure = match failure.hint.as_deref().and_then(|hint| hint.strip_prefix(RAISE_TIMEOUT_HINT)) {
        Some(rest) => {
            let hint = format!("raise `--timeout`{rest}");
            failure.with_hint(hint)
        }
        None => failure,
    };
    let failure = match unknown_effect_text(kind, &failure, activity) {
        Some(message) => {
            let hint = failure.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
            let hint = format!("find out whether the call took effect before you call the tool again{hint}");
            Failure { message, ..failure }.with_hint(hint)
        }
        None => failure,
    };
    let status = match failure.class {
        FailureClass::Cancelled => ExitStatus::Interrupted,
        class if is_unanswered_call(class) => ExitStatus::Failed,
        _ => ExitStatus::Usage,
    };
    RunnerError::from(failure).with_status(status)
}
