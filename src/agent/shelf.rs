//! Where the files of embedded models are: models of the catalogue, models that the user added, and models given by a
//! path.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::identity::Identities;
use crate::config::{model_file, model_path};
use crate::model::{Class, Failure, ModelRef};

/// The embedded models of this machine and of a project.
#[derive(Clone, Debug)]
pub struct Shelf {
    /// The folder of downloaded and added models.
    pub cache: PathBuf,
    /// The folder to which the paths of model files are relative.
    pub root: PathBuf,
    identities: Arc<Identities>,
}

impl Shelf {
    /// The models in a cache folder, for use without a project.
    pub fn new(cache: PathBuf) -> Self {
        let identities = Arc::new(Identities::new(&cache));
        Self { cache, root: PathBuf::new(), identities }
    }

    /// The file of a model that is not in the catalogue: the one at its path, or the one that was added under its name.
    pub fn own_file(&self, name: &str) -> PathBuf {
        match ModelRef::new(crate::model::name::LOCAL, name).path() {
            Some(path) => model_path(&self.root, path),
            None => self.cache.join(format!("{name}.gguf")),
        }
    }

    /// The names of the added models, sorted.
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

    /// A digest that identifies a model's weights; `None` for models of the catalogue, whose name identifies them.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn identity(&self, name: &str) -> io::Result<Option<String>> {
        if !self.is_file(name) {
            return Ok(None);
        }
        self.identities.of(&self.own_file(name)).map(Some)
    }

    /// Whether [`Shelf::identity`] needs no reading of the file.
    pub fn knows(&self, name: &str) -> bool {
        !self.is_file(name) || self.identities.knows(&self.own_file(name))
    }

    /// Whether a model's file changed since this process computed its digest.
    pub fn changed(&self, file: &Path) -> bool {
        self.identities.changed(file)
    }

    fn is_file(&self, name: &str) -> bool {
        let path = ModelRef::new(crate::model::name::LOCAL, name).path().is_some();
        path || (is_own(name) && self.own_file(name).exists())
    }

    /// What is wrong with a model's file, if anything.
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

/// Whether the user may add a model under this name.
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
