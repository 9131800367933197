//! Tests of rendering, of refused features, and of arbitrary texts.

use serde_json::json;

use super::*;

fn context() -> TemplateContext {
    let mut context = TemplateContext::new();
    context.insert("task", &json!("say <hi> & \"bye\""));
    context.insert(
        "plan",
        &json!({"title": "T", "steps": [{"id": 1, "files": ["a", "b"]}, {"id": 2, "files": []}], "n": 3}),
    );
    context
}

fn render_text(text: &str) -> Result<String, TemplateError> {
    Templates::new([]).unwrap().render_inline(text, &context())
}

fn error_message_of(text: &str) -> String {
    render_text(text).map_or_else(|error| error.message, |text| format!("rendered {text:?}"))
}

#[test]
fn prompts_render_without_escapes_or_stray_lines() {
    assert_eq!(render_text("{{ task }}").unwrap(), "say <hi> & \"bye\"");
    assert_eq!(render_text("a\n{% for s in plan.steps %}\n- {{ s.id }}\n{% endfor %}\nb\n").unwrap(), "a\n- 1\n- 2\nb");
    assert_eq!(render_text("{{ {'a': '<b>'} | tojson }}").unwrap(), "{\n  \"a\": \"<b>\"\n}");
    assert_eq!(
        render_text("{{ plan.steps | tojson(indent=0) }}").unwrap(),
        r#"[{"id":1,"files":["a","b"]},{"id":2,"files":[]}]"#
    );
    assert_eq!(render_text("{{ 'a\nb' | indent(2) }}").unwrap(), "a\n  b");
    assert_eq!(render_text("{{ 'a\n\nb' | indent(width=1, first=true) }}").unwrap(), " a\n\n b");
    let templates = Templates::new([("x.html", "{{ task }}"), ("a.md", "{% include 'x.html' %}!")]).unwrap();
    assert_eq!(templates.render("a.md", &context()).unwrap(), "say <hi> & \"bye\"!");
}

#[test]
fn integers_of_any_size_are_bounds_and_precisions() {
    let mut context = TemplateContext::new();
    context.insert(
        "plan",
        &json!({"list": [1, 2, 3], "text": "abc", "huge": 1e30, "low": -1e30, "max": u64::MAX, "x": 1.25}),
    );
    for (text, expected) in [
        ("{{ plan.list[plan.huge:] | join }}", ""),
        ("{{ plan.list[:plan.huge] | join }}", "123"),
        ("{{ plan.list[plan.low:plan.max] | join }}", "123"),
        ("{{ plan.list[::plan.max] | join }}", "1"),
        ("{{ plan.text[:plan.max] }}{{ plan.text[plan.low:2] }}", "abcab"),
        ("{{ plan.text[::plan.low] }}", "c"),
        ("{{ plan.x | round(plan.huge) }}", "1.25"),
        ("{{ plan.x | round(precision=plan.max) }}", "1.25"),
        ("{{ plan.x | round(1, 'ceil') }} {{ plan.x | round(method='floor') }}", "1.3 1.0"),
    ] {
        assert_eq!(Templates::new([]).unwrap().render_inline(text, &context).unwrap(), expected, "{text}");
    }
}

#[test]
fn the_error_names_the_undefined_value() {
    for (text, name) in [
        ("{{ plan.titel }}", "plan.titel"),
        ("{{ nope }}", "nope"),
        ("{{ plan.x.y }}", "plan.x"),
        ("{{ plan.n == plan.m }}", "plan.m"),
        ("{% if plan.m > 1 %}{% endif %}", "plan.m"),
        ("{{ plan.titel | upper }}", "plan.titel"),
        ("{{ plan.titel | tojson }}", "plan.titel"),
        ("{% for x in plan.nope %}{% endfor %}", "plan.nope"),
        ("{{ 1 < plan.m < 3 }}", "plan.m"),
        ("{{ 'a' ~ plan.m }}", "plan.m"),
        ("{{ plan.steps[0].x == 1 }}", "plan.steps[0].x"),
        ("{{ 1 in [1] and plan.steps[0].files[0].x.y == 1 }}", "plan.steps[0].files[0].x"),
    ] {
        assert_eq!(error_message_of(text), format!("`{name}` is undefined"), "{text}");
    }
}

