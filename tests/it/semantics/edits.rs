//! What somebody changes in the files of a pipeline between two sessions of a run.

use super::generate::smaller;
use super::pipe::{Kind, Pipe, Step};

/// An edit; the numbers choose among what there is to be edited.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edit {
    /// A step says something else.
    Word(usize),
    /// A step is new.
    New(usize),
    /// A step is gone, or something of a step, of `success` or of `outputs`.
    Less(usize),
}

impl Edit {
    /// The pipeline after the edit, before this session; the check may refuse it.
    pub(crate) fn of(self, pipe: &Pipe, session: u32) -> Pipe {
        let mut pipe = pipe.clone();
        match self {
            Self::Word(at) => {
                let mut leaves = Vec::new();
                pipe.steps.iter_mut().chain(&mut pipe.finally).for_each(|step| collect(step, &mut leaves));
                let count = leaves.len();
                if let Some(step) = leaves.into_iter().nth(at % count.max(1)) {
                    step.word += 1;
                }
            }
            Self::New(at) => {
                let (id, output) = (format!("new{session}"), Some(format!("of_new{session}")));
                let kind = Kind::Agent { tries: None, fallback: false };
                let (when, each, on_error, reads) = Default::default();
                let at = at % (pipe.steps.len() + 1);
                pipe.steps.insert(at, Step { id, kind, when, each, reads, output, on_error, word: 0 });
            }
            Self::Less(at) => {
                let all = smaller(&pipe);
                let count = all.len();
                pipe = all.into_iter().nth(at % count.max(1)).unwrap_or(pipe);
            }
        }
        pipe
    }
}

/// The steps that say something.
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
        Kind::Call(pipe) => pipe.steps.iter_mut().chain(&mut pipe.finally).for_each(|step| collect(step, found)),
        Kind::Agent { .. } | Kind::Run { .. } | Kind::Write { .. } | Kind::Approve { .. } => {}
    }
}
