//! Finds the variables and programs that the MCP servers and CLI agents of a run need and that this machine lacks.
//!
//! A run does not start without them, because earlier steps would cost money for nothing if a later step fails for
//! certain. orch does not look for the programs of commands, because an earlier command often installs them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::agent::{EnvLookup, Replay, install_hint};
use crate::config::Project;
use crate::engine::{Plan, PlannedModel};
use crate::model::{
    CliAgent, Failure, McpServerSpec, McpTransport, RunId, SandboxLevel, SandboxSpec, StepKey, is_outside_workspace,
    with_project_root,
};
use crate::process::{CERTIFICATE_VARIABLES, ProcessError, ProgramPlace, SandboxContext, SandboxNeeds};
use crate::store::Journal;
use crate::tool::mcp::missing_program_hint;

use super::Runner;
use super::dry_run::{PredictedActionKind, predict_actions};
use super::error::RunnerError;
use super::execute::{root_and_file, workspace_path};
use super::prepare;
use super::project_files::resolve_links;

/// Something that a server or a CLI agent needs and that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MissingRequirement {
    /// What is missing, and what needs it.
    pub(crate) message: String,
    /// What the user can do.
    hint: String,
    /// Whether a step that needs it fails for certain.
    is_fatal: bool,
}

/// A run that a resume continues.
#[derive(Clone, Copy)]
pub(crate) struct PastRun<'a> {
    pub(crate) journal: &'a Journal,
    pub(crate) run: RunId,
    /// The step that runs again in any case.
    pub(crate) from_step: Option<&'a StepKey>,
}

/// Where the programs of a project start.
pub(super) struct ProjectPlace {
    root: PathBuf,
    workspace: PathBuf,
    variables: EnvLookup,
}

impl Runner {
    /// Checks that this machine has the variables and programs of the MCP servers and CLI agents of a run. The steps that
    /// reuse their results of `past_run` need none, and neither does a run whose calls are replayed.
    ///
    /// # Errors
    /// Something is missing without which a step fails for certain.
    pub(crate) async fn ensure_requirements(
        &self,
        plan: &Plan,
        replay: Option<&Replay>,
        workspace: &Path,
        past_run: Option<PastRun<'_>>,
    ) -> Result<(), RunnerError> {
        if replay.is_some() {
            return Ok(());
        }
        let place = self.project_place(Path::new(&*plan.project_root), workspace);
        let mut missing = place.missing_in_plan(plan);
        missing.extend(Box::pin(self.hidden_servers(plan, &place)).await);
        if missing.is_empty() {
            return Ok(());
        }
        let not_run = past_run.map(|past_run| steps_not_run(plan, past_run)).transpose()?.unwrap_or_default();
        let mut noted = BTreeSet::new();
        for (step, requirement) in missing.into_iter().filter(|(step, _)| !not_run.contains(step)) {
            if requirement.is_fatal {
                let message = format!("step `{step}` can't run: {}", requirement.message);
                return Err(RunnerError::usage(message).with_hint(requirement.hint));
            }
            if noted.insert(requirement.message.clone()) {
                self.reporter.note(&requirement.message);
            }
        }
        Ok(())
    }

    /// What is missing for the steps of a plan, for notes. If the sandbox of a server could hide its program, starts orch
    /// itself to find out which level of sandboxes works here.
    pub(crate) async fn missing_requirements(&self, plan: &Plan) -> Vec<MissingRequirement> {
        let workspace = workspace_path(None, self.current_dir());
        let place = self.project_place(Path::new(&*plan.project_root), &workspace);
        let mut missing = place.missing_in_plan(plan);
        missing.extend(Box::pin(self.hidden_servers(plan, &place)).await);
        unique(missing.into_iter().map(|(_, requirement)| requirement))
    }

    /// What is missing for the MCP servers whose tools a pipeline names, for notes. Starts no program, so it finds none
    /// that a sandbox hides.
    pub(crate) fn missing_for_project(&self, project: &Project) -> Vec<MissingRequirement> {
        let (root, _) = root_and_file(project, self.current_dir());
        let names = crate::check::named_servers(project);
        let servers = prepare::mcp_servers(&project.settings);
        let named = servers.values().filter(|server| names.contains(&server.name));
        self.missing_for_servers(named, &root)
    }

