//! Checks steps that call a tool: the tool must exist and be usable, its arguments must be known and complete, and only a
//! call that changes nothing may be retried. `call_arguments` checks the texts in the arguments.

use serde_json::Value;

use super::mcp_names;
use super::tool_names::unknown_tool;
use super::tools::unusable_tool;
use super::types::TypeKind;
use crate::config::{Project, child_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::{BuiltinTool, McpAccess, McpGrant, McpToolName, SandboxSpec, Step, ToolGrant};
use crate::schema::Schema;
use crate::tool;

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (pointer, step) in steps_with_pointers(&project.pipeline) {
        if let Some(name) = &step.call {
            CallCheck { project, pointer: &pointer, step, name }.check(&mut diagnostics);
        }
    }
    diagnostics
}

/// A parameter of a tool of orch.
pub(super) struct Parameter {
    /// The name.
    pub(super) name: &'static str,
    /// The type of its values.
    pub(super) kind: TypeKind,
    /// Whether each call must have it.
    pub(super) is_required: bool,
}

const fn required(name: &'static str) -> Parameter {
    Parameter { name, kind: TypeKind::Text, is_required: true }
}

const fn optional(name: &'static str, kind: TypeKind) -> Parameter {
    Parameter { name, kind, is_required: false }
}

const READ: &[Parameter] = &[required("path"), optional("from", TypeKind::Number), optional("lines", TypeKind::Number)];
const LIST: &[Parameter] = &[optional("path", TypeKind::Text), optional("glob", TypeKind::Text)];
const SEARCH: &[Parameter] = &[required("regex"), optional("glob", TypeKind::Text)];
const EDIT: &[Parameter] = &[required("path"), required("old"), required("new"), optional("all", TypeKind::Bool)];
const WRITE: &[Parameter] = &[required("path"), required("content")];
const SHELL: &[Parameter] = &[required("command"), optional("timeout", TypeKind::Number)];
const FETCH: &[Parameter] = &[required("url")];

/// The parameters of a tool of orch. A test compares them with the definitions for models.
pub(super) fn parameters(tool: BuiltinTool) -> &'static [Parameter] {
    match tool {
        BuiltinTool::Read => READ,
        BuiltinTool::List => LIST,
        BuiltinTool::Search => SEARCH,
        BuiltinTool::Edit => EDIT,
        BuiltinTool::Write => WRITE,
        BuiltinTool::Shell => SHELL,
        BuiltinTool::Fetch => FETCH,
    }
}

/// The check of one step.
struct CallCheck<'a> {
    project: &'a Project,
    pointer: &'a str,
    step: &'a Step,
    /// The name of the tool.
    name: &'a str,
}

