//! The names that the texts of a step can use: artifacts, steps that have ended, and the variables of items and
//! iterations.
//!
//! Four parts of orch decide which names a step sees: the interpreter, the forecast, the check and the graph. Each
//! attaches other values to the names (values, placeholders, types, producers), but all of them store the names in a
//! [`NameScope`], so that they follow the same rules:
//!
//! | who looks up a name | what is in scope |
//! |---|---|
//! | `when` of a step ([`TextScope::Condition`]) | what was in scope before the step: not its own `item` |
//! | `for_each` of a step ([`TextScope::List`]) | the same |
//! | the other texts of a step ([`TextScope::Step`]) | also `item` and `index`, if the step has a list |
//! | `accept` ([`TextScope::Reply`]) | also the reply, by the name of the output |
//! | a step inside `steps` | what the group sees, and the names that earlier steps of the group export |
//! | a step inside `parallel` | what the group sees; nothing of its siblings |
//! | a step inside `repeat` | what the loop sees, the names that earlier steps of the iteration export, and `loop` |
//! | `until` ([`TextScope::Iteration`]) | what the loop sees, everything that the iteration exported, and `loop` |
//! | a step of a called pipeline | the inputs of that pipeline and nothing else |
//! | `finally` | what is in scope after the last of `steps` |
//! | `outputs` and `success` | what is in scope after the last step of `finally` |
//!
//! An iteration starts without the names of the iterations before it. They are only in `loop.previous`, which is empty
//! in the first iteration, and also when an outer loop enters the loop again. In a nested loop, `loop.parent` is the
//! `loop` of the loop around it. [`ExportedNames`] determines which names later steps see.
//!
//! A step reads an artifact of its own iteration only if it lists the artifact in its `inputs`. `until`, `outputs` and
//! `success` read artifacts without a list, and no text needs to list those of the previous iteration.

use std::borrow::Borrow;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use serde::Serialize;

/// The member of `loop` with the results of the previous iteration.
pub const PREVIOUS_ITERATION: &str = "previous";
/// The member of `loop` with the variable `loop` of the loop around.
pub const PARENT_LOOP: &str = "parent";
/// The variable with the outcomes of the steps that have ended, and the member of [`PREVIOUS_ITERATION`] with those of
/// the previous iteration.
pub const ENDED_STEPS: &str = "steps";

/// Values by name. A persistent map, which is cheap to clone.
pub type NameMap<K, V> = RedBlackTreeMapSync<K, V>;

/// The texts of a step for which different names are in scope, or different facts about their values are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextScope {
    /// `when`, which orch evaluates once, before `for_each`.
    Condition,
    /// `for_each`, which orch evaluates once, before the first item, if `when` is true.
    List,
    /// The other texts of the step.
    Step,
    /// The condition that ends a loop.
    Iteration,
    /// A condition of `accept`.
    Reply,
}

/// The names in scope at one point of a pipeline: artifacts with values of type `A`, ended steps with values of type
/// `S`, and variables with values of type `L`.
#[derive(Clone, Debug)]
pub struct NameScope<K: Ord, A, S, L> {
    artifacts: NameMap<K, A>,
    ended_steps: NameMap<K, S>,
    item: Option<Arc<ItemScope<L>>>,
    iteration: Option<Arc<IterationScope<K, A, S, L>>>,
}

/// The variables of an item of `for_each`.
#[derive(Clone, Debug)]
pub struct ItemScope<L> {
    /// The variable `item`.
    pub item: L,
    /// The variable `index`.
    pub index: L,
}

/// The variable `loop` in an iteration of `repeat`.
#[derive(Clone, Debug)]
pub struct IterationScope<K: Ord, A, S, L> {
    /// The value of the variable. The interpreter stores the members other than `previous` and `parent`; the check, the
    /// type of the whole variable.
    pub variable: L,
    /// The member `previous`; `None` in the first iteration, in which it is empty.
    pub previous: Option<IterationResult<K, A, S>>,
    /// The member `parent`; `None` if no loop of the same pipeline is around.
    pub parent: Option<Arc<Self>>,
}

/// What the steps of an iteration export.
#[derive(Clone, Debug)]
pub struct IterationResult<K: Ord, A, S> {
    /// The artifacts.
    pub artifacts: NameMap<K, A>,
    /// The steps of the iteration, without the steps inside groups.
    pub ended_steps: NameMap<K, S>,
}

