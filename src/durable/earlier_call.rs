//! Calls that a step made before.

use serde::{Deserialize, Serialize};

use crate::model::CallKey;
use crate::model::event::CallKind;

use super::CallOutcome;

/// A call that changed something before, or that may have done so.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EarlierCall {
    /// The key.
    pub key: CallKey,
    /// What it does.
    pub kind: CallKind,
    /// The tool and a short form of its arguments.
    pub arguments: String,
    /// How it ended.
    pub outcome: CallOutcome,
    /// Whether it is not known whether the call took effect.
    pub is_effect_unknown: bool,
}
