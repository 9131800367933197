//! Guards of the items of lists, and of the parts of an item.

use super::{ALWAYS_R, findings, prompt_findings};

#[test]
fn a_filter_that_selects_items_by_a_property_guards_the_property() {
    let none: [&str; 0] = [];
    for select in [
        r#"selectattr("detail")"#,
        r#"selectattr("detail", "defined")"#,
        r#"rejectattr("detail", "undefined")"#,
        r#"selectattr("detail", "string")"#,
        r#"selectattr("detail", "eq", "x")"#,
    ] {
        for text in [
            format!("{{{{ r.items | {select} | map(attribute=\"detail\") | join(\", \") }}}}"),
            format!("{{% for item in r.items | {select} %}}{{{{ item.detail }}}}{{% endfor %}}"),
        ] {
            assert_eq!(prompt_findings(&text), none, "{text}");
        }
    }
    for select in [r#"rejectattr("detail")"#, r#"selectattr("size")"#, r#"selectattr("detail", "undefined")"#, "list"] {
        let text = format!("{{% for item in r.items | {select} %}}{{{{ item.detail }}}}{{% endfor %}}");
        assert_eq!(prompt_findings(&text), ["`item.detail` may be missing"], "{text}");
    }
    // An undefined value is less than every number, so it passes this test.
    let text = "{% for item in r.items | selectattr('size', 'lt', 3) %}{{ item.size }}{% endfor %}";
    assert_eq!(prompt_findings(text), ["`item.size` may be missing"]);
}

#[test]
fn a_text_split_at_a_separator_has_an_item() {
    let none: [&str; 0] = [];
    for prompt in [
        "{{ r.note | split(',') | first | upper }}",
        "{{ r.note | split(',') | last | upper }}",
        "{{ (r.note | split(','))[0] | upper }}",
        "{{ (r.note | split(',') | map('trim') | list)[-1] | upper }}",
    ] {
        assert_eq!(prompt_findings(prompt), none, "{prompt}");
    }
    for prompt in [
        "{{ r.note | split | first | upper }}",
        "{{ (r.note | split(','))[1] | upper }}",
        "{{ r.note | lines | first | upper }}",
        "{{ (r.note | split(',') | select | list)[0] | upper }}",
    ] {
        assert_eq!(prompt_findings(prompt).len(), 1, "{prompt}");
    }
}

#[test]
fn an_entry_has_a_value_or_an_error_by_its_status() {
    let none: [&str; 0] = [];
    for prompt in [
        "{% for p in parts if p.status == 'completed' %}{{ p.value.note }}{% endfor %}",
        "{% for p in parts %}{% if p.status == 'completed' %}{{ p.value.note }}{% else %}{{ p.error.message }}{% endif %}{% endfor %}",
        "{% for p in parts %}{% if p.status != 'failed' %}{{ p.index + 1 }}{% else %}{{ p.error.class }}{% endif %}{% endfor %}",
        "{% for p in parts %}{% if p.error %}{{ p.error.message }}{% else %}{{ p.value.note }}{% endif %}{% endfor %}",
        "{% for p in parts %}{% if p.value is defined %}{{ p.value.n }}{% else %}{{ p.error.message }}{% endif %}{% endfor %}",
        "{% for p in parts %}{% if p.status == 'failed' %}{{ p.error.class }}{% else %}{{ p.value.note }}{% endif %}{% endfor %}",
        "{% for p in parts %}{% if p.status != 'failed' %}{{ p.value.note }}{% else %}{{ p.error.class }}{% endif %}{% endfor %}",
        "{% for p in parts if p.status != 'completed' %}{{ p.error.class }}{% endfor %}",
        "{{ parts | selectattr('status', 'eq', 'completed') | map(attribute='value.note') | join(', ') }}",
        "{{ parts | selectattr('status', 'ne', 'failed') | map(attribute='value.note') | join(', ') }}",
        "{{ parts | rejectattr('status', 'eq', 'failed') | map(attribute='value.note') | join(', ') }}",
        "{{ parts | rejectattr('status', 'eq', 'completed') | map(attribute='error.message') | join(', ') }}",
        "{{ parts | rejectattr('error') | map(attribute='value.note') | join(', ') }}",
        "{{ parts | selectattr('error', 'defined') | map(attribute='error.message') | join(', ') }}",
    ] {
        assert_eq!(prompt_findings(prompt), none, "{prompt}");
    }
    for (prompt, expected) in [
        ("{% for p in parts %}{{ p.value.note }}{% endfor %}", "`p.value` may be missing"),
        ("{% for p in parts %}{{ p.error.message }}{% endfor %}", "`p.error` may be missing"),
        ("{% for p in parts if p.status == 'done' %}x{% endfor %}", "`p.status` is never `done`"),
        ("{% for p in parts if p.status == 'cancelled' %}x{% endfor %}", "`p.status` is never `cancelled`"),
        ("{% for p in parts if p.status == 'completed' %}{{ p.error.message }}{% endfor %}", "`p` has no `error`"),
        ("{% for p in parts if p.status == 'completed' %}{{ p.value.nte }}{% endfor %}", "`p.value` has no `nte`"),
        (
            "{% for p in parts if p.error and p.error.class == 'time_out' %}x{% endfor %}",
            "`p.error.class` is never `time_out`",
        ),
        ("{{ parts | map(attribute='value') | list | length }}", "some items of `parts` may lack `value`"),
        (
            "{{ (parts | selectattr('error') | map(attribute='value') | list)[0] }}",
            "`parts | selectattr('error')[…]` has no `value`",
        ),
    ] {
        let found = prompt_findings(prompt);
        assert!(found.iter().any(|message| message == expected), "{prompt}: {found:?}");
    }
}

