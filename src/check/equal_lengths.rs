//! Finds the lists that have as many items as others, because `for_each` maps one to the other.

use std::collections::HashMap;

use crate::model::Pipeline;

/// For each list, the lists that have as many items. Each loop of each template needs them, so one walk over the steps
/// collects them for all.
#[derive(Debug, Default)]
pub(super) struct EqualLengths(HashMap<String, Vec<String>>);

impl EqualLengths {
    /// Collects the lists over which the steps of a pipeline map, and the lists that they produce.
    pub(super) fn of_pipeline(pipeline: &Pipeline) -> Self {
        let mut lists: HashMap<String, Vec<String>> = HashMap::new();
        for step in pipeline.all_steps() {
            let (Some(list), Some(output)) = (step.for_each.as_deref().map(str::trim), &step.output) else { continue };
            lists.entry(list.to_owned()).or_default().push(output.clone());
            if list != output {
                lists.entry(output.clone()).or_default().push(list.to_owned());
            }
        }
        Self(lists)
    }

    /// The lists that have as many items as the list at a path: the list itself, the results of `for_each` over it, and
    /// the list for which it contains the results of `for_each`.
    pub(super) fn of_list(&self, path: &str) -> Vec<String> {
        let others = self.0.get(path).into_iter().flatten().cloned();
        std::iter::once(path.to_owned()).chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn for_each_maps_a_list_to_one_of_the_same_length() {
        let step =
            |id: &str, list: &str| json!({ "id": id, "run": "ls", "for_each": list, "output": format!("{id}s") });
        let steps = [step("a", "plan.items"), step("b", " plan.items "), step("c", "as")];
        let pipeline: Pipeline = serde_json::from_value(json!({ "name": "x", "steps": steps })).unwrap();
        let lists = EqualLengths::of_pipeline(&pipeline);
        assert_eq!(lists.of_list("plan.items"), ["plan.items", "as", "bs"]);
        assert_eq!(lists.of_list("as"), ["as", "plan.items", "cs"]);
        assert_eq!(lists.of_list("other"), ["other"]);
    }
}
