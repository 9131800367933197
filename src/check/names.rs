//! Checks names: inputs, artifacts and steps share one namespace, and a few words are reserved.

use std::collections::HashMap;

use crate::config::{Project, child, places};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::StepAction;

/// Names with a meaning of their own in templates.
const RESERVED: &[&str] = &["item", "index", "loop", "project", "steps"];

/// What has a name, and where it is declared.
#[derive(Clone)]
struct NameOwner {
    what: &'static str,
    pointer: String,
    /// The index of the step that it belongs to. A step may have the same name as its own output.
    step: Option<usize>,
}

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut names = NameTable { project, held: HashMap::new(), found: Vec::new() };
    for name in project.pipeline.inputs.keys() {
        names.take(name, &NameOwner { what: "an input", pointer: child("/inputs", name), step: None });
    }
    for (index, (at, step)) in places(&project.pipeline).into_iter().enumerate() {
        names.take(&step.id, &NameOwner { what: "a step", pointer: child(&at, "id"), step: Some(index) });
        if let Some(output) = &step.output {
            names.take(output, &NameOwner { what: "an artifact", pointer: child(&at, "output"), step: Some(index) });
        } else if let Some(StepAction::Pipeline(file)) = step.kind().filter(|_| step.for_each.is_none()) {
            let outputs = project.called.get(file).into_iter().flat_map(|called| called.pipeline.outputs.keys());
            for output in outputs {
                names.take(
                    output,
                    &NameOwner { what: "an artifact", pointer: child(&at, "pipeline"), step: Some(index) },
                );
            }
        }
    }
    names.found
}

struct NameTable<'a> {
    project: &'a Project,
    held: HashMap<String, Vec<NameOwner>>,
    found: Vec<Diagnostic>,
}

impl NameTable<'_> {
    fn take(&mut self, name: &str, holder: &NameOwner) {
        if RESERVED.contains(&name) {
            let message = format!("the name `{name}` is reserved");
            let problem = self.at(Code::BadName, message, holder);
            self.found.push(problem.help(format!("reserved: {}", list(RESERVED))));
        }
        let holders = self.held.entry(name.to_lowercase()).or_default();
        let others = || holders.iter().filter(|held| held.step.is_none() || held.step != holder.step);
        let clash = others().find(|held| held.what == holder.what).or_else(|| others().next()).cloned();
        holders.push(holder.clone());
        if let Some(first) = clash {
            let problem = self.clash(name, holder, &first);
            self.found.push(problem);
        }
    }

    fn clash(&self, name: &str, holder: &NameOwner, first: &NameOwner) -> Diagnostic {
        let both = (holder.what, first.what);
        let (code, message) = match both {
            ("an artifact", "an artifact") => {
                (Code::TwoWriters, format!("the artifact `{name}` is produced by two steps"))
            }
            ("a step", "a step") => (Code::NameTaken, format!("two steps have the id `{name}`")),
            (new, old) => (Code::NameTaken, format!("{new} cannot be called `{name}`: {old} is called so")),
        };
        let (document, spans) = (&self.project.document, &self.project.document.spans);
        let place = if first.what == "an input" { spans.key(&first.pointer) } else { spans.value(&first.pointer) };
        let problem = self.at(code, message, holder).also(&document.file, place, "first used here");
        if code == Code::TwoWriters { problem.help("give one of the outputs another name") } else { problem }
    }

    fn at(&self, code: Code, message: String, holder: &NameOwner) -> Diagnostic {
        let document = &self.project.document;
        let is_key = holder.what == "an input";
        let span = if is_key { document.spans.key(&holder.pointer) } else { document.spans.value(&holder.pointer) };
        Diagnostic::error(code, message).at(&document.file, span)
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
