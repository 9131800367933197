//! Finds out which sandboxes this machine can enforce, by confining test processes of orch.

use std::path::PathBuf;
use std::sync::Arc;

use orch_confine::confine::{self, Obstacle, Probe};
use tokio::sync::OnceCell;

use crate::model::{Failure, FailureClass, SandboxLevel, SandboxNetwork, SandboxSpec};

use super::sandbox::{confine_level, sandbox_level};

/// Finds out which sandboxes this machine can enforce, on the first call of [`SandboxProbe::machine`]. All clones share
/// the result.
#[derive(Clone, Debug)]
pub struct SandboxProbe {
    orch: PathBuf,
    result: Arc<OnceCell<Arc<MachineSandbox>>>,
}

impl SandboxProbe {
    /// Creates a probe that starts this executable of orch.
    pub fn new(orch: PathBuf) -> Self {
        Self { orch, result: Arc::default() }
    }

    /// The sandboxes that this machine can enforce.
    ///
    /// # Errors
    /// orch can't start its own executable.
    pub async fn machine(&self) -> Result<Arc<MachineSandbox>, Failure> {
        let machine = self.result.get_or_try_init(|| async {
            let orch = self.orch.clone();
            let probe = tokio::task::spawn_blocking(move || confine::probe(&orch)).await;
            let probe = probe.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            let machine = probe.map(|probe| Arc::new(MachineSandbox { probe }));
            machine.map_err(|error| {
                let message =
                    format!("orch can't start `{}` to find out which sandboxes work here", self.orch.display());
                Failure::new(FailureClass::NotConfined, format!("{message}: {error}"))
            })
        });
        machine.await.cloned()
    }
}

/// The sandboxes that this machine can enforce.
#[derive(Clone, Debug)]
pub struct MachineSandbox {
    pub(super) probe: Probe,
}

impl MachineSandbox {
    /// The strongest level that works.
    pub fn level(&self) -> SandboxLevel {
        sandbox_level(self.probe.level())
    }

    /// The Landlock ABI version that the kernel offers; 0 if it offers none.
    pub fn landlock(&self) -> u32 {
        self.probe.best.landlock
    }

    /// The protections of this level that do not work on this machine, each as a sentence.
    pub fn unenforced(&self) -> &[String] {
        &self.probe.best.unenforced
    }

    /// For each stronger level, strongest first: why it does not work, and what the user can do.
    pub fn obstacles(&self) -> Vec<String> {
        self.probe.obstacles.iter().map(ToString::to_string).collect()
    }

    /// Checks that this machine can enforce a sandbox. `needs_hosts` is true for a program that connects to its
    /// provider even if the sandbox allows no network.
    ///
    /// # Errors
    /// This machine can't enforce the sandbox. The failure contains the reason, and its hint lists what the user can
    /// do.
    pub fn check(&self, spec: &SandboxSpec, needs_hosts: bool) -> Result<(), Failure> {
        let level = self.level();
        let full_obstacle = || self.obstacle(SandboxLevel::Full);
        if level < spec.min {
            let obstacle = self.obstacle(spec.min);
            let problem = format!("the sandbox needs the level `{}`, and this machine reaches `{level}`", spec.min);
            return Err(unsupported(&problem, obstacle, None));
        }
        let needs_host_list =
            matches!(spec.network, SandboxNetwork::Hosts(_)) || (spec.network == SandboxNetwork::None && needs_hosts);
        if level == SandboxLevel::Basic && needs_host_list {
            let problem = "the sandbox allows a list of hosts, which needs the level `full`, and this machine reaches \
                           `basic`";
            return Err(unsupported(problem, full_obstacle(), Some("write `network: none` or `network: all`")));
        }
        if level == SandboxLevel::Basic && spec.unix_sockets {
            let problem =
                "the sandbox allows UNIX sockets, which needs the level `full`, and this machine reaches `basic`";
            return Err(unsupported(problem, full_obstacle(), Some("remove `unix_sockets`")));
        }
        Ok(())
    }

