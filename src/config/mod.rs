//! From files to a loaded project.
//!
//! YAML text → span pass → JSON value → the schema generated from the model → the model.
//! Every complaint is located; all are reported, not the first.

mod file;
mod load;
mod names;
mod settings;
mod shape;
mod yaml;

pub use load::{Project, Prompt, find_root, list_pipelines, load};
pub use settings::{ApiKey, Defaults, DialectName, ModelEntry, ProviderEntry, Settings, load_settings};
pub use shape::{pipeline_schema, settings_schema};
pub use yaml::{Document, parse};
