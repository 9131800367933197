//! What is known about how steps and loops ended.

use super::findings;

#[test]
fn only_a_step_that_did_not_complete_has_an_error() {
    let steps = |text: &str| {
        format!(
            r#"  - {{ id: s, agent: a, prompt: p.md, output: r, on_error: continue }}
  - {{ id: t, inputs: [r?], approve: "{text}" }}"#
        )
    };
    let none: [&str; 0] = [];
    for text in [
        "{% if steps.s.status == 'failed' %}{{ steps.s.error }}{% endif %}",
        "{% if steps.s.status != 'completed' %}{{ steps.s.error }}{% endif %}",
        "{% if steps.s.error %}{{ steps.s.error }}{% endif %}",
        "{% if r %}{{ r.note }}{% else %}{{ steps.s.error }}{% endif %}",
        "{{ r.note if r is defined else steps.s.error }}",
        "{% if steps.s.status == 'completed' %}{{ r.note }}{% else %}{{ steps.s.error }}{% endif %}",
    ] {
        assert_eq!(findings(&steps(text)), none, "{text}");
    }
    for (text, expected) in [
        ("{{ steps.s.error }}", "`steps.s.error` may be missing"),
        ("{% if steps.s.status == 'completed' %}{{ steps.s.error }}{% endif %}", "`steps.s` has no `error`"),
        ("{% if r %}{{ steps.s.error }}{% endif %}", "`steps.s.error` may be missing"),
        ("{{ r.note }}", "`r` may be missing"),
        ("{% if steps.s.status == 'skipped' %}x{% endif %}", "`steps.s.status` is never `skipped` here"),
    ] {
        assert_eq!(findings(&steps(text)), [expected], "{text}");
    }
}

#[test]
fn a_condition_that_needs_an_impossible_status_is_reported() {
    let steps = |on_error: &str, when: &str| {
        format!(
            r#"  - {{ id: build, run: make, access: read{on_error} }}
  - {{ id: report, when: '{when}', run: "true", access: none }}
finally:
  - {{ id: tidy, when: steps.build.status == "failed", run: "true", access: none }}"#
        )
    };
    let never_failed = "`steps.build.status` is never `failed` here";
    for when in [
        "steps.build.status == \"failed\"",
        "steps.build.status == \"failed\" and task == \"x\"",
        "steps.build.status in [\"failed\", \"cancelled\"]",
    ] {
        for on_error in ["", ", on_error: stop"] {
            assert_eq!(findings(&steps(on_error, when)), [never_failed], "{on_error} {when}");
        }
        let none: [&str; 0] = [];
        assert_eq!(findings(&steps(", on_error: continue", when)), none, "{when}");
    }
    let none: [&str; 0] = [];
    for when in [
        "steps.build.status != \"failed\"",
        "not steps.build.status == \"failed\"",
        "steps.build.status == \"completed\"",
    ] {
        assert_eq!(findings(&steps("", when)), none, "{when}");
    }
}

#[test]
fn success_and_outputs_see_that_a_step_may_have_failed() {
    let steps =
        |on_error: &str, rest: &str| format!("  - {{ id: s, agent: a, prompt: p.md, output: r{on_error} }}\n{rest}");
    let none: [&str; 0] = [];
    assert_eq!(findings(&steps("", "success: r.ok\noutputs: { note: r.note }")), none);
    for rest in [
        "success: r is defined and r.ok",
        "success: steps.s.status == \"completed\" and r.ok",
        "success: r.ok if r is defined else true",
    ] {
        assert_eq!(findings(&steps(", on_error: continue", rest)), none, "{rest}");
    }
    let rest = "success: steps.s.status == \"failed\" or r.ok and r.n > 1";
    assert_eq!(findings(&steps(", on_error: continue", rest)), none);
    for rest in ["success: r.ok", "outputs: { note: r.note }", "success: task == \"x\" or r.ok"] {
        assert_eq!(findings(&steps(", on_error: continue", rest)), ["`r` may be missing"], "{rest}");
    }
    // A failed group may have stopped before the step.
    let group = |rest: &str| {
        format!(
            r#"  - id: extras
    on_error: continue
    steps:
      - {{ id: first, run: "true", access: none }}
      - {{ id: s, agent: a, prompt: p.md, output: r }}
{rest}"#
        )
    };
    assert_eq!(findings(&group("success: r.ok")), ["`r` may be missing"]);
    assert_eq!(findings(&group("success: r is not defined or r.ok")), none);
}

#[test]
fn after_a_loop_its_condition_is_true() {
    let steps = |maximum: &str, text: &str| {
        format!(
            r#"  - id: fix
    repeat:
      until: r is defined and r.more is defined
      max: 3{maximum}
      steps:
        - {{ id: s, agent: a, prompt: p.md, output: r, on_error: continue }}
  - {{ id: t, inputs: [r?], approve: "{text}" }}"#
        )
    };
    let none: [&str; 0] = [];
    assert_eq!(findings(&steps("", "{{ r.note }} {{ r.more }}")), none);
    let continued = "\n      on_max_iterations: continue";
    assert_eq!(findings(&steps(continued, "{{ r.note }}")), ["`r` may be missing"]);
}
