//! Checks the statements of a template, with the names that are in scope at each statement.

use std::sync::Arc;

use minijinja::machinery::ast::{Expr, ForLoop, IfCond, Stmt};

use super::bindings::AssignedValue;
use super::infer::{Checker, TextLocation};
use super::namespaces::MemberChanges;
use super::number_range::NumberRange;
use super::refined_types::object_with_optional_members;
use super::scope::{InferredValue, TypeScope};
use super::truth::ConditionReader;
use super::types::{Type, TypeKind};
use super::unpacking::{AssignedNames, TargetSource};
use crate::diagnostic::Code;
use crate::template::{byte_range, expr_range, parse_template};

/// The maximum depth of includes to follow.
const MAX_INCLUDE_DEPTH: usize = 16;

impl<'a> Checker<'a> {
    /// Checks a prompt or message with its syntax tree.
    pub(super) fn check_template(
        &mut self,
        location: TextLocation,
        text: &'a str,
        parsed: &Stmt<'a>,
        scope: &mut TypeScope<'a>,
    ) {
        let (outer_location, outer_text) =
            (std::mem::replace(&mut self.location, location), std::mem::replace(&mut self.text, text));
        self.is_template = true;
        if let Stmt::Template(parsed) = parsed {
            let assigned_names = AssignedNames::in_statements(&parsed.children);
            let outer_names = std::mem::replace(&mut self.assigned_names, assigned_names);
            if self.is_included {
                self.check_statements(&parsed.children, scope);
            } else {
                self.check_until_stable(&parsed.children, scope);
            }
            self.assigned_names = outer_names;
        }
        (self.location, self.text) = (outer_location, outer_text);
    }

