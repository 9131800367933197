//! Guards of values of the previous iteration, and what is known at the end of a pipeline with `finally`.

use super::{ALWAYS_R, MAYBE_R, findings};

/// A loop whose first step shows a text.
fn loop_with_text(text: &str) -> String {
    format!(
        r#"  - id: fix
    repeat:
      until: r.ok or said.approved
      max: 3
      steps:
        - {{ id: tell, approve: "{text}" }}
        - {{ id: s, agent: a, prompt: p.md, output: r }}
        - {{ id: rate, agent: a, prompt: p.md, output: q, schema: r, on_error: continue }}
        - {{ id: ask, when: not r.ok, inputs: [r], approve: "{{{{ r.note }}}}", on_reject: continue, output: said }}
        - {{ id: more, when: r.n > 3, inputs: [r], agent: a, prompt: p.md, output: x, schema: r }}"#
    )
}

#[test]
fn a_condition_on_the_iteration_shows_that_there_is_a_previous_one() {
    let none: [&str; 0] = [];
    for text in [
        "{% if loop.previous %}{{ loop.previous.r.note }}{% endif %}",
        "{% if not loop.first %}{{ loop.previous.r.note }} {{ loop.previous.steps.s.status }}{% endif %}",
        "{% if loop.index > 1 %}{{ loop.previous.r.note }}{% endif %}",
        "{% if loop.previous.steps %}{{ loop.previous['r'].note }}{% endif %}",
        "{{ loop.previous.r.note if loop.previous.r else '' }}",
        "{{ (loop.previous.r | default({'note': ''})).note }}",
        "{% set before = loop.previous %}{% if before %}{{ before.r.note }}{% endif %}",
        "{% set before = loop.previous %}{% if not loop.first %}{{ before.r.note }} {{ before.steps.s.status }}{% endif %}",
        "{% set before = loop.previous %}{% if not loop.first %}{% for i in [1, 2] %}{{ before.r.note }}{{ i }}{% endfor %}{% endif %}",
    ] {
        assert_eq!(findings(&loop_with_text(text)), none, "{text}");
    }
    for (text, missing) in [
        ("{{ loop.previous.r.note }}", "loop.previous.r"),
        ("{% set before = loop.previous %}{{ before.r.note }}", "before.r"),
        ("{% set before = loop.previous %}{% if loop.first %}{{ before.r.note }}{% endif %}", "before.r"),
        ("{{ loop.previous.steps.s.status }}", "loop.previous.steps"),
        ("{% if loop.first %}{{ loop.previous.r.note }}{% endif %}", "loop.previous.r"),
        ("{% if loop.index > 0 %}{{ loop.previous.r.note }}{% endif %}", "loop.previous.r"),
    ] {
        assert_eq!(findings(&loop_with_text(text)), [format!("`{missing}` may be missing")], "{text}");
    }
}

#[test]
fn a_value_of_the_previous_iteration_exists_under_the_condition_of_its_step() {
    let none: [&str; 0] = [];
    for text in [
        "{% if loop.previous and loop.previous.r.n > 3 %}{{ loop.previous.x.note }}{% endif %}",
        "{% if loop.previous.x %}{{ loop.previous.x.note }}{% endif %}",
        "{% if loop.previous and loop.previous.steps.rate.status == 'completed' %}{{ loop.previous.q.note }}{% endif %}",
        "{% if loop.previous and loop.previous.steps.rate.status == 'failed' %}{{ loop.previous.steps.rate.error }}{% endif %}",
        "{% if loop.previous and not loop.previous.r.ok %}{{ loop.previous.said.approved }}{% endif %}",
        // The condition of the loop was false after the previous iteration, so the step that asks has run.
        "{% if loop.previous %}{{ loop.previous.said.approved }}{% endif %}",
    ] {
        assert_eq!(findings(&loop_with_text(text)), none, "{text}");
    }
    for (text, missing) in [
        ("{% if loop.previous %}{{ loop.previous.x.note }}{% endif %}", "loop.previous.x"),
        ("{% if loop.previous %}{{ loop.previous.q.note }}{% endif %}", "loop.previous.q"),
        ("{% if loop.previous %}{{ loop.previous.steps.rate.error }}{% endif %}", "loop.previous.steps.rate.error"),
    ] {
        assert_eq!(findings(&loop_with_text(text)), [format!("`{missing}` may be missing")], "{text}");
    }
    let text = "{% if loop.previous and loop.previous.steps.s.status == 'failed' %}x{% endif %}";
    assert_eq!(findings(&loop_with_text(text)), ["`loop.previous.steps.s.status` is never `failed` here"]);
}

#[test]
fn a_condition_about_this_iteration_says_nothing_about_the_previous_one() {
    let steps = |text: &str| {
        let late = format!(r#"        - {{ id: late, when: r.n > 3, inputs: [r], approve: "{text}" }}"#);
        format!("{}\n{late}", loop_with_text("Go on?"))
    };
    let text = "{% if loop.previous %}{{ loop.previous.x.note }}{% endif %}";
    assert_eq!(findings(&steps(text)), ["`loop.previous.x` may be missing"]);
    let text = "{% if loop.previous and loop.previous.r.n > 3 %}{{ loop.previous.x.note }}{% endif %}";
    let none: [&str; 0] = [];
    assert_eq!(findings(&steps(text)), none);
}

#[test]
fn an_inner_loop_knows_the_iteration_of_the_outer_loop() {
    let steps = |when: &str, text: &str| {
        format!(
            r#"  - id: outer
    repeat:
      max: 2
      steps:
        - id: inner{when}
          repeat:
            max: 2
            until: loop.index == 2
            steps:
              - {{ id: tell, approve: "{text}" }}
        - {{ id: s, agent: a, prompt: p.md, output: r }}"#
        )
    };
    let none: [&str; 0] = [];
    let read = "{{ loop.parent.previous.r.note }}";
    assert_eq!(findings(&steps("\n          when: not loop.first", read)), none);
    for guard in ["not loop.parent.first", "loop.parent.previous", "loop.parent.index > 1"] {
        assert_eq!(findings(&steps("", &format!("{{% if {guard} %}}{read}{{% endif %}}"))), none, "{guard}");
    }
    let missing = ["`loop.parent.previous.r` may be missing"];
    assert_eq!(findings(&steps("", read)), missing);
    // The condition is about the iteration of the inner loop.
    for guard in ["not loop.first", "loop.previous"] {
        assert_eq!(findings(&steps("", &format!("{{% if {guard} %}}{read}{{% endif %}}"))), missing, "{guard}");
    }
}

#[test]
fn outputs_are_computed_only_if_no_step_failed() {
    let steps = |producer: &str, when: &str, output: &str| {
        format!(
            r#"{producer}
finally:
  - {{ id: tidy, when: {when}, inputs: ["r?"], run: [echo, tidy], access: none, output: t, schema: text }}
outputs: {{ t: {output} }}"#
        )
    };
    let none: [&str; 0] = [];
    assert_eq!(findings(&steps(ALWAYS_R, "steps.s.status == \"completed\"", "t")), none);
    assert_eq!(findings(&steps(MAYBE_R, "r is defined", "t if r is defined else \"\"")), none);
    for (producer, when) in [(ALWAYS_R, "steps.s.status == \"failed\""), (MAYBE_R, "r is defined")] {
        assert_eq!(findings(&steps(producer, when, "t")), ["`t` may be missing"], "{when}");
    }
}
