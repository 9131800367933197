//! Checks the values in command lines for a shell: does the shell take each of them as one word, whatever it contains?
//!
//! The shell reads the rendered text, which depends on the conditions and loops of the template. The check renders the
//! template without its values in each way that it can take: with both branches of each condition, and with loops that
//! run not at all, once and twice. If there are too many ways, it takes only some of them, and the same analysis at run
//! time refuses what remains.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use minijinja::machinery::ast::{Expr, ForLoop, IfCond, Stmt};
use minijinja::machinery::parse;

use crate::config::Project;
use crate::diagnostic::{Code, Diagnostic, SourceFile};
use crate::template::{ValueQuoting, expr_range, template_syntax, value_quotings};

/// Up to this number of paths, the check combines each branch with each earlier path. Above, it combines a further
/// branch with only one.
const MAX_COMBINED_PATHS: usize = 64;
/// The maximum number of paths.
const MAX_PATHS: usize = 128;
/// The maximum work for one command line, in statements, copied pieces and units of 64 bytes.
const MAX_WORK: usize = 1_000_000;
/// The maximum depth of includes.
const MAX_INCLUDES: usize = 16;

/// Checks the command line at a pointer of the pipeline file, with its syntax tree.
pub(super) fn check<'a>(project: &'a Project, pointer: &str, line: &'a str, parsed: &Stmt<'a>) -> Vec<Diagnostic> {
    let Stmt::Template(template) = parsed else { return Vec::new() };
    let mut finder = PathFinder::new(line, &project.prompts);
    let paths = finder.extend(vec![LinePath::default()], &template.children);
    if finder.remaining_work == 0 {
        return Vec::new();
    }
    let (mut diagnostics, mut reported) = (Vec::new(), BTreeSet::new());
    for path in &paths {
        let (script, places, values) = path.script();
        for (value_quoting, value) in value_quotings(&script, &places).into_iter().zip(values) {
            let ValueQuoting::Refused(fault) = value_quoting else { continue };
            let file_path = value.file.map(|file| file.path.as_str());
            if !reported.insert((file_path, value.range.start)) {
                continue;
            }
            let diagnostic = Diagnostic::error(Code::NotShellWord, fault.message(value.expression));
            let (document, range) = (&project.document, value.range.clone());
            let diagnostic = match value.file {
                Some(file) => diagnostic.with_span(file, range),
                None => diagnostic.with_span(&document.file, document.span_in_value(pointer, range)),
            };
            diagnostics.push(diagnostic.with_help(fault.help(value.expression)));
        }
    }
    diagnostics
}

/// A value that a template prints.
#[derive(Clone, Debug)]
struct PrintedValue<'a> {
    /// The prompt that prints it; `None` for the command line itself.
    file: Option<&'a Arc<SourceFile>>,
    expression: &'a str,
    range: Range<usize>,
}

/// A part of a rendered command line.
#[derive(Clone, Debug)]
enum LinePiece<'a> {
    Text(&'a str),
    Value(PrintedValue<'a>),
}

/// How a statement leaves the current iteration of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoopExit {
    Continue,
    Break,
}

/// One way through a template.
#[derive(Clone, Debug, Default)]
struct LinePath<'a> {
    pieces: Vec<LinePiece<'a>>,
    /// The conditions so far and their results. A condition that occurs again has the same result.
    choices: Vec<(&'a str, bool)>,
    /// Set until the end of the iteration that the path leaves.
    exit: Option<LoopExit>,
}

impl<'a> LinePath<'a> {
    /// The text without values, the offsets of the values, and the values.
    fn script(&self) -> (String, Vec<usize>, Vec<&PrintedValue<'a>>) {
        let (mut text, mut places, mut values) = (String::new(), Vec::new(), Vec::new());
        for piece in &self.pieces {
            match piece {
                LinePiece::Text(part) => text.push_str(part),
                LinePiece::Value(value) => {
                    places.push(text.len());
                    values.push(value);
                }
            }
        }
        (text, places, values)
    }

