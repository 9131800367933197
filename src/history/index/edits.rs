//! Results that the user edited.

use crate::durable::{CallReply, StepSpec};
use crate::model::{ChatReply, Content, Fingerprint, StopReason, Usage};

use super::HistoryIndex;
use super::results::RecordedResult;

impl HistoryIndex {
    /// The last result of a step, if the user edited it and the request is the same.
    pub(super) fn edited_result(&self, spec: &StepSpec) -> Option<&RecordedResult> {
        let mut fingerprints = std::iter::once(&spec.fingerprint).chain(&spec.alternative_fingerprints);
        let mut has_same_request = |other: &Fingerprint| fingerprints.any(|own| own.request == other.request);
        let last_result = self.results.get(*self.last_results.get(&spec.step)?)?;
        (last_result.is_edited && has_same_request(&last_result.fingerprint)).then_some(last_result)
    }

    /// The user's edit of a step's last result, in the form of a reply to parse again, if the request is the same.
    pub(super) fn edit_as_reply(&self, spec: &StepSpec) -> Option<CallReply> {
        let text = String::from_utf8(self.edited_result(spec)?.artifact.as_ref()?.file_bytes()).ok()?;
        let (usage, stop) = (Usage::default().into(), StopReason::End);
        Some(CallReply::Chat(ChatReply {
            content: Content::from_text(text),
            stop,
            usage,
            model: None,
            id: None,
            constrained: false,
            details: Box::default(),
        }))
    }
}
