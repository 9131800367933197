//! Whether a replay repeats the recorded results of commands or runs the commands.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::id::StepKey;

/// The pattern of the short form of [`CommandModes`].
pub const COMMAND_MODE_PATTERN: &str = "^(replay|run)$";

/// What a replay does with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandMode {
    /// Repeat the recorded result. The command does not run.
    Replay,
    /// Run the command.
    Run,
}

/// The modes of the commands of a replay: one for all of them, or one for each listed step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum CommandModes {
    /// The mode of every command.
    All(CommandMode),
    /// The modes of commands, by the ids or the keys of their steps.
    ByStep(IndexMap<String, CommandMode>),
}

impl CommandModes {
    /// The mode of a step's command; `None` if nothing sets it.
    pub fn mode(&self, step: &StepKey) -> Option<CommandMode> {
        match self {
            Self::All(mode) => Some(*mode),
            Self::ByStep(modes) => {
                let declared_key = step.declared_key();
                let names = [step.as_str(), declared_key.as_str(), declared_key.last_segment()];
                names.into_iter().find_map(|name| modes.get(name)).copied()
            }
        }
    }

    /// Whether some command has this mode.
    pub fn contains(&self, mode: CommandMode) -> bool {
        match self {
            Self::All(all) => *all == mode,
            Self::ByStep(modes) => modes.values().any(|step_mode| *step_mode == mode),
        }
    }

    /// The names of the listed steps.
    pub fn step_names(&self) -> impl Iterator<Item = &str> {
        let modes = match self {
            Self::All(_) => None,
            Self::ByStep(modes) => Some(modes),
        };
        modes.into_iter().flat_map(IndexMap::keys).map(String::as_str)
    }

    /// Whether nothing sets a mode.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::ByStep(modes) if modes.is_empty())
    }
}

impl Default for CommandModes {
    fn default() -> Self {
        Self::ByStep(IndexMap::new())
    }
}

impl<'de> Deserialize<'de> for CommandModes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let modes = if value.is_string() {
            serde_json::from_value(value).map(Self::All)
        } else {
            serde_json::from_value(value).map(Self::ByStep)
        };
        modes.map_err(D::Error::custom)
    }
}

impl JsonSchema for CommandModes {
    fn schema_name() -> Cow<'static, str> {
        "CommandModes".into()
    }

    /// A string or a mapping. The schema needs no `anyOf`, because the pattern applies only to a string, and
    /// `additionalProperties` only to a mapping.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mode = generator.subschema_for::<CommandMode>();
        json_schema!({
            "type": ["string", "object"],
            "description": "`replay`, `run`, or a mapping of the ids of steps to one of these.",
            "pattern": COMMAND_MODE_PATTERN,
            "additionalProperties": mode
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mode_applies_to_all_commands_or_to_those_of_a_step() {
        let modes = |value: Value| serde_json::from_value::<CommandModes>(value).unwrap();
        let step = StepKey::root("fix").item(1).child("test").item(0);
        assert_eq!(modes(json!("run")).mode(&step), Some(CommandMode::Run));
        for name in ["test", "fix/test", "fix[1]/test[0]"] {
            assert_eq!(modes(json!({ name: "replay" })).mode(&step), Some(CommandMode::Replay), "{name}");
        }
        assert_eq!(modes(json!({ "fix": "run", "fix[0]/test[0]": "run" })).mode(&step), None);
        assert_eq!(CommandModes::default().mode(&step), None);
        assert!(serde_json::from_value::<CommandModes>(json!("sometimes")).is_err());
    }
}