    /// The result of a condition that occurred before.
    fn known_result(&self, condition: &str) -> Option<bool> {
        self.choices.iter().find(|(known, _)| *known == condition).map(|(_, result)| *result)
    }

    fn with_choice(mut self, condition: &'a str, result: bool) -> Self {
        self.choices.push((condition, result));
        self
    }
}

/// Finds the ways through a template.
struct PathFinder<'a> {
    prompts: &'a BTreeMap<String, Arc<SourceFile>>,
    /// The prompt that the finder reads; `None` for the command line itself.
    file: Option<&'a Arc<SourceFile>>,
    text: &'a str,
    /// The prompts that lead to the current text.
    includes: Vec<&'a str>,
    remaining_work: usize,
}

impl<'a> PathFinder<'a> {
    fn new(line: &'a str, prompts: &'a BTreeMap<String, Arc<SourceFile>>) -> Self {
        Self { prompts, file: None, text: line, includes: Vec::new(), remaining_work: MAX_WORK }
    }

    /// Extends each path by what the statements print.
    fn extend(&mut self, paths: Vec<LinePath<'a>>, statements: &[Stmt<'a>]) -> Vec<LinePath<'a>> {
        statements.iter().fold(paths, |paths, statement| self.extend_by_statement(paths, statement))
    }

    fn extend_by_statement(&mut self, paths: Vec<LinePath<'a>>, statement: &Stmt<'a>) -> Vec<LinePath<'a>> {
        self.charge(1 + paths.len());
        let (mut paths, mut left_paths): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.exit.is_none());
        if paths.is_empty() || self.remaining_work == 0 {
            paths.append(&mut left_paths);
            return paths;
        }
        let mut extended = match statement {
            Stmt::Template(inner) => self.extend(paths, &inner.children),
            Stmt::EmitRaw(inner) => self.add_piece(paths, &LinePiece::Text(inner.raw)),
            Stmt::EmitExpr(inner) => self.extend_by_value(paths, &inner.expr),
            Stmt::FilterBlock(inner) => self.extend_by_value(paths, &inner.filter),
            Stmt::IfCond(inner) => self.extend_by_condition(paths, inner),
            Stmt::ForLoop(inner) => self.extend_by_loop(paths, inner),
            Stmt::WithBlock(inner) => {
                let paths = self.extend(forget_choices(paths), &inner.body);
                forget_choices(paths)
            }
            Stmt::Include(inner) => self.extend_by_include(paths, &inner.name),
            Stmt::Set(_) | Stmt::SetBlock(_) => forget_choices(paths),
            Stmt::Continue(_) => leave_iteration(paths, LoopExit::Continue),
            Stmt::Break(_) => leave_iteration(paths, LoopExit::Break),
            // Inspection refuses these statements.
            Stmt::AutoEscape(_)
            | Stmt::Block(_)
            | Stmt::Import(_)
            | Stmt::FromImport(_)
            | Stmt::Extends(_)
            | Stmt::Macro(_)
            | Stmt::CallBlock(_)
            | Stmt::Do(_) => paths,
        };
        extended.append(&mut left_paths);
        extended
    }

    fn charge(&mut self, work: usize) {
        self.remaining_work = self.remaining_work.saturating_sub(work);
    }

    fn add_piece(&mut self, mut paths: Vec<LinePath<'a>>, piece: &LinePiece<'a>) -> Vec<LinePath<'a>> {
        if let LinePiece::Text(text) = piece {
            self.charge(paths.len() * (text.len() / 64));
        }
        for path in &mut paths {
            path.pieces.push(piece.clone());
        }
        paths
    }

    /// Copies the paths that a further alternative continues: all of them or, if there are many, one or none.
    fn copy_for_alternative(&mut self, paths: &[LinePath<'a>]) -> Vec<LinePath<'a>> {
        let count = match paths.len() {
            length if length * 2 <= MAX_COMBINED_PATHS => length,
            length if length < MAX_PATHS => 1,
            _ => 0,
        };
        let copied: Vec<_> = paths.iter().take(count).cloned().collect();
        self.charge(copied.iter().map(|path| path.pieces.len()).sum());
        copied
    }

    /// Splits paths by the result of a condition.
    fn split_paths(&mut self, paths: Vec<LinePath<'a>>, condition: &'a str) -> [Vec<LinePath<'a>>; 2] {
        let (known, open): (Vec<_>, Vec<_>) =
            paths.into_iter().partition(|path| path.known_result(condition).is_some());
        let (mut true_paths, mut false_paths): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|path| path.known_result(condition) == Some(true));
        let copied = self.copy_for_alternative(&open);
        true_paths.extend(open.into_iter().map(|path| path.with_choice(condition, true)));
        false_paths.extend(copied.into_iter().map(|path| path.with_choice(condition, false)));
        [true_paths, false_paths]
    }

    fn source(&self, expr: &Expr<'a>) -> &'a str {
        self.text.get(expr_range(expr)).unwrap_or_default()
    }

    fn extend_by_value(&mut self, paths: Vec<LinePath<'a>>, expr: &Expr<'a>) -> Vec<LinePath<'a>> {
        let expression = self.source(expr);
        let value = LinePiece::Value(PrintedValue { file: self.file, expression, range: expr_range(expr) });
        if !may_print_nothing(expr) {
            return self.add_piece(paths, &value);
        }
        let [printing, other] = self.split_paths(paths, expression);
        let mut paths = self.add_piece(printing, &value);
        paths.extend(other);
        paths
    }

    fn extend_by_condition(&mut self, paths: Vec<LinePath<'a>>, inner: &IfCond<'a>) -> Vec<LinePath<'a>> {
        let condition = self.source(&inner.expr);
        let [true_paths, false_paths] = self.split_paths(paths, condition);
        let mut paths = self.extend(true_paths, &inner.true_body);
        paths.extend(self.extend(false_paths, &inner.false_body));
        paths
    }

    /// Extends paths by a loop that runs once, twice, or not at all.
    fn extend_by_loop(&mut self, paths: Vec<LinePath<'a>>, inner: &ForLoop<'a>) -> Vec<LinePath<'a>> {
        let without_items = self.copy_for_alternative(&paths);
        let mut extended = self.extend(without_items, &inner.else_body);
        let once = self.extend(forget_choices(paths), &inner.body);
        let (ended, mut continued): (Vec<_>, Vec<_>) =
            once.into_iter().partition(|path| path.exit == Some(LoopExit::Break));
        end_iteration(&mut continued);
        let again = self.copy_for_alternative(&continued);
        let mut twice = self.extend(forget_choices(again), &inner.body);
        twice.extend(ended);
        end_iteration(&mut twice);
        extended.extend(forget_choices(continued));
        extended.extend(forget_choices(twice));
        extended
    }

    fn extend_by_include(&mut self, paths: Vec<LinePath<'a>>, name: &Expr<'a>) -> Vec<LinePath<'a>> {
        let Expr::Const(constant) = name else { return paths };
        let Some(name) = constant.value.as_str() else { return paths };
        let prompts = self.prompts;
        let Some((name, file)) = prompts.get_key_value(name) else { return paths };
        if self.includes.contains(&name.as_str()) || self.includes.len() >= MAX_INCLUDES {
            return paths;
        }
        let Ok(Stmt::Template(template)) = parse(&file.text, "template", template_syntax()) else { return paths };
        let (outer_file, outer_text) = (self.file.replace(file), std::mem::replace(&mut self.text, file.text.as_str()));
        self.includes.push(name);
        let paths = self.extend(forget_choices(paths), &template.children);
        self.includes.pop();
        (self.file, self.text) = (outer_file, outer_text);
        forget_choices(paths)
    }
}

