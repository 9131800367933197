//! Checks the tools of agents: each tool must exist and be usable, its patterns must be valid and allow no host that
//! `orch.yaml` excludes, its model must be able to call it, and the access of each step must be high enough for it. The
//! rules for the tools of MCP servers are in `mcp_names`, those for pipelines in `model_calls`.

use std::collections::HashSet;

use super::mcp_names;
use super::model_calls::{self, access_name};
use super::models::resolve_reference;
use super::options::model_api;
use super::tool_names::unknown_tool;
use crate::config::{Project, child_pointer, item_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic, equivalents};
use crate::model::agent::FirstToolChoice;
use crate::model::step::Access;
use crate::model::{
    Agent, AllowedHost, BuiltinTool, CliAgentKind, McpGrant, SandboxNetwork, SandboxSpec, ToolGrant, allows_agent_host,
    is_outside_workspace,
};

/// The keys that have an effect only with tools, each with whether pipelines count as tools for it.
const TOOL_KEYS: [(&str, bool); 6] = [
    ("tool_choice", true),
    ("max_turns", true),
    ("approve_tools", false),
    ("compaction", true),
    ("env", false),
    ("sandbox", false),
];

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (name, agent) in &project.pipeline.agents {
        let names: &[String] = if agent.cli_kind().is_some() { &[] } else { agent.tools.names() };
        let entries: Vec<_> = names.iter().map(|text| Entry::parse(text)).collect();
        let grants = entries.iter().flatten().filter_map(Entry::builtin).cloned().collect();
        let check = ToolCheck { project, name, agent, grants };
        match agent.cli_kind() {
            Some(kind) => check.check_cli_names(kind, &mut diagnostics),
            None => check.check(entries, &mut diagnostics),
        }
    }
    diagnostics
}

/// A valid entry of the `tools` of a model.
enum Entry {
    Builtin(ToolGrant),
    Mcp(McpGrant),
}

impl Entry {
    /// Parses an entry. The error is the reason why it is not valid.
    fn parse(text: &str) -> Result<Self, String> {
        match McpGrant::parse(text)? {
            Some(grant) => Ok(Self::Mcp(grant)),
            None => ToolGrant::parse(text).map(Self::Builtin),
        }
    }

    fn builtin(&self) -> Option<&ToolGrant> {
        match self {
            Self::Builtin(grant) => Some(grant),
            Self::Mcp(_) => None,
        }
    }
}

/// The check of the tools of one agent.
struct ToolCheck<'a> {
    project: &'a Project,
    name: &'a str,
    agent: &'a Agent,
    /// The valid entries of `tools`.
    grants: Vec<ToolGrant>,
}

