//! Guards in variables, and variables and values that exist only under a condition.

use super::{ALWAYS_R, findings, prompt_findings};

#[test]
fn a_guard_may_be_in_a_variable() {
    let none: [&str; 0] = [];
    for prompt in [
        "{% set ready = q is defined %}{% if ready %}{{ q.note }}{% endif %}",
        "{% set ready = q is defined and q.more is defined %}{% if ready and r.ok %}{{ q.more }}{% endif %}",
        "{% set missing = q is not defined %}{% if missing %}none{% else %}{{ q.note }}{% endif %}",
        "{% with ready = q is defined %}{{ q.note if ready else '-' }}{% endwith %}",
        "{% set ready = r.n > 3 %}{% if ready %}{{ q.note }}{% endif %}",
        "{% set more = r.more %}{% if more %}{{ more }} {{ r.more }}{% endif %}",
    ] {
        assert_eq!(prompt_findings(prompt), none, "{prompt}");
    }
    for prompt in [
        "{% set ready = r.ok %}{% if ready %}{{ q.note }}{% endif %}",
        "{% set ready = q is defined %}{% if not ready %}{{ q.note }}{% endif %}",
        "{% set ready = q is defined or r.ok %}{% if ready %}{{ q.note }}{% endif %}",
    ] {
        assert_eq!(prompt_findings(prompt), ["`q` may be missing"], "{prompt}");
    }
    // The guard was about an earlier value of the variable.
    let prompt = "{% set x = r %}{% set ready = x.more is defined %}\
                  {% if r.ok %}{% set x = q if q is defined else r %}{% endif %}{% if ready %}{{ x.more }}{% endif %}";
    assert_eq!(prompt_findings(prompt), ["`x.more` may be missing"]);
}

#[test]
fn a_variable_that_one_branch_sets_may_be_missing() {
    let none: [&str; 0] = [];
    for prompt in [
        "{% if r.ok %}{% set x = 1 %}{% else %}{% set x = 2 %}{% endif %}{{ x }}",
        "{% if r.ok %}{% set x = 1 %}{% endif %}{% if x is defined %}{{ x }}{% endif %}",
        "{% if r.ok %}{% set x = 1 %}{% endif %}{% if r.ok %}{{ x }}{% endif %}",
        "{% if r.ok %}{% set x = 1 %}{% endif %}{{ x | default(0) }}",
        "{% set x = 0 %}{% if r.ok %}{% set x = 1 %}{% endif %}{{ x }}",
        "{% if r.kind == 'a' %}{% set x = 1 %}{% elif r.kind == 'b' %}{% set x = 2 %}{% endif %}{{ x }}",
        "{% for i in r.items %}{% if i.detail %}{% set x = i.detail %}{% else %}{% continue %}{% endif %}{{ x }}{% endfor %}",
        "{% set text %}{% set x = 1 %}a{% endset %}{{ x }}{{ text }}",
    ] {
        assert_eq!(prompt_findings(prompt), none, "{prompt}");
    }
    for prompt in [
        "{% if r.ok %}{% set x = 1 %}{% endif %}{{ x }}",
        "{% if r.ok %}{% set x = 1 %}{% elif r.n > 1 %}{% set x = 2 %}{% endif %}{{ x }}",
        "{% if r.ok %}{% set x = 1 %}{% endif %}{% if not r.ok %}{{ x }}{% endif %}",
        "{% if r.ok %}{% set x = 1 %}{% endif %}{% if r.n > 1 %}{{ x + 1 }}{% endif %}",
    ] {
        assert_eq!(prompt_findings(prompt), ["`x` may be missing"], "{prompt}");
    }
    // A namespace changes between the two conditions.
    let prompt = "{% set ns = namespace(ok=r.ok) %}{% if ns.ok %}{% set x = 1 %}{% endif %}{% set ns.ok = true %}{% if ns.ok %}{{ x }}{% endif %}";
    assert_eq!(prompt_findings(prompt), ["`x` may be missing"]);
    // Both branches set a value, but only one sets text.
    let prompt = "{% if r.ok %}{% set x = 'a' %}{% else %}{% set x = 2 %}{% endif %}{{ x + 1 }}";
    assert_eq!(prompt_findings(prompt).len(), 1);
}

#[test]
fn a_conditional_expression_without_else_is_only_printed() {
    let none: [&str; 0] = [];
    for prompt in [
        "{{ r.note if r.ok }}",
        "{{ 'Note: ' ~ (r.note if r.ok) }}",
        "{% for i in (r.items if r.ok) %}{{ i.title }}{% endfor %}",
        "{% set note = r.note if r.ok %}{{ note }}{{ note | default('-') | upper }}",
        "{% if (r.note if r.ok) is defined %}x{% endif %}",
    ] {
        assert_eq!(prompt_findings(prompt), none, "{prompt}");
    }
    for (prompt, expected) in [
        ("{{ (r.note if r.ok) | length }}", "`r.note if r.ok` has no value if its condition is false"),
        ("{{ (r if r.ok).note }}", "`r if r.ok` has no value if its condition is false"),
        ("{% set n = r.n if r.ok %}{{ n + 1 }}", "`n` may be missing, because an expression without `else` sets it"),
        ("{{ q.note if r.ok }}", "`q` may be missing"),
    ] {
        assert_eq!(prompt_findings(prompt), [expected], "{prompt}");
    }
    let steps = format!("{ALWAYS_R}\n  - {{ id: t, inputs: [r], when: r.ok if r.n > 1, run: \"true\", access: none }}");
    assert_eq!(findings(&steps), ["`r.ok if r.n > 1` has no value if its condition is false"]);
}
