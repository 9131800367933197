//! The options `--model` and `--agent`: models and CLI agents that replace those of the pipeline file in one run.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::check::resolve_reference;
use crate::config::Project;
use crate::diagnostic::did_you_mean;
use crate::model::agent::{Acp, CliProgram, Tools};
use crate::model::options::receives_provider_options;
use crate::model::{Agent, RunState};

use super::error::RunnerError;
use super::{Reporter, ResumeRequest};

/// The user's choices for the agents of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentChoices {
    /// The model of every agent that is not in `agents`.
    pub(crate) model: Option<String>,
    /// The model or the CLI agent of single agents, by the agent's name.
    pub(crate) agents: BTreeMap<String, String>,
    /// The choices that the run has recorded. A choice in `agents` overrides the recorded one for the same agent.
    recorded_agents: BTreeMap<String, String>,
}

impl AgentChoices {
    /// The choices for a new run.
    pub(crate) fn new(model: Option<&String>, agents: &BTreeMap<String, String>) -> Self {
        Self { model: model.cloned(), agents: agents.clone(), recorded_agents: BTreeMap::new() }
    }

    /// The choices for a run to resume: those of the request, and those that the run has recorded. If the request has a
    /// model for all agents, the recorded choices no longer apply.
    pub(crate) fn for_resume(request: &ResumeRequest, past_state: &RunState) -> Self {
        let (model, recorded_agents) = match &request.model {
            Some(model) => (Some(model.clone()), BTreeMap::new()),
            None => (past_state.model.clone(), past_state.agents.clone()),
        };
        Self { model, agents: request.agents.clone(), recorded_agents }
    }

    /// Whether the user has chosen nothing, in this session and before.
    pub(crate) fn is_empty(&self) -> bool {
        self.model.is_none() && self.agents.is_empty() && self.recorded_agents.is_empty()
    }

    /// The choices for single agents, for the run's record.
    pub(crate) fn chosen_agents(&self) -> BTreeMap<String, String> {
        let mut chosen = self.recorded_agents.clone();
        chosen.extend(self.agents.clone());
        chosen
    }

    /// The choices that change a project, without those that the run has recorded for agents that it no longer has.
    pub(crate) fn for_project(&self, project: &Project) -> Self {
        let mut agents = self.chosen_agents();
        agents.retain(|name, _| agent_names(project).any(|known| known == name));
        Self { model: self.model.clone(), agents, recorded_agents: BTreeMap::new() }
    }

    /// Checks that every choice of this session is well-formed, and that some of the projects has its agent. Returns the
    /// names of the models.
    ///
    /// # Errors
    /// The same as for [`Self::apply`].
    pub(crate) fn check(&self, projects: &[&Project]) -> Result<Vec<String>, RunnerError> {
        let mut models: Vec<String> = self.model.iter().cloned().collect();
        for (name, choice) in &self.agents {
            let replacement = AgentReplacement::parse(choice).map_err(|reason| invalid_choice(name, reason))?;
            if !projects.iter().any(|project| agent_names(project).any(|known| known == name)) {
                return Err(unknown_agent(name, projects));
            }
            if let AgentReplacement::Model(model) = replacement {
                models.push(model);
            }
        }
        Ok(models)
    }

    /// Applies the choices to a project and to the pipelines that it calls.
    ///
    /// # Errors
    /// A choice of this session names an agent that no pipeline has, or a choice is malformed.
    pub(crate) fn apply(&self, project: &mut Project, reporter: &dyn Reporter) -> Result<(), RunnerError> {
        let known_names: Vec<String> = agent_names(project).map(ToOwned::to_owned).collect();
        let mut replacements = BTreeMap::new();
        for (name, choice) in self.chosen_agents() {
            if known_names.contains(&name) {
                let replacement = AgentReplacement::parse(&choice).map_err(|reason| invalid_choice(&name, reason))?;
                replacements.insert(name, replacement);
            } else if self.agents.contains_key(&name) {
                return Err(unknown_agent(&name, &[project]));
            } else {
                reporter.note(&format!("the pipeline no longer has the agent `{name}`, which --agent replaced"));
            }
        }
        if let Some(model) = &self.model {
            let is_model =
                |(name, agent): (&String, &Agent)| agent.cli_kind().is_none() && !replacements.contains_key(name);
            let has_model = |project: &&Project| project.pipeline.agents.iter().any(is_model);
            if !project.with_called_projects().iter().any(has_model) {
                reporter.note(&format!("no agent is a model, so the model {model} is not used"));
            }
        }
        self.replace_agents(project, &replacements, reporter);
        Ok(())
    }

