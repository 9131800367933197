//! Recordings of the answers to approvals. A replay needs the names of the people who answered, because later requests
//! may contain them.

use serde::{Deserialize, Serialize};

use super::exchange::{join_lines, split_lines};
use super::{RecordingContext, Replay};
use crate::model::event::ApprovalDecision;
use crate::model::{Digest, StepKey};

/// The label of these recordings in the names of their files.
pub(super) const ANSWER_LABEL: &str = "answer";

/// A recorded answer to the question of an approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct AnswerRecording {
    /// The step as declared in the pipeline file: the iterations and items of a step share their recordings.
    step: String,
    /// The lines of the question.
    question: Vec<String>,
    answer: RecordedAnswer,
}

/// What a person answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RecordedAnswer {
    approved: bool,
    #[serde(default)]
    note: String,
    by: String,
}

impl AnswerRecording {
    pub(super) fn new(
        step: &StepKey,
        question: &str,
        decision: &ApprovalDecision,
        context: &RecordingContext<'_>,
    ) -> Self {
        Self {
            step: step.declared_key().to_string(),
            question: split_lines(&context.portable_text(question)),
            answer: RecordedAnswer {
                approved: decision.approved,
                note: context.portable_text(&decision.note),
                by: context.redactor.redact(&decision.by),
            },
        }
    }

    /// The digest of the question.
    pub(super) fn digest(&self) -> Digest {
        Digest::compute(join_lines(&self.question).as_bytes())
    }
}

impl Replay {
    /// The name of the person who answered this question of a step in the recorded run. If the question is new, the name
    /// of the person who answered every question of the step.
    pub fn answerer(&self, step: &StepKey, question: &str, context: &RecordingContext<'_>) -> Option<String> {
        let (step, question) = (step.declared_key(), split_lines(&context.portable_text(question)));
        let of_step = || self.answers.iter().filter(|recording| recording.step == step.as_str());
        let first = of_step().next()?;
        let is_only_name = of_step().all(|recording| recording.answer.by == first.answer.by);
        let same = of_step().find(|recording| recording.question == question);
        same.or(is_only_name.then_some(first)).map(|recording| recording.answer.by.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::agent::{Recorder, ReplayOptions, RunPaths};
    use crate::secret::Redactor;

    #[test]
    fn a_replay_knows_who_answered_a_question() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::new(folder.path()).unwrap();
        let (redactor, paths) = (Redactor::default(), RunPaths::new(Path::new("/w"), Path::new("/p"), None));
        let context = RecordingContext { redactor: &redactor, paths: &paths };
        let decision = |by: &str| ApprovalDecision {
            approved: true,
            note: String::new(),
            by: by.to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let (ask, fix) = (StepKey::root("ask"), StepKey::root("fix"));
        for (step, question, by) in
            [(&ask, "Delete /w/a?", "bob"), (&ask, "Delete /w/a?", "ana"), (&fix, "One?", "ana"), (&fix, "Two?", "bob")]
        {
            recorder.record_answer(step, question, &decision(by), &context);
        }
        assert_eq!(recorder.failure(), None);
        let replay = Replay::open(folder.path(), ReplayOptions::default()).unwrap();
        let elsewhere = RunPaths::new(Path::new("/other"), Path::new("/p"), None);
        let context = RecordingContext { redactor: &redactor, paths: &elsewhere };
        let answerer = |step, question| replay.answerer(step, question, &context);
        assert_eq!(answerer(&ask, "Delete /other/a?").as_deref(), Some("ana"), "the last answer counts");
        assert_eq!(answerer(&ask, "Delete b?").as_deref(), Some("ana"));
        assert_eq!(answerer(&fix, "Two?").as_deref(), Some("bob"));
        assert_eq!(answerer(&fix, "Three?"), None);
        assert_eq!(answerer(&StepKey::root("other"), "One?"), None);
    }
}
