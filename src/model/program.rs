//! Agents that are programs: which one, with which options, and one turn of it.
//!
//! Plain data. What a kind of program can do is a table here, so that checks, documents and
//! the code that runs programs cannot differ about it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chat::{ChatRequest, ModelRef};
use super::step::Access;
use super::usage::{ReportedUsage, Usage};

/// A kind of agent program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramKind {
    /// Claude Code (`cli: claude`).
    Claude,
    /// Codex (`cli: codex`).
    Codex,
    /// Any program that speaks the Agent Client Protocol (`acp:`).
    Acp,
    /// Any other program (`command:`): a prompt in, a reply out.
    Command,
}

/// What a kind of program can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a row of a table")]
pub struct Abilities {
    /// It holds its answer to the step's schema itself; else the prompt asks for it.
    pub structured: bool,
    /// It holds the model to the names under `tools`, or asks us.
    pub tools: bool,
    /// It may say what a turn used, in tokens.
    pub usage: bool,
    /// It may say what a turn cost.
    pub cost: bool,
    /// A re-ask goes on in its own session, where it can; else the whole talk is told again.
    pub resume: bool,
    /// At a time-out it is asked to stop before its group is ended.
    pub cancel: bool,
    /// `model:` reaches it.
    pub model: bool,
    /// `max_turns:` reaches it.
    pub max_turns: bool,
}

impl ProgramKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Claude, Self::Codex, Self::Acp, Self::Command];

    /// The stable name: the provider's name of its replies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Acp => "acp",
            Self::Command => "command",
        }
    }

    /// What it can do.
    pub fn abilities(self) -> Abilities {
        let none = Abilities {
            structured: false,
            tools: false,
            usage: false,
            cost: false,
            resume: false,
            cancel: false,
            model: false,
            max_turns: false,
        };
        match self {
            Self::Claude => Abilities {
                structured: true,
                tools: true,
                usage: true,
                cost: true,
                resume: true,
                model: true,
                max_turns: true,
                ..none
            },
            Self::Codex => Abilities { structured: true, usage: true, resume: true, model: true, ..none },
            Self::Acp => Abilities { tools: true, usage: true, cost: true, resume: true, cancel: true, ..none },
            Self::Command => Abilities { model: true, max_turns: true, ..none },
        }
    }
}

/// An agent program as a step asks it: all of it is part of the step's recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Which kind.
    pub kind: ProgramKind,
    /// The program and its arguments, where the file gives them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// The model that it is told to use, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The tools that it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// How many turns it may take in one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// Names of variables that it takes over from the environment of the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What it may do to the workspace.
    pub access: Access,
}

impl Program {
    /// How replies of this program are named: `claude/sonnet`, `command/review.py`.
    pub fn reference(&self) -> ModelRef {
        let last = |path: &String| path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned();
        let name = match self.kind {
            ProgramKind::Claude | ProgramKind::Codex => self.model.clone(),
            ProgramKind::Acp | ProgramKind::Command => self.argv.first().map(last),
        };
        ModelRef::new(self.kind.as_str(), name.unwrap_or_else(|| "default".to_owned()))
    }

    /// The model by whose list price its tokens are paid, where it says no cost itself.
    pub fn priced_as(&self) -> Option<ModelRef> {
        match self.kind {
            ProgramKind::Codex => self.model.as_ref().map(|model| ModelRef::new("openai", model.clone())),
            ProgramKind::Claude | ProgramKind::Acp | ProgramKind::Command => None,
        }
    }

    /// Whether it says of every turn what it cost.
    pub fn tells_cost(&self) -> bool {
        match self.kind {
            ProgramKind::Claude => true,
            // An agent behind the protocol may, or may not.
            ProgramKind::Codex | ProgramKind::Acp | ProgramKind::Command => false,
        }
    }
}

/// What one turn of an agent program takes at most: counts for what a turn does not report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TurnEstimate {
    /// Tokens, input and output together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), example = 50_000)]
    pub tokens: Option<u64>,
    /// US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), example = 0.25)]
    pub usd: Option<f64>,
}

/// One turn of an agent program: a prompt goes in, its final words come out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentTurn {
    /// The program.
    pub program: Program,
    /// What it is asked, with the talk so far.
    pub request: ChatRequest,
    /// What it takes at most, as the agent says.
    #[serde(default)]
    pub estimate: TurnEstimate,
    /// Its own session, in which it answered before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What that session had reported in all before this turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_usage: Option<Usage>,
    /// How long it may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// When the step's deadline is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What a line of [`Work::denied`] begins with when the output of a command said that a sandbox refused a write.
pub const SANDBOX_REFUSAL: &str = "to write outside of its sandbox";

/// What a program did beside its answer, as recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentActivity {
    /// Its own session, when there is no reply to say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What it used, when there is no reply to say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ReportedUsage>,
    /// What its session had reported in all by the end of this turn, of a program that counts over its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_usage: Option<Usage>,
    /// The tools that it used, a line each, in order; at most a thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// Files of the workspace that are new, gone or different after the turn, sorted; at most a
    /// thousand. Empty too when the program may not write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Whether there were too many files to tell all that changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Those files before and after the turn: the record of a look, as of a step that writes files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Value>,
    /// Changed files that this record leaves out: too large, no plain file, or one that holds a secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Tools that it asked for and was denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<String>,
}

impl AgentActivity {
    /// Whether there is nothing to tell.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}
