use super::*;
use crate::model::CliAgent;

fn kinds() -> Vec<CallKind> {
    let files = [CallKind::Snapshot, CallKind::Apply];
    let other_kinds = [CallKind::Request, CallKind::Turn, CallKind::Command, CallKind::Pipeline];
    let tools = BuiltinTool::ALL.map(CallKind::Tool).into_iter().chain(McpCallKind::ALL.map(CallKind::McpTool));
    other_kinds.into_iter().chain(files).chain(tools).collect()
}

#[test]
fn a_kind_has_the_same_name_in_the_table_and_in_the_journal() {
    for kind in kinds() {
        let name = kind.properties().name;
        let expected = match kind {
            CallKind::Tool(tool) => serde_json::json!({ name: tool.as_str() }),
            CallKind::McpTool(kind) => serde_json::json!({ name: kind }),
            _ => serde_json::json!(name),
        };
        assert_eq!(serde_json::to_value(kind).unwrap(), expected);
    }
}

#[test]
fn a_call_that_runs_a_program_awaits_its_start_record_and_ends_its_processes() {
    for properties in kinds().into_iter().map(CallKind::properties) {
        let runs_program = properties.workspace.runs_program();
        assert!(!runs_program || properties.awaits_start_record, "{properties:?}");
        assert_eq!(properties.ending == CallEnding::EndProcesses, runs_program, "{properties:?}");
        assert!(properties.awaits_start_record || !properties.keeps_turn_start, "{properties:?}");
    }
}

#[test]
fn a_tool_call_that_is_never_repeated_has_a_durable_start() {
    for kind in kinds() {
        let properties = kind.properties();
        let is_tool = matches!(kind, CallKind::Tool(_) | CallKind::McpTool(_));
        assert_eq!(kind.is_never_repeated(), is_tool && properties.awaits_start_record, "{kind:?}");
        // What such a call changes in the workspace is known even if orch is killed.
        let can_write_files = match kind {
            CallKind::Tool(tool) => !tool.only_reads(),
            CallKind::McpTool(kind) => kind == McpCallKind::WorkspaceWrite,
            _ => continue,
        };
        assert_eq!(properties.keeps_turn_start, can_write_files, "{kind:?}");
    }
}

fn request() -> ChatRequest {
    ChatRequest::new(ModelRef::new("lab", "m"), Vec::new(), 10)
}

#[test]
fn a_request_has_a_computed_usage_bound_and_a_turn_has_an_estimate() {
    let max_usage = Usage { input: 20, output: 10, ..Usage::default() };
    let model_request = ModelRequest {
        request: request(),
        max_usage,
        timeout_ms: None,
        deadline: None,
        elided_results: Vec::new(),
        tool_results: Vec::new(),
        labels_errors: false,
    };
    let program: CliAgent =
        serde_json::from_value(serde_json::json!({ "kind": "codex", "model": "m", "access": "read" })).unwrap();
    let turn = AgentTurn {
        program,
        request: request(),
        estimate: TurnEstimate { tokens: Some(7), usd: None },
        session: None,
        session_usage: None,
        timeout_ms: None,
        until: None,
    };
    let (request, turn) = (Effect::ModelRequest(model_request), Effect::Turn(Box::new(turn)));
    for effect in [&request, &turn] {
        // If the process dies during the call, the journal must contain an upper bound of the usage.
        assert!(effect.properties().awaits_start_record);
        assert_eq!(effect.model(), Some(&ModelRef::new("lab", "m")));
    }
    let rate_limited_tokens = |effect: &Effect| effect.profile().model_use.unwrap().rate_limited_tokens;
    assert_eq!((rate_limited_tokens(&request), rate_limited_tokens(&turn)), (Some(30), None));
    let (request_bound, turn_bound) = (request.usage_bound(), turn.usage_bound());
    assert_eq!((request_bound.max_usage, turn_bound.max_usage), (Some(max_usage), None));
    assert_eq!((request_bound.estimate.tokens, turn_bound.estimate.tokens), (None, Some(7)));
    assert_eq!(request_bound.priced_as, Some(ModelRef::new("lab", "m").into()));
    assert_eq!(turn_bound.priced_as, Some(ModelRef::new("openai", "m").into()));
}

#[test]
fn a_call_that_writes_files_uses_no_model() {
    let write = Effect::Write(Value::Null);
    assert!(write.model().is_none());
    assert!(write.usage_bound().max_usage.is_none());
    assert!(write.properties().workspace.sees_files());
}
