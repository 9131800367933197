//! The tools of an agent with a model, as a plan contains them, and with the lists of its MCP servers.

use std::collections::HashSet;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{Value, json};

use crate::model::agent::{Compaction, DEFAULT_MAX_TURNS, FirstToolChoice};
use crate::model::{
    Agent, BuiltinTool, Digest, Failure, FailureClass, McpGrant, McpListing, McpServerSpec, McpToolName, OfferedTools,
    SandboxNetwork, SandboxSpec, ToolChoice, ToolDefinition, ToolGrant,
};
use crate::tool;

use super::node::PlanNode;
use super::pipeline_tools;
use super::tool_target::{McpTool, PipelineTool, ToolTarget};

/// The maximum number of names in a message about a missing tool.
const MAX_NAMED_TOOLS: usize = 20;

/// What an agent may use besides the tools of orch.
pub(super) struct ToolSources<'a> {
    /// The `network` in the `sandbox` of `orch.yaml`.
    pub(super) project_network: Option<&'a SandboxNetwork>,
    /// The MCP servers of `orch.yaml`.
    pub(super) servers: &'a IndexMap<String, McpServerSpec>,
    /// The pipelines that the model may call, in the order of the agent.
    pub(super) pipelines: &'a [PlanNode],
    /// The digest of the files of these pipelines and of everything that they name; `None` without pipelines.
    pub(super) pipeline_digest: Option<Digest>,
}

/// The tools of an agent with a model, with every default filled in.
#[derive(Clone, Serialize)]
pub struct AgentTools {
    /// The built-in tools that the agent may use.
    pub grants: Vec<ToolGrant>,
    /// The tools of MCP servers that the agent may use.
    pub mcp_grants: Vec<McpGrant>,
    /// The MCP servers whose tools the agent may use.
    pub servers: Vec<McpServerSpec>,
    /// The offer of the requests before the first reply with calls: `offered`, or the same tools, of which the model must
    /// call one.
    pub first_offered: Arc<OfferedTools>,
    /// The offer of requests in which the model may call tools. It has the tools of MCP servers only after these have
    /// listed them.
    pub offered: Arc<OfferedTools>,
    /// The offer of requests for a final answer: the same tools, which the model must not call.
    pub listed: Arc<OfferedTools>,
    /// The maximum number of turns of a conversation.
    pub max_turns: u32,
    /// The built-in tools whose calls the user approves.
    pub approved: Vec<BuiltinTool>,
    /// The tools of MCP servers whose calls the user approves.
    pub approved_mcp: Vec<McpGrant>,
    /// What happens before a conversation exceeds the context window.
    pub compaction: Compaction,
    /// Names of variables that `shell` inherits from the environment of the run.
    pub env: Vec<String>,
    /// The sandbox of the built-in tools; `None` if it is disabled.
    pub sandbox: Option<SandboxSpec>,
    /// The `network` in the `sandbox` of `orch.yaml`, which bounds the hosts of `fetch`. `None` without `fetch`.
    pub project_network: Option<SandboxNetwork>,
    /// The tools that the MCP servers listed, in the order of the servers and their names. A plan contains none.
    #[serde(skip)]
    mcp_tools: Vec<Arc<McpTool>>,
    /// The pipelines that the model may call. They follow from the steps inside the agent's step.
    #[serde(skip)]
    pipelines: Vec<Arc<PipelineTool>>,
    pipeline_digest: Option<Digest>,
}

impl AgentTools {
    /// The tools of an agent whose built-in tools have this sandbox. Returns `None` if the agent has no tools.
    pub(super) fn from_agent(agent: &Agent, sandbox: Option<SandboxSpec>, sources: ToolSources<'_>) -> Option<Self> {
        if agent.cli_kind().is_some() {
            return None;
        }
        let (grants, mcp_grants) = (agent.tool_grants(), agent.mcp_grants());
        let ToolSources { project_network, servers, pipelines, pipeline_digest } = sources;
        if grants.is_empty() && mcp_grants.is_empty() && pipelines.is_empty() {
            return None;
        }
        let is_granted = |tool: &BuiltinTool| grants.iter().any(|grant| grant.tool == *tool);
        let is_used = |server: &&McpServerSpec| mcp_grants.iter().any(|grant| grant.server == server.name);
        let builtin_tools = BuiltinTool::ALL.into_iter().filter(is_granted);
        let mut definitions: Vec<_> = builtin_tools.map(|tool| tool::definition(tool, &grants)).collect();
        let called = pipelines.iter().enumerate();
        let called = called.filter_map(|(index, node)| Some((index, pipeline_tools::definition(node)?)));
        let called: Vec<(usize, ToolDefinition)> = called.collect();
        let pipelines = called.iter().map(|(index, definition)| Arc::new(PipelineTool::new(*index, definition)));
        let pipelines = pipelines.collect();
        definitions.extend(called.into_iter().map(|(_, definition)| definition));
        let [first_offered, offered, listed] = offers(definitions, first_choice(agent));
        Some(Self {
            first_offered,
            offered,
            listed,
            max_turns: agent.max_turns.unwrap_or(DEFAULT_MAX_TURNS),
            approved: agent.approved_tools(),
            approved_mcp: agent.approve_tools.iter().filter_map(|text| McpGrant::parse(text).ok().flatten()).collect(),
            compaction: agent.compaction.unwrap_or_default(),
            env: agent.env.clone(),
            sandbox,
            project_network: project_network.filter(|_| is_granted(&BuiltinTool::Fetch)).cloned(),
            servers: servers.values().filter(is_used).cloned().collect(),
            mcp_tools: Vec::new(),
            pipelines,
            pipeline_digest,
            grants,
            mcp_grants,
        })
    }

