//! Advice names the part of an expression or value that it is about, and whoever follows it literally gets a valid file.

use crate::signatures::findings;
use crate::support::Orch;

/// A project whose second step has this condition.
fn project(condition: &str) -> Orch {
    let orch = Orch::empty();
    let schema = r#"{ "type": "object", "additionalProperties": false, "required": ["list", "flag"], "properties": {
        "ok": { "type": "boolean" }, "score": { "type": "integer" }, "flag": { "type": "boolean" },
        "list": { "type": "array", "items": { "type": "integer" } }
    } }"#;
    orch.write("prompts/v.md", "Judge it.\n").write("schemas/v.schema.json", schema);
    orch.write(
        "pipelines/main.yaml",
        &format!(
            "name: test\ninputs: {{ level: {{ type: integer }} }}\nagents: {{ judge: {{ model: auto }} }}\nsteps:\n  - \
             {{ id: v, agent: judge, prompt: v.md, output: v }}\n  - id: two\n    inputs: [v]\n    when: {condition}\n    \
             run: [echo, \"{{{{ level }}}}\"]\n    access: none\n"
        ),
    );
    orch
}

fn found(condition: &str) -> Vec<String> {
    findings(&project(condition), &[]).into_values().flatten().collect()
}

#[test]
fn the_guard_of_a_compound_expression_is_about_the_operand_that_may_be_missing() {
    for (condition, finding, mended) in [
        (
            "v.ok and level > 1",
            "ORCH0602 `v.ok` may be missing [\"guard it: `v.ok is defined and …`, or set a default: `v.ok | default(…)`\"]",
            "v.ok is defined and v.ok and level > 1",
        ),
        (
            "level > 1 and v.ok",
            "ORCH0602 `v.ok` may be missing [\"guard it: `v.ok is defined and …`, or set a default: `v.ok | default(…)`\"]",
            "level > 1 and v.ok | default(false)",
        ),
        (
            "(v.list | max if level > 1 else 0) > 3",
            "ORCH0602 `v.list | max` may be missing [\"guard it: `v.list and …`, or set a default: `v.list | max | default(…)`\"]",
            "(v.list | max | default(0) if level > 1 else 0) > 3",
        ),
        (
            "v.flag or (v.ok if level > 1 else v.flag)",
            "ORCH0602 `v.ok` may be missing",
            "v.flag or (v.ok | default(false) if level > 1 else v.flag)",
        ),
    ] {
        let before = found(condition);
        assert!(before.len() == 1 && before[0].starts_with(finding), "{condition}: {before:#?}");
        assert_eq!(found(mended), [""; 0], "{mended}");
    }
}

#[test]
fn advice_about_a_condition_that_is_no_boolean_is_about_the_operand() {
    for (condition, advice, mended) in [
        ("v.flag and v.list", "compare its length: `v.list | length > 0`", "v.flag and v.list | length > 0"),
        ("level and v.flag", "compare it: `level > 0`", "level > 0 and v.flag"),
        ("level + 1", "compare it: `(level + 1) > 0`", "(level + 1) > 0"),
    ] {
        let before = found(condition);
        assert!(before.len() == 1 && before[0].starts_with("ORCH0605"), "{condition}: {before:#?}");
        assert!(before[0].contains(advice), "{condition}: {before:#?}");
        assert_eq!(found(mended), [""; 0], "{mended}");
    }
}

#[test]
fn operands_with_operators_are_shown_in_parentheses() {
    let printed = |template: &str| {
        let orch = project("level > 1");
        orch.write("prompts/v.md", template);
        findings(&orch, &[]).into_values().flatten().collect::<Vec<String>>()
    };
    for (template, advice) in [
        ("{{ [level] + [1] }}", "write `{{ ([level] + [1]) | tojson }}`"),
        ("{{ 8 / (level - 1) }}", "guard it: `{% if (level - 1) != 0 %}"),
    ] {
        let found = printed(template);
        assert!(found.len() == 1 && found[0].contains(advice), "{template}: {found:#?}");
    }
}

#[test]
fn quotes_that_are_missing_around_a_whole_value_are_named() {
    for (step, advice) in [
        ("{ id: w, when: level in [1, 2], run: echo }", "put quotes around the whole value"),
        ("{ id: w, run: echo {{ level }} }", "put quotes around the whole value"),
        ("{ id: w, run: echo a, b }", "put quotes around the whole value before this one"),
        ("{ id: w, when: level | replace(\"a\", \"b\") == \"c\", run: echo }", "put quotes around the whole value"),
        ("{ id: w, run: echo,\n      when: \"a\" == level }", "put quotes around the whole value"),
    ] {
        let orch = Orch::empty();
        let text = format!("name: x\ninputs: {{ level: {{ type: integer }} }}\nsteps:\n  - {step}\n");
        orch.write("pipelines/main.yaml", &text);
        let found: Vec<String> = findings(&orch, &[]).into_values().flatten().collect();
        assert!(found.len() == 1 && found[0].contains(advice), "{step}: {found:#?}");
    }
}
