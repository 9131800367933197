//! What sandbox this machine can enforce: orch tries it once, with processes of its own.

use std::path::PathBuf;
use std::sync::Arc;

use orch_confine::confine::{self, Obstacle, Probe};
use tokio::sync::OnceCell;

use crate::model::{Failure, FailureClass, SandboxLevel, SandboxNetwork, SandboxSpec};

use super::sandbox::{confine_level, sandbox_level};

/// Finds out what this machine can enforce, when it is first needed. Clones share the answer.
#[derive(Clone, Debug)]
pub struct SandboxProbe {
    orch: PathBuf,
    answer: Arc<OnceCell<Arc<MachineSandbox>>>,
}

impl SandboxProbe {
    /// A probe that starts this executable of orch.
    pub fn new(orch: PathBuf) -> Self {
        Self { orch, answer: Arc::default() }
    }

    /// What this machine can enforce.
    ///
    /// # Errors
    /// orch can't start itself.
    pub async fn machine(&self) -> Result<Arc<MachineSandbox>, Failure> {
        let found = self.answer.get_or_try_init(|| async {
            let orch = self.orch.clone();
            let probed = tokio::task::spawn_blocking(move || confine::probe(&orch)).await;
            let probed = probed.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            let machine = probed.map(|probe| Arc::new(MachineSandbox { probe }));
            machine.map_err(|error| {
                let orch = self.orch.display();
                let message = format!("orch can't find out which sandbox works here, since `{orch}` can't be started");
                Failure::new(FailureClass::NotConfined, format!("{message}: {error}"))
            })
        });
        found.await.cloned()
    }
}

/// What this machine can enforce.
#[derive(Clone, Debug)]
pub struct MachineSandbox {
    pub(super) probe: Probe,
}

impl MachineSandbox {
    /// The strongest level that works.
    pub fn level(&self) -> SandboxLevel {
        sandbox_level(self.probe.level())
    }

    /// The version of Landlock that the kernel offers; 0 if it offers none.
    pub fn landlock(&self) -> u32 {
        self.probe.best.landlock
    }

    /// What the level does not hold on this machine, each as a sentence.
    pub fn gaps(&self) -> &[String] {
        &self.probe.best.gaps
    }

    /// Why stronger levels do not work, and what the user can do; the strongest first.
    pub fn obstacles(&self) -> Vec<String> {
        self.probe.obstacles.iter().map(ToString::to_string).collect()
    }

    /// Checks that this machine can enforce a sandbox. `needs_hosts` is whether the program needs some hosts, whatever
    /// its network is.
    ///
    /// # Errors
    /// It can't. The failure says why, and what the user can do.
    pub fn check(&self, spec: &SandboxSpec, needs_hosts: bool) -> Result<(), Failure> {
        let level = self.level();
        let why_not_full = || self.obstacle(SandboxLevel::Full);
        if level < spec.min {
            let obstacle = self.obstacle(spec.min);
            let problem = format!("the sandbox needs the level `{}`, and this machine reaches `{level}`", spec.min);
            return Err(refusal(&problem, obstacle, None));
        }
        let needs_list =
            matches!(spec.network, SandboxNetwork::Hosts(_)) || (spec.network == SandboxNetwork::None && needs_hosts);
        if level == SandboxLevel::Basic && needs_list {
            let problem = "the sandbox allows a list of hosts, which needs the level `full`, and this machine reaches \
                           `basic`";
            return Err(refusal(problem, why_not_full(), Some("write `network: none` or `network: all`")));
        }
        if level == SandboxLevel::Basic && spec.unix_sockets {
            let problem =
                "the sandbox allows UNIX sockets, which needs the level `full`, and this machine reaches `basic`";
            return Err(refusal(problem, why_not_full(), Some("remove `unix_sockets`")));
        }
        Ok(())
    }

    fn obstacle(&self, level: SandboxLevel) -> Option<&Obstacle> {
        let level = confine_level(level);
        let obstacles = &self.probe.obstacles;
        obstacles.iter().find(|obstacle| obstacle.level == level).or_else(|| obstacles.first())
    }
}

/// The failure of a sandbox that this machine can't enforce.
fn refusal(problem: &str, obstacle: Option<&Obstacle>, other_way: Option<&str>) -> Failure {
    let reason = obstacle.map(|obstacle| format!(": {} failed: {}", obstacle.error.step, obstacle.error.cause));
    let mut ways: Vec<&str> = obstacle.iter().flat_map(|obstacle| &obstacle.ways_out).map(String::as_str).collect();
    if let Some(way) = other_way {
        // A lower level would not help.
        ways.retain(|way| !way.starts_with("require only"));
        ways.push(way);
    }
    let failure = Failure::new(FailureClass::NotConfined, format!("{problem}{}", reason.unwrap_or_default()));
    if ways.is_empty() {
        return failure.with_hint("`orch doctor` shows what this machine can do");
    }
    failure.with_hint(format!("{}; `orch doctor` shows what this machine can do", ways.join(", or ")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::Sandbox;
    use crate::model::step::Access;

    /// A machine that reaches `basic`.
    fn basic() -> MachineSandbox {
        let probe = json!({
            "best": { "level": "basic", "landlock": 7, "own_processes": false, "limits_by": null, "gaps": [] },
            "own_processes": false,
            "obstacles": [{
                "level": "full",
                "error": { "step": "namespaces", "place": null, "cause": "Operation not permitted", "errno": 1, "advice": null },
                "ways_out": ["allow user namespaces", "require only `min: basic` in `sandbox:`"],
            }],
        });
        MachineSandbox { probe: serde_json::from_value(probe).unwrap() }
    }

    fn spec(own: Value) -> SandboxSpec {
        let own: Sandbox = serde_json::from_value(own).unwrap();
        SandboxSpec::resolve(&own, &Sandbox::default(), Access::Write).unwrap()
    }

    #[test]
    fn a_level_that_the_machine_does_not_reach_is_refused_with_the_reason_and_the_ways_out() {
        let failure = basic().check(&spec(json!({})), false).unwrap_err();
        let wanted = "the sandbox needs the level `full`, and this machine reaches `basic`: creating namespaces failed: \
                      Operation not permitted";
        assert_eq!((failure.class, failure.message.as_str()), (FailureClass::NotConfined, wanted));
        let hint = failure.hint.unwrap();
        assert!(hint.starts_with("allow user namespaces, or require only `min: basic`"), "{hint}");
        assert!(basic().check(&spec(json!({ "min": "basic" })), false).is_ok());
    }

    #[test]
    fn what_only_full_can_enforce_is_refused_at_basic() {
        let own = |more: Value| {
            let mut own = json!({ "min": "basic" });
            own.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            spec(own)
        };
        for (sandbox, needs_hosts) in [
            (own(json!({ "network": ["crates.io"] })), false),
            (own(json!({})), true),
            (own(json!({ "unix_sockets": true })), false),
        ] {
            let failure = basic().check(&sandbox, needs_hosts).unwrap_err();
            let hint = failure.hint.unwrap();
            assert!(failure.message.contains("needs the level `full`") && !hint.contains("require only"), "{hint}");
        }
        assert!(basic().check(&own(json!({ "network": "all" })), true).is_ok());
    }
}
