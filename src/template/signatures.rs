//! The signatures of all filters, tests and functions: the operand and the arguments that each accepts.
//!
//! The engine checks arguments only when it renders a template. The checker finds wrong arguments before, by these
//! tables. A test compares the tables with the engine.

use super::parameters::ArgumentKind::{
    Any, Attribute, Attributes, Boolean, Choice, Count, FilterName, Indent, Integer, Iterable, Key, Mapping, Number,
    Size, Step, TestName, Text,
};
pub(crate) use super::parameters::{ArgumentForm, ArgumentKind, OperandKind, Parameter, Signature};

macro_rules! signatures {
    ($(#[$doc:meta])* $table:ident:
        $($name:literal on $operand:ident ($($form:ident $parameter:ident: $kind:expr),*);)+
    ) => {
        $(#[$doc])*
        pub(crate) const $table: &[Signature] = &[$(Signature {
            name: $name,
            operand: OperandKind::$operand,
            parameters: &[$(Parameter {
                name: stringify!($parameter),
                kind: $kind,
                form: ArgumentForm::$form,
            }),*],
        }),+];
    };
}

signatures! {
    /// The signatures of the filters.
    FILTER_SIGNATURES:
    "abs" on Number ();
    "batch" on Iterable (Required count: Count, Optional fill_with: Any);
    "bool" on Any ();
    "capitalize" on Scalar ();
    "chain" on Iterable (Rest others: Iterable);
    "count" on Iterable ();
    "d" on Any (Optional value: Any, Optional boolean: Any);
    "default" on Any (Optional value: Any, Optional boolean: Any);
    "dictsort" on Mapping (
        Keyword by: Choice(&["key", "value"]), Keyword case_sensitive: Boolean, Keyword reverse: Boolean
    );
    "first" on Iterable ();
    "float" on Any (Either default: Any);
    "groupby" on List (RequiredEither attribute: Attribute, Keyword default: Any, Keyword case_sensitive: Boolean);
    "indent" on Text (Either width: Size, Either first: Any, Either blank: Any);
    "int" on Any (Either default: Any, Either base: Size);
    "items" on Mapping ();
    "join" on Iterable (Either d: Any, Either attribute: Attribute);
    "last" on Iterable ();
    "length" on Iterable ();
    "lines" on Text ();
    "list" on Iterable ();
    "lower" on Scalar ();
    "map" on Iterable (Optional filter: FilterName, Keyword attribute: Key, Keyword default: Any, Rest arguments: Any);
    "max" on Iterable (Keyword case_sensitive: Boolean, Keyword attribute: Attribute);
    "min" on Iterable (Keyword case_sensitive: Boolean, Keyword attribute: Attribute);
    "reject" on Iterable (Optional test: TestName, Rest arguments: Any);
    "rejectattr" on Iterable (Required attribute: Attribute, Optional test: TestName, Rest arguments: Any);
    "replace" on Scalar (Required from: Any, Required to: Any);
    "reverse" on Iterable ();
    "round" on Number (Either precision: Integer, Either method: Choice(&["common", "ceil", "floor"]));
    "select" on Iterable (Optional test: TestName, Rest arguments: Any);
    "selectattr" on Iterable (Required attribute: Attribute, Optional test: TestName, Rest arguments: Any);
    "slice" on Iterable (Required count: Count, Optional fill_with: Any);
    "sort" on Iterable (Keyword case_sensitive: Boolean, Keyword reverse: Boolean, Keyword attribute: Attributes);
    "split" on Text (Optional separator: Text, Optional maxsplits: Integer);
    "string" on Any ();
    "sum" on List (Either attribute: Attribute, Either start: Any);
    "title" on Scalar ();
    "tojson" on Any (Either indent: Indent);
    "trim" on Scalar (Optional chars: Any);
    "unique" on Iterable (Keyword attribute: Attribute, Keyword case_sensitive: Boolean);
    "upper" on Scalar ();
    "zip" on Iterable (Rest others: Iterable);
}

signatures! {
    /// The signatures of the tests.
    TEST_SIGNATURES:
    "!=" on Any (Required other: Any);
    "<" on Any (Required other: Any);
    "<=" on Any (Required other: Any);
    "==" on Any (Required other: Any);
    ">" on Any (Required other: Any);
    ">=" on Any (Required other: Any);
    "boolean" on Any ();
    "defined" on Any ();
    "divisibleby" on Any (Required number: Number);
    "endingwith" on Any (Required text: Any);
    "eq" on Any (Required other: Any);
    "equalto" on Any (Required other: Any);
    "even" on Any ();
    "false" on Any ();
    "float" on Any ();
    "ge" on Any (Required other: Any);
    "gt" on Any (Required other: Any);
    "in" on Any (Required container: Iterable);
    "int" on Any ();
    "integer" on Any ();
    "iterable" on Any ();
    "le" on Any (Required other: Any);
    "lower" on Any ();
    "lt" on Any (Required other: Any);
    "mapping" on Any ();
    "ne" on Any (Required other: Any);
    "none" on Any ();
    "number" on Any ();
    "odd" on Any ();
    "sequence" on Any ();
    "startingwith" on Any (Required text: Any);
    "string" on Any ();
    "true" on Any ();
    "undefined" on Any ();
    "upper" on Any ();
}

signatures! {
    /// The signatures of the functions.
    FUNCTION_SIGNATURES:
    "dict" on Any (Optional value: Mapping, AnyKeyword members: Any);
    "namespace" on Any (Optional value: Mapping, AnyKeyword members: Any);
    "range" on Any (Required start: Integer, Optional stop: Integer, Optional step: Step);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{FILTERS, FUNCTIONS, TESTS, TemplateContext, TemplateError, eval};

    fn names(table: &[Signature]) -> Vec<&str> {
        table.iter().map(|signature| signature.name).collect()
    }

    #[test]
    fn each_filter_test_and_function_has_one_signature() {
        assert_eq!(names(FILTER_SIGNATURES), FILTERS);
        assert_eq!(names(TEST_SIGNATURES), TESTS);
        assert_eq!(names(FUNCTION_SIGNATURES), FUNCTIONS);
    }

    fn operand(kind: OperandKind) -> &'static str {
        match kind {
            OperandKind::Any | OperandKind::Number => "1",
            OperandKind::Text | OperandKind::Scalar => "'a'",
            OperandKind::List | OperandKind::Iterable => "[1, 2]",
            OperandKind::Mapping => "{'a': 1}",
        }
    }

    fn argument(kind: ArgumentKind) -> String {
        match kind {
            Any | Number | Integer | Step => "1".to_owned(),
            Size | Count | Indent => "2".to_owned(),
            Text => "','".to_owned(),
            Boolean => "true".to_owned(),
            Choice(choices) => format!("'{}'", choices[0]),
            Iterable => "[1]".to_owned(),
            Mapping => "{'a': 1}".to_owned(),
            Attribute | Attributes | Key => "'a'".to_owned(),
            FilterName => "'string'".to_owned(),
            TestName => "'defined'".to_owned(),
        }
    }

    /// An argument that the engine refuses, if it refuses any.
    fn wrong_argument(kind: ArgumentKind) -> Option<&'static str> {
        match kind {
            Any | Number | Iterable | Key => None,
            Text | Attribute | Attributes => Some("1"),
            Boolean => Some("1"),
            Integer | Size => Some("'x'"),
            Step | Count => Some("0"),
            Indent => Some("17"),
            // The engine treats an unknown order of `dictsort` as the default.
            Choice(choices) => (choices.len() > 2).then_some("'x'"),
            Mapping => Some("'x'"),
            FilterName | TestName => Some("'x'"),
        }
    }

    /// Writes a call of a filter, test or function with these arguments.
    type WriteCall = fn(signature: &Signature, arguments: &str) -> String;

    const TABLES: &[(&[Signature], WriteCall)] = &[
        (FILTER_SIGNATURES, |signature, arguments| {
            format!("{} | {}({arguments})", operand(signature.operand), signature.name)
        }),
        // Operators are tests only for `select` and similar filters.
        (TEST_SIGNATURES, |signature, arguments| {
            let separator = if arguments.is_empty() { "" } else { ", " };
            format!("[1] | select('{}'{separator}{arguments})", signature.name)
        }),
        (FUNCTION_SIGNATURES, |signature, arguments| format!("{}({arguments})", signature.name)),
    ];

    /// Evaluates a call with these arguments.
    fn call(write_call: WriteCall, signature: &Signature, arguments: &[String]) -> Result<(), TemplateError> {
        let text = format!("({}) is defined", write_call(signature, &arguments.join(", ")));
        eval(&text, &TemplateContext::new()).map(drop)
    }

    fn required_arguments(signature: &Signature) -> Vec<String> {
        let positional = signature.positional().filter(|parameter| parameter.is_required());
        positional.map(|parameter| argument(parameter.kind)).collect()
    }

    /// The required arguments of a call; `map` also needs the name of a filter or of a property.
    fn sufficient_arguments(signature: &Signature) -> Vec<String> {
        if signature.name == "map" { vec!["'string'".to_owned()] } else { required_arguments(signature) }
    }

    #[test]
    fn the_engine_accepts_what_the_signatures_allow() {
        for (table, write_call) in TABLES {
            for signature in *table {
                let required = sufficient_arguments(signature);
                let result = call(*write_call, signature, &required);
                result.unwrap_or_else(|error| panic!("{} {required:?}: {error}", signature.name));
                let all: Vec<String> = signature.positional().map(|parameter| argument(parameter.kind)).collect();
                let result = call(*write_call, signature, &all);
                result.unwrap_or_else(|error| panic!("{} {all:?}: {error}", signature.name));
                for parameter in signature.parameters.iter().filter(|parameter| parameter.has_keyword()) {
                    // A required argument would be passed twice, and `map(attribute=…)` has no argument by position.
                    let has_positional = !parameter.is_required() && signature.name != "map";
                    let positional: &[String] = if has_positional { &required } else { &[] };
                    let keyword = format!("{}={}", parameter.name, argument(parameter.kind));
                    let mut arguments = [positional, &[keyword]].concat();
                    if signature.name == "map" && parameter.name == "default" {
                        arguments.push("attribute='a'".to_owned());
                    }
                    let result = call(*write_call, signature, &arguments);
                    result.unwrap_or_else(|error| panic!("{} {arguments:?}: {error}", signature.name));
                }
            }
        }
    }

    #[test]
    fn the_engine_refuses_what_the_signatures_do_not_allow() {
        let mut accepted = Vec::new();
        for (table, write_call) in TABLES {
            for signature in *table {
                let mut refuse = |arguments: &[String]| {
                    if call(*write_call, signature, arguments).is_ok() {
                        accepted.push(format!("{}({})", signature.name, arguments.join(", ")));
                    }
                };
                if signature.rest().is_none() {
                    let positional: Vec<String> = signature.positional().map(|p| argument(p.kind)).collect();
                    refuse(&[positional, vec!["1".to_owned()]].concat());
                }
                let required = required_arguments(signature);
                if !required.is_empty() {
                    refuse(&[]);
                }
                // `map` ignores arguments by name that it does not know.
                if signature.keyword("nope").is_none() && signature.name != "map" {
                    refuse(&[required.clone(), vec!["nope=1".to_owned()]].concat());
                }
                for (index, parameter) in signature.positional().enumerate() {
                    if let Some(wrong) = wrong_argument(parameter.kind) {
                        let before = signature.positional().take(index).map(|p| argument(p.kind));
                        let after = signature.positional().skip(index + 1).filter(|p| p.is_required());
                        let after = after.map(|p| argument(p.kind));
                        refuse(&before.chain([wrong.to_owned()]).chain(after).collect::<Vec<_>>());
                    }
                }
            }
        }
        // The engine prints any value as the name of a property of `selectattr` and `rejectattr`; no JSON object has
        // such a property.
        accepted.retain(|call| !call.starts_with("selectattr(1") && !call.starts_with("rejectattr(1"));
        assert!(accepted.is_empty(), "{accepted:#?}");
    }
}
