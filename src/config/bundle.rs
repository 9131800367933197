//! The files of a project as data, from which another process loads the same project.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api_server::EnvAddresses;
use super::called_pipelines::CallState;
use super::load::load_in_root;
use super::project::Project;
use super::root::{SETTINGS_FILE, absolute};
use super::sources::Sources;
use crate::diagnostic::{Code, Diagnostic, SourceFile};
use crate::model::{Digest, canonical_json};

/// The root of a project from a bundle. No folder has this name, so no file on the disk is a part of the project.
const BUNDLE_ROOT: &str = "<bundle>";

/// A pipeline with the files that it names: called pipelines, prompts, schemas and `orch.yaml`. The digests of the
/// files identify their contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectBundle {
    /// The pipeline, as a path in `files`.
    pub pipeline: String,
    /// The digest of each file, by its path in the project.
    pub files: BTreeMap<String, Digest>,
    /// The texts of the files, by digest.
    pub texts: BTreeMap<Digest, String>,
    /// The addresses of providers in environment variables, which decide about the dialects of providers.
    pub env_addresses: EnvAddresses,
}

impl ProjectBundle {
    /// Collects the files from which a project was loaded.
    pub fn from_project(project: &Project) -> Self {
        let mut bundle = Self {
            pipeline: path_in_root(project),
            files: BTreeMap::new(),
            texts: BTreeMap::new(),
            env_addresses: (*project.env_addresses).clone(),
        };
        let mut pending = vec![(bundle.pipeline.clone(), project)];
        while let Some((path, project)) = pending.pop() {
            if bundle.files.contains_key(&path) {
                continue;
            }
            bundle.add_files(&path, project);
            let called = project.called_projects.iter();
            pending.extend(called.map(|(name, called)| (path_beside(&path, name), &**called)));
        }
        bundle
    }

    /// The digest of the files and of the addresses, without the texts, which the digests of the files identify.
    pub fn digest(&self) -> Digest {
        let content = json!({
            "pipeline": self.pipeline, "files": self.files, "env_addresses": self.env_addresses,
        });
        Digest::compute(canonical_json(&content).as_bytes())
    }

    /// Loads the project from the texts of the bundle. Reads nothing from the disk.
    ///
    /// # Errors
    /// The bundle lacks the text of a file, a text has another digest, or the pipeline has mistakes.
    pub fn load(&self) -> Result<Project, Vec<Diagnostic>> {
        let root = PathBuf::from(BUNDLE_ROOT);
        let mut sources = Sources::without_disk().with_env_addresses(self.env_addresses.clone());
        for (path, digest) in &self.files {
            let text = self.texts.get(digest).filter(|text| Digest::compute(text.as_bytes()) == *digest);
            let Some(text) = text else {
                let message = format!("the bundle does not contain the text of `{path}` with the digest {digest}");
                let diagnostic = Diagnostic::error(Code::FileUnreadable, message);
                return Err(vec![diagnostic.with_file(&SourceFile::new(path.as_str(), ""))]);
            };
            sources.put(root.join(path), text.as_str());
        }
        load_in_root(&sources, &root.join(&self.pipeline), root.clone(), &mut CallState::default())
    }

    /// Adds the pipeline at this path, and the other files of its project.
    fn add_files(&mut self, path: &str, project: &Project) {
        self.add(path, &project.document.file);
        if let Some(document) = &project.settings_document {
            self.add(SETTINGS_FILE, &document.file);
        }
        for (name, file) in &project.prompts {
            self.add(&format!("prompts/{name}"), file);
        }
        for (name, document) in &project.schema_documents {
            self.add(&format!("schemas/{name}"), &document.file);
        }
    }

    fn add(&mut self, path: &str, file: &SourceFile) {
        let digest = Digest::compute(file.text.as_bytes());
        self.files.insert(path.to_owned(), digest.clone());
        self.texts.entry(digest).or_insert_with(|| file.text.clone());
    }
}

/// The path of the pipeline of a project, relative to the root. A pipeline outside of the root, which a link can lead
/// to, counts as one in the folder `pipelines`.
fn path_in_root(project: &Project) -> String {
    let path = absolute(Path::new(&project.document.file.path));
    let relative = path.strip_prefix(absolute(&project.root)).ok().map(Path::to_path_buf);
    let relative = relative.unwrap_or_else(|| Path::new("pipelines").join(path.file_name().unwrap_or_default()));
    relative.to_string_lossy().replace('\\', "/")
}

/// The path of a file that a pipeline names relative to itself.
fn path_beside(path: &str, name: &str) -> String {
    match path.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{name}"),
        None => name.to_owned(),
    }
}
