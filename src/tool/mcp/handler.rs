//! What orch tells a server about itself, and how it answers the requests of a server.

use std::sync::Arc;

use futures_util::FutureExt as _;
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

use super::open_calls::{AskedQuestion, OpenCalls, UnansweredQuestion};
use super::questions::limited_question;

/// How many notices wait for a call that is slow to read them. The oldest ones are lost.
const NOTICE_CAPACITY: usize = 64;
/// The maximum length of the text of a progress notice, in characters.
const MAX_NOTICE_CHARS: usize = 300;

/// What a server sent during a call, beside its result.
#[derive(Clone, Debug)]
pub(super) enum Notice {
    /// The progress of the request with this token.
    Progress { token: ProgressToken, text: String },
    /// An open call has a further question to the user without an answer.
    Unanswered,
}

/// Answers a server, and passes its notices to the calls.
pub(super) struct Handler {
    config: ClientConfig,
    calls: Arc<OpenCalls>,
    notices: broadcast::Sender<Notice>,
}

impl Handler {
    /// A handler of a connection without calls.
    pub(super) fn new() -> Self {
        Self { config: client_config(), calls: Arc::default(), notices: broadcast::channel(NOTICE_CAPACITY).0 }
    }

    /// The sender of the notices, to which calls subscribe.
    pub(super) fn notices(&self) -> broadcast::Sender<Notice> {
        self.notices.clone()
    }

    /// The calls of the connection.
    pub(super) fn calls(&self) -> Arc<OpenCalls> {
        self.calls.clone()
    }

    /// Answers a question. Cancels it if it has no answer.
    async fn answer(&self, request: ElicitRequestParams) -> ElicitResult {
        if !self.calls.admit() {
            self.notify(Notice::Unanswered);
            return ElicitResult::new(ElicitationAction::Cancel);
        }
        let (question, problem) = limited_question(question(request));
        let AskedQuestion { name, is_unclear, given, answerer, calls } = self.calls.ask(&question);
        let is_unusable = problem.is_some();
        let answer = match (problem, given, answerer) {
            (Some(problem), ..) => Err(problem),
            (None, Some(given), _) => Ok(given),
            (None, None, Some(answerer)) => tokio::select! {
                biased;
                answer = answerer(question.clone()) => answer,
                // Dropping the other future withdraws the question.
                () = calls.wait_ended() => Err("the call ended before the user answered".to_owned()),
            },
            (None, None, None) => Err(String::new()),
        };
        match answer {
            Ok(Value::Null) => ElicitResult::new(ElicitationAction::Decline),
            Ok(content @ Value::Object(_)) => ElicitResult::new(ElicitationAction::Accept).with_content(content),
            Ok(_) => ElicitResult::new(ElicitationAction::Accept),
            Err(reason) => {
                self.calls.add_unanswered(&UnansweredQuestion { name, question, reason, is_unusable, is_unclear });
                self.notify(Notice::Unanswered);
                ElicitResult::new(ElicitationAction::Cancel)
            }
        }
    }

    fn notify(&self, notice: Notice) {
        // Without a call, the notice has no reader.
        drop(self.notices.send(notice));
    }
}

