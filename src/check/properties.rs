//! Infers the types of variables, of their properties and of list items, and reports names that do not exist.

use std::ops::Range;

use minijinja::machinery::ast::Expr;

use super::facts::{index, path};
use super::infer::Checker;
use super::probe::MARK;
use super::scope::{KnownValue, TypeScope};
use super::sites::PROJECT;
use super::types::{Property, Type, TypeKind, union};
use crate::diagnostic::{Code, Diagnostic, did_you_mean, equivalents};
use crate::template::{bytes, extent};

/// The property path that follows a name which ends at this offset, such as `.build.outputs`.
fn path_after(text: &str, end: usize) -> &str {
    let rest = text.get(end..).unwrap_or_default();
    let length = rest.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '.')).unwrap_or(rest.len());
    rest.get(..length).unwrap_or_default()
}

impl<'a> Checker<'a> {
    pub(super) fn variable(&mut self, name: &str, range: Range<usize>, scope: &TypeScope<'a>) -> KnownValue<'a> {
        if let Some(known) = scope.get(name) {
            if self.project.pipeline.inputs.contains_key(name) {
                self.used.push(name.to_owned());
            }
            return known.clone();
        }
        if name == MARK {
            self.seen.push(scope.clone());
        }
        let problem = self.unknown_variable(name, range, scope);
        self.report(problem);
        KnownValue::unknown()
    }

    fn unknown_variable(&self, name: &str, range: Range<usize>, scope: &TypeScope<'a>) -> Diagnostic {
        if let Some(problem) = self.hyphenated(&range, scope) {
            return problem;
        }
        let range_of_name = range.clone();
        let problem = self.error(Code::UnknownVariable, range, format!("unknown variable `{name}`"));
        let steps = self.project.pipeline.all_steps();
        let is_written = steps.iter().any(|step| step.output.as_deref() == Some(name));
        match self.site {
            _ if name == PROJECT => {
                problem.help("only the `run`, `cwd` and `stdin` of a command know the project: `{{ project.root }}`")
            }
            Some(site) if site.view.artifacts.contains_key(name) => {
                let mark =
                    if site.view.artifacts.get(name).is_some_and(|visible| visible.last_round) { "?" } else { "" };
                problem.help(format!("add `{name}{mark}` to the `inputs` of step `{}`", site.step.id))
            }
            Some(site) if site.step.output.as_deref() == Some(name) => {
                problem.help(format!("step `{}` produces `{name}` itself", site.step.id))
            }
            _ if is_written => problem.help(format!("`{name}` is produced only later, or out of reach here")),
            site => {
                let mut names: Vec<&str> = scope.names().collect();
                names.sort_unstable();
                let rest = path_after(self.template_text(), range_of_name.end);
                let known = |name: &str| scope.get(name).is_some();
                if let Some(meant) = equivalents::constant(name) {
                    return problem.help(format!("write `{meant}` in place of `{name}`")).replaced(name, Some(meant));
                }
                let near = did_you_mean(name, names.iter().copied()).is_some();
                if !near || rest.split('.').any(known) {
                    let dollar = self.follows_dollar(&range_of_name);
                    match equivalents::variable(name, rest, known) {
                        // The user means the braces; only the `$` is wrong.
                        Some((advice, true)) if dollar => {
                            let mut problem = problem;
                            problem.help = vec![format!("{advice}, without a `$` before the braces")];
                            return problem;
                        }
                        Some((advice, _)) if !dollar => return problem.help(advice),
                        Some(_) | None => {}
                    }
                }
                let problem = problem.suggest(name, names.iter().copied());
                if !problem.help.is_empty() {
                    return problem;
                }
                let shown: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                let who = site.map_or("here".to_owned(), |site| format!("in step `{}`", site.step.id));
                let problem = problem.help(format!("known {who}: {}", shown.join(", ")));
                match self.braces_as_text(&range_of_name).filter(|_| !self.follows_dollar(&range_of_name)) {
                    Some(advice) => problem.help(advice),
                    None => problem,
                }
            }
        }
    }

    /// The diagnostic for a name with hyphens, which an expression reads as a subtraction, if the same name with `_` is
    /// known.
    fn hyphenated(&self, range: &Range<usize>, scope: &TypeScope<'a>) -> Option<Diagnostic> {
        let text = self.template_text();
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let (before, after) = (text.get(..range.start)?, text.get(range.end..)?);
        let start = before.trim_end_matches(inside).len();
        let end = range.end + (after.len() - after.trim_start_matches(inside).len());
        let written = text.get(start..end)?;
        let name = written.replace('-', "_");
        let of_steps = text.get(..start)?.ends_with("steps.");
        let is_step = || self.project.pipeline.all_steps().iter().any(|step| step.id == name);
        let known = if of_steps { is_step() } else { scope.get(&name).is_some() };
        if name == written || !known {
            return None;
        }
        let problem = self.error(Code::UnknownVariable, start..end, format!("unknown variable `{written}`"));
        Some(problem.help(format!("did you mean `{name}`?")).replaced(written, Some(&name)))
    }

    /// Infers what a value has under a name.
    pub(super) fn property(
        &mut self,
        base: &Expr<'a>,
        ty: &Type<'a>,
        name: &str,
        range: Range<usize>,
    ) -> KnownValue<'a> {
        let written = self.source(base).to_owned();
        self.property_of(&written, ty, name, range)
    }