impl<K: Ord, A, S, L> Default for NameScope<K, A, S, L> {
    /// The scope at the start of a pipeline.
    fn default() -> Self {
        Self { artifacts: NameMap::default(), ended_steps: NameMap::default(), item: None, iteration: None }
    }
}

impl<K: Ord, A, S> Default for IterationResult<K, A, S> {
    fn default() -> Self {
        Self { artifacts: NameMap::default(), ended_steps: NameMap::default() }
    }
}

impl<K: Ord + Clone + Borrow<str>, A: Clone, S: Clone, L: Clone> NameScope<K, A, S, L> {
    /// The scope of an item of a step with `for_each`.
    #[must_use]
    pub fn for_item(&self, item: L, index: L) -> Self {
        Self { item: Some(Arc::new(ItemScope { item, index })), ..self.clone() }
    }

    /// The scope at the start of an iteration. `previous` is the result of the iteration before it, which the artifacts
    /// and the ended steps in scope do not include.
    #[must_use]
    pub fn for_iteration(&self, variable: L, previous: Option<IterationResult<K, A, S>>) -> Self {
        let iteration = IterationScope { variable, previous, parent: self.iteration.clone() };
        Self { iteration: Some(Arc::new(iteration)), ..self.clone() }
    }

    /// The scope at the end of an iteration that started with this scope.
    #[must_use]
    pub fn after_iteration(&self, result: &IterationResult<K, A, S>) -> Self {
        let mut scope = self.clone();
        for (name, value) in &result.artifacts {
            scope.add_artifact(name.clone(), value.clone());
        }
        for (id, outcome) in &result.ended_steps {
            scope.end_step(id.clone(), outcome.clone());
        }
        scope
    }

    /// Adds an artifact that a step exports.
    pub fn add_artifact(&mut self, name: K, value: A) {
        self.artifacts.insert_mut(name, value);
    }

    /// Adds a step that has ended.
    pub fn end_step(&mut self, id: K, outcome: S) {
        self.ended_steps.insert_mut(id, outcome);
    }

    /// The artifacts in scope.
    pub fn artifacts(&self) -> &NameMap<K, A> {
        &self.artifacts
    }

    /// The artifact with this name.
    pub fn artifact(&self, name: &str) -> Option<&A> {
        self.artifacts.get(name)
    }

    /// The steps that have ended: those before this point, in the same list and in the lists around it.
    pub fn ended_steps(&self) -> &NameMap<K, S> {
        &self.ended_steps
    }

    /// The variables of the innermost item.
    pub fn item(&self) -> Option<&ItemScope<L>> {
        self.item.as_deref()
    }

    /// The variable `loop` of the innermost iteration.
    pub fn iteration(&self) -> Option<&Arc<IterationScope<K, A, S, L>>> {
        self.iteration.as_ref()
    }

    /// The innermost iteration and the iterations around it.
    fn iterations(&self) -> impl Iterator<Item = &IterationScope<K, A, S, L>> {
        std::iter::successors(self.iteration.as_deref(), |iteration| iteration.parent.as_deref())
    }

    /// Whether the loop to which this many `parent` members lead is in its second iteration or a later one.
    pub fn has_previous_iteration(&self, parents: usize) -> bool {
        self.iterations().nth(parents).is_some_and(|iteration| iteration.previous.is_some())
    }

    /// The artifacts of earlier iterations that this read covers, each with the read of it alone.
    pub fn artifacts_read<'s>(&'s self, read: &'s PreviousRead) -> impl Iterator<Item = (PreviousRead, &'s A)> {
        let iterations = self.iterations().enumerate().skip(read.parents);
        iterations.flat_map(move |(parents, iteration)| {
            let artifacts = iteration.previous.iter().flat_map(|previous| previous.artifacts.iter());
            artifacts.filter_map(move |(name, value)| {
                let name = <K as Borrow<str>>::borrow(name);
                let is_read = match &read.artifact {
                    Some(artifact) => parents == read.parents && name == artifact.as_str(),
                    None => true,
                };
                is_read.then(|| (PreviousRead { parents, artifact: Some(name.to_owned()) }, value))
            })
        })
    }

    /// The expression for the value that an artifact had in the previous iteration of the innermost loop that exports
    /// it; `None` if no loop around exports it.
    pub fn previous_artifact(&self, name: &str) -> Option<String> {
        let exports = |iteration: &IterationScope<K, A, S, L>| {
            iteration.previous.as_ref().is_some_and(|previous| previous.artifacts.contains_key(name))
        };
        let parents = self.iterations().position(exports)?;
        Some(PreviousRead { parents, artifact: Some(name.to_owned()) }.expression())
    }

    /// The expression for the outcome of a step in the previous iteration; `None` if no loop around contains the step.
    pub fn previous_step(&self, id: &str) -> Option<String> {
        let contains = |iteration: &IterationScope<K, A, S, L>| {
            iteration.previous.as_ref().is_some_and(|previous| previous.ended_steps.contains_key(id))
        };
        let parents = self.iterations().position(contains)?;
        Some(format!("{}.{ENDED_STEPS}.{id}", PreviousRead { parents, artifact: None }.expression()))
    }
}

