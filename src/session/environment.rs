//! What a session reads from its process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::agent::Variables;

use super::error::SessionError;

/// The current folder, the environment variables and the user's folders, as a session sees them.
#[derive(Clone, Debug)]
pub struct Environment {
    current_dir: PathBuf,
    variables: Arc<BTreeMap<String, String>>,
    configuration: Option<PathBuf>,
    model_cache: PathBuf,
    guard: PathBuf,
}

impl Environment {
    /// The environment of this process. Variables that are not valid Unicode are left out.
    ///
    /// # Errors
    /// The current folder can't be read.
    pub fn of_process() -> Result<Self, SessionError> {
        let current_dir = std::env::current_dir()
            .map_err(|error| SessionError::usage(format!("the current folder can't be read: {error}")))?;
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Self {
            current_dir,
            variables: Arc::new(variables.collect()),
            configuration: configuration(),
            model_cache: model_cache(),
            guard: guard(),
        })
    }

    /// The same with another current folder, which must be absolute: relative paths of requests start there.
    #[must_use]
    pub fn with_current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.current_dir = folder.into();
        self
    }

    /// The same with another value of an environment variable.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.variables).insert(name.into(), value.into());
        self
    }

    /// The same with another folder of the user's configuration, an absolute path.
    #[must_use]
    pub fn with_configuration(mut self, folder: impl Into<PathBuf>) -> Self {
        self.configuration = Some(folder.into());
        self
    }

    /// The same with another guard for the processes of a run: `orch` itself, or a program that calls
    /// [`guard_main`](super::guard_main) first.
    #[must_use]
    pub fn with_guard(mut self, program: impl Into<PathBuf>) -> Self {
        self.guard = program.into();
        self
    }

    /// The current folder.
    pub fn current_dir(&self) -> &Path {
        &self.current_dir
    }

    /// The folder of the user's configuration: `$XDG_CONFIG_HOME/orch`, else `~/.config/orch` (on Windows, below
    /// `%APPDATA%`). `None` if the environment names no such folder.
    pub fn configuration(&self) -> Option<&Path> {
        self.configuration.as_deref()
    }

    /// The user's folder for embedded models: `$XDG_CACHE_HOME/orch/models`, else below the home folder.
    pub fn model_cache(&self) -> &Path {
        &self.model_cache
    }

    /// The program that guards the processes of a run.
    pub(crate) fn guard(&self) -> &Path {
        &self.guard
    }

    /// A function that looks up variables; empty values count as unset.
    pub(crate) fn variables(&self) -> Variables {
        let variables = self.variables.clone();
        Arc::new(move |name| variables.get(name).filter(|value| !value.trim().is_empty()).cloned())
    }

    /// Every variable with its value.
    pub(crate) fn all_variables(&self) -> impl Iterator<Item = (String, String)> {
        self.variables.iter().map(|(name, value)| (name.clone(), value.clone()))
    }
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The folder of the user's configuration, from the environment of this process.
pub(crate) fn configuration() -> Option<PathBuf> {
    // A relative path would depend on where orch is started, for example in a project.
    let folder = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = folder("XDG_CONFIG_HOME")
        .or_else(|| folder("APPDATA"))
        .or_else(|| folder("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("orch"))
}

fn model_cache() -> PathBuf {
    let folder = |name| variable(name).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME")
        .or_else(|| folder("LOCALAPPDATA"))
        .or_else(|| folder("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir);
    cache.join("orch").join("models")
}

/// The path of this executable. The one in `/proc` works even after the file was replaced.
fn guard() -> PathBuf {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() { own } else { std::env::current_exe().unwrap_or_else(|_| "orch".into()) }
}
