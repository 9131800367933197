//! Finds the environment variables that pipelines pass to confined programs, and whether a run can send data to other
//! machines.
//!
//! A program without a sandbox runs with all rights of the user and can read the variables of orch itself, so its `env`
//! gives it nothing new. `orch trust` lists these programs. Tools that steps call get no variables. The user agrees to the
//! MCP servers of `orch.yaml` with their variables in any case.

use std::collections::BTreeSet;
use std::path::Path;

use crate::check::resolve_reference;
use crate::config::{self, Address, Project, Settings};
use crate::model::name::LOCAL_PROVIDER;
use crate::model::step::Access;
use crate::model::{
    Agent, BuiltinTool, CliAgentKind, McpTransport, Sandbox, SandboxNetwork, SandboxSpec, Step, StepAction, ToolGrant,
};
use crate::provider::is_loopback_address;
use crate::trust::{VariableDisclosure, VariableDisclosures};

use super::execute::resolve_path;
use super::project_state::pipeline_files;

/// The variables that a run passes to confined programs, if it can send data to other machines. The user has to agree
/// to them, because the programs or the model that runs them could send their values there.
pub(crate) fn variables_needing_agreement(project: &Project) -> VariableDisclosures {
    let passed = passed_variables(project);
    if passed.is_empty() || sends_elsewhere(project) { passed } else { VariableDisclosures::default() }
}

/// The variables that a pipeline and the pipelines that its steps and models call pass to confined programs.
pub(crate) fn passed_variables(project: &Project) -> VariableDisclosures {
    let mut found = Vec::new();
    for called in project.with_called_projects() {
        let path = Path::new(&called.document.file.path);
        let pipeline = path.strip_prefix(&called.root).unwrap_or(path).display().to_string();
        let mut add = |owner: String, programs: &'static str, env: &[String], own: Option<&Sandbox>| {
            if !env.is_empty() && resolved_sandbox(own, &called.settings).is_some() {
                let names = env.iter().cloned().collect();
                found.push(VariableDisclosure { pipeline: pipeline.clone(), owner, programs, names });
            }
        };
        for (name, agent) in used_agents(called) {
            let programs = match agent.cli_kind() {
                Some(_) => "its program",
                None if agent.tool_grants().iter().any(|grant| grant.tool == BuiltinTool::Shell) => {
                    "the commands of its model"
                }
                None => continue,
            };
            add(format!("agent `{name}`"), programs, &agent.env, agent.sandbox.as_ref());
        }
        for step in called.pipeline.all_steps() {
            if step.sandbox.is_some() && matches!(step.action(), Some(StepAction::Command(_))) {
                add(format!("step `{}`", step.id), "its command", &step.env, step.sandbox.as_ref());
            }
        }
    }
    VariableDisclosures::new(found)
}

/// The variables that all pipelines of a project pass to confined programs. Omits pipelines that can't be read, which
/// can't run.
pub(crate) fn project_variables(root: &Path, current_dir: &Path) -> VariableDisclosures {
    of_all_pipelines(root, current_dir, passed_variables)
}

/// Like [`variables_needing_agreement`], for all pipelines of a project.
pub(crate) fn project_variables_needing_agreement(root: &Path, current_dir: &Path) -> VariableDisclosures {
    of_all_pipelines(root, current_dir, variables_needing_agreement)
}

fn of_all_pipelines(
    root: &Path,
    current_dir: &Path,
    variables: impl Fn(&Project) -> VariableDisclosures,
) -> VariableDisclosures {
    let (pipelines, _) = pipeline_files(root, current_dir);
    let projects = pipelines.iter().filter_map(|path| config::load(&resolve_path(path, current_dir)).ok());
    projects.fold(VariableDisclosures::default(), |found, project| found.merged_with(&variables(&project)))
}

/// The agents that the steps of a pipeline use, with their names.
fn used_agents(project: &Project) -> impl Iterator<Item = (&String, &Agent)> {
    let names: BTreeSet<&str> =
        project.pipeline.all_steps().into_iter().filter_map(|step| step.agent.as_deref()).collect();
    project.pipeline.agents.iter().filter(move |(name, _)| names.contains(name.as_str()))
}