    pub(super) fn check_statements(&mut self, list: &[Stmt<'a>], scope: &mut TypeScope<'a>) {
        for statement in list {
            self.check_statement(statement, scope);
        }
    }

    fn check_statement(&mut self, statement: &Stmt<'a>, scope: &mut TypeScope<'a>) {
        match statement {
            Stmt::Template(inner) => self.check_statements(&inner.children, scope),
            Stmt::EmitExpr(inner) => self.check_printed_value(&inner.expr, scope),
            Stmt::ForLoop(inner) => self.check_for_loop(inner, scope),
            Stmt::IfCond(inner) => self.check_if(inner, scope),
            Stmt::WithBlock(inner) => {
                let mut block_scope = scope.clone();
                for (target, value) in &inner.assignments {
                    let assigned = self.infer_assigned(target, value, &block_scope);
                    self.bind_target(target, assigned, TargetSource::Value(value), &mut block_scope);
                }
                self.check_statements(&inner.body, &mut block_scope);
                scope.adopt_members(&block_scope, &MemberChanges::in_statements(&inner.body));
            }
            Stmt::Set(inner) => {
                let assigned = self.infer_assigned(&inner.target, &inner.expr, scope);
                self.bind_target(&inner.target, assigned, TargetSource::Value(&inner.expr), scope);
            }
            // Variables that the text of a block sets exist after the block too.
            Stmt::SetBlock(inner) => {
                self.check_unprinted_statements(&inner.body, scope);
                let inferred = match &inner.filter {
                    Some(filter) => self.infer(filter, scope),
                    None => InferredValue::defined(Type::Text(None)),
                };
                self.bind_target(&inner.target, AssignedValue::defined(inferred), TargetSource::Part, scope);
            }
            Stmt::FilterBlock(inner) => {
                self.check_unprinted_statements(&inner.body, scope);
                self.infer(&inner.filter, scope);
            }
            Stmt::Include(inner) => self.check_include(&inner.name, inner.ignore_missing, scope),
            Stmt::EmitRaw(inner) => {
                self.prints_text |= !inner.raw.trim().is_empty();
                self.check_plain_text(byte_range(inner.span()), scope);
            }
            // These statements do not affect types, or inspection has already refused them.
            Stmt::Continue(_)
            | Stmt::Break(_)
            | Stmt::AutoEscape(_)
            | Stmt::Block(_)
            | Stmt::Import(_)
            | Stmt::FromImport(_)
            | Stmt::Extends(_)
            | Stmt::Macro(_)
            | Stmt::CallBlock(_)
            | Stmt::Do(_) => {}
        }
    }

    /// Checks statements whose text the template may not print.
    fn check_unprinted_statements(&mut self, list: &[Stmt<'a>], scope: &mut TypeScope<'a>) {
        let prints_text = self.prints_text;
        self.check_statements(list, scope);
        self.prints_text = prints_text;
    }

    fn check_printed_value(&mut self, expr: &Expr<'a>, scope: &TypeScope<'a>) {
        let finding_count = self.diagnostics.len();
        let inferred = self.infer_printed(expr, scope);
        // Another finding about the value already says what to do.
        if self.diagnostics.len() == finding_count {
            self.check_null_text(expr, &inferred.ty);
        }
        self.prints_text |= !inferred.prints_as_nothing && is_never_blank(expr, &inferred.ty, scope);
        let is_structure = |kind: &TypeKind| matches!(kind, TypeKind::List | TypeKind::Object);
        let Some(kinds) = inferred.ty.kinds() else { return };
        if let Some(kind) = kinds.into_iter().find(is_structure) {
            let source = self.source(expr).to_owned();
            let message = format!("`{source}` is {}, which does not print as JSON", kind.describe());
            let diagnostic = self.warning(Code::PrintsRawStructure, expr_range(expr), message);
            let operand = self.operand_text(expr);
            self.report(diagnostic.with_help(format!("write `{{{{ {operand} | tojson }}}}`, or loop over it")));
        }
    }

    fn check_for_loop(&mut self, inner: &ForLoop<'a>, scope: &mut TypeScope<'a>) {
        let inferred = self.infer_printed(&inner.iter, scope);
        let changes = MemberChanges::in_statements(&inner.body).and(MemberChanges::in_statements(&inner.else_body));
        scope.widen_members(&changes, &self.assigned_members, self.schemas);
        let mut body_scope = scope.clone();
        self.check_iterable(&inner.iter, &inferred.ty);
        self.note_unchecked_use(&inner.iter, &inferred.ty);
        // The body is used only if the list has an item.
        self.assume(&inner.iter, true, &mut body_scope);
        let item = AssignedValue::defined(InferredValue::defined(self.element_type(&inferred.ty)));
        self.bind_target(&inner.target, item, TargetSource::Items(&inner.iter, &inferred.ty), &mut body_scope);
        if let Some(filter) = &inner.filter_expr {
            self.infer(filter, &body_scope);
            self.assume(filter, true, &mut body_scope);
        }
        let loop_variable = loop_type(self.element_type(&inferred.ty));
        body_scope.assign("loop", AssignedValue::defined(InferredValue::defined(loop_variable)));
        body_scope.add_narrowings(self.loop_facts(inner, &inferred.ty));
        // An earlier iteration may have changed what the loop is over.
        body_scope.forget_members(&changes, &self.assigned_members);
        for condition in self.loop_conditions(inner, &body_scope) {
            body_scope.add_assumption(condition);
        }
        self.check_unprinted_statements(&inner.body, &mut body_scope);
        self.check_loop_assignments(&inner.body, scope);
        self.check_unprinted_statements(&inner.else_body, &mut scope.clone());
    }

    /// Reports a value over which a loop can't, or not always, iterate. Warns about a string, because a loop iterates
    /// over its characters.
    fn check_iterable(&mut self, iter: &Expr<'a>, ty: &Type<'a>) {
        let is_not_iterable = |kind: &TypeKind| matches!(kind, TypeKind::Null | TypeKind::Bool | TypeKind::Number);
        let Some(kinds) = ty.kinds() else { return };
        let source = self.source(iter);
        let Some(kind) = kinds.iter().copied().find(is_not_iterable) else {
            if kinds.contains(&TypeKind::Text) {
                let verb = if kinds == [TypeKind::Text] { "is" } else { "may be" };
                let message = format!("`{source}` {verb} a string: the loop iterates over its characters");
                let diagnostic = self.warning(Code::UnsupportedOperation, expr_range(iter), message);
                self.report(diagnostic.with_help(format!("for its lines: `{} | lines`", self.operand_text(iter))));
            }
            return;
        };
        let diagnostic = if kinds.iter().all(is_not_iterable) {
            let message = format!("`{source}` is {}; a loop cannot iterate over it", ty.describe());
            self.error(Code::UnsupportedOperation, expr_range(iter), message)
        } else {
            let message = format!("`{source}` may be {}; a loop cannot iterate over that", kind.describe());
            self.warning(Code::UnsupportedOperation, expr_range(iter), message)
        };
        self.report(diagnostic);
    }

    fn check_if(&mut self, inner: &IfCond<'a>, scope: &mut TypeScope<'a>) {
        self.infer(&inner.expr, scope);
        self.check_impossible_status(&inner.expr, scope);
        let condition = ConditionReader { schemas: self.schemas, scope }.truth(&inner.expr);
        let (mut true_scope, mut false_scope) = (scope.clone(), scope.clone());
        self.assume(&inner.expr, true, &mut true_scope);
        self.assume(&inner.expr, false, &mut false_scope);
        let prints_text = std::mem::take(&mut self.prints_text);
        self.check_statements(&inner.true_body, &mut true_scope);
        let true_prints_text = std::mem::take(&mut self.prints_text);
        self.check_statements(&inner.false_body, &mut false_scope);
        self.prints_text = prints_text || (true_prints_text && self.prints_text);
        // If one branch ends with `continue` or `break`, the template renders the text after the `if` only after the
        // other branch.
        let leaves_iteration = |body: &[Stmt<'a>]| matches!(body.last(), Some(Stmt::Continue(_) | Stmt::Break(_)));
        if leaves_iteration(&inner.true_body) {
            scope.continue_after(false_scope, &true_scope);
        } else if leaves_iteration(&inner.false_body) {
            scope.continue_after(true_scope, &false_scope);
        } else {
            scope.merge_branches(&condition, &true_scope, &false_scope);
        }
    }

    fn check_include(&mut self, name: &Expr<'a>, ignore_missing: bool, scope: &mut TypeScope<'a>) {
        let Expr::Const(constant) = name else { return };
        let Some(file) = constant.value.as_str().map(str::to_owned) else { return };
        let range = expr_range(name);
        let Some((_, source)) = self.project.prompts.get_key_value(&file) else {
            if !ignore_missing && !super::flow::has_load_diagnostic(self.project, &format!("prompts/{file}")) {
                let diagnostic =
                    self.error(Code::IncludeNotFound, range, format!("there is no prompt `prompts/{file}`"));
                self.report(super::flow::add_missing_prompt_advice(self.project, diagnostic, &file));
            }
            return;
        };
        if self.includes.contains(&file) || self.includes.len() > MAX_INCLUDE_DEPTH {
            let diagnostic = self.error(Code::IncludeCycle, range, format!("`{file}` includes itself"));
            self.report(diagnostic);
            return;
        }
        // Skips a file with mistakes, because the check of that file reports them.
        if self.remaining_includes > 0
            && let Ok(parsed) = parse_template(&source.text)
        {
            self.remaining_includes -= 1;
            self.includes.push(file);
            let was_included = std::mem::replace(&mut self.is_included, true);
            let mut included_scope = scope.clone();
            self.check_template(TextLocation::File(Arc::clone(source)), &source.text, &parsed, &mut included_scope);
            scope.adopt_members(&included_scope, &MemberChanges::any());
            self.is_included = was_included;
            self.includes.pop();
        }
    }

    /// Sets the prompt that the checker checks, so that the checker detects a prompt that includes itself.
    pub(super) fn start_prompt(&mut self, prompt: &str) {
        self.includes = vec![prompt.to_owned()];
    }
}

/// Whether the printed form of an expression's value always has a character other than white space.
fn is_never_blank(expr: &Expr<'_>, ty: &Type<'_>, scope: &TypeScope<'_>) -> bool {
    let is_visible = |branch: &Type<'_>| match branch {
        Type::Text(Some(texts)) => texts.iter().all(|text| !text.trim().is_empty()),
        Type::Text(None) | Type::NonEmptyText => false,
        other => other.kind().is_some(),
    };
    match expr {
        Expr::Const(constant) => constant.value.as_str().is_none_or(|text| !text.trim().is_empty()),
        Expr::Filter(inner) if inner.name == "tojson" => true,
        // orch rejects a blank text as the reply of an agent.
        Expr::Var(var) if scope.is_never_empty(var.id) => true,
        _ => ty.branches().iter().all(is_visible),
    }
}

/// The type of the variable `loop` in a `for` loop over items of a type.
fn loop_type(item: Type<'_>) -> Type<'_> {
    let counts = ["index", "revindex", "length", "depth"].map(|name| (name, NumberRange::FROM_ONE));
    let offsets = ["index0", "revindex0", "depth0"].map(|name| (name, NumberRange::FROM_ZERO));
    let numbers = counts.into_iter().chain(offsets).map(|(name, range)| (name, Type::Numeric(range), false));
    let flags = ["first", "last"].map(|name| (name, Type::Bool, false));
    let neighbors = ["previtem", "nextitem"].map(|name| (name, item.clone(), true));
    object_with_optional_members(numbers.chain(flags).chain(neighbors).collect())
}
