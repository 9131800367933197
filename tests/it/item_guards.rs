//! Conditions, schemas and filters that show that an item, a character or a property exists, and those that do not.

use crate::signatures::{assert_found, assert_silent};

const SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "required": [
    "names", "rows", "lists", "two", "some", "map", "full_map", "text", "word", "key", "size", "mixed", "level", "pair"
  ],
  "properties": {
    "names": { "type": "array", "items": { "type": "string" } },
    "rows": { "type": "array", "items": {
      "type": "object", "additionalProperties": false, "required": ["name"],
      "properties": { "name": { "type": "string" }, "age": { "type": "integer" } }
    } },
    "lists": { "type": "array", "items": { "type": "array", "items": { "type": "integer" } } },
    "two": { "type": "array", "items": { "type": "integer" }, "minItems": 2 },
    "some": { "type": "array", "items": { "type": "integer" }, "contains": { "minimum": 1 } },
    "map": { "type": "object", "additionalProperties": { "type": "integer" } },
    "full_map": { "type": "object", "additionalProperties": { "type": "integer" }, "minProperties": 1 },
    "text": { "type": "string" },
    "word": { "type": "string", "minLength": 1 },
    "key": { "type": "string" },
    "size": { "type": "integer", "minimum": 1, "maximum": 9 },
    "mixed": { "type": ["integer", "string"] },
    "level": { "enum": ["a", null, 3] },
    "pair": {
      "type": "object", "additionalProperties": false,
      "properties": { "a": { "type": "integer" }, "b": { "type": "integer" }, "c": { "type": "integer" } },
      "dependentRequired": { "a": ["b"], "b": ["c"] }
    }
  }
}"#;

#[test]
fn a_guard_of_a_list_reaches_through_filters_that_keep_an_item() {
    assert_silent(
        SCHEMA,
        &[
            "{% if plan.names %}{{ plan.names | sort | first | upper }}{{ plan.names | unique | last }}{% endif %}",
            "{% if plan.names %}{{ (plan.names | map('upper') | list)[-1] }}{{ (plan.names | sort)[0] }}{% endif %}",
            "{% if plan.names | length > 1 %}{{ (plan.names | reverse | list)[1] }}{% endif %}",
            "{% if plan.rows %}{{ (plan.rows | sort(attribute='name') | last).name }}{% endif %}",
            "{{ plan.rows | map(attribute='name') | map('length') | max if plan.rows else 0 }}",
            "{% if plan.text %}{{ plan.text | lines | first | upper }}{{ plan.text | list | last }}{% endif %}",
            "{% if plan.map %}{{ (plan.map | dictsort | first)[0] }}{{ plan.map | items | length }}{% endif %}",
            "{% if plan.names %}{{ (plan.names | batch(2) | first)[0] }}{{ 8 / (plan.names | sort | length) }}{% endif %}",
            "{% if plan.names | sort %}{{ plan.names | first }}{% endif %}",
            "{% set n = plan.names | length %}{% if n > 1 %}{{ plan.names[1] }}{% endif %}",
            "{% set n = plan.names | length %}{% if not n < 2 %}{{ plan.names[1] }}{{ plan.names[n - 1] | default('') }}{% endif %}",
            "{% set n = plan.names | length %}{% set many = n >= 2 %}{% if many %}{{ plan.names[1] }}{% endif %}",
            "{% with n = plan.names | length %}{% if n == 2 %}{% set a, b = plan.names %}{{ a }}{{ b }}{% endif %}{% endwith %}",
        ],
    );
    assert_found(
        SCHEMA,
        &[
            ("{{ plan.names | sort | first }}", "ORCH0602", "may be missing"),
            ("{% if plan.names %}{{ (plan.names | unique | list)[1] }}{% endif %}", "ORCH0602", "may be missing"),
            ("{% if plan.names | length > 1 %}{{ (plan.names | unique | list)[1] }}{% endif %}", "ORCH0602", "missing"),
            ("{% if plan.names %}{{ plan.names | select | first }}{% endif %}", "ORCH0602", "may be missing"),
            ("{% if plan.names %}{{ plan.names[1:] | first }}{% endif %}", "ORCH0602", "may be missing"),
            ("{% if plan.text %}{{ plan.text | split | first }}{% endif %}", "ORCH0602", "may be missing"),
            ("{% if plan.rows %}{{ plan.names | zip(plan.rows) | first }}{% endif %}", "ORCH0602", "may be missing"),
            (
                "{% set n = plan.names | length %}{% if n > 0 %}{{ plan.names[1] }}{% endif %}",
                "ORCH0602",
                "may be missing",
            ),
            (
                "{% set n = plan.names | length %}{% if n < 2 %}{{ plan.names[1] }}{% endif %}",
                "ORCH0602",
                "may be missing",
            ),
            (
                "{% set l = plan.names %}{% set n = l | length %}{% set l = plan.lists %}{% if n > 1 %}{{ l[1] | join }}{% endif %}",
                "ORCH0602",
                "`l[1]` may be missing",
            ),
            // A later iteration sees the other value of `n`.
            (
                "{% set n = plan.names | length %}{% for i in [1, 2] %}{% if n > 1 %}{{ plan.names[1] }}{% endif %}{% set n = 5 %}{% endfor %}",
                "ORCH0602",
                "`plan.names[1]` may be missing",
            ),
        ],
    );
}

