//! The report of a run in its current state: totals, artifacts and the result.

use serde_json::Value;

use super::RunState;
use crate::model::cost::CostTotal;
use crate::model::event::{Artifact, PlannedStep, RunStatus};
use crate::model::report::{ArtifactKind, ArtifactReport, MAX_REPORTED_VALUE, RunReport, StepReport};
use crate::model::usage::UsageTotal;

impl RunState {
    /// The tokens of all steps.
    pub fn usage(&self) -> UsageTotal {
        let mut usage = UsageTotal::default();
        self.steps.iter().chain(&self.removed_steps).for_each(|step| usage += step.usage);
        usage
    }

    /// The cost of all steps in US dollars.
    pub fn cost(&self) -> CostTotal {
        let mut cost = CostTotal::default();
        self.steps.iter().chain(&self.removed_steps).for_each(|step| cost += step.cost);
        cost
    }

    /// The report of the run in its current state.
    pub fn report(&self) -> RunReport {
        let steps = self.steps_in_file_order();
        let artifacts = steps.iter().filter_map(|step| step.artifact.as_ref());
        RunReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            run: self.run.to_string(),
            pipeline: self.pipeline.clone(),
            status: self.status,
            success: self.status == RunStatus::Completed,
            started_at: self.started,
            ended_at: self.ended,
            sessions: self.sessions,
            worked_ms: u64::try_from(self.total_session_time().as_millis()).unwrap_or(u64::MAX),
            workspace: self.workspace.clone(),
            error: self.failure.clone(),
            steps: steps.iter().map(|step| StepReport::from_state(step)).collect(),
            artifacts: artifacts.filter_map(|artifact| self.artifact_report(artifact)).collect(),
            usage: self.usage(),
            cost_usd: self.cost().exact(),
            estimated_cost_usd: self.cost().upper_bound(),
            result: self.result(),
        }
    }

    /// The result of the pipeline: its `outputs:`, else the artifact of its last step with an output.
    fn result(&self) -> Option<Value> {
        if self.outputs.is_some() {
            return self.outputs.clone();
        }
        let is_top_level = |step: &&PlannedStep| step.step.ancestors().is_empty();
        let last = self.planned.iter().filter(is_top_level).rfind(|step| step.output.is_some())?;
        let step = self.step_index.get(&last.step).and_then(|index| self.steps.get(*index))?;
        step.artifact.as_ref().map(|artifact| artifact.value.clone())
    }

    fn artifact_report(&self, artifact: &Artifact) -> Option<ArtifactReport> {
        let path = std::path::Path::new(&self.workspace).join(artifact.path.as_ref()?);
        let kind = if artifact.is_text() { ArtifactKind::Text } else { ArtifactKind::Json };
        let bytes = artifact.file_bytes().len() as u64;
        Some(ArtifactReport {
            name: artifact.name.clone(),
            kind,
            bytes,
            value: (bytes <= MAX_REPORTED_VALUE).then(|| artifact.value.clone()),
            path: path.display().to_string(),
            digest: artifact.digest.to_string(),
        })
    }
}
