//! Templates and expressions over data: what a hostile reply may be, in a prompt of anyone.

use orch::template::{TemplateContext, TemplateError, Templates, eval, eval_bool, variables};
use serde_json::Value;

use super::{assert_place, parts};

/// The most text that a template may give, in bytes.
const MAX_OUTPUT: usize = 16 << 20;

/// An error has its place inside of the text, the same text and data give the same result, what is rendered is bounded,
/// and what an expression gives is JSON that can be used again.
pub fn template(input: &[u8]) {
    let [text, included, data]: [String; 3] = parts(input);
    let mut context = TemplateContext::new();
    let data: Value = serde_json::from_str(&data).unwrap_or_default();
    context.insert("data", &data);
    if let Value::Object(members) = &data {
        members.iter().for_each(|(name, value)| context.insert(name, value));
    }
    render(&text, &included, &context);
    evaluate(&text, &context);
}

fn render(text: &str, included: &str, context: &TemplateContext) {
    let templates = match Templates::new([("a.md", included)]) {
        Ok(templates) => templates,
        Err(errors) => {
            for error in &errors {
                assert_error(error, included);
            }
            Templates::new([]).expect("no template is wrong")
        }
    };
    templates.variables_inline(text);
    let rendered = templates.render_inline(text, context);
    assert_eq!(rendered, templates.render_inline(text, context));
    match rendered {
        Ok(rendered) => assert!(rendered.len() <= MAX_OUTPUT),
        Err(error) => assert_error(&error, if error.file.is_some() { included } else { text }),
    }
    let script = templates.render_shell(text, context);
    assert_eq!(script, templates.render_shell(text, context));
    match script {
        Ok(script) => assert!(script.values.iter().all(|(name, _)| script.script.contains(name))),
        Err(error) => assert_error(&error, if error.file.is_some() { included } else { text }),
    }
}

fn evaluate(text: &str, context: &TemplateContext) {
    variables(text);
    let result = eval(text, context);
    assert_eq!(result, eval(text, context));
    match result {
        Ok(value) => {
            assert_eq!(eval_bool(text, context).is_ok(), value.is_boolean());
            let mut again = TemplateContext::new();
            again.insert("value", &value);
            assert_eq!(eval("value", &again).as_ref(), Ok(&value), "a value is not the same after it was used");
        }
        Err(error) => assert_error(&error, text),
    }
}

fn assert_error(error: &TemplateError, text: &str) {
    assert!(!error.message.is_empty() && error.line >= 1);
    assert_place(text, &error.range, error);
    assert!(error.message.len() < 4096, "a message of {} bytes", error.message.len());
}
