//! Names with types: variables, properties and items.

use std::ops::Range;

use minijinja::machinery::ast::Expr;

use super::facts::{index, path};
use super::infer::Checker;
use super::look::MARK;
use super::scope::{Known, Scope};
use super::sites::PROJECT;
use super::types::{Kind, Property, Type, union};
use crate::diagnostic::{Code, Diagnostic};
use crate::template::{bytes, extent};

/// What YAML once took for booleans.
const BOOLEANS: &[(&str, &str)] = &[("yes", "true"), ("on", "true"), ("no", "false"), ("off", "false")];

impl<'a> Checker<'a> {
    pub(super) fn variable(&mut self, name: &str, range: Range<usize>, scope: &Scope<'a>) -> Known<'a> {
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
        Known::unknown()
    }

    fn unknown_variable(&self, name: &str, range: Range<usize>, scope: &Scope<'a>) -> Diagnostic {
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
                let problem = problem.suggest(name, names.iter().copied());
                if !problem.help.is_empty() {
                    return problem;
                }
                if let Some((_, meant)) = BOOLEANS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                    return problem.help(format!("write `{meant}`"));
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

    /// What a value has under a name.
    pub(super) fn property(&mut self, base: &Expr<'a>, ty: &Type<'a>, name: &str, range: Range<usize>) -> Known<'a> {
        let written = self.source(base).to_owned();
        self.property_of(&written, ty, name, range)
    }

    pub(super) fn property_of(&mut self, base: &str, ty: &Type<'a>, name: &str, range: Range<usize>) -> Known<'a> {
        let (mut types, mut names, mut missing, mut open) = (Vec::new(), Vec::new(), false, false);
        for branch in ty.branches() {
            match (self.schemas.property(&branch, name), &branch) {
                (_, Type::Unknown) => return Known::unknown(),
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
            return Known { unnamed: names, ..Known::maybe(Type::Unknown, true) };
        }
        if open {
            types.push(Type::Unknown);
        }
        if types.is_empty() {
            let problem = self.no_property(base, ty, name, range, &names);
            self.report(problem);
            return Known::unknown();
        }
        Known::maybe(union(types), missing)
    }

    /// A property that the schema does not name is reported, unless something shows that it is there, or
    /// that is just what is asked.
    pub(super) fn named(&mut self, expr: &Expr<'a>, known: Known<'a>, asking: bool, scope: &Scope<'a>) -> Known<'a> {
        let narrowed = self.narrowed(Known { unnamed: Vec::new(), ..known.clone() }, path(expr).as_ref(), scope);
        if known.unnamed.is_empty() || asking || !narrowed.maybe {
            return narrowed;
        }
        let (written, at) = (self.source(expr).to_owned(), extent(expr));
        let (base, name) = written.rsplit_once('.').unwrap_or((written.as_str(), ""));
        let range = at.end.saturating_sub(name.len())..at.end;
        let problem = self.warning(Code::UnknownProperty, range, format!("the schema of `{base}` names no `{name}`"));
        let problem = problem.suggest(name, known.unnamed.iter().copied());
        self.report(problem.help(format!("if it may be there all the same, ask: `{written} is defined`")));
        Known::unknown()
    }

    fn no_property(&self, base: &str, ty: &Type<'a>, name: &str, range: Range<usize>, names: &[&str]) -> Diagnostic {
        let new = |message: String| self.error(Code::UnknownProperty, range.clone(), message);
        match ty.kind() {
            Some(Kind::List) => new(format!("`{base}` is a list and has no `{name}`"))
                .help(format!("loop over it: `{{% for item in {base} %}}`, or take one: `{base}[0].{name}`")),
            Some(kind) if kind != Kind::Object => new(format!("`{base}` is {} and has no `{name}`", kind.words())),
            _ => {
                let problem = new(format!("`{base}` has no `{name}`")).suggest(name, names.iter().copied());
                if !problem.help.is_empty() || names.is_empty() {
                    return problem;
                }
                let once = names.iter().enumerate().filter(|(index, name)| !names[..*index].contains(name));
                let shown: Vec<String> = once.map(|(_, name)| format!("`{name}`")).collect();
                problem.help(format!("it has {}", shown.join(", ")))
            }
        }
    }

    pub(super) fn item(&mut self, base: &Expr<'a>, ty: &Type<'a>, key: &Expr<'a>, scope: &Scope<'a>) -> Known<'a> {
        if let Some(index) = index(key) {
            return self.numbered(base, ty, index, bytes(key.span()), scope);
        }
        let Expr::Const(constant) = key else {
            self.value(key, scope);
            return Known::is(self.schemas.items(ty));
        };
        match constant.value.as_str() {
            Some(name) => self.property(base, ty, name, extent(key)),
            None => Known::unknown(),
        }
    }

    /// What a value has at a number: only lists have items, and only so many.
    fn numbered(
        &mut self,
        base: &Expr<'a>,
        ty: &Type<'a>,
        index: i64,
        at: Range<usize>,
        scope: &Scope<'a>,
    ) -> Known<'a> {
        let needed = index.unsigned_abs() + u64::from(index >= 0);
        let shown = scope.least(path(base).as_ref());
        let (mut types, mut maybe) = (Vec::new(), false);
        for branch in ty.branches() {
            match branch.kind() {
                None => return Known::unknown(),
                Some(Kind::List) => {
                    maybe |= needed > branch.least_length().max(shown);
                    types.push(self.schemas.items(&branch));
                }
                Some(Kind::Text) => {
                    maybe = true;
                    types.push(Type::Text(None));
                }
                Some(Kind::Null | Kind::Bool | Kind::Number | Kind::Object) => maybe = true,
            }
        }
        if types.is_empty() {
            let has = if ty.kind() == Some(Kind::Object) { "has no items by number" } else { "has no items" };
            let message = format!("`{}` is {} and {has}", self.source(base), ty.words());
            let problem = self.error(Code::UnknownProperty, at, message);
            self.report(problem);
            return Known::unknown();
        }
        Known::maybe(union(types), maybe)
    }
}