    /// What is missing for these MCP servers of the project in the folder `root`, for notes.
    pub(crate) fn missing_for_servers<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a McpServerSpec>,
        root: &Path,
    ) -> Vec<MissingRequirement> {
        let place = self.project_place(root, &workspace_path(None, self.current_dir()));
        unique(servers.into_iter().flat_map(|server| place.missing_for_server(server)))
    }

    /// The program of an MCP server of the project in the folder `root`, if its sandbox hides it, for notes. May start orch
    /// itself, as [`missing_requirements`](Self::missing_requirements) does.
    pub(crate) async fn hidden_server(&self, server: &McpServerSpec, root: &Path) -> Option<MissingRequirement> {
        let place = self.project_place(root, &workspace_path(None, self.current_dir()));
        let context = self.sandbox_host(place.workspace.clone(), Some(place.root.clone()), Vec::new(), None);
        place.hidden_program(server, &context).await
    }

    pub(super) fn project_place(&self, root: &Path, workspace: &Path) -> ProjectPlace {
        // The workspace may not exist yet.
        let workspace = resolve_links(workspace).unwrap_or_else(|| workspace.to_owned());
        ProjectPlace { root: root.to_owned(), workspace, variables: self.environment.variable_lookup() }
    }

    /// The MCP servers of a plan whose programs their sandboxes hide.
    async fn hidden_servers(&self, plan: &Plan, place: &ProjectPlace) -> Vec<(StepKey, MissingRequirement)> {
        let context = self.sandbox_host(place.workspace.clone(), Some(place.root.clone()), Vec::new(), None);
        let cli_agents = cli_agents(plan);
        let mut known: BTreeMap<&str, Option<MissingRequirement>> = BTreeMap::new();
        let mut found = Vec::new();
        for (step, server) in plan.mcp_servers() {
            // A CLI agent starts its servers in a sandbox of its own.
            if cli_agents.contains_key(&step) {
                continue;
            }
            let hidden = match known.entry(server.name.as_str()) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(place.hidden_program(server, &context).await),
            };
            found.extend(hidden.clone().map(|requirement| (step, requirement)));
        }
        found
    }
}

impl ProjectPlace {
    fn is_unset(&self, variable: &str) -> bool {
        (self.variables)(variable).is_none()
    }

    fn lacks(&self, program: &str) -> bool {
        let search_path = (self.variables)("PATH");
        ProgramPlace { workspace: &self.workspace, search_path: search_path.as_deref() }.lacks(program)
    }

    /// What is missing for each step.
    fn missing_in_plan(&self, plan: &Plan) -> Vec<(StepKey, MissingRequirement)> {
        let cli_agents = cli_agents(plan);
        let mut missing = Vec::new();
        for (step, cli_agent) in &cli_agents {
            let requirements = cli_agent.iter().flat_map(|cli_agent| self.missing_for_cli_agent(cli_agent));
            missing.extend(requirements.map(|requirement| (step.clone(), requirement)));
        }
        for (step, server) in plan.mcp_servers().into_iter().filter(|(step, _)| !cli_agents.contains_key(step)) {
            missing.extend(self.missing_for_server(server).into_iter().map(|requirement| (step.clone(), requirement)));
        }
        missing
    }

    /// What is missing for a CLI agent and for the servers that it starts or calls. It looks for their programs itself.
    fn missing_for_cli_agent(&self, cli_agent: &CliAgent) -> Vec<MissingRequirement> {
        let program = cli_agent.argv.first().map_or(cli_agent.kind.as_str(), String::as_str);
        let mut missing: Vec<MissingRequirement> =
            cli_agent.mcp.iter().flat_map(|server| self.missing_variables(server)).collect();
        if self.lacks(program) {
            let message = format!("the CLI agent `{program}` is not installed");
            missing.push(MissingRequirement { message, hint: install_hint(cli_agent.kind, program), is_fatal: true });
        }
        missing
    }

    fn missing_for_server(&self, server: &McpServerSpec) -> Vec<MissingRequirement> {
        let mut missing = self.missing_variables(server);
        if let McpTransport::Stdio { command, .. } = &server.transport
            && let Some(program) = command.first().map(|program| with_project_root(program, &self.root))
            && self.lacks(&program)
        {
            let name = &server.name;
            let message = format!("there is no program `{program}`, which the MCP server `{name}` starts");
            let hint = missing_program_hint(name, &program);
            missing.push(MissingRequirement { message, hint, is_fatal: true });
        }
        missing
    }