impl CallCheck<'_> {
    fn key_pointer(&self, key: &str) -> String {
        child_pointer(self.pointer, key)
    }

    fn at_key(&self, diagnostic: Diagnostic, pointer: &str) -> Diagnostic {
        let document = &self.project.document;
        diagnostic.with_span(&document.file, document.spans.key(pointer))
    }

    fn at_value(&self, diagnostic: Diagnostic, pointer: &str) -> Diagnostic {
        let document = &self.project.document;
        diagnostic.with_span(&document.file, document.spans.value(pointer))
    }

    fn check(&self, diagnostics: &mut Vec<Diagnostic>) {
        match (self.step.called_builtin(), self.step.called_mcp_tool()) {
            (Some(tool), _) => {
                diagnostics.extend(self.unusable_tool(tool));
                self.check_arguments(tool, diagnostics);
                if !tool.only_reads() {
                    diagnostics.extend(self.retried_write("remove `retry`"));
                }
            }
            (None, Some(name)) => self.check_mcp_tool(name, diagnostics),
            (None, None) => diagnostics.push(self.no_tool()),
        }
    }

    /// The finding for a value of `call` that names no tool.
    fn no_tool(&self) -> Diagnostic {
        let at = |diagnostic| self.at_value(diagnostic, &self.key_pointer("call"));
        let name = self.name.split_once('(').map_or(self.name, |(name, _)| name);
        if name.len() < self.name.len() && BuiltinTool::from_name(name).is_some() {
            let message = format!("`{}` has a pattern, and a step calls a tool without one", self.name);
            return at(Diagnostic::error(Code::UnknownTool, message)).with_help(format!("write `call: {name}`"));
        }
        unknown_tool(name, at)
    }

    fn check_mcp_tool(&self, name: McpToolName, diagnostics: &mut Vec<Diagnostic>) {
        let pointer = self.key_pointer("call");
        let at = |diagnostic| self.at_value(diagnostic, &pointer);
        // `*` stands for all tools of a server, in the tools of an agent.
        if let Ok(Some(grant @ McpGrant { tool: Some(_), .. })) = McpGrant::parse(self.name) {
            diagnostics.extend(mcp_names::unavailable_tool(self.project, &grant, at));
        } else {
            let message = format!("`{}` is no single tool, and a step calls one tool", self.name);
            let help = format!("write `call: {}.TOOL`", name.server);
            diagnostics.push(at(Diagnostic::error(Code::UnknownTool, message)).with_help(help));
        }
        if self.step.sandbox.is_some() {
            let message = "`sandbox` does not apply to a tool of an MCP server";
            let diagnostic = Diagnostic::error(Code::KeyNotApplicable, message);
            let help =
                format!("remove it; the server has its own `sandbox`, under `mcp.{}` in `orch.yaml`", name.server);
            diagnostics.push(self.at_key(diagnostic, &self.key_pointer("sandbox")).with_help(help));
        }
        let server = self.project.settings.mcp.get(&name.server);
        if server.is_some_and(|server| server.access != Some(McpAccess::Read)) {
            let server = &name.server;
            let help = format!(
                "remove `retry`; or, if all calls of the server only read, write `access: read` under `mcp.{server}` in \
                 `orch.yaml`"
            );
            diagnostics.extend(self.retried_write(&help));
        }
    }

    /// The finding for a tool that can do nothing because of the sandbox of the step.
    fn unusable_tool(&self, tool: BuiltinTool) -> Option<Diagnostic> {
        let own = self.step.sandbox.clone().unwrap_or_default();
        let sandbox = SandboxSpec::resolve(&own, &self.project.settings.sandbox, tool.access());
        let (problem, help) = unusable_tool(&ToolGrant { tool, pattern: None }, sandbox.as_ref(), "step")?;
        let diagnostic = Diagnostic::error(Code::UnusableTool, problem);
        let diagnostic = self.at_value(diagnostic, &self.key_pointer("call"));
        // A step names the hosts only in its sandbox.
        let help = if tool == BuiltinTool::Fetch { "list the hosts: `sandbox: { network: [HOST] }`" } else { help };
        Some(diagnostic.with_help(help))
    }

    /// Reports arguments that a tool of orch does not have, that it lacks, and values of another type.
    fn check_arguments(&self, tool: BuiltinTool, diagnostics: &mut Vec<Diagnostic>) {
        let args_pointer = self.key_pointer("args");
        let parameters = parameters(tool);
        for (name, value) in &self.step.args {
            let pointer = child_pointer(&args_pointer, name);
            let Some(parameter) = parameters.iter().find(|parameter| parameter.name == name) else {
                let message = format!("the tool `{tool}` has no argument `{name}`");
                let diagnostic = self.at_key(Diagnostic::error(Code::UnknownPipelineInput, message), &pointer);
                let names = parameters.iter().map(|parameter| parameter.name);
                let diagnostic = diagnostic.with_suggestion(name, names.clone());
                let known: Vec<String> = names.map(|name| format!("`{name}`")).collect();
                let help = format!("its arguments are {}", known.join(", "));
                diagnostics.push(if diagnostic.help.is_empty() { diagnostic.with_help(help) } else { diagnostic });
                continue;
            };
            if !parameter.accepts(value) {
                let (given, expected) = (describe(value), parameter.kind.describe());
                let message = format!("`{name}` of the tool `{tool}` is {given}, not {expected}");
                diagnostics.push(self.at_value(Diagnostic::error(Code::InputMismatch, message), &pointer));
            } else if let Some(message) = refused_constant(tool, parameter, value) {
                diagnostics.push(self.at_value(Diagnostic::error(Code::InputMismatch, message), &pointer));
            }
        }
        // An argument that is `null` counts as absent.
        let is_given =
            |parameter: &&Parameter| self.step.args.get(parameter.name).is_some_and(|value| !value.is_null());
        for parameter in parameters.iter().filter(|parameter| parameter.is_required && !is_given(parameter)) {
            let message = format!("step `{}` calls `{tool}` without the argument `{}`", self.step.id, parameter.name);
            let diagnostic =
                self.at_value(Diagnostic::error(Code::MissingPipelineInput, message), &self.key_pointer("call"));
            let help = format!("add it: `args: {{ {}: TEXT }}`", parameter.name);
            diagnostics.push(diagnostic.with_help(help));
        }
    }

    /// The finding for `retry` of a call that may change something.
    fn retried_write(&self, help: &str) -> Option<Diagnostic> {
        self.step.retry.as_ref().filter(|retry| retry.max != Some(1))?;
        let message = format!("a call of `{}` may change something, so orch never repeats it", self.name);
        let diagnostic = self.at_key(Diagnostic::error(Code::RetriedWrite, message), &self.key_pointer("retry"));
        Some(diagnostic.with_help(help))
    }
}

