//! The environment variables that pipelines pass to confined programs: the `env` of agents, and of commands with a
//! `sandbox`.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

use crate::model::visible::escape_line_breaks;

/// The variables that an agent or a step passes to its programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableDisclosure {
    /// The pipeline file, relative to the root of the project.
    pub pipeline: String,
    /// The agent or the step: "agent `fixer`".
    pub owner: String,
    /// The programs: "the commands of its model".
    pub programs: &'static str,
    /// The names of the variables.
    pub names: BTreeSet<String>,
}

impl fmt::Display for VariableDisclosure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let text = format!("{}: {} passes {} to {}", self.pipeline, self.owner, names.join(", "), self.programs);
        f.write_str(&escape_line_breaks(&text))
    }
}

/// The variables that several agents and steps pass to their programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VariableDisclosures(Vec<VariableDisclosure>);

impl VariableDisclosures {
    /// The list of these disclosures.
    pub fn new(disclosures: Vec<VariableDisclosure>) -> Self {
        Self(disclosures)
    }

    /// Whether no variable is passed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All disclosures, in the order of the files.
    pub fn all(&self) -> &[VariableDisclosure] {
        &self.0
    }

    /// The names of all variables. An agreement covers these names, so it stays valid if another agent or step of the
    /// project passes one of them.
    pub fn names(&self) -> BTreeSet<String> {
        self.0.iter().flat_map(|disclosure| disclosure.names.iter().cloned()).collect()
    }

    /// Adds the disclosures of another list that this one lacks.
    #[must_use]
    pub fn merged_with(mut self, other: &Self) -> Self {
        for disclosure in &other.0 {
            if !self.0.contains(disclosure) {
                self.0.push(disclosure.clone());
            }
        }
        self
    }

    /// The disclosures as JSON: a list of `{pipeline, owner, variables}`.
    pub fn to_json(&self) -> Value {
        let entry = |disclosure: &VariableDisclosure| {
            json!({
                "pipeline": disclosure.pipeline,
                "owner": disclosure.owner.replace('`', ""),
                "variables": disclosure.names,
            })
        };
        self.0.iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disclosure(pipeline: &str, names: &[&str]) -> VariableDisclosure {
        VariableDisclosure {
            pipeline: pipeline.to_owned(),
            owner: "agent `fixer`".to_owned(),
            programs: "the commands of its model",
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn a_disclosure_names_the_variables_on_one_line() {
        let disclosure = disclosure("pipelines/b\nc.yaml", &["B", "A"]);
        let expected = "pipelines/b\\nc.yaml: agent `fixer` passes A, B to the commands of its model";
        assert_eq!(disclosure.to_string(), expected);
        let json = VariableDisclosures::new(vec![disclosure]).to_json();
        let expected = json!({ "pipeline": "pipelines/b\nc.yaml", "owner": "agent fixer", "variables": ["A", "B"] });
        assert_eq!(json, json!([expected]));
    }

    #[test]
    fn merged_lists_contain_each_disclosure_once() {
        let list = |disclosures: &[VariableDisclosure]| VariableDisclosures::new(disclosures.to_vec());
        let (first, second) = (disclosure("a", &["X", "Y"]), disclosure("b", &["Y", "Z"]));
        let merged = list(std::slice::from_ref(&first)).merged_with(&list(&[first.clone(), second.clone()]));
        assert_eq!(merged.all(), [first, second]);
        assert_eq!(merged.names(), ["X", "Y", "Z"].map(str::to_owned).into());
    }
}