/// What orch tells a server about itself. Servers of the new protocol ask before they return a result, and then the
/// answer may come later, from another process. A server of the old protocol waits for the answer during the call. If
/// nothing can answer it then, and the call can't be made again, the transport takes the capability out of `initialize`.
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
        self.answer(request).map(Ok)
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
    use std::time::Duration;

    use futures_util::future::BoxFuture;
    use indexmap::IndexMap;
    use serde_json::json;

    use super::*;
    use crate::model::{McpAccess, McpServerSpec, McpTransport};
    use crate::tool::mcp::{Answerer, McpCall};

    #[test]
    fn progress_is_one_short_text() {
        assert_eq!(progress_text(2.0, Some(5.0), Some("reading")), "2/5: reading");
        assert_eq!(progress_text(0.5, None, None), "0.5");
        assert_eq!(progress_text(1.0, None, Some(&"x".repeat(1000))).chars().count(), MAX_NOTICE_CHARS);
    }

    #[tokio::test]
    async fn a_question_is_answered_declined_or_cancelled() {
        let transport = McpTransport::Http { url: "https://shop.example".to_owned(), headers: IndexMap::new() };
        let (name, access) = ("shop".to_owned(), McpAccess::Write);
        let server = McpServerSpec { name, transport, tools: None, access };
        let arguments = json!({});
        for (answer, action, content) in [
            (Ok(json!({ "size": "S" })), ElicitationAction::Accept, Some(json!({ "size": "S" }))),
            (Ok(json!(true)), ElicitationAction::Accept, None),
            (Ok(Value::Null), ElicitationAction::Decline, None),
            (Err("later".to_owned()), ElicitationAction::Cancel, None),
        ] {
            let handler = Handler::new();
            let mut notices = handler.notices().subscribe();
            let reason = answer.clone().err();
            let answer = move |_: InputQuestion| -> BoxFuture<'static, Result<Value, String>> {
                Box::pin(std::future::ready(answer.clone()))
            };
            let answerer: Answerer = Arc::new(answer);
            let call = McpCall {
                server: &server,
                tool: "order",
                arguments: &arguments,
                answers: None,
                answerer: Some(&answerer),
                timeout: Duration::from_secs(1),
                on_progress: &|_| {},
            };
            let calls = handler.calls();
            let turn = calls.begin(&call, false).await;
            let params =
                json!({ "mode": "url", "message": "Which?", "elicitationId": "1", "url": "https://a.example" });
            let request: ElicitRequestParams = serde_json::from_value(params).unwrap();
            let result = handler.answer(request.clone()).await;
            let unanswered = turn.take_unanswered().questions;
            drop(turn);
            assert_eq!((result.action, result.content), (action, content));
            assert_eq!(notices.try_recv().is_ok(), reason.is_some());
            let reasons: Vec<String> = unanswered.iter().map(|unanswered| unanswered.reason.clone()).collect();
            assert_eq!(reasons, reason.into_iter().collect::<Vec<_>>());
            assert!(unanswered.iter().all(|asked| asked.question.message == "Which?" && !asked.is_unclear));
            // Without an open call, nothing can answer.
            assert_eq!(handler.answer(request).await.action, ElicitationAction::Cancel);
        }
    }

    #[tokio::test]
    async fn a_question_is_withdrawn_when_its_call_ends() {
        let transport = McpTransport::Http { url: "https://shop.example".to_owned(), headers: IndexMap::new() };
        let server = McpServerSpec { name: "shop".to_owned(), transport, tools: None, access: McpAccess::Write };
        let shown = Arc::new(());
        let on_terminal = shown.clone();
        let answer = move |_: InputQuestion| -> BoxFuture<'static, Result<Value, String>> {
            let on_terminal = on_terminal.clone();
            Box::pin(async move {
                let answer = std::future::pending().await;
                drop(on_terminal);
                answer
            })
        };
        let answerer: Answerer = Arc::new(answer);
        let arguments = json!({});
        let call = McpCall {
            server: &server,
            tool: "order",
            arguments: &arguments,
            answers: None,
            answerer: Some(&answerer),
            timeout: Duration::from_secs(1),
            on_progress: &|_| {},
        };
        let handler = Handler::new();
        let calls = handler.calls();
        let turn = calls.begin(&call, false).await;
        let params = json!({ "mode": "url", "message": "Which?", "elicitationId": "1", "url": "https://a.example" });
        let mut answered = Box::pin(handler.answer(serde_json::from_value(params).unwrap()));
        assert!((&mut answered).now_or_never().is_none());
        assert_eq!(Arc::strong_count(&shown), 3, "the user sees the question");
        drop(turn);
        assert_eq!(answered.await.action, ElicitationAction::Cancel);
        assert_eq!(Arc::strong_count(&shown), 2);
    }

    #[test]
    fn questions_are_offered_and_the_version_has_a_handshake() {
        let info = Handler::new().get_info();
        let elicitation = info.capabilities.elicitation.unwrap();
        assert!(elicitation.form.is_some() && elicitation.url.is_some());
        assert!(info.protocol_version.has_initialize() && info.capabilities.sampling.is_none());
        assert_eq!(info.client_info.name, "orch");
    }
}
