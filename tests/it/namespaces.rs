//! The members of namespaces have types, and lists keep the types of their items: what the check reports, and the idioms
//! that it accepts, also with `--strict`.

use crate::signatures::{assert_found, assert_silent, findings};
use crate::support::Orch;

/// The schema of `plan`.
const SCHEMA: &str = r##"{
  "type": "object", "additionalProperties": false, "required": ["objs", "groups", "names", "tree", "n"],
  "properties": {
    "n": { "type": "integer", "minimum": 0, "maximum": 9 },
    "names": { "type": "array", "items": { "type": "string" } },
    "objs": { "type": "array", "items": { "$ref": "#/$defs/o" } },
    "more": { "type": "array", "items": { "$ref": "#/$defs/o" } },
    "groups": { "type": "array", "items": {
      "type": "object", "additionalProperties": false, "required": ["name", "members"],
      "properties": {
        "name": { "type": "string" }, "members": { "type": "array", "items": { "$ref": "#/$defs/o" } },
        "extra": { "type": "array", "items": { "$ref": "#/$defs/o" } }
      }
    } },
    "tree": {
      "type": ["object", "null"], "additionalProperties": false, "required": ["v"],
      "properties": { "v": { "type": "integer" }, "kids": { "type": "array", "items": { "type": "integer" } } }
    }
  },
  "$defs": { "o": {
    "type": "object", "additionalProperties": false, "required": ["id", "name", "w", "x"],
    "properties": {
      "id": { "type": "integer" }, "name": { "type": "string" }, "w": { "type": ["number", "null"] },
      "x": { "type": "number" }, "tag": { "type": "string" }, "done": { "type": "boolean" }
    }
  } }
}"##;

