//! Describes the sandbox of a program with its level and with the origin of its settings.

use std::fmt;

use crate::config::{SETTINGS_FILE, Settings};
use crate::model::{Sandbox, SandboxLevel, SandboxNetwork, SandboxSpec};
use crate::trust::describe_sandbox;

/// What has a `sandbox` of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SandboxSource {
    /// An MCP server.
    Server,
    /// An agent: a CLI agent, or a model with tools.
    Agent,
    /// A step `run`. Without a `sandbox` of its own, orch does not confine it.
    Command,
    /// A step `call`.
    Call,
}

impl SandboxSource {
    fn as_str(self) -> &'static str {
        match self {
            Self::Server => "the server",
            Self::Agent => "the agent",
            Self::Command | Self::Call => "the step",
        }
    }
}

/// The sandbox of a program, as a part of a sentence about the program.
pub(super) struct ListedSandbox<'a> {
    /// The sandbox; `None` if orch does not confine the program.
    pub(super) sandbox: Option<SandboxSpec>,
    /// The settings of the owner.
    pub(super) own: Option<&'a Sandbox>,
    pub(super) owner: SandboxSource,
    /// The settings of the project.
    pub(super) settings: &'a Settings,
}

impl fmt::Display for ListedSandbox<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe_sandbox(self.sandbox.as_ref()))?;
        match &self.sandbox {
            Some(sandbox) => write!(f, "; at least at the level `{}`, with {}", sandbox.min, self.origin()),
            None => write!(f, ", because {}", self.reason()),
        }
    }
}

impl ListedSandbox<'_> {
    /// Whether the program may do much more than in the default sandbox: it has none, reaches every host, or also runs
    /// if this machine can't enforce all rules.
    pub(super) fn is_risky(&self) -> bool {
        self.sandbox
            .as_ref()
            .is_none_or(|sandbox| matches!(sandbox.network, SandboxNetwork::All) || sandbox.min < SandboxLevel::Full)
    }

    /// The same for a command of the tool `shell`, which orch refuses without a sandbox.
    pub(super) fn is_risky_for_shell(&self) -> bool {
        self.sandbox.is_some() && self.is_risky()
    }

    /// The description for a command of the tool `shell`, which orch refuses without a sandbox.
    pub(super) fn of_shell(&self) -> String {
        match &self.sandbox {
            Some(_) => self.to_string(),
            None => format!("which orch refuses without a sandbox; it has none, because {}", self.reason()),
        }
    }

    /// Where the settings of the sandbox come from.
    fn origin(&self) -> String {
        let owner = self.owner.as_str();
        let has_own = self.own.is_some_and(|own| *own != Sandbox::default());
        match (has_own, self.settings.sandbox != Sandbox::default()) {
            (true, true) => format!("the settings of {owner} and of {SETTINGS_FILE}"),
            (true, false) => format!("the settings of {owner}"),
            (false, true) => format!("the settings of {SETTINGS_FILE}"),
            (false, false) => "the default settings".to_owned(),
        }
    }

    /// Why orch does not confine the program.
    fn reason(&self) -> String {
        let owner = self.owner.as_str();
        match (self.own, self.owner) {
            (None, SandboxSource::Command) if self.settings.sandbox == Sandbox::default() => {
                format!("{owner} has no `sandbox`")
            }
            (None, SandboxSource::Command) => format!(
                "{owner} has no `sandbox`, and that of {SETTINGS_FILE} applies only to commands with a `sandbox` of their \
                 own"
            ),
            (Some(Sandbox { enabled: Some(false), .. }), _) => format!("{owner} has `enabled: false`"),
            (Some(_) | None, _) => format!("{SETTINGS_FILE} has `enabled: false`"),
        }
    }
}
