//! Checks CLI agents: each has exactly one program, and only options that this program supports.

use crate::config::{Project, child, item};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::agent::PROGRAMS;
use crate::model::{Agent, ProgramKind};

/// Keys that only agents with a model support.
const OF_MODELS: &[&str] = &["temperature", "max_output_tokens"];
/// Keys that only CLI agents support.
const OF_PROGRAMS: &[&str] = &["tools", "max_turns", "estimate", "env"];

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, agent) in &project.pipeline.agents {
        ProgramCheck { project, name, agent }.check(&mut found);
    }
    found
}

struct ProgramCheck<'a> {
    project: &'a Project,
    name: &'a str,
    agent: &'a Agent,
}

impl ProgramCheck<'_> {
    fn pointer(&self, key: &str) -> String {
        child(&child("/agents", self.name), key)
    }

    /// The pointer of a key inside of another one, such as `acp/command`.
    fn path(&self, keys: &str) -> String {
        keys.split('/').fold(child("/agents", self.name), |pointer, key| child(&pointer, key))
    }

    fn has_path(&self, keys: &str) -> bool {
        self.project.document.spans.has(&self.path(keys))
    }

    fn has(&self, key: &str) -> bool {
        self.project.document.spans.has(&self.pointer(key))
    }

    fn at_key(&self, code: Code, message: String, key: &str) -> Diagnostic {
        let document = &self.project.document;
        Diagnostic::error(code, message).at(&document.file, document.spans.key(&self.pointer(key)))
    }

    fn check(&self, found: &mut Vec<Diagnostic>) {
        let name = self.name;
        let programs: Vec<&str> = PROGRAMS.iter().copied().filter(|key| self.has(key)).collect();
        if let [first, second, ..] = programs.as_slice() {
            let message = format!("agent `{name}` has both `{first}` and `{second}`");
            let problem = self.at_key(Code::TwoPrograms, message, second);
            found.push(problem.help("an agent is one program, or a model; make two agents of it"));
            return;
        }
        let Some(kind) = self.agent.kind() else {
            for key in OF_PROGRAMS.iter().filter(|key| self.has(key)) {
                let message = format!("`{key}` means nothing to a model");
                let help = match *key {
                    "tools" => {
                        "tools belong to agents that are programs: write `cli: claude`, or `acp: { command: [PROGRAM] }`, \
                         in place of the model"
                    }
                    _ => "it belongs to agents with `cli`, `acp` or `command`",
                };
                found.push(self.at_key(Code::KeyOfOtherKind, message, key).help(help));
            }
            return;
        };
        let written = programs.first().copied().unwrap_or_default();
        for key in OF_MODELS.iter().filter(|key| self.has(key)) {
            let message = format!("`{key}` means nothing to a program");
            let help = format!("agent `{name}` has `{written}`; such options belong into its own settings");
            found.push(self.at_key(Code::KeyOfOtherKind, message, key).help(help));
        }
        for (keys, parts) in
            [("command", self.agent.command.as_ref()), ("acp/command", self.agent.acp.as_ref().map(|acp| &acp.command))]
        {
            for (index, part) in parts.into_iter().flatten().enumerate().filter(|(_, part)| has_tags(part)) {
                let document = &self.project.document;
                let place = document.spans.value(&item(&self.path(keys), index));
                let message =
                    format!("`{part}` is passed to the program as it stands: the command of an agent is no template");
                let help = "give the whole path of a file of the project, or one from the workspace, in which the program runs";
                found.push(Diagnostic::warning(Code::NotReplaced, message).at(&document.file, place).help(help));
            }
        }
        let abilities = kind.abilities();
        for (key, reaches) in [("model", abilities.model), ("max_turns", abilities.max_turns)] {
            if self.has(key) && !reaches {
                let message = format!("`{key}` does not reach {}", described(kind));
                found.push(self.at_key(Code::KeyOfOtherKind, message, key).help(instead(kind, key)));
            }
        }
        for (key, estimate) in [("budget/usd", "estimate/usd"), ("budget/tokens", "estimate/tokens")] {
            if self.has_path(key) && !abilities.usage && !self.has_path(estimate) {
                let message =
                    format!("`{key}` can't be counted of {}: it tells neither tokens nor cost", described(kind));
                let help = "say under `estimate` what one turn takes at most, or give the budget `seconds`";
                let document = &self.project.document;
                let place = document.spans.key(&self.path(key));
                found.push(Diagnostic::error(Code::KeyOfOtherKind, message).at(&document.file, place).help(help));
            }
        }
    }
}

/// Whether a text contains template tags.
pub(super) fn has_tags(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

fn described(kind: ProgramKind) -> &'static str {
    match kind {
        ProgramKind::Claude => "Claude Code",
        ProgramKind::Codex => "Codex",
        ProgramKind::Acp => "a program behind `acp`",
        ProgramKind::Command => "a program behind `command`",
    }
}

fn instead(kind: ProgramKind, key: &str) -> String {
    match kind {
        ProgramKind::Acp => format!("give `{key}` to the program among the arguments under `command`, if it takes it"),
        ProgramKind::Claude | ProgramKind::Codex | ProgramKind::Command => {
            "it has no such option; `timeout:` of the step bounds its time".to_owned()
        }
    }
}
