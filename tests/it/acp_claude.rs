//! Claude behind the Agent Client Protocol: the adapter from npm, against a scripted model.

use serde_json::{Value, json};

use crate::cli_agents::{Agents, assert_costs_of_turns, class, has_tool_result};
use crate::support::agents::claude_adapter;
use crate::support::{ReceivedRequest, Reply};

#[test]
fn the_cost_and_session_of_claude_behind_acp_are_recorded() {
    let Some(agents) = Agents::one(&claude_adapter(), "", |_| Reply::anthropic_text("It is {\"n\": 4}.")) else {
        return;
    };
    let (ran, report) = agents.run(&[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(agents.orch.json("workspace/answer.json"), json!({ "n": 4 }));
    let step = &report["steps"][0];
    assert!(step["cost_usd"].as_f64() > Some(0.0) && step["session"].as_str().is_some(), "{step:#}");
    assert!(step["usage"]["output"].as_u64() > Some(0), "{step:#}");
}

#[test]
fn claude_behind_acp_uses_only_tools_that_are_granted_by_name_or_kind() {
    let answer = |request: &ReceivedRequest| {
        if has_tool_result(request) {
            return Reply::anthropic_text("{\"n\": 2}");
        }
        Reply::anthropic_tool("Bash", &json!({ "command": "echo yes > made", "description": "make it" }))
    };
    for (tools, wanted) in [("[execute]", "none"), ("[Read]", "permission_denied"), ("none", "permission_denied")] {
        let Some(agents) = Agents::one(&format!("{}, tools: {tools}", claude_adapter()), "", answer) else { return };
        let (ran, report) = agents.run(&[]);
        assert_eq!((ran.code != 0, class(&report)), (wanted != "none", wanted), "{tools}: {report:#}");
        assert_eq!(agents.orch.exists("workspace/made"), wanted == "none", "{tools}");
        let work = &agents.calls()[0]["agent_activity"];
        let tools_used = work["tools"].as_array().map_or(0, Vec::len);
        assert!(tools_used > 0, "{work:#}");
        assert_eq!(work["changed"], if wanted == "none" { json!(["made"]) } else { Value::Null }, "{work:#}");
    }
}

#[test]
fn claude_behind_acp_is_re_asked_in_its_session() {
    let agents = Agents::one(&claude_adapter(), "", |request| {
        let again = request.body.to_string().contains("does not fit");
        Reply::anthropic_text(if again { "{\"n\": 5}" } else { "{\"n\": \"five\"}" })
    });
    let Some(agents) = agents else { return };
    let (ran, _) = agents.run(&[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let calls = agents.calls();
    assert_eq!(calls[0]["reply"]["id"], calls[1]["reply"]["id"], "one session: {calls:#?}");
    assert_costs_of_turns(&calls);
    let last = agents.model_requests().pop().unwrap().body["messages"].to_string();
    assert!(last.contains("five") && last.matches("You answer in kind.").count() == 1, "{last}");
}
