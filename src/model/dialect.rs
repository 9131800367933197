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
    /// OpenAI's Responses API.
    Responses,
    /// Google's Gemini API.
    Gemini,
    /// Amazon Bedrock's Converse API.
    Converse,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 5] = [Self::Anthropic, Self::OpenAi, Self::Responses, Self::Gemini, Self::Converse];

    /// The name in configuration files and in recorded content.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Responses => "responses",
            Self::Gemini => "gemini",
            Self::Converse => "converse",
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
