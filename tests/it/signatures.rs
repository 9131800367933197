//! What dies at run time is found before: arguments, unpacking, indexes, divisions, conversions and constants. Right
//! idioms give no finding, also with `--strict`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::Orch;

/// The schema of the artifact that the templates read.
pub(crate) const SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "required": [
    "title", "kind", "level", "digits", "score", "count", "size", "rate", "position", "names", "steps", "pairs",
    "triples", "lists", "scores"
  ],
  "properties": {
    "title": { "type": "string" },
    "kind": { "enum": ["new", "old"] },
    "level": { "enum": ["1", "2"] },
    "digits": { "type": "string", "pattern": "^[0-9]+$" },
    "score": { "type": "integer", "minimum": 0, "maximum": 10 },
    "count": { "type": "integer", "minimum": 0 },
    "size": { "type": "integer", "minimum": 1 },
    "rate": { "type": "number", "exclusiveMinimum": 0 },
    "position": { "type": "integer", "minimum": 0 },
    "names": { "type": "array", "items": { "type": "string" } },
    "steps": {
      "type": "array",
      "items": {
        "type": "object",
        "additionalProperties": false,
        "required": ["title", "kind", "size"],
        "properties": {
          "title": { "type": "string" },
          "kind": { "enum": ["new", "old"] },
          "size": { "type": "integer" },
          "note": { "type": "string" }
        }
      }
    },
    "pairs": {
      "type": "array",
      "items": {
        "type": "array",
        "prefixItems": [{ "type": "string" }, { "type": "integer" }],
        "items": false,
        "minItems": 2
      }
    },
    "triples": {
      "type": "array", "items": { "type": "array", "items": { "type": "string" }, "minItems": 3, "maxItems": 3 }
    },
    "lists": { "type": "array", "items": { "type": "array", "items": { "type": "string" } } },
    "scores": { "type": "object", "additionalProperties": { "type": "integer" } }
  }
}"#;

/// A project in which each template is the prompt of a step that reads the artifact `plan` of this schema.
fn project(schema: &str, templates: &[&str]) -> Orch {
    let orch = Orch::empty();
    let mut pipeline = "name: test\nagents: { writer: { model: auto } }\nsteps:\n".to_owned();
    pipeline.push_str("  - { id: plan, agent: writer, prompt: plan.md, output: plan }\n");
    for (index, template) in templates.iter().enumerate() {
        orch.write(&format!("prompts/t{index}.md"), template);
        let step = format!("id: s{index}, agent: writer, prompt: t{index}.md, inputs: [plan], output: o{index}");
        pipeline.push_str(&format!("  - {{ {step}, schema: text }}\n"));
    }
    orch.write("prompts/plan.md", "Plan it.\n").write("schemas/plan.schema.json", schema);
    orch.write("pipelines/main.yaml", &pipeline);
    orch
}

/// The findings by file, each as its code, its message and its help.
pub(crate) fn findings(orch: &Orch, more: &[&str]) -> BTreeMap<String, Vec<String>> {
    let args = [&["pipeline", "validate", "pipelines/main.yaml", "--format", "json"], more].concat();
    let ran = orch.run(&args);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for finding in report["findings"].as_array().unwrap() {
        let (code, message) = (finding["code"].as_str().unwrap(), finding["message"].as_str().unwrap());
        let path = finding["location"]["path"].as_str().unwrap_or_default().to_owned();
        found.entry(path).or_default().push(format!("{code} {message} {}", finding["help"]));
    }
    found
}