#[test]
fn a_schema_shows_that_there_is_an_item_a_character_or_a_property() {
    assert_silent(
        SCHEMA,
        &[
            "{{ plan.word[0] }} {{ plan.word | first | upper }} {{ plan.word[-1] }} {{ plan.word | upper | last }}",
            "{{ plan.some | first }} {{ plan.some[0] + 1 }} {{ plan.full_map | first }} {{ (plan.full_map | items | list)[0][0] }}",
            "{{ plan.two[1:] | first }} {{ plan.two[:-1] | last }} {{ plan.two[-2:][1] }} {{ plan.two[::2] | first }}",
            "{{ plan.word[:1] | first }} {{ (plan.two + plan.lists)[1] | string }} {{ (plan.text or 'none')[0] }}",
            "{{ range(3)[1] }} {{ range(plan.size) | max }} {{ range(1, 4) | last + 1 }} {{ range(0, 5, 2)[2] }}",
            "{{ (plan.text | tojson)[0] }} {{ (plan.size | string)[0] }} {{ 'abc'[0] }}",
        ],
    );
    assert_found(
        SCHEMA,
        &[
            ("{{ plan.word[1] }}", "ORCH0602", "may be missing"),
            ("{{ plan.text[0] }}", "ORCH0602", "may be missing"),
            ("{{ (plan.word | trim)[0] }}", "ORCH0602", "may be missing"),
            ("{{ plan.some[1] }}", "ORCH0602", "may be missing"),
            ("{{ plan.map | first }}", "ORCH0602", "may be missing"),
            ("{{ plan.two[2:] | first }}", "ORCH0602", "may be missing"),
            ("{{ plan.two[:-2] | first }}", "ORCH0602", "may be missing"),
            ("{{ plan.two[-1:1] | first }}", "ORCH0602", "may be missing"),
            ("{{ plan.two[::2][1] }}", "ORCH0602", "may be missing"),
            ("{{ range(plan.size)[1] }}", "ORCH0602", "may be missing"),
            ("{{ range(1, plan.size) | max }}", "ORCH0602", "may be missing"),
        ],
    );
}

#[test]
fn a_condition_about_a_name_or_a_kind_guards_the_value() {
    assert_silent(
        SCHEMA,
        &[
            "{% if plan.key in plan.map %}{{ plan.map[plan.key] + 1 }}{% endif %}",
            "{% if plan.key is in(plan.map) %}{{ plan.map[plan.key] + 1 }}{% endif %}",
            "{% for name in plan.names if name in plan.map %}{{ plan.map[name] + 1 }}{% endfor %}",
            "{{ plan.map[plan.key] + 1 if plan.key in plan.map else 0 }}",
            "{% if plan.mixed is integer %}{{ plan.mixed + 1 }}{% endif %}",
            "{% if plan.mixed is string %}{{ plan.mixed | lines | length }}{% else %}{{ plan.mixed + 1 }}{% endif %}",
            "{% if plan.level == 'a' %}{{ plan.level + 'x' }}{% elif plan.level is none %}-{% else %}{{ plan.level + 1 }}{% endif %}",
            "{% if plan.level == 3 %}{{ plan.level + 1 }}{% endif %}{% if plan.level in ['a'] %}{{ plan.level + 'x' }}{% endif %}",
            "{% if plan.pair.a is defined %}{{ plan.pair.a + plan.pair.b + plan.pair.c }}{% endif %}",
            "{% if plan.pair.b %}{{ plan.pair.c }}{% endif %}",
        ],
    );
    assert_found(
        SCHEMA,
        &[
            ("{% if plan.key in plan.names %}{{ plan.map[plan.key] + 1 }}{% endif %}", "ORCH0602", "may be missing"),
            ("{% if plan.key not in plan.map %}{{ plan.map[plan.key] + 1 }}{% endif %}", "ORCH0602", "may be missing"),
            ("{% if plan.size in plan.two %}{{ plan.two[plan.size] }}{% endif %}", "ORCH0602", "may be missing"),
            (
                "{% set k = plan.key %}{% if k in plan.map %}{% set k = plan.text %}{{ plan.map[k] + 1 }}{% endif %}",
                "ORCH0602",
                "may be missing",
            ),
            (
                "{% if plan.mixed is not integer %}{{ plan.mixed + 'x' }}{% endif %}",
                "ORCH0603",
                "which may happen here",
            ),
            ("{% if plan.level != 'a' %}{{ plan.level + 1 }}{% endif %}", "ORCH0603", "which may happen here"),
            ("{% if plan.pair.b is defined %}{{ plan.pair.a }}{% endif %}", "ORCH0602", "`plan.pair.a` may be missing"),
            ("{% if plan.pair.c %}{{ plan.pair.b }}{% endif %}", "ORCH0602", "`plan.pair.b` may be missing"),
        ],
    );
}

