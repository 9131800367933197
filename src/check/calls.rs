//! Checks the arguments of filters, tests and functions against their signatures: their number, names and values.

use std::ops::Range;

use minijinja::machinery::ast::{Call, CallArg, Expr, Spanned, Test};

use super::infer::Checker;
use super::scope::{InferredValue, TypeScope};
use super::types::{ObjectMembers, Type};
use crate::diagnostic::{Code, Diagnostic};
use crate::template::signatures::{ArgumentForm, FUNCTION_SIGNATURES, Parameter, Signature, TEST_SIGNATURES};
use crate::template::walk::arg_expr;
use crate::template::{byte_range, expr_range};

/// An argument of a call.
pub(super) struct CallArgument<'b, 'a> {
    /// The name, if the call passes the argument by name.
    pub(super) name: Option<&'a str>,
    pub(super) expr: &'b Expr<'a>,
    pub(super) ty: Type<'a>,
}

/// A call of a filter, test or function, for messages.
pub(super) struct CheckedCall<'b> {
    /// What is called, such as "the filter `join`".
    pub(super) label: String,
    pub(super) signature: &'static Signature,
    /// The bytes of the call.
    pub(super) range: &'b Range<usize>,
}

impl<'a> Checker<'a> {
    /// Infers the arguments of a call. `None` if it spreads a list or an object over its arguments, so that their
    /// number is unknown.
    pub(super) fn infer_arguments<'b>(
        &mut self,
        args: &'b [CallArg<'a>],
        scope: &TypeScope<'a>,
    ) -> Option<Vec<CallArgument<'b, 'a>>> {
        let types = args.iter().map(arg_expr).map(|argument| {
            let ty = self.infer_defined(argument, scope).ty;
            self.stored_type(argument, ty, scope)
        });
        let types = types.collect();
        call_arguments(args, types)
    }

    /// Checks the arguments of a test. `operand` is the type of the tested value.
    pub(super) fn check_test(&mut self, inner: &Spanned<Test<'a>>, operand: &Type<'a>, scope: &TypeScope<'a>) {
        let Some(arguments) = self.infer_arguments(&inner.args, scope) else { return };
        let Some(signature) = Signature::find(TEST_SIGNATURES, inner.name) else { return };
        let range = byte_range(inner.span());
        let call = CheckedCall { label: format!("the test `{}`", inner.name), signature, range: &range };
        self.check_call(&call, &arguments);
        let subject = format!("`{}`", self.source(&inner.expr));
        self.check_tested_constant(inner.name, &subject, operand, &arguments);
    }

    /// Infers the result of a function, and checks its arguments.
    pub(super) fn infer_call(&mut self, inner: &Spanned<Call<'a>>, scope: &TypeScope<'a>) -> InferredValue<'a> {
        let arguments = self.infer_arguments(&inner.args, scope);
        let Expr::Var(function) = &inner.expr else { return InferredValue::unknown() };
        let signature = Signature::find(FUNCTION_SIGNATURES, function.id);
        let (Some(signature), Some(arguments)) = (signature, arguments) else { return InferredValue::unknown() };
        let range = byte_range(inner.span());
        let call = CheckedCall { label: format!("the function `{}`", function.id), signature, range: &range };
        self.check_call(&call, &arguments);
        match function.id {
            "range" => self.infer_range(&arguments, scope),
            "dict" | "namespace" => match named_members(&arguments) {
                Some(members) => InferredValue::defined(Type::FixedObject(members.into())),
                None => InferredValue::unknown(),
            },
            _ => InferredValue::unknown(),
        }
    }

    /// Reports the arguments that a call must not have, those that it lacks, and those with wrong values.
    pub(super) fn check_call(&mut self, call: &CheckedCall<'_>, arguments: &[CallArgument<'_, 'a>]) {
        let mut positional = call.signature.positional();
        let mut given: Vec<&str> = Vec::new();
        for argument in arguments {
            let parameter = match argument.name {
                None => positional.next().or_else(|| call.signature.rest()),
                Some(name) => call.signature.keyword(name),
            };
            let Some(parameter) = parameter else {
                let diagnostic = self.unexpected_argument(call, argument);
                self.report(diagnostic);
                // Further arguments have the same mistake.
                if argument.name.is_none() {
                    return;
                }
                continue;
            };
            let is_repeatable = matches!(parameter.form, ArgumentForm::Rest | ArgumentForm::AnyKeyword);
            if !is_repeatable && given.contains(&parameter.name) {
                let message = format!("{} gets the argument `{}` twice", call.label, parameter.name);
                let diagnostic = self.error(Code::WrongArgument, expr_range(argument.expr), message);
                self.report(diagnostic);
                continue;
            }
            given.push(parameter.name);
            self.check_argument(call, parameter, argument);
        }
        let missing = call.signature.parameters.iter().find(|p| p.is_required() && !given.contains(&p.name));
        if let Some(parameter) = missing {
            let message = format!("{} needs the argument `{}`", call.label, parameter.name);
            let diagnostic = self.error(Code::WrongArgument, call.range.clone(), message);
            self.report(diagnostic.with_help(usage(call.signature)));
        }
    }

    fn unexpected_argument(&self, call: &CheckedCall<'_>, argument: &CallArgument<'_, 'a>) -> Diagnostic {
        let (label, signature) = (&call.label, call.signature);
        let keywords: Vec<&str> = signature.keyword_names().collect();
        let new_diagnostic = |range, message: String| self.error(Code::WrongArgument, range, message);
        let Some(name) = argument.name else {
            let count = signature.positional().count();
            let message = match (count, keywords.is_empty()) {
                (0, true) => format!("{label} takes no arguments"),
                (0, false) => format!("{label} takes its arguments only by name"),
                (1, _) => format!("{label} takes at most 1 argument by position"),
                (_, _) => format!("{label} takes at most {count} arguments by position"),
            };
            let diagnostic = new_diagnostic(expr_range(argument.expr), message);
            return if keywords.is_empty() { diagnostic } else { diagnostic.with_help(usage(signature)) };
        };
        let range = self.keyword_range(name, argument.expr);
        if signature.positional().any(|parameter| parameter.name == name) {
            let message = format!("{label} does not take the argument `{name}` by name");
            let example = self.source(argument.expr);
            let help = format!("pass it by its position: `{}({example})`", signature.name);
            return new_diagnostic(range, message).with_help(help);
        }
        let diagnostic = new_diagnostic(range, format!("{label} has no argument `{name}`"));
        let diagnostic = diagnostic.with_suggestion(name, keywords.iter().copied());
        if diagnostic.help.is_empty() { diagnostic.with_help(usage(signature)) } else { diagnostic }
    }

    /// The bytes of the name of an argument, or those of its value if the name can't be found.
    fn keyword_range(&self, name: &str, value: &Expr<'a>) -> Range<usize> {
        let value_range = expr_range(value);
        let preceding = self.text.get(..value_range.start).unwrap_or_default().trim_end();
        let named = preceding.strip_suffix('=').map(str::trim_end).filter(|preceding| preceding.ends_with(name));
        named.map_or(value_range, |preceding| preceding.len() - name.len()..preceding.len())
    }
}