/// Checks that each template has a finding with this code and these words.
pub(crate) fn assert_found(schema: &str, rows: &[(&str, &str, &str)]) {
    let templates: Vec<&str> = rows.iter().map(|(template, ..)| *template).collect();
    let found = findings(&project(schema, &templates), &[]);
    let mut missed = Vec::new();
    for (index, (template, code, words)) in rows.iter().enumerate() {
        let own = found.get(&format!("prompts/t{index}.md")).cloned().unwrap_or_default();
        if !own.iter().any(|finding| finding.starts_with(code) && finding.contains(words)) {
            missed.push(format!("{template}: {code} … {words}\n  found: {own:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// Checks that no template has a finding, also with `--strict`.
pub(crate) fn assert_silent(schema: &str, templates: &[&str]) {
    let orch = project(schema, templates);
    for more in [&[][..], &["--strict"]] {
        let found: Vec<String> = findings(&orch, more)
            .into_iter()
            .map(|(path, own)| {
                let index: Option<usize> =
                    path.strip_prefix("prompts/t").and_then(|name| name.strip_suffix(".md")?.parse().ok());
                format!("{path} {}: {own:#?}", index.map_or("", |index| templates[index]))
            })
            .collect();
        assert!(found.is_empty(), "{more:?}\n{}", found.join("\n"));
    }
}

#[test]
fn wrong_arguments_of_filters_tests_and_functions_are_found() {
    assert_found(
        SCHEMA,
        &[
            ("{{ plan.names | batch(0) | length }}", "ORCH0420", "must be an integer from 1"),
            ("{{ plan.names | batch(plan.count) | length }}", "ORCH0420", "which `plan.count` may not be"),
            ("{{ plan.title | replace('a') }}", "ORCH0420", "needs the argument `to`"),
            ("{{ plan.title | replace('a', 'b', 'c') }}", "ORCH0420", "takes at most 2 arguments by position"),
            ("{{ plan.title | default(value='x') }}", "ORCH0420", "does not take the argument `value` by name"),
            ("{{ plan.names | sort(revers=true) | join }}", "ORCH0420", "reverse=…"),
            ("{{ plan.names | sort('x') | join }}", "ORCH0420", "takes its arguments only by name"),
            ("{{ plan.title | upper('x') }}", "ORCH0420", "takes no arguments"),
            ("{{ plan.title | int(0, default=1) }}", "ORCH0420", "gets the argument `default` twice"),
            ("{{ plan.score | round(1, 'up') }}", "ORCH0420", "must be one of `common`, `ceil`, `floor`"),
            ("{{ plan.title | split(plan.score) | length }}", "ORCH0420", "must be a string"),
            ("{{ plan.names | tojson(indent=20) }}", "ORCH0420", "from 0 to 16"),
            ("{{ plan.title | indent('2') }}", "ORCH0420", "must be an integer from 0"),
            ("{{ plan.names | map('uper') | join }}", "ORCH0405", "did you mean `upper`?"),
            ("{{ plan.names | map('replace', 'a') | join }}", "ORCH0420", "the filter `replace` needs"),
            ("{{ plan.names | map | join }}", "ORCH0420", "needs the name of a filter or a property"),
            ("{{ plan.names | select('startswith', 'a') | list | length }}", "ORCH0405", "unknown test"),
            ("{{ plan.names | select('divisibleby') | list | length }}", "ORCH0420", "the test `divisibleby` needs"),
            ("{{ plan.steps | sort(attribute='titel') | length }}", "ORCH0601", "did you mean `title`?"),
            ("{{ plan.steps | selectattr('titel') | list | length }}", "ORCH0601", "did you mean `title`?"),
            ("{{ plan.steps | selectattr('kind', 'eq', 'odd') | list | length }}", "ORCH0604", "is never `odd`"),
            ("{{ plan.steps | map(attribute='note') | join }}", "ORCH0602", "may lack `note`"),
            ("{% if plan.size is divisibleby %}x{% endif %}", "ORCH0420", "the test `divisibleby` needs"),
            ("{% if plan.kind is eq('new', 'old') %}x{% endif %}", "ORCH0420", "takes at most 1 argument"),
            ("{{ range('3') | length }}", "ORCH0420", "must be an integer"),
            ("{{ range(1, 5, 0) | length }}", "ORCH0420", "an integer other than 0"),
            ("{{ range(200000) | length }}", "ORCH0420", "makes at most 100000 numbers"),
            ("{{ range(0, 400000, 3) | length }}", "ORCH0420", "makes at most 100000 numbers"),
            ("{{ range(plan.score * 20000) | length }}", "ORCH0420", "`plan.score * 20000` may require more"),
            ("{{ range(0, -20000 * plan.score, -1) | length }}", "ORCH0420", "may require more"),
            ("{{ dict('x') | length }}", "ORCH0420", "must be an object"),
        ],
    );
}

#[test]
fn right_arguments_are_silent() {
    assert_silent(
        SCHEMA,
        &[
            "{{ plan.names | batch(3) | length }} {{ plan.names | slice(plan.size) | list | length }}",
            "{{ plan.title | replace('a', 'b') }} {{ plan.title | indent(2, first=true) | trim('x') }}",
            "{{ plan.names | sort(reverse=true, case_sensitive=false) | join(', ') }}",
            "{{ plan.steps | sort(attribute='kind, title') | map(attribute='title') | join(', ') }}",
            "{{ plan.steps | map(attribute='note', default='-') | join(', ') }}",
            "{{ plan.steps | selectattr('note', 'defined') | list | length }}",
            "{{ plan.steps | rejectattr('size', 'gt', 3) | sum(attribute='size') }}",
            "{{ plan.names | map('replace', 'a', 'b') | map('upper') | join(d=', ') }}",
            "{{ plan.names | select('startingwith', 'a') | unique | list | length }}",
            "{{ plan.rate | round(2) }} {{ plan.rate | round(precision=1, method='floor') }}",
            "{{ plan.names | tojson(indent=plan.score) }} {{ plan.title | split(':', 1) | first }}",
            "{{ range(plan.score) | list | length }} {{ range(10, 0, -2) | list | length }}",
            "{{ range(0, 1000000, -1) | length }} {{ range(plan.score, 0, -plan.size) | length }}",
            "{{ range(plan.names | length) | list | length }} {{ range(1, plan.names | length + 1) | length }}",
            "{% set n = plan.names | length %}{% for i in range(n) %}{{ i }}{% endfor %}",
            "{% if plan.count < 50 %}{{ range(plan.count) | length }}{% endif %}",
            "{{ dict(a=1, b=plan.title).b }} {{ plan.names | join('x' if plan.count else 'y') }}",
            "{% if plan.kind is in(['new', 'old']) and plan.size is divisibleby(3) %}x{% endif %}",
        ],
    );
}

#[test]
fn values_that_variables_cannot_unpack_are_found() {
    assert_found(
        SCHEMA,
        &[
            ("{% for n, s in plan.scores %}{{ n }}{{ s }}{% endfor %}", "ORCH0603", "`plan.scores | items`"),
            ("{% for a, b in plan.names %}{{ a }}{{ b }}{% endfor %}", "ORCH0603", "is a string, which 2 variables"),
            ("{% for a, b in plan.steps %}{{ a }}{{ b }}{% endfor %}", "ORCH0603", "is an object, which 2 variables"),
            ("{% for a, b in plan.triples %}{{ a }}{{ b }}{% endfor %}", "ORCH0603", "has 3 items"),
            ("{% for a, b in plan.lists %}{{ a }}{{ b }}{% endfor %}", "ORCH0603", "may have any number of items"),
            ("{% set a, b = plan.score %}{{ a }}{{ b }}", "ORCH0603", "is a number, which 2 variables"),
            ("{% set a, b = plan.title | split(':') %}{{ a }}{{ b }}", "ORCH0603", "may have any number of items"),
            ("{% for n in plan.score %}{{ n }}{% endfor %}", "ORCH0603", "a loop cannot iterate over it"),
            ("{% for n in plan.count > 3 %}{{ n }}{% endfor %}", "ORCH0603", "a loop cannot iterate over it"),
        ],
    );
    assert_silent(
        SCHEMA,
        &[
            "{% for name, score in plan.scores | items %}{{ name }}{{ score + 1 }}{% endfor %}",
            "{% for name, score in plan.scores | dictsort %}{{ name | upper }}{{ score + 1 }}{% endfor %}",
            "{% for name, count in plan.pairs %}{{ name | upper }}{{ count + 1 }}{% endfor %}",
            "{% for a, b, c in plan.triples %}{{ a }}{{ b }}{{ c }}{% endfor %}",
            "{% for step, name in plan.steps | zip(plan.names) %}{{ step.title }}{{ name | upper }}{% endfor %}",
            "{% for kind, group in plan.steps | groupby('kind') %}{{ kind }}{{ group | length }}{% endfor %}",
            "{% for a, b in plan.names | batch(2, '') %}{{ a }}{{ b }}{% endfor %}",
            "{% set x = plan.title | split(':') %}{% if x | length == 2 %}{% set a, b = x %}{{ a }}{{ b }}{% endif %}",
            "{% set a, b = plan.title, plan.size %}{{ a | upper }}{{ b + 1 }}",
        ],
    );
}

#[test]
fn items_at_computed_positions_that_may_be_missing_are_found() {
    assert_found(
        SCHEMA,
        &[
            ("{{ plan.names[plan.position] }}", "ORCH0602", "may be missing"),
            ("{{ plan.names[plan.position + 1] }}", "ORCH0602", "may be missing"),
            ("{{ plan.scores[plan.title] }}", "ORCH0602", "may be missing"),
            ("{{ plan.scores.total }}", "ORCH0602", "may be missing"),
            ("{% for n in plan.names %}{{ plan.lists[loop.index0] | length }}{% endfor %}", "ORCH0602", "missing"),
            ("{{ plan.names[plan.title] }}", "ORCH0601", "a list has only numbered items"),
            ("{{ plan.scores[plan.score] }}", "ORCH0601", "the names of an object are strings"),
            ("{{ plan.names[:plan.title] | join }}", "ORCH0603", "not the position of an item"),
            ("{{ plan.names[:plan.score / 2] | join }}", "ORCH0603", "may be a fraction"),
            ("{{ plan.names[::0] | join }}", "ORCH0603", "can't be 0"),
            ("{{ plan.score[1:] }}", "ORCH0603", "which has no items"),
        ],
    );
    assert_silent(
        SCHEMA,
        &[
            "{% if plan.position < plan.names | length %}{{ plan.names[plan.position] }}{% endif %}",
            "{% if plan.names | length > plan.position %}{{ plan.names[plan.position] }}{% endif %}",
            "{% if plan.names[plan.position] is defined %}{{ plan.names[plan.position] }}{% endif %}",
            "{{ plan.names[plan.position] | default('-') }} {{ plan.scores.total | default(0) }}",
            "{% for name in plan.names %}{{ plan.names[loop.index0] }}{{ name }}{% endfor %}",
            "{% for n in range(plan.names | length) %}{{ plan.names[n] }}{% endfor %}",
            "{% for name in plan.scores %}{{ plan.scores[name] + 1 }}{% endfor %}",
            "{% for name, score in plan.scores | items %}{{ plan.scores[name] + score }}{% endfor %}",
            "{{ plan.names[:plan.score] | join }} {{ plan.names[plan.score // 2:] | join }} {{ plan.title[:10] }}",
            "{% for pair in plan.pairs %}{{ pair[0] | upper }}{{ pair[1] + 1 }}{% endfor %}",
        ],
    );
}

#[test]
fn texts_that_may_be_no_numbers_are_found() {
    assert_found(
        SCHEMA,
        &[
            ("{{ plan.title | int }}", "ORCH0603", "`plan.title | int(default=0)`"),
            ("{{ plan.title | float + 1 }}", "ORCH0603", "may not represent a number"),
            ("{{ plan.names | map('float') | sum }}", "ORCH0603", "may not represent a number"),
            ("{{ plan.kind | int }}", "ORCH0603", "may not represent a number"),
            ("{{ 'abc' | int }}", "ORCH0603", "may not represent a number"),
        ],
    );
    assert_silent(
        SCHEMA,
        &[
            "{{ plan.title | int(default=0) + 1 }} {{ plan.title | int(0) }} {{ plan.title | float(0.0) }}",
            "{{ plan.digits | int + 1 }} {{ plan.level | int }} {{ plan.score | int }} {{ plan.rate | float }}",
            "{{ plan.names | map('int', 0) | sum }} {{ '3' | int }} {{ true | int }}",
        ],
    );
}

#[test]
fn constants_that_never_match_are_found() {
    assert_found(
        SCHEMA,
        &[
            ("{% if plan.score > 10 %}x{% endif %}", "ORCH0620", "`plan.score > 10` is never true"),
            ("{% if plan.score < 0 %}x{% endif %}", "ORCH0620", "is never true"),
            ("{% if 10 < plan.score %}x{% endif %}", "ORCH0620", "is never true"),
            ("{% if plan.score == 11 %}x{% endif %}", "ORCH0604", "`plan.score` is never 11"),
            ("{% if plan.score == 2.5 %}x{% endif %}", "ORCH0604", "`plan.score` is never 2.5"),
            ("{% if plan.kind is eq('odd') %}x{% endif %}", "ORCH0604", "`plan.kind` is never `odd`"),
            ("{% if plan.kind is in(['new', 'odd']) %}x{% endif %}", "ORCH0604", "`plan.kind` is never `odd`"),
        ],
    );
    assert_silent(
        SCHEMA,
        &[
            "{% if plan.score >= 10 or plan.score <= 0 or plan.score == 10.0 %}x{% endif %}",
            "{% if plan.count > 100 and plan.names | length == 0 and plan.score in [1, 2] %}x{% endif %}",
            "{% set debug = 0 %}{% if debug == 1 %}x{% endif %}",
            // Another step may use the prompt without the condition.
            "{% if plan.score > 5 %}{% if plan.score < 3 or plan.score == 2 %}x{% endif %}{% endif %}",
        ],
    );
}

#[test]
fn keywords_that_describe_cases_give_types() {
    let schema = r#"{
      "type": "object",
      "additionalProperties": false,
      "required": ["shape", "tags", "owner", "change"],
      "properties": {
        "shape": {
          "type": "object",
          "required": ["kind"],
          "properties": {
            "kind": { "enum": ["circle", "square"] }, "radius": { "type": "number" }, "side": { "type": "number" }
          },
          "if": { "properties": { "kind": { "const": "circle" } } },
          "then": { "required": ["radius"] },
          "else": { "required": ["side"] }
        },
        "tags": {
          "type": "object", "additionalProperties": false, "patternProperties": { "^x_": { "type": "integer" } }
        },
        "owner": { "type": ["string", "null"], "not": { "const": null } },
        "change": {
          "type": "object",
          "required": ["path"],
          "properties": { "path": { "type": "string" } },
          "oneOf": [
            { "required": ["op", "text"], "properties": { "op": { "const": "write" }, "text": { "type": "string" } } },
            { "required": ["op", "to"], "properties": { "op": { "const": "move" }, "to": { "type": "string" } } }
          ]
        }
      }
    }"#;
    assert_found(
        schema,
        &[
            ("{{ plan.shape.radius * 2 }}", "ORCH0602", "`plan.shape.radius` may be missing"),
            ("{% if plan.shape.kind == 'square' %}{{ plan.shape.radius }}{% endif %}", "ORCH0602", "may be missing"),
            ("{{ plan.tags.y }}", "ORCH0601", "has no `y`"),
            ("{{ plan.tags.x_a }}", "ORCH0602", "may be missing"),
            ("{% if plan.tags.x_a is defined %}{{ plan.tags.x_a.b }}{% endif %}", "ORCH0601", "is a number"),
            ("{% if plan.owner is none %}x{% endif %}{{ plan.owner.name }}", "ORCH0601", "is a string"),
        ],
    );
    assert_silent(
        schema,
        &[
            "{% if plan.shape.kind == 'circle' %}{{ plan.shape.radius * 2 }}{% else %}{{ plan.shape.side }}{% endif %}",
            "{% if plan.tags.x_a is defined %}{{ plan.tags.x_a + 1 }}{% endif %} {{ plan.owner | upper }}",
            "{{ plan.change.path }}{% if plan.change.op == 'write' %}{{ plan.change.text }}{% endif %}",
        ],
    );
}

#[test]
fn only_a_strict_check_reports_what_the_schemas_leave_open() {
    let schema = r#"{
      "type": "object",
      "required": ["anything", "details", "size"],
      "properties": {
        "anything": {}, "details": { "type": "object" }, "items": { "type": "array" }, "size": { "type": "integer" }
      }
    }"#;
    let rows = [
        ("{{ plan.details.reason }}", "the schema of `plan.details` does not say whether `reason` exists"),
        ("{{ plan.anything + 1 }}", "nothing says what `plan.anything` is"),
        ("{% for x in plan.anything %}{{ x }}{% endfor %}", "nothing says what `plan.anything` is"),
        ("{{ plan.anything | upper }}", "nothing says what `plan.anything` is"),
        ("{% for x in plan['items'] | default([]) %}{{ x.name }}{% endfor %}", "nothing says what `x` is"),
        ("{{ plan.anything * 2 }}", "nothing says what `plan.anything` is"),
        (
            "{{ range(plan.size) | length }}",
            "nothing says how large `plan.size` is: the function `range` makes at most",
        ),
        ("{{ 2 ** plan.size }}", "nothing says how large `plan.size` is: an integer of more than 128 bits fails"),
        ("{{ plan.size ** 3 }}", "nothing says how large `plan.size` is: an integer of more than 128 bits fails"),
        ("{{ plan.size * plan.size * plan.size }}", "nothing says how large `plan.size` is: an integer of more"),
        ("{{ 'x' * plan.size }}", "nothing says how large `plan.size` is: `*` makes at most 100 million"),
    ];
    let orch = project(schema, &rows.map(|(template, _)| template));
    assert!(findings(&orch, &[]).is_empty(), "{:#?}", findings(&orch, &[]));
    let found = findings(&orch, &["--strict"]);
    for (index, (template, words)) in rows.iter().enumerate() {
        let own = found.get(&format!("prompts/t{index}.md")).cloned().unwrap_or_default();
        let is_found = own.iter().any(|finding| finding.starts_with("ORCH0630") && finding.contains(words));
        assert!(is_found && own.len() == 1, "{template}: {own:#?}");
    }
    // What a condition shows to exist needs no schema.
    let guarded = "{% if plan.details.reason is defined %}{{ plan.details.reason }}{% endif %}";
    assert_silent(schema, &[guarded, "{{ plan.anything | tojson }}"]);
    let ran = orch.run(&["pipeline", "validate", "--strict", "--deny", "warnings"]).exits(2);
    assert!(ran.stderr.contains("ORCH0630"), "{}", ran.stderr);
    orch.run(&["pipeline", "validate", "--deny", "warnings"]).exits(0);
}