    pub(super) fn property_of(&mut self, base: &str, ty: &Type<'a>, name: &str, range: Range<usize>) -> KnownValue<'a> {
        let (mut types, mut names, mut missing, mut open) = (Vec::new(), Vec::new(), false, false);
        for branch in ty.branches() {
            match (self.schemas.property(&branch, name), &branch) {
                (_, Type::Unknown) => return KnownValue::unknown(),
                (Some(Property::Present(ty)), _) => types.push(ty),
                (Some(Property::Optional(ty)), _) => {
                    types.push(ty);
                    missing = true;
                }
                (Some(Property::Absent(known)), _) => {
                    names.extend(known);
                    missing = true;
                }
                (Some(Property::Open(known)), _) => {
                    names.extend(known);
                    missing = true;
                    open = true;
                }
                (None, _) => missing = true,
            }
        }
        if types.is_empty() && open {
            return KnownValue { unnamed: names, ..KnownValue::maybe(Type::Unknown, true) };
        }
        if open {
            types.push(Type::Unknown);
        }
        if types.is_empty() {
            let problem = self.no_property(base, ty, name, range, &names);
            self.report(problem);
            return KnownValue::unknown();
        }
        KnownValue::maybe(union(types), missing)
    }

    /// Reports a property that the schema does not name, unless a condition has shown that it exists, or the expression
    /// only tests whether it does.
    pub(super) fn named(
        &mut self,
        expr: &Expr<'a>,
        known: KnownValue<'a>,
        asking: bool,
        scope: &TypeScope<'a>,
    ) -> KnownValue<'a> {
        let narrowed = self.narrowed(KnownValue { unnamed: Vec::new(), ..known.clone() }, path(expr).as_ref(), scope);
        if known.unnamed.is_empty() || asking || !narrowed.maybe {
            return narrowed;
        }
        let (written, at) = (self.source(expr).to_owned(), extent(expr));
        let (base, name) = written.rsplit_once('.').unwrap_or((written.as_str(), ""));
        let range = at.end.saturating_sub(name.len())..at.end;
        let problem = self.warning(Code::UnknownProperty, range, format!("the schema of `{base}` names no `{name}`"));
        let problem = problem.suggest(name, known.unnamed.iter().copied());
        self.report(problem.help(format!("if it may be there all the same, ask: `{written} is defined`")));
        KnownValue::unknown()
    }

