//! Checks the retries and time limits of steps: each must be able to have an effect.

use crate::config::{OutputType, Project, child_pointer, item_pointer, output_type, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::step::Retry;
use crate::model::{FailureClass, Step, StepAction};

/// The failures that a command never has, whatever its output is.
const NOT_OF_COMMANDS: &[FailureClass] = &[
    FailureClass::RateLimited,
    FailureClass::ProviderUnavailable,
    FailureClass::Auth,
    FailureClass::BadRequest,
    FailureClass::MaxTokensReached,
    FailureClass::Refusal,
    FailureClass::UnknownStop,
    FailureClass::EmptyReply,
    FailureClass::OutputRejected,
    FailureClass::SecretInReply,
    FailureClass::AmbiguousReply,
    FailureClass::AgentError,
    FailureClass::MaxTurnsReached,
    FailureClass::RepeatedToolCall,
    FailureClass::Rejected,
    FailureClass::ApprovalTimeout,
];

/// The failures of loops and of whole runs, which no request and no command has.
const NOT_OF_CALLS: &[FailureClass] = &[FailureClass::SuccessConditionFalse, FailureClass::MaxIterationsReached];

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (pointer, step) in steps_with_pointers(&project.pipeline) {
        let step_check = RetryCheck { project, pointer: &pointer, step };
        diagnostics.extend(step_check.check_time_limits());
        if let Some(retry) = &step.retry {
            diagnostics.extend(step_check.check_number(retry));
            diagnostics.extend(step_check.check_classes(retry));
        }
    }
    diagnostics
}

struct RetryCheck<'a> {
    project: &'a Project,
    pointer: &'a str,
    step: &'a Step,
}

impl RetryCheck<'_> {
    fn warning_at_key(&self, key: &str, message: String) -> Diagnostic {
        let document = &self.project.document;
        let span = document.spans.key(&child_pointer(self.pointer, key));
        Diagnostic::warning(Code::KeyNotApplicable, message).with_span(&document.file, span)
    }

    fn is_command(&self) -> bool {
        matches!(self.step.action(), Some(StepAction::Command(_)))
    }

    /// Reports a time limit that a shorter deadline makes ineffective.
    fn check_time_limits(&self) -> Option<Diagnostic> {
        let (timeout, deadline) = self.step.timeout.zip(self.step.deadline)?;
        if deadline.0 >= timeout.0 {
            return None;
        }
        let message = "`timeout` has no effect: the shorter `deadline` ends the step before".to_owned();
        let help =
            "`timeout` limits each try, and `deadline` the whole step: make `deadline` longer, or remove `timeout`";
        Some(self.warning_at_key("timeout", message).with_help(help))
    }

    /// Reports retries of what orch tries only once by default.
    fn check_number(&self, retry: &Retry) -> Option<Diagnostic> {
        if retry.max.is_some() {
            return None;
        }
        let agent = self.step.agent.as_ref().and_then(|name| self.project.pipeline.agents.get(name));
        let subject = if self.is_command() {
            "a command"
        } else if agent.is_some_and(|agent| agent.cli_kind().is_some() && !agent.tools.names().is_empty()) {
            "a CLI agent with `tools`"
        } else {
            return None;
        };
        let message = format!("`retry` has no effect without `max`: orch runs {subject} only once by default");
        let help = "add `max`, which includes the first attempt: `retry: { max: 3 }`";
        Some(self.warning_at_key("retry", message).with_help(help))
    }

    /// Reports failures that the step never has.
    fn check_classes(&self, retry: &Retry) -> Vec<Diagnostic> {
        let subject = match self.step.action() {
            Some(StepAction::Command(_)) => "a command",
            Some(StepAction::Agent { .. }) => "an agent",
            _ => return Vec::new(),
        };
        let document = &self.project.document;
        let on = child_pointer(&child_pointer(self.pointer, "retry"), "on");
        let classes = retry.on.iter().flatten().enumerate();
        let impossible = classes.filter(|(_, class)| self.never_fails_with(**class)).map(|(index, class)| {
            let message = format!("{subject} never fails with `{class}`");
            let span = document.spans.value(&item_pointer(&on, index));
            Diagnostic::warning(Code::KeyNotApplicable, message).with_span(&document.file, span)
        });
        let help = if self.is_command() {
            "orch retries a command after `command_failed` and `timeout`, unless `on` lists other failures"
        } else {
            "orch retries a request after failures of the provider, unless `on` lists other failures"
        };
        impossible.map(|diagnostic| diagnostic.with_help(help)).collect()
    }

    fn never_fails_with(&self, class: FailureClass) -> bool {
        if NOT_OF_CALLS.contains(&class) {
            return true;
        }
        if !self.is_command() {
            return class == FailureClass::CommandFailed;
        }
        // orch parses the output of a command only if it has a schema.
        let is_parsed = matches!(output_type(self.step), Some(OutputType::Any | OutputType::File(_)));
        let has_text = matches!(output_type(self.step), Some(OutputType::Text));
        match class {
            FailureClass::NoJson => !is_parsed,
            FailureClass::SchemaMismatch => !is_parsed && !has_text,
            class => NOT_OF_COMMANDS.contains(&class),
        }
    }
}