/// The names of artifacts that later steps see after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportedNames<'a> {
    /// The step's own output. The steps inside the step are invisible.
    Output(&'a str),
    /// The names that the steps inside the step export; nothing if it has none.
    OfChildren,
    /// The outputs of the pipeline that the step calls.
    OfCalledPipeline,
    /// Nothing: the step runs once for each item and has no output.
    Nothing,
}

impl<'a> ExportedNames<'a> {
    /// The names that a step with these properties exports.
    pub fn of_step(output: Option<&'a str>, has_items: bool, calls_pipeline: bool) -> Self {
        match (output, has_items, calls_pipeline) {
            (Some(name), _, _) => Self::Output(name),
            (None, true, _) => Self::Nothing,
            (None, false, true) => Self::OfCalledPipeline,
            (None, false, false) => Self::OfChildren,
        }
    }

    /// Whether later steps see the artifacts of the steps inside the step, or of the pipeline that it calls.
    pub fn are_inner(self) -> bool {
        match self {
            Self::OfChildren | Self::OfCalledPipeline => true,
            Self::Output(_) | Self::Nothing => false,
        }
    }
}

/// A read of artifacts of an earlier iteration, through `loop.previous`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PreviousRead {
    /// How many `parent` members lead from the innermost `loop` to the one whose previous iteration is read.
    pub parents: usize,
    /// The artifact; `None` for all artifacts of this loop and of the loops around it.
    pub artifact: Option<String>,
}

impl PreviousRead {
    /// The read that the members after the variable `loop` stand for, such as `previous` and `review`. `None` if they
    /// lead to something other than an artifact of an earlier iteration.
    pub fn from_members(members: &[String]) -> Option<Self> {
        let parents = members.iter().take_while(|name| *name == PARENT_LOOP).count();
        let mut remaining = members.iter().skip(parents).map(String::as_str);
        match (remaining.next(), remaining.next()) {
            (None, _) | (Some(PREVIOUS_ITERATION), None) => Some(Self { parents, artifact: None }),
            (Some(PREVIOUS_ITERATION), Some(ENDED_STEPS)) => None,
            (Some(PREVIOUS_ITERATION), Some(name)) => Some(Self { parents, artifact: Some(name.to_owned()) }),
            (Some(_), _) => None,
        }
    }

    /// The expression that reads the artifact, such as `loop.parent.previous.review`.
    pub fn expression(&self) -> String {
        let parents = format!(".{PARENT_LOOP}").repeat(self.parents);
        let artifact = self.artifact.as_ref().map_or_else(String::new, |name| format!(".{name}"));
        format!("loop{parents}.{PREVIOUS_ITERATION}{artifact}")
    }
}

/// Whether a path leads to the variable `loop` of an iteration: `loop`, `loop.parent`, and so on.
pub fn is_loop_path(path: &str) -> bool {
    let mut names = path.split('.');
    names.next() == Some("loop") && names.all(|name| name == PARENT_LOOP)
}

