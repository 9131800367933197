//! What a CLI agent or a tool did, as recorded: above all, the files that it changed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::usage::{ReportedUsage, Usage};
use super::visible::escape_line_breaks;

/// The maximum number of reasons in a sentence about a partial comparison.
const MAX_NAMED_REASONS: usize = 3;

/// What a CLI agent did besides replying, as recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentActivity {
    /// The id of its session, if there is no reply that contains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Its usage, if there is no reply that contains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ReportedUsage>,
    /// The total usage that its session had reported at the end of this turn, if it reports session totals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_usage: Option<Usage>,
    /// The tools that it used, one line each, in order; at most a thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// The workspace files that were added, deleted or changed during the turn, sorted; at most a thousand. Always
    /// empty if the agent has no write access.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Whether `changed` may lack files, because orch could not compare all of them with their state before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Why orch could not compare all files, one phrase for each reason. May be empty in a record of an earlier version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partial_reasons: Vec<String>,
    /// The contents of these files before and after the turn, in the same form as for a `write` step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Value>,
    /// Changed files that `files` does not contain, for example because they are too large or contain a secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// Why `files` does not contain each of the files in `left_out`, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out_reasons: BTreeMap<String, LeftOutReason>,
    /// Tools that it requested and orch or the agent denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<String>,
}

impl AgentActivity {
    /// Nothing is known about the changes, for this reason.
    pub fn with_unknown_changes(reason: impl Into<String>) -> Self {
        let mut activity = Self::default();
        activity.add_partial_reason(reason);
        activity
    }

    /// Whether the agent did nothing besides replying.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a changed file whose content orch does not record, for this reason.
    pub fn leave_out(&mut self, path: String, reason: LeftOutReason) {
        self.left_out.push(path.clone());
        self.left_out_reasons.insert(path, reason);
    }

    /// Adds a reason why orch could not compare all files, so that `changed` may lack some of them.
    pub fn add_partial_reason(&mut self, reason: impl Into<String>) {
        self.partial = true;
        let reason = reason.into();
        if !self.partial_reasons.contains(&reason) {
            self.partial_reasons.push(reason);
        }
    }

    /// Whether a file changed, or may have changed without orch's knowledge.
    pub fn may_have_changed_files(&self) -> bool {
        self.partial || !self.changed.is_empty()
    }

    /// A sentence about the files that `changed` may lack, for models and users; `None` if it lacks none.
    pub fn partial_note(&self) -> Option<String> {
        let files = if self.changed.is_empty() { "files" } else { "more files" };
        self.partial.then(|| format!("{}; {files} may have changed", describe_partial(&self.partial_reasons)))
    }
}

/// Why orch did not record the content of a changed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LeftOutReason {
    /// The file is larger than 1 MiB.
    TooLarge,
    /// The files of the workspace together are larger than 64 MiB.
    WorkspaceTooLarge,
    /// It is not a regular file, but for example a link.
    NotRegular,
    /// orch could not read it.
    Unreadable,
    /// It contains a secret.
    Secret,
    /// Another process may have changed it.
    OtherProcess,
    /// orch did not see all files of the workspace, so it does not know whether the file existed before.
    IncompleteList,
    /// It is one of orch's own temporary files, or a folder with records of runs, or it looks like one.
    OwnFile,
}

impl LeftOutReason {
    /// The reason as a clause, with `it` for the file.
    pub fn as_clause(self) -> &'static str {
        match self {
            Self::TooLarge => "it is larger than 1 MiB",
            Self::WorkspaceTooLarge => "the files of the workspace together are larger than 64 MiB",
            Self::NotRegular => "it is not a regular file",
            Self::Unreadable => "orch could not read it",
            Self::Secret => "it contains a secret",
            Self::OtherProcess => "another process may have changed it",
            Self::IncompleteList => "orch could not list all files of the workspace",
            Self::OwnFile => "it has the name of a temporary file of orch or of a folder with records of runs",
        }
    }
}

/// Says that orch could not compare all files with their state before, and why.
pub fn describe_partial(reasons: &[String]) -> String {
    let Some(named) = reasons.get(..reasons.len().min(MAX_NAMED_REASONS)).filter(|named| !named.is_empty()) else {
        return "orch could not compare everything".to_owned();
    };
    let others = if reasons.len() > named.len() { ", and others" } else { "" };
    // A reason may contain the path of a file.
    let named = named.join(", ");
    format!("orch could not compare everything: {}{others}", escape_line_breaks(&named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_comparison_has_a_note_with_its_reasons() {
        assert_eq!(AgentActivity::default().partial_note(), None);
        let mut activity = AgentActivity { partial: true, ..AgentActivity::default() };
        let note = |activity: &AgentActivity| activity.partial_note().unwrap();
        assert_eq!(note(&activity), "orch could not compare everything; files may have changed");
        activity.changed.push("a".to_owned());
        activity.add_partial_reason("`b` can't be read");
        activity.add_partial_reason("`b` can't be read");
        let expected = "orch could not compare everything: `b` can't be read; more files may have changed";
        assert_eq!(note(&activity), expected);
        assert_eq!(describe_partial(&["`a\nb`".to_owned()]), "orch could not compare everything: `a\\nb`");
        for reason in ["c", "d", "e"] {
            activity.add_partial_reason(reason);
        }
        let expected = "orch could not compare everything: `b` can't be read, c, d, and others; more files may";
        assert!(note(&activity).starts_with(expected), "{}", note(&activity));
    }

    #[test]
    fn unknown_changes_are_not_the_absence_of_changes() {
        let unknown = AgentActivity::with_unknown_changes("orch was killed");
        assert!(unknown.may_have_changed_files() && !unknown.is_empty());
        assert!(!AgentActivity::default().may_have_changed_files());
        let old: AgentActivity = serde_json::from_str(r#"{"partial":true}"#).unwrap();
        assert!(old.may_have_changed_files() && old.partial_reasons.is_empty(), "a record without reasons");
    }
}
