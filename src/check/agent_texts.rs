//! Checks the message of an agent and the conditions on its reply, and finds requests without any text.

use super::cli_agents::has_tags;
use super::flow::parse_input_entry;
use super::scope::TypeScope;
use super::step_scopes::ScopedStep;
use super::texts::TextChecks;
use crate::config::{child_pointer, item_pointer};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Step;
use crate::model::name_scope::TextScope;

impl<'a> TextChecks<'a> {
    /// Checks an agent's message and the conditions on its reply. `prompt_prints_text` is whether its prompt always
    /// prints a text that is not blank.
    pub(super) fn check_agent(
        &mut self,
        scoped_step: &'a ScopedStep<'a>,
        scope: &TypeScope<'a>,
        prompt_prints_text: bool,
    ) {
        let (step, step_pointer) = (scoped_step.step, &scoped_step.pointer);
        let message_pointer = child_pointer(step_pointer, "message");
        match &step.message {
            Some(message) if message.trim().is_empty() => self.report_empty_message(&message_pointer, step),
            Some(message) => {
                let checked = self.check_template(scoped_step, &message_pointer, message, scope);
                let may_be_blank = checked.is_some_and(|checked| !checked.prints_text);
                if may_be_blank && !prompt_prints_text {
                    let message = format!(
                        "the message and the prompt of step `{}` may both be empty, and the step then fails",
                        step.id
                    );
                    self.report_blank_request(&message_pointer, message);
                }
            }
            // Without a `message`, the message contains every input of the run.
            None => {
                self.used_inputs.extend(self.project.pipeline.inputs.keys().cloned());
                if !prompt_prints_text && !self.has_default_message(scoped_step) {
                    let message =
                        format!("step `{}` has no input, and its prompt may be empty: the step then fails", step.id);
                    self.report_blank_request(&child_pointer(step_pointer, "prompt"), message);
                }
            }
        }
        self.check_accept(scoped_step);
    }

    /// Whether a message that orch builds itself always has a section: for an input, an item or an artifact.
    fn has_default_message(&self, scoped_step: &ScopedStep<'_>) -> bool {
        let mut entries = scoped_step.step.inputs.iter().map(|entry| parse_input_entry(entry));
        !self.project.pipeline.inputs.is_empty()
            || scoped_step.scope.names.item().is_some()
            || entries.any(|(_, is_optional)| !is_optional)
    }

    /// Reports a message that is always empty.
    fn report_empty_message(&mut self, pointer: &str, step: &Step) {
        let span = self.project.document.spans.value(pointer);
        let message = format!("the message of step `{}` is empty", step.id);
        let diagnostic = Diagnostic::error(Code::EmptyMessage, message).with_span(&self.project.document.file, span);
        self.push(diagnostic.with_help("write a message, or remove `message`: orch then builds it from the inputs"));
    }

    /// Reports that a request may contain no text.
    fn report_blank_request(&mut self, pointer: &str, message: String) {
        let span = self.project.document.spans.value(pointer);
        let diagnostic = Diagnostic::warning(Code::EmptyMessage, message).with_span(&self.project.document.file, span);
        self.push(diagnostic.with_help("write a text into the prompt that no condition leaves out"));
    }

    /// Checks the conditions on an agent's reply.
    fn check_accept(&mut self, scoped_step: &'a ScopedStep<'a>) {
        let (step, step_pointer) = (scoped_step.step, &scoped_step.pointer);
        if step.accept.is_empty() {
            return;
        }
        let scope = scoped_step.text_scope(self.project, TextScope::Reply);
        let accept_pointer = child_pointer(step_pointer, "accept");
        for (index, condition) in step.accept.iter().enumerate() {
            let condition_pointer = item_pointer(&accept_pointer, index);
            self.check_condition(
                Some(scoped_step),
                &child_pointer(&condition_pointer, "that"),
                &condition.that,
                &scope,
            );
            if has_tags(&condition.otherwise) {
                let document = &self.project.document;
                let message = "orch sends the text of `else` unchanged: it is not a template";
                let warning = Diagnostic::warning(Code::LiteralPlaceholder, message);
                let span = document.spans.value(&child_pointer(&condition_pointer, "else"));
                let help = "write it without values: the model has them in its prompt";
                self.push(warning.with_span(&document.file, span).with_help(help));
            }
        }
    }
}
