//! Comparisons that can never be true because of the kinds and bounds of their values: in operators, in tests and in
//! filters that test each item.

use crate::signatures::{SCHEMA, assert_found, assert_silent};

#[test]
fn tests_of_items_follow_the_rules_of_operators() {
    assert_found(
        SCHEMA,
        &[
            ("{{ plan.steps | selectattr('size', 'ge', '4') | length }}", "ORCH0603", "cannot be ordered with `'4'`"),
            ("{{ plan.steps | selectattr('title', 'equalto', 3) | length }}", "ORCH0604", "can never equal `3`"),
            ("{{ plan.names | select('gt', 3) | length }}", "ORCH0603", "an item of `plan.names` is a string"),
            ("{{ plan.names | reject('equalto', none) | length }}", "ORCH0604", "is never null"),
            ("{% if plan.score is gt(10) %}x{% endif %}", "ORCH0620", "`plan.score` is never `> 10`"),
            ("{% if plan.score is lt(0) %}x{% endif %}", "ORCH0620", "it is from 0 to 10"),
        ],
    );
    assert_silent(
        SCHEMA,
        &[
            "{{ plan.steps | selectattr('size', 'ge', 4) | rejectattr('title', 'equalto', 'a') | length }}",
            "{% set limit = 3 %}{% if limit is gt(5) or plan.score is ge(10) or plan.score is ge(0) %}x{% endif %}",
        ],
    );
}

#[test]
fn the_result_of_a_filter_never_equals_a_text_that_the_filter_changes() {
    assert_found(
        SCHEMA,
        &[
            ("{% if plan.title | upper == 'a' %}x{% endif %}", "ORCH0604", "`plan.title | upper` is never `a`"),
            ("{% if plan.title | lower != 'Ab' %}x{% endif %}", "ORCH0604", "would return `ab`"),
            ("{% if plan.title | trim in ['a', 'b '] %}x{% endif %}", "ORCH0604", "`plan.title | trim` is never `b `"),
        ],
    );
    assert_silent(
        SCHEMA,
        &[
            "{% if plan.title | upper == 'A 1' or plan.title | trim == 'a b' or ' a' in plan.title | trim %}x{% endif %}",
        ],
    );
}

#[test]
fn what_join_does_not_print_as_meant_is_found() {
    assert_found(
        SCHEMA,
        &[
            ("{{ plan.title | join(',') }}", "ORCH0603", "`join` joins its characters"),
            ("{{ plan.steps | join(', ') }}", "ORCH0606", "an item of `plan.steps` is an object"),
            ("{{ plan.lists | join(', ') }}", "ORCH0606", "an item of `plan.lists` is a list"),
        ],
    );
    assert_silent(
        SCHEMA,
        &["{{ plan.names | join(', ') }} {{ plan.steps | map(attribute='title') | join }} {{ plan.scores | join }}"],
    );
}

#[test]
fn a_set_in_a_loop_without_effect_is_found() {
    let advice = "`{% set ns.total = … %}`";
    let sums = "{% set total = 0 %}{% for s in plan.steps %}{% set total = total + s.size %}{% endfor %}{{ total }}";
    let flag =
        "{% set total = 1 %}{% for s in plan.steps %}{% if s.size > 3 %}{% set total = 2 %}{% endif %}{% endfor %}";
    assert_found(SCHEMA, &[(sums, "ORCH0603", "`set total` has no effect"), (flag, "ORCH0603", advice)]);
    assert_silent(
        SCHEMA,
        &[
            "{% set t = 'x' %}{% for s in plan.steps %}{% set t = s.title | upper %}{{ t }}{% endfor %}{{ t }}",
            "{% set ns = namespace(t=0) %}{% for s in plan.steps %}{% set ns.t = ns.t + s.size %}{% endfor %}{{ ns.t }}",
        ],
    );
}

#[test]
fn a_boolean_counts_as_a_number() {
    assert_found(
        SCHEMA,
        &[
            ("{% if (plan.score > 3) == 1 %}x{% endif %}", "ORCH0603", "`true` counts as 1 and `false` as 0"),
            ("{% if (plan.score > 3) == 2 %}x{% endif %}", "ORCH0604", "can never equal `2`"),
            ("{% if (plan.score > 3) > 0 %}x{% endif %}", "ORCH0603", "is compared with `0`"),
        ],
    );
    assert_silent(SCHEMA, &["{{ (plan.score > 3) + 1 }} {{ [true, false] | sum }}"]);
}
