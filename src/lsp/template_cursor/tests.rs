//! Tests for the tag around the cursor, and for the names that tags bind.

use super::*;
use crate::check::COMPLETION_MARKER;

fn position_in(template: &str) -> Option<TemplatePosition> {
    let offset = template.find('@').unwrap();
    let text = template.replace('@', "");
    template_position(&text, 0..text.len(), offset, false)
}

#[test]
fn the_expected_syntax_depends_on_the_preceding_tokens() {
    for (template, expected, base) in [
        ("{{ @ }}", ExpectedSyntax::Variable, None),
        ("{{ pl@an }}", ExpectedSyntax::Variable, None),
        ("{{ plan.@", ExpectedSyntax::Property, Some("plan")),
        ("{{ plan.steps[0].ti@ }} {{ x }}", ExpectedSyntax::Property, Some("plan.steps[0]")),
        ("{{ plan[\"ti@\"] }}", ExpectedSyntax::Property, Some("plan")),
        ("{{ plan.steps | map(attribute=\"ti@\") }}", ExpectedSyntax::Property, Some("(plan.steps | first)")),
        ("{{ plan | to@ }}", ExpectedSyntax::Filter, None),
        ("{% if plan is not de@ %}", ExpectedSyntax::Test, None),
        ("{% @ %}", ExpectedSyntax::Statement, None),
        ("{% include \"ru@\" %}", ExpectedSyntax::Include, None),
        ("{% for s@ in x %}", ExpectedSyntax::Nothing, None),
        ("{% for s in pl@ %}", ExpectedSyntax::Variable, None),
        ("{% if a and pl@", ExpectedSyntax::Variable, None),
        ("{% with a = 1, b@ %}", ExpectedSyntax::Nothing, None),
        ("{% with a = 1, b = pl@ %}", ExpectedSyntax::Variable, None),
        ("{% with a = [1, pl@ %}", ExpectedSyntax::Variable, None),
        ("{{ plan @ }}", ExpectedSyntax::Nothing, None),
    ] {
        let position = position_in(template).unwrap_or_else(|| panic!("{template}"));
        assert_eq!((position.expected, position.base.as_deref()), (expected, base), "{template}");
        assert!(crate::template::inspect_template(&position.skeleton).is_ok(), "{template}");
    }
    for template in ["text @", "{{ a }} @ {{ b }}", "{# {{ a@ }} #}", "{% raw %}{{ a@ }}{% endraw %}"] {
        assert!(position_in(template).is_none(), "{template}");
    }
}

#[test]
fn a_skeleton_of_a_broken_template_can_be_parsed() {
    for (template, expected) in [
        ("{% for s in plan.steps %}{{ s.@", "{% for s in plan.steps %}{{ M }}{% endfor %}"),
        ("{% for s in plan. %}{{ s.@", "{% for orch_none__ in [] %}{{ M }}{% endfor %}"),
        ("{% if a. %}x{% else %}{{ @ }}{% endif %}", "{% if true %}{% else %}{{ M }}{% endif %}"),
        ("{% set a = plan %}{% set b = %}{{ @ }}", "{% set a = plan %}{{ M }}"),
        ("{% if a %}{% for x in y %}{% endif %}{{ @ }}", "{% if a %}{% for x in y %}{% endfor %}{% endif %}{{ M }}"),
        ("{% for s in a if s.@ %}", "{% for s in a %}{{ M }}{% endfor %}"),
        ("{{ broken. }}{% nonsense %}{{ @ }}", "{{ M }}"),
        ("{%- if a -%}{{- @ -}}", "{% if a %}{{ M }}{% endif %}"),
    ] {
        let skeleton = position_in(template).unwrap_or_else(|| panic!("{template}")).skeleton;
        assert_eq!(skeleton, expected.replace('M', COMPLETION_MARKER), "{template}");
    }
}

#[test]
fn a_name_is_bound_by_the_last_tag_that_sets_it() {
    let text = "{% for s in a %}{% set s = 1 %}{{ s }}";
    let position = template_position(text, 0..text.len(), text.len() - 4, false).unwrap();
    assert_eq!(position.binding, text.rfind("s = 1").map(|start| start..start + 1));
    for (template, binding_start) in [
        ("{% for s in a %}{{ s }}{% endfor %}{{ s@ }}", None),
        ("{% for s in a %}{% else %}{{ s@ }}{% endfor %}", None),
        ("{% for s in a %}{% set t = s %}{% endfor %}{{ t@ }}", None),
        ("{% with s = a %}{% endwith %}{{ s@ }}", None),
        ("{% with r = [1, 2], s = 2 %}{{ s@ }}{% endwith %}", Some(20)),
        ("{% with (r, s) = a %}{{ s@ }}{% endwith %}", Some(12)),
        ("{% with r = f(s, 1) %}{{ s@ }}{% endwith %}", None),
        ("{% with r = \"(\", s = 2 %}{{ s@ }}{% endwith %}", Some(17)),
        ("{% with r = a ~ \",\" ~ s %}{{ s@ }}{% endwith %}", None),
        ("{% with s = 1, r = s@ %}", Some(8)),
        ("{% with s = s@ %}", None),
        ("{% with r = 1, s@ = 2 %}", Some(15)),
        ("{% for (s, r in a.t %}{{ t@ }}", None),
        ("{% for s in a %}{% if s %}{% else %}{{ s@ }}{% endif %}{% endfor %}", Some(7)),
        ("{% if a %}{% set s = 1 %}{% endif %}{{ s@ }}", Some(17)),
        ("{% for s in a %}{% for s in b %}{% endfor %}{{ s@ }}{% endfor %}", Some(7)),
        ("{% set s = 1 %}{% for s in a %}{% endfor %}{{ s@ }}", Some(7)),
        ("{% set s = 1 %}{% set s = s@ %}", Some(7)),
        ("{% for s in a if s@ %}", Some(7)),
        ("{% endfor %}{{ s@ }}", None),
    ] {
        let position = position_in(template).unwrap();
        assert_eq!(position.binding.map(|range| range.start), binding_start, "{template}");
    }
}