#[test]
fn mistakes_with_the_members_of_namespaces_are_found() {
    assert_found(
        SCHEMA,
        &[
            (
                "{% set ns = namespace(c=0) %}{% for o in plan.objs %}{% set ns.c = ns.c + 1 %}{% endfor %}{{ ns.d }}",
                "ORCH0601",
                "`ns` has no `d`",
            ),
            (
                "{% set ns = namespace(c=0) %}{% for o in plan.objs if o.done %}{% set ns.c = ns.c + 1 %}{% endfor %}{{ 100 / ns.c }}",
                "ORCH0603",
                "`ns.c` may be 0",
            ),
            (
                "{% set ns = namespace(n=0) %}{% for o in plan.objs %}{% set ns.n = ns.n + o.w %}{% endfor %}{{ ns.n }}",
                "ORCH0603",
                "`+` cannot join a number and null",
            ),
            (
                "{% set ns = namespace(text='') %}{% for o in plan.objs %}{% set ns.text = ns.text + o.id %}{% endfor %}{{ ns.text }}",
                "ORCH0603",
                "`+` cannot join a string and a number",
            ),
            (
                "{% set ns = namespace(names=[]) %}{% for o in plan.objs %}{% set ns.names = ns.names + o.name %}{% endfor %}{{ ns.names | length }}",
                "ORCH0603",
                "`+` cannot join a list and a string",
            ),
            (
                "{% set ns = namespace() %}{% for o in plan.objs %}{% set ns.last = o.name %}{% endfor %}{{ ns.last | upper }}",
                "ORCH0602",
                "`ns.last` may be missing",
            ),
            ("{% set ns = namespace() %}{{ ns.last }}{% set ns.last = 1 %}", "ORCH0602", "`ns.last` may be missing"),
            (
                "{% set ns = namespace(m=none) %}{% for o in plan.objs %}{% set ns.m = o %}{% endfor %}{{ ns.m.name }}",
                "ORCH0602",
                "`ns.m.name` may be missing",
            ),
            (
                "{% set ns = namespace(best=none) %}{% for o in plan.objs %}{% set ns.best = o %}{% endfor %}{% if ns.best %}{{ ns.best.nmae }}{% endif %}",
                "ORCH0601",
                "`ns.best` has no `nmae`",
            ),
            (
                "{% set ns = namespace(all=[]) %}{% for g in plan.groups %}{% set ns.all = ns.all + g.members %}{% endfor %}{% for o in ns.all %}{{ o.nmae }}{% endfor %}",
                "ORCH0601",
                "`o` has no `nmae`",
            ),
            (
                "{% set ns = namespace(all=[]) %}{% for g in plan.groups %}{% set ns.all = ns.all + g.members %}{% endfor %}{{ ns.all[0].name }}",
                "ORCH0602",
                "`ns.all[0]` may be missing",
            ),
            (
                "{% set ns = namespace(all=[]) %}{% for g in plan.groups %}{% set ns.all = ns.all + g.members %}{% endfor %}{{ ns.all | map(attribute='w') | sum }}",
                "ORCH0603",
                "`sum` only adds numbers",
            ),
            // The guard was about an earlier value.
            (
                "{% set ns = namespace(m=plan.tree) %}{% if ns.m %}{% set ns.m = plan.tree %}{{ ns.m.v }}{% endif %}",
                "ORCH0602",
                "`ns.m.v` may be missing",
            ),
            (
                "{% set ns = namespace(m=plan.tree) %}{% if ns.m %}{% for o in plan.objs %}{{ ns.m.v }}{% set ns.m = plan.tree %}{% endfor %}{% endif %}",
                "ORCH0602",
                "`ns.m.v` may be missing",
            ),
            (
                "{% set ns = namespace(m=plan.tree) %}{% set same = ns %}{% if ns.m %}{% set same.m = none %}{{ ns.m.v }}{% endif %}",
                "ORCH0601",
                "`ns.m` is null",
            ),
            (
                "{% set ns = namespace(p=plan) %}{% if ns.p.tree %}{% set ns.p = plan %}{{ ns.p.tree.v }}{% endif %}",
                "ORCH0602",
                "`ns.p.tree.v` may be missing",
            ),
            // The condition that sets the member comes after its use.
            (
                "{% set ns = namespace(first=none) %}{% for o in plan.objs %}{{ ns.first.name }}{% if ns.first is none %}{% set ns.first = o %}{% endif %}{% endfor %}",
                "ORCH0602",
                "`ns.first.name` may be missing",
            ),
            // Null in a part of the value.
            (
                "{% set ns = namespace(o=none) %}{% for o in plan.objs %}{% set ns.o = o %}{% endfor %}{% if ns.o %}{{ ns.o.w | round }}{% endif %}",
                "ORCH0603",
                "`ns.o.w` may be null",
            ),
            (
                "{% set ns = namespace(best=none) %}{% for o in plan.objs %}{% if o.w %}{% set ns.best = o %}{% endif %}{% set ns.best = o %}{% endfor %}{% if ns.best %}{{ ns.best.w + 1 }}{% endif %}",
                "ORCH0603",
                "`+` cannot join null and a number",
            ),
            ("{% set plan.n = 1 %}", "ORCH0603", "`plan` is an object, and only a namespace"),
        ],
    );
}