/// The arguments of a call with their types. `None` if it spreads a list or an object over its arguments.
pub(super) fn call_arguments<'b, 'a>(
    args: &'b [CallArg<'a>],
    types: Vec<Type<'a>>,
) -> Option<Vec<CallArgument<'b, 'a>>> {
    let arguments = args.iter().zip(types).map(|(argument, ty)| {
        let name = match argument {
            CallArg::Pos(_) => None,
            CallArg::Kwarg(name, _) => Some(*name),
            CallArg::PosSplat(_) | CallArg::KwargSplat(_) => return None,
        };
        Some(CallArgument { name, expr: arg_expr(argument), ty })
    });
    arguments.collect()
}

/// The members of the object that `dict` or `namespace` makes; `None` if they are unknown. An argument without a name is
/// an object whose members it copies.
fn named_members<'a>(arguments: &[CallArgument<'_, 'a>]) -> Option<ObjectMembers<'a>> {
    let mut members = ObjectMembers::new();
    for argument in arguments {
        match (argument.name, &argument.ty) {
            (Some(name), ty) => {
                members.insert(name, ty.clone());
            }
            (None, Type::FixedObject(copied)) => {
                members.extend(copied.iter().map(|(name, ty)| (*name, ty.clone())));
            }
            (None, _) => return None,
        }
    }
    Some(members)
}

/// Describes the arguments that a call accepts, for advice.
fn usage(signature: &Signature) -> String {
    let describe = |parameter: &Parameter| match parameter.form {
        ArgumentForm::Required | ArgumentForm::RequiredEither | ArgumentForm::Optional => {
            parameter.name.to_ascii_uppercase()
        }
        ArgumentForm::Either | ArgumentForm::Keyword => format!("{}=…", parameter.name),
        ArgumentForm::Rest | ArgumentForm::AnyKeyword => "…".to_owned(),
    };
    let parameters: Vec<String> = signature.parameters.iter().map(describe).collect();
    if parameters.is_empty() {
        return format!("write `{}` without arguments", signature.name);
    }
    format!("write `{}({})`", signature.name, parameters.join(", "))
}
