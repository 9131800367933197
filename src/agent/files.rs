//! Refuses requests with files on behalf of the agents that can't receive any.

use crate::model::{ChatRequest, Failure, FailureClass};

/// Checks that a request has no files, for the agent that `agent` names in the message.
///
/// # Errors
/// `bad_request` for a request with files: without them, the reply would be about something that the model never saw.
pub(super) fn refuse_files(request: &ChatRequest, agent: &str) -> Result<(), Failure> {
    if !request.has_files() {
        return Ok(());
    }
    Err(Failure::new(FailureClass::BadRequest, format!("{agent} can't receive files, and the request has some"))
        .with_hint(
            "for this step, use a model of a provider that reads files, such as `anthropic`, `openai` or `gemini`",
        ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Content, ContentBlock, Digest, Message, ModelRef, Role};

    #[test]
    fn only_a_request_with_files_is_refused() {
        let request = |blocks| {
            let question = Message { role: Role::User, content: Content::from(blocks) };
            ChatRequest::new(ModelRef::new("local", "m"), vec![question, Message::assistant("ok")], 10)
        };
        let file = ContentBlock::File { media_type: "image/png".to_owned(), digest: Digest::compute(b"cat") };
        assert_eq!(refuse_files(&request(vec![ContentBlock::text("hi")]), "the agent"), Ok(()));
        let failure = refuse_files(&request(vec![ContentBlock::text("hi"), file]), "the agent").unwrap_err();
        assert_eq!(failure.class, FailureClass::BadRequest);
        assert_eq!(failure.message, "the agent can't receive files, and the request has some");
    }
}
