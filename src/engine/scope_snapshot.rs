//! Converts the values in scope to a snapshot for another process, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Map;

use crate::durable::{
    Durable, Interrupt, PreviousIteration, ScopeArtifact, ScopeItem, ScopeSnapshot, SnapshotArtifact,
    SnapshotIteration, StepOutcome,
};
use crate::model::name_scope::{ItemScope, NameMap};

use super::iteration_values::{IterationValues, ValueIteration, ValueNames};
use super::scope::ValueScope;
use super::step_outcomes::StepOutcomes;

impl ValueScope {
    /// Everything in scope, as data.
    pub(super) fn to_snapshot(&self) -> ScopeSnapshot {
        let names = self.names();
        let innermost = names.iteration().map(|iteration| &**iteration);
        let iterations = std::iter::successors(innermost, |iteration| iteration.parent.as_deref());
        let outcomes = self.outcomes().iter();
        ScopeSnapshot {
            inputs: self.inputs().map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>(),
            artifacts: snapshot_artifacts(names.artifacts()),
            ended_steps: snapshot_steps(names.ended_steps()),
            outcomes: outcomes.map(|(id, outcome)| (id.clone(), outcome.clone())).collect(),
            item: names.item().map(|ItemScope { item, index }| ScopeItem { item: item.clone(), index: index.clone() }),
            iterations: iterations.map(snapshot_iteration).collect(),
            workspace_version: self.workspace_version().clone(),
        }
    }

    /// The scope that a snapshot describes. Gets the recorded artifacts from `durable`.
    pub(super) async fn from_snapshot(snapshot: ScopeSnapshot, durable: &dyn Durable) -> Result<Self, Interrupt> {
        let mut names = ValueNames::default();
        for SnapshotIteration { variable, previous } in snapshot.iterations.into_iter().rev() {
            let previous = match previous {
                Some(PreviousIteration { artifacts, ended_steps }) => Some(IterationValues {
                    artifacts: restored_artifacts(artifacts, durable).await?,
                    ended_steps: restored_steps(ended_steps),
                }),
                None => None,
            };
            names = names.for_iteration(variable, previous);
        }
        for (name, artifact) in snapshot.artifacts {
            names.add_artifact(name.into(), restored_artifact(artifact, durable).await?);
        }
        for (id, outcome) in snapshot.ended_steps {
            names.end_step(id.into(), outcome);
        }
        if let Some(ScopeItem { item, index }) = snapshot.item {
            names = names.for_item(item, index);
        }
        let mut outcomes = StepOutcomes::default();
        for (id, outcome) in snapshot.outcomes {
            outcomes.insert(&id, outcome);
        }
        Ok(Self::restored(snapshot.inputs, names, outcomes, snapshot.workspace_version))
    }
}

fn snapshot_iteration(iteration: &ValueIteration) -> SnapshotIteration {
    let previous = iteration.previous.as_ref().map(|previous| PreviousIteration {
        artifacts: snapshot_artifacts(&previous.artifacts),
        ended_steps: snapshot_steps(&previous.ended_steps),
    });
    SnapshotIteration { variable: iteration.variable.clone(), previous }
}

fn snapshot_artifacts(artifacts: &NameMap<Arc<str>, ScopeArtifact>) -> BTreeMap<String, SnapshotArtifact> {
    artifacts.iter().map(|(name, artifact)| ((**name).to_owned(), artifact.to_snapshot())).collect()
}

fn snapshot_steps(steps: &NameMap<Arc<str>, StepOutcome>) -> BTreeMap<String, StepOutcome> {
    steps.iter().map(|(id, outcome)| ((**id).to_owned(), outcome.clone())).collect()
}

async fn restored_artifacts(
    artifacts: BTreeMap<String, SnapshotArtifact>,
    durable: &dyn Durable,
) -> Result<NameMap<Arc<str>, ScopeArtifact>, Interrupt> {
    let mut restored = NameMap::default();
    for (name, artifact) in artifacts {
        restored.insert_mut(Arc::from(name), restored_artifact(artifact, durable).await?);
    }
    Ok(restored)
}

async fn restored_artifact(artifact: SnapshotArtifact, durable: &dyn Durable) -> Result<ScopeArtifact, Interrupt> {
    Ok(match artifact {
        SnapshotArtifact::Recorded(reference) => {
            ScopeArtifact::recorded(durable.artifact(&reference).await?, &reference.step)
        }
        SnapshotArtifact::Value(value) => ScopeArtifact::unrecorded(value),
    })
}

