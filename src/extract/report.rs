//! The result of an extraction: the value with its source and its repairs, or the reason why there is no value.

use serde::Serialize;
use serde_json::Value;

use crate::schema::Mismatch;

/// Where orch found the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueSource {
    /// The value is the whole reply.
    Whole,
    /// The value is in a fenced block.
    Fence,
    /// The value is between tags, such as `<answer>` and `</answer>`.
    Tag,
    /// The value is in prose.
    Prose,
}

impl ValueSource {
    /// The stable name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Fence => "fence",
            Self::Tag => "tag",
            Self::Prose => "prose",
        }
    }
}

/// A value from a reply, and how orch extracted it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Extraction {
    /// The value, which fits the schema.
    pub value: Value,
    /// Where orch found it.
    pub source: ValueSource,
    /// The repairs, in order.
    pub repairs: Vec<Repair>,
    /// The number of other distinct values that fit the schema.
    pub others: usize,
    /// Descriptions of the text that orch skipped before the answer, such as reasoning.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

macro_rules! repairs {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A departure from strict JSON or from the schema that orch repaired.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Repair {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Repair {
            /// All repairs.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The stable name, as in JSON.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

repairs! {
    /// orch replaced bytes that are not UTF-8 by U+FFFD.
    InvalidUtf8 = "invalid_utf8",
    /// orch removed terminal colour codes.
    AnsiCodes = "ansi_codes",
    /// orch skipped a comment.
    Comment = "comment",
    /// orch ignored a comma before a closing bracket.
    TrailingComma = "trailing_comma",
    /// A comma was missing between two items or members.
    MissingComma = "missing_comma",
    /// A string was in single quotes or backticks.
    SingleQuotes = "single_quotes",
    /// A string was in typographic quotes.
    SmartQuotes = "smart_quotes",
    /// A string was in triple quotes.
    TripleQuotes = "triple_quotes",
    /// A key had no quotes.
    UnquotedKey = "unquoted_key",
    /// A string had no quotes.
    UnquotedValue = "unquoted_value",
    /// The closing quote of a string was missing before the next key.
    MissingQuote = "missing_quote",
    /// A literal had another spelling: `True` for `true`, `None` for `null`.
    LiteralSpelling = "literal_spelling",
    /// A number had a form that JSON does not allow: `+1`, `.5`.
    NumberSpelling = "number_spelling",
    /// A string contained an unescaped line break or another control character.
    RawControl = "raw_control",
    /// A string contained its own quote without a backslash.
    UnescapedQuote = "unescaped_quote",
    /// orch escaped a backslash that does not start a JSON escape, or removed a backslash before an apostrophe.
    InvalidEscape = "invalid_escape",
    /// White space that JSON does not allow was between tokens.
    UnicodeSpace = "unicode_space",
    /// A full-width comma or colon replaced the plain one.
    WidePunctuation = "wide_punctuation",
    /// An object had a key twice with the same value.
    DuplicateKey = "duplicate_key",
    /// orch converted a scalar to the schema's type without loss.
    Coerced = "coerced",
    /// A value of an enumeration had another letter case.
    EnumCase = "enum_case",
    /// orch removed spaces around a key.
    KeySpaces = "key_spaces",
    /// The value was the only element of an array.
    OneElementArray = "one_element_array",
    /// The value was under the only key of an object.
    OneKeyEnvelope = "one_key_envelope",
    /// The value was JSON inside a JSON string.
    DoublyEncoded = "doubly_encoded",
}

/// Why orch rejected a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionReason {
    /// The reply has no JSON.
    NoJson,
    /// The reply has JSON, but no value fits the schema.
    SchemaMismatch,
    /// Several values fit the schema in a strict extraction, or a value can be parsed in more than one way.
    AmbiguousReply,
    /// The reply was cut off at the token limit, or inside a value.
    MaxTokensReached,
    /// The model refused to answer.
    Refusal,
    /// The reply has no text.
    EmptyReply,
}

impl RejectionReason {
    /// The stable name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoJson => "no_json",
            Self::SchemaMismatch => "schema_mismatch",
            Self::AmbiguousReply => "ambiguous_reply",
            Self::MaxTokensReached => "max_tokens_reached",
            Self::Refusal => "refusal",
            Self::EmptyReply => "empty_reply",
        }
    }
}

/// Why orch rejected a reply, with details for the next request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rejection {
    /// The class of the rejection.
    pub reason: RejectionReason,
    /// One sentence, lower case, without a full stop.
    pub message: String,
    /// Where the best candidate does not fit the schema.
    pub mismatches: Vec<Mismatch>,
}

/// Precedes the reason why orch can't read a value, in the message of a rejection.
pub(super) const UNREADABLE: &str = "can't be read: ";

impl Rejection {
    /// Why orch can't read the JSON of the reply, if that is the reason of the rejection.
    pub fn unreadable_json(&self) -> Option<&str> {
        self.message.split_once(UNREADABLE).map(|(_, reason)| reason)
    }
}

/// Returns a rejection without mismatches.
pub(super) fn reject<T>(reason: RejectionReason, message: impl Into<String>) -> Result<T, Box<Rejection>> {
    Err(Box::new(Rejection { reason, message: message.into(), mismatches: Vec::new() }))
}
