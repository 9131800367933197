//! The events of approvals: the question that orch asks the user, and the answer.

use jiff::{SignedDuration, Timestamp};

use crate::durable::ApprovalRequest;
use crate::model::event::{ApprovalAnswered, ApprovalAsked, ApprovalDecision};
use crate::model::{CallKey, Digest};

/// The digest of the text of a question. An answer is valid only for a question with this digest.
pub fn question_digest(request: &ApprovalRequest) -> Digest {
    Digest::compute(request.text.as_bytes())
}

/// The event that records a question that orch asks at the time `now`.
pub fn approval_asked(key: &CallKey, request: &ApprovalRequest, now: Timestamp) -> ApprovalAsked {
    let expires_at = request.timeout_ms.and_then(|millis| {
        now.checked_add(SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))).ok()
    });
    let CallKey { step, attempt, ordinal, tool_call, input_round } = key.clone();
    let (question, question_digest) = (request.text.clone(), question_digest(request));
    ApprovalAsked { step, attempt, ordinal, tool_call, input_round, question, question_digest, expires_at }
}

/// The event that records the answer to a question.
pub fn approval_answered(key: &CallKey, question_digest: &Digest, answer: ApprovalDecision) -> ApprovalAnswered {
    let CallKey { step, attempt, ordinal, tool_call, input_round } = key.clone();
    let question_digest = question_digest.clone();
    ApprovalAnswered { step, attempt, ordinal, tool_call, input_round, question_digest, answer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StepKey;

    #[test]
    fn a_question_expires_after_its_time() {
        let key = CallKey { step: StepKey::root("ask"), attempt: 1, ordinal: 2, tool_call: Some(3), input_round: None };
        let asked = |timeout_ms| {
            let request = ApprovalRequest { text: "Deploy?".to_owned(), timeout_ms };
            approval_asked(&key, &request, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(asked(None).expires_at, None);
        assert_eq!(asked(Some(1500)).expires_at.map(Timestamp::as_millisecond), Some(1500));
        assert_eq!(asked(Some(u64::MAX)).expires_at, None, "later than any time");
        let question = asked(None);
        let by_me =
            ApprovalDecision { approved: true, note: String::new(), by: String::new(), at: Timestamp::UNIX_EPOCH };
        let answered = approval_answered(&key, &question.question_digest, by_me);
        assert_eq!((answered.key(), question.key()), (key.clone(), key.clone()));
        assert_eq!(answered.question_digest, Digest::compute(b"Deploy?"));
    }
}
