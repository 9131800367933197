//! Where the files of embedded models are: of the catalogue, added by name, or named by path.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::identity::Identities;
use crate::config::{model_file, model_path};
use crate::model::{Class, Failure, ModelRef};

/// The embedded models of this machine and of a project.
#[derive(Clone, Debug)]
pub struct Shelf {
    /// The folder of the models that were fetched or added.
    pub cache: PathBuf,
    /// The folder from which relative paths of models are.
    pub root: PathBuf,
    identities: Arc<Identities>,
}

impl Shelf {
    /// The models of a cache folder, and of a project without one.
    pub fn new(cache: PathBuf) -> Self {
        let identities = Arc::new(Identities::new(&cache));
        Self { cache, root: PathBuf::new(), identities }
    }

    /// The file of a model that is none of the catalogue: at a path, or added under a name.
    pub fn own_file(&self, name: &str) -> PathBuf {
        match ModelRef::new(crate::model::name::LOCAL, name).path() {
            Some(path) => model_path(&self.root, path),
            None => self.cache.join(format!("{name}.gguf")),
        }
    }

    /// The names that were added, sorted.
    pub fn added(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.cache).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names
            .filter_map(|name| name.strip_suffix(".gguf").map(ToOwned::to_owned))
            .filter(|name| is_own(name))
            .collect();
        names.sort();
        names
    }

    /// The digest that tells the weights of a model from others. The names of the catalogue tell it themselves.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn identity(&self, name: &str) -> io::Result<Option<String>> {
        if !self.is_file(name) {
            return Ok(None);
        }
        self.identities.of(&self.own_file(name)).map(Some)
    }

    /// Whether the digest of a model is known without reading it.
    pub fn knows(&self, name: &str) -> bool {
        !self.is_file(name) || self.identities.knows(&self.own_file(name))
    }

    /// Whether the file of a model is not what it was when its digest was told.
    pub fn changed(&self, file: &Path) -> bool {
        self.identities.changed(file)
    }

    fn is_file(&self, name: &str) -> bool {
        let path = ModelRef::new(crate::model::name::LOCAL, name).path().is_some();
        path || (is_own(name) && self.own_file(name).exists())
    }

    /// What is wrong with a model that is a file.
    pub fn problem(&self, name: &str) -> Option<Failure> {
        let file = self.own_file(name);
        let problem = match ModelRef::new(crate::model::name::LOCAL, name).path() {
            Some(path) => model_file(&self.root, path)?,
            None => model_file(&self.cache, &file.to_string_lossy())?,
        };
        let class = if problem.absent { Class::NotInstalled } else { Class::BadRequest };
        Some(Failure::new(class, problem.message).with_hint(problem.help))
    }
}

/// Whether a name may be that of a model that was added.
pub fn is_own(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && !name.starts_with(['.', '-']) && name.chars().all(plain) && !is_listed(name)
}

#[cfg(feature = "local")]
fn is_listed(name: &str) -> bool {
    let file = format!("{name}.gguf");
    local_llm::catalog::all().iter().any(|spec| spec.name == name || spec.file == file)
}

#[cfg(not(feature = "local"))]
fn is_listed(_: &str) -> bool {
    false
}
