//! Arithmetic that fails for some values: what the check reports, and the conditions that show that it does not fail.

use crate::signatures::{SCHEMA, assert_found, assert_silent};

#[test]
fn divisions_by_what_may_be_0_are_found() {
    assert_found(
        SCHEMA,
        &[
            ("{{ plan.score / plan.count }}", "ORCH0603", "`plan.count` may be 0"),
            ("{{ plan.score // (plan.names | length) }}", "ORCH0603", "may be 0"),
            ("{{ plan.score % (plan.size - 1) }}", "ORCH0603", "may be 0"),
            ("{{ plan.score / 0 }}", "ORCH0603", "`0` is 0"),
            ("{% if plan.count < 5 %}{{ plan.score / plan.count }}{% endif %}", "ORCH0603", "may be 0"),
            ("{% if plan.count in [0, 4] %}{{ plan.score / plan.count }}{% endif %}", "ORCH0603", "may be 0"),
            ("{% if plan.count in [plan.score, 4] %}{{ plan.score / plan.count }}{% endif %}", "ORCH0603", "may be 0"),
            ("{% if plan.count not in [3, 4] %}{{ plan.score / plan.count }}{% endif %}", "ORCH0603", "may be 0"),
            ("{% if not plan.count > 3 %}{{ plan.score / plan.count }}{% endif %}", "ORCH0603", "may be 0"),
            (
                "{% for s in plan.steps | map(attribute='size') | reject('equalto', 1) %}{{ 10 / s }}{% endfor %}",
                "ORCH0603",
                "`s` may be 0",
            ),
            (
                "{% for s in plan.steps | rejectattr('size', 'ne', 0) %}{{ 10 / s.size }}{% endfor %}",
                "ORCH0603",
                "is 0",
            ),
        ],
    );
    assert_silent(
        SCHEMA,
        &[
            "{{ plan.score / plan.size }} {{ plan.score / plan.rate }} {{ plan.score % 3 }}",
            "{% if plan.count %}{{ plan.score / plan.count }}{% endif %}",
            "{% if plan.count > 0 %}{{ plan.score / plan.count }}{% else %}none{% endif %}",
            "{% if plan.count == 0 %}none{% else %}{{ plan.score / plan.count }}{% endif %}",
            "{{ plan.score / plan.count if plan.count != 0 else 0 }}",
            "{% if plan.names %}{{ plan.score / (plan.names | length) }}{% endif %}",
            "{% for name in plan.names %}{{ 100 * loop.index / loop.length }}{{ name }}{% endfor %}",
            "{{ plan.score / (plan.count + 1) }} {{ plan.score / ([plan.count, 1] | max) }}",
            "{% if not plan.count < 1 %}{{ plan.score / plan.count }}{% endif %}",
            "{% if plan.position in [2, 4] %}{{ plan.score / plan.position }}{% endif %}",
            "{% if plan.position not in [0, 4] %}{{ plan.score / plan.position }}{% endif %}",
            "{% if 1 <= plan.position < 4 %}{{ plan.score / plan.position }}{% endif %}",
            "{% if plan.position == 3 %}{{ plan.score / plan.position }}{% endif %}",
            // A run never gets here, for example because another step uses the prompt, too.
            "{% if plan.count == 0 %}{% if plan.count > 0 %}{{ plan.score / plan.count }}{% endif %}{% endif %}",
            "{% if plan.count < 1 %}{% if plan.count %}{{ plan.names | batch(plan.count) | length }}{% endif %}{% endif %}",
            "{% for s in plan.steps | map(attribute='size') | reject('equalto', 0) %}{{ 10 / s }}{% endfor %}",
            "{% for s in plan.steps | map(attribute='size') | select('gt', 0) %}{{ 10 / s }}{% endfor %}",
            "{% for s in plan.steps | selectattr('size', 'ne', 0) %}{{ 10 / s.size }}{% endfor %}",
            "{% set total = 0 %}{% if plan.count %}{% set total = plan.size %}{% endif %}{{ total * 2 }}",
        ],
    );
}

#[test]
fn the_bounds_of_results_show_that_a_divisor_is_not_0() {
    let schema = r#"{
      "type": "object", "additionalProperties": false, "required": ["debt", "size", "any"],
      "properties": {
        "debt": { "type": "integer", "minimum": -9, "maximum": -1 }, "size": { "type": "integer", "minimum": 1, "maximum": 9 },
        "any": { "type": "integer" }
      }
    }"#;
    assert_silent(
        schema,
        &[
            "{{ 10 / (plan.debt | abs) }} {{ 10 / plan.size ** 2 }} {{ 10 / plan.debt ** 3 }}",
            "{{ 10 / (plan.size * plan.debt) }} {{ 10 / (range(plan.size) | list | length) }}",
            "{{ 10 / (plan.size if plan.size <= 5 else 5) }} {{ 2 ** plan.size }} {{ plan.any ** 2 }}",
        ],
    );
    assert_found(
        schema,
        &[
            ("{{ 10 / (plan.any | abs) }}", "ORCH0603", "may be 0"),
            ("{{ 10 / plan.any ** 2 }}", "ORCH0603", "may be 0"),
            ("{{ 10 / (plan.size * plan.any) }}", "ORCH0603", "may be 0"),
        ],
    );
}

