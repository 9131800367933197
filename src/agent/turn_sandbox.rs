//! Adds what the sandbox of a program recorded to the result of its turn.

use std::path::PathBuf;

use crate::model::{AgentTurn, CliAgentKind, Failure, FailureClass, SandboxLevel, SandboxNetwork, SandboxUse};
use crate::process::hidden_file_hint;

use super::program::TurnResult;

/// Adds what the sandbox recorded to the result of a turn. A turn fails if its program changed protected paths or
/// damaged a repository. The message of a failed turn names the limit that the program reached, or what is unknown about
/// the limits. The hint names the refused connections.
pub(super) fn apply_sandbox(
    turn: &AgentTurn,
    sandbox: &SandboxUse,
    visible_folders: &[&PathBuf],
    result: &mut TurnResult,
) {
    if let Some(failure) = sandbox.damage_failure() {
        // orch discards the reply, but counts its usage.
        result.activity.usage = result.reply.as_ref().ok().map(|reply| reply.usage).or(result.activity.usage);
        result.reply = Err(failure);
        return;
    }
    let Err(failure) = &mut result.reply else { return };
    if let Some(limit) = &sandbox.limit {
        *failure = Failure {
            class: FailureClass::SandboxLimit,
            message: format!("{limit}: {}", failure.message),
            ..failure.clone().with_hint("raise the limit under `limits` of the agent's sandbox")
        };
        return;
    }
    for sentence in &sandbox.unknown {
        failure.message.push_str("; ");
        failure.message.push_str(sentence);
    }
    if !matches!(failure.class, FailureClass::AgentError | FailureClass::ProviderUnavailable | FailureClass::Timeout) {
        return;
    }
    let (refused_hosts, unreachable_hosts) = (sandbox.refused_hosts(), sandbox.unreachable_hosts());
    let spec = turn.program.sandbox.as_ref();
    let may_lack_network = spec.is_some_and(|spec| spec.network == SandboxNetwork::None)
        && failure.class != FailureClass::Timeout
        && matches!(turn.program.kind, CliAgentKind::Acp | CliAgentKind::Command);
    let join = |hosts: &[String]| hosts.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let hidden_file =
        if sandbox.level == SandboxLevel::Full { hidden_file(&failure.message, visible_folders) } else { None };
    // A program tries other hosts too, for example for updates: an unreachable host is the more likely cause.
    let sandbox_hint = if !unreachable_hosts.is_empty() {
        let hosts = join(&unreachable_hosts);
        format!("it could not connect to {hosts}: start the server, or correct its address")
    } else if !refused_hosts.is_empty() {
        let hosts = join(&refused_hosts);
        format!("its sandbox refused connections to {hosts}; list the hosts that it needs under `network`")
    } else if let Some(hint) = hidden_file {
        hint
    } else if may_lack_network {
        "its sandbox allows no network: if it needs a server, list the host, as in `sandbox: { network: [HOST] }`"
            .to_owned()
    } else {
        return;
    };
    let hint = failure.hint.take().map(|hint| format!("{hint}; ")).unwrap_or_default();
    failure.hint = Some(format!("{hint}{sandbox_hint}"));
}

/// The hint for a message about a missing file in a folder that the sandbox hides.
fn hidden_file(message: &str, visible_folders: &[&PathBuf]) -> Option<String> {
    let visible_folders: Vec<String> = visible_folders.iter().map(|folder| folder.display().to_string()).collect();
    hidden_file_hint(message, &visible_folders.iter().map(String::as_str).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::step::Access;
    use crate::model::{Agent, ChatRequest, ModelRef, SandboxConnection, TurnEstimate};

    fn turn() -> AgentTurn {
        let agent = Agent { command: Some(vec!["x".to_owned()]), ..Agent::from_model("auto") };
        AgentTurn {
            program: agent.cli_agent(Access::None).unwrap(),
            request: ChatRequest::new(ModelRef::new("command", "x"), Vec::new(), 10),
            estimate: TurnEstimate::default(),
            session: None,
            session_usage: None,
            timeout_ms: None,
            until: None,
        }
    }

    /// The hint of a failed turn whose program opened these connections, each with its host and with whether it was
    /// refused and whether it failed.
    fn hint(connections: &[(&str, bool, bool)]) -> Option<String> {
        let connections = connections.iter().map(|(host, is_refused, has_failed)| SandboxConnection {
            host: (*host).to_owned(),
            port: 443,
            sent: 0,
            received: 0,
            refused: is_refused.then(|| "not listed".to_owned()),
            failed: has_failed.then(|| "refused".to_owned()),
        });
        let sandbox = SandboxUse { connections: connections.collect(), ..SandboxUse::default() };
        let mut result = TurnResult::from(Failure::new(FailureClass::AgentError, "it failed"));
        apply_sandbox(&turn(), &sandbox, &[], &mut result);
        result.reply.unwrap_err().hint
    }

    #[test]
    fn the_message_of_a_failed_turn_says_what_is_unknown_about_its_limits() {
        let unknown = vec!["orch could not read how often".to_owned()];
        let failed = || TurnResult::from(Failure::new(FailureClass::AgentError, "it failed"));
        let mut result = failed();
        apply_sandbox(&turn(), &SandboxUse { unknown: unknown.clone(), ..SandboxUse::default() }, &[], &mut result);
        assert_eq!(result.reply.unwrap_err().message, "it failed; orch could not read how often");
        let limit = Some("the program reached its limit".to_owned());
        let mut result = failed();
        apply_sandbox(&turn(), &SandboxUse { limit, unknown, ..SandboxUse::default() }, &[], &mut result);
        assert_eq!(result.reply.unwrap_err().message, "the program reached its limit: it failed");
    }

    #[test]
    fn the_hint_of_a_failed_turn_names_unreachable_hosts_or_else_refused_ones() {
        let (up, refused, down) = (("up", false, false), ("refused", true, false), ("down", false, true));
        for connections in [vec![refused, down], vec![down, up, down, ("other", false, true)]] {
            let hint = hint(&connections).unwrap();
            assert!(hint.starts_with("it could not connect to down:443"), "{hint}");
            assert!(hint.ends_with(": start the server, or correct its address"), "{hint}");
            assert_eq!(hint.contains(", other:443"), connections.len() == 4, "{hint}");
        }
        // A later attempt reached the host.
        let hint_after_retry = hint(&[down, refused, ("down", false, false)]).unwrap();
        assert!(hint_after_retry.starts_with("its sandbox refused connections to refused:443;"), "{hint_after_retry}");
        assert_eq!(hint(&[up]), None);
    }
}
