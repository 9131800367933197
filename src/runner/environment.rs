//! The folders and environment variables of a session.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::agent::{EnvLookup, env_addresses};
use crate::config::Sources;

use super::error::RunnerError;

/// The current folder, the environment variables and the user's folders of a session.
#[derive(Clone, Debug)]
pub struct Environment {
    current_dir: PathBuf,
    variables: Arc<BTreeMap<String, String>>,
    config_dir: Option<PathBuf>,
    model_cache: PathBuf,
    supervisor: PathBuf,
}

/// The variable that selects a [`BranchMode`].
const BRANCHES_VARIABLE: &str = "ORCH_BRANCHES";

/// How the branches of a run receive what they see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchMode {
    /// They share the plan and the values in scope.
    Shared,
    /// Each branch runs as in another process: orch sends its data and its outcome as JSON, and makes the plan again. This
    /// is a test of the data.
    Serialized,
}

impl Environment {
    /// The environment of this process, without variables that are not valid Unicode.
    ///
    /// # Errors
    /// The current folder can't be read.
    pub fn from_process() -> Result<Self, RunnerError> {
        let current_dir = std::env::current_dir()
            .map_err(|error| RunnerError::usage(format!("the current folder can't be read: {error}")))?;
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Self {
            current_dir,
            variables: Arc::new(variables.collect()),
            config_dir: user_config_dir(),
            model_cache: default_model_cache(),
            supervisor: default_supervisor(),
        })
    }

    /// Replaces the current folder. `folder` must be absolute. Relative paths of requests are relative to it.
    #[must_use]
    pub fn with_current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.current_dir = folder.into();
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.variables).insert(name.into(), value.into());
        self
    }

    /// Replaces the folder of the user's configuration. `folder` must be absolute.
    #[must_use]
    pub fn with_config_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.config_dir = Some(folder.into());
        self
    }

    /// Replaces the program that orch starts as the supervisor of each child process of a run. `program` must be `orch`
    /// itself or a program that calls [`supervisor_main`](super::supervisor_main) first.
    #[must_use]
    pub fn with_supervisor(mut self, program: impl Into<PathBuf>) -> Self {
        self.supervisor = program.into();
        self
    }

    /// The current folder.
    pub fn current_dir(&self) -> &Path {
        &self.current_dir
    }

    /// The folder of the user's configuration: `$XDG_CONFIG_HOME/orch`, else `~/.config/orch` (on Windows, below
    /// `%APPDATA%`). `None` if no environment variable names an absolute folder.
    pub fn config_dir(&self) -> Option<&Path> {
        self.config_dir.as_deref()
    }

    /// The user's folder for embedded models: `$XDG_CACHE_HOME/orch/models`, else `~/.cache/orch/models` (on Windows,
    /// below `%LOCALAPPDATA%`).
    pub fn model_cache(&self) -> &Path {
        &self.model_cache
    }

    /// The program that orch starts as the supervisor of each child process of a run. A supervisor ends all processes
    /// that its child started.
    pub(crate) fn supervisor(&self) -> &Path {
        &self.supervisor
    }

    /// Returns a function that looks up environment variables. It treats an empty value as unset.
    pub(crate) fn variable_lookup(&self) -> EnvLookup {
        let variables = self.variables.clone();
        Arc::new(move |name| variables.get(name).filter(|value| !value.trim().is_empty()).cloned())
    }

    /// How the branches of runs receive what they see (`ORCH_BRANCHES`).
    ///
    /// # Errors
    /// The variable has an unknown value.
    pub fn branch_mode(&self) -> Result<BranchMode, RunnerError> {
        match self.variable_lookup()(BRANCHES_VARIABLE).as_deref() {
            None => Ok(BranchMode::Shared),
            Some("serialized") => Ok(BranchMode::Serialized),
            Some(other) => Err(RunnerError::usage(format!("{BRANCHES_VARIABLE} has the unknown value `{other}`"))
                .with_hint(format!("unset {BRANCHES_VARIABLE}, or set it to `serialized`"))),
        }
    }

    /// The files on the disk, with the addresses of providers in variables.
    pub(crate) fn sources(&self) -> Sources {
        Sources::default().with_env_addresses(env_addresses(&self.variable_lookup()))
    }

    /// Every environment variable with its value.
    pub(crate) fn all_variables(&self) -> impl Iterator<Item = (String, String)> {
        self.variables.iter().map(|(name, value)| (name.clone(), value.clone()))
    }
}

fn env_var(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The folder of the user's configuration, from the environment of this process.
pub(crate) fn user_config_dir() -> Option<PathBuf> {
    // Ignore relative paths: they would depend on the folder in which the user starts orch, which may be a project.
    let env_path = |name| env_var(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config_home = env_path("XDG_CONFIG_HOME")
        .or_else(|| env_path("APPDATA"))
        .or_else(|| env_path("HOME").map(|home| home.join(".config")))?;
    Some(config_home.join("orch"))
}

fn default_model_cache() -> PathBuf {
    let env_path = |name| env_var(name).map(PathBuf::from);
    let cache_home = env_path("XDG_CACHE_HOME")
        .or_else(|| env_path("LOCALAPPDATA"))
        .or_else(|| env_path("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir);
    cache_home.join("orch").join("models")
}

/// The path of this executable. The path in `/proc` remains valid after an update replaces the file.
fn default_supervisor() -> PathBuf {
    let proc_exe = PathBuf::from("/proc/self/exe");
    if proc_exe.exists() { proc_exe } else { std::env::current_exe().unwrap_or_else(|_| "orch".into()) }
}
