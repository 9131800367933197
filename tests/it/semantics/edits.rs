//! Edits of the files of a pipeline between two sessions of a run.

use super::generate::smaller_pipelines;
use super::pipeline::{Kind, Step, TestPipeline};

/// An edit. The number selects one of the possible edits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edit {
    /// Changes the text of a step.
    ChangeText(usize),
    /// Adds a step.
    AddStep(usize),
    /// Removes a step, or a part of a step, of `success` or of `outputs`.
    RemovePart(usize),
}

impl Edit {
    /// Returns the edited pipeline, which the check may reject. `session` is the next session of the run.
    pub(crate) fn apply(self, pipeline: &TestPipeline, session: u32) -> TestPipeline {
        let mut pipeline = pipeline.clone();
        match self {
            Self::ChangeText(number) => {
                let mut leaves = Vec::new();
                pipeline
                    .steps
                    .iter_mut()
                    .chain(&mut pipeline.finally)
                    .for_each(|step| collect_leaves(step, &mut leaves));
                let count = leaves.len();
                if let Some(step) = leaves.into_iter().nth(number % count.max(1)) {
                    step.revision += 1;
                }
            }
            Self::AddStep(number) => {
                let (id, output) = (format!("new{session}"), Some(format!("of_new{session}")));
                let kind = Kind::Agent { max_tries: None, fallback: false };
                let (when, for_each, on_error, inputs) = Default::default();
                let index = number % (pipeline.steps.len() + 1);
                pipeline.steps.insert(index, Step { id, kind, when, for_each, inputs, output, on_error, revision: 0 });
            }
            Self::RemovePart(number) => {
                let variants = smaller_pipelines(&pipeline);
                let count = variants.len();
                pipeline = variants.into_iter().nth(number % count.max(1)).unwrap_or(pipeline);
            }
        }
        pipeline
    }
}

/// Adds the steps that contain no other steps to `leaves`.
fn collect_leaves<'a>(step: &'a mut Step, leaves: &mut Vec<&'a mut Step>) {
    if step.kind.is_leaf() {
        leaves.push(step);
        return;
    }
    match &mut step.kind {
        Kind::Parallel { steps, .. } | Kind::Repeat { steps, .. } | Kind::Steps(steps) => {
            for step in steps {
                collect_leaves(step, leaves);
            }
        }
        Kind::Call(pipeline) => {
            pipeline.steps.iter_mut().chain(&mut pipeline.finally).for_each(|step| collect_leaves(step, leaves))
        }
        Kind::Agent { .. } | Kind::Run { .. } | Kind::Write { .. } | Kind::Approve { .. } => {}
    }
}
