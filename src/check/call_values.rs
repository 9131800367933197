//! Checks the values of arguments: their kinds, the ranges of numbers, and the constants among them.

use minijinja::machinery::ast::Expr;

use super::arithmetic::range_of;
use super::calls::{CallArgument, CheckedCall};
use super::infer::Checker;
use super::number_narrowing::constant_number;
use super::number_range::NumberRange;
use super::types::{Type, TypeKind};
use crate::diagnostic::Code;
use crate::template::signatures::{ArgumentKind, Parameter};
use crate::template::{FILTERS, TESTS, expr_range};

/// What an argument must be: its kinds, and the range of numbers.
struct ArgumentRule {
    kinds: &'static [TypeKind],
    numbers: NumberRange,
    /// Describes the values, for messages.
    expected: &'static str,
}

impl<'a> Checker<'a> {
    /// Reports an argument whose value the call does not accept.
    pub(super) fn check_argument(
        &mut self,
        call: &CheckedCall<'_>,
        parameter: &Parameter,
        argument: &CallArgument<'_, 'a>,
    ) {
        match parameter.kind {
            ArgumentKind::FilterName => self.check_callable_name(argument, "filter", FILTERS),
            ArgumentKind::TestName => self.check_callable_name(argument, "test", TESTS),
            ArgumentKind::Choice(choices) => self.check_choice(call, parameter, argument, choices),
            kind => {
                if let Some(rule) = argument_rule(kind) {
                    self.check_rule(call, parameter, argument, &rule);
                }
            }
        }
    }

    fn check_rule(
        &mut self,
        call: &CheckedCall<'_>,
        parameter: &Parameter,
        argument: &CallArgument<'_, 'a>,
        rule: &ArgumentRule,
    ) {
        let Some(kinds) = argument.ty.kinds() else { return };
        let is_allowed =
            |kind: &TypeKind| rule.kinds.contains(kind) || (*kind == TypeKind::Null && !parameter.is_required());
        let accepts_numbers = rule.kinds.contains(&TypeKind::Number);
        let numbers = argument.ty.numbers().filter(|range| accepts_numbers && !range.is_empty());
        let is_outside = |range: NumberRange| {
            let is_fraction = rule.numbers.is_integer && range.is_one_number() && !range.is_integer;
            is_fraction
                || range.max < rule.numbers.min
                || range.min > rule.numbers.max
                || (rule.numbers.excludes_zero && range.is_zero())
        };
        let may_be_outside = |range: NumberRange| {
            (rule.numbers.is_integer && !range.is_integer)
                || range.min < rule.numbers.min
                || range.max > rule.numbers.max
                || (rule.numbers.excludes_zero && range.contains(0.0))
        };
        let never_fits = !kinds.iter().any(is_allowed) || numbers.is_some_and(is_outside);
        if !never_fits && kinds.iter().all(is_allowed) && !numbers.is_some_and(may_be_outside) {
            return;
        }
        let (name, label, expected) = (parameter.name, &call.label, rule.expected);
        let (source, verb) = (self.source(argument.expr), if never_fits { "is not" } else { "may not be" });
        let message = format!("the argument `{name}` of {label} must be {expected}, which `{source}` {verb}");
        let range = expr_range(argument.expr);
        let diagnostic = if never_fits {
            self.error(Code::WrongArgument, range, message)
        } else {
            self.warning(Code::WrongArgument, range, message)
        };
        self.report(diagnostic);
    }

    fn check_choice(
        &mut self,
        call: &CheckedCall<'_>,
        parameter: &Parameter,
        argument: &CallArgument<'_, 'a>,
        choices: &[&str],
    ) {
        let texts: Vec<&str> = match argument.expr {
            Expr::Const(constant) => constant.value.as_str().into_iter().collect(),
            _ => argument.ty.possible_texts().unwrap_or_default(),
        };
        let is_text = argument.ty.kinds().is_none_or(|kinds| kinds.contains(&TypeKind::Text));
        if is_text && texts.iter().all(|text| choices.contains(text)) {
            return;
        }
        let quoted: Vec<String> = choices.iter().map(|choice| format!("`{choice}`")).collect();
        let (name, label) = (parameter.name, &call.label);
        let message = format!("the argument `{name}` of {label} must be one of {}", quoted.join(", "));
        let diagnostic = self.error(Code::WrongArgument, expr_range(argument.expr), message);
        let wrong = texts.iter().find(|text| !choices.contains(text)).copied().unwrap_or_default();
        self.report(diagnostic.with_suggestion(wrong, choices.iter().copied()));
    }

