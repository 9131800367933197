//! Edits of the files of a pipeline between two sessions of a run.

use super::generate::smaller;
use super::pipeline::{Kind, Step, TestPipeline};

/// An edit; the numbers choose among the possible places.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edit {
    /// Changes the text of a step.
    Word(usize),
    /// Adds a step.
    New(usize),
    /// Removes a step, or a part of a step, of `success` or of `outputs`.
    Less(usize),
}

impl Edit {
    /// The pipeline after the edit before this session; the check may refuse it.
    pub(crate) fn of(self, pipeline: &TestPipeline, session: u32) -> TestPipeline {
        let mut pipeline = pipeline.clone();
        match self {
            Self::Word(at) => {
                let mut leaves = Vec::new();
                pipeline.steps.iter_mut().chain(&mut pipeline.finally).for_each(|step| collect(step, &mut leaves));
                let count = leaves.len();
                if let Some(step) = leaves.into_iter().nth(at % count.max(1)) {
                    step.word += 1;
                }
            }
            Self::New(at) => {
                let (id, output) = (format!("new{session}"), Some(format!("of_new{session}")));
                let kind = Kind::Agent { tries: None, fallback: false };
                let (when, each, on_error, reads) = Default::default();
                let at = at % (pipeline.steps.len() + 1);
                pipeline.steps.insert(at, Step { id, kind, when, each, reads, output, on_error, word: 0 });
            }
            Self::Less(at) => {
                let all = smaller(&pipeline);
                let count = all.len();
                pipeline = all.into_iter().nth(at % count.max(1)).unwrap_or(pipeline);
            }
        }
        pipeline
    }
}

/// Collects the steps that have a text.
fn collect<'a>(step: &'a mut Step, found: &mut Vec<&'a mut Step>) {
    if step.kind.is_leaf() {
        found.push(step);
        return;
    }
    match &mut step.kind {
        Kind::Parallel { steps, .. } | Kind::Repeat { steps, .. } | Kind::Steps(steps) => {
            for step in steps {
                collect(step, found);
            }
        }
        Kind::Call(pipeline) => {
            pipeline.steps.iter_mut().chain(&mut pipeline.finally).for_each(|step| collect(step, found))
        }
        Kind::Agent { .. } | Kind::Run { .. } | Kind::Write { .. } | Kind::Approve { .. } => {}
    }
}
