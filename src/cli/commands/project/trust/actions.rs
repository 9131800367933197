//! Lists what a project starts and reaches, for `orch trust`.

mod sandbox_origin;

use std::path::Path;

use serde_json::Value;

use crate::cli::output::Ui;
use crate::config::{self, Project, SETTINGS_FILE, Settings};
use crate::model::step::{Access, CommandLine};
use crate::model::visible::escape_line_breaks;
use crate::model::{
    Agent, BuiltinTool, CliAgentKind, McpTransport, Sandbox, SandboxNetwork, SandboxSpec, Step, StepAction,
};
use crate::runner::execute::resolve_path;
use crate::runner::project_state::pipeline_files;
use crate::trust::describe_hosts;

use sandbox_origin::{ListedSandbox, SandboxSource};

/// What a project starts and reaches, one thing in each line, in the order of the files.
#[derive(Debug, Default)]
pub(super) struct ProjectActions {
    /// The programs, each with the variables that it gets, and with its sandbox and where its settings come from.
    pub(super) programs: Vec<ListedAction>,
    /// The tools with which models and steps reach hosts and MCP servers.
    pub(super) tools: Vec<ListedAction>,
}

/// A program or a tool in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListedAction {
    /// The line.
    pub(super) text: String,
    /// Whether the user has to look at it before agreeing: it has no sandbox or a weak one, reaches every host, or gets
    /// variables.
    pub(super) is_risky: bool,
}

impl ListedAction {
    fn new(text: &str, is_risky: bool) -> Self {
        Self { text: escape_line_breaks(text).into_owned(), is_risky }
    }
}

impl ProjectActions {
    /// Lists the MCP servers of `orch.yaml`, and what the agents and steps of every pipeline of a project start and reach.
    ///
    /// For an unreadable pipeline, the list of programs contains a line that names the pipeline.
    pub(super) fn find(root: &Path, current_dir: &Path, settings: &Settings, ui: &Ui) -> Self {
        let (pipelines, findings) = pipeline_files(root, current_dir);
        ui.print_findings(&findings);
        let mut actions = Self::default();
        actions.add_servers(settings);
        let mut projects = Vec::new();
        for path in pipelines {
            if let Ok(project) = config::load(&resolve_path(&path, current_dir)) {
                actions.add_pipeline(&project);
                projects.push(project);
            } else {
                let path = path.strip_prefix(root).unwrap_or(&path).display();
                let line = format!("unknown: {path} can't be read; see `orch pipeline validate`");
                add_action(&mut actions.programs, ListedAction::new(&line, true));
            }
        }
        // A pipeline may call a file that the list of pipelines omits, such as one with another ending.
        for called in projects.iter().flat_map(Project::with_called_projects) {
            actions.add_pipeline(called);
        }
        actions
    }

    fn add_servers(&mut self, settings: &Settings) {
        for (name, server) in &settings.mcp {
            let spec = server.spec(name, &settings.sandbox);
            if let Some(McpTransport::Stdio { command, env, sandbox }) = spec.map(|spec| spec.transport) {
                let (program, variables) = (command.join(" "), with_variables(&env));
                let own = server.sandbox.as_ref();
                let sandbox = ListedSandbox { sandbox, own, owner: SandboxSource::Server, settings };
                let line = format!("{program}{variables}, {sandbox}  (MCP server {name} of {SETTINGS_FILE})");
                let is_risky = sandbox.is_risky() || !env.is_empty();
                add_action(&mut self.programs, ListedAction::new(&line, is_risky));
            }
        }
    }

    fn add_pipeline(&mut self, project: &Project) {
        let path = Path::new(&project.document.file.path);
        let path = path.strip_prefix(&project.root).unwrap_or(path).display();
        for (name, agent) in &project.pipeline.agents {
            self.add_agent(project, name, agent, &format!("  (agent {name} of {path})"));
        }
        for step in project.pipeline.all_steps() {
            self.add_step(project, step, &format!("  (step {} of {path})", step.id));
        }
    }