    /// Advice for a property that other languages or tools have.
    fn known_elsewhere(&self, base: &str, ty: &Type<'a>, name: &str, names: &[&str]) -> Option<String> {
        if let Some(id) = base.strip_prefix("steps.") {
            let step = self.project.pipeline.all_steps().into_iter().find(|step| step.id == id);
            return equivalents::of_step(name, step.and_then(|step| step.output.as_deref()));
        }
        let plain = ty.kind().is_some_and(|kind| matches!(kind, TypeKind::List | TypeKind::Text)) || names.is_empty();
        if plain { equivalents::property(base, name) } else { None }
    }

    fn no_property(&self, base: &str, ty: &Type<'a>, name: &str, range: Range<usize>, names: &[&str]) -> Diagnostic {
        let new = |message: String| self.error(Code::UnknownProperty, range.clone(), message);
        let known_elsewhere = self.known_elsewhere(base, ty, name, names);
        match ty.kind() {
            Some(kind) if kind != TypeKind::Object && known_elsewhere.is_some() => {
                let problem = new(format!("`{base}` is {} and has no `{name}`", kind.words()));
                known_elsewhere.into_iter().fold(problem, Diagnostic::help)
            }
            Some(TypeKind::List) => new(format!("`{base}` is a list and has no `{name}`"))
                .help(format!("loop over it: `{{% for item in {base} %}}`, or take one: `{base}[0].{name}`")),
            Some(kind) if kind != TypeKind::Object => new(format!("`{base}` is {} and has no `{name}`", kind.words())),
            _ => {
                let problem = new(format!("`{base}` has no `{name}`"));
                if let Some(advice) = known_elsewhere {
                    return problem.help(advice);
                }
                let problem = problem.suggest(name, names.iter().copied());
                if !problem.help.is_empty() || names.is_empty() {
                    return problem;
                }
                let once = names.iter().enumerate().filter(|(index, name)| !names[..*index].contains(name));
                let shown: Vec<String> = once.map(|(_, name)| format!("`{name}`")).collect();
                problem.help(format!("it has {}", shown.join(", ")))
            }
        }
    }

    pub(super) fn item(
        &mut self,
        base: &Expr<'a>,
        ty: &Type<'a>,
        key: &Expr<'a>,
        scope: &TypeScope<'a>,
    ) -> KnownValue<'a> {
        if let Some(index) = index(key) {
            return self.numbered(base, ty, index, bytes(key.span()), scope);
        }
        let Expr::Const(constant) = key else {
            self.value(key, scope);
            return KnownValue::is(self.schemas.items(ty));
        };
        match constant.value.as_str() {
            Some(name) => self.property(base, ty, name, extent(key)),
            None => KnownValue::unknown(),
        }
    }

    /// Infers what a value has at an index: only lists and strings have items, and a list may have too few of them.
    fn numbered(
        &mut self,
        base: &Expr<'a>,
        ty: &Type<'a>,
        index: i64,
        at: Range<usize>,
        scope: &TypeScope<'a>,
    ) -> KnownValue<'a> {
        let needed = index.unsigned_abs() + u64::from(index >= 0);
        let shown = scope.least(path(base).as_ref());
        let (mut types, mut maybe) = (Vec::new(), false);
        for branch in ty.branches() {
            match branch.kind() {
                None => return KnownValue::unknown(),
                Some(TypeKind::List) => {
                    maybe |= needed > branch.least_length().max(shown);
                    types.push(self.schemas.items(&branch));
                }
                Some(TypeKind::Text) => {
                    maybe = true;
                    types.push(Type::Text(None));
                }
                Some(TypeKind::Null | TypeKind::Bool | TypeKind::Number | TypeKind::Object) => maybe = true,
            }
        }
        if types.is_empty() {
            let has = if ty.kind() == Some(TypeKind::Object) { "has no items by number" } else { "has no items" };
            let message = format!("`{}` is {} and {has}", self.source(base), ty.words());
            let problem = self.error(Code::UnknownProperty, at, message);
            self.report(problem);
            return KnownValue::unknown();
        }
        KnownValue::maybe(union(types), maybe)
    }
}