fn restored_steps(steps: BTreeMap<String, StepOutcome>) -> NameMap<Arc<str>, StepOutcome> {
    steps.into_iter().map(|(id, outcome)| (Arc::from(id), outcome)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;
    use serde_json::{Value, json};

    use super::*;
    use crate::durable::{
        ArtifactRef, BeginOutcome, BranchOutcome, Call, CallOutcome, EarlierCall, ExecutionId, GroupBranches,
        PipelineCall, PipelineCallStart, StepFact, StepSpec, Wait, WaitOutcome,
    };
    use crate::engine::iteration_values::iteration_position;
    use crate::model::{CallKey, StepKey, StepStatus};

    /// Records of one artifact.
    struct Records {
        artifact: Arc<Value>,
        references: Mutex<Vec<ArtifactRef>>,
    }

    impl Durable for Records {
        fn begin<'a>(&'a self, _: &'a StepSpec) -> BoxFuture<'a, Result<BeginOutcome, Interrupt>> {
            unreachable!("no step begins")
        }

        fn call(&self, _: Call) -> BoxFuture<'_, Result<CallOutcome, Interrupt>> {
            unreachable!("no step makes a call")
        }

        fn earlier_calls<'a>(
            &'a self,
            _: &'a StepSpec,
            _: Option<u32>,
        ) -> BoxFuture<'a, Result<Vec<EarlierCall>, Interrupt>> {
            unreachable!("no step makes a call")
        }

        fn begin_pipeline_call<'a>(
            &'a self,
            _: &'a PipelineCall,
        ) -> BoxFuture<'a, Result<PipelineCallStart, Interrupt>> {
            unreachable!("no step makes a call")
        }

        fn record(&self, _: StepFact) -> BoxFuture<'_, Result<ExecutionId, Interrupt>> {
            unreachable!("no step ends")
        }

        fn branches<'a>(
            &'a self,
            _: StepKey,
            _: &'a dyn GroupBranches,
            _: usize,
        ) -> BoxFuture<'a, Result<Vec<BranchOutcome>, Interrupt>> {
            unreachable!("there is no group")
        }

        fn artifact<'a>(&'a self, reference: &'a ArtifactRef) -> BoxFuture<'a, Result<Arc<Value>, Interrupt>> {
            self.references.lock().unwrap().push(reference.clone());
            let found = reference.is_to(&self.artifact).then(|| self.artifact.clone());
            std::future::ready(found.ok_or_else(|| reference.missing())).boxed()
        }

        fn wait(&self, _: CallKey, _: Wait) -> BoxFuture<'_, Result<WaitOutcome, Interrupt>> {
            unreachable!("no step waits")
        }
    }

    fn outcome(status: StepStatus, output: &str) -> StepOutcome {
        StepOutcome { status, error: None, outputs: Arc::from([output.to_owned()]) }
    }

    /// The second iteration of a loop in the second iteration of another one, for an item.
    fn nested_scope(artifact: &Arc<Value>) -> ValueScope {
        let recorded = ScopeArtifact::recorded(artifact.clone(), &StepKey::root("plan"));
        let result = |name: &str| IterationValues {
            artifacts: [(Arc::from(name), recorded.clone())].into_iter().collect(),
            ended_steps: [(Arc::from("test"), outcome(StepStatus::Failed, "report"))].into_iter().collect(),
        };
        let mut names = ValueNames::default().for_iteration(iteration_position(1, 3), Some(result("note")));
        names = names.for_iteration(iteration_position(1, 2), Some(result("review"))).for_item(json!("a"), json!(4));
        names.add_artifact(Arc::from("plan"), recorded);
        names.add_artifact(Arc::from("local"), ScopeArtifact::unrecorded(Arc::new(json!({ "z": 1.50, "a": null }))));
        names.end_step(Arc::from("plan"), outcome(StepStatus::Completed, "plan"));
        let mut outcomes = StepOutcomes::default();
        outcomes.insert("z", outcome(StepStatus::Failed, "x"));
        outcomes.insert("a", outcome(StepStatus::Skipped, "x"));
        let inputs = Map::from_iter([("z".to_owned(), json!(1)), ("a".to_owned(), json!("text"))]);
        ValueScope::restored(inputs, names, outcomes, ValueScope::initial_workspace_version())
    }

    #[test]
    fn a_scope_is_the_same_after_it_was_sent() {
        let artifact = Arc::new(json!({ "steps": [1, 2], "title": "a" }));
        let records = Records { artifact: artifact.clone(), references: Mutex::default() };
        let text = serde_json::to_string(&nested_scope(&artifact).to_snapshot()).unwrap();
        assert!(!text.contains("title"), "a recorded value is not sent: {text}");
        let received: ScopeSnapshot = serde_json::from_str(&text).unwrap();
        let scope = ValueScope::from_snapshot(received, &records).now_or_never().unwrap().unwrap();
        assert_eq!(serde_json::to_string(&scope.to_snapshot()).unwrap(), text);
        assert_eq!(records.references.lock().unwrap().len(), 3);
        assert_eq!(scope.artifact("plan"), Some(&artifact));
        assert_eq!(scope.item(), Some(&json!("a")));
        let members = ["parent", "previous", "note", "title"].map(str::to_owned);
        assert_eq!(scope.lookup_loop_value(&members), Some(json!("a")));
        assert_eq!(scope.outcomes().iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["z", "a"]);
        assert!(scope.outcomes().last_producer("x", |_| true).is_some_and(|(id, _)| id == "a"));
    }

    #[test]
    fn an_artifact_that_the_records_do_not_contain_stops_the_branch() {
        let snapshot = nested_scope(&Arc::new(json!(1))).to_snapshot();
        let records = Records { artifact: Arc::new(json!(2)), references: Mutex::default() };
        let restored = ValueScope::from_snapshot(snapshot, &records).now_or_never().unwrap();
        let Err(Interrupt::Storage(failure)) = restored else { panic!("the artifact does not exist") };
        assert_eq!(failure.message, "the records of the run do not contain the artifact of step `plan`");
    }
}
