//! Detects the strongest level that works on this machine, and why stronger levels do not work.

use std::fmt;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::CONFINE_COMMAND;
use super::error::{ConfineError, Step};
use super::policy::Level;
use super::wire::AppliedSandbox;

/// The capabilities of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The strongest level that works, with its details.
    pub best: AppliedSandbox,
    /// Whether programs get a separate PID namespace.
    pub has_pid_namespace: bool,
    /// The reasons why stronger levels do not work, strongest level first.
    pub obstacles: Vec<Obstacle>,
}

/// The reason why a level does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// The level.
    pub level: Level,
    /// The error of the step that failed.
    pub error: ConfineError,
    /// Alternative solutions for the user.
    pub ways_out: Vec<String>,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, error: ConfineError { step, cause, .. }, ways_out } = self;
        write!(f, "the sandbox level `{level}` does not work here: {step} failed: {cause}")?;
        ways_out
            .iter()
            .enumerate()
            .try_for_each(|(index, way)| write!(f, "{} {way}", if index == 0 { ";" } else { ", or" }))
    }
}

impl Probe {
    /// The strongest level that works.
    pub fn level(&self) -> Level {
        self.best.level
    }

    /// Checks that a level works.
    ///
    /// # Errors
    /// When the level does not work. The error contains the reason and advice.
    pub fn require(&self, min: Level) -> Result<(), ConfineError> {
        if self.level() >= min {
            return Ok(());
        }
        let reason = self.obstacles.iter().find(|obstacle| obstacle.level == min).map(ToString::to_string);
        let reason = reason.unwrap_or_else(|| format!("the sandbox level `{min}` does not work here"));
        Err(ConfineError::new(Step::Policy, reason)
            .advise(format!("or write `min: {}` if that level is sufficient for the program", self.level())))
    }
}

/// Tries the levels from the strongest on, each in a separate process, until one works. `orch` is the path of the
/// executable.
///
/// # Errors
/// When the executable can't be started.
#[expect(clippy::disallowed_methods, reason = "orch does this once, before a run")]
pub fn probe(orch: &Path) -> std::io::Result<Probe> {
    let mut obstacles: Vec<Obstacle> = Vec::new();
    for (level, has_pid_namespace) in [(Level::Full, true), (Level::Full, false), (Level::Basic, true)] {
        let mut command = Command::new(orch);
        command.arg0("orch").args([CONFINE_COMMAND, "--probe", &level.to_string()]);
        if !has_pid_namespace {
            command.arg("shared");
        }
        let output = command.stdin(Stdio::null()).stderr(Stdio::null()).current_dir("/").output()?;
        let result: Result<AppliedSandbox, ConfineError> =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
                Err(ConfineError::new(Step::Control, format!("`orch __confine` ended early: {}", output.status)))
            });
        match result {
            Ok(best) => {
                let has_pid_namespace = best.has_pid_namespace;
                obstacles.retain(|obstacle| obstacle.level > best.level);
                return Ok(Probe { best, has_pid_namespace, obstacles });
            }
            // Only the separate `/proc` failed. A program is nearly as confined without it, so try `full` without it.
            Err(error) if level == Level::Full && has_pid_namespace && error.step == Step::Proc => {}
            Err(error) if obstacles.iter().any(|obstacle| obstacle.level == level) => drop(error),
            Err(error) => obstacles.push(Obstacle { level, ways_out: ways_out(level, &error), error }),
        }
    }
    let best = AppliedSandbox {
        level: Level::None,
        landlock: 0,
        has_pid_namespace: false,
        limits_by: None,
        cgroup: None,
        unenforced: vec!["orch enforces only the limits".to_owned()],
    };
    Ok(Probe { best, has_pid_namespace: false, obstacles })
}

/// Lists the solutions that make a level work.
fn ways_out(level: Level, error: &ConfineError) -> Vec<String> {
    if level == Level::Basic {
        let kernel = "use Linux 6.2 or later with `landlock` in its list of security modules (boot option `lsm=`)";
        return vec![kernel.to_owned()];
    }
    let read_setting = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let is_container = ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists());
    ways_out_for_step(error.step, is_container, read_setting)
}

fn ways_out_for_step(step: Step, is_container: bool, read_setting: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let has_value = |path: &str, value: &str| read_setting(path).is_some_and(|text| text == value);
    let mut ways = Vec::new();
    if has_value("/proc/sys/user/max_user_namespaces", "0") {
        ways.push("allow user namespaces with `sysctl user.max_user_namespaces=10000`".to_owned());
    }
    if has_value("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        ways.push("allow user namespaces with `sysctl kernel.unprivileged_userns_clone=1`".to_owned());
    }
    if has_value("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        ways.push(
            "allow user namespaces for orch with an AppArmor profile that has `userns,`, or for all programs with \
             `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
                .to_owned(),
        );
    }
    if is_container || (ways.is_empty() && step == Step::Namespaces) {
        ways.push(
            "start the container with `--security-opt seccomp=unconfined --security-opt systempaths=unconfined` (or a \
             seccomp profile that allows `unshare`, `mount` and `clone` with namespaces)"
                .to_owned(),
        );
    }
    ways.push("require only `min: basic` in `sandbox:`".to_owned());
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_solutions_depend_on_the_settings_of_the_machine() {
        let ubuntu = |path: &str| path.ends_with("apparmor_restrict_unprivileged_userns").then(|| "1".to_owned());
        let ways = ways_out_for_step(Step::UserMap, false, ubuntu);
        assert!(ways[0].contains("AppArmor") && ways[1].contains("min: basic") && ways.len() == 2, "{ways:?}");
        let ways = ways_out_for_step(Step::Namespaces, true, |_| None);
        assert!(ways[0].contains("seccomp=unconfined"), "{ways:?}");
    }

    #[test]
    fn a_level_that_does_not_work_is_refused_with_the_reason() {
        let best = AppliedSandbox {
            level: Level::Basic,
            landlock: 7,
            has_pid_namespace: false,
            limits_by: None,
            cgroup: None,
            unenforced: Vec::new(),
        };
        let error = ConfineError::system(Step::Namespaces, std::io::Error::from_raw_os_error(28));
        let obstacle = Obstacle { level: Level::Full, error, ways_out: vec!["do a".to_owned(), "do b".to_owned()] };
        let probe = Probe { best, has_pid_namespace: false, obstacles: vec![obstacle] };
        assert!(probe.require(Level::Basic).is_ok());
        let text = probe.require(Level::Full).unwrap_err().to_string();
        assert!(text.contains("creating namespaces failed") && text.contains("; do a, or do b; or write"), "{text}");
    }
}
