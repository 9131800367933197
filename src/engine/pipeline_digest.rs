//! The digest of the pipelines that a model may call. It is a part of the fingerprint of the model's step, so that orch
//! does not reuse a completed step after one of these pipelines changed.

use serde_json::{Map, Value, json};

use crate::model::Digest;
use crate::template::{Templates, includes};

use super::plan::Resolve;
use super::step_execution::digest;

/// The digest of the pipelines in these files, and of the prompts, schemas and pipelines that they name; `None` if there
/// are no files.
pub(super) fn pipeline_digest<E>(
    files: &[String],
    resolve: &dyn Resolve<E>,
    templates: &Templates,
) -> Result<Option<Digest>, E> {
    Ok(if files.is_empty() { None } else { Some(digest(&contents(files, resolve, templates)?)) })
}

/// The contents of pipeline files, by file name.
fn contents<'f, E>(
    files: impl IntoIterator<Item = &'f String>,
    resolve: &dyn Resolve<E>,
    templates: &Templates,
) -> Result<Value, E> {
    let mut contents = Map::new();
    for file in files {
        contents.insert(file.clone(), content(file, resolve, templates)?);
    }
    Ok(Value::Object(contents))
}

/// A pipeline with everything that it names.
fn content<E>(file: &str, resolve: &dyn Resolve<E>, templates: &Templates) -> Result<Value, E> {
    let (pipeline, resolve) = resolve.pipeline(file)?;
    let steps = pipeline.all_steps();
    let mut prompts = Map::new();
    let mut types = Map::new();
    for step in &steps {
        let inline_templates = step.message.iter().chain(&step.approve).map(String::as_str);
        let included = inline_templates.chain(step.argument_texts()).flat_map(includes);
        for name in step.prompt.iter().cloned().chain(included) {
            let text = templates.source_text(&name);
            prompts.insert(name, Value::String(text));
        }
        if let Some(output) = &step.output {
            types.insert(output.clone(), json!(resolve.artifact_type(step)?.digest()));
        }
    }
    let called_by_steps = steps.iter().filter_map(|step| step.pipeline.as_ref());
    let called_by_models = pipeline.agents.values().flat_map(|agent| &agent.pipelines);
    let called = contents(called_by_steps.chain(called_by_models), &*resolve, templates)?;
    Ok(json!({ "pipeline": pipeline, "prompts": prompts, "types": types, "called": called }))
}
