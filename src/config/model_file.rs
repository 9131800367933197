//! Finds model files that pipelines and `orch.yaml` name by path, and checks whether orch can run them.

use std::path::{Path, PathBuf};

/// A reason why orch can't use a model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFileProblem {
    /// The problem, as a sentence.
    pub message: String,
    /// Advice for the user.
    pub help: String,
    /// Whether the file does not exist. It may exist on another machine.
    pub is_missing: bool,
}

/// The path of a model file. A relative path starts at the project's root.
pub fn model_path(root: &Path, path: &str) -> PathBuf {
    root.join(path.strip_prefix("./").unwrap_or(path))
}

/// Returns the reason why orch can't use a model file; `None` if it can. Reads only the file's header.
pub fn model_file_problem(root: &Path, path: &str) -> Option<ModelFileProblem> {
    let (file, display_path) = (model_path(root, path), path.strip_prefix("./").unwrap_or(path));
    if !file.exists() {
        let message = format!("there is no model file `{display_path}`");
        let help = if display_path.starts_with("~/") {
            "write the full path: orch does not expand `~`"
        } else {
            "a relative path starts at the folder of `orch.yaml`; `orch models list` shows the models that have a name"
        };
        return Some(ModelFileProblem { message, help: help.to_owned(), is_missing: true });
    }
    let message = format!("the model file `{display_path}` can't be used: {}", unusable_reason(&file)?);
    let help = "name another GGUF file, or a model of `orch models list`".to_owned();
    Some(ModelFileProblem { message, help, is_missing: false })
}

/// The reason why orch can't run a file; `None` if it can.
#[cfg(feature = "local")]
fn unusable_reason(file: &Path) -> Option<String> {
    use std::collections::HashMap;
    use std::sync::{Mutex, OnceLock, PoisonError};
    use std::time::SystemTime;

    type CheckCache = HashMap<PathBuf, (u64, Option<SystemTime>, Option<String>)>;
    // The header contains the vocabulary, so reading it takes time, and an editor repeats the check at each key press.
    static CHECK_CACHE: OnceLock<Mutex<CheckCache>> = OnceLock::new();
    let metadata = std::fs::metadata(file).ok();
    let (size, modified_at) = metadata.map_or((0, None), |metadata| (metadata.len(), metadata.modified().ok()));
    let mut cache = CHECK_CACHE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((cached_size, cached_time, reason)) = cache.get(file)
        && (*cached_size, *cached_time) == (size, modified_at)
    {
        return reason.clone();
    }
    let result = local_llm::gguf::read_header(file).and_then(|header| header.check());
    let reason = result.err().map(|error| match error {
        local_llm::Error::Format(message) => message,
        local_llm::Error::File { source, .. } => format!("orch can't read it: {source}"),
        other => other.to_string(),
    });
    cache.insert(file.to_owned(), (size, modified_at, reason.clone()));
    reason
}

/// Without the embedded model, orch does not read model files; a run reports that it can't run the model.
#[cfg(not(feature = "local"))]
fn unusable_reason(_: &Path) -> Option<String> {
    None
}
