//! Explains the properties of a command's output, which depend on whether the output has a schema.

use crate::config::{OutputType, Project, child_pointer, output_type, steps_with_pointers};
use crate::model::name_scope::is_previous_path;
use crate::model::{Step, StepAction};

/// Advice about a comparison with an exit code that the result `base` of a command never has; `None` for any other value.
pub(super) fn exit_code_advice(project: &Project, base: &str) -> Option<String> {
    let (_, step) = command_with_output(project, base)?;
    matches!(output_type(step), Some(OutputType::BuiltIn(_))).then(|| {
        format!(
            "step `{}` fails with any other exit code; list those that it may end with, as `expect: {{ exit_code: [0, 1] \
             }}`, or `[]` for all",
            step.id
        )
    })
}

/// The command whose output, of this iteration or of the previous one, is the value of the expression `base`.
pub(super) fn command_with_output<'a>(project: &'a Project, base: &str) -> Option<(String, &'a Step)> {
    let name = output_name(base);
    steps_with_pointers(&project.pipeline)
        .into_iter()
        .find(|(_, step)| step.output.as_deref() == Some(name) && matches!(step.action(), Some(StepAction::Command(_))))
}

/// The name of the artifact that an expression reads, of this iteration or of the previous one.
fn output_name(base: &str) -> &str {
    base.rsplit_once('.').filter(|(iteration, _)| is_previous_path(iteration)).map_or(base, |(_, name)| name)
}

/// Advice about a property that the value of the expression `base` does not have; `None` unless the value is the output
/// of a command, of this iteration or of the previous one.
pub(super) fn property_advice(project: &Project, base: &str) -> Option<String> {
    let (name, (pointer, step)) = (output_name(base), command_with_output(project, base)?);
    match output_type(step)? {
        OutputType::BuiltIn(_) => Some(format!(
            "`{base}` is the result of a command; to read the JSON that the command prints, write \
             `schemas/{name}.schema.json`, or set `schema:`"
        )),
        OutputType::Text => Some(format!("`{base}` is the standard output of a command, because of `schema: text`")),
        OutputType::File(file) => {
            let names_schema = project.document.spans.contains(&child_pointer(&pointer, "schema"));
            let reason = if names_schema {
                "because of `schema:`".to_owned()
            } else {
                format!("because `schemas/{file}` has the name of the output; rename one of them to read its exit code")
            };
            Some(format!("`{base}` is the JSON that a command prints, {reason}"))
        }
        OutputType::Any => None,
    }
}