impl ToolCheck<'_> {
    fn pointer(&self, key: &str) -> String {
        child_pointer(&child_pointer("/agents", self.name), key)
    }

    fn at_key(&self, diagnostic: Diagnostic, key: &str) -> Diagnostic {
        let document = &self.project.document;
        diagnostic.with_span(&document.file, document.spans.key(&self.pointer(key)))
    }

    /// Sets the location of a finding to an entry of a list of the agent.
    fn at_item(&self, diagnostic: Diagnostic, key: &str, index: usize) -> Diagnostic {
        let document = &self.project.document;
        diagnostic.with_span(&document.file, document.spans.value(&item_pointer(&self.pointer(key), index)))
    }

    /// Checks a model with tools. `entries` are those of `tools`, each a grant or the reason why it is not valid.
    fn check(&self, entries: Vec<Result<Entry, String>>, diagnostics: &mut Vec<Diagnostic>) {
        let names = self.agent.tools.names();
        let mut earlier = HashSet::new();
        for (index, (text, entry)) in names.iter().zip(entries).enumerate() {
            let finding = match entry {
                Err(reason) => Some(self.invalid_grant(text, reason, index)),
                Ok(Entry::Mcp(grant)) => self.check_mcp_grant(&grant, index),
                Ok(Entry::Builtin(grant)) if earlier.contains(&grant) => Some(self.repeated_grant(&grant, index)),
                Ok(Entry::Builtin(grant)) => {
                    let finding = self
                        .useless_grant(&grant, index)
                        .or_else(|| self.unusable_grant(&grant, index))
                        .or_else(|| self.loose_grant(&grant, index));
                    earlier.insert(grant);
                    finding
                }
            };
            diagnostics.extend(finding);
        }
        self.check_approvals(diagnostics);
        let has_pipelines = !self.agent.pipelines.is_empty();
        // An agent all of whose entries are invalid still has tools.
        if names.is_empty() {
            let is_useless = |(_, counts_pipelines): &&(&str, bool)| !(has_pipelines && *counts_pipelines);
            let useless_keys = TOOL_KEYS.iter().filter(is_useless);
            diagnostics.extend(useless_keys.filter_map(|(key, _)| self.useless_key(key)));
            if !has_pipelines {
                return;
            }
        } else if !self.agent.env.is_empty() && !self.has_tool(BuiltinTool::Shell) {
            let message = "`env` has no effect without the tool `shell`";
            let diagnostic = Diagnostic::error(Code::KeyNotApplicable, message);
            diagnostics.push(self.at_key(diagnostic, "env").with_help("remove `env`, or add `shell` to `tools`"));
        }
        diagnostics.extend(self.missing_answer_turn());
        self.check_models(diagnostics);
        self.check_access(diagnostics);
    }

    fn has_tool(&self, tool: BuiltinTool) -> bool {
        self.grants.iter().any(|grant| grant.tool == tool)
    }

    fn invalid_grant(&self, text: &str, reason: String, index: usize) -> Diagnostic {
        let name = text.split_once('(').map_or(text, |(name, _)| name);
        if BuiltinTool::from_name(name).is_some() || McpGrant::parse(text).is_err() {
            return self.at_item(Diagnostic::error(Code::UnknownTool, reason), "tools", index);
        }
        self.unknown_tool(name, "tools", index)
    }

    /// The finding for a tool of an MCP server that the agent can't have, or that another entry allows already.
    fn check_mcp_grant(&self, grant: &McpGrant, index: usize) -> Option<Diagnostic> {
        let at = |diagnostic| self.at_item(diagnostic, "tools", index);
        mcp_names::unavailable_tool(self.project, grant, at)
            .or_else(|| mcp_names::redundant_grant(self.agent, grant, index).map(at))
    }

    /// The finding for the name of a tool that orch does not have.
    fn unknown_tool(&self, name: &str, key: &str, index: usize) -> Diagnostic {
        let at = |diagnostic| self.at_item(diagnostic, key, index);
        if equivalents::means_all_tools(name) {
            let own_tools = BuiltinTool::ALL.into_iter().filter(|tool| self.has_tool(*tool));
            let own: Vec<&str> = own_tools.map(BuiltinTool::as_str).collect();
            let diagnostic = at(Diagnostic::error(Code::UnknownTool, format!("orch has no tool `{name}`")));
            return diagnostic.with_help(if key == "tools" || own.is_empty() {
                equivalents::ALL_TOOLS_HELP.to_owned()
            } else {
                format!("name each tool: `[{}]`", own.join(", "))
            });
        }
        unknown_tool(name, at)
    }

    /// The finding for an entry that equals an earlier one.
    fn repeated_grant(&self, grant: &ToolGrant, index: usize) -> Diagnostic {
        let diagnostic = Diagnostic::error(Code::DuplicateName, format!("the tool `{grant}` is listed twice"));
        self.at_item(diagnostic, "tools", index)
    }

    /// The finding for an entry that allows only what an entry without a pattern allows too.
    fn useless_grant(&self, grant: &ToolGrant, index: usize) -> Option<Diagnostic> {
        // `fetch` without a pattern allows the hosts of the sandbox, and a pattern adds another one.
        let allows_everything = |other: &ToolGrant| other.tool == grant.tool && other.pattern.is_none();
        let is_fetch = grant.tool == BuiltinTool::Fetch;
        if grant.pattern.is_none() || is_fetch || !self.grants.iter().any(allows_everything) {
            return None;
        }
        let message = format!("`{grant}` has no effect, because the agent has `{}` without a pattern", grant.tool);
        let diagnostic = Diagnostic::warning(Code::KeyNotApplicable, message);
        Some(self.at_item(diagnostic, "tools", index).with_help("remove one of the two entries"))
    }

    /// The finding for a tool that can do nothing because of the agent's sandbox.
    fn unusable_grant(&self, grant: &ToolGrant, index: usize) -> Option<Diagnostic> {
        let own = self.agent.sandbox.clone().unwrap_or_default();
        let sandbox = SandboxSpec::resolve(&own, &self.project.settings.sandbox, Access::Write);
        let (problem, help) = unusable_tool(grant, sandbox.as_ref(), "agent")?;
        let diagnostic = self.at_item(Diagnostic::error(Code::UnusableTool, problem), "tools", index);
        Some(if help.is_empty() { diagnostic } else { diagnostic.with_help(help) })
    }

    /// The finding for a pattern of `fetch` with a host that `orch.yaml` does not allow. The rule is that of the hosts
    /// that an agent lists under `sandbox.network`.
    fn loose_grant(&self, grant: &ToolGrant, index: usize) -> Option<Diagnostic> {
        let pattern = grant.pattern.as_ref().filter(|_| grant.tool == BuiltinTool::Fetch)?;
        let bound = self.project.settings.sandbox.network.as_ref();
        let host = AllowedHost { host: pattern.clone(), private: false };
        if allows_agent_host(bound, &host) {
            return None;
        }
        let allowed = bound.map_or_else(|| "public hosts".to_owned(), |network| format!("`network: {network}`"));
        let remedy = match bound {
            None => format!("write `sandbox: {{ network: [\"{host}\"] }}` in `orch.yaml`"),
            Some(SandboxNetwork::Hosts(_)) => format!("add `\"{host}\"` to `sandbox.network` in `orch.yaml`"),
            Some(SandboxNetwork::None | SandboxNetwork::All) => {
                format!("write `network: [\"{host}\"]` under `sandbox` in `orch.yaml`")
            }
        };
        let message = format!("`{grant}` allows more than `orch.yaml`, which allows {allowed}");
        let diagnostic = self.at_item(Diagnostic::error(Code::SandboxTooLoose, message), "tools", index);
        Some(diagnostic.with_help(format!("remove `{grant}`, or {remedy}")))
    }

    fn check_approvals(&self, diagnostics: &mut Vec<Diagnostic>) {
        for (index, name) in self.agent.approve_tools.iter().enumerate() {
            if let Ok(Some(grant)) = McpGrant::parse(name) {
                let finding = mcp_names::missing_approved_tool(self.agent, self.name, &grant);
                diagnostics.extend(finding.map(|diagnostic| self.at_item(diagnostic, "approve_tools", index)));
                continue;
            }
            let Some(tool) = BuiltinTool::from_name(name) else {
                diagnostics.push(match name.split_once('(').and_then(|(tool, _)| BuiltinTool::from_name(tool)) {
                    Some(tool) => self.approved_pattern(name, tool, index),
                    None => self.unknown_tool(name, "approve_tools", index),
                });
                continue;
            };
            if !self.agent.tools.names().is_empty() && !self.has_tool(tool) {
                let message = format!("agent `{}` does not have the tool `{tool}`", self.name);
                let diagnostic = self.at_item(Diagnostic::error(Code::UnknownTool, message), "approve_tools", index);
                let help = format!("add `{tool}` to `tools`, or remove it here");
                diagnostics.push(diagnostic.with_help(help));
            }
        }
    }

    /// The finding for a tool with a pattern in `approve_tools`.
    fn approved_pattern(&self, text: &str, tool: BuiltinTool, index: usize) -> Diagnostic {
        let message = format!("`approve_tools` names tools without a pattern, not `{text}`");
        let diagnostic = self.at_item(Diagnostic::error(Code::UnknownTool, message), "approve_tools", index);
        let help = format!("write `{tool}`: orch asks about each call of the tool that its patterns in `tools` allow");
        diagnostic.with_help(help).with_replacement(text, Some(tool.as_str()))
    }

    /// The finding for a key that has no effect, because the agent has no tools.
    fn useless_key(&self, key: &str) -> Option<Diagnostic> {
        if !self.project.document.spans.contains(&self.pointer(key)) {
            return None;
        }
        let diagnostic = Diagnostic::error(Code::KeyNotApplicable, format!("`{key}` has no effect without `tools`"));
        let help = format!("remove `{key}`, or give the agent tools, such as `tools: [read, edit]`");
        Some(self.at_key(diagnostic, key).with_help(help))
    }

    /// The finding for an agent whose only reply must call a tool, so that it never answers.
    fn missing_answer_turn(&self) -> Option<Diagnostic> {
        if self.agent.tool_choice != Some(FirstToolChoice::Required) || self.agent.max_turns != Some(1) {
            return None;
        }
        let message = "with `tool_choice: required`, `max_turns: 1` leaves no reply for the answer";
        let diagnostic = self.at_key(Diagnostic::error(Code::KeyNotApplicable, message), "max_turns");
        Some(diagnostic.with_help("raise `max_turns` to 2 at least, or remove `tool_choice`"))
    }

    /// Reports models that can't call tools: the agent's own, and the fallbacks of its steps.
    fn check_models(&self, diagnostics: &mut Vec<Diagnostic>) {
        let document = &self.project.document;
        let key = if self.agent.tools.names().is_empty() { "pipelines" } else { "tools" };
        let mut references = vec![(self.agent.model.as_str(), self.pointer("model"))];
        for (pointer, step) in steps_with_pointers(&self.project.pipeline) {
            if step.agent.as_deref() == Some(self.name) {
                let fallback_pointer = child_pointer(&pointer, "fallback");
                let fallbacks = step.fallback.iter().enumerate();
                references
                    .extend(fallbacks.map(|(index, model)| (model.as_str(), item_pointer(&fallback_pointer, index))));
            }
        }
        for (reference, pointer) in references {
            let Some(model) = resolve_reference(self.project, reference) else { continue };
            if !model_api(self.project, &model).is_some_and(|api| api.refuses_tools()) {
                continue;
            }
            let message = format!("agent `{}` has {key}, and `{model}` can't call tools", self.name);
            let diagnostic = Diagnostic::error(Code::ModelWithoutTools, message);
            let diagnostic = if document.spans.contains(&pointer) {
                diagnostic.with_span(&document.file, document.spans.value(&pointer))
            } else {
                self.at_key(diagnostic, key)
            };
            diagnostics.push(diagnostic.with_help(format!("use another model, or remove `{key}` from the agent")));
        }
    }

    /// Reports steps whose `access` is too low for a tool of the agent.
    fn check_access(&self, diagnostics: &mut Vec<Diagnostic>) {
        let document = &self.project.document;
        for (pointer, step) in steps_with_pointers(&self.project.pipeline) {
            let Some(access) = step.access.filter(|_| step.agent.as_deref() == Some(self.name)) else { continue };
            let builtin = self.grants.iter().find(|grant| grant.tool.access() > access);
            let builtin = builtin.map(|grant| (grant.tool.to_string(), grant.tool.access()));
            let mcp_tool = || mcp_names::tool_above(self.project, self.agent, access);
            let called = || model_calls::pipeline_above(self.project, self.agent, access);
            let Some((tool, needed)) = builtin.or_else(mcp_tool).or_else(called) else { continue };
            let message = format!(
                "step `{}` has `access: {}`, and the tool `{tool}` of agent `{}` needs `access: {}`",
                step.id,
                access_name(access),
                self.name,
                access_name(needed)
            );
            let help = "remove `access`, which follows from the tools; or use an agent without this tool";
            diagnostics.push(
                Diagnostic::error(Code::AccessTooLow, message)
                    .with_span(&document.file, document.spans.value(&child_pointer(&pointer, "access")))
                    .with_help(help),
            );
        }
    }

    /// Checks the tools of MCP servers that a CLI agent has, and warns about tools that have the names of orch's own
    /// tools.
    fn check_cli_names(&self, kind: CliAgentKind, diagnostics: &mut Vec<Diagnostic>) {
        for (index, text) in self.agent.tools.names().iter().enumerate() {
            let Ok(Some(grant)) = McpGrant::parse(text) else { continue };
            // A CLI agent may have tools of its own with such names.
            if !self.project.settings.mcp.contains_key(&grant.server) {
                continue;
            }
            if kind == CliAgentKind::Command {
                let message = "an agent with `command` can't use MCP servers of `orch.yaml`";
                let diagnostic = self.at_item(Diagnostic::error(Code::UnknownTool, message), "tools", index);
                diagnostics.push(diagnostic.with_help("remove the tool, and configure the server in the program"));
            } else {
                diagnostics.extend(self.check_mcp_grant(&grant, index));
            }
        }
        if kind != CliAgentKind::Claude {
            return;
        }
        for (index, text) in self.agent.tools.names().iter().enumerate() {
            let name = text.split_once('(').map_or(text.as_str(), |(name, _)| name);
            let Some(tool) = BuiltinTool::from_name(name) else { continue };
            let claude_name = match tool {
                BuiltinTool::Read => "Read",
                BuiltinTool::List => "Glob",
                BuiltinTool::Search => "Grep",
                BuiltinTool::Edit => "Edit",
                BuiltinTool::Write => "Write",
                BuiltinTool::Shell => "Bash",
                BuiltinTool::Fetch => "WebFetch",
            };
            let message = format!("`{name}` is a tool of orch for models, and Claude Code has its own tools");
            let diagnostic = self.at_item(Diagnostic::warning(Code::UnknownTool, message), "tools", index);
            let help = format!("Claude Code calls it `{claude_name}`");
            diagnostics.push(diagnostic.with_help(help).with_replacement(name, Some(claude_name)));
        }
    }
}

