//! The report of a run in its current state: totals, artifacts and the result.

use serde_json::Value;

use super::RunState;
use crate::model::cost::CostTotal;
use crate::model::event::{Artifact, PlannedStep, RunStatus};
use crate::model::report::{ArtifactReport, RunReport, StepReport};
use crate::model::usage::UsageTotal;

impl RunState {
    /// Tokens of all steps.
    pub fn usage(&self) -> UsageTotal {
        let mut usage = UsageTotal::default();
        self.steps.iter().chain(&self.gone).for_each(|step| usage += step.usage);
        usage
    }

    /// Cost in US dollars of all steps.
    pub fn cost(&self) -> CostTotal {
        let mut cost = CostTotal::default();
        self.steps.iter().chain(&self.gone).for_each(|step| cost += step.cost);
        cost
    }

    /// The report of the run in its current state.
    pub fn report(&self) -> RunReport {
        let steps = self.in_order();
        let artifacts = steps.iter().filter_map(|step| step.artifact.as_ref());
        RunReport {
            run: self.run.to_string(),
            pipeline: self.pipeline.clone(),
            status: self.status,
            success: self.status == RunStatus::Completed,
            started_at: self.started,
            ended_at: self.ended,
            sessions: self.sessions,
            worked_ms: u64::try_from(self.worked().as_millis()).unwrap_or(u64::MAX),
            workspace: self.workspace.clone(),
            error: self.failure.clone(),
            steps: steps.iter().map(|step| StepReport::of(step)).collect(),
            artifacts: artifacts.filter_map(|artifact| self.artifact_report(artifact)).collect(),
            usage: self.usage(),
            cost_usd: self.cost().known(),
            estimated_cost_usd: self.cost().estimated(),
            result: self.result(),
        }
    }

    /// The result of the pipeline: its `outputs:`, else what its last step with an output produced.
    fn result(&self) -> Option<Value> {
        if self.outputs.is_some() {
            return self.outputs.clone();
        }
        let top = |step: &&PlannedStep| step.step.ancestors().is_empty();
        // Journals of early versions do not record which steps have an output: all of them had one.
        let tells = self.planned.iter().any(|step| step.output.is_some());
        let last = self.planned.iter().filter(top).rfind(|step| step.output.is_some() || !tells)?;
        let step = self.at.get(&last.step).and_then(|at| self.steps.get(*at))?;
        step.artifact.as_ref().map(|artifact| artifact.value.clone())
    }

    fn artifact_report(&self, artifact: &Artifact) -> Option<ArtifactReport> {
        let path = std::path::Path::new(&self.workspace).join(artifact.path.as_ref()?);
        Some(ArtifactReport {
            name: artifact.name.clone(),
            path: path.display().to_string(),
            digest: artifact.digest.to_string(),
        })
    }
}
