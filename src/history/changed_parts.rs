//! Describes the parts of a fingerprint that changed, as the reason why a step runs again.

use crate::model::event::{FingerprintPart, PartKind};

/// Describes the parts of a fingerprint that differ: `prompt planner.md changed`.
pub(super) fn describe_changes(old: &[FingerprintPart], new: &[FingerprintPart]) -> Vec<String> {
    if old.is_empty() {
        return Vec::new();
    }
    let find_digest = |parts: &[FingerprintPart], kind: &PartKind| {
        parts.iter().find(|part| part.kind == *kind).map(|part| part.digest.clone())
    };
    let mut descriptions = Vec::new();
    for part in new {
        match find_digest(old, &part.kind) {
            Some(digest) if digest == part.digest => {}
            Some(_) => descriptions.push(format!("{} changed", part.kind)),
            None => descriptions.push(format!("{} is new", part.kind)),
        }
    }
    descriptions.extend(
        old.iter()
            .filter(|part| find_digest(new, &part.kind).is_none())
            .map(|part| format!("{} was removed", part.kind)),
    );
    descriptions
}