#[test]
fn a_part_of_an_item_may_be_missing() {
    let steps = |text: &str| {
        format!(
            r#"{ALWAYS_R}
  - id: each
    for_each: r.items
    inputs: [r]
    output: parts
    steps:
      - {{ id: draft, agent: a, prompt: p.md, output: draft, schema: r }}
      - {{ id: polish, when: not draft.ok, inputs: [draft], agent: a, prompt: p.md, output: polished, schema: r }}
      - {{ id: rate, inputs: [draft], agent: a, prompt: p.md, output: rating, schema: r, on_error: continue }}
  - {{ id: tell, inputs: [parts], approve: "{{% for part in parts %}}{text}{{% endfor %}}" }}"#
        )
    };
    let none: [&str; 0] = [];
    for text in [
        "{{ part.draft.note }}",
        "{% if part.polished %}{{ part.polished.note }}{% endif %}",
        "{% if part.rating is defined %}{{ part.rating.n }}{% endif %}",
        "{{ (part.polished or part.draft).note }}",
        // The step ran under the same condition.
        "{% if not part.draft.ok %}{{ part.polished.note }}{% endif %}",
        "{% if part.draft.ok == false %}{{ part.polished.note }}{% else %}{{ part.draft.note }}{% endif %}",
        "{{ part.draft.note if part.draft.ok else part.polished.note }}",
    ] {
        assert_eq!(findings(&steps(text)), none, "{text}");
    }
    for (text, expected) in [
        ("{{ part.polished.note }}", "`part.polished` may be missing"),
        ("{% if part.draft.ok %}{{ part.polished.note }}{% endif %}", "`part.polished` may be missing"),
        ("{% if not part.draft.ok %}{{ part.rating.note }}{% endif %}", "`part.rating` may be missing"),
        (
            "{% if part.polished %}{% for x in parts %}{{ x.polished.note }}{% endfor %}{% endif %}",
            "`x.polished` may be missing",
        ),
        (
            "{% if not part.draft.ok %}{% set part = parts[0] if parts[0] is defined else part %}{{ part.polished.note }}{% endif %}",
            "`part.polished` may be missing",
        ),
        ("{{ part.rating.n }}", "`part.rating` may be missing"),
        ("{{ part.drft.note }}", "`part` has no `drft`"),
        ("{{ part.draft.nte }}", "`part.draft` has no `nte`"),
    ] {
        assert_eq!(findings(&steps(text)), [expected], "{text}");
    }
}

#[test]
fn the_neighbors_of_an_item_exist_beside_the_first_and_the_last() {
    let none: [&str; 0] = [];
    for body in [
        "{% if not loop.first %}{{ loop.previtem.title }}{% endif %}",
        "{% if loop.first or loop.previtem.title != i.title %}x{% endif %}",
        "{% if loop.index > 1 %}{{ loop.previtem.title }}{% endif %}",
        "{% if loop.nextitem is defined %}{{ loop.nextitem.title }}{% endif %}",
        "{{ '' if loop.last else loop.nextitem.title }}",
    ] {
        let prompt = format!("{{% for i in r.items %}}{body}{{% endfor %}}");
        assert_eq!(prompt_findings(&prompt), none, "{body}");
    }
    for body in ["{{ loop.previtem.title }}", "{% if loop.first %}{{ loop.previtem.title }}{% endif %}"] {
        let prompt = format!("{{% for i in r.items %}}{body}{{% endfor %}}");
        assert_eq!(prompt_findings(&prompt), ["`loop.previtem` may be missing"], "{body}");
    }
}

