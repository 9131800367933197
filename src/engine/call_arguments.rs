//! The arguments of a step that calls a tool.

use serde_json::{Map, Value};

use crate::durable::Interrupt;
use crate::model::{Failure, StepKey, argument_texts};
use crate::template::{TemplateContext, Templates};

use super::compute::takes_long;
use super::interpret::Interpreter;
use super::node::{CallNode, PlanNode};
use super::scope::ValueScope;
use super::template_failure::template_failure;

/// Renders the templates in the arguments. Work that may take long runs on a separate thread.
pub(super) async fn render_arguments(
    interpreter: Interpreter<'_>,
    key: &StepKey,
    node: &PlanNode,
    call: &CallNode,
    scope: &ValueScope,
) -> Result<Result<Value, Failure>, Interrupt> {
    let templates = &interpreter.plan.templates;
    if !takes_long(scope, argument_texts(&call.args)) {
        return Ok(render(templates, &call.args, &scope.context(node)));
    }
    let (templates, args) = (templates.clone(), call.args.clone());
    let (inputs, scope) = (node.inputs.clone(), scope.snapshot());
    interpreter.compute(key, move || render(&templates, &args, &scope.context_for_inputs(&inputs))).await
}

fn render(templates: &Templates, args: &Map<String, Value>, context: &TemplateContext) -> Result<Value, Failure> {
    let mut arguments = Map::new();
    for (name, value) in args {
        let rendered = templates.render_value(value, context).map_err(|error| {
            let failure = template_failure(error);
            Failure { message: format!("the argument `{name}`: {}", failure.message), ..failure }
        })?;
        arguments.insert(name.clone(), rendered);
    }
    Ok(Value::Object(arguments))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::FailureClass;

    fn context() -> TemplateContext {
        let mut context = TemplateContext::new();
        context.insert("count", &json!(3));
        context.insert("labels", &json!(["a", "b"]));
        context
    }

    fn rendered(args: Value) -> Result<Value, Failure> {
        let Value::Object(args) = args else { panic!("{args} is no object") };
        render(&Templates::new([]).unwrap(), &args, &context())
    }

    #[test]
    fn texts_at_any_depth_are_templates_and_a_sole_expression_keeps_its_type() {
        let args = json!({
            "limit": "{{ count }}", "title": "{{ count }} items\n", "fixed": 1,
            "filter": { "labels": "{{ labels }}", "pages": ["{{ count + 1 }}", null, true] },
        });
        let expected = json!({
            "limit": 3, "title": "3 items\n", "fixed": 1,
            "filter": { "labels": ["a", "b"], "pages": [4, null, true] },
        });
        assert_eq!(rendered(args), Ok(expected));
    }

    #[test]
    fn an_error_names_the_argument() {
        let failure = rendered(json!({ "a": 1, "filter": ["{{ labels.c }}"] })).unwrap_err();
        assert_eq!(failure.class, FailureClass::TemplateError);
        assert!(failure.message.starts_with("the argument `filter`: "), "{failure}");
    }
}