#[test]
fn conditions_may_test_undefined_values() {
    assert_eq!(render_text("{% if nope %}a{% else %}b{% endif %}").unwrap(), "b");
    assert_eq!(render_text("{{ nope | default('x') }} {{ nope is defined }} {{ not nope }}").unwrap(), "x False True");
    assert_eq!(render_text("{{ 1 if nope and nope.x == 1 else 2 }}").unwrap(), "2");
}

#[test]
fn errors_point_into_the_original_text() {
    let text = "a == b\n{{ (plan.n) == 3 and plan.titel == task }}";
    let error = render_text(text).unwrap_err();
    assert_eq!((&text[error.range.clone()], error.line), ("plan.titel", 2));
    let text = "{{ (plan.steps[0].x | default(3)) == (plan.steps)[0].y }}";
    assert_eq!(&text[render_text(text).unwrap_err().range], "(plan.steps)[0].y");
    let text = "{{ 1 == 1 }}{{ plan.n == 3 }}\n{{ plan.titel }}";
    let error = render_text(text).unwrap_err();
    assert_eq!((&text[error.range.clone()], error.line), ("plan.titel", 2));
}

/// A text that follows the help literally has a value.
#[test]
fn the_help_for_an_undefined_value_works() {
    let context = context();
    let quoted = |help: String| help.split('`').nth(1).unwrap().to_owned();
    for text in [
        "{{ plan.titel }}",
        "{{ plan.x.y }}",
        "{{ plan.titel | upper }}",
        "{{ plan.steps[0].x.y }}",
        "{% for x in plan.nope %}{% endfor %}",
    ] {
        let guarded = quoted(render_text(text).unwrap_err().help.unwrap()).replace('…', text);
        assert_eq!(render_text(&guarded), Ok(String::new()), "{guarded}");
    }
    for expression in ["plan.titel", "plan.x.y", "plan.steps[0].x.y"] {
        let help = quoted(eval(expression, &context).unwrap_err().help.unwrap());
        let guarded = help.replacen('…', expression, 1).replacen('…', "'none'", 1);
        assert_eq!(eval(&guarded, &context), Ok(json!("none")), "{guarded}");
    }
    for condition in ["plan.m > 1", "plan.x.y", "not plan.x.y"] {
        let guarded = quoted(eval_bool(condition, &context).unwrap_err().help.unwrap()).replace('…', condition);
        assert_eq!(eval_bool(&guarded, &context), Ok(false), "{guarded}");
    }
    // The name of a filter is not the path of a value.
    let error = render_text("{{ plan.steps[1].files | first }}").unwrap_err();
    assert_eq!((error.message.as_str(), error.undefined_value()), ("a value is undefined", None));
}

#[test]
fn errors_in_includes_name_the_included_prompt() {
    let templates = Templates::new([("a.md", "\n{% include 'b.md' %}"), ("b.md", "x\n\n{{ plan.titel }}")]).unwrap();
    let error = templates.render("a.md", &context()).unwrap_err();
    assert_eq!(error.to_string(), "`plan.titel` is undefined (prompts/b.md:3)");
}

#[test]
fn features_that_prevent_checking_are_refused() {
    for text in [
        "{% import 'a' as b %}",
        "{% from 'a' import b %}",
        "{% extends 'a' %}",
        "{% block a %}{% endblock %}",
        "{% macro a() %}{% endmacro %}",
        "{% include task %}",
        "{% include ['a', 'b'] %}",
        "{% autoescape true %}{% endautoescape %}",
        "{% for x in plan.steps recursive %}{% endfor %}",
        "{{ plan.items() }}",
    ] {
        assert_eq!(render_text(text).unwrap_err().kind, TemplateErrorKind::Refused, "{text}");
    }
    for (text, expected) in [
        ("{{ task | uper }}", "unknown filter `uper`"),
        ("{{ task is defnied }}", "unknown test `defnied`"),
        ("{{ rage(3) }}", "unknown function `rage`"),
        ("{{ debug() }}", "unknown function `debug`"),
        ("{{ task | safe }}", "unknown filter `safe`"),
        ("{{ task | __check_operand }}", "unknown filter `__check_operand`"),
    ] {
        assert_eq!(error_message_of(text), expected);
    }
}