impl Parameter {
    /// Whether a constant can be a value of the parameter. A text with tags can be anything, and orch converts a text that
    /// contains a number or a boolean.
    fn accepts(&self, value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::String(text) if text.contains("{{") || text.contains("{%") => true,
            Value::String(text) => match self.kind {
                TypeKind::Number => text.trim().parse::<u64>().is_ok(),
                TypeKind::Bool => matches!(text.trim(), "true" | "false"),
                _ => true,
            },
            Value::Number(_) => self.kind == TypeKind::Number,
            Value::Bool(_) => self.kind == TypeKind::Bool,
            Value::Array(_) | Value::Object(_) => false,
        }
    }
}

/// The schema of the values of a parameter, as models get it.
pub(super) fn parameter_schema(tool: BuiltinTool, parameter: &Parameter) -> Option<Value> {
    tool::definition(tool, &[]).parameters.get("properties")?.get(parameter.name).cloned()
}

/// Why a tool refuses a constant of the right type, such as a number below the minimum; `None` if it accepts it.
fn refused_constant(tool: BuiltinTool, parameter: &Parameter, value: &Value) -> Option<String> {
    let name = parameter.name;
    let value = match (value, parameter.kind) {
        (Value::Null, _) => return None,
        (Value::String(text), _) if text.contains("{{") || text.contains("{%") => return None,
        // orch converts a text that contains a number or a boolean.
        (Value::String(text), TypeKind::Number) => Value::from(text.trim().parse::<u64>().ok()?),
        (Value::String(_), TypeKind::Bool) => return None,
        (value, _) => value.clone(),
    };
    if let (BuiltinTool::Search, "regex", Some(regex)) = (tool, name, value.as_str())
        && let Some(problem) = tool::regex_problem(regex)
    {
        return Some(format!("`regex` of the tool `{tool}` can't be used: {problem}"));
    }
    let schema = Schema::compile(name, parameter_schema(tool, parameter)?).ok()?;
    let mismatch = schema.mismatches(&value).into_iter().next()?;
    let (expected, got) = (mismatch.expected, mismatch.got);
    Some(format!("`{name}` of the tool `{tool}` does not fit: expected {expected}, got {got}"))
}

/// Describes the type of a constant.
fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => TypeKind::Null.describe(),
        Value::Bool(_) => TypeKind::Bool.describe(),
        Value::Number(_) => TypeKind::Number.describe(),
        Value::String(_) => TypeKind::Text.describe(),
        Value::Array(_) => TypeKind::List.describe(),
        Value::Object(_) => TypeKind::Object.describe(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_constant_has_the_type_of_its_parameter() {
        let number = optional("from", TypeKind::Number);
        for (value, fits) in [
            (json!(3), true),
            (json!("3"), true),
            (json!("{{ n }}"), true),
            (json!(null), true),
            (json!("three"), false),
            (json!(true), false),
            (json!([3]), false),
        ] {
            assert_eq!(number.accepts(&value), fits, "{value}");
        }
        assert!(required("path").accepts(&json!("a")) && !required("path").accepts(&json!(3)));
        assert!(optional("all", TypeKind::Bool).accepts(&json!(true)));
    }
}
