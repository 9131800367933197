//! Names of runs, steps, calls and contents.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A run's id: a UUID v7, so that ids sort by start; shown as its short form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunId(pub uuid::Uuid);

impl RunId {
    /// The last twelve hexadecimal digits: the random part, short enough to type.
    pub fn short(&self) -> String {
        let text = self.0.simple().to_string();
        text[20..].to_owned()
    }

    /// Whether `text` names this run: the whole id, or the start of its short form.
    pub fn matches(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        text.len() >= 4
            && (self.short().starts_with(&text) || self.0.to_string() == text || self.0.simple().to_string() == text)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// A step's place in the plan: ids joined by `/`, items and rounds as `[n]` from 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepKey(String);

impl StepKey {
    /// The key of a step at the top level.
    pub fn root(id: &str) -> Self {
        Self(id.to_owned())
    }

    /// The key of a child step.
    #[must_use]
    pub fn child(&self, id: &str) -> Self {
        Self(format!("{}/{id}", self.0))
    }

    /// The key of an item or round of this step, counted from 0.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A call's key: step key, attempt and ordinal, both from 1: `implement[3]/code@1#2`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallKey {
    /// The step that makes the call.
    pub step: StepKey,
    /// The attempt of the step, from 1.
    pub attempt: u32,
    /// The call within the attempt, from 1.
    pub ordinal: u32,
}

impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}#{}", self.step, self.attempt, self.ordinal)
    }
}

/// A BLAKE3 digest, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).to_hex().to_string())
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