/// The sandbox of a program; `None` if orch does not confine it.
fn resolved_sandbox(own: Option<&Sandbox>, settings: &Settings) -> Option<SandboxSpec> {
    SandboxSpec::resolve(&own.cloned().unwrap_or_default(), &settings.sandbox, Access::Write)
}

/// Whether a run can send data to another machine: to a model, a tracker, an MCP server, or a host that a confined program
/// or the tool `fetch` reaches. orch can't know what an unconfined command does.
fn sends_elsewhere(project: &Project) -> bool {
    project.with_called_projects().into_iter().any(|called| {
        let steps = called.pipeline.all_steps();
        let fallbacks = steps.iter().flat_map(|step| step.fallback.iter().map(String::as_str));
        let own_models = used_agents(called).filter(|(_, agent)| agent.cli_kind().is_none());
        let models: BTreeSet<&str> = own_models.map(|(_, agent)| agent.model.as_str()).chain(fallbacks).collect();
        has_remote_tracker(&called.settings)
            || used_agents(called).any(|(_, agent)| agent_reaches_hosts(agent, &called.settings))
            || steps.iter().any(|step| step_reaches_hosts(step, &called.settings))
            || models.into_iter().any(|name| !is_model_on_this_machine(called, name))
    })
}

fn has_remote_tracker(settings: &Settings) -> bool {
    let convex = settings.tracker.convex.iter().map(|convex| &convex.url);
    let webhook = settings.tracker.webhook.iter().map(|webhook| &webhook.url);
    convex.chain(webhook).any(|address| match address {
        Address::Plain(url) => !is_loopback_address(url),
        Address::Env(_) => true,
    })
}

/// Whether the confined command of a step, or the tool that it calls, can connect to another machine.
fn step_reaches_hosts(step: &Step, settings: &Settings) -> bool {
    let own = step.sandbox.as_ref();
    if matches!(step.action(), Some(StepAction::Command(_))) {
        return own.is_some() && reaches_hosts(own, settings);
    }
    match (step.called_builtin(), step.called_mcp_tool()) {
        (Some(BuiltinTool::Fetch | BuiltinTool::Shell), _) => reaches_hosts(own, settings),
        (None, Some(name)) => server_reaches_hosts(&name.server, settings),
        _ => false,
    }
}

/// Whether an MCP server is on another machine, or is a program that can connect to one.
fn server_reaches_hosts(name: &str, settings: &Settings) -> bool {
    let spec = settings.mcp.get(name).and_then(|server| server.spec(name, &settings.sandbox));
    spec.is_some_and(|spec| match &spec.transport {
        McpTransport::Http { url, .. } => !is_loopback_address(url),
        McpTransport::Stdio { sandbox, .. } => sandbox.as_ref().is_none_or(sandbox_reaches_hosts),
    })
}

/// Whether the programs or the tools of an agent can connect to another machine.
fn agent_reaches_hosts(agent: &Agent, settings: &Settings) -> bool {
    if agent.mcp_grants().iter().any(|grant| server_reaches_hosts(&grant.server, settings)) {
        return true;
    }
    let reaches_hosts = || reaches_hosts(agent.sandbox.as_ref(), settings);
    let grant_reaches_hosts = |grant: &ToolGrant| match (grant.tool, &grant.pattern) {
        (BuiltinTool::Fetch, Some(host)) => !is_host_on_this_machine(host),
        (BuiltinTool::Fetch | BuiltinTool::Shell, _) => reaches_hosts(),
        (BuiltinTool::Read | BuiltinTool::List | BuiltinTool::Search | BuiltinTool::Edit | BuiltinTool::Write, _) => {
            false
        }
    };
    match agent.cli_kind() {
        // They always connect to the API of their provider.
        Some(CliAgentKind::Claude | CliAgentKind::Codex) => true,
        Some(CliAgentKind::Acp | CliAgentKind::Command) => reaches_hosts(),
        None => agent.tool_grants().iter().any(grant_reaches_hosts),
    }
}

/// Whether a confined program can connect to another machine.
fn reaches_hosts(own: Option<&Sandbox>, settings: &Settings) -> bool {
    resolved_sandbox(own, settings).is_some_and(|sandbox| sandbox_reaches_hosts(&sandbox))
}

