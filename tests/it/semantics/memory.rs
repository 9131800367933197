//! What the reference model records in a session: facts with their times, and which of them a later session finds.

use std::collections::BTreeMap;

use serde_json::Value;

use super::script::ScriptedOutcome;

/// An event in the model.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    /// A step without steps inside began.
    Began {
        at: u64,
        path: String,
    },
    Call {
        start: u64,
        end: u64,
        path: String,
        recipe: String,
        say: ScriptedOutcome,
    },
    /// A call that may not begin any more.
    Dropped {
        at: u64,
    },
    Ended {
        at: u64,
        path: String,
        status: &'static str,
        why: String,
        value: Option<Value>,
    },
    /// A result and its inputs.
    Done {
        at: u64,
        path: String,
        recipe: String,
        value: Option<Value>,
        execution: u64,
    },
    File {
        at: u64,
        path: String,
        content: String,
    },
}

impl Fact {
    pub(crate) fn ended(at: u64, path: &str, status: &'static str, why: String) -> Self {
        Self::Ended { at, path: path.to_owned(), status, why, value: None }
    }

    /// Describes the end of a step.
    pub(crate) fn describe_end(&self) -> Option<String> {
        match self {
            Self::Ended { path, status, why, .. } => Some(format!("{path} {status} {why}").trim_end().to_owned()),
            Self::Call { .. } | Self::Began { .. } | Self::Dropped { .. } | Self::Done { .. } | Self::File { .. } => {
                None
            }
        }
    }

    /// When the event happened.
    pub(crate) fn at(&self) -> u64 {
        match self {
            Self::Call { end, .. } => *end,
            Self::Began { at, .. }
            | Self::Dropped { at }
            | Self::Ended { at, .. }
            | Self::Done { at, .. }
            | Self::File { at, .. } => *at,
        }
    }
}

/// A recorded result.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    path: String,
    recipe: String,
    pub(crate) value: Option<Value>,
    pub(crate) execution: u64,
}

/// What earlier sessions recorded about a step that is about to run.
pub(crate) enum RecordedResult<'a> {
    Reusable(&'a Done),
    /// Another step has a result or an outcome for the same inputs.
    Elsewhere,
    Nothing,
}

/// What earlier sessions recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    done: Vec<Done>,
    /// Outcomes of attempts that did not end.
    open: BTreeMap<String, Vec<(String, ScriptedOutcome)>>,
    counts: BTreeMap<String, usize>,
    /// The files of the workspace.
    pub(crate) files: BTreeMap<String, String>,
}

impl Memory {
    pub(crate) fn lookup(&self, path: &str, recipe: &str, touches: bool) -> RecordedResult<'_> {
        let own = || self.done.iter().filter(|done| done.path == path);
        let latest = if touches { own().next_back() } else { own().rfind(|done| done.recipe == recipe) };
        if let Some(done) = latest.filter(|done| done.recipe == recipe) {
            return RecordedResult::Reusable(done);
        }
        let same = |(other, calls): (&String, &Vec<(String, ScriptedOutcome)>)| {
            other != path && calls.iter().any(|(known, _)| known == recipe)
        };
        let elsewhere = self.done.iter().any(|done| done.path != path && done.recipe == recipe);
        if elsewhere || self.open.iter().any(same) { RecordedResult::Elsewhere } else { RecordedResult::Nothing }
    }

    /// How many calls of a step have ended.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.counts.get(path).copied().unwrap_or(0)
    }

    /// The recorded outcomes with which an attempt continues.
    pub(crate) fn replays(&self, path: &str, recipe: &str) -> Vec<ScriptedOutcome> {
        let open = self.open.get(path).map(Vec::as_slice).unwrap_or_default();
        if open.iter().any(|(asked, _)| asked != recipe) {
            return Vec::new();
        }
        open.iter().map(|(_, say)| *say).collect()
    }

    /// Records what a session did until an instant.
    pub(crate) fn learn(&mut self, facts: &[Fact], until: u64) {
        let mut facts: Vec<&Fact> = facts.iter().filter(|fact| fact.at() <= until).collect();
        facts.sort_by_key(|fact| fact.at());
        for fact in facts {
            match fact {
                Fact::Call { say: ScriptedOutcome::Later, .. } | Fact::Began { .. } | Fact::Dropped { .. } => {}
                Fact::Call { path, recipe, say, .. } => {
                    *self.counts.entry(path.clone()).or_default() += 1;
                    let open = self.open.entry(path.clone()).or_default();
                    open.retain(|(asked, _)| asked == recipe);
                    open.push((recipe.clone(), *say));
                }
                Fact::Ended { path, .. } => drop(self.open.remove(path)),
                Fact::Done { path, recipe, value, execution, .. } => self.done.push(Done {
                    path: path.clone(),
                    recipe: recipe.clone(),
                    value: value.clone(),
                    execution: *execution,
                }),
                Fact::File { path, content, .. } => drop(self.files.insert(path.clone(), content.clone())),
            }
        }
    }
}
