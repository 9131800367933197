//! The JSON that a reply meant, or a clear no.
//!
//! Gathers candidates (the whole text, fenced blocks, balanced values in prose), parses each
//! strictly, and lets the schema choose. Never completes what was cut off, never invents,
//! never changes a value. Linear in the length of the reply.

mod candidates;

use serde::Serialize;
use serde_json::Value;

use crate::schema::{Mismatch, Schema};

/// How a reply is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether more than one distinct value, or any repair, is refused.
    pub strict: bool,
    /// Why the model stopped.
    pub stop: StopHint,
}

/// Why the model stopped, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopHint {
    /// It had said everything.
    Complete,
    /// It was cut off.
    Length,
    /// It refused.
    Refusal,
    /// Nobody knows.
    #[default]
    Unknown,
}

/// Where the value was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The reply is the value.
    Whole,
    /// In a fenced block.
    Fence,
    /// In prose.
    Prose,
}

impl Source {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Fence => "fence",
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
    pub source: Source,
    /// What was repaired, in order.
    pub repairs: Vec<Repair>,
    /// How many other distinct values would have fitted.
    pub others: usize,
}

/// Something that was repaired. None is made by this extractor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Repair {}

impl Repair {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {}
    }
}

/// Why no value was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// There is no JSON.
    NoJson,
    /// There is JSON, and none fits.
    SchemaMismatch,
    /// Several values fit, and the reading is strict.
    AmbiguousReply,
    /// The reply was cut off.
    LengthStop,
    /// The model refused.
    Refusal,
    /// There is no text.
    EmptyReply,
}

impl Reason {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoJson => "no_json",
            Self::SchemaMismatch => "schema_mismatch",
            Self::AmbiguousReply => "ambiguous_reply",
            Self::LengthStop => "length_stop",
            Self::Refusal => "refusal",
            Self::EmptyReply => "empty_reply",
        }
    }
}

/// A clear no, with what would help.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rejection {
    /// The class.
    pub reason: Reason,
    /// One sentence, lower case, without a full stop.
    pub message: String,
    /// How the best candidate misses the schema.
    pub mismatches: Vec<Mismatch>,
}

impl Rejection {
    fn new(reason: Reason, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { reason, message: message.into(), mismatches: Vec::new() })
    }
}

/// Takes the value that a reply meant.
pub fn extract(reply: &[u8], schema: &Schema, options: &Options) -> Result<Extraction, Box<Rejection>> {
    let text = String::from_utf8_lossy(reply);
    let text = text.trim_start_matches('\u{feff}').trim();
    match options.stop {
        StopHint::Refusal => return Err(Rejection::new(Reason::Refusal, "the model refused to answer")),
        StopHint::Length => {
            return Err(Rejection::new(Reason::LengthStop, "the reply was cut off at the token limit"));
        }
        StopHint::Complete | StopHint::Unknown => {}
    }
    if text.is_empty() {
        return Err(Rejection::new(Reason::EmptyReply, "the reply is empty"));
    }
    let found = candidates::gather(text);
    let mut fitting: Vec<&(Source, Value)> = Vec::new();
    for candidate in found.iter().filter(|(_, value)| schema.is_valid(value)) {
        if fitting.iter().all(|(_, value)| value != &candidate.1) {
            fitting.push(candidate);
        }
    }
    if options.strict && fitting.len() > 1 {
        return Err(Rejection::new(
            Reason::AmbiguousReply,
            format!("{} different values of the reply fit the schema", fitting.len()),
        ));
    }
    if let Some((source, value)) = fitting.last() {
        return Ok(Extraction {
            value: value.clone(),
            source: *source,
            repairs: Vec::new(),
            others: fitting.len() - 1,
        });
    }
    Err(mismatch(&found, schema))
}

fn mismatch(found: &[(Source, Value)], schema: &Schema) -> Box<Rejection> {
    let errors = found.iter().map(|(_, value)| schema.errors(value)).min_by_key(Vec::len);
    let Some(mismatches) = errors else {
        return Rejection::new(Reason::NoJson, "the reply holds no JSON");
    };
    let first = mismatches.first().map_or_else(String::new, |first| format!(": {first}"));
    let more = if mismatches.len() > 1 { format!(" (and {} more)", mismatches.len() - 1) } else { String::new() };
    let message = format!("the reply does not fit the schema{first}{more}");
    Box::new(Rejection { reason: Reason::SchemaMismatch, message, mismatches })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::compile(
            "t",
            json!({ "type": "object", "required": ["ok"], "properties": { "ok": { "type": "boolean" } } }),
        )
        .unwrap()
    }

    fn read(reply: &str) -> Result<(Value, &'static str), &'static str> {
        let found = extract(reply.as_bytes(), &schema(), &Options::default());
        found.map(|e| (e.value, e.source.as_str())).map_err(|r| r.reason.as_str())
    }

    #[test]
    fn the_schema_chooses_among_what_is_there() {
        assert_eq!(read(r#"{"ok": true}"#), Ok((json!({ "ok": true }), "whole")));
        assert_eq!(read("Sure:\n```json\n{\"ok\": true}\n```\nDone {x}."), Ok((json!({ "ok": true }), "fence")));
        assert_eq!(read(r#"First {"no": 1}, then {"ok": false}."#), Ok((json!({ "ok": false }), "prose")));
        assert_eq!(read("no idea"), Err("no_json"));
        assert_eq!(read(r#"{"ok": 1}"#), Err("schema_mismatch"));
        assert_eq!(read("  "), Err("empty_reply"));
    }

    #[test]
    fn a_cut_value_is_never_read_in_part() {
        assert_eq!(read(r#"{"steps": [{"ok": true}, {"ok""#), Err("no_json"));
        let cut = Options { stop: StopHint::Length, strict: false };
        assert_eq!(extract(br#"{"ok": true}"#, &schema(), &cut).unwrap_err().reason, Reason::LengthStop);
    }

    #[test]
    fn hostile_replies_end_quickly() {
        for reply in ["[".repeat(200_000), "`".repeat(200_000), "{\"a\":".repeat(100_000), "\u{0}\u{fffd}".repeat(1000)]
        {
            assert!(extract(reply.as_bytes(), &schema(), &Options::default()).is_err());
        }
    }
}