    /// Replaces agents and removes the fallbacks of their steps, so that no other model is called or needs a key.
    fn replace_agents(
        &self,
        project: &mut Project,
        replacements: &BTreeMap<String, AgentReplacement>,
        reporter: &dyn Reporter,
    ) {
        let default_model = self.model.clone().map(AgentReplacement::Model);
        let mut replaced: BTreeMap<String, Agent> = BTreeMap::new();
        for (name, agent) in &project.pipeline.agents {
            let default = default_model.as_ref().filter(|_| agent.cli_kind().is_none());
            if let Some(replacement) = replacements.get(name).or(default) {
                replaced.insert(name.clone(), replacement.apply(name, agent, project, reporter));
            }
        }
        project.pipeline.for_each_step_mut(&mut |step| {
            let is_replaced = step.agent.as_ref().is_some_and(|name| replaced.contains_key(name));
            if self.model.is_some() || is_replaced {
                step.fallback.clear();
            }
        });
        for (name, agent) in replaced {
            project.pipeline.agents.insert(name, agent);
        }
        for called in project.called_projects.values_mut() {
            self.replace_agents(Arc::make_mut(called), replacements, reporter);
        }
    }
}

/// The distinct names of the agents of a project and of the pipelines that it calls.
fn agent_names(project: &Project) -> impl Iterator<Item = &str> {
    let mut names: Vec<&str> = Vec::new();
    for project in project.with_called_projects() {
        for name in project.pipeline.agents.keys() {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
    }
    names.into_iter()
}

fn unknown_agent(name: &str, projects: &[&Project]) -> RunnerError {
    let error = RunnerError::usage(format!("there is no agent `{name}`"));
    let mut known_names: Vec<&str> = projects.iter().flat_map(|project| agent_names(project)).collect();
    known_names.sort_unstable();
    known_names.dedup();
    let pipelines = projects.iter().flat_map(|project| project.with_called_projects());
    let mut steps = pipelines.flat_map(|project| project.pipeline.all_steps());
    if let Some(agent) = steps.find(|step| step.id == name).and_then(|step| step.agent.as_ref()) {
        return error.with_hint(format!("`{name}` is a step, and the name of its agent is `{agent}`"));
    }
    match did_you_mean(name, known_names.iter().copied()) {
        Some(nearest) => error.with_hint(format!("did you mean `{nearest}`?")),
        None if known_names.is_empty() => error.with_hint("the pipeline has no agents: leave out --agent"),
        None => error.with_hint(format!("the agents are {}", known_names.join(", "))),
    }
}

fn invalid_choice(name: &str, reason: &'static str) -> RunnerError {
    RunnerError::usage(format!("the choice for the agent `{name}` is invalid: {reason}")).with_hint(
        "write `NAME=provider/model`, `NAME=cli:claude`, `NAME=cli:codex`, `NAME=acp:PROGRAM` or `NAME=command:PROGRAM`",
    )
}

/// The model or CLI agent that replaces an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum AgentReplacement {
    /// The name of a model, in the syntax of the pipeline file.
    Model(String),
    /// A CLI agent that orch knows by name.
    Cli(CliProgram),
    /// A program with its arguments that speaks the Agent Client Protocol.
    Acp(Vec<String>),
    /// Any other program with its arguments.
    Command(Vec<String>),
}

