//! Why a program could not be confined: the step that failed, where, why, and what to do.

use std::fmt;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A step on the way to a confined program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// orch checks the policy.
    Policy,
    /// orch and `orch __confine` talk over their socket.
    Control,
    /// orch creates what takes the place of protected paths.
    Masks,
    /// The kernel creates the namespaces.
    Namespaces,
    /// The kernel maps the user into the namespace.
    UserMap,
    /// The loopback of the network namespace comes up.
    Loopback,
    /// The proxy and the services listen in the network namespace.
    Listen,
    /// The mounts of the namespace change.
    Mounts,
    /// The processes get a `/proc` of their own.
    Proc,
    /// The limits are set.
    Limits,
    /// The capabilities are given up.
    Capabilities,
    /// Landlock is put in force.
    Landlock,
    /// The filter of system calls is put in force.
    Seccomp,
    /// Seatbelt is put in force.
    Seatbelt,
    /// The program starts.
    Start,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "checking the sandbox's policy",
            Self::Control => "talking to `orch __confine`",
            Self::Masks => "masking protected paths that do not exist",
            Self::Namespaces => "creating namespaces",
            Self::UserMap => "mapping the user into the namespace",
            Self::Loopback => "bringing up the loopback",
            Self::Listen => "listening on the loopback",
            Self::Mounts => "changing the mounts",
            Self::Proc => "mounting `/proc`",
            Self::Limits => "setting limits",
            Self::Capabilities => "giving up capabilities",
            Self::Landlock => "putting Landlock in force",
            Self::Seccomp => "putting the filter of system calls in force",
            Self::Seatbelt => "putting Seatbelt in force",
            Self::Start => "starting the program",
        })
    }
}

/// The reason why a program could not be confined, so that it did not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct ConfineError {
    /// The step that failed.
    pub step: Step,
    /// The path at which it failed.
    pub place: Option<String>,
    /// Why it failed.
    pub cause: String,
    /// The system's error number.
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
    /// An error of a step with its cause.
    pub(super) fn new(step: Step, cause: String) -> Self {
        Self { step, place: None, cause, errno: None, advice: None }
    }

    /// An error of a step that the system reported.
    pub(super) fn system(step: Step, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        Self { errno: error.raw_os_error(), ..Self::new(step, error.to_string()) }
    }

    /// Adds the path at which the step failed.
    pub(super) fn at(self, place: impl AsRef<Path>) -> Self {
        Self { place: Some(place.as_ref().display().to_string()), ..self }
    }

    /// Adds what the user can do.
    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// Turns an error of the system into that of a step.
pub(super) trait InStep<T> {
    /// Names the step.
    fn in_step(self, step: Step) -> Result<T, ConfineError>;
    /// Names the step and the path.
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
    fn an_error_says_what_where_why_and_what_to_do() {
        let error = ConfineError::system(Step::Mounts, io::Error::from_raw_os_error(1)).at("/mnt/x").advise("do that");
        let text = error.to_string();
        assert!(
            text.starts_with("the program was not started, because changing the mounts failed at `/mnt/x`: Operat")
        );
        assert!(text.ends_with("; do that"), "{text}");
        assert_eq!(error.errno, Some(1));
    }
}
