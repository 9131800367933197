//! Checks the statements of a template, with the names that are in scope in each part of it.

use std::sync::Arc;

use minijinja::machinery::ast::{Expr, ForLoop, IfCond, Stmt};
use minijinja::machinery::parse;

use super::facts::facts;
use super::infer::{Checker, ExpressionPlace};
use super::scope::{KnownValue, TypeScope};
use super::types::{ObjectMembers, Type, TypeKind};
use crate::diagnostic::Code;
use crate::template::{bytes, extent, inspect_template, syntax};

/// How many levels deep includes are followed.
const MAX_INCLUDES: usize = 16;

impl<'a> Checker<'a> {
    /// Checks a prompt or message. A text that can't be parsed is skipped, since that is reported elsewhere.
    pub(super) fn template(&mut self, place: ExpressionPlace, text: &'a str, scope: &mut TypeScope<'a>) {
        let (old_place, old_text) =
            (std::mem::replace(&mut self.place, place), std::mem::replace(&mut self.text, text));
        if let Ok(Stmt::Template(parsed)) = parse(text, "template", syntax()) {
            self.stmts(&parsed.children, scope);
        }
        (self.place, self.text) = (old_place, old_text);
    }

    fn stmts(&mut self, list: &[Stmt<'a>], scope: &mut TypeScope<'a>) {
        for stmt in list {
            self.stmt(stmt, scope);
        }
    }

    fn stmt(&mut self, stmt: &Stmt<'a>, scope: &mut TypeScope<'a>) {
        match stmt {
            Stmt::Template(inner) => self.stmts(&inner.children, scope),
            Stmt::EmitExpr(inner) => self.emit(&inner.expr, scope),
            Stmt::ForLoop(inner) => self.for_loop(inner, scope),
            Stmt::IfCond(inner) => self.condition(inner, scope),
            Stmt::WithBlock(inner) => {
                let mut inside = scope.clone();
                for (target, value) in &inner.assignments {
                    let known = self.infer(value, &inside);
                    bind(target, known, &mut inside);
                }
                self.stmts(&inner.body, &mut inside);
            }
            Stmt::Set(inner) => {
                let known = self.infer(&inner.expr, scope);
                bind(&inner.target, known, scope);
            }
            Stmt::SetBlock(inner) => {
                self.stmts(&inner.body, &mut scope.clone());
                let known = match &inner.filter {
                    Some(filter) => self.infer(filter, scope),
                    None => KnownValue::is(Type::Text(None)),
                };
                bind(&inner.target, known, scope);
            }
            Stmt::FilterBlock(inner) => {
                self.infer(&inner.filter, scope);
                self.stmts(&inner.body, &mut scope.clone());
            }
            Stmt::Include(inner) => self.include(&inner.name, inner.ignore_missing, scope),
            Stmt::EmitRaw(inner) => self.plain_text(bytes(inner.span()), scope),
            // These either have no effect on types, or inspection has refused them already.
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

    fn emit(&mut self, expr: &Expr<'a>, scope: &TypeScope<'a>) {
        let known = self.value(expr, scope);
        let structure = |kind: &TypeKind| matches!(kind, TypeKind::List | TypeKind::Object);
        let Some(kinds) = known.ty.kinds() else { return };
        if let Some(kind) = kinds.into_iter().find(structure) {
            let written = self.source(expr).to_owned();
            let message = format!("`{written}` is {}, which does not print as JSON", kind.words());
            let problem = self.warning(Code::PrintsStructure, extent(expr), message);
            self.report(problem.help(format!("write `{{{{ {written} | tojson }}}}`, or loop over it")));
        }
    }

    fn for_loop(&mut self, inner: &ForLoop<'a>, scope: &mut TypeScope<'a>) {
        let known = self.value(&inner.iter, scope);
        let mut inside = scope.clone();
        self.looped(&inner.iter, &known.ty);
        bind(&inner.target, KnownValue::is(self.elements(&known.ty)), &mut inside);
        if let Some(filter) = &inner.filter_expr {
            self.infer(filter, &inside);
            inside.learn(facts(filter, true));
        }
        inside.bind("loop", KnownValue::is(loop_type()));
        self.stmts(&inner.body, &mut inside);
        self.stmts(&inner.else_body, &mut scope.clone());
    }

    /// Reports a value that can't be looped over, or not in every case, or only by its characters.
    fn looped(&mut self, iter: &Expr<'a>, ty: &Type<'a>) {
        let plain = |kind: &TypeKind| matches!(kind, TypeKind::Null | TypeKind::Bool | TypeKind::Number);
        let Some(kinds) = ty.kinds() else { return };
        let written = self.source(iter);
        let Some(kind) = kinds.iter().copied().find(plain) else {
            if kinds.contains(&TypeKind::Text) {
                let word = if kinds == [TypeKind::Text] { "is" } else { "may be" };
                let message = format!("`{written}` {word} a string: the loop goes over its characters");
                let problem = self.warning(Code::WrongOperand, extent(iter), message);
                self.report(problem.help(format!("for its lines: `{written} | lines`")));
            }
            return;
        };
        let problem = if kinds.iter().all(plain) {
            let message = format!("`{written}` is {}; it cannot be looped over", ty.words());
            self.error(Code::WrongOperand, extent(iter), message)
        } else {
            let message = format!("`{written}` may be {}; that cannot be looped over", kind.words());
            self.warning(Code::WrongOperand, extent(iter), message)
        };
        self.report(problem);
    }

    fn condition(&mut self, inner: &IfCond<'a>, scope: &mut TypeScope<'a>) {
        self.infer(&inner.expr, scope);
        let (mut yes, mut no) = (scope.clone(), scope.clone());
        yes.learn(facts(&inner.expr, true));
        no.learn(facts(&inner.expr, false));
        self.stmts(&inner.true_body, &mut yes);
        self.stmts(&inner.false_body, &mut no);
        scope.merge(&yes);
        scope.merge(&no);
        // If a branch leaves the iteration, the text after the `if` runs only in the other case.
        let leaves = |body: &[Stmt<'a>]| matches!(body.last(), Some(Stmt::Continue(_) | Stmt::Break(_)));
        if leaves(&inner.true_body) {
            scope.learn(facts(&inner.expr, false));
        } else if leaves(&inner.false_body) {
            scope.learn(facts(&inner.expr, true));
        }
    }

    fn include(&mut self, name: &Expr<'a>, ignore_missing: bool, scope: &mut TypeScope<'a>) {
        let Expr::Const(constant) = name else { return };
        let Some(file) = constant.value.as_str().map(str::to_owned) else { return };
        let range = extent(name);
        let Some((_, source)) = self.project.prompts.get_key_value(&file) else {
            if !ignore_missing && !super::flow::unreadable(self.project, &format!("prompts/{file}")) {
                let problem = self.error(Code::IncludeNotFound, range, format!("there is no prompt `prompts/{file}`"));
                self.report(super::flow::absent(problem, &file, &self.project.prompt_names, "prompts"));
            }
            return;
        };
        if self.includes.contains(&file) || self.includes.len() > MAX_INCLUDES {
            let problem = self.error(Code::IncludeCycle, range, format!("`{file}` includes itself"));
            self.report(problem);
            return;
        }
        // Mistakes in the file itself are reported once, when the file is checked.
        if self.budget > 0 && inspect_template(&source.text).is_ok() {
            self.budget -= 1;
            self.includes.push(file);
            self.template(ExpressionPlace::File(Arc::clone(source)), &source.text, &mut scope.clone());
            self.includes.pop();
        }
    }

    /// Records the prompt that is being checked, so that an include of itself is found.
    pub(super) fn enter(&mut self, prompt: &str) {
        self.includes = vec![prompt.to_owned()];
    }
}

fn bind<'a>(target: &Expr<'a>, value: KnownValue<'a>, scope: &mut TypeScope<'a>) {
    match target {
        Expr::Var(var) => scope.bind(var.id, value),
        Expr::List(inner) => inner.items.iter().for_each(|item| bind(item, KnownValue::unknown(), scope)),
        Expr::Tuple(inner) => inner.items.iter().for_each(|item| bind(item, KnownValue::unknown(), scope)),
        _ => {}
    }
}

/// The type of the variable `loop` in a `for` loop.
fn loop_type<'a>() -> Type<'a> {
    let numbers = ["index", "index0", "revindex", "revindex0", "length", "depth", "depth0"];
    let mut members: ObjectMembers<'a> = numbers.into_iter().map(|name| (name, Type::Number)).collect();
    members.extend(["first", "last"].map(|name| (name, Type::Bool)));
    members.extend(["previtem", "nextitem"].map(|name| (name, Type::Unknown)));
    Type::Fixed(members.into())
}
