//! Expressions and templates.

use super::At::{File, Prompt, Step};
use super::{Row, row};

/// A step with this condition.
macro_rules! when {
    ($condition:literal) => {
        concat!("run: make\ninputs: [plan]\nwhen: ", $condition)
    };
}

/// A step whose command contains this expression.
macro_rules! prints {
    ($tag:literal) => {
        concat!("run: echo ", $tag, "\ninputs: [plan]")
    };
}

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    row(Step, when!("plan.score = 3"), "write `==` to compare; `=` is an assignment", &[(Step, when!("plan.score == 3"))]),
    row(Step, when!("plan.score === 3"), "write `==` in place of `===`", &[(Step, when!("plan.score == 3"))]),
    row(Step, when!("plan.score !== 3"), "write `!=` in place of `!==`", &[(Step, when!("plan.score != 3"))]),
    row(Step, when!("plan.score <> 3"), "write `!=` in place of `<>`", &[(Step, when!("plan.score != 3"))]),
    row(Step, when!("plan.ok && plan.score > 3"), "write `and` in place of `&&`", &[(Step, when!("plan.ok and plan.score > 3"))]),
    row(Step, when!("plan.ok || plan.score > 3"), "write `or` in place of `||`", &[(Step, when!("plan.ok or plan.score > 3"))]),
    row(Step, when!("'!plan.ok'"), "write `not` in place of `!`", &[(Step, when!("'not plan.ok'"))]),
    row(Step, when!("!plan.ok"), "write the plain value; in an expression, write `not` in place of `!`", &[(Step, when!("not plan.ok"))]),
    row(Step, when!("'!plan.ok && plan.score = 3 || plan.score === 4'"), "write `not` in place of `!`", &[(Step, when!("not plan.ok and plan.score == 3 or plan.score == 4"))]),
    row(Step, when!("(plan.title ?? '') == 'x'"), "write `VALUE | default(OTHER)` in place of `VALUE ?? OTHER`", &[(Step, when!("(plan.title | default('')) == 'x'"))]),
    row(Step, when!("plan?.ok"), "write `VALUE.KEY if VALUE is defined` in place of `VALUE?.KEY`", &[(Step, when!("plan.ok if plan is defined else false"))]),
    row(Step, when!("'plan.ok ? true : false'"), "write `A if CONDITION else B` in place of `CONDITION ? A : B`", &[(Step, when!("true if plan.ok else false"))]),
    row(Step, when!("$task == 'x'"), "a variable has no `$`: write `task`", &[(Step, when!("task == 'x'"))]),
    row(Step, when!("'${{ plan.ok }}'"), "write `plan.ok`", &[(Step, when!("plan.ok"))]),
    row(Step, when!("'${{ inputs.task == \"x\" }}'"), "write `task == \"x\"`", &[(Step, when!("'task == \"x\"'"))]),
    row(Step, when!("'{{ plan.ok }}'"), "write `plan.ok`", &[(Step, when!("plan.ok"))]),
    row(Step, when!("f'{task}' == 'x'"), "join texts with `~`, as `'TEXT' ~ VALUE`, in place of an f-string", &[(Step, when!("('' ~ task) == 'x'"))]),
    row(Step, when!("inputs.task == 'x'"), "use inputs and artifacts by their own names: write `task`", &[(Step, when!("task == 'x'"))]),
    row(Step, when!("needs.plan.outputs.plan.ok"), "use inputs and artifacts by their own names: write `plan.ok`", &[(Step, when!("plan.ok"))]),
    row(Step, "run: make\nwhen: needs.plan.outputs.ok", "use an artifact by its own name: list it, `inputs: [NAME]`, and write `NAME.FIELD`", &[(Step, when!("plan.ok"))]),
    row(Step, when!("steps.plan.output.ok"), "use the artifact of a step by its own name: list it, `inputs: [plan]`, and write `plan`", &[(Step, when!("plan.ok"))]),
    row(Step, when!("steps.plan.conclusion == 'success'"), "write `steps.ID.status == \"completed\"`", &[(Step, when!("steps.plan.status == \"completed\""))]),
    row(Step, when!("env.CI == 'true'"), "templates and expressions can't read the environment: pass the value to the run as an input, `--input NAME=VALUE`, or let a command read it with `env: [NAME]`", &[
        (Step, "run: test -n \"$CI\"\nenv: [CI]"),
    ]),
    row(Step, when!("secrets.TOKEN != ''"), "templates and expressions can't read secrets: let a command read the variable, with `env: [NAME]` at its step", &[(Step, "run: make\nenv: [TOKEN]")]),
    row(Step, when!("plan.title != null"), "write `none` in place of `null`", &[(Step, when!("plan.title is not none"))]),
    row(Step, when!("plan.ok == TRUE"), "write `true` in place of `TRUE`", &[(Step, when!("plan.ok == true"))]),
    row(Step, when!("always()"), "test the status of a step: `steps.ID.status == \"failed\"`; put steps that always run at the end under `finally:`", &[(Step, when!("steps.plan.status == \"failed\""))]),
    row(Step, when!("len(plan.steps) > 0"), "write `plan.steps | length`", &[(Step, when!("plan.steps | length > 0"))]),
    row(Step, when!("plan.steps.length > 0"), "write `plan.steps | length`", &[(Step, when!("plan.steps | length > 0"))]),
    row(Step, when!("plan.steps.size() > 0"), "values are JSON, which has no methods: write `plan.steps | length`", &[(Step, when!("plan.steps | length > 0"))]),
    row(Step, when!("plan.title.replace('a', 'b') == 'x'"), "values are JSON, which has no methods: write `plan.title | replace('a', 'b')`", &[(Step, when!("plan.title | replace('a', 'b') == 'x'"))]),
    row(Step, when!("(plan.title or task).upper() == 'X'"), "values are JSON, which has no methods: write `(plan.title or task) | upper`", &[(Step, when!("(plan.title or task) | upper == 'X'"))]),
    row(Step, when!("len(plan.steps + [task]) > 1"), "write `(plan.steps + [task]) | length`", &[(Step, when!("(plan.steps + [task]) | length > 1"))]),
    row(Prompt, "{% set m = {'a': 1} %}{{ m.values() | sum }}", "values are JSON, which has no methods: write `m | items | map('last')`", &[(Prompt, "{% set m = {'a': 1} %}{{ m | items | map('last') | sum }}")]),
    row(Prompt, "{% for i in [1, 2] %}{{ loop.cycle('a', 'b') }}{% endfor %}", "values are JSON, which has no methods: write `['a', 'b'][loop.index0 % 2]`", &[(Prompt, "{% for i in [1, 2] %}{{ ['a', 'b'][loop.index0 % 2] }}{% endfor %}")]),
    row(Prompt, "{{ task.frobnicate() }}", "values are JSON, which has no methods: only filters change a value, as in `task | FILTER`; they are those of Jinja", &[(Prompt, "{{ task | upper }}")]),
    row(Step, when!("contains(plan.steps, task)"), "write `task in plan.steps`", &[(Step, when!("task in plan.steps"))]),
    row(Step, when!("plan.title.startsWith('a')"), "values are JSON, which has no methods: write `plan.title is startingwith('a')`", &[(Step, when!("plan.title is startingwith('a')"))]),
    row(Step, when!("plan.title.strip().title() == 'X'"), "values are JSON, which has no methods: write `plan.title | trim | title`", &[(Step, when!("plan.title | trim | title == 'X'"))]),
    row(Step, when!("plan.title.substring(0, 3) == 'abc'"), "values are JSON, which has no methods: write `plan.title[0:3]`", &[(Step, when!("plan.title[0:3] == 'abc'"))]),
    row(Step, when!("plan.title.lstrip() == 'x'"), "values are JSON, which has no methods: write `plan.title | trim`", &[(Step, when!("plan.title | trim == 'x'"))]),
    row(Step, when!("plan.title.splitlines() | length > 1"), "values are JSON, which has no methods: write `plan.title | lines`", &[(Step, when!("plan.title | lines | length > 1"))]),
    row(Prompt, "{{ task | truncate(20) }}", "write `task[:80]` for the first 80 characters", &[(Prompt, "{{ task[:80] }}")]),
    row(Prompt, "{{ task | wordcount }}", "write `task | split | length`", &[(Prompt, "{{ task | split | length }}")]),
    row(Prompt, "{{ task | default: 'x' }}", "put the arguments of a filter in parentheses: write `VALUE | default(ARGUMENT)`", &[(Prompt, "{{ task | default('x') }}")]),
    row(Prompt, "{{ [c for c in task] }}", "write `LIST | map(attribute='KEY') | list`, or a loop with `{% for item in LIST %}`, in place of a list comprehension", &[(Prompt, "{% for item in task | list %}{{ item }}{% endfor %}")]),
    row(Prompt, "{% if task %}a{% else %}b{% else %}c{% endif %}", "`{% if %}` has an `{% else %}` already: write `{% elif CONDITION %}` for another case before it, or remove this one", &[(Prompt, "{% if task %}a{% elif task == 'x' %}b{% else %}c{% endif %}")]),
    row(Prompt, "{{#if task}}a{% if task %}b{% endif %}", "if these braces are meant as text, write `{% raw %}{{#if task}}{% endraw %}`; for a condition, write `{% if CONDITION %}` and `{% endif %}`", &[(Prompt, "{% if task %}a{% endif %}{% if task %}b{% endif %}")]),
    row(Step, when!("plan.title is null"), "write `none` in place of `null`", &[(Step, when!("plan.title is none"))]),
    row(Step, when!("plan.title != 'x' && plan.ok"), "write `and` in place of `&&`", &[(Step, when!("plan.title != 'x' and plan.ok"))]),
    row(Step, prints!("'{{ \"a\" && plan.ok }}'"), "write `and` in place of `&&`", &[(Step, prints!("'{{ \"a\" and plan.ok }}'"))]),
    row(Step, when!("plan.ok AND plan.score gt 3"), "write `and` in place of `AND`", &[(Step, when!("plan.ok and plan.score > 3"))]),
    row(Step, when!("plan.score gt 3"), "write `>` in place of `gt`", &[(Step, when!("plan.score > 3"))]),
    row(Step, when!("plan.steps contains task"), "write `B in A` in place of `A contains B`", &[(Step, when!("task in plan.steps"))]),
    row(Step, when!("plan.title is empty"), "write `plan.title | length == 0`", &[(Step, when!("plan.title | length == 0"))]),
    row(Step, when!("'{% if plan.ok %}true{% endif %}'"), "an expression has no tags: write the condition alone, or `A if CONDITION else B`", &[(Step, when!("true if plan.ok else false"))]),
    row(Step, prints!("'${{ inputs.task }}'"), "use inputs and artifacts by their own names: write `task`, without a `$` before the braces", &[(Step, prints!("'{{ task }}'"))]),
    row(Prompt, "Do {{task} now.", "close it with `}}`: write `{{ task }}`; if these braces are meant as text, write `{% raw %}{{task}{% endraw %}`", &[(Prompt, "Do {{ task }} now.")]),
    row(Prompt, "Do {task} now.", "write `{{ task }}`, or `{% raw %}{task}{% endraw %}` for literal text", &[(Prompt, "Do {{ task }} now.")]),
    row(Prompt, "Do $task now.", "write `{{ task }}`, or `{% raw %}$task{% endraw %}` for literal text", &[(Prompt, "Do {% raw %}$task{% endraw %} now.")]),
    row(Prompt, "Do ${task} now.", "write `{{ task }}`, or `{% raw %}${task}{% endraw %}` for literal text", &[(Prompt, "Do {{ task }} now.")]),
    row(Step, "approve: Take {task}?", "write `{{ task }}`, or `{% raw %}{task}{% endraw %}` for literal text", &[(Step, "approve: Take {{ task }}?")]),
    row(Step, prints!("'{{ plan | to_json }}'"), "write `tojson` in place of `to_json`", &[(Step, prints!("'{{ plan | tojson }}'"))]),
    row(Step, prints!("'{{ inputs.task }}'"), "use inputs and artifacts by their own names: write `task`", &[(Step, prints!("'{{ task }}'"))]),
    row(Step, prints!("'{{ plan.ok && true }}'"), "write `and` in place of `&&`", &[(Step, prints!("'{{ plan.ok and true }}'"))]),
    row(Prompt, "{% if task %}a{% elseif task == 'x' %}b{% endif %}", "write `{% elif CONDITION %}` in place of `{% elseif %}`", &[(Prompt, "{% if task %}a{% elif task == 'x' %}b{% endif %}")]),
    row(Prompt, "{% if task %}a{% else if task == 'x' %}b{% endif %}", "write `{% elif CONDITION %}` in place of `{% else if %}`", &[(Prompt, "{% if task %}a{% elif task == 'x' %}b{% endif %}")]),
    row(Prompt, "{% if task %}a{% end %}", "name the block that ends: `{% endif %}` or `{% endfor %}` in place of `{% end %}`", &[(Prompt, "{% if task %}a{% endif %}")]),
    row(Prompt, "{% if task %}a{% end if %}", "write `{% endif %}` in place of `{% end if %}`", &[(Prompt, "{% if task %}a{% endif %}")]),
    row(Prompt, "{% if task = 'x' %}a{% endif %}", "write `==` to compare; `=` is an assignment", &[(Prompt, "{% if task == 'x' %}a{% endif %}")]),
    row(Prompt, "{% if task %}a{% endfor %}", "`{% if %}` is open here: close it first, with `{% endif %}`", &[(Prompt, "{% if task %}a{% endif %}")]),
    row(Prompt, "{% if task %}a", "close it with `{% endif %}`", &[(Prompt, "{% if task %}a{% endif %}")]),
    row(Prompt, "{% foreach x in task %}a{% endforeach %}", "write `{% for item in LIST %}` in place of `{% foreach %}`", &[(Prompt, "{% for item in task | list %}a{% endfor %}")]),
    row(Prompt, "{% unless task %}a{% endunless %}", "write `{% if not (CONDITION) %}` in place of `{% unless %}`", &[(Prompt, "{% if not (task) %}a{% endif %}")]),
    row(Prompt, "{% assign x = task %}", "write `{% set NAME = VALUE %}` in place of `{% assign %}`", &[(Prompt, "{% set x = task %}")]),
    row(File, "name: words\ninputs: { my-task: { type: string } }\nsteps:\n  - { id: it, run: \"make {{ my-task }}\" }\n", "write `my_task`; allowed: lower-case letters, digits and `_`, not starting with a digit", &[
        (File, "name: words\ninputs: { my_task: { type: string } }\nsteps:\n  - { id: it, run: \"make {{ my_task }}\" }\n"),
    ]),
    row(File, "name: words\nsteps:\n  - { id: first-one, run: make }\n  - { id: it, run: make, when: 'steps.first-one.status == \"completed\"' }\n", "write `first_one`; allowed: lower-case letters, digits and `_`, not starting with a digit", &[
        (File, "name: words\nsteps:\n  - { id: first_one, run: make }\n  - { id: it, run: make, when: 'steps.first_one.status == \"completed\"' }\n"),
    ]),
];
