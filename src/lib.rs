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
//! [`model`] has the data of pipelines and runs, with the events and the report. [`check`] and [`diagnostic`] report the
//! errors of a project's files, and [`extract`] extracts the JSON from replies. [`durable`] is the interface for durable
//! execution, which orch implements on one machine.
//!
//! The other public modules are for orch's own program, tests, benchmarks and fuzz targets; they may change in every
//! version. `ARCHITECTURE.md` describes how the modules work together.

pub mod check;
pub mod diagnostic;
pub mod durable;
pub mod extract;
pub mod model;
pub mod session;

#[doc(hidden)]
pub mod agent;
#[doc(hidden)]
pub mod catalog;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod clock;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod crash;
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod folder;
#[doc(hidden)]
pub mod graph;
#[doc(hidden)]
pub mod lsp;
#[doc(hidden)]
pub mod network;
#[doc(hidden)]
pub mod offload;
#[doc(hidden)]
pub mod process;
#[doc(hidden)]
pub mod provider;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod schema;
#[doc(hidden)]
pub mod secret;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod template;
#[doc(hidden)]
pub mod track;
#[doc(hidden)]
pub mod trust;
