//! Checks CLI agents: each has exactly one CLI, and only options that this CLI supports.

use crate::config::{Project, child_pointer, item_pointer};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::agent::{CLI_AGENT_KEYS, CLI_AGENT_KIND_KEYS, MODEL_AGENT_KEYS};
use crate::model::{Agent, CliAgentKind};

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (name, agent) in &project.pipeline.agents {
        CliAgentCheck { project, name, agent }.check(&mut diagnostics);
    }
    diagnostics
}

struct CliAgentCheck<'a> {
    project: &'a Project,
    name: &'a str,
    agent: &'a Agent,
}

impl CliAgentCheck<'_> {
    fn pointer(&self, key: &str) -> String {
        child_pointer(&child_pointer("/agents", self.name), key)
    }

    /// The pointer of a nested key, such as `acp/command`.
    fn nested_pointer(&self, keys: &str) -> String {
        keys.split('/').fold(child_pointer("/agents", self.name), |pointer, key| child_pointer(&pointer, key))
    }

    fn has_nested_key(&self, keys: &str) -> bool {
        self.project.document.spans.contains(&self.nested_pointer(keys))
    }

    fn has_key(&self, key: &str) -> bool {
        self.project.document.spans.contains(&self.pointer(key))
    }

    fn error_at_key(&self, code: Code, message: String, key: &str) -> Diagnostic {
        let document = &self.project.document;
        Diagnostic::error(code, message).with_span(&document.file, document.spans.key(&self.pointer(key)))
    }

    fn check(&self, diagnostics: &mut Vec<Diagnostic>) {
        let name = self.name;
        let kind_keys: Vec<&str> = CLI_AGENT_KIND_KEYS.iter().copied().filter(|key| self.has_key(key)).collect();
        if let [first, second, ..] = kind_keys.as_slice() {
            let message = format!("agent `{name}` has both `{first}` and `{second}`");
            let diagnostic = self.error_at_key(Code::MultipleAgentKinds, message, second);
            diagnostics.push(diagnostic.with_help("an agent uses one CLI or one model; split it into two agents"));
            return;
        }
        let Some(kind) = self.agent.cli_kind() else {
            for key in CLI_AGENT_KEYS.iter().filter(|key| self.has_key(key)) {
                let message = format!("`{key}` is not supported by agents with a model");
                let help = "only agents with `cli`, `acp` or `command` support it";
                diagnostics.push(self.error_at_key(Code::KeyNotApplicable, message, key).with_help(help));
            }
            return;
        };
        let kind_key = kind_keys.first().copied().unwrap_or_default();
        for key in MODEL_AGENT_KEYS.iter().filter(|key| self.has_key(key)) {
            let message = format!("`{key}` is not supported by CLI agents");
            let help = format!("agent `{name}` has `{kind_key}`; set such options in the settings of that CLI");
            diagnostics.push(self.error_at_key(Code::KeyNotApplicable, message, key).with_help(help));
        }
        for (keys, argv) in
            [("command", self.agent.command.as_ref()), ("acp/command", self.agent.acp.as_ref().map(|acp| &acp.command))]
        {
            for (index, argument) in argv.into_iter().flatten().enumerate().filter(|(_, argument)| has_tags(argument)) {
                let document = &self.project.document;
                let span = document.spans.value(&item_pointer(&self.nested_pointer(keys), index));
                let message = format!(
                    "orch passes `{argument}` to the CLI agent unchanged: the command of an agent is not a template"
                );
                let help = "write an absolute path, or a path relative to the workspace, in which the CLI agent runs";
                diagnostics.push(
                    Diagnostic::warning(Code::LiteralPlaceholder, message)
                        .with_span(&document.file, span)
                        .with_help(help),
                );
            }
        }
        let capabilities = kind.capabilities();
        for (key, is_supported) in [("model", capabilities.model), ("max_turns", capabilities.max_turns)] {
            if self.has_key(key) && !is_supported {
                let message = format!("`{key}` is not supported by {}", describe_kind(kind));
                diagnostics.push(
                    self.error_at_key(Code::KeyNotApplicable, message, key).with_help(describe_alternative(kind, key)),
                );
            }
        }
        for (limit_key, estimate_key) in [("budget/usd", "estimate/usd"), ("budget/tokens", "estimate/tokens")] {
            if self.has_nested_key(limit_key) && !capabilities.usage && !self.has_nested_key(estimate_key) {
                let message = format!(
                    "`{limit_key}` can't be enforced for {}: it reports neither tokens nor cost",
                    describe_kind(kind)
                );
                let help = "set the maximum of one turn under `estimate`, or limit `seconds` in the budget";
                let document = &self.project.document;
                let span = document.spans.key(&self.nested_pointer(limit_key));
                diagnostics.push(
                    Diagnostic::error(Code::KeyNotApplicable, message).with_span(&document.file, span).with_help(help),
                );
            }
        }
    }
}

/// Whether a text contains template tags.
pub(super) fn has_tags(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

fn describe_kind(kind: CliAgentKind) -> &'static str {
    match kind {
        CliAgentKind::Claude => "Claude Code",
        CliAgentKind::Codex => "Codex",
        CliAgentKind::Acp => "an agent with `acp`",
        CliAgentKind::Command => "an agent with `command`",
    }
}

fn describe_alternative(kind: CliAgentKind, key: &str) -> String {
    match kind {
        CliAgentKind::Acp => format!("pass `{key}` in the arguments under `command`, if the program supports it"),
        CliAgentKind::Claude | CliAgentKind::Codex | CliAgentKind::Command => {
            "it has no such option; `timeout:` of the step limits its time".to_owned()
        }
    }
}