    fn add_agent(&mut self, project: &Project, name: &str, agent: &Agent, owner: &str) {
        let variables = with_variables(&agent.env);
        let (own, settings) = (agent.sandbox.as_ref(), &project.settings);
        let sandbox = sandbox_of(own, settings, agent_access(project, name));
        let sandbox = ListedSandbox { sandbox, own, owner: SandboxSource::Agent, settings };
        if let Some(program) = agent.cli_agent(Access::None) {
            let argv = if program.argv.is_empty() { program.kind.as_str().to_owned() } else { program.argv.join(" ") };
            let own_api = match program.kind {
                CliAgentKind::Claude | CliAgentKind::Codex => "; it also reaches the API of its provider",
                CliAgentKind::Acp | CliAgentKind::Command => "",
            };
            let line = format!("{argv}{variables}, {sandbox}{own_api}{owner}");
            let is_risky = sandbox.is_risky() || !agent.env.is_empty();
            add_action(&mut self.programs, ListedAction::new(&line, is_risky));
        }
        for grant in agent.tool_grants() {
            match (grant.tool, &grant.pattern) {
                (BuiltinTool::Shell, _) => {
                    let line = format!("{grant}, as its model chooses{variables}, {}{owner}", sandbox.of_shell());
                    let is_risky = sandbox.is_risky_for_shell() || !agent.env.is_empty();
                    add_action(&mut self.programs, ListedAction::new(&line, is_risky));
                }
                (BuiltinTool::Fetch, Some(_)) => {
                    let line = format!("{grant}, as its model chooses{owner}");
                    add_action(&mut self.tools, ListedAction::new(&line, false));
                }
                (BuiltinTool::Fetch, None) => {
                    let hosts = fetched_hosts(own, settings);
                    let line = format!("{grant}, as its model chooses, from {hosts}{owner}");
                    add_action(&mut self.tools, ListedAction::new(&line, fetches_any_host(own, settings)));
                }
                (
                    BuiltinTool::Read
                    | BuiltinTool::List
                    | BuiltinTool::Search
                    | BuiltinTool::Edit
                    | BuiltinTool::Write,
                    _,
                ) => {}
            }
        }
        for grant in agent.mcp_grants() {
            let line = format!("{grant}, as its model chooses{owner}");
            add_action(&mut self.tools, ListedAction::new(&line, false));
        }
    }

    fn add_step(&mut self, project: &Project, step: &Step, owner: &str) {
        let (own, settings) = (step.sandbox.as_ref(), &project.settings);
        let access = step.effective_access(&project.pipeline.agents);
        let argument = |name: &str| step.args.get(name).and_then(Value::as_str).map(one_line).unwrap_or_default();
        match (step.action(), step.called_builtin()) {
            (Some(StepAction::Command(command_line)), _) => {
                let text = match command_line {
                    CommandLine::Shell(text) => one_line(text),
                    CommandLine::Argv(argv) => argv.join(" "),
                };
                let sandbox = own.and_then(|own| sandbox_of(Some(own), settings, access));
                let sandbox = ListedSandbox { sandbox, own, owner: SandboxSource::Command, settings };
                let line = format!("{text}{}, {sandbox}{owner}", with_variables(&step.env));
                let is_risky = sandbox.is_risky() || !step.env.is_empty();
                add_action(&mut self.programs, ListedAction::new(&line, is_risky));
            }
            (Some(StepAction::Call(_)), Some(BuiltinTool::Shell)) => {
                let sandbox = sandbox_of(own, settings, access);
                let sandbox = ListedSandbox { sandbox, own, owner: SandboxSource::Call, settings };
                let line = format!("{}, {}{owner}", argument("command"), sandbox.of_shell());
                add_action(&mut self.programs, ListedAction::new(&line, sandbox.is_risky_for_shell()));
            }
            (Some(StepAction::Call(_)), Some(BuiltinTool::Fetch)) => {
                let hosts = fetched_hosts(own, settings);
                let line = format!("fetch {}, from {hosts}{owner}", argument("url"));
                add_action(&mut self.tools, ListedAction::new(&line, fetches_any_host(own, settings)));
            }
            (Some(StepAction::Call(name)), None) => {
                add_action(&mut self.tools, ListedAction::new(&format!("{name}{owner}"), false));
            }
            _ => {}
        }
    }
}

/// Adds an action that the list lacks.
fn add_action(actions: &mut Vec<ListedAction>, action: ListedAction) {
    if !actions.contains(&action) {
        actions.push(action);
    }
}

/// The variables that a program gets in addition to the basic ones, as a part of its line.
fn with_variables(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(", with the variables {}", names.join(", ")) }
}

fn sandbox_of(own: Option<&Sandbox>, settings: &Settings, access: Access) -> Option<SandboxSpec> {
    SandboxSpec::resolve(&own.cloned().unwrap_or_default(), &settings.sandbox, access)
}

/// The hosts of a `fetch` without a pattern: those of the sandbox.
fn fetched_hosts(own: Option<&Sandbox>, settings: &Settings) -> String {
    let hosts = sandbox_of(own, settings, Access::None).and_then(|sandbox| describe_hosts(&sandbox.network));
    hosts.unwrap_or_else(|| "no host".to_owned())
}

fn fetches_any_host(own: Option<&Sandbox>, settings: &Settings) -> bool {
    sandbox_of(own, settings, Access::None).is_some_and(|sandbox| matches!(sandbox.network, SandboxNetwork::All))
}

/// The highest access of the steps that an agent performs. Without such a step, an option could still choose the agent.
fn agent_access(project: &Project, name: &str) -> Access {
    let steps = project.pipeline.all_steps().into_iter().filter(|step| step.agent.as_deref() == Some(name));
    steps.map(|step| step.effective_access(&project.pipeline.agents)).max().unwrap_or(Access::Write)
}

/// A command in one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