#[test]
fn work_and_output_are_bounded() {
    for text in [
        "{% for a in range(9000) %}{% for b in range(9000) %}x{% endfor %}{% endfor %}",
        "{{ 'x' * 999999999 }}",
        "{% set x = 'y' * 1000000 %}{% for a in range(100) %}{{ x }}{% endfor %}",
        "{{ ('a\n' * 1000000) | indent(1000000) }}",
        "{{ range(9000) | slice(1000000000) | list }}",
    ] {
        assert_eq!(render_text(text).map(|t| t.len()).unwrap_err().kind, TemplateErrorKind::LimitExceeded, "{text}");
    }
    let templates = Templates::new([("a", "{% include 'a' %}")]).unwrap();
    assert!(templates.render("a", &context()).is_err());
}

#[test]
fn large_artifacts_can_be_rendered() {
    let mut context = TemplateContext::new();
    context.insert("code", &json!({"files": vec!["x".repeat(1000); 4000]}));
    let text = Templates::new([]).unwrap().render_inline("{{ code | tojson }}", &context).unwrap();
    assert!(text.len() > 4_000_000);
}

#[test]
fn expressions_return_json_and_conditions_return_booleans() {
    let context = context();
    assert_eq!(eval("plan.steps | map(attribute='id') | list", &context).unwrap(), json!([1, 2]));
    assert_eq!(eval("plan.n + 1", &context).unwrap(), json!(4));
    assert!(eval_bool("plan.n == 3 and not nope", &context).unwrap());
    let fails = |text: &str| eval_bool(text, &context).unwrap_err().message;
    assert_eq!(fails("plan.n"), "`plan.n` is a number, not `true` or `false`");
    assert_eq!(fails("nope.x"), "`nope` is undefined");
    assert_eq!(fails("plan.titel"), "`plan.titel` is undefined");
    assert_eq!(fails("plan.titel == 1"), "`plan.titel` is undefined");
    assert!(fails("plan.n ==").starts_with("syntax error"));
}

proptest::proptest! {
    #[test]
    fn arbitrary_texts_do_not_panic(text in "(\\{\\{|\\}\\}|\\{%|%\\}| if | for x in |plan|\\.|a|==|<|\\||not |[()\\[\\]'\"~+*-]|1| |endif|\n|é){0,40}") {
        let _ = render_text(&text);
        let _ = eval(&text, &context());
    }

    /// If MiniJinja can parse the original text, it can also parse the text with orch's filters.
    #[test]
    fn an_expression_with_inserted_filters_can_be_parsed(text in "(plan|task| == | < |\\(|\\)| and | not | in | ~ | \\+ | \\* |\\(a\\)|\\[a\\]|\\[0\\]|\\.n|-|1| \\| upper| if | else |, | is defined){0,20}") {
        if let Ok(inspection) = inspect_expression(&text) {
            let rewritten = inspection.rewrite(&text);
            let rewritten = rewritten.replace("__check_operand", "upper").replace("__check_size", "upper");
            proptest::prop_assert!(inspect_expression(&rewritten).is_ok(), "{} -> {}", text, rewritten);
        }
    }
}

/// A template that doubles a list in a namespace this many times.
fn template_with_doubled_list(times: usize) -> String {
    format!(
        "{{% set ns = namespace(s=[1]) %}}{{% for i in range({times}) %}}{{% set ns.s = [ns.s, ns.s] %}}{{% endfor %}}"
    )
}

#[test]
fn values_that_share_their_nodes_have_a_maximum_size() {
    let fails = |text: &str| render_text(text).unwrap_err();
    assert_eq!(render_text(&(template_with_doubled_list(5) + "{{ ns.s | length }}")).unwrap(), "2");
    let error = fails(&(template_with_doubled_list(40) + "{{ ns.s | length }}"));
    assert_eq!(
        (error.kind, &*error.message),
        (
            TemplateErrorKind::LimitExceeded,
            "the value has more than a million nodes (lists, objects, keys and scalars)"
        )
    );
    for text in [
        "{{ ([[1] * 100000] * 100000) | tojson }}",
        "{{ ([[1] * (100000)] * (100000)) | sort }}",
        "{{ ([[1] * 100000] * 100000) ~ '' }}",
        "{{ [[1] * 100000] * 100000 == [[1] * 100000] * 100000 }}",
        "{{ ([[1] * (100000)] * (100000)) in 'abc' }}",
        "{{ ['a', 'b'] | select('in', [[1] * 100000] * 100000) | list }}",
        "{{ ([[1] * 100000] * 100000) | upper }}",
        "{% set x = [[1] * 100000] * 100000 %}{{ x[0][0] }}",
        "{% set x = dict(a=[[1] * 100000] * 100000) %}",
        "{% with x = [[1] * 100000] * 100000 %}{{ x[0][0] }}{% endwith %}",
    ] {
        assert_eq!(fails(text).kind, TemplateErrorKind::LimitExceeded, "{text}");
    }
    let sum = "[[1] * 100000] * 100000";
    assert_eq!(eval(sum, &context()).unwrap_err().kind, TemplateErrorKind::LimitExceeded);
}