#[test]
fn idioms_with_namespaces_have_no_finding() {
    assert_silent(
        SCHEMA,
        &[
            "{% set ns = namespace(c=0) %}{% for o in plan.objs if o.done %}{% set ns.c = ns.c + 1 %}{% endfor %}{{ ns.c }}{% if ns.c %}{{ 100 / ns.c }}{% endif %}",
            "{% set ns = namespace(c=1) %}{% for o in plan.objs %}{% set ns.c = ns.c + 1 %}{% endfor %}{{ 100 / ns.c }}",
            "{% set ns = namespace(found=false) %}{% for o in plan.objs %}{% if o.done %}{% set ns.found = true %}{% endif %}{% endfor %}{% if not ns.found %}none{% endif %}",
            "{% set ns = namespace(names=[]) %}{% for o in plan.objs %}{% set ns.names = ns.names + [o.name] %}{% endfor %}{{ ns.names | join(', ') | upper }}",
            "{% set ns = namespace(best=none) %}{% for o in plan.objs %}{% if ns.best is none or o.x > ns.best %}{% set ns.best = o.x %}{% endif %}{% endfor %}{% if ns.best is not none %}{{ ns.best + 1 }}{% endif %}",
            "{% set ns = namespace(best=none) %}{% for o in plan.objs %}{% if ns.best is none or o.x > ns.best.x %}{% set ns.best = o %}{% endif %}{% endfor %}{{ ns.best.name if ns.best else '-' }}",
            "{% set ns = namespace() %}{% for o in plan.objs %}{% set ns.last = o.name %}{% endfor %}{{ ns.last | default('-') | upper }}{% if ns.last is defined %}{{ ns.last | upper }}{% endif %}",
            "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a + 1 }}{% with k = 'x' %}{% set ns.b = k %}{% endwith %}{{ ns.b | upper }}",
            "{% set ns = namespace() %}{% if plan.tree %}{% set ns.v = plan.tree.v %}{% else %}{% set ns.v = 0 %}{% endif %}{{ ns.v + 1 }}",
            "{% set ns = namespace(all=[]) %}{% for g in plan.groups %}{% set ns.all = ns.all + g.members %}{% endfor %}{% for o in ns.all %}{{ o.name | upper }}{% endfor %}{% if ns.all %}{{ ns.all[0].name }}{% endif %}",
            "{% set ns = namespace(rows=[]) %}{% for o in plan.objs %}{% set ns.rows = ns.rows + [{'a': o.name, 'b': [o.id, o.x]}] %}{% endfor %}{% for row in ns.rows %}{{ row.a | upper }}{{ row.b | sum }}{% endfor %}",
            "{% set ns = namespace(prev=none) %}{% for o in plan.objs %}{% if ns.prev is not none and ns.prev.x < o.x %}up{% endif %}{% set ns.prev = o %}{% endfor %}",
            "{% set ns = namespace(first=none) %}{% for o in plan.objs %}{% if ns.first is none %}{% set ns.first = o %}{% continue %}{% endif %}{{ ns.first.name }}{% endfor %}",
            "{% set ns = namespace(x='') %}{% for o in plan.objs %}{% set ns.x = 'done' if o.done %}{{ ns.x }}{% endfor %}",
            "{% set ns = namespace({'n': 1}) %}{{ ns.n + 1 }}{% if ns.n > 5 %}many{% endif %}",
            "{% set ns = namespace(first=none) %}{% for o in plan.objs %}{% if ns.first is none %}{% set ns.first = o %}{% endif %}{{ ns.first.name }}{% endfor %}",
            "{% set ns = namespace(best=none) %}{% for o in plan.objs if o.w is not none %}{% if ns.best is none or o.w > ns.best.w %}{% set ns.best = o %}{% endif %}{% endfor %}{% if ns.best %}{{ ns.best.w + 1 }}{% endif %}",
            "{% set ns = namespace(rows=[]) %}{% for o in plan.objs if o.w is not none %}{% set ns.rows = ns.rows + [o] %}{% endfor %}{{ ns.rows | sum(attribute='w') }}",
            "{% set ns = namespace(rows=[]) %}{% for o in plan.objs if o.tag is defined %}{% set ns.rows = ns.rows + [{'o': o}] %}{% endfor %}{% for row in ns.rows %}{{ row.o.tag | upper }}{% endfor %}",
            "{% set ns = namespace(n=0) %}{% for o in plan.objs %}{% set ns.n = ns.n + 1 %}{% endfor %}{% if ns.n == 0 %}{% set ns.n = 1 %}{% endif %}{{ 100 / ns.n }}",
            "{% set ns = namespace(chain=none) %}{% for o in plan.objs %}{% set ns.chain = {'o': o, 'before': ns.chain} %}{% endfor %}{{ ns.chain | tojson }}",
        ],
    );
}