    /// The same tools with those that the MCP servers listed. `listings` has the list of each server, in the order of
    /// the servers.
    ///
    /// # Errors
    /// A server does not list a tool that the agent names, the schema of a tool can't be used, or two tools would have
    /// the same name for the model.
    pub(super) fn with_listings(&self, listings: &[Arc<McpListing>]) -> Result<Self, Failure> {
        let mut mcp_tools = Vec::new();
        for (server, listing) in self.servers.iter().zip(listings) {
            self.check_named_tools(server, listing)?;
            for definition in &listing.tools {
                let name = McpToolName { server: server.name.clone(), tool: definition.name.clone() };
                if server.allows(&name.tool) && self.mcp_grants.iter().any(|grant| grant.allows(&name)) {
                    mcp_tools.push(Arc::new(McpTool::new(server, definition)?));
                }
            }
        }
        let is_mcp_tool = |name: &String| self.mcp_tools.iter().any(|tool| tool.model_name == *name);
        let is_pipeline = |name: &String| self.pipelines.iter().any(|pipeline| pipeline.name == *name);
        let other_tools = self.offered.definitions.iter().filter(|definition| !is_mcp_tool(&definition.name));
        let (pipelines, mut definitions): (Vec<_>, Vec<_>) =
            other_tools.cloned().partition(|definition| is_pipeline(&definition.name));
        definitions.extend(mcp_tools.iter().map(|tool| tool.model_definition()));
        definitions.extend(pipelines);
        check_unique_names(&definitions)?;
        let [first_offered, offered, listed] = offers(definitions, self.first_offered.choice);
        Ok(Self { first_offered, offered, listed, mcp_tools, ..self.clone() })
    }

    /// Checks that a server has the tools that the agent names, also those that need an approval: a misspelt name would
    /// let the model call the tool without one.
    fn check_named_tools(&self, server: &McpServerSpec, listing: &McpListing) -> Result<(), Failure> {
        let grants = self.mcp_grants.iter().chain(&self.approved_mcp).filter(|grant| grant.server == server.name);
        let mut named = grants.filter_map(|grant| grant.tool.as_deref());
        let Some(missing) = named.find(|tool| listing.find(tool).is_none()) else { return Ok(()) };
        let names: Vec<String> =
            listing.tools.iter().take(MAX_NAMED_TOOLS).map(|definition| format!("`{}`", definition.name)).collect();
        let more = listing.tools.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let has = if names.is_empty() { "none".to_owned() } else { format!("{}{more}", names.join(", ")) };
        let message = format!("the MCP server `{}` has no tool `{missing}`; it has {has}", server.name);
        let hint = "correct `tools:` or `approve_tools:` of the agent; a server may also offer other tools with other settings";
        Err(Failure::new(FailureClass::BadRequest, message).with_hint(hint))
    }

    /// Whether the first reply of a conversation must call a tool.
    pub(super) fn requires_call(&self) -> bool {
        self.first_offered.choice == ToolChoice::Required
    }

    /// Whether the agent may use a built-in tool.
    pub fn includes(&self, tool: BuiltinTool) -> bool {
        self.grants.iter().any(|grant| grant.tool == tool)
    }

    /// The tool that a model calls by this name; `None` if the agent has no such tool.
    pub(super) fn find(&self, name: &str) -> Option<ToolTarget> {
        if let Some(tool) = BuiltinTool::from_name(name).filter(|tool| self.includes(*tool)) {
            return Some(ToolTarget::Builtin(tool));
        }
        let mcp_tool = self.mcp_tools.iter().find(|tool| tool.model_name == name);
        let pipeline = || self.pipelines.iter().find(|pipeline| pipeline.name == name);
        mcp_tool.map(|tool| ToolTarget::Mcp(tool.clone())).or_else(|| pipeline().cloned().map(ToolTarget::Pipeline))
    }

