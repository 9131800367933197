//! Tests of the places of values in scripts, and of the errors about them. `tests/it/shell_values/` runs scripts.

use serde_json::json;

use super::*;

const HOSTILE: &str = "a'b\"c $(touch hacked)";

fn context() -> TemplateContext {
    let mut context = TemplateContext::new();
    context.insert("x", &json!(HOSTILE));
    context.insert("empty", &json!(""));
    context.insert("list", &json!(["a b", "c"]));
    context
}

fn render(line: &str) -> Result<ShellScript, TemplateError> {
    let prompts = [("arguments.sh", "{{ x }} \"{{ x }}\""), ("bad.sh", "\n`: \\` {{ x }}`")];
    Templates::new(prompts).unwrap().render_shell(line, &context())
}

fn script(line: &str) -> String {
    render(line).unwrap_or_else(|error| panic!("{line}: {error}")).script
}

/// The reason in the message about a line that orch refuses.
fn reason(line: &str) -> String {
    let error = render(line).expect_err(line);
    assert_eq!(error.kind, TemplateErrorKind::NotShellWord, "{line}");
    error.message.split_once("as one word: ").unwrap_or_else(|| panic!("{line}: {error}")).1.to_owned()
}

#[test]
fn references_fit_the_quotes_around_them() {
    for (line, expected) in [
        ("echo {{ x }} end", "echo \"${ORCH_VALUE_1}\" end"),
        ("echo \"say {{ x }}\"", "echo \"say ${ORCH_VALUE_1}\""),
        ("echo 'say {{ x }}'", "echo 'say '\"${ORCH_VALUE_1}\"''"),
        ("echo \"$(cat {{ x }})\" {{ x }}", "echo \"$(cat \"${ORCH_VALUE_1}\")\" \"${ORCH_VALUE_2}\""),
        ("echo \\\"{{ x }}", "echo \\\"\"${ORCH_VALUE_1}\""),
        ("# don't {{ x }}\necho {{ x }}", "# don't \necho \"${ORCH_VALUE_1}\""),
        ("cat <<E\n\"{{ x }}\" $(cat {{ x }})\nE\n", "cat <<E\n\"${ORCH_VALUE_1}\" $(cat \"${ORCH_VALUE_2}\")\nE"),
        ("echo `cat '{{ x }}'`", "echo `cat ''\"${ORCH_VALUE_1}\"''`"),
        ("{{ x }}/run {{ x }}", "\"${ORCH_VALUE_1}\"/run \"${ORCH_VALUE_2}\""),
    ] {
        assert_eq!(script(line), expected);
    }
}

#[test]
fn a_printed_text_is_one_value_whatever_it_consists_of() {
    let captured = render("{% set y %}<{{ x }}>{% endset %}echo {{ y }}").unwrap();
    assert_eq!(captured.script, "echo \"${ORCH_VALUE_1}\"");
    assert_eq!(captured.values, [("ORCH_VALUE_1".to_owned(), format!("<{HOSTILE}>"))]);
    for (line, value) in [
        ("echo {{ 'a ' ~ x }}", format!("a {HOSTILE}")),
        ("{% set y %}{{ x }}{% endset %}echo {{ y | length }}", HOSTILE.len().to_string()),
        ("{% set y %}{{ x }}{% endset %}echo {{ y | upper }}", HOSTILE.to_uppercase()),
        ("echo {% filter upper %}{{ x }}{% endfilter %}", HOSTILE.to_uppercase()),
        ("echo {{ empty }}", String::new()),
        ("echo {{ 'a b' }}", "a b".to_owned()),
        ("echo {{ 1 + 1 }}", "2".to_owned()),
    ] {
        let rendered = render(line).unwrap();
        assert_eq!(rendered.script, "echo \"${ORCH_VALUE_1}\"", "{line}");
        assert_eq!(rendered.values, [("ORCH_VALUE_1".to_owned(), value)], "{line}");
    }
    assert_eq!(script("echo {{ 'a' if false }} {{ empty }}"), "echo  \"${ORCH_VALUE_1}\"");
    assert_eq!(script("echo{% for a in list %} {{ a }}{% endfor %}"), "echo \"${ORCH_VALUE_1}\" \"${ORCH_VALUE_2}\"");
    let included = script("echo {% include 'arguments.sh' %}");
    assert_eq!(included, "echo \"${ORCH_VALUE_1}\" \"${ORCH_VALUE_2}\"");
}