#[test]
fn an_included_prompt_may_set_the_members_of_a_namespace() {
    let orch = Orch::empty();
    orch.write("prompts/plan.md", "Plan it.\n").write("schemas/plan.schema.json", SCHEMA);
    orch.write("prompts/row.md", "{{ o.id }}{% set ns.names = ns.names + [o.name] %}\n");
    let head = "name: test\nagents: { writer: { model: auto } }\nsteps:\n";
    let steps = "  - { id: plan, agent: writer, prompt: plan.md, output: plan }\n\
                 \x20 - { id: use, agent: writer, prompt: use.md, inputs: [plan], output: text, schema: text }\n";
    orch.write("pipelines/main.yaml", &format!("{head}{steps}"));
    let rows = "{% set ns = namespace(names=[]) %}{% for o in plan.objs %}{% include 'row.md' %}{% endfor %}";
    for (rest, expected) in [
        ("{{ ns.names | join(', ') }}", None),
        ("{% for name in ns.names %}{{ name | upper }}{% endfor %}", None),
        ("{{ ns.names[0] | upper }}", Some("`ns.names[0]` may be missing")),
        ("{% for name in ns.names %}{{ name.first }}{% endfor %}", Some("`name` is a string and has no `first`")),
        ("{{ ns.name }}", Some("`ns` has no `name`")),
    ] {
        orch.write("prompts/use.md", &format!("{rows}{rest}\n"));
        let found: Vec<String> = findings(&orch, &[]).into_values().flatten().collect();
        match expected {
            Some(words) => assert!(found.len() == 1 && found[0].contains(words), "{rest}: {found:#?}"),
            None => assert_eq!(found, [""; 0], "{rest}"),
        }
    }
}

#[test]
fn a_flattened_list_keeps_the_type_of_its_items() {
    let flat = "plan.groups | map(attribute='members') | sum(start=[])";
    let in_loop = |text: &str| format!("{{% for o in {flat} %}}{text}{{% endfor %}}");
    let wrong = [
        (in_loop("{{ o.nmae }}"), "ORCH0601", "`o` has no `nmae`"),
        (in_loop("{{ o.w + 1 }}"), "ORCH0603", "`+` cannot join null and a number"),
        (in_loop("{{ o.tag | upper }}"), "ORCH0602", "`o.tag` may be missing"),
        (format!("{{{{ {flat} | map(attribute='w') | sum }}}}"), "ORCH0603", "`sum` only adds numbers"),
        (format!("{{{{ ({flat})[0].name }}}}"), "ORCH0602", "may be missing"),
        (
            "{% for o in plan.groups | sum(attribute='members', start=[]) %}{{ o.nmae }}{% endfor %}".to_owned(),
            "ORCH0601",
            "`o` has no `nmae`",
        ),
        (
            "{% for o in plan.groups | map(attribute='extra', default=[]) | sum(start=[]) %}{{ o.nmae }}{% endfor %}"
                .to_owned(),
            "ORCH0601",
            "`o` has no `nmae`",
        ),
        ("{% for o in plan.more | default([]) %}{{ o.nmae }}{% endfor %}".to_owned(), "ORCH0601", "`o` has no `nmae`"),
    ];
    let rows: Vec<(&str, &str, &str)> =
        wrong.iter().map(|(text, code, words)| (text.as_str(), *code, *words)).collect();
    assert_found(SCHEMA, &rows);
    let right = in_loop("{{ o.name | upper }}{{ o.x + 1 }}{{ o.tag | default('-') | upper }}");
    assert_silent(SCHEMA, &[right.as_str()]);
}

#[test]
fn an_index_in_the_path_of_an_attribute_needs_enough_items() {
    assert_found(
        SCHEMA,
        &[
            (
                "{{ plan.groups | map(attribute='members.0.name') | join }}",
                "ORCH0602",
                "`plan.groups[…].members.0` may be missing in some items",
            ),
            (
                "{{ plan.groups | map(attribute='members.0') | map(attribute='name') | join }}",
                "ORCH0602",
                "some items of `plan.groups` may lack `members.0`",
            ),
        ],
    );
    assert_silent(
        SCHEMA,
        &[
            "{{ plan.groups | selectattr('members') | map(attribute='members.0.name') | join }}",
            "{{ plan.groups | map(attribute='members.0.name', default='-') | join }}",
        ],
    );
}

#[test]
fn a_guard_of_a_value_holds_for_a_variable_with_the_same_value() {
    assert_silent(
        SCHEMA,
        &[
            "{% set t = plan.tree %}{% if plan.tree %}{{ t.v + 1 }}{% endif %}",
            "{% set t = plan.tree %}{% if t %}{{ plan.tree.v + 1 }}{% endif %}",
            "{% if plan.tree %}{% set t = plan.tree %}{% if t.kids is defined %}{{ plan.tree.kids | sum }}{% endif %}{{ t.v }}{% endif %}",
            "{% set t = plan.tree %}{% if plan.tree %}{% for o in plan.objs %}{{ t.v }}{{ o.name }}{% endfor %}{% endif %}",
        ],
    );
    assert_found(
        SCHEMA,
        &[(
            "{% set p = plan %}{% set t = p.tree %}{% set p = {'tree': {'v': 1} } %}{% if p.tree.v %}{{ t.v }}{% endif %}",
            "ORCH0602",
            "`t.v` may be missing",
        )],
    );
}

