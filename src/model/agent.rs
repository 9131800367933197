//! What stands under `agents:` beside a plain model: programs and what they may use.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::pipeline::Agent;
use super::program::{Program, ProgramKind};
use super::step::Access;

/// The reply bound of an agent that gives none, in tokens.
pub const MAX_OUTPUT_TOKENS: u32 = 4096;

/// A command-line agent that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CliProgram {
    /// Claude Code, the program `claude`.
    Claude,
    /// Codex, the program `codex`.
    Codex,
}

/// A program that speaks the Agent Client Protocol on its standard input and output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acp {
    /// The program and its arguments.
    #[schemars(length(min = 1))]
    #[schemars(example = json!(["gemini", "--acp"]))]
    pub command: Vec<String>,
}

/// The tools that a program may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Tools {
    /// `none`: it answers, and does nothing else.
    #[default]
    None,
    /// These, by the names that the program gives them.
    Names(Vec<String>),
}

impl Tools {
    /// Whether it says `none`.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The names; none for `none`.
    pub fn names(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::Names(names) => names,
        }
    }
}

impl<'de> Deserialize<'de> for Tools {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) if text == "none" => Ok(Self::None),
            Value::Array(list) => {
                let names = serde_json::from_value(Value::Array(list));
                names.map(Self::Names).map_err(|_| D::Error::custom("expected a list of names"))
            }
            _ => Err(D::Error::custom("expected `none` or a list of names")),
        }
    }
}

impl JsonSchema for Tools {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tools".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "array"],
            "description": "`none`, or the names of tools.",
            "pattern": TOOLS_PATTERN,
            "items": { "type": "string", "minLength": 1 }
        })
    }
}

/// The one word that may stand in place of a list of tools.
pub const TOOLS_PATTERN: &str = "^none$";

/// The keys that say that an agent is a program.
pub const PROGRAMS: &[&str] = &["cli", "acp", "command"];

impl Agent {
    /// The kind of program that it is; `None` for a model.
    pub fn kind(&self) -> Option<ProgramKind> {
        match (&self.cli, &self.acp, &self.command) {
            (Some(CliProgram::Claude), _, _) => Some(ProgramKind::Claude),
            (Some(CliProgram::Codex), _, _) => Some(ProgramKind::Codex),
            (None, Some(_), _) => Some(ProgramKind::Acp),
            (None, None, Some(_)) => Some(ProgramKind::Command),
            (None, None, None) => None,
        }
    }

    /// The program that it is for a step with this access; `None` for a model.
    pub fn program(&self, access: Access) -> Option<Program> {
        let acp = self.acp.as_ref().map(|acp| &acp.command);
        Some(Program {
            kind: self.kind()?,
            argv: acp.or(self.command.as_ref()).filter(|_| self.cli.is_none()).cloned().unwrap_or_default(),
            model: (self.model != "auto").then(|| self.model.clone()),
            tools: self.tools.names().to_vec(),
            max_turns: self.max_turns,
            env: self.env.clone(),
            access,
        })
    }

    /// What a step with this agent does to the workspace, unless it says so itself.
    pub fn access(&self) -> Access {
        if self.kind().is_some() && !self.tools.names().is_empty() { Access::Write } else { Access::None }
    }
}

/// Agents by name, as a pipeline declares them.
pub type Agents = IndexMap<String, Agent>;
