//! Model files that pipelines and `orch.yaml` name by path: where they are, and whether orch could run them.

use std::path::{Path, PathBuf};

/// Why a model file can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFileProblem {
    /// What is wrong, as a sentence.
    pub message: String,
    /// What the user can do about it.
    pub help: String,
    /// Whether the file does not exist. It may exist on another machine.
    pub absent: bool,
}

/// The path of a model file. A relative path starts at the project's root.
pub fn model_path(root: &Path, path: &str) -> PathBuf {
    root.join(path.strip_prefix("./").unwrap_or(path))
}

/// What is wrong with a model file; `None` if nothing is. Reads only the file's header.
pub fn model_file(root: &Path, path: &str) -> Option<ModelFileProblem> {
    let (file, shown) = (model_path(root, path), path.strip_prefix("./").unwrap_or(path));
    if !file.exists() {
        let message = format!("there is no model file `{shown}`");
        let help = if shown.starts_with("~/") {
            "write the whole path: only a shell knows what `~` is"
        } else {
            "a relative path is one from the folder of `orch.yaml`; `orch models list` shows the models that have a name"
        };
        return Some(ModelFileProblem { message, help: help.to_owned(), absent: true });
    }
    let message = format!("the model file `{shown}` can't be used: {}", unusable(&file)?);
    let help = "name another GGUF file, or a model of `orch models list`".to_owned();
    Some(ModelFileProblem { message, help, absent: false })
}

/// Why orch can't run a file; `None` if it can.
#[cfg(feature = "local")]
fn unusable(file: &Path) -> Option<String> {
    use std::collections::HashMap;
    use std::sync::{Mutex, OnceLock, PoisonError};
    use std::time::SystemTime;

    type Looked = HashMap<PathBuf, (u64, Option<SystemTime>, Option<String>)>;
    // The header contains the vocabulary, so reading it takes time, and an editor asks again after each key press.
    static LOOKED: OnceLock<Mutex<Looked>> = OnceLock::new();
    let found = std::fs::metadata(file).ok();
    let (size, time) = found.map_or((0, None), |found| (found.len(), found.modified().ok()));
    let mut looked = LOOKED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known_size, known_time, answer)) = looked.get(file)
        && (*known_size, *known_time) == (size, time)
    {
        return answer.clone();
    }
    let checked = local_llm::gguf::read(file).and_then(|header| header.check());
    let answer = checked.err().map(|error| match error {
        local_llm::Error::Format(why) => why,
        local_llm::Error::File { source, .. } => format!("it can't be read: {source}"),
        other => other.to_string(),
    });
    looked.insert(file.to_owned(), (size, time, answer.clone()));
    answer
}

/// Without the embedded model, orch does not read model files; a run reports that it can't run the model.
#[cfg(not(feature = "local"))]
fn unusable(_: &Path) -> Option<String> {
    None
}