#[test]
fn the_items_beside_the_current_one_exist_under_the_usual_guards() {
    assert_silent(
        SCHEMA,
        &[
            "{% for o in plan.objs %}{% if not loop.last %}{{ plan.objs[loop.index].name }}{% endif %}{{ o.id }}{% endfor %}",
            "{% for o in plan.objs %}{% if loop.index < loop.length %}{{ plan.objs[loop.index].name }}{% endif %}{{ o.id }}{% endfor %}",
            "{% for o in plan.objs %}{% if loop.revindex0 > 0 %}{{ plan.objs[loop.index0 + 1].name }}{% endif %}{{ o.id }}{% endfor %}",
            "{% for o in plan.objs %}{% if not loop.first %}{{ plan.objs[loop.index0 - 1].name }}{% endif %}{{ o.id }}{% endfor %}",
            "{% if plan.objs %}{{ plan.objs[plan.objs | length - 1].name }}{% endif %}",
            "{% set n = plan.names | length %}{% if plan.names %}{{ plan.names[n - 1] | upper }}{% endif %}",
        ],
    );
    assert_found(
        SCHEMA,
        &[
            (
                "{% for o in plan.objs %}{{ plan.objs[loop.index].name }}{{ o.id }}{% endfor %}",
                "ORCH0602",
                "`plan.objs[loop.index]` may be missing",
            ),
            (
                "{% for o in plan.objs %}{% if not loop.first %}{{ plan.objs[loop.index].name }}{% endif %}{{ o.id }}{% endfor %}",
                "ORCH0602",
                "`plan.objs[loop.index]` may be missing",
            ),
            ("{{ plan.objs[plan.objs | length - 1].name }}", "ORCH0602", "may be missing"),
            ("{% if plan.objs %}{{ plan.objs[plan.objs | length - 2].name }}{% endif %}", "ORCH0602", "may be missing"),
        ],
    );
}

#[test]
fn a_value_that_one_branch_replaces_is_what_the_condition_shows_in_the_other() {
    assert_silent(
        SCHEMA,
        &[
            "{% set t = plan.tree %}{% if t is none %}{% set t = {'v': 0} %}{% endif %}{{ t.v + 1 }}",
            "{% set names = plan.names %}{% if not names %}{% set names = ['nobody'] %}{% endif %}{{ names[0] }}",
            "{% set n = plan.n %}{% if n == 0 %}{% set n = 1 %}{% endif %}{{ 100 / n }}",
        ],
    );
    assert_found(
        SCHEMA,
        &[
            (
                "{% set t = plan.tree %}{% if plan.n > 3 %}{% set t = {'v': 0} %}{% endif %}{{ t.v + 1 }}",
                "ORCH0602",
                "`t.v` may be missing",
            ),
            (
                "{% set names = plan.names %}{% if plan.n > 3 %}{% set names = ['nobody'] %}{% endif %}{{ names[0] }}",
                "ORCH0602",
                "`names[0]` may be missing",
            ),
        ],
    );
}

#[test]
fn the_neighbors_of_an_item_have_its_type() {
    assert_found(
        SCHEMA,
        &[(
            "{% for o in plan.objs %}{% if loop.previtem is defined %}{{ loop.previtem.nmae }}{% endif %}{{ o.id }}{% endfor %}",
            "ORCH0601",
            "`loop.previtem` has no `nmae`",
        )],
    );
    assert_silent(
        SCHEMA,
        &[
            "{% for o in plan.objs %}{% if loop.previtem is defined and loop.previtem.name != o.name %}{{ o.name }}{% endif %}{% endfor %}",
            "{% for o in plan.objs %}{{ o.x - loop.previtem.x if not loop.first else o.x }}{% endfor %}",
        ],
    );
}
