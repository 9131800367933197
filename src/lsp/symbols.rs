//! The document symbols of a pipeline: its steps. A group contains its steps as children.

use std::collections::HashMap;
use std::ops::Range;

use super::cursor::step_path;
use super::outline::Outline;
use super::outline_entry::{OutlineEntry, PathSegment};

/// A named part of a file.
#[derive(Debug)]
pub(super) struct Symbol {
    pub(super) name: String,
    pub(super) detail: String,
    /// Whether the step contains steps.
    pub(super) is_group: bool,
    pub(super) range: Range<usize>,
    pub(super) name_range: Range<usize>,
    pub(super) children: Vec<Symbol>,
}

/// The keys that determine the kind of a step.
const KINDS: &[&str] = &["agent", "run", "call", "write", "approve", "parallel", "repeat", "pipeline", "steps"];

/// A step whose entries are still being collected.
struct StepDraft<'o> {
    path: &'o [PathSegment],
    range: Range<usize>,
    id: Option<&'o OutlineEntry>,
    /// The index in [`KINDS`], and the value.
    kind: Option<(usize, &'o OutlineEntry)>,
    children: Vec<usize>,
}

/// Returns the steps of a text, from top to bottom.
pub(super) fn document_symbols(text: &str) -> Vec<Symbol> {
    let outline = Outline::parse(text, None);
    let mut steps: Vec<StepDraft<'_>> = Vec::new();
    let mut step_indices: HashMap<&[PathSegment], usize> = HashMap::new();
    for entry in &outline.entries {
        let Some(path) = step_path(&entry.path) else { continue };
        let index = *step_indices.entry(path).or_insert_with(|| {
            let start = entry_start(entry);
            steps.push(StepDraft { path, range: start..start, id: None, kind: None, children: Vec::new() });
            steps.len() - 1
        });
        if let Some(step) = steps.get_mut(index) {
            step.add_entry(entry);
        }
        // An entry of a step also extends the steps that contain the step.
        for index in enclosing_steps(path).filter_map(|path| step_indices.get(path)) {
            if let Some(step) = steps.get_mut(*index) {
                step.extend_to(entry);
            }
        }
    }
    let mut roots = Vec::new();
    for index in 0..steps.len() {
        let step = steps.get(index);
        let parent = step.and_then(|step| enclosing_steps(step.path).find_map(|path| step_indices.get(path)));
        match parent.and_then(|parent| steps.get_mut(*parent)) {
            Some(parent) => parent.children.push(index),
            None => roots.push(index),
        }
    }
    roots.into_iter().filter_map(|index| build_symbol(index, &steps, text)).collect()
}

/// Returns the steps that contain a step, innermost first.
fn enclosing_steps(path: &[PathSegment]) -> impl Iterator<Item = &[PathSegment]> {
    std::iter::successors(parent_step(path), |path| parent_step(path))
}

/// Returns the innermost step that contains a step.
fn parent_step(path: &[PathSegment]) -> Option<&[PathSegment]> {
    step_path(path.get(..path.len().checked_sub(1)?)?)
}

fn entry_start(entry: &OutlineEntry) -> usize {
    entry.key_range.as_ref().unwrap_or(&entry.value_range).start
}

impl<'o> StepDraft<'o> {
    fn extend_to(&mut self, entry: &OutlineEntry) {
        self.range = self.range.start.min(entry_start(entry))..self.range.end.max(entry.value_range.end);
    }

    /// Adds an entry that belongs to the step itself and not to a step inside it.
    fn add_entry(&mut self, entry: &'o OutlineEntry) {
        self.extend_to(entry);
        let path_in_step = entry.path.strip_prefix(self.path).filter(|_| entry.key_range.is_some());
        let Some([PathSegment::Key(key)]) = path_in_step else { return };
        if key == "id" {
            self.id = self.id.or(Some(entry));
        }
        let kind = KINDS.iter().position(|kind| kind == key);
        if let Some(kind) = kind.filter(|kind| self.kind.is_none_or(|(known, _)| *kind < known)) {
            self.kind = Some((kind, entry));
        }
    }
}

fn build_symbol(index: usize, steps: &[StepDraft<'_>], text: &str) -> Option<Symbol> {
    let step = steps.get(index)?;
    let first_line = |entry: &OutlineEntry| {
        text.get(entry.value_range.clone()).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
    };
    let name = step.id.map(first_line).filter(|name| !name.is_empty()).unwrap_or_else(|| "step".to_owned());
    let kind = step.kind.and_then(|(kind, entry)| Some((KINDS.get(kind)?, entry)));
    let detail =
        kind.map(|(kind, entry)| format!("{kind} {}", first_line(entry)).trim_end().to_owned()).unwrap_or_default();
    // The recursion is at most as deep as the outline.
    let children: Vec<Symbol> = step.children.iter().filter_map(|child| build_symbol(*child, steps, text)).collect();
    let start = step.range.start;
    let name_range = step.id.map_or(start..start, |entry| entry.value_range.clone());
    Some(Symbol { name, detail, is_group: !children.is_empty(), range: step.range.clone(), name_range, children })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_inside_groups_are_children() {
        let text = "steps:\n  - id: a\n    agent: x\n  - id: g\n    repeat:\n      max: 2\n      steps:\n        - id: b\n          run: ls\nfinally:\n  - id: c\n    run: ls\n";
        let symbols = document_symbols(text);
        let names: Vec<_> = symbols.iter().map(|symbol| (symbol.name.as_str(), symbol.detail.as_str())).collect();
        assert_eq!(names, [("a", "agent x"), ("g", "repeat"), ("c", "run ls")]);
        assert_eq!(symbols[1].children[0].name, "b");
        assert_eq!(symbols[1].range.start, text.find("id: g").unwrap());
        assert!(symbols[1].is_group && text[symbols[1].range.clone()].contains("run: ls"));
    }

    #[test]
    fn many_steps_and_deeply_nested_steps_have_symbols() {
        let many = format!("steps:\n{}", "  - id: a\n    run: ls\n".repeat(60_000));
        assert_eq!(document_symbols(&many).len(), 50_000, "the outline has a maximum number of entries");
        let deep: String = (0..600).map(|level| format!("{}- parallel:\n", "  ".repeat(level))).collect();
        let mut symbols = &document_symbols(&format!("steps:\n{deep}"))[..];
        let mut levels = 0;
        while let [symbol] = symbols {
            (symbols, levels) = (&symbol.children, levels + 1);
        }
        assert!((50..128).contains(&levels), "{levels}");
    }

    #[test]
    fn a_line_of_dashes_before_a_flow_mapping_takes_little_memory() {
        let text = format!("steps:\n{}{{{}}}\n", "- ".repeat(500_000), "a, ".repeat(500_000));
        let outline = Outline::parse(&text, None);
        let segments: usize = outline.entries.iter().map(|entry| entry.path.len()).sum();
        assert!(segments < 20_000_000, "{segments}");
    }
}
