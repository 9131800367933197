//! The errors of confining a program: the step that failed, the path, the cause, and advice for the user.

use std::fmt;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A step of confining a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// orch checks the policy.
    Policy,
    /// orch and `orch __confine` exchange messages over their socket.
    Control,
    /// orch creates placeholders for protected paths that do not exist.
    Masks,
    /// `orch __confine` creates the namespaces.
    Namespaces,
    /// `orch __confine` maps the user into the user namespace.
    UserMap,
    /// `orch __confine` brings up the loopback interface of the network namespace.
    Loopback,
    /// `orch __confine` listens for the proxy and for services in the network namespace.
    Listen,
    /// `orch __confine` changes the mounts of the mount namespace.
    Mounts,
    /// `orch __confine` mounts a separate `/proc` for the new PID namespace.
    Proc,
    /// `orch __confine` sets the limits.
    Limits,
    /// `orch __confine` drops its capabilities.
    Capabilities,
    /// `orch __confine` applies the Landlock rules.
    Landlock,
    /// `orch __confine` installs the seccomp filters.
    Seccomp,
    /// `orch __confine` applies the Seatbelt profile.
    Seatbelt,
    /// `orch __confine` starts the program.
    Start,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "checking the sandbox's policy",
            Self::Control => "communicating with `orch __confine`",
            Self::Masks => "creating placeholders for protected paths",
            Self::Namespaces => "creating namespaces",
            Self::UserMap => "mapping the user into the namespace",
            Self::Loopback => "bringing up the loopback interface",
            Self::Listen => "listening on the loopback interface",
            Self::Mounts => "changing the mounts",
            Self::Proc => "mounting `/proc`",
            Self::Limits => "setting limits",
            Self::Capabilities => "dropping capabilities",
            Self::Landlock => "applying the Landlock rules",
            Self::Seccomp => "installing the seccomp filters",
            Self::Seatbelt => "applying the Seatbelt profile",
            Self::Start => "starting the program",
        })
    }
}

/// The reason why orch could not confine a program, and therefore did not start it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct ConfineError {
    /// The step that failed.
    pub step: Step,
    /// The path at which the step failed.
    pub place: Option<String>,
    /// The cause of the failure.
    pub cause: String,
    /// The error number of the operating system.
    pub errno: Option<i32>,
    /// What the user can do.
    pub advice: Option<String>,
}

impl fmt::Display for ConfineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program was not started, because {} failed", self.step)?;
        if let Some(place) = &self.place {
            write!(f, " at `{place}`")?;
        }
        write!(f, ": {}", self.cause)?;
        self.advice.iter().try_for_each(|advice| write!(f, "; {advice}"))
    }
}

impl ConfineError {
    /// Creates the error of a step with a cause.
    pub(super) fn new(step: Step, cause: String) -> Self {
        Self { step, place: None, cause, errno: None, advice: None }
    }

    /// Creates the error of a step from an error of the operating system.
    pub(super) fn system(step: Step, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        Self { errno: error.raw_os_error(), ..Self::new(step, error.to_string()) }
    }

    /// Adds the path at which the step failed.
    pub(super) fn at(self, place: impl AsRef<Path>) -> Self {
        Self { place: Some(place.as_ref().display().to_string()), ..self }
    }

    /// Adds advice for the user.
    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// Converts an error of the operating system to the error of a step.
pub(super) trait InStep<T> {
    /// Adds the step.
    fn in_step(self, step: Step) -> Result<T, ConfineError>;
    /// Adds the step and the path.
    fn in_step_at(self, step: Step, place: impl AsRef<Path>) -> Result<T, ConfineError>;
}

impl<T, E: Into<io::Error>> InStep<T> for Result<T, E> {
    fn in_step(self, step: Step) -> Result<T, ConfineError> {
        self.map_err(|error| ConfineError::system(step, error))
    }

    fn in_step_at(self, step: Step, place: impl AsRef<Path>) -> Result<T, ConfineError> {
        self.map_err(|error| ConfineError::system(step, error).at(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_step_the_path_the_cause_and_the_advice() {
        let error = ConfineError::system(Step::Mounts, io::Error::from_raw_os_error(1)).at("/mnt/x").advise("do that");
        let text = error.to_string();
        assert!(
            text.starts_with("the program was not started, because changing the mounts failed at `/mnt/x`: Operat")
        );
        assert!(text.ends_with("; do that"), "{text}");
        assert_eq!(error.errno, Some(1));
    }
}
