//! What orch tells a server about itself, and how it answers the requests of a server.

use rmcp::model::{
    ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationCapability,
    FormElicitationCapability, Implementation, ProgressNotificationParam, ProgressToken, ProtocolVersion,
    UrlElicitationCapability,
};
use rmcp::service::{MaybeSendFuture, NotificationContext, RequestContext};
use rmcp::{ClientHandler, ErrorData, RoleClient};
use tokio::sync::broadcast;

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
    notices: broadcast::Sender<Notice>,
}

impl Handler {
    pub(super) fn new() -> Self {
        Self { config: client_config(), notices: broadcast::channel(NOTICE_CAPACITY).0 }
    }

    /// The sender of the notices, to which calls subscribe.
    pub(super) fn notices(&self) -> broadcast::Sender<Notice> {
        self.notices.clone()
    }

    fn notify(&self, notice: Notice) {
        // Without a call, nobody needs the notice.
        drop(self.notices.send(notice));
    }
}

/// What orch tells a server about itself. Only servers of the new protocol ask before they return a result, and then
/// the answer may come later, from another process. The transport takes the capability out of `initialize`, because a
/// server of the old protocol would wait for the answer.
fn client_config() -> ClientConfig {
    let mut capabilities = ClientCapabilities::default();
    let elicitation = ElicitationCapability::new().with_form(FormElicitationCapability::new());
    capabilities.elicitation = Some(elicitation.with_url(UrlElicitationCapability::new()));
    let implementation = Implementation::new("orch", env!("CARGO_PKG_VERSION"));
    ClientConfig::new(capabilities, implementation).with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
}

impl ClientHandler for Handler {
    fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> impl Future<Output = Result<ElicitResult, ErrorData>> + MaybeSendFuture + '_ {
        let message = match request {
            ElicitRequestParams::FormElicitationParams { message, .. }
            | ElicitRequestParams::UrlElicitationParams { message, .. } => message,
            _ => String::new(),
        };
        self.notify(Notice::Declined(message.chars().take(MAX_NOTICE_CHARS).collect()));
        std::future::ready(Ok(ElicitResult::new(ElicitationAction::Decline)))
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
    use super::*;

    #[test]
    fn progress_is_one_short_text() {
        assert_eq!(progress_text(2.0, Some(5.0), Some("reading")), "2/5: reading");
        assert_eq!(progress_text(0.5, None, None), "0.5");
        assert_eq!(progress_text(1.0, None, Some(&"x".repeat(1000))).chars().count(), MAX_NOTICE_CHARS);
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
