//! Requests with files to the agents that can't receive any: the embedded model and CLI agents.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use orch::agent::{AgentEnv, CallContext, run_turn};
use orch::folder::{FolderAccess, NoFollowFolder};
use orch::model::{
    AgentTurn, CallKey, ChatRequest, CliAgentKind, Content, ContentBlock, Digest, FailureClass, Message, Role, StepKey,
    TurnEstimate,
};
use orch::process::{EndingGroups, SandboxContext, SandboxProbe};
use serde_json::json;

use crate::provider::request;

fn request_with_file() -> ChatRequest {
    let file = ContentBlock::File { media_type: "image/png".into(), digest: Digest::compute(b"cat") };
    let content = Content::from(vec![ContentBlock::text("What is this?"), file]);
    ChatRequest { messages: vec![Message { role: Role::User, content }], ..request() }
}

#[tokio::test]
async fn every_kind_of_cli_agent_refuses_files_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let agent_env = AgentEnv {
        workspace: folder.path().to_owned(),
        agents_folder: NoFollowFolder::open(folder.path(), FolderAccess::Private).unwrap(),
        artifacts: Arc::default(),
        variables: Arc::new(|name: &str| (name == "PATH").then(|| std::env::var("PATH").ok()).flatten()),
        insecure_providers: Vec::new(),
        supervisor: PathBuf::from(env!("CARGO_BIN_EXE_orch")).into(),
        ending_process_groups: EndingGroups::default(),
        sandbox: Arc::new(SandboxContext::new(
            SandboxProbe::new(env!("CARGO_BIN_EXE_orch").into()),
            folder.path().to_owned(),
        )),
    };
    let context = CallContext {
        start_time: Timestamp::now(),
        max_cost: None,
        call_key: CallKey { step: StepKey::root("one"), attempt: 1, ordinal: 1, tool_call: None, input_round: None },
        request_digest: Digest::compute(b"request"),
    };
    for kind in CliAgentKind::ALL {
        let program = json!({ "kind": kind, "argv": ["touch", "started"], "access": "read" });
        let turn = AgentTurn {
            program: serde_json::from_value(program).unwrap(),
            request: request_with_file(),
            estimate: TurnEstimate::default(),
            session: None,
            session_usage: None,
            timeout_ms: None,
            until: None,
        };
        let result = run_turn(&turn, &agent_env, &context, &|_| {}, std::future::pending()).await;
        let failure = result.reply.unwrap_err();
        assert_eq!(failure.class, FailureClass::BadRequest, "{failure:?}");
        let message = format!("the CLI agent `{}` can't receive files, and the request has some", kind.as_str());
        assert_eq!(failure.message, message);
        assert!(!failure.interrupted && !folder.path().join("started").exists(), "{kind:?} started");
    }
}

#[cfg(feature = "local")]
#[tokio::test]
async fn the_embedded_model_refuses_files() {
    use orch::agent::LocalModels;
    use orch::agent::local::LocalProvider;
    use orch::provider::{Provider as _, RequestLimits};

    let folder = tempfile::tempdir().unwrap();
    let provider = LocalProvider::new(&LocalModels::new(folder.path().to_owned()));
    let failure = provider.chat(&request_with_file(), &RequestLimits::default(), &|_| {}).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::BadRequest, "{failure:?}");
    assert_eq!(failure.message, "the embedded model can't receive files, and the request has some");
}
