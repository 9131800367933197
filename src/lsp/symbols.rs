//! The document symbols of a pipeline: its steps. A group contains its steps as children.

use std::collections::HashMap;
use std::ops::Range;

use super::cursor::step_of;
use super::outline::{Outline, OutlineEntry, Seg};

/// A named part of a file.
#[derive(Debug)]
pub(super) struct Symbol {
    pub(super) name: String,
    pub(super) detail: String,
    /// Whether the step contains steps.
    pub(super) group: bool,
    pub(super) whole: Range<usize>,
    pub(super) name_at: Range<usize>,
    pub(super) children: Vec<Symbol>,
}

/// The keys that determine the kind of a step.
const KINDS: &[&str] = &["agent", "run", "write", "approve", "parallel", "repeat", "pipeline", "steps"];

/// A step, collected from its entries.
struct StepDraft<'o> {
    path: &'o [Seg],
    whole: Range<usize>,
    id: Option<&'o OutlineEntry>,
    /// The index in [`KINDS`], and the value.
    kind: Option<(usize, &'o OutlineEntry)>,
    children: Vec<usize>,
}

/// Returns the steps of a text, from top to bottom.
pub(super) fn of(text: &str) -> Vec<Symbol> {
    let outline = Outline::of(text, None);
    let mut steps: Vec<StepDraft<'_>> = Vec::new();
    let mut known: HashMap<&[Seg], usize> = HashMap::new();
    for entry in &outline.entries {
        let Some(path) = step_of(&entry.path) else { continue };
        let at = *known.entry(path).or_insert_with(|| {
            let start = start_of(entry);
            steps.push(StepDraft { path, whole: start..start, id: None, kind: None, children: Vec::new() });
            steps.len() - 1
        });
        if let Some(step) = steps.get_mut(at) {
            step.note(entry);
        }
        // An entry of a step extends the steps around it too.
        for outer in enclosing(path).filter_map(|outer| known.get(outer)) {
            if let Some(step) = steps.get_mut(*outer) {
                step.cover(entry);
            }
        }
    }
    let mut top = Vec::new();
    for at in 0..steps.len() {
        let around = steps.get(at).and_then(|step| enclosing(step.path).find_map(|outer| known.get(outer)));
        match around.and_then(|outer| steps.get_mut(*outer)) {
            Some(step) => step.children.push(at),
            None => top.push(at),
        }
    }
    top.into_iter().filter_map(|at| symbol(at, &steps, text)).collect()
}

/// The steps that contain a step, innermost first.
fn enclosing(path: &[Seg]) -> impl Iterator<Item = &[Seg]> {
    std::iter::successors(outer(path), |path| outer(path))
}

/// The innermost step that contains a step.
fn outer(path: &[Seg]) -> Option<&[Seg]> {
    step_of(path.get(..path.len().checked_sub(1)?)?)
}

fn start_of(entry: &OutlineEntry) -> usize {
    entry.key.as_ref().unwrap_or(&entry.value).start
}

impl<'o> StepDraft<'o> {
    fn cover(&mut self, entry: &OutlineEntry) {
        self.whole = self.whole.start.min(start_of(entry))..self.whole.end.max(entry.value.end);
    }

    /// Records an entry that belongs to the step itself and not to a step inside it.
    fn note(&mut self, entry: &'o OutlineEntry) {
        self.cover(entry);
        let own = entry.path.strip_prefix(self.path).filter(|_| entry.key.is_some());
        let Some([Seg::Key(key)]) = own else { return };
        if key == "id" {
            self.id = self.id.or(Some(entry));
        }
        let kind = KINDS.iter().position(|kind| kind == key);
        if let Some(kind) = kind.filter(|kind| self.kind.is_none_or(|(known, _)| *kind < known)) {
            self.kind = Some((kind, entry));
        }
    }
}

fn symbol(at: usize, steps: &[StepDraft<'_>], text: &str) -> Option<Symbol> {
    let step = steps.get(at)?;
    let value = |entry: &OutlineEntry| {
        text.get(entry.value.clone()).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
    };
    let name = step.id.map(value).filter(|name| !name.is_empty()).unwrap_or_else(|| "step".to_owned());
    let kind = step.kind.and_then(|(kind, entry)| Some((KINDS.get(kind)?, entry)));
    let detail = kind.map(|(kind, entry)| format!("{kind} {}", value(entry)).trim_end().to_owned()).unwrap_or_default();
    // The recursion is at most as deep as the outline.
    let children: Vec<Symbol> = step.children.iter().filter_map(|child| symbol(*child, steps, text)).collect();
    let start = step.whole.start;
    let name_at = step.id.map_or(start..start, |entry| entry.value.clone());
    Some(Symbol { name, detail, group: !children.is_empty(), whole: step.whole.clone(), name_at, children })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_inside_groups_are_children() {
        let text = "steps:\n  - id: a\n    agent: x\n  - id: g\n    repeat:\n      max: 2\n      steps:\n        - id: b\n          run: ls\nfinally:\n  - id: c\n    run: ls\n";
        let symbols = of(text);
        let names: Vec<_> = symbols.iter().map(|symbol| (symbol.name.as_str(), symbol.detail.as_str())).collect();
        assert_eq!(names, [("a", "agent x"), ("g", "repeat"), ("c", "run ls")]);
        assert_eq!(symbols[1].children[0].name, "b");
        assert_eq!(symbols[1].whole.start, text.find("id: g").unwrap());
        assert!(symbols[1].group && text[symbols[1].whole.clone()].contains("run: ls"));
    }

    #[test]
    fn a_text_of_many_steps_or_of_deep_ones_has_an_outline_at_once() {
        let many = format!("steps:\n{}", "  - id: a\n    run: ls\n".repeat(60_000));
        assert_eq!(of(&many).len(), 50_000, "as many as the outline keeps entries of");
        let deep: String = (0..600).map(|level| format!("{}- parallel:\n", "  ".repeat(level))).collect();
        let mut at = &of(&format!("steps:\n{deep}"))[..];
        let mut levels = 0;
        while let [only] = at {
            (at, levels) = (&only.children, levels + 1);
        }
        assert!((50..128).contains(&levels), "{levels}");
    }

    #[test]
    fn one_line_of_dashes_and_a_flow_behind_it_take_little_memory() {
        let text = format!("steps:\n{}{{{}}}\n", "- ".repeat(500_000), "a, ".repeat(500_000));
        let outline = Outline::of(&text, None);
        let kept: usize = outline.entries.iter().map(|entry| entry.path.len()).sum();
        assert!(kept < 20_000_000, "{kept}");
    }
}
