//! Loads a project from its files.
//!
//! Finds, reads and parses pipeline files, `orch.yaml`, prompts and schemas. Reports every mistake at once, each with
//! its location, and does bounded work on any input. Does not check whether the parts fit together; `check` does.

mod advice;
mod api_server;
mod bundle;
mod called_pipelines;
mod comments;
mod files;
mod form;
mod generate;
mod json;
mod json_spans;
mod load;
mod mcp;
mod missing_file;
mod missing_pipeline;
mod model_file;
mod project;
mod publish;
mod root;
mod schema_files;
mod secret_ref;
mod settings;
mod shape;
mod sources;
mod spans;
mod test_case;
mod tracking;
mod unquoted_template;
mod yaml;

pub use api_server::{ApiServer, EnvAddresses};
pub use bundle::ProjectBundle;
pub use files::{FolderListing, is_outside_folder, is_settings_placeholder};
pub use generate::{
    case_schema, event_schema, pipeline_schema, published_case_schema, published_pipeline_schema,
    published_settings_schema, report_schema, settings_schema,
};
pub use json::{json_document, load_json};
pub use load::{load, load_from, load_schemas, load_schemas_from, load_settings, parse_pipeline};
pub use mcp::McpServerSettings;
pub use missing_file::{NamedFolder, unusable_link};
pub use model_file::{ModelFileProblem, model_file_problem, model_path};
pub use project::{
    OutputType, Project, draft_output_type, output_type, output_type_from_name, step_and_ancestors, steps_with_pointers,
};
pub use root::{
    SETTINGS_FILE, absolute, find_root, find_root_from, find_root_with_settings, has_settings_file, is_case,
    list_cases, list_pipelines, path_in_folder, pipeline_listing, pipelines_below,
};
pub use secret_ref::SecretRef;
pub use settings::{
    AwsSettings, Defaults, ModelSettings, ProviderSettings, RecordingSettings, Settings, StructuredOutput,
};
pub use sources::Sources;
pub use spans::{Document, SpanIndex, child_pointer, item_pointer};
pub use test_case::{load_case, load_case_from};
pub use tracking::{Address, ConvexSettings, TrackerSettings, WebhookSettings};
pub use yaml::parse;