    /// Whether the user approves each call of a tool.
    pub(super) fn needs_approval(&self, target: &ToolTarget) -> bool {
        match target {
            ToolTarget::Builtin(tool) => self.approved.contains(tool),
            ToolTarget::Mcp(tool) => self.approved_mcp.iter().any(|grant| grant.allows(&tool.name)),
            ToolTarget::Pipeline(_) => false,
        }
    }

    /// The digest of the pipelines that the model may call.
    pub(super) fn pipeline_digest(&self) -> Option<&Digest> {
        self.pipeline_digest.as_ref()
    }

    /// The grants for one built-in tool.
    pub(super) fn grants_for(&self, tool: BuiltinTool) -> Vec<ToolGrant> {
        self.grants.iter().filter(|grant| grant.tool == tool).cloned().collect()
    }

    /// What determines the results of the built-in tools.
    pub(super) fn builtin_fingerprint_value(&self) -> Value {
        let sandbox = self.sandbox.as_ref().map(SandboxSpec::without_level);
        let mut value = json!({ "grants": self.grants, "env": self.env, "sandbox": sandbox });
        if let Some(network) = &self.project_network {
            value["project_network"] = json!(network);
        }
        value
    }

    /// What determines the results of the tools, for the fingerprint of a step. The requests contain the definitions of
    /// the built-in tools. The limits of the conversation and the approvals do not change the value of a completed step.
    pub(super) fn fingerprint_value(&self) -> Value {
        let mut value = self.builtin_fingerprint_value();
        if !self.servers.is_empty() {
            let of_server = |server: &McpServerSpec| {
                let tools = self.mcp_tools.iter().filter(|tool| tool.name.server == server.name);
                let tools: Vec<Value> = tools.map(|tool| json!(tool.definition)).collect();
                json!({ "server": server.fingerprint_value(), "tools": tools })
            };
            value["mcp"] = self.servers.iter().map(of_server).collect();
        }
        if let Some(digest) = &self.pipeline_digest {
            value["pipelines"] = json!(digest);
        }
        if self.requires_call() {
            value["choice"] = json!(self.first_offered.choice);
        }
        value
    }
}

/// Whether the model must call a tool in its first reply.
fn first_choice(agent: &Agent) -> ToolChoice {
    match agent.tool_choice.unwrap_or_default() {
        FirstToolChoice::Auto => ToolChoice::Auto,
        FirstToolChoice::Required => ToolChoice::Required,
    }
}

/// The offers of requests with these tools: that of the requests before the first call, one in which the model may call
/// the tools, and one in which it must not.
fn offers(definitions: Vec<ToolDefinition>, first_choice: ToolChoice) -> [Arc<OfferedTools>; 3] {
    let offer = |definitions, choice| Arc::new(OfferedTools { definitions, choice });
    let offered = offer(definitions.clone(), ToolChoice::Auto);
    let first_offered =
        if first_choice == ToolChoice::Auto { Arc::clone(&offered) } else { offer(definitions.clone(), first_choice) };
    [first_offered, offered, offer(definitions, ToolChoice::None)]
}

