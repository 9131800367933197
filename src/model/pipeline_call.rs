//! Calls of pipelines by models.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::id::{Digest, StepKey};
use super::tool::{ToolOutput, call_summary};

/// What a call of a pipeline returned to a model, as recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PipelineCallOutput {
    /// The step of the run that contains the steps of the pipeline, such as `manage/design[0]`.
    pub step: StepKey,
    /// The name of the tool and a short form of the arguments.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arguments: String,
    /// What the model received: the outputs, or why the pipeline failed.
    pub result: ToolOutput,
    /// A digest that identifies what the pipeline changed in the workspace; absent if it changed no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Digest>,
}

/// The name of the tool and a short form of the arguments, for events: `design {"topic":"birds"}`.
pub fn pipeline_call_summary(tool: &str, arguments: &Map<String, Value>) -> String {
    call_summary(&format!("{tool} {}", Value::Object(arguments.clone())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_summary_names_the_pipeline_and_is_short() {
        let summary = |topic: &str| {
            let arguments = json!({ "topic": topic });
            pipeline_call_summary("design", arguments.as_object().unwrap())
        };
        assert_eq!(summary("birds"), r#"design {"topic":"birds"}"#);
        assert_eq!(summary(&"x".repeat(500)).chars().count(), 201);
    }
}
