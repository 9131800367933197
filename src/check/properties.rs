//! Infers the types of variables and of their properties, and reports unknown names.

use std::ops::Range;

use minijinja::machinery::ast::Expr;

use super::command_outputs::property_advice;
use super::flow::parse_input_entry;
use super::infer::{Checker, TextLocation};
use super::probe::{COMPLETION_MARKER, is_steps_path};
use super::scope::{InferredValue, Narrowing, TypeScope};
use super::step_scopes::PROJECT_VARIABLE;
use super::types::{Property, Type, TypeKind, union};
use crate::config::child_pointer;
use crate::diagnostic::{Code, Diagnostic, did_you_mean, equivalents};
use crate::model::name_scope::{ENDED_STEPS, PARENT_LOOP, PREVIOUS_ITERATION};
use crate::template::expr_range;

/// The property path that begins at this offset, after a name, such as `.build.outputs`.
fn path_after(text: &str, offset: usize) -> &str {
    let remaining = text.get(offset..).unwrap_or_default();
    let length = remaining.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '.')).unwrap_or(remaining.len());
    remaining.get(..length).unwrap_or_default()
}

impl<'a> Checker<'a> {
    pub(super) fn infer_variable(
        &mut self,
        name: &str,
        range: Range<usize>,
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        if let Some(inferred) = scope.get(name) {
            if self.project.pipeline.inputs.contains_key(name) {
                self.used_inputs.push(name.to_owned());
            }
            return inferred.clone();
        }
        if name == COMPLETION_MARKER {
            self.marker_scopes.push(scope.clone());
        }
        // A test in an included prompt has shown that the includer sets the name.
        if self.is_included && scope.has_narrowing(Some(&name.to_owned()), &Narrowing::Defined) {
            return InferredValue::unknown();
        }
        // The name may be an artifact of a pipeline that has mistakes, in a text that sees artifacts without a list or
        // whose step lists the name.
        let may_see_artifact = self.scoped_step.is_none_or(|scoped_step| {
            let inputs = &scoped_step.step.inputs;
            scoped_step.step.repeat.is_some() || inputs.iter().any(|entry| parse_input_entry(entry).0 == name)
        });
        if !may_see_artifact || !self.project.calls_unusable_pipeline() {
            let diagnostic = self.unknown_variable(name, range, scope);
            self.report(diagnostic);
        }
        InferredValue::unknown()
    }

    /// Whether a name that an included prompt only tests may be a parameter that some includers leave out: it is not in
    /// scope, and no name in scope is similar, so it is not misspelt. Other pipelines may include the prompt too.
    pub(super) fn is_optional_parameter(&self, name: &str, scope: &TypeScope<'a>) -> bool {
        let is_unknown = name != COMPLETION_MARKER && scope.get(name).is_none();
        self.is_included && is_unknown && did_you_mean(name, scope.names()).is_none()
    }

    fn unknown_variable(&self, name: &str, range: Range<usize>, scope: &TypeScope<'a>) -> Diagnostic {
        if let Some(diagnostic) = self.hyphenated_name_diagnostic(&range, scope) {
            return diagnostic;
        }
        let name_range = range.clone();
        let diagnostic = self.error(Code::UnknownVariable, range, format!("unknown variable `{name}`"));
        let steps = self.project.pipeline.all_steps();
        let is_output = steps.iter().any(|step| step.output.as_deref() == Some(name));
        if let Some(help) = self.previous_value_help(name).or_else(|| self.own_item_help(name)) {
            return diagnostic.with_help(help);
        }
        match self.scoped_step {
            _ if name == PROJECT_VARIABLE => diagnostic.with_help(
                "only the `run`, `cwd` and `stdin` of a command, and the `command` of an MCP server, can use \
                 `{{ project.root }}`",
            ),
            Some(scoped_step) if scoped_step.scope.names.artifact(name).is_some() => {
                diagnostic.with_help(format!("add `{name}` to the `inputs` of step `{}`", scoped_step.step.id))
            }
            Some(scoped_step) if scoped_step.step.output.as_deref() == Some(name) => {
                diagnostic.with_help(format!("step `{}` itself produces `{name}`", scoped_step.step.id))
            }
            _ if is_output => {
                diagnostic.with_help(format!("a later step produces `{name}`, or it is not in scope here"))
            }
            scoped_step => {
                let mut names: Vec<&str> = scope.names().collect();
                names.sort_unstable();
                let property_path = path_after(self.template_text(), name_range.end);
                let is_known = |name: &str| scope.get(name).is_some();
                if let Some(constant) = equivalents::constant_equivalent(name) {
                    return diagnostic
                        .with_help(format!("write `{constant}` in place of `{name}`"))
                        .with_replacement(name, Some(constant));
                }
                let is_similar = did_you_mean(name, names.iter().copied()).is_some();
                if !is_similar || property_path.split('.').any(is_known) {
                    let has_dollar = self.follows_dollar(&name_range);
                    match equivalents::variable_help(name, property_path, is_known) {
                        // The braces are correct; only the `$` is wrong.
                        Some(help) if has_dollar && help.names_known_variable => {
                            let mut diagnostic = diagnostic;
                            diagnostic.help = vec![format!("{}, without a `$` before the braces", help.advice)];
                            return diagnostic;
                        }
                        Some(help) if !has_dollar => return diagnostic.with_help(help.advice),
                        Some(_) | None => {}
                    }
                }
                let diagnostic = diagnostic.with_suggestion(name, names.iter().copied());
                if !diagnostic.help.is_empty() {
                    return diagnostic;
                }
                let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                let location =
                    scoped_step.map_or("here".to_owned(), |scoped_step| format!("in step `{}`", scoped_step.step.id));
                let diagnostic = diagnostic.with_help(format!("known {location}: {}", quoted.join(", ")));
                match self.literal_braces_advice(&name_range).filter(|_| !self.follows_dollar(&name_range)) {
                    Some(advice) => diagnostic.with_help(advice),
                    None => diagnostic,
                }
            }
        }
    }

