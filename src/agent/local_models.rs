//! Finds the files of embedded models: models of the catalog, models that the user added, and models given by a path.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::digest_cache::DigestCache;
use crate::config::{model_file_problem, model_path};
use crate::model::{Failure, FailureClass, ModelRef};

/// The embedded models of this machine and of a project.
#[derive(Clone, Debug)]
pub struct LocalModels {
    /// The folder of downloaded and added models.
    pub cache: PathBuf,
    /// The folder to which the paths of model files are relative.
    pub root: PathBuf,
    digests: Arc<DigestCache>,
}

impl LocalModels {
    /// The models in a cache folder, without a project.
    pub fn new(cache: PathBuf) -> Self {
        let digests = Arc::new(DigestCache::new(&cache));
        Self { cache, root: PathBuf::new(), digests }
    }

    /// The file of a model that is not in the catalog: the path that its name contains, or the file that the user added
    /// under this name.
    pub fn own_model_path(&self, name: &str) -> PathBuf {
        match ModelRef::new(crate::model::name::LOCAL_PROVIDER, name).file_path() {
            Some(path) => model_path(&self.root, path),
            None => self.cache.join(format!("{name}.gguf")),
        }
    }

    /// The names of the added models, sorted.
    pub fn added_names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.cache).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names
            .filter_map(|name| name.strip_suffix(".gguf").map(ToOwned::to_owned))
            .filter(|name| is_valid_own_name(name))
            .collect();
        names.sort();
        names
    }

    /// A digest that identifies a model's weights; `None` for models of the catalog, whose name identifies them.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn weights_digest(&self, name: &str) -> io::Result<Option<String>> {
        if !self.has_own_file(name) {
            return Ok(None);
        }
        self.digests.digest(&self.own_model_path(name)).map(Some)
    }

    /// Whether the digest of a model's weights is known without reading the file.
    pub fn is_digest_cached(&self, name: &str) -> bool {
        !self.has_own_file(name) || self.digests.is_cached(&self.own_model_path(name))
    }

    /// Whether a model's file changed since this process computed its digest.
    pub fn has_changed(&self, file: &Path) -> bool {
        self.digests.has_changed(file)
    }

    fn has_own_file(&self, name: &str) -> bool {
        let is_path = ModelRef::new(crate::model::name::LOCAL_PROVIDER, name).file_path().is_some();
        is_path || (is_valid_own_name(name) && self.own_model_path(name).exists())
    }

    /// The problem with a model's file, if it has one.
    pub fn file_problem(&self, name: &str) -> Option<Failure> {
        let file = self.own_model_path(name);
        let problem = match ModelRef::new(crate::model::name::LOCAL_PROVIDER, name).file_path() {
            Some(path) => model_file_problem(&self.root, path)?,
            None => model_file_problem(&self.cache, &file.to_string_lossy())?,
        };
        let class = if problem.is_missing { FailureClass::NotInstalled } else { FailureClass::BadRequest };
        Some(Failure::new(class, problem.message).with_hint(problem.help))
    }
}

/// Whether the user may add a model under this name.
pub fn is_valid_own_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && !name.starts_with(['.', '-']) && name.chars().all(is_allowed) && !is_catalog_model(name)
}

#[cfg(feature = "local")]
fn is_catalog_model(name: &str) -> bool {
    let file = format!("{name}.gguf");
    local_llm::catalog::all().iter().any(|spec| spec.name == name || spec.file == file)
}

#[cfg(not(feature = "local"))]
fn is_catalog_model(_: &str) -> bool {
    false
}
