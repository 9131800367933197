//! A test case of a pipeline: a file in `pipelines/tests/`.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::command_mode::CommandModes;
use super::event::RunStatus;
use super::normalizer::Normalizer;
use super::step_status::StepStatus;

/// A test case: a pipeline, its inputs, recorded replies and results of commands, and the expected results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestCase {
    /// The path of the pipeline file, relative to this file.
    #[schemars(length(min = 1), example = &"../default.yaml")]
    pub pipeline: String,
    /// What the case tests, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"a task becomes a reviewed change")]
    pub description: Option<String>,
    /// The inputs of the run, by name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(example = json!({"task": "Create a User model"}))]
    pub inputs: Map<String, Value>,
    /// The folder with the recorded replies and results of commands, relative to this file. Default: the name of this
    /// file without its extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), example = &"default")]
    pub recordings: Option<String>,
    /// Whether the test repeats the recorded results of commands (`replay`) or runs the commands (`run`); also a mapping
    /// of the ids of steps to one of these. Default: `replay` if the recordings contain results of commands, else `run`.
    #[serde(default, skip_serializing_if = "CommandModes::is_empty")]
    #[schemars(example = &"run", example = json!({"read_diff": "run"}))]
    pub commands: CommandModes,
    /// Rules that make requests comparable: orch replaces each match in the recorded requests and in the requests of the
    /// test before it compares them. Applies in addition to `recordings.normalize` of `orch.yaml`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = json!([{"match": "seed [0-9]+", "as": "seed …"}]))]
    #[schemars(length(max = 256))]
    pub normalize: Vec<Normalizer>,
    /// A folder, relative to this file, whose files orch copies into the workspace before the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), example = &"default-files")]
    pub workspace: Option<String>,
    /// Commands that orch executes in the workspace before the run, in order. Each is a list of a program and its
    /// arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1)), example = json!([["git", "init", "-q"]]))]
    pub setup: Vec<Vec<String>>,
    /// The user's answers to approvals and to the questions about tool calls (`approve_tools`), by the ids of the steps
    /// that ask. A step that asks several times may have a list of answers, in the order of its questions.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(example = json!({"sign_off": {"approved": true, "note": "fine"}}))]
    pub answers: IndexMap<String, CannedAnswers>,
    /// The expected results.
    #[serde(default)]
    #[schemars(example = json!({"status": "completed"}))]
    pub expect: Expected,
}

/// The user's answers to the questions of a step in a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum CannedAnswers {
    /// The answer to each question.
    Same(CannedAnswer),
    /// The answers to the first question, to the second one, and so on. Later questions have no answer.
    InOrder(Vec<CannedAnswer>),
}

impl CannedAnswers {
    /// The answer to a question of a step; `index` is the number of its questions before this one.
    pub fn get(&self, index: usize) -> Option<&CannedAnswer> {
        match self {
            Self::Same(answer) => Some(answer),
            Self::InOrder(answers) => answers.get(index),
        }
    }

    /// Whether an answer names the person who gives it.
    pub fn has_name(&self) -> bool {
        match self {
            Self::Same(answer) => answer.by.is_some(),
            Self::InOrder(answers) => answers.iter().any(|answer| answer.by.is_some()),
        }
    }
}

impl<'de> Deserialize<'de> for CannedAnswers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let answers = if value.is_array() {
            serde_json::from_value(value).map(Self::InOrder)
        } else {
            serde_json::from_value(value).map(Self::Same)
        };
        answers.map_err(D::Error::custom)
    }
}

impl JsonSchema for CannedAnswers {
    fn schema_name() -> Cow<'static, str> {
        "CannedAnswers".into()
    }

    /// A mapping or a list. The schema needs no `anyOf`, because `properties` apply only to a mapping, and `items` only
    /// to a list.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<CannedAnswer>();
        let mut schema = CannedAnswer::json_schema(generator);
        let description =
            "The answer to each question of the step, or a list of answers in the order of its questions.";
        for (keyword, value) in [
            ("type", json!(["object", "array"])),
            ("description", json!(description)),
            ("minItems", json!(1)),
            ("items", item.to_value()),
        ] {
            schema.insert(keyword.to_owned(), value);
        }
        schema
    }
}

/// The user's answer to a question in a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CannedAnswer {
    /// Whether the user approves.
    #[schemars(example = true)]
    pub approved: bool,
    /// The reason for the answer, or what to do instead.
    #[serde(default)]
    #[schemars(example = &"fine")]
    pub note: String,
    /// The name of the person who answers. Default: the name in the recordings, or `test` if they have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1), example = &"ana")]
    pub by: Option<String>,
}

/// The expected results of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The status with which the run must end. Default: `completed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ExpectedRunStatus>", example = &"failed")]
    pub status: Option<RunStatus>,
    /// The statuses with which steps must end, by step key. Steps that are not listed may end with any status.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(with = "IndexMap<String, ExpectedStepStatus>")]
    #[schemars(example = json!({"plan": "completed", "review": "skipped"}))]
    pub steps: IndexMap<String, StepStatus>,
    /// Expressions over the artifacts; each must be true after the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1)), example = json!(["plan.steps | length > 0", "review.score >= 1"]))]
    pub assert: Vec<String>,
    /// Files that must exist in the workspace after the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1)), example = json!(["plan.json"]))]
    pub files: Vec<String>,
}

/// The status with which a run ends.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the schema lists the variants")]
enum ExpectedRunStatus {
    Completed,
    Failed,
    Waiting,
}

/// The status with which a step ends.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "the schema lists the variants")]
enum ExpectedStepStatus {
    Completed,
    Failed,
    Skipped,
    Waiting,
    Cancelled,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_is_for_all_questions_and_a_list_has_one_for_each() {
        let answers = |value: Value| serde_json::from_value::<CannedAnswers>(value).unwrap();
        let answer = |approved| CannedAnswer { approved, note: String::new(), by: None };
        let same = answers(json!({ "approved": true }));
        assert_eq!((same.get(0), same.get(7)), (Some(&answer(true)), Some(&answer(true))));
        let listed = answers(json!([{ "approved": true }, { "approved": false }]));
        assert_eq!((listed.get(0), listed.get(1)), (Some(&answer(true)), Some(&answer(false))));
        assert_eq!(listed.get(2), None);
        assert!(serde_json::from_value::<CannedAnswers>(json!("yes")).is_err());
    }
}