#[test]
fn items_without_a_property_may_be_left_out() {
    assert_silent(
        SCHEMA,
        &[
            "{{ plan.rows | map(attribute='age') | select('defined') | sum }}",
            "{{ plan.rows | map(attribute='age') | reject('undefined') | list | length }}",
            "{{ plan.rows | map(attribute='age') | unique | list | select('integer') | sum }}",
            "{{ plan.rows | map(attribute='age') | map('default', 0) | max if plan.rows else 0 }}",
            "{{ plan.rows | map(attribute='age') | select | sum }} {{ plan.rows | map(attribute='age') | sum }}",
            "{{ plan.names | map('first') | join }} {{ plan.lists | map('first') | sum }}",
            "{% for x in plan.lists | select | map('first') %}{{ x + 1 }}{% endfor %}",
            "{% for x in plan.names | select | map('last') %}{{ x | upper }}{% endfor %}",
        ],
    );
    assert_found(
        SCHEMA,
        &[
            ("{{ plan.rows | map(attribute='age') | join(', ') }}", "ORCH0602", "may lack `age`"),
            ("{{ plan.rows | map(attribute='age') | select('even') | sum }}", "ORCH0602", "may lack `age`"),
            (
                "{{ plan.rows | map(attribute='age') | reject('defined') | list | length }}",
                "ORCH0602",
                "may lack `age`",
            ),
            ("{% for x in plan.lists | map('first') %}{{ x }}{% endfor %}", "ORCH0602", "may be empty, and `first`"),
            ("{{ plan.lists | map('max') | first | default(0) }}", "ORCH0602", "may be empty, and `max`"),
        ],
    );
}

#[test]
fn a_slice_has_the_items_and_the_lengths_of_its_list() {
    assert_silent(
        SCHEMA,
        &[
            "{% set a, b = plan.two[:2] %}{{ a + b }}",
            "{% set a, b = plan.two[-2:] %}{{ a + b }}{{ plan.two[:2][1] }}",
            "{% for n in plan.names[:3] %}{{ plan.names[loop.index0] }}{{ n }}{% endfor %}",
            "{% for n in plan.names[1:] %}{{ plan.names[loop.index] }}{{ plan.names[loop.index0 + 1] }}{{ n }}{% endfor %}",
            "{% for r in (plan.rows if plan.size > 3 else plan.rows[1:])[:2] %}{{ r.name | upper }}{% endfor %}",
            // A group that a filter selects is still a list of two items.
            "{% for name, group in plan.rows | groupby('name') | selectattr('grouper', 'ne', 'x') %}{{ name }}{{ group | length }}{% endfor %}",
        ],
    );
    assert_found(
        SCHEMA,
        &[
            ("{% set a, b = plan.names[:2] %}{{ a }}{{ b }}", "ORCH0603", "2 variables unpack only a list of 2 items"),
            ("{% set a, b = plan.two[:3] %}{{ a }}{{ b }}", "ORCH0603", "2 variables unpack only a list of 2 items"),
            (
                "{% for n in plan.names[1:] %}{{ plan.names[loop.index + 1] }}{{ n }}{% endfor %}",
                "ORCH0602",
                "`plan.names[loop.index + 1]` may be missing",
            ),
            (
                "{% for r in (plan.rows if plan.size > 3 else plan.rows[1:])[:2] %}{{ r.nmae }}{% endfor %}",
                "ORCH0601",
                "`r` has no `nmae`",
            ),
        ],
    );
}
