//! Objects whose cases a constant tells apart: a boolean, a number or null. Conditions on the constant select the case,
//! in templates and in the conditions of steps and loops.

use crate::signatures::{assert_found, assert_silent, findings};
use crate::support::Orch;

const SCHEMA: &str = r##"{
  "type": "object", "additionalProperties": false, "required": ["r", "list", "code", "opt", "cond"],
  "properties": {
    "r": { "$ref": "#/$defs/result" },
    "list": { "type": "array", "items": { "$ref": "#/$defs/result" } },
    "code": {
      "type": "object", "required": ["version"],
      "oneOf": [
        { "required": ["a"], "properties": { "version": { "const": 1 }, "a": { "type": "string" } } },
        { "required": ["b"], "properties": { "version": { "const": 2 }, "b": { "type": "string" } } },
        { "required": ["c"], "properties": { "version": { "enum": [3, 4] }, "c": { "type": "string" } } }
      ]
    },
    "opt": {
      "type": "object", "required": ["error"],
      "oneOf": [
        { "required": ["value"], "properties": { "error": { "type": "null" }, "value": { "type": "string" } } },
        { "properties": { "error": {
          "type": "object", "required": ["message"], "properties": { "message": { "type": "string" } }
        } } }
      ]
    },
    "cond": {
      "type": "object", "required": ["ok"],
      "properties": {
        "ok": { "type": "boolean" }, "value": { "type": "string" }, "error": { "type": "string" }
      },
      "if": { "properties": { "ok": { "const": true } } },
      "then": { "required": ["value"] },
      "else": { "required": ["error"] }
    }
  },
  "$defs": { "result": { "oneOf": [
    {
      "type": "object", "additionalProperties": false, "required": ["ok", "value"],
      "properties": { "ok": { "const": true }, "value": { "type": "string" } }
    },
    {
      "type": "object", "additionalProperties": false, "required": ["ok", "error"],
      "properties": { "ok": { "const": false }, "error": { "type": "string" } }
    }
  ] } }
}"##;

/// Conditions that are true if `r.ok` is.
const IS_OK: &[&str] = &[
    "r.ok",
    "r.ok == true",
    "r.ok != false",
    "r.ok is true",
    "r.ok is eq(true)",
    "r.ok in [true]",
    "not r.ok is false",
];

