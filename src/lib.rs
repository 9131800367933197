//! Declarative agent pipelines. A YAML file lists the steps, and separate files contain the prompts and JSON Schemas.
//! orch runs the steps in a workspace folder.
//!
//! [`runner`] is the entry point of the library: it runs pipelines as the command line does.
//!
//! ```
//! use orch::runner::{Environment, RunRequest, Runner};
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
//! // The step needs an approval, and this runner has no prompter, so the run waits for `Runner::answer`.
//! assert_eq!(result.state.status.as_str(), "waiting");
//! # Ok(())
//! # }
//! ```
//!
//! [`model`] defines the data types of pipelines, runs, events and reports. [`check`] and [`diagnostic`] report errors
//! in a project's files, and [`extract`] extracts JSON from replies. [`durable`] is the interface for durable
//! execution; orch implements it on one machine.
//!
//! The other public modules are for orch's own program, tests, benchmarks and fuzz targets. They may change in every
//! version. `ARCHITECTURE.md` describes how the modules work together.

pub mod check;
pub mod diagnostic;
pub mod durable;
pub mod extract;
pub mod model;
pub mod runner;

#[doc(hidden)]
pub mod accounts;
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
pub mod history;
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
pub mod tool;
#[doc(hidden)]
pub mod track;
#[doc(hidden)]
pub mod trust;
