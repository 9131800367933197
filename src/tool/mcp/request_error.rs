//! How requests and calls end without a result.

use serde_json::Value;

use crate::model::Failure;

use super::open_calls::UnansweredQuestions;

/// Why a request has no result.
pub(super) enum RequestError {
    /// The server answered with an error, which this text describes.
    Refused(String),
    /// The connection ended. The server may have performed the request.
    Closed,
    /// The server does not know the session any more, so it did not perform the request.
    SessionLost(Failure),
    /// The request failed for another reason.
    Failed(Failure),
    /// The caller interrupted the request.
    Interrupted(Failure),
    /// The request reached its time limit.
    TimedOut,
    /// orch ended the request, because the server asked the user during it and orch can make it again with the answer.
    Asked,
    /// orch ended the call, because the server asked the user, and the question may belong to another call. The call has
    /// to be made again while no other call is open.
    Unclear,
    /// The call was not sent. It needs another connection: questions over this one may belong to earlier calls.
    Retired,
}

/// How a call ended.
pub(super) struct RawReply {
    /// The result as the server sent it.
    pub(super) result: Result<Value, RequestError>,
    /// The questions of the server during the call that got no answer.
    pub(super) unanswered: UnansweredQuestions,
}

impl From<RequestError> for RawReply {
    fn from(error: RequestError) -> Self {
        Self { result: Err(error), unanswered: UnansweredQuestions::default() }
    }
}