    /// Help for an artifact that only the previous iteration has.
    fn previous_value_help(&self, name: &str) -> Option<String> {
        let names = &self.scoped_step?.scope.names;
        let expression = names.previous_artifact(name).filter(|_| names.artifact(name).is_none())?;
        Some(format!("`{expression}` is its value in the previous iteration"))
    }

    /// Help for a variable of the items of a step in its condition or its list.
    fn own_item_help(&self, name: &str) -> Option<String> {
        let scoped_step = self.scoped_step.filter(|_| matches!(name, "item" | "index"))?;
        let list = scoped_step.step.for_each.as_deref()?.trim();
        let TextLocation::Yaml(pointer) = &self.location else { return None };
        let is_key = |key: &str| *pointer == child_pointer(&scoped_step.pointer, key);
        if is_key("when") {
            let filtered = format!("for_each: \"{list} | selectattr(…)\"");
            return Some(format!("orch evaluates `when` once, before the list; to filter items, write `{filtered}`"));
        }
        is_key("for_each").then(|| "orch evaluates the list before there is an item".to_owned())
    }

    /// Returns a diagnostic for a name with hyphens, which an expression interprets as a subtraction, if the same name
    /// with `_` exists.
    fn hyphenated_name_diagnostic(&self, range: &Range<usize>, scope: &TypeScope<'a>) -> Option<Diagnostic> {
        let text = self.template_text();
        let is_name_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let (preceding, following) = (text.get(..range.start)?, text.get(range.end..)?);
        let start = preceding.trim_end_matches(is_name_char).len();
        let end = range.end + (following.len() - following.trim_start_matches(is_name_char).len());
        let hyphenated_name = text.get(start..end)?;
        let name = hyphenated_name.replace('-', "_");
        let is_step_property = text.get(..start)?.ends_with("steps.");
        let is_step = || self.project.pipeline.all_steps().iter().any(|step| step.id == name);
        let is_known = if is_step_property { is_step() } else { scope.get(&name).is_some() };
        if name == hyphenated_name || !is_known {
            return None;
        }
        let diagnostic = self.error(Code::UnknownVariable, start..end, format!("unknown variable `{hyphenated_name}`"));
        Some(diagnostic.with_help(format!("did you mean `{name}`?")).with_replacement(hyphenated_name, Some(&name)))
    }

