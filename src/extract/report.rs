//! What an extraction says: the value, where it was, what was repaired, or why there is none.

use serde::Serialize;
use serde_json::Value;

use crate::schema::Mismatch;

/// Where the value was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueSource {
    /// The reply is the value.
    Whole,
    /// In a fenced block.
    Fence,
    /// Between tags, such as `<answer>` and `</answer>`.
    Tag,
    /// In prose.
    Prose,
}

impl ValueSource {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Fence => "fence",
            Self::Tag => "tag",
            Self::Prose => "prose",
        }
    }
}

/// A value taken from a reply, and how.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Extraction {
    /// The value; it fits the schema.
    pub value: Value,
    /// Where it was.
    pub source: ValueSource,
    /// What was repaired, in order.
    pub repairs: Vec<Repair>,
    /// How many other distinct values would have fitted.
    pub others: usize,
    /// What precedes the answer and was left out, such as reasoning.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

macro_rules! repairs {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Something that was repaired.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Repair {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Repair {
            /// Every repair there is.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The stable name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

repairs! {
    /// Bytes that are no UTF-8 were replaced by U+FFFD.
    InvalidUtf8 = "invalid_utf8",
    /// Terminal colour codes were removed.
    AnsiCodes = "ansi_codes",
    /// A comment was skipped.
    Comment = "comment",
    /// A comma before a closing bracket was ignored.
    TrailingComma = "trailing_comma",
    /// Two neighbours without a comma between them were separated.
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
    /// The quote that closes a string was missing before the next key.
    MissingQuote = "missing_quote",
    /// `True`, `None` and the like stood for `true`, `null`.
    LiteralSpelling = "literal_spelling",
    /// A number was written as JSON doesn't: `+1`, `.5`.
    NumberSpelling = "number_spelling",
    /// A string held a line break or another control character as it is.
    RawControl = "raw_control",
    /// A string held its own quote without a backslash.
    UnescapedQuote = "unescaped_quote",
    /// A backslash that starts no JSON escape was kept, or one before an apostrophe removed.
    InvalidEscape = "invalid_escape",
    /// A space that JSON doesn't know stood between tokens.
    UnicodeSpace = "unicode_space",
    /// A full-width comma or colon stood for the plain one.
    WidePunctuation = "wide_punctuation",
    /// A key was given twice with the same value.
    DuplicateKey = "duplicate_key",
    /// A scalar was turned into the schema's type without loss.
    Coerced = "coerced",
    /// A word of an enumeration was in another letter case.
    EnumCase = "enum_case",
    /// Spaces around a key were removed.
    KeySpaces = "key_spaces",
    /// The value was the one element of an array.
    OneElementArray = "one_element_array",
    /// The value was under the one key of an object.
    OneKeyEnvelope = "one_key_envelope",
    /// The value was JSON inside a JSON string.
    DoublyEncoded = "doubly_encoded",
}

/// Why no value was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionReason {
    /// There is no JSON.
    NoJson,
    /// There is JSON, and none fits.
    SchemaMismatch,
    /// Several values fit, and the reading is strict.
    AmbiguousReply,
    /// The reply was cut off.
    MaxTokensReached,
    /// The model refused.
    Refusal,
    /// There is no text.
    EmptyReply,
}

impl RejectionReason {
    /// The stable name.
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

/// A clear no, with what would help.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rejection {
    /// The class.
    pub reason: RejectionReason,
    /// One sentence, lower case, without a full stop.
    pub message: String,
    /// How the best candidate misses the schema.
    pub mismatches: Vec<Mismatch>,
}

/// A no without mismatches.
pub(super) fn no<T>(reason: RejectionReason, message: impl Into<String>) -> Result<T, Box<Rejection>> {
    Err(Box::new(Rejection { reason, message: message.into(), mismatches: Vec::new() }))
}
