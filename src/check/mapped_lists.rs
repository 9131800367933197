//! Lists the steps that map one list to another with `for_each`, by the list and by the result.

use std::collections::HashMap;

use crate::config::steps_with_pointers;
use crate::model::{Pipeline, Step};

/// A step with `for_each` and an output, which has a result for each item of the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct MappedOutput<'a> {
    pub(super) step: &'a Step,
    /// The expression of the list.
    pub(super) list: &'a str,
    pub(super) output: &'a str,
}

/// The steps of a pipeline that map lists. Each loop of each template searches them, so one walk over the steps collects
/// them for all.
#[derive(Debug, Default)]
pub(super) struct MappedLists<'a> {
    by_list: HashMap<&'a str, Vec<MappedOutput<'a>>>,
    by_output: HashMap<&'a str, Vec<MappedOutput<'a>>>,
    /// The pointers of the steps, by the addresses of the steps.
    pointers: HashMap<*const Step, String>,
}

impl<'a> MappedLists<'a> {
    pub(super) fn of_pipeline(pipeline: &'a Pipeline) -> Self {
        let mut lists = Self::default();
        for (pointer, step) in steps_with_pointers(pipeline) {
            let (Some(list), Some(output)) = (step.for_each.as_deref().map(str::trim), step.output.as_deref()) else {
                continue;
            };
            let mapped = MappedOutput { step, list, output };
            lists.by_list.entry(list).or_default().push(mapped);
            lists.by_output.entry(output).or_default().push(mapped);
            lists.pointers.insert(std::ptr::from_ref(step), pointer);
        }
        lists
    }

    /// The steps that map the list with this expression.
    pub(super) fn over(&self, list: &str) -> &[MappedOutput<'a>] {
        self.by_list.get(list).map_or(&[], Vec::as_slice)
    }

    /// The steps whose result has this name.
    pub(super) fn with_output(&self, output: &str) -> &[MappedOutput<'a>] {
        self.by_output.get(output).map_or(&[], Vec::as_slice)
    }

    /// The pointer of a step that maps a list.
    pub(super) fn pointer_of(&self, step: &Step) -> Option<&str> {
        self.pointers.get(&std::ptr::from_ref(step)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_found_by_their_list_and_by_their_output() {
        let step =
            |id: &str, list: &str| json!({ "id": id, "run": "ls", "for_each": list, "output": format!("{id}s") });
        let steps = [step("a", "plan.items"), step("b", " plan.items "), step("c", "as")];
        let pipeline: Pipeline = serde_json::from_value(json!({ "name": "x", "steps": steps })).unwrap();
        let lists = MappedLists::of_pipeline(&pipeline);
        let outputs =
            |found: &[MappedOutput<'_>]| found.iter().map(|mapped| mapped.output.to_owned()).collect::<Vec<_>>();
        assert_eq!(outputs(lists.over("plan.items")), ["as", "bs"]);
        assert_eq!(outputs(lists.over("as")), ["cs"]);
        assert!(lists.over("other").is_empty());
        let [mapped] = lists.with_output("cs") else { panic!("one step has this output") };
        assert_eq!((mapped.list, lists.pointer_of(mapped.step)), ("as", Some("/steps/2")));
    }
}
