//! What orch tells a server about itself, and how it answers the requests of a server.

use std::sync::Arc;

use rmcp::model::{
    ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationCapability,
    FormElicitationCapability, Implementation, ProgressNotificationParam, ProgressToken, ProtocolVersion,
    UrlElicitationCapability,
};
use rmcp::service::{MaybeSendFuture, NotificationContext, RequestContext};
use rmcp::{ClientHandler, ErrorData, RoleClient};
use serde_json::Value;
use tokio::sync::broadcast;

use crate::model::InputQuestion;

use super::context::Answerer;

/// How many notices wait for a call that is slow to read them. The oldest ones are lost.
const NOTICE_CAPACITY: usize = 64;
/// The maximum length of the text of a notice, in characters.
const MAX_NOTICE_CHARS: usize = 300;

/// What a server sent during a call, beside its result.
#[derive(Clone, Debug)]
pub(super) enum Notice {
    /// The progress of the request with this token.
    Progress { token: ProgressToken, text: String },
    /// A question to the user, which orch declined.
    Declined(String),
}

/// Answers a server, and passes its notices to the calls.
pub(super) struct Handler {
    config: ClientConfig,
    answerer: Option<Answerer>,
    notices: broadcast::Sender<Notice>,
}

impl Handler {
    /// Without `answerer`, declines every question.
    pub(super) fn new(answerer: Option<Answerer>) -> Self {
        Self { config: client_config(), answerer, notices: broadcast::channel(NOTICE_CAPACITY).0 }
    }

    /// The sender of the notices, to which calls subscribe.
    pub(super) fn notices(&self) -> broadcast::Sender<Notice> {
        self.notices.clone()
    }

    /// Answers a question, or declines it.
    fn answer(&self, question: &InputQuestion) -> ElicitResult {
        let answer = self.answerer.as_ref().map_or(Ok(Value::Null), |answerer| answerer(question));
        let reason = match answer {
            Ok(Value::Null) => String::new(),
            Ok(content @ Value::Object(_)) => {
                return ElicitResult::new(ElicitationAction::Accept).with_content(content);
            }
            Ok(_) => return ElicitResult::new(ElicitationAction::Accept),
            Err(reason) => format!(" ({reason})"),
        };
        let text = format!("{}{reason}", question.message);
        self.notify(Notice::Declined(text.chars().take(MAX_NOTICE_CHARS).collect()));
        ElicitResult::new(ElicitationAction::Decline)
    }

    fn notify(&self, notice: Notice) {
        // Without a call, the notice has no reader.
        drop(self.notices.send(notice));
    }
}

/// What orch tells a server about itself. Only servers of the new protocol ask before they return a result, and then
/// the answer may come later, from another process. Without answers, the transport takes the capability out of
/// `initialize`, because a server of the old protocol would wait for the answer.
fn client_config() -> ClientConfig {
    let mut capabilities = ClientCapabilities::default();
    let elicitation = ElicitationCapability::new().with_form(FormElicitationCapability::new());
    capabilities.elicitation = Some(elicitation.with_url(UrlElicitationCapability::new()));
    let implementation = Implementation::new("orch", env!("CARGO_PKG_VERSION"));
    ClientConfig::new(capabilities, implementation).with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
}

/// The question of a request.
fn question(request: ElicitRequestParams) -> InputQuestion {
    match request {
        ElicitRequestParams::FormElicitationParams { message, requested_schema, .. } => {
            // A schema that the crate has read can be written.
            let schema = serde_json::to_value(requested_schema).ok().map(Arc::new);
            InputQuestion { message, schema, url: None }
        }
        ElicitRequestParams::UrlElicitationParams { message, url, .. } => {
            InputQuestion { message, schema: None, url: Some(url) }
        }
        _ => InputQuestion::default(),
    }
}

impl ClientHandler for Handler {
    fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> impl Future<Output = Result<ElicitResult, ErrorData>> + MaybeSendFuture + '_ {
        std::future::ready(Ok(self.answer(&question(request))))
    }

    fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) -> impl Future<Output = ()> + MaybeSendFuture + '_ {
        let text = progress_text(params.progress, params.total, params.message.as_deref());
        self.notify(Notice::Progress { token: params.progress_token, text });
        std::future::ready(())
    }

    fn get_info(&self) -> ClientConfig {
        self.config.clone()
    }
}

/// The progress in one line: `2/5: reading`.
fn progress_text(progress: f64, total: Option<f64>, message: Option<&str>) -> String {
    let total = total.map(|total| format!("/{total}")).unwrap_or_default();
    let message = message.map(|message| format!(": {message}")).unwrap_or_default();
    format!("{progress}{total}{message}").chars().take(MAX_NOTICE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn progress_is_one_short_text() {
        assert_eq!(progress_text(2.0, Some(5.0), Some("reading")), "2/5: reading");
        assert_eq!(progress_text(0.5, None, None), "0.5");
        assert_eq!(progress_text(1.0, None, Some(&"x".repeat(1000))).chars().count(), MAX_NOTICE_CHARS);
    }

    #[test]
    fn a_question_is_answered_or_declined() {
        let answer = |answerer: Option<Answerer>| {
            let handler = Handler::new(answerer);
            let mut notices = handler.notices().subscribe();
            let question = InputQuestion { message: "Which?".to_owned(), schema: None, url: None };
            let result = handler.answer(&question);
            (result.action, result.content, notices.try_recv().ok())
        };
        let (action, content, notice) = answer(Some(Arc::new(|_: &InputQuestion| Ok(json!({ "size": "S" })))));
        assert_eq!((action, content), (ElicitationAction::Accept, Some(json!({ "size": "S" }))));
        assert!(notice.is_none());
        let (action, content, _) = answer(Some(Arc::new(|_: &InputQuestion| Ok(json!(true)))));
        assert_eq!((action, content), (ElicitationAction::Accept, None));
        let declined = |answerer: Option<Answerer>| match answer(answerer) {
            (ElicitationAction::Decline, None, Some(Notice::Declined(text))) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(declined(None), "Which?");
        assert_eq!(declined(Some(Arc::new(|_: &InputQuestion| Ok(Value::Null)))), "Which?");
        assert_eq!(
            declined(Some(Arc::new(|_: &InputQuestion| Err("it does not fit".to_owned())))),
            "Which? (it does not fit)"
        );
    }

    #[test]
    fn questions_are_offered_and_the_version_has_a_handshake() {
        let info = Handler::new(None).get_info();
        let elicitation = info.capabilities.elicitation.unwrap();
        assert!(elicitation.form.is_some() && elicitation.url.is_some());
        assert!(info.protocol_version.has_initialize() && info.capabilities.sampling.is_none());
        assert_eq!(info.client_info.name, "orch");
    }
}
