//! What the reference model keeps of a session: facts with their times, and what of them a later session finds.

use std::collections::BTreeMap;

use serde_json::Value;

use super::script::Say;

/// Something that came about.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    /// A step that has none inside began.
    Began {
        at: u64,
        path: String,
    },
    Call {
        start: u64,
        end: u64,
        path: String,
        recipe: String,
        say: Say,
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
    /// A result with what it is made of.
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

    /// The end of a step, in words.
    pub(crate) fn told(&self) -> Option<String> {
        match self {
            Self::Ended { path, status, why, .. } => Some(format!("{path} {status} {why}").trim_end().to_owned()),
            Self::Call { .. } | Self::Began { .. } | Self::Dropped { .. } | Self::Done { .. } | Self::File { .. } => {
                None
            }
        }
    }

    /// When it came about.
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

/// A result on record.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    path: String,
    recipe: String,
    pub(crate) value: Option<Value>,
    pub(crate) execution: u64,
}

/// What is known of a step that is about to run.
pub(crate) enum Known<'a> {
    Stands(&'a Done),
    /// Another step has a result, or an outcome, for the very same.
    Elsewhere,
    Nothing,
}

/// What earlier sessions left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    done: Vec<Done>,
    /// Outcomes of attempts that did not come to their end.
    open: BTreeMap<String, Vec<(String, Say)>>,
    counts: BTreeMap<String, usize>,
    /// The files of the workspace.
    pub(crate) files: BTreeMap<String, String>,
}

impl Memory {
    pub(crate) fn stands(&self, path: &str, recipe: &str, touches: bool) -> Known<'_> {
        let own = || self.done.iter().filter(|done| done.path == path);
        let latest = if touches { own().next_back() } else { own().rfind(|done| done.recipe == recipe) };
        if let Some(done) = latest.filter(|done| done.recipe == recipe) {
            return Known::Stands(done);
        }
        let same = |(other, calls): (&String, &Vec<(String, Say)>)| {
            other != path && calls.iter().any(|(known, _)| known == recipe)
        };
        let elsewhere = self.done.iter().any(|done| done.path != path && done.recipe == recipe);
        if elsewhere || self.open.iter().any(same) { Known::Elsewhere } else { Known::Nothing }
    }

    /// How many calls of a step have ended.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.counts.get(path).copied().unwrap_or(0)
    }

    /// The outcomes with which an attempt goes on.
    pub(crate) fn replays(&self, path: &str, recipe: &str) -> Vec<Say> {
        let open = self.open.get(path).map(Vec::as_slice).unwrap_or_default();
        if open.iter().any(|(asked, _)| asked != recipe) {
            return Vec::new();
        }
        open.iter().map(|(_, say)| *say).collect()
    }

    /// Takes in what a session did up to an instant.
    pub(crate) fn learn(&mut self, facts: &[Fact], until: u64) {
        let mut facts: Vec<&Fact> = facts.iter().filter(|fact| fact.at() <= until).collect();
        facts.sort_by_key(|fact| fact.at());
        for fact in facts {
            match fact {
                Fact::Call { say: Say::Later, .. } | Fact::Began { .. } | Fact::Dropped { .. } => {}
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