    /// Reports an argument that is not the name of a filter or test.
    fn check_callable_name(&mut self, argument: &CallArgument<'_, 'a>, callable_kind: &str, names: &[&str]) {
        let Expr::Const(constant) = argument.expr else { return };
        let range = expr_range(argument.expr);
        let Some(name) = constant.value.as_str() else {
            let message = format!("`{}` is not the name of a {callable_kind}", self.source(argument.expr));
            let diagnostic = self.error(Code::WrongArgument, range, message);
            return self.report(diagnostic);
        };
        if names.contains(&name) {
            return;
        }
        let diagnostic = self.error(Code::UnknownCallable, range, format!("unknown {callable_kind} `{name}`"));
        let diagnostic = diagnostic.with_suggestion(name, names.iter().copied());
        let is_property = callable_kind == "filter" && diagnostic.help.is_empty();
        self.report(if is_property {
            diagnostic.with_help(format!("for a property of each item: `map(attribute=\"{name}\")`"))
        } else {
            diagnostic
        });
    }

    /// Reports a test that compares a value with another one, and is never true. The message calls the value
    /// `subject`.
    pub(super) fn check_tested_constant(
        &mut self,
        test: &str,
        subject: &str,
        ty: &Type<'a>,
        arguments: &[CallArgument<'_, 'a>],
    ) {
        let Some(argument) = arguments.first() else { return };
        self.check_tested_comparison(test, subject, ty, argument);
        match (test, argument.expr) {
            ("eq" | "==" | "equalto" | "ne" | "!=", constant) => {
                self.check_listed_text(subject, ty, constant);
                self.check_equal_number(subject, ty, constant);
            }
            ("in", Expr::List(list)) => {
                list.items.iter().for_each(|constant| self.check_listed_text(subject, ty, constant));
            }
            _ => {}
        }
    }

    fn check_equal_number(&mut self, subject: &str, ty: &Type<'a>, constant: &Expr<'a>) {
        let Some(number) = constant_number(constant) else { return };
        let is_number = ty.kind() == Some(TypeKind::Number);
        if is_number && !range_of(ty).contains(number) {
            let message = format!("{subject} is never {number}");
            let diagnostic = self.error(Code::NeverEqual, expr_range(constant), message);
            self.report(match range_of(ty).describe() {
                Some(range) => diagnostic.with_help(format!("it is {range}")),
                None => diagnostic,
            });
        }
    }
}

/// What an argument of a kind must be; `None` if every value is accepted.
fn argument_rule(kind: ArgumentKind) -> Option<ArgumentRule> {
    const NUMBERS: &[TypeKind] = &[TypeKind::Number, TypeKind::Bool];
    let new_rule = |kinds: &'static [TypeKind], expected: &'static str| ArgumentRule {
        kinds,
        numbers: NumberRange::ANY,
        expected,
    };
    let number_rule = |numbers: NumberRange, expected: &'static str| ArgumentRule { kinds: NUMBERS, numbers, expected };
    Some(match kind {
        ArgumentKind::Text => new_rule(&[TypeKind::Text], "a string"),
        ArgumentKind::Boolean => new_rule(&[TypeKind::Bool], "`true` or `false`"),
        ArgumentKind::Iterable => new_rule(&[TypeKind::List, TypeKind::Text, TypeKind::Object], "a list"),
        ArgumentKind::Mapping => new_rule(&[TypeKind::Object], "an object"),
        ArgumentKind::Attribute | ArgumentKind::Attributes => {
            new_rule(&[TypeKind::Text], "the name of a property, as a string")
        }
        ArgumentKind::Number => number_rule(NumberRange::ANY, "a number"),
        ArgumentKind::Integer => number_rule(NumberRange::INTEGERS, "an integer"),
        ArgumentKind::Step => {
            number_rule(NumberRange { excludes_zero: true, ..NumberRange::INTEGERS }, "an integer other than 0")
        }
        ArgumentKind::Size => number_rule(NumberRange::FROM_ZERO, "an integer from 0"),
        ArgumentKind::Count => number_rule(NumberRange::FROM_ONE, "an integer from 1"),
        ArgumentKind::Indent => {
            number_rule(NumberRange { max: 16.0, ..NumberRange::FROM_ZERO }, "an integer from 0 to 16")
        }
        ArgumentKind::Any
        | ArgumentKind::Key
        | ArgumentKind::Choice(_)
        | ArgumentKind::FilterName
        | ArgumentKind::TestName => return None,
    })
}