/// Whether a program in this sandbox can connect to another machine.
fn sandbox_reaches_hosts(sandbox: &SandboxSpec) -> bool {
    match &sandbox.network {
        SandboxNetwork::None => false,
        SandboxNetwork::All => true,
        SandboxNetwork::Hosts(hosts) => hosts.iter().any(|host| !is_host_on_this_machine(&host.host)),
    }
}

/// Whether a host in the notation of a sandbox is this machine.
fn is_host_on_this_machine(host: &str) -> bool {
    is_loopback_address(&format!("http://{host}/"))
}

/// Whether a model runs on this machine. orch finds out only at run time which model `auto` is.
fn is_model_on_this_machine(project: &Project, name: &str) -> bool {
    let Some(model) = resolve_reference(project, name) else { return false };
    model.provider == LOCAL_PROVIDER
        || project.api_server(&model.provider).is_some_and(|server| is_loopback_address(&server.base_url))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The disclosures of a run whose agent has these keys, as texts.
    fn disclosures(settings: &str, agent: &str, more_steps: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("pipelines")).unwrap();
        std::fs::create_dir(path("prompts")).unwrap();
        std::fs::write(path("orch.yaml"), settings).unwrap();
        std::fs::write(path("prompts/p.md"), "Fix it.\n").unwrap();
        let text = format!(
            "name: p\nagents:\n  a: {{ {agent} }}\n  unused: {{ model: openai/x, tools: [shell], env: [UNUSED] }}\nsteps:\n  \
             - {{ id: s, agent: a, prompt: p.md, message: go, output: o, schema: text }}\n{more_steps}"
        );
        std::fs::write(path("pipelines/p.yaml"), text).unwrap();
        let project = config::load(&path("pipelines/p.yaml")).unwrap();
        variables_needing_agreement(&project).all().iter().map(ToString::to_string).collect()
    }

    const LOCAL: &str = "providers: { lab: { dialect: openai, base_url: \"http://127.0.0.1:9/v1\" } }\n";

    #[test]
    fn variables_need_an_agreement_if_the_run_can_send_data_to_another_machine() {
        let remote = LOCAL.replace("127.0.0.1:9", "lab.example");
        let with_default = format!("{LOCAL}defaults: {{ model: lab/m }}\n");
        let tracked =
            |url: &str| format!("{LOCAL}tracker: {{ webhook: {{ url: \"{url}\", secret: {{ env: S }} }} }}\n");
        let tools = |model: &str, tools: &str| format!("model: {model}, tools: [{tools}], env: [TOKEN]");
        let shell = |model: &str| tools(model, "shell");
        let with_network = |host: &str| format!("{}, sandbox: {{ network: [\"{host}\"] }}", shell("lab/m"));
        for (settings, agent, expected) in [
            (LOCAL, shell("lab/m"), false),
            (remote.as_str(), shell("lab/m"), true),
            (LOCAL, shell("local"), false),
            (LOCAL, shell("auto"), true),
            (with_default.as_str(), shell("auto"), false),
            (LOCAL, shell("openai/gpt-4.1-mini"), true),
            (LOCAL, shell("ollama/m"), false),
            (LOCAL, with_network("docs.rs"), true),
            (LOCAL, with_network("localhost:5432"), false),
            (LOCAL, tools("lab/m", "shell, fetch(docs.rs)"), true),
            (LOCAL, tools("lab/m", "shell, \"fetch(localhost:80)\""), false),
            (tracked("https://hook.example").as_str(), shell("lab/m"), true),
            (tracked("http://127.0.0.1:9/").as_str(), shell("lab/m"), false),
            (LOCAL, "cli: claude, tools: [Bash], env: [TOKEN]".to_owned(), true),
            (LOCAL, "command: [cat], tools: [x], env: [TOKEN]".to_owned(), false),
            (LOCAL, "command: [cat], tools: [x], env: [TOKEN], sandbox: { network: [docs.rs] }".to_owned(), true),
            (LOCAL, "cli: claude, tools: [Bash]".to_owned(), false),
            // Without a sandbox, the program can read everything of the user, to which the user agrees as such.
            ("sandbox: { enabled: false }\n", "cli: claude, tools: [Bash], env: [TOKEN]".to_owned(), false),
        ] {
            let found = disclosures(settings, &agent, "");
            assert_eq!(!found.is_empty(), expected, "{settings} {agent}: {found:?}");
        }
    }

    #[test]
    fn the_variables_of_confined_commands_are_found_too() {
        let steps =
            "  - { id: c, run: [make], env: [TOKEN, CI], sandbox: {} }\n  - { id: d, run: [make], env: [OTHER] }\n";
        assert_eq!(disclosures(LOCAL, "model: lab/m", steps), Vec::<String>::new());
        let found = disclosures(LOCAL, "model: openai/gpt-4.1-mini", steps);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("p.yaml: step `c` passes CI, TOKEN to its command"), "{found:?}");
        let fallback =
            "  - { id: f, agent: a, prompt: p.md, message: go, output: p, schema: text, fallback: [openai/x] }\n";
        let found = disclosures(LOCAL, "model: lab/m, tools: [shell], env: [TOKEN]", fallback);
        assert!(found[0].ends_with("p.yaml: agent `a` passes TOKEN to the commands of its model"), "{found:?}");
    }

    #[test]
    fn calls_and_mcp_servers_can_send_data_to_another_machine() {
        let with_mcp = |server: &str| format!("{LOCAL}mcp: {{ docs: {{ {server} }} }}\n");
        let call = |keys: &str| format!("  - {{ id: c, {keys}, output: found }}\n");
        let local_shell = "model: lab/m, tools: [shell], env: [TOKEN]";
        let with_tool = "model: lab/m, tools: [shell, docs.find], env: [TOKEN]";
        let fetch = |host: &str| {
            let args = "args: { url: \"http://docs.rs/\" }";
            call(&format!("call: fetch, {args}, sandbox: {{ network: [\"{host}\"] }}"))
        };
        let shell = |keys: &str| call(&format!("call: shell, args: {{ command: make }}{keys}"));
        let (remote, local) = (with_mcp("url: \"https://docs.example/mcp\""), with_mcp("url: \"http://127.0.0.1:9/\""));
        let (program, unconfined) =
            (with_mcp("command: [docs], env: [OTHER]"), with_mcp("command: [docs], sandbox: { enabled: false }"));
        let online = with_mcp("command: [docs], sandbox: { network: [docs.rs] }");
        for (settings, agent, steps, expected) in [
            (LOCAL, local_shell, fetch("docs.rs"), true),
            (LOCAL, local_shell, fetch("localhost:80"), false),
            (LOCAL, local_shell, shell(""), false),
            (LOCAL, local_shell, shell(", sandbox: { network: [docs.rs] }"), true),
            (LOCAL, local_shell, call("call: read, args: { path: a }"), false),
            (remote.as_str(), local_shell, call("call: docs.find"), true),
            (local.as_str(), local_shell, call("call: docs.find"), false),
            (remote.as_str(), local_shell, String::new(), false),
            (remote.as_str(), with_tool, String::new(), true),
            (local.as_str(), with_tool, String::new(), false),
            (program.as_str(), with_tool, String::new(), false),
            (online.as_str(), with_tool, String::new(), true),
            (unconfined.as_str(), with_tool, String::new(), true),
        ] {
            let found = disclosures(settings, agent, &steps);
            assert_eq!(!found.is_empty(), expected, "{settings} {agent} {steps}: {found:?}");
            assert!(found.iter().all(|text| !text.contains("OTHER")), "{found:?}");
        }
    }

    #[test]
    fn the_variables_of_pipelines_that_models_call_are_found_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("pipelines")).unwrap();
        std::fs::create_dir(path("prompts")).unwrap();
        std::fs::write(path("prompts/p.md"), "Fix it.\n").unwrap();
        let build = "name: build\ndescription: Builds.\nsteps:\n  - { id: c, run: [make], env: [TOKEN], sandbox: {}, output: built }\n";
        std::fs::write(path("pipelines/build.yaml"), build).unwrap();
        let lead = "name: lead\nagents:\n  a: { model: openai/x, pipelines: [build.yaml] }\nsteps:\n  - { id: s, agent: a, prompt: p.md, message: go, output: o, schema: text }\n";
        std::fs::write(path("pipelines/lead.yaml"), lead).unwrap();
        let project = config::load(&path("pipelines/lead.yaml")).unwrap();
        let found: Vec<String> = variables_needing_agreement(&project).all().iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with("build.yaml: step `c` passes TOKEN to its command"), "{found:?}");
    }
}
