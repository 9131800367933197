//! Unions whose branches a boolean tells apart: after a test of it, the members of the branch exist.

use crate::signatures::{assert_found, assert_silent};

const SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "required": ["result"],
  "properties": {
    "result": {
      "oneOf": [
        {
          "type": "object",
          "additionalProperties": false,
          "required": ["ok", "value"],
          "properties": { "ok": { "const": true }, "value": { "type": "string" } }
        },
        {
          "type": "object",
          "additionalProperties": false,
          "required": ["ok", "problem"],
          "properties": { "ok": { "const": false }, "problem": { "type": "string" } }
        }
      ]
    }
  }
}"#;

#[test]
fn a_boolean_tells_the_branches_of_a_union_apart() {
    assert_silent(
        SCHEMA,
        &[
            "{% if plan.result.ok %}{{ plan.result.value }}{% else %}{{ plan.result.problem }}{% endif %}",
            "{{ plan.result.value if plan.result.ok else plan.result.problem }}",
        ],
    );
    assert_found(
        SCHEMA,
        &[
            ("{{ plan.result.value }}", "ORCH06", "plan.result.value"),
            ("{% if plan.result.ok %}{{ plan.result.problem }}{% endif %}", "ORCH06", "problem"),
        ],
    );
}