    /// The reason why a level does not work.
    fn obstacle(&self, level: SandboxLevel) -> Option<&Obstacle> {
        let level = confine_level(level);
        let obstacles = &self.probe.obstacles;
        obstacles.iter().find(|obstacle| obstacle.level == level).or_else(|| obstacles.first())
    }
}

/// The failure for a sandbox that this machine can't enforce. `other_solution` is a change of the settings with which a
/// weaker level is enough.
fn unsupported(problem: &str, obstacle: Option<&Obstacle>, other_solution: Option<&str>) -> Failure {
    let reason = obstacle.map(|obstacle| format!(": {} failed: {}", obstacle.error.step, obstacle.error.cause));
    let solutions = obstacle.iter().flat_map(|obstacle| &obstacle.ways_out).map(String::as_str);
    let mut solutions: Vec<&str> = solutions.collect();
    if let Some(solution) = other_solution {
        // The sandbox needs `full` for another reason than `min`, so a lower `min` does not help.
        solutions.retain(|solution| !solution.starts_with("require only"));
        solutions.push(solution);
    }
    let failure = Failure::new(FailureClass::NotConfined, format!("{problem}{}", reason.unwrap_or_default()));
    if solutions.is_empty() {
        return failure.with_hint("`orch doctor` shows which level works on this machine");
    }
    failure.with_hint(format!("{}; `orch doctor` shows which level works on this machine", solutions.join(", or ")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::Sandbox;
    use crate::model::step::Access;

    /// A machine that reaches the level `basic`.
    fn basic_machine() -> MachineSandbox {
        let probe = json!({
            "best": {
                "level": "basic", "landlock": 7, "has_pid_namespace": false, "limits_by": null, "unenforced": [],
            },
            "has_pid_namespace": false,
            "obstacles": [{
                "level": "full",
                "error": { "step": "namespaces", "place": null, "cause": "Operation not permitted", "errno": 1, "advice": null },
                "ways_out": ["allow user namespaces", "require only `min: basic` in `sandbox:`"],
            }],
        });
        MachineSandbox { probe: serde_json::from_value(probe).unwrap() }
    }

    fn spec(settings: Value) -> SandboxSpec {
        let settings: Sandbox = serde_json::from_value(settings).unwrap();
        SandboxSpec::resolve(&settings, &Sandbox::default(), Access::Write).unwrap()
    }

    #[test]
    fn a_level_that_the_machine_does_not_reach_is_refused_with_the_reason_and_the_solutions() {
        let failure = basic_machine().check(&spec(json!({})), false).unwrap_err();
        let expected = "the sandbox needs the level `full`, and this machine reaches `basic`: creating namespaces failed: \
                      Operation not permitted";
        assert_eq!((failure.class, failure.message.as_str()), (FailureClass::NotConfined, expected));
        let hint = failure.hint.unwrap();
        assert!(hint.starts_with("allow user namespaces, or require only `min: basic`"), "{hint}");
        assert!(basic_machine().check(&spec(json!({ "min": "basic" })), false).is_ok());
    }

    #[test]
    fn a_sandbox_that_only_full_can_enforce_is_refused_at_basic() {
        let basic_spec = |keys: Value| {
            let mut sandbox = json!({ "min": "basic" });
            sandbox.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            spec(sandbox)
        };
        for (sandbox, needs_hosts) in [
            (basic_spec(json!({ "network": ["crates.io"] })), false),
            (basic_spec(json!({})), true),
            (basic_spec(json!({ "unix_sockets": true })), false),
        ] {
            let failure = basic_machine().check(&sandbox, needs_hosts).unwrap_err();
            let hint = failure.hint.unwrap();
            assert!(failure.message.contains("needs the level `full`") && !hint.contains("require only"), "{hint}");
        }
        assert!(basic_machine().check(&basic_spec(json!({ "network": "all" })), true).is_ok());
    }
}