impl AgentReplacement {
    /// Parses the value of `--agent NAME=VALUE`: a model, or the kind of a CLI agent before a colon.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let split_command = |line: &str| {
            let command: Vec<String> = line.split_whitespace().map(ToOwned::to_owned).collect();
            if command.is_empty() { Err("it names no program") } else { Ok(command) }
        };
        match text.split_once(':') {
            Some(("cli", "claude")) => Ok(Self::Cli(CliProgram::Claude)),
            Some(("cli", "codex")) => Ok(Self::Cli(CliProgram::Codex)),
            Some(("cli", _)) => Err("orch knows the CLI agents `claude` and `codex`"),
            Some(("acp", line)) => split_command(line).map(Self::Acp),
            Some(("command", line)) => split_command(line).map(Self::Command),
            Some(_) | None if text.trim().is_empty() => Err("it is empty"),
            Some(_) | None => Ok(Self::Model(text.trim().to_owned())),
        }
    }

    /// The agent that replaces `agent`.
    fn apply(&self, name: &str, agent: &Agent, project: &Project, reporter: &dyn Reporter) -> Agent {
        // The options of a model, or of another CLI agent, do not apply to a CLI agent. The budget does, and so does
        // the sandbox, which may be narrower than that of `orch.yaml`.
        let cli_agent = || {
            if agent.cli_kind().is_some() {
                let change = format!("--agent replaces the CLI agent `{name}`");
                note_dropped_keys(&change, &agent.cli_option_keys(), reporter);
            } else {
                let keys = [agent.model_option_keys(), agent.model_tool_keys()].concat();
                note_dropped_keys(&format!("agent `{name}` is a CLI agent in this run"), &keys, reporter);
            }
            Agent { budget: agent.budget.clone(), sandbox: agent.sandbox.clone(), ..Agent::from_model("auto") }
        };
        match self {
            Self::Model(model) => model_agent(model, name, agent, project, reporter),
            Self::Cli(cli) => Agent { cli: Some(*cli), ..cli_agent() },
            Self::Acp(command) => Agent { acp: Some(Acp { command: command.clone() }), ..cli_agent() },
            Self::Command(command) => Agent { command: Some(command.clone()), ..cli_agent() },
        }
    }
}

/// Replaces the model of an agent. The result has the agent's other options and its tools, except those that only the
/// previous provider or CLI agent supports.
fn model_agent(model: &str, name: &str, agent: &Agent, project: &Project, reporter: &dyn Reporter) -> Agent {
    let own_and_new_model = resolve_reference(project, &agent.model).zip(resolve_reference(project, model));
    let is_other_provider = own_and_new_model.is_some_and(|(own, new)| !receives_provider_options(&own, &new));
    let mut replaced = Agent { model: model.to_owned(), ..agent.clone() };
    if agent.cli_kind().is_some() {
        let sandbox_key = agent.sandbox.as_ref().map(|_| "sandbox");
        let dropped_keys: Vec<&str> = agent.cli_option_keys().into_iter().chain(sandbox_key).collect();
        note_dropped_keys(&format!("agent `{name}` is a model in this run"), &dropped_keys, reporter);
        replaced = Agent {
            cli: None,
            acp: None,
            command: None,
            tools: Tools::None,
            max_turns: None,
            estimate: None,
            env: Vec::new(),
            sandbox: None,
            ..replaced
        };
    }
    if is_other_provider && !agent.provider_options.is_empty() {
        replaced.provider_options.clear();
        let message = format!("orch does not send `provider_options` of agent `{name}` to {model}, another provider");
        reporter.note(&message);
    }
    replaced
}

/// Prints a note about the keys of an agent that do not apply because of a change, unless there are none.
fn note_dropped_keys(change: &str, keys: &[&str], reporter: &dyn Reporter) {
    if !keys.is_empty() {
        let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
        reporter.note(&format!("{change}, so these options do not apply: {}", keys.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_a_model_or_a_kind_of_cli_agent() {
        let command = |arguments: &[&str]| arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>();
        for (text, expected) in [
            ("anthropic/claude-sonnet-5-5", Ok(AgentReplacement::Model("anthropic/claude-sonnet-5-5".into()))),
            ("ollama/qwen3:8b", Ok(AgentReplacement::Model("ollama/qwen3:8b".into()))),
            ("local:models/small.gguf", Ok(AgentReplacement::Model("local:models/small.gguf".into()))),
            ("cli:claude", Ok(AgentReplacement::Cli(CliProgram::Claude))),
            ("acp:gemini --acp", Ok(AgentReplacement::Acp(command(&["gemini", "--acp"])))),
            ("command:python3 review.py", Ok(AgentReplacement::Command(command(&["python3", "review.py"])))),
            ("cli:gemini", Err("orch knows the CLI agents `claude` and `codex`")),
            ("command: ", Err("it names no program")),
            (" ", Err("it is empty")),
        ] {
            assert_eq!(AgentReplacement::parse(text), expected, "{text}");
        }
    }
}
