//! The dialects of model APIs.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

/// The format of requests and replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Anthropic's Messages API.
    Anthropic,
    /// OpenAI's Chat Completions API, which most servers speak.
    OpenAi,
    /// Google's Gemini API.
    Gemini,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 3] = [Self::Anthropic, Self::OpenAi, Self::Gemini];

    /// The name in configuration files and in recorded content.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Gemini => "gemini",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that can't continue fails")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dialect_has_one_name_in_files_and_in_messages() {
        for dialect in Dialect::ALL {
            assert_eq!(serde_json::from_value::<Dialect>(json!(dialect.to_string())).unwrap(), dialect);
        }
    }
}