#[test]
fn neither_a_template_nor_a_value_can_forge_a_place() {
    let mut context = TemplateContext::new();
    for forged in ["\u{F8FA}0\u{F8FB}", "${ORCH_VALUE_1}", "\u{E000}\0"] {
        context.insert("x", &json!(forged));
        let line = format!("echo '{forged}' {{{{ x }}}} '{{{{ x }}}}'");
        let rendered = Templates::new([]).unwrap().render_shell(&line, &context).unwrap();
        let expected = format!("echo '{forged}' \"${{ORCH_VALUE_1}}\" ''\"${{ORCH_VALUE_2}}\"''");
        assert_eq!(rendered.script, expected);
        assert!(rendered.values.iter().all(|(_, value)| value == forged), "{rendered:?}");
    }
}

#[test]
fn each_refusal_says_why() {
    for (line, expected) in [
        ("cat <<'E'\n{{ x }}\nE", "a heredoc with a quoted delimiter has no variables"),
        ("cat <<E{{ x }}\nE", "it is in the delimiter of a heredoc"),
        ("echo $(( {{ x }} + 1 ))", "it is in arithmetic, where bash runs commands that a value contains"),
        ("a[{{ x }}]=1", "it is in an array index, where bash runs commands that a value contains"),
        ("echo \"${y:-{{ x }}}\"", "it is inside `${…}`"),
        ("echo \\{{ x }}", "a backslash precedes it"),
        ("echo \"$${{ x }}\" ${{ x }}", "a `$` precedes it"),
        ("{{ x }} a", "it is the name of a command, which may be one such as `eval`"),
        ("for {{ x }} in a; do :; done", "it is the name of a variable"),
        ("eval {{ x }}", "`eval` may run it as commands"),
        ("RANDOM={{ x }}", "bash evaluates what a script assigns to `RANDOM`"),
        ("printf {{ x }} a", "`printf` takes it as an option if it begins with `-`"),
        ("echo $'{{ x }}'", "shells read `$'…'` in different ways"),
        ("echo `printf \\\\ {{ x }}`", "it is in backticks with a backslash, a comment or a heredoc"),
        ("[[ a || {{ x }} ]]", "shells other than bash read this `[[ … ]]` as several commands"),
        ("echo 'a {{ x }}", "`'` before it is not closed"),
        ("echo $(cat {{ x }}", "`$(` before it is not closed"),
        ("cat <(cat {{ x }}", "`<(` before it is not closed"),
        ("tee >(cat {{ x }}", "`>(` before it is not closed"),
        ("echo $'\\'' {{ x }}", "shells read the text before it in different ways"),
    ] {
        assert_eq!(reason(line), expected, "{line}");
    }
}

#[test]
fn the_error_points_to_the_expression() {
    let line = "echo {{ empty }} {{ x }}\ncat <<'E'\n{{ empty ~ x }}\nE\n";
    let error = render(line).unwrap_err();
    assert_eq!((&line[error.range.clone()], error.line), ("empty ~ x", 3));
    assert_eq!(
        error.message,
        "a shell does not take `{{ empty ~ x }}` as one word: a heredoc with a quoted delimiter has no variables"
    );
    assert!(!error.message.contains("hacked"), "{}", error.message);
    let help = error.help.unwrap();
    assert!(help.contains("`run: [PROGRAM, \"{{ empty ~ x }}\"]`") && help.contains("`stdin: empty ~ x`"), "{help}");

    let error = render("echo {% include 'bad.sh' %}").unwrap_err();
    assert_eq!((error.file.as_deref(), error.line), (Some("bad.sh"), 2));
    assert!(render("eval {{ empty }}").unwrap_err().message.contains("`{{ … }}`"));
}

#[test]
fn a_script_without_values_stays_as_it_is() {
    for line in ["eval \"$X\" $(( y )) `a \\` b", "echo 'unclosed", "cat <<E", "${", "(((", "a=(", "x <<'", ""] {
        assert_eq!(script(line), line);
    }
}

#[test]
fn deep_and_ambiguous_scripts_end_in_a_refusal() {
    for opening in ["$(", "${x:-", "$((", "(", "((", "\"$(", "`", "a[", "case x in x) ", "[[ (", "<<E $(", "a=("] {
        for count in [1, 41, 20_001] {
            let line = format!("{} {{{{ x }}}}", opening.repeat(count));
            let refused = render(&line).is_err();
            // Brackets without an end are characters of a word.
            assert!(refused || opening == "a[", "{opening} {count}");
        }
    }
}