#[test]
fn a_boolean_selects_the_case_in_both_branches() {
    let mut right = Vec::new();
    for condition in IS_OK {
        let condition = condition.replace("r.ok", "plan.r.ok");
        right.push(format!(
            "{{% if {condition} %}}{{{{ plan.r.value }}}}{{% else %}}{{{{ plan.r.error }}}}{{% endif %}}"
        ));
        right.push(format!("{{% if not ({condition}) %}}{{{{ plan.r.error }}}}{{% endif %}}"));
    }
    let more = [
        "{{ plan.r.value if plan.r.ok else plan.r.error }}",
        "{% if plan.r.ok and plan.r.value | length > 3 %}long{% endif %}",
        "{% set ok = plan.r.ok %}{% if ok %}{{ plan.r.value }}{% endif %}",
        "{% set r = plan.r %}{% if not r.ok %}{{ r.error }}{% endif %}",
        "{% for r in plan.list %}{% if r.ok %}{{ r.value }}{% else %}{{ r.error }}{% endif %}{% endfor %}",
        "{% for r in plan.list if not r.ok %}{{ r.error | upper }}{% endfor %}",
        "{{ plan.list | selectattr('ok') | map(attribute='value') | join(', ') }}",
        "{{ plan.list | rejectattr('ok') | map(attribute='error') | join(', ') }}",
        "{{ plan.list | selectattr('ok', 'eq', false) | map(attribute='error') | join(', ') }}",
        "{% if plan.cond.ok %}{{ plan.cond.value }}{% else %}{{ plan.cond.error }}{% endif %}",
    ];
    assert_silent(SCHEMA, &right.iter().map(String::as_str).chain(more).collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for condition in IS_OK {
        let condition = condition.replace("r.ok", "plan.r.ok");
        wrong.push((format!("{{% if {condition} %}}{{{{ plan.r.error }}}}{{% endif %}}"), "`plan.r` has no `error`"));
        wrong.push((
            format!("{{% if {condition} %}}{{% else %}}{{{{ plan.r.value }}}}{{% endif %}}"),
            "`plan.r` has no `value`",
        ));
    }
    let rows: Vec<(&str, &str, &str)> =
        wrong.iter().map(|(template, words)| (template.as_str(), "ORCH0601", *words)).collect();
    assert_found(SCHEMA, &rows);
    assert_found(
        SCHEMA,
        &[
            ("{{ plan.r.value }}", "ORCH0602", "`plan.r.value` may be missing"),
            ("{% for r in plan.list if r.ok %}{{ r.error }}{% endfor %}", "ORCH0601", "`r` has no `error`"),
            ("{{ plan.list | selectattr('ok') | map(attribute='error') | join }}", "ORCH0601", "has no `error`"),
            ("{% if plan.cond.ok %}{{ plan.cond.error }}{% endif %}", "ORCH0602", "`plan.cond.error` may be missing"),
            ("{% if not plan.cond.ok %}{{ plan.cond.value }}{% endif %}", "ORCH0602", "`plan.cond.value` may be"),
        ],
    );
}

#[test]
fn a_number_or_null_selects_the_case() {
    assert_silent(
        SCHEMA,
        &[
            "{% if plan.code.version == 1 %}{{ plan.code.a }}{% elif plan.code.version == 2 %}{{ plan.code.b }}{% else %}{{ plan.code.c }}{% endif %}",
            "{% if plan.code.version in [3, 4] %}{{ plan.code.c }}{% endif %}",
            "{% if plan.code.version not in [1, 2] %}{{ plan.code.c }}{% endif %}",
            "{% if plan.code.version != 1 and plan.code.version != 2 %}{{ plan.code.c }}{% endif %}",
            "{% if plan.code.version is eq(2) %}{{ plan.code.b }}{% endif %}",
            "{% if plan.code.version > 2 %}{{ plan.code.c }}{% endif %}",
            // Another step may use the inner part without the outer condition.
            "{% if plan.code.version == 1 %}{% if plan.code.version == 2 %}two{% endif %}{% endif %}",
            "{% if plan.opt.error %}{{ plan.opt.error.message }}{% else %}{{ plan.opt.value }}{% endif %}",
            "{% if plan.opt.error is none %}{{ plan.opt.value }}{% endif %}",
            "{% if plan.opt.error is not none %}{{ plan.opt.error.message }}{% else %}{{ plan.opt.value }}{% endif %}",
            "{{ plan.opt.value if plan.opt.error == none else plan.opt.error.message }}",
        ],
    );
    assert_found(
        SCHEMA,
        &[
            ("{% if plan.code.version == 1 %}{{ plan.code.b }}{% endif %}", "ORCH0601", "does not declare `b`"),
            ("{% if plan.code.version > 1 %}{{ plan.code.c }}{% endif %}", "ORCH0602", "`plan.code.c` may be missing"),
            ("{% if plan.opt.error %}{{ plan.opt.value }}{% endif %}", "ORCH0601", "does not declare `value`"),
            ("{% if plan.opt.error is none %}{{ plan.opt.error.message }}{% endif %}", "ORCH0601", "is null"),
        ],
    );
}

/// The findings about the values that these steps use. The result of each agent is `r`.
fn step_findings(steps: &str) -> Vec<String> {
    let orch = Orch::empty();
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    orch.write("prompts/p.md", "Do it.\n").write("schemas/r.schema.json", &schema["$defs"]["result"].to_string());
    orch.write("pipelines/main.yaml", &format!("name: test\nagents: {{ a: {{ model: auto }} }}\nsteps:\n{steps}\n"));
    let found = findings(&orch, &[]).into_values().flatten();
    found.filter(|finding| finding.starts_with("ORCH06")).collect()
}

#[test]
fn a_boolean_selects_the_case_in_conditions_of_steps_and_loops() {
    let make = "  - { id: make, agent: a, prompt: p.md, output: r }\n";
    let reader = |when: &str, name: &str| {
        format!("{make}  - {{ id: t, when: \"{when}\", inputs: [r], approve: \"{{{{ r.{name} }}}}\" }}")
    };
    for condition in IS_OK {
        assert_eq!(step_findings(&reader(condition, "value")), [""; 0], "{condition}");
        assert_eq!(step_findings(&reader(&format!("not ({condition})"), "error")), [""; 0], "{condition}");
        let found = step_findings(&reader(condition, "error"));
        assert!(found.len() == 1 && found[0].contains("`r` has no `error`"), "{condition}: {found:#?}");
    }
    let group = |when: &str| {
        format!(
            "{make}  - {{ id: t, when: {when}, inputs: [r], steps: [{{ id: z, inputs: [r], approve: \"{{{{ r.value }}}}\" }}] }}"
        )
    };
    assert_eq!(step_findings(&group("r.ok")), [""; 0]);
    assert!(step_findings(&group("not r.ok"))[0].contains("`r` has no `value`"));
    let repeated = |until: &str| {
        format!(
            "  - {{ id: l, repeat: {{ max: 3, until: {until}, steps: [{{ id: make, agent: a, prompt: p.md, output: r }}] }} }}\n\
             \x20 - {{ id: t, inputs: [r], approve: \"{{{{ r.value }}}}\" }}"
        )
    };
    assert_eq!(step_findings(&repeated("r.ok")), [""; 0]);
    assert_eq!(step_findings(&repeated("r.ok == true")), [""; 0]);
    assert!(step_findings(&repeated("not r.ok"))[0].contains("`r` has no `value`"));
}