#[test]
fn conditions_about_an_item_hold_for_no_other_item() {
    let steps = |when: &str, text: &str| {
        format!(
            r#"{ALWAYS_R}
  - id: each
    for_each: r.items
    inputs: [r]
    output: parts
    on_error: continue
    steps:
      - {{ id: draft, agent: a, prompt: p.md, output: draft, schema: r }}
      - {{ id: polish, when: {when}, inputs: [draft, r], agent: a, prompt: p.md, output: polished, schema: r }}
  - {{ id: tell, inputs: [parts, r], approve: "{{% for p in parts if p.value is defined %}}{text}{{% endfor %}}" }}"#
        )
    };
    let none: [&str; 0] = [];
    let guarded = "{% if p.value.draft.ok %}{{ p.value.polished.note }}{% endif %}";
    assert_eq!(findings(&steps("draft.ok", guarded)), none);
    assert_eq!(findings(&steps("draft.n > 3", "{{ p.value.polished.note if p.value.draft.n > 3 else 0 }}")), none);
    // This condition is about a value outside of the items.
    assert_eq!(findings(&steps("r.ok", "{% if r.ok %}{{ p.value.polished.note }}{% endif %}")), none);
    let expected = ["`p.value.polished` may be missing"];
    assert_eq!(findings(&steps("draft.ok", "{{ p.value.polished.note }}")), expected);
    assert_eq!(findings(&steps("r.ok", guarded)), expected);
    assert_eq!(
        findings(&steps("draft.ok", &guarded.replace("if p.value.draft.ok", "if not p.value.draft.ok"))),
        expected
    );
    // Neither what is known about the item, nor what is not known about a condition, is the same for another item.
    let other = "{% if p.value.polished %}{% for q in parts if q.value is defined %}{{ q.value.polished.note }}{% endfor %}{% endif %}";
    for when in ["draft.ok", "item.title == draft.note", "range(draft.n) | length > 1", "index > 2"] {
        assert_eq!(findings(&steps(when, other)), ["`q.value.polished` may be missing"], "{when}");
    }
}

#[test]
fn the_index_of_an_item_is_a_position_in_the_list_that_is_mapped() {
    let steps = |list: &str, message: &str, text: &str| {
        format!(
            r#"{ALWAYS_R}
  - {{ id: each, for_each: "{list}", inputs: [r], agent: a, prompt: p.md, message: "{message}", output: parts, schema: r, on_error: continue }}
  - {{ id: again, for_each: "parts | selectattr('status', 'eq', 'failed')", inputs: [parts, r], agent: a, prompt: p.md, message: "{{{{ r.items[item.index].title }}}}", output: more, schema: r }}
  - {{ id: tell, inputs: [parts, r], approve: "{{% for p in parts %}}{text}{{% endfor %}}" }}"#
        )
    };
    let none: [&str; 0] = [];
    let (item, outcome) = ("{{ r.items[index].title }}", "{{ r.items[p.index].title }}");
    for list in ["r.items", "r.items[:3]", "r.items[1:]", "r.items | selectattr('size', 'defined')"] {
        assert_eq!(findings(&steps(list, item, outcome)), none, "{list}");
    }
    let next = "{{ r.items[index + 1].title }}";
    assert_eq!(findings(&steps("r.items[1:]", next, outcome)), none);
    assert_eq!(findings(&steps("r.items[:3]", next, outcome)), ["`r.items[index + 1]` may be missing"]);
    let wrong = "{{ r.items[p.index + 1].title }}";
    assert_eq!(findings(&steps("r.items", item, wrong)), ["`r.items[p.index + 1]` may be missing"]);
}

#[test]
fn a_list_of_results_has_as_many_items_as_the_list_that_is_mapped() {
    let steps = |text: &str| {
        format!(
            r#"  - {{ id: each, for_each: "['a', 'b']", agent: a, prompt: p.md, message: "{{{{ item }}}}", output: parts, schema: r }}
  - {{ id: tell, inputs: [parts], approve: "{text}" }}"#
        )
    };
    let none: [&str; 0] = [];
    assert_eq!(findings(&steps("{{ parts[1].note }}{{ (parts | last).note }}")), none);
    assert_eq!(findings(&steps("{{ parts[2].note }}")), ["`parts[2]` may be missing"]);
}

#[test]
fn an_item_is_another_one_in_a_list_inside_an_item() {
    let steps = |list: &str| {
        format!(
            r#"{ALWAYS_R}
  - id: outer
    for_each: "[[r.items], [r.items]]"
    inputs: [r]
    steps:
      - {{ id: each, for_each: item, agent: a, prompt: p.md, message: "{{{{ item | tojson }}}}", output: parts, schema: r }}
      - {{ id: inner, for_each: "{list}", inputs: [r, parts], approve: "{{% for i in item %}}{{{{ parts[loop.index0].note }}}}{{{{ i | tojson }}}}{{% endfor %}}" }}"#
        )
    };
    assert_eq!(findings(&steps("[r.items]")), ["`parts[loop.index0]` may be missing"]);
}
