//! Declarative agent pipelines: a YAML file lists steps, prompts and JSON Schemas are files beside it, and one runner
//! executes the steps against a workspace.
//!
//! [`session`] is the entry point of the library: it runs pipelines as the command line does.
//!
//! ```
//! use orch::session::{Environment, RunRequest, Runner};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let project = tempfile::tempdir()?;
//! std::fs::create_dir(project.path().join("pipelines"))?;
//! let pipeline = project.path().join("pipelines/check.yaml");
//! std::fs::write(&pipeline, "name: check\nsteps:\n  - { id: sure, approve: \"Deploy?\" }\n")?;
//!
//! let runner = Runner::new(Environment::from_process()?.with_current_dir(project.path()));
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! let result = runtime.block_on(runner.start(&RunRequest::new(pipeline, serde_json::Map::new())))?;
//! // The step needs an approval, and this program has no terminal prompt: the run waits for `Runner::answer`.
//! assert_eq!(result.state.status.as_str(), "waiting");
//! # Ok(())
//! # }
//! ```
//!
//! It uses the other modules: [`config`] loads a project, [`check`] reports its errors, [`engine`] plans and interprets
//! a pipeline, [`durable`] is the interface for durable execution that [`store`] implements on one machine, and
//! [`extract`] extracts the JSON from replies. [`cli`] is the command line. `ARCHITECTURE.md` describes how the modules
//! work together.

pub mod agent;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crash;
pub mod diagnostic;
pub mod durable;
pub mod engine;
pub mod extract;
pub mod files;
pub mod folder;
pub mod graph;
pub mod lsp;
pub mod model;
pub mod network;
pub mod offload;
pub mod process;
pub mod provider;
pub mod report;
pub mod schema;
pub mod secret;
pub mod session;
pub mod store;
pub mod template;
pub mod track;
pub mod trust;
