//! Values that may be null and become text: the check finds them where nothing handles null.

use crate::signatures::{assert_found, assert_silent};

const SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "required": ["owner", "names"],
  "properties": {
    "owner": { "type": ["string", "null"] },
    "note": { "type": ["string", "null"] },
    "names": { "type": "array", "items": { "type": ["string", "null"] } }
  }
}"#;

#[test]
fn null_that_becomes_text_is_found() {
    assert_found(
        SCHEMA,
        &[
            ("{{ plan.owner }}", "ORCH0602", "`plan.owner` may be null, and its text is then `None`"),
            ("{{ plan.owner }}", "ORCH0602", "`plan.owner | default(…, true)`"),
            ("{{ plan.owner | upper }}", "ORCH0602", "`{% if plan.owner is not none %}…{% endif %}`"),
            ("{{ plan.owner ~ '!' }}", "ORCH0602", "may be null"),
            ("{{ plan.owner[:3] }}", "ORCH0602", "a slice of it is then an empty list"),
            ("{{ plan.owner | default('x') }}", "ORCH0602", "may be null"),
            ("{{ plan.owner | string | length }}", "ORCH0602", "may be null"),
            ("{{ plan.names | join(', ') }}", "ORCH0602", "an item of `plan.names` may be null"),
            ("{% for name in plan.names %}{{ name }}{% endfor %}", "ORCH0602", "`name` may be null"),
            ("{{ plan.note }}", "ORCH0602", "{% if plan.note is defined and plan.note is not none %}"),
            ("{{ plan.note }}", "ORCH0602", "`plan.note` may be missing or null"),
            ("{{ plan.owner | length }}", "ORCH0603", "set a default: `plan.owner | default(…, true)`"),
            ("{{ plan.owner + '!' }}", "ORCH0603", "guard it: `{% if plan.owner is not none %}…{% endif %}`"),
            ("{% if plan.note is defined %}{{ plan.note }}{% endif %}", "ORCH0602", "`plan.note` may be null"),
        ],
    );
}

#[test]
fn null_that_the_template_handles_is_silent() {
    assert_silent(
        SCHEMA,
        &[
            "{% if plan.owner %}{{ plan.owner | upper }}{% endif %}{{ plan.owner or 'open' }}",
            "{{ plan.owner if plan.owner is not none else 'open' }} {{ plan.owner | default('x', true) ~ '!' }}",
            "{% if plan.note is defined and plan.note is not none %}{{ plan.note }}{% endif %}",
            "{% if plan.owner is none %}open{% else %}{{ plan.owner | trim }}{% endif %}",
            "{{ plan.names | reject('none') | join(', ') }} {{ plan.names | select | join(', ') }}",
            "{{ plan.owner | tojson }} {{ (plan.owner or '')[:3] }}",
        ],
    );
}