    /// The variables of a server that are not set. orch can't send a header without its value, but a program may do
    /// without a variable.
    fn missing_variables(&self, server: &McpServerSpec) -> Vec<MissingRequirement> {
        let name = &server.name;
        let is_fatal = matches!(server.transport, McpTransport::Http { .. });
        let missing = server.variables().into_iter().filter(|variable| self.is_unset(variable)).map(|variable| {
            if is_fatal {
                let message = format!("{variable} is not set, and a header of the MCP server `{name}` needs it");
                let hint = format!("export {variable}=…, for `Authorization` with its scheme, as in `Bearer TOKEN`");
                return MissingRequirement { message, hint, is_fatal };
            }
            let message = format!("{variable} is not set, and `env` of the MCP server `{name}` lists it");
            MissingRequirement { message, hint: format!("export {variable}=…"), is_fatal }
        });
        missing.collect()
    }

    /// The program of a server, if its sandbox hides it.
    async fn hidden_program(&self, server: &McpServerSpec, context: &SandboxContext) -> Option<MissingRequirement> {
        let Failure { message, hint, .. } = self.hidden_failure(server, context).await?;
        Some(MissingRequirement { message, hint: hint.unwrap_or_default(), is_fatal: true })
    }

    /// The failure with which a server would not start because its sandbox hides its program.
    pub(super) async fn hidden_failure(&self, server: &McpServerSpec, context: &SandboxContext) -> Option<Failure> {
        let McpTransport::Stdio { command, sandbox: Some(sandbox), .. } = &server.transport else { return None };
        let program = with_project_root(command.first()?, &self.root);
        // The folders of the workspace may not exist yet, and a program there is visible in any case.
        let write = sandbox.write.iter().filter(|path| is_outside_workspace(path)).cloned().collect();
        let sandbox = SandboxSpec { write, ..sandbox.clone() };
        let certificates = CERTIFICATE_VARIABLES.iter().filter_map(|name| (self.variables)(name));
        // The program does not start, so it needs no folder of its own for temporary files, which some levels create.
        let machine = context.probe.machine().await.ok()?;
        let has_own_tmp = machine.level() == SandboxLevel::Full && cfg!(target_os = "linux");
        let needs = SandboxNeeds {
            readable: certificates.map(PathBuf::from).collect(),
            temporary_folder: (!has_own_tmp).then(|| self.workspace.clone()),
            ..SandboxNeeds::default()
        };
        // Another check reports a sandbox that this machine can't enforce.
        let sandbox = context.prepare(&sandbox, needs).await.ok()?;
        let search_path = (self.variables)("PATH");
        let place = ProgramPlace { workspace: &self.workspace, search_path: search_path.as_deref() };
        let hidden = Box::new(place.hidden_program(&program, &sandbox)?);
        let allow = |path: &str| format!("list `{path}` under `mcp.{}.sandbox.write`", server.name);
        let failure = ProcessError::Hidden { program, hidden }.hidden_failure(allow)?;
        let message = format!("the MCP server `{}` can't be started: {}", server.name, failure.message);
        Some(Failure { message, ..failure })
    }
}

/// The steps of CLI agents, each with its agent; `None` for an agent with fallbacks, without which the step continues.
fn cli_agents(plan: &Plan) -> BTreeMap<StepKey, Option<&CliAgent>> {
    let mut models: BTreeMap<StepKey, Vec<&PlannedModel>> = BTreeMap::new();
    for (step, model) in plan.models() {
        models.entry(step).or_default().push(model);
    }
    let steps = models.into_iter().filter_map(|(step, models)| {
        let primary: &PlannedModel = models.first().copied()?;
        let cli_agent = primary.program.as_ref()?;
        Some((step, Some(cli_agent).filter(|_| models.len() == 1)))
    });
    steps.collect()
}

/// The steps that a resume does not run, as declared in the pipeline file: all iterations and items of them.
fn steps_not_run(plan: &Plan, past_run: PastRun<'_>) -> Result<BTreeSet<StepKey>, RunnerError> {
    let (mut not_run, mut running) = (BTreeSet::new(), BTreeSet::new());
    let events = past_run.journal.events(past_run.run)?;
    for prediction in predict_actions(plan, &events, past_run.from_step)? {
        let steps = match prediction.action {
            PredictedActionKind::Reuse
            | PredictedActionKind::Skip
            | PredictedActionKind::Fail
            | PredictedActionKind::Removed => &mut not_run,
            PredictedActionKind::Run | PredictedActionKind::MaybeRun => &mut running,
        };
        steps.insert(prediction.step.declared_key());
    }
    Ok(not_run.difference(&running).cloned().collect())
}

/// The requirements without those that have the same message as another one.
fn unique(requirements: impl Iterator<Item = MissingRequirement>) -> Vec<MissingRequirement> {
    let mut messages = BTreeSet::new();
    requirements.filter(|requirement| messages.insert(requirement.message.clone())).collect()
}
