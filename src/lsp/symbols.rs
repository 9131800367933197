//! The outline of a pipeline: its agents and its steps, groups with the steps inside.

use std::ops::Range;

use super::cursor::step_of;
use super::outline::{Entry, Outline, Seg};

/// Something with a name in a file.
#[derive(Debug)]
pub(super) struct Symbol {
    pub(super) name: String,
    pub(super) detail: String,
    /// Whether there are steps inside.
    pub(super) group: bool,
    pub(super) whole: Range<usize>,
    pub(super) name_at: Range<usize>,
    pub(super) children: Vec<Symbol>,
}

/// The keys that say what a step is.
const KINDS: &[&str] = &["agent", "run", "write", "approve", "parallel", "repeat", "pipeline", "steps"];

/// The steps of a text, from top to bottom.
pub(super) fn of(text: &str) -> Vec<Symbol> {
    let outline = Outline::of(text, None);
    let mut steps: Vec<&[Seg]> = Vec::new();
    for entry in &outline.entries {
        if let Some(step) = step_of(&entry.path)
            && !steps.contains(&step)
        {
            steps.push(step);
        }
    }
    below(&[], &steps, &outline, text)
}

/// The steps that are inside another, and in none between.
fn below(outer: &[Seg], steps: &[&[Seg]], outline: &Outline, text: &str) -> Vec<Symbol> {
    let inside = |step: &&&[Seg]| step.len() > outer.len() && step.starts_with(outer);
    let direct = |step: &&&[Seg]| {
        let between = |other: &&&[Seg]| inside(other) && other.len() < step.len() && step.starts_with(other);
        !steps.iter().any(|other| between(&other))
    };
    let found = steps.iter().filter(inside).filter(direct);
    found.filter_map(|step| symbol(step, steps, outline, text)).collect()
}

fn symbol(step: &[Seg], steps: &[&[Seg]], outline: &Outline, text: &str) -> Option<Symbol> {
    let within = || outline.entries.iter().filter(|entry| entry.path.starts_with(step));
    let of = |key: &str| outline.find(&[step, &[Seg::Key(key.to_owned())]].concat());
    let value =
        |entry: &Entry| text.get(entry.value.clone()).unwrap_or_default().lines().next().unwrap_or_default().to_owned();
    let start = within().map(|entry| entry.key.as_ref().unwrap_or(&entry.value).start).min()?;
    let end = within().map(|entry| entry.value.end).max()?.max(start);
    let id = of("id");
    let name = id.map(value).filter(|name| !name.is_empty()).unwrap_or_else(|| "step".to_owned());
    let kind = KINDS.iter().find_map(|kind| Some((*kind, of(kind)?)));
    let detail = kind.map(|(kind, entry)| format!("{kind} {}", value(entry)).trim_end().to_owned()).unwrap_or_default();
    let children = below(step, steps, outline, text);
    let name_at = id.map_or(start..start, |entry| entry.value.clone());
    Some(Symbol { name, detail, group: !children.is_empty(), whole: start..end, name_at, children })
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
        assert!(symbols[1].group && text[symbols[1].whole.clone()].contains("run: ls"));
    }
}