/// Whether an expression prints nothing instead of a value in some cases: `a if b` without `else`.
fn may_print_nothing(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::IfExpr(inner) => {
            may_print_nothing(&inner.true_expr) || inner.false_expr.as_ref().is_none_or(may_print_nothing)
        }
        _ => false,
    }
}

/// Forgets the results of conditions, because a variable in them may have changed.
fn forget_choices(mut paths: Vec<LinePath<'_>>) -> Vec<LinePath<'_>> {
    for path in &mut paths {
        path.choices.clear();
    }
    paths
}

fn leave_iteration(mut paths: Vec<LinePath<'_>>, exit: LoopExit) -> Vec<LinePath<'_>> {
    for path in &mut paths {
        path.exit = Some(exit);
    }
    paths
}

fn end_iteration(paths: &mut [LinePath<'_>]) {
    for path in paths {
        path.exit = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of all ways through a template, with `@` for each value.
    fn scripts(line: &str) -> BTreeSet<String> {
        let prompts = BTreeMap::from([("a.sh".to_owned(), SourceFile::new("prompts/a.sh", "[{{ x }}]"))]);
        let Ok(Stmt::Template(template)) = parse(line, "template", template_syntax()) else { panic!("{line}") };
        let mut finder = PathFinder::new(line, &prompts);
        let paths = finder.extend(vec![LinePath::default()], &template.children);
        assert!(paths.len() <= MAX_PATHS && finder.remaining_work > 0, "{} paths of {line}", paths.len());
        let script = |path: &LinePath<'_>| {
            let piece = |piece: &LinePiece<'_>| match piece {
                LinePiece::Text(text) => (*text).to_owned(),
                LinePiece::Value(_) => "@".to_owned(),
            };
            path.pieces.iter().map(piece).collect::<String>()
        };
        paths.iter().map(script).collect()
    }

    #[test]
    fn each_branch_and_each_number_of_iterations_is_a_way() {
        for (line, expected) in [
            ("a {{ x }}", &["a @"][..]),
            ("a{% if x %}b{% elif y %}c{% endif %}d", &["abd", "acd", "ad"]),
            ("{% for x in xs %}<{{ x }}>{% else %}none{% endfor %}", &["none", "<@>", "<@><@>"]),
            ("{% for x in xs %}{% if x %}{% break %}{% endif %}{{ x }};{% endfor %}.", &[".", "@;.", "@;@;."]),
            ("{% for x in xs %}{% if x %}{% continue %}{% endif %}{{ x }}{% endfor %}", &["", "@", "@@"]),
            ("{{ '-v' if x }} {{ y }}", &["@ @", " @"]),
            ("{{ '-v' if x else '-q' }}", &["@"]),
            ("{% set y %}'{{ x }}{% endset %}{{ y }}", &["@"]),
            ("{% filter upper %}'{{ x }}{% endfilter %}", &["@"]),
            ("{% with y = x %}{{ y }}{% endwith %}", &["@"]),
            ("{% include 'a.sh' %} {% include 'b.sh' ignore missing %}", &["[@] "]),
        ] {
            let expected: BTreeSet<String> = expected.iter().map(|script| (*script).to_owned()).collect();
            assert_eq!(scripts(line), expected, "{line}");
        }
    }

    #[test]
    fn a_repeated_condition_has_the_same_result_until_a_variable_changes() {
        let both_or_none = "{% if q %}'{% endif %}{{ x }}{% if q %}'{% endif %}";
        assert_eq!(scripts(both_or_none), BTreeSet::from(["'@'".to_owned(), "@".to_owned()]));
        let changed = "{% if q %}'{% endif %}{% set q = x %}{% if q %}'{% endif %}";
        assert_eq!(scripts(changed).len(), 3);
    }

    #[test]
    fn the_number_of_ways_is_bounded() {
        let condition = |index: u32| format!("{{% if a{index} %}}x{{% endif %}}{{{{ b }}}}");
        let conditions: String = (0..300).map(condition).collect();
        assert!(scripts(&conditions).len() > MAX_COMBINED_PATHS);
        let loops = format!("{}{{{{ x }}}}{}", "{% for a in b %}".repeat(40), "{% endfor %}".repeat(40));
        let Ok(Stmt::Template(template)) = parse(&loops, "template", template_syntax()) else { panic!("{loops}") };
        let prompts = BTreeMap::new();
        PathFinder::new(&loops, &prompts).extend(vec![LinePath::default()], &template.children);
    }
}