    /// Infers the type of the property `name` of a value.
    pub(super) fn infer_property(
        &mut self,
        base: &Expr<'a>,
        ty: &Type<'a>,
        name: &str,
        range: Range<usize>,
    ) -> InferredValue<'a> {
        let source = self.source(base).to_owned();
        self.infer_property_of_source(&source, ty, name, range)
    }

    /// Infers the type of the property `name` of a value. `base` is the value's source text, for messages.
    pub(super) fn infer_property_of_source(
        &mut self,
        base: &str,
        ty: &Type<'a>,
        name: &str,
        range: Range<usize>,
    ) -> InferredValue<'a> {
        let (mut types, mut declared_properties, mut may_be_missing, mut is_open) =
            (Vec::new(), Vec::new(), false, false);
        for branch in ty.branches() {
            match (self.schemas.property(&branch, name), &branch) {
                (_, Type::Unknown) => return InferredValue::unknown(),
                (Some(Property::Present(ty)), _) => types.push(ty),
                (Some(Property::Optional(ty)), _) => {
                    types.push(ty);
                    may_be_missing = true;
                }
                (Some(Property::Absent(declared)), _) => {
                    declared_properties.extend(declared);
                    may_be_missing = true;
                }
                (Some(Property::Open(declared)), _) => {
                    declared_properties.extend(declared);
                    may_be_missing = true;
                    is_open = true;
                }
                (None, _) => may_be_missing = true,
            }
        }
        if types.is_empty() && is_open {
            return InferredValue { declared_properties, ..InferredValue::new(Type::Unknown, true) };
        }
        if is_open {
            types.push(Type::Unknown);
        }
        if types.is_empty() {
            let diagnostic = self.unknown_property(base, ty, name, range, &declared_properties);
            self.report(diagnostic);
            return InferredValue::unknown();
        }
        InferredValue::new(union(types), may_be_missing)
    }

    /// Reports a property that the schema does not declare, unless a condition has shown that the property exists, or
    /// the expression only tests whether it exists.
    pub(super) fn require_declared_property(
        &mut self,
        expr: &Expr<'a>,
        inferred: InferredValue<'a>,
        is_existence_test: bool,
        scope: &TypeScope<'a>,
    ) -> InferredValue<'a> {
        let narrowed = self.narrow(InferredValue { declared_properties: Vec::new(), ..inferred.clone() }, expr, scope);
        if inferred.declared_properties.is_empty() || is_existence_test || !narrowed.may_be_undefined {
            return narrowed;
        }
        let (source, full_range) = (self.source(expr).to_owned(), expr_range(expr));
        let (base, name) = source.rsplit_once('.').unwrap_or((source.as_str(), ""));
        let range = full_range.end.saturating_sub(name.len())..full_range.end;
        let diagnostic =
            self.warning(Code::UnknownProperty, range, format!("the schema of `{base}` does not declare `{name}`"));
        let diagnostic = diagnostic.with_suggestion(name, inferred.declared_properties.iter().copied());
        self.report(diagnostic.with_help(format!("if it may exist anyway, test it first: `{source} is defined`")));
        InferredValue::unknown()
    }

    /// Advice for a property name of another language or tool.
    fn foreign_property_help(&self, base: &str, ty: &Type<'a>, name: &str, names: &[&str]) -> Option<String> {
        let is_step = base.rsplit_once('.').is_some_and(|(path, _)| is_steps_path(path));
        if is_step && name == "error" && names.contains(&"status") {
            return Some("only a step that failed or was skipped has an `error`".to_owned());
        }
        if let Some(id) = base.strip_prefix("steps.") {
            let step = self.project.pipeline.all_steps().into_iter().find(|step| step.id == id);
            return equivalents::step_property_help(name, step.and_then(|step| step.output.as_deref()));
        }
        let is_not_object =
            ty.kind().is_some_and(|kind| matches!(kind, TypeKind::List | TypeKind::Text)) || names.is_empty();
        if is_not_object { equivalents::property_help(base, name) } else { None }
    }

    /// Help for a step that only the previous iteration has, and for members of the variable `loop` of an iteration
    /// inside a `for` loop.
    fn iteration_member_help(&self, base: &str, name: &str, names: &[&str]) -> Option<String> {
        let scope = &self.scoped_step?.scope.names;
        if base == ENDED_STEPS {
            let expression = scope.previous_step(name)?;
            return Some(format!("`{expression}` is how the step ended in the previous iteration"));
        }
        let is_in_for_loop = base == "loop" && names.contains(&"revindex") && scope.iteration().is_some();
        (is_in_for_loop && matches!(name, PREVIOUS_ITERATION | PARENT_LOOP))
            .then(|| format!("`loop` belongs to the `for` here; write `{{% set {name} = loop.{name} %}}` before it"))
    }

    fn unknown_property(
        &self,
        base: &str,
        ty: &Type<'a>,
        name: &str,
        range: Range<usize>,
        names: &[&str],
    ) -> Diagnostic {
        let new_diagnostic = |message: String| self.error(Code::UnknownProperty, range.clone(), message);
        let advice = self.foreign_property_help(base, ty, name, names);
        match ty.kind() {
            Some(kind) if kind != TypeKind::Object && advice.is_some() => {
                let diagnostic = new_diagnostic(format!("`{base}` is {} and has no `{name}`", kind.describe()));
                advice.into_iter().fold(diagnostic, Diagnostic::with_help)
            }
            Some(TypeKind::List) => new_diagnostic(format!("`{base}` is a list and has no `{name}`"))
                .with_help(format!("loop over it: `{{% for item in {base} %}}`, or use one item: `{base}[0].{name}`")),
            Some(kind) if kind != TypeKind::Object => {
                let diagnostic = new_diagnostic(format!("`{base}` is {} and has no `{name}`", kind.describe()));
                property_advice(self.project, base).into_iter().fold(diagnostic, Diagnostic::with_help)
            }
            _ => {
                let diagnostic = new_diagnostic(format!("`{base}` has no `{name}`"));
                if let Some(advice) = advice.or_else(|| self.iteration_member_help(base, name, names)) {
                    return diagnostic.with_help(advice);
                }
                let diagnostic = diagnostic.with_suggestion(name, names.iter().copied());
                if !diagnostic.help.is_empty() || names.is_empty() {
                    return diagnostic;
                }
                let unique_names = names.iter().enumerate().filter(|(index, name)| !names[..*index].contains(name));
                let quoted: Vec<String> = unique_names.map(|(_, name)| format!("`{name}`")).collect();
                let diagnostic = diagnostic.with_help(format!("it has {}", quoted.join(", ")));
                property_advice(self.project, base).into_iter().fold(diagnostic, Diagnostic::with_help)
            }
        }
    }
}