/// Why a tool can do nothing in a sandbox, and what to do; the second text may be empty. `owner` has the sandbox: an
/// agent or a step.
pub(super) fn unusable_tool(
    grant: &ToolGrant,
    sandbox: Option<&SandboxSpec>,
    owner: &str,
) -> Option<(String, &'static str)> {
    Some(match grant.tool {
        BuiltinTool::Shell if sandbox.is_none() => (
            format!("`shell` runs only in a sandbox, and the sandbox of the {owner} is disabled"),
            "remove `enabled: false` from `sandbox`, or use another tool",
        ),
        BuiltinTool::Fetch => {
            let problem = grant.missing_hosts(sandbox.map(|sandbox| &sandbox.network))?;
            let (problem, help) = problem.split_once(": ").unwrap_or((problem, ""));
            (problem.to_owned(), help)
        }
        BuiltinTool::Edit | BuiltinTool::Write
            if sandbox.is_some_and(|sandbox| sandbox.write.iter().all(|path| is_outside_workspace(path))) =>
        {
            let tool = grant.tool;
            let problem = format!("`{tool}` can change no file: `write` of the sandbox has no folder of the workspace");
            (problem, "add a folder of the workspace to `write` of the sandbox, such as `.`")
        }
        BuiltinTool::Read
        | BuiltinTool::List
        | BuiltinTool::Search
        | BuiltinTool::Edit
        | BuiltinTool::Write
        | BuiltinTool::Shell => return None,
    })
}