/// Checks that a model can tell its tools apart.
fn check_unique_names(definitions: &[ToolDefinition]) -> Result<(), Failure> {
    let mut names = HashSet::new();
    let Some(twice) = definitions.iter().find(|definition| !names.insert(definition.name.as_str())) else {
        return Ok(());
    };
    let message = format!("two tools of the agent have the name `{}`", twice.name);
    let hint = "rename the pipeline or the MCP server, or remove one of them from the agent";
    Err(Failure::new(FailureClass::BadRequest, message).with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{McpAccess, McpToolDefinition, McpTransport};

    fn server(name: &str, tools: Option<Vec<String>>) -> McpServerSpec {
        let transport = McpTransport::Http { url: format!("https://{name}.example"), headers: IndexMap::new() };
        McpServerSpec { name: name.to_owned(), transport, tools, access: McpAccess::Read }
    }

    fn listing(server: &str, tools: &[&str]) -> Arc<McpListing> {
        let definition = |name: &&str| McpToolDefinition {
            name: (*name).to_owned(),
            description: format!("does {name}"),
            input_schema: Arc::new(json!({ "type": "object" })),
            output_schema: None,
        };
        let tools = tools.iter().map(definition).collect();
        Arc::new(McpListing { server: server.to_owned(), protocol_version: "2025-11-25".to_owned(), tools })
    }

    fn agent_tools(agent: Value, servers: &[McpServerSpec]) -> Option<AgentTools> {
        let agent: Agent = serde_json::from_value(agent).unwrap();
        let servers = servers.iter().map(|server| (server.name.clone(), server.clone())).collect();
        let sources = ToolSources { project_network: None, servers: &servers, pipelines: &[], pipeline_digest: None };
        AgentTools::from_agent(&agent, None, sources)
    }

    fn names(tools: &AgentTools) -> Vec<&str> {
        tools.offered.definitions.iter().map(|definition| definition.name.as_str()).collect()
    }

    #[test]
    fn an_agent_has_the_granted_tools_of_its_servers() {
        let allowed = Some(vec!["get".to_owned(), "list".to_owned()]);
        let servers = [server("docs", allowed), server("other", None), server("github", None)];
        let agent =
            json!({ "model": "auto", "tools": ["read", "github.close", "docs.*"], "approve_tools": ["github.*"] });
        let tools = agent_tools(agent, &servers).unwrap();
        assert_eq!(names(&tools), ["read"]);
        let listings = [listing("docs", &["delete", "get", "list"]), listing("github", &["close", "open"])];
        let tools = tools.with_listings(&listings).unwrap();
        assert_eq!(names(&tools), ["read", "docs__get", "docs__list", "github__close"]);
        assert_eq!(tools.listed.definitions, tools.offered.definitions);
        let target = |name: &str| tools.find(name).map(|target| (target.name(), tools.needs_approval(&target)));
        assert_eq!(target("read"), Some(("read".to_owned(), false)));
        assert_eq!(target("docs__get"), Some(("docs.get".to_owned(), false)));
        assert_eq!(target("github__close"), Some(("github.close".to_owned(), true)));
        for unknown in ["github__open", "docs__delete", "write", "docs.get"] {
            assert_eq!(target(unknown), None, "{unknown}");
        }
        let again = tools.with_listings(&listings).unwrap();
        assert_eq!(names(&again), names(&tools), "a later list replaces the earlier one");
    }

    #[test]
    fn a_server_must_have_the_tools_that_an_agent_names() {
        let agent = json!({ "model": "auto", "tools": ["docs.get"] });
        let tools = agent_tools(agent, &[server("docs", None)]).unwrap();
        let failure = tools.with_listings(&[listing("docs", &["list"])]).err().unwrap();
        assert_eq!(failure.class, FailureClass::BadRequest);
        assert_eq!(failure.message, "the MCP server `docs` has no tool `get`; it has `list`");
        let failure = tools.with_listings(&[listing("docs", &[])]).err().unwrap();
        assert!(failure.message.ends_with("it has none"), "{failure}");
    }

    #[test]
    fn only_the_first_offer_requires_a_call() {
        let servers = [server("docs", None)];
        let choices =
            |tools: &AgentTools| [&tools.first_offered, &tools.offered, &tools.listed].map(|offer| offer.choice);
        let agent = |choice: &str| json!({ "model": "auto", "tools": ["read", "docs.*"], "tool_choice": choice });
        let free = agent_tools(agent("auto"), &servers).unwrap();
        let bound = agent_tools(agent("required"), &servers).unwrap();
        assert_eq!(choices(&free), [ToolChoice::Auto, ToolChoice::Auto, ToolChoice::None]);
        assert_eq!(choices(&bound), [ToolChoice::Required, ToolChoice::Auto, ToolChoice::None]);
        let listed = bound.with_listings(&[listing("docs", &["get"])]).unwrap();
        assert_eq!(choices(&listed), choices(&bound), "also with the tools of a server");
        assert_eq!(listed.first_offered.definitions, listed.offered.definitions);
        assert_ne!(free.fingerprint_value(), bound.fingerprint_value());
    }

    #[test]
    fn only_servers_and_their_definitions_add_to_the_fingerprint() {
        let plain = agent_tools(json!({ "model": "auto", "tools": ["read"] }), &[server("docs", None)]).unwrap();
        assert_eq!(plain.fingerprint_value(), plain.builtin_fingerprint_value());
        let agent = json!({ "model": "auto", "tools": ["docs.*"] });
        let tools = agent_tools(agent, &[server("docs", None)]).unwrap();
        let value = |tools: &[&str], all: &AgentTools| {
            all.with_listings(&[listing("docs", tools)]).ok().map(|tools| tools.fingerprint_value())
        };
        assert_eq!(value(&["get"], &tools), value(&["get"], &tools));
        assert_ne!(value(&["get"], &tools), value(&["get", "list"], &tools));
        assert_ne!(value(&["get"], &tools), Some(tools.fingerprint_value()), "without a list");
        assert!(agent_tools(json!({ "command": ["x"], "tools": ["docs.get"] }), &[server("docs", None)]).is_none());
    }
}
