//! How a value whose type is known fits an argument of a tool of orch. orch converts a text that contains a number or a
//! boolean.

use minijinja::machinery::ast::Stmt;

use super::call_inputs::{InputFit, number_fit};
use super::call_steps::{Parameter, parameter_schema};
use super::types::{Schemas, Type, TypeKind};
use crate::model::BuiltinTool;

/// A parameter of a tool.
#[derive(Clone, Copy)]
pub(super) struct ToolParameter {
    pub(super) tool: BuiltinTool,
    pub(super) parameter: &'static Parameter,
}

impl ToolParameter {
    /// How the value of an expression fits. An argument that is `null` counts as absent.
    pub(super) fn fit(self, source: &str, ty: &Type<'_>) -> InputFit {
        let parameter = self.parameter;
        let (name, expected) = (parameter.name, parameter.kind.describe());
        let accepts = |kind: &TypeKind| {
            *kind == parameter.kind || *kind == TypeKind::Null && !parameter.is_required || *kind == TypeKind::Text
        };
        let Some(kinds) = ty.kinds() else { return InputFit::Always };
        if let Some(wrong) = kinds.iter().find(|kind| !accepts(kind)) {
            let given = wrong.describe();
            return if kinds.iter().any(accepts) {
                InputFit::Sometimes(format!("`{source}` may be {given}, but the argument `{name}` is {expected}"))
            } else {
                InputFit::Never(format!("`{source}` is {given}, but the argument `{name}` is {expected}"))
            };
        }
        match self.text_fit(source, ty) {
            InputFit::Always => self.number_fit(source, ty),
            other => other,
        }
    }

    /// How the texts that a value can be fit a parameter that is a number or a boolean.
    fn text_fit(self, source: &str, ty: &Type<'_>) -> InputFit {
        let is_converted: fn(&str) -> bool = match self.parameter.kind {
            TypeKind::Number => |text: &str| text.trim().parse::<u64>().is_ok(),
            TypeKind::Bool => |text: &str| matches!(text.trim(), "true" | "false"),
            _ => return InputFit::Always,
        };
        let can_fit = |branch: &Type<'_>| match branch {
            Type::Text(Some(texts)) => texts.iter().any(|text| is_converted(text)),
            _ => true,
        };
        let always_fits = |branch: &Type<'_>| match branch {
            Type::Text(Some(texts)) => texts.iter().all(|text| is_converted(text)),
            Type::NumericText => self.parameter.kind == TypeKind::Number,
            other => other.kind() != Some(TypeKind::Text),
        };
        let (branches, name) = (ty.branches(), self.parameter.name);
        let expected = self.parameter.kind.describe();
        if !branches.iter().any(can_fit) {
            return InputFit::Never(format!("`{source}` is never {expected}, but the argument `{name}` is {expected}"));
        }
        if !branches.iter().all(always_fits) {
            return InputFit::Sometimes(format!(
                "`{source}` is a string that may not represent {expected}, but the argument `{name}` is {expected}"
            ));
        }
        InputFit::Always
    }

    fn number_fit(self, source: &str, ty: &Type<'_>) -> InputFit {
        let Some(schema) = parameter_schema(self.tool, self.parameter) else { return InputFit::Always };
        let accepted = Schemas(&std::collections::BTreeMap::new()).document_type(&schema).numbers();
        match accepted {
            Some(range) => {
                number_fit(source, &format!("the argument `{}`", self.parameter.name), ty, &Type::Numeric(range))
            }
            None => InputFit::Always,
        }
    }

    /// Whether a template never renders to a value of the parameter, because its text outside of tags has other
    /// characters.
    pub(super) fn refuses_text(self, parsed: &Stmt<'_>) -> bool {
        let characters = match self.parameter.kind {
            TypeKind::Number => "0123456789+-.,_eE",
            TypeKind::Bool => "truefals",
            _ => return false,
        };
        let Stmt::Template(template) = parsed else { return false };
        let mut statements = template.children.iter();
        statements.any(|statement| match statement {
            Stmt::EmitRaw(inner) => inner.raw.contains(|c: char| !c.is_whitespace() && !characters.contains(c)),
            _ => false,
        })
    }
}
