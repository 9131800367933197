//! Finds the members of the variable `loop` of an iteration that a text reads: `loop.index`,
//! `loop.previous.review.note`.
//!
//! Inside a `for` loop of a template, `loop` is another variable.

use std::collections::BTreeSet;

use minijinja::machinery::ast::Expr;
use minijinja::machinery::{parse, parse_expr};

use super::inspect::{includes, template_syntax};
use super::lookup::lookup_path;
use super::walk::{Visit, walk_expr, walk_stmt};
use crate::model::StepText;
use crate::model::name_scope::PreviousRead;

/// The variable of an iteration.
const LOOP: &str = "loop";

/// The members of `loop` that a text reads. Each entry lists the names that lead from `loop` to the value; an empty
/// list stands for the whole variable.
pub type LoopReads = BTreeSet<Vec<String>>;

/// The members of `loop` that a template reads; empty if it can't be parsed.
pub fn loop_reads_in_template(text: &str) -> LoopReads {
    let mut reader = LoopReader::default();
    if text.contains(LOOP)
        && let Ok(parsed) = parse(text, "template", template_syntax())
    {
        walk_stmt(&parsed, &mut reader);
    }
    reader.reads
}

/// The members of `loop` that an expression reads; empty if it can't be parsed.
pub fn loop_reads_in_expression(text: &str) -> LoopReads {
    let mut reader = LoopReader::default();
    if text.contains(LOOP)
        && let Ok(parsed) = parse_expr(text)
    {
        walk_expr(&parsed, &mut reader);
    }
    reader.reads
}

/// The artifacts of earlier iterations that the texts of a step read, except for the condition that ends a loop, in
/// which `loop` is that of the step itself. `prompt_text` returns the text of a prompt by its name.
pub fn previous_reads<'t>(
    texts: &[StepText<'t>],
    prompt_text: &dyn Fn(&str) -> Option<&'t str>,
) -> BTreeSet<PreviousRead> {
    let mut reads = LoopReads::new();
    let mut templates: Vec<&str> = Vec::new();
    for text in texts {
        match text {
            StepText::Prompt(name) => templates.extend(prompt_text(name)),
            StepText::Template(text) => templates.push(text),
            StepText::Expression(text) => reads.extend(loop_reads_in_expression(text)),
            StepText::Until(_) => {}
        }
    }
    let mut included: BTreeSet<String> = BTreeSet::new();
    while let Some(template) = templates.pop() {
        reads.extend(loop_reads_in_template(template));
        for name in includes(template) {
            if included.insert(name.clone()) {
                templates.extend(prompt_text(&name));
            }
        }
    }
    reads.iter().filter_map(|members| PreviousRead::from_members(members)).collect()
}

#[derive(Default)]
struct LoopReader {
    reads: LoopReads,
    /// How many of the next expressions are parts of the last expression that the reader recorded.
    remaining_parts: usize,
}

impl<'a> Visit<'a> for LoopReader {
    fn visits_loop_bodies(&self) -> bool {
        false
    }

    fn visit_expr(&mut self, expr: &Expr<'a>) {
        if let Some(remaining) = self.remaining_parts.checked_sub(1) {
            self.remaining_parts = remaining;
            return;
        }
        // A walk visits the parts of `loop.previous.review` right after the whole: `loop.previous`, then `loop`.
        if let Some((name, members)) = lookup_path(expr)
            && name == LOOP
        {
            self.remaining_parts = members.len();
            self.reads.insert(members);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(reads: LoopReads) -> Vec<String> {
        reads.into_iter().map(|members| members.join(".")).collect()
    }

    #[test]
    fn members_are_found_in_every_part_of_a_template() {
        let text = "{{ loop.index }}{% if loop.previous %}{{ loop.previous['review'].notes[0].id | upper }}{% endif %}\
                    {% for issue in loop.previous.review.issues if loop.first %}{{ loop.last }}{% else %}{{ loop.max }}\
                    {% endfor %}{% set previous = loop.parent.previous %}{{ other.loop }}{{ x[loop.index0] }}";
        let expected = [
            "first",
            "index",
            "index0",
            "max",
            "parent.previous",
            "previous",
            "previous.review.issues",
            "previous.review.notes",
        ];
        assert_eq!(joined(loop_reads_in_template(text)), expected);
        assert_eq!(joined(loop_reads_in_expression("loop.previous.a == loop.index and b")), ["index", "previous.a"]);
        assert_eq!(joined(loop_reads_in_expression("[loop]")), [""]);
        assert!(loop_reads_in_template("{{ loop.").is_empty());
        assert!(loop_reads_in_expression("task ~ 'loop.index'").is_empty());
    }

    #[test]
    fn reads_of_earlier_iterations_are_found_through_includes() {
        let prompt_text = |name: &str| match name {
            "a.md" => Some("{% include 'b.md' %}"),
            "b.md" => Some("{% include 'a.md' %}{{ loop.previous.review }}"),
            _ => None,
        };
        let texts = [
            StepText::Template("{% include 'a.md' %}{{ loop.index }}{{ loop.previous.steps.test.status }}"),
            StepText::Expression("loop.parent.previous.code"),
            StepText::Until("loop.previous.of_the_loop_itself"),
            StepText::Prompt("missing.md"),
        ];
        let reads: Vec<String> = previous_reads(&texts, &prompt_text).iter().map(PreviousRead::expression).collect();
        assert_eq!(reads, ["loop.previous.review", "loop.parent.previous.code"]);
        assert!(previous_reads(&[StepText::Prompt("none.md")], &prompt_text).is_empty());
    }
}