#[test]
fn repeated_reads_of_a_long_text_consume_fuel() {
    for condition in
        ["s is lower", "s is upper", "s is string", "s == s", "s | length", "'x' in s", "s is startingwith('x')"]
    {
        let text = format!(
            "{{% set s = 'x' * 4000000 %}}{{% for i in range(90000) %}}{{% if {condition} %}}{{% endif %}}{{% endfor %}}"
        );
        assert_eq!(render_text(&text).unwrap_err().kind, TemplateErrorKind::LimitExceeded, "{condition}");
    }
}

#[test]
fn values_have_a_maximum_depth_and_contain_no_namespace() {
    let deep = "{% set ns = namespace(s=[]) %}{% for i in range(90000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}";
    let error = render_text(deep).unwrap_err();
    assert_eq!(
        (error.kind, &*error.message),
        (TemplateErrorKind::LimitExceeded, "the value is nested more than 200 levels deep")
    );
    for text in [
        "{% set ns = namespace() %}{% set ns.s = ns %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.s = [ns] %}{{ ns }}",
        "{% set ns = namespace() %}{% set l = [ns] %}{% set ns.s = l %}{{ ns }}",
        "{% set ns = namespace() %}{% set d = dict(a=ns) %}{% set ns.s = d %}{{ ns }}",
        "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}{{ a }}",
    ] {
        assert_eq!(render_text(text).unwrap_err().message, "a namespace can't be part of another value", "{text}");
    }
    assert_eq!(
        render_text("{% set ns = namespace(n=1) %}{% set same = ns %}{% set same.n = 2 %}{{ ns.n }}").unwrap(),
        "2"
    );
}

#[test]
fn parts_are_wrapped_with_the_parentheses_around_their_operands() {
    for (text, rewritten) in [
        ("(a + b) == c", "((a + b))|__check_operand == (c)|__check_operand"),
        ("a == (b) * (c)", "(a)|__check_operand == ((b) * (c))|__check_operand"),
        ("(a) ~ (b)", "((a))|__check_size ~ ((b))|__check_size"),
        ("f(a) == -(b)", "(f(a))|__check_operand == (-(b))|__check_operand"),
        ("a == b ~ c", "(a)|__check_operand == ((b)|__check_size ~ (c)|__check_size)|__check_operand"),
    ] {
        let template = |text: &str| format!("{{{{ {} }}}}", text.replace("f(", "range("));
        let inspection = inspect_template(&template(text)).unwrap();
        assert_eq!(inspection.rewrite(&template(text)), template(rewritten));
    }
}

#[test]
fn an_error_inside_a_character_covers_the_character() {
    for text in ["{{ f(a=\u{a7}n') }}", "{{ \u{1f980} }}", "{% if \u{e9}\u{a7} %}", "{{ a \u{2028} }}"] {
        let error = Templates::new([]).unwrap().render_inline(text, &TemplateContext::new()).unwrap_err();
        assert!(text.get(error.range.clone()).is_some(), "{text}: {error:?}");
    }
}

#[test]
fn only_a_text_that_may_run_is_parsed() {
    assert!(parse_expression("plan.n == 3").is_ok() && parse_template("{{ plan.n }}").is_ok());
    for text in ["plan.n ==", "plan | nope", "plan.keys()", "x if"] {
        let template = format!("{{{{ {text} }}}}");
        let refusals = [parse_expression(text).map(drop), parse_template(&template).map(drop)];
        let inspections = [inspect_expression(text).map(drop), inspect_template(&template).map(drop)];
        let messages = |results: [Result<(), Vec<TemplateError>>; 2]| {
            results.map(|result| result.unwrap_err().into_iter().map(|error| error.message).collect::<Vec<_>>())
        };
        assert_eq!(messages(refusals), messages(inspections), "{text}");
    }
}