#[test]
fn operands_that_an_operator_does_not_accept_are_found() {
    let schema = r#"{
      "type": "object", "additionalProperties": false, "required": ["text", "rate", "count", "ok", "map", "any", "list"],
      "properties": {
        "text": { "type": "string" }, "rate": { "type": "number" },
        "count": { "type": "integer", "minimum": 0, "maximum": 9 },
        "ok": { "type": "boolean" }, "map": { "type": "object", "additionalProperties": { "type": "integer" } },
        "any": { "type": "integer" }, "mixed": { "type": ["string", "integer"] }, "list": { "type": "array", "items": {} }
      }
    }"#;
    assert_found(
        schema,
        &[
            (
                "{{ plan.text * plan.rate }}",
                "ORCH0603",
                "`plan.rate` may be a fraction, and `*` then can't repeat a string",
            ),
            ("{{ (plan.rate * plan.list) | tojson }}", "ORCH0603", "can't repeat a list"),
            ("{{ plan.text * plan.text }}", "ORCH0603", "`*` cannot multiply a string and a string"),
            ("{{ plan.map * 2 }}", "ORCH0603", "`*` cannot multiply an object and a number"),
            ("{{ none * 2 }}", "ORCH0603", "`*` cannot multiply null and a number"),
            ("{% if plan.mixed is defined %}{{ plan.mixed * 'a' }}{% endif %}", "ORCH0603", "which may happen here"),
            ("{{ plan.any ** plan.any }}", "ORCH0603", "`plan.any` may be 0 and `plan.any` negative"),
            ("{{ 0 ** -1 }}", "ORCH0603", "`**` then fails"),
            ("{{ -plan.ok }}", "ORCH0603", "`plan.ok` is a boolean, not a number"),
            ("{{ 3 / plan.ok }}", "ORCH0603", "`plan.ok` may be 0"),
            ("{{ plan.text[::plan.count] }}", "ORCH0603", "`plan.count` may be 0, and a slice with the step 0 fails"),
            ("{{ plan.text[::plan.ok] }}", "ORCH0603", "`plan.ok` may be 0"),
            ("{% set k = 0 %}{{ plan.text[::k] }}", "ORCH0603", "the step of a slice can't be 0"),
        ],
    );
    assert_silent(
        schema,
        &[
            "{{ plan.text * 3 }} {{ 3 * plan.text }} {{ plan.text * plan.ok }} {{ plan.ok * 2 }} {{ plan.rate * 2 }}",
            "{{ ('a' * plan.count) | length }} {{ ([0] * plan.count) | length }} {{ plan.text * (plan.text | length) }}",
            "{{ plan.any ** 2 }} {{ plan.any * plan.any }} {{ plan.rate ** 2 }} {{ -plan.rate }} {{ -plan.any }}",
            "{% if plan.count %}{{ plan.text[::plan.count] }}{% endif %} {{ plan.text[::-1] }} {{ plan.text[::none] }}",
        ],
    );
}

#[test]
fn sums_of_what_may_be_no_numbers_are_found() {
    let schema = r#"{
      "type": "object", "additionalProperties": false, "required": ["maybe", "flags", "rows", "lists", "words"],
      "properties": {
        "maybe": { "type": "array", "items": { "type": ["number", "null"] } },
        "flags": { "type": "array", "items": { "type": "boolean" } },
        "words": { "type": "array", "items": { "type": "string" } },
        "lists": { "type": "array", "items": { "type": "array", "items": { "type": "integer" } } },
        "rows": { "type": "array", "items": {
          "type": "object", "additionalProperties": false, "required": ["price"],
          "properties": { "price": { "type": ["number", "null"] }, "size": { "type": "integer" } }
        } }
      }
    }"#;
    assert_found(
        schema,
        &[
            ("{{ plan.maybe | map('default', 0) | sum }}", "ORCH0603", "may be null; `sum` only adds numbers"),
            ("{{ plan.rows | sum(attribute='price') }}", "ORCH0603", "`price` of an item of `plan.rows` may be null"),
            ("{{ plan.maybe | sum(start=1) }}", "ORCH0603", "may be null"),
            ("{{ plan.words | sum(start=[]) }}", "ORCH0603", "a `sum` that starts with a list can't add it"),
            ("{{ plan.lists | map('int') | sum }}", "ORCH0603", "the filter `int` does not accept it"),
            ("{{ plan.words | map('list') | map('sum') | sum }}", "ORCH0603", "an item of an item of"),
        ],
    );
    assert_silent(
        schema,
        &[
            "{{ plan.maybe | map('default', 0, true) | sum }} {{ plan.flags | sum }} {{ plan.rows | sum(attribute='size') }}",
            "{{ plan.maybe | select('integer') | sum }} {{ plan.maybe | select('number') | sum }}",
            "{{ plan.lists | sum(start=[]) | length }} {{ (plan.words | sum(start='')) | upper }}",
            "{{ plan.lists | map('sum') | sum }} {{ plan.lists | map('length') | sum + 1 }}",
        ],
    );
}