/// Whether a path leads to the results of the previous iteration: `loop.previous`, `loop.parent.previous`, and so on.
pub fn is_previous_path(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(iteration, name)| name == PREVIOUS_ITERATION && is_loop_path(iteration))
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestScope = NameScope<&'static str, u32, &'static str, u32>;

    fn result(names: &[(&'static str, u32)]) -> IterationResult<&'static str, u32, &'static str> {
        let ended_steps = [("test", "failed")].into_iter().collect();
        IterationResult { artifacts: names.iter().copied().collect(), ended_steps }
    }

    fn names(scope: &TestScope) -> Vec<&'static str> {
        scope.artifacts().keys().copied().collect()
    }

    fn read(parents: usize, artifact: Option<&str>) -> PreviousRead {
        PreviousRead { parents, artifact: artifact.map(str::to_owned) }
    }

    #[test]
    fn an_iteration_sees_the_outer_names_and_keeps_the_previous_iteration_apart() {
        let mut outer = TestScope::default();
        outer.add_artifact("plan", 1);
        let iteration = outer.for_iteration(2, Some(result(&[("code", 2)])));
        assert_eq!(names(&iteration), ["plan"]);
        assert!(iteration.ended_steps().is_empty());
        assert_eq!(iteration.previous_artifact("code").as_deref(), Some("loop.previous.code"));
        assert_eq!(iteration.previous_step("test").as_deref(), Some("loop.previous.steps.test"));
        assert_eq!((iteration.previous_artifact("plan"), iteration.previous_step("plan")), (None, None));
        let end = iteration.after_iteration(&result(&[("code", 3)]));
        assert_eq!(names(&end), ["code", "plan"]);
        assert!(end.ended_steps().contains_key("test"));
    }

    #[test]
    fn each_entry_into_an_inner_loop_begins_with_nothing() {
        let outer = TestScope::default().for_iteration(2, Some(result(&[("code", 2), ("note", 3)])));
        let inner = outer.for_iteration(1, None);
        assert_eq!(inner.previous_artifact("code").as_deref(), Some("loop.parent.previous.code"));
        assert_eq!(inner.artifacts_read(&read(0, Some("code"))).count(), 0);
        assert!(
            !inner.has_previous_iteration(0) && inner.has_previous_iteration(1) && !inner.has_previous_iteration(2)
        );
        let values: Vec<u32> = inner.artifacts_read(&read(1, Some("code"))).map(|(_, value)| *value).collect();
        assert_eq!(values, [2]);
        let second = outer.for_iteration(2, Some(result(&[("code", 9)])));
        let all: Vec<String> = second.artifacts_read(&read(0, None)).map(|(read, _)| read.expression()).collect();
        assert_eq!(all, ["loop.previous.code", "loop.parent.previous.code", "loop.parent.previous.note"]);
        assert_eq!(second.previous_artifact("code").as_deref(), Some("loop.previous.code"));
    }

    #[test]
    fn an_item_replaces_only_the_item_around_it() {
        let outer = TestScope::default().for_iteration(5, None).for_item(1, 0);
        let inner = outer.for_item(2, 3);
        assert_eq!(inner.item().map(|names| (names.item, names.index)), Some((2, 3)));
        assert_eq!(inner.iteration().map(|iteration| iteration.variable), Some(5));
        assert_eq!(outer.item().map(|names| names.item), Some(1));
    }

    #[test]
    fn a_step_exports_its_output_or_the_names_of_the_steps_inside() {
        assert_eq!(ExportedNames::of_step(Some("all"), true, false), ExportedNames::Output("all"));
        assert_eq!(ExportedNames::of_step(None, true, true), ExportedNames::Nothing);
        assert_eq!(ExportedNames::of_step(None, false, true), ExportedNames::OfCalledPipeline);
        assert_eq!(ExportedNames::of_step(None, false, false), ExportedNames::OfChildren);
    }

    #[test]
    fn members_of_loop_are_reads_of_artifacts_of_earlier_iterations() {
        let from = |path: &str| {
            let members: Vec<String> = path.split_terminator('.').map(str::to_owned).collect();
            PreviousRead::from_members(&members)
        };
        assert_eq!(from("previous.review.note"), Some(read(0, Some("review"))));
        assert_eq!(from("parent.parent.previous.review"), Some(read(2, Some("review"))));
        for whole in ["", "previous"] {
            assert_eq!(from(whole), Some(read(0, None)), "{whole:?}");
        }
        assert_eq!(from("parent"), Some(read(1, None)));
        for other in ["index", "parent.first", "previous.steps", "previous.steps.test.status"] {
            assert_eq!(from(other), None, "{other}");
        }
        assert_eq!(read(1, Some("code")).expression(), "loop.parent.previous.code");
        assert!(is_loop_path("loop") && is_loop_path("loop.parent.parent"));
        assert!(!is_loop_path("loop.previous") && !is_loop_path("parent") && !is_loop_path("looped"));
        assert!(is_previous_path("loop.previous") && is_previous_path("loop.parent.previous"));
        assert!(!is_previous_path("loop") && !is_previous_path("x.previous"));
    }
}
