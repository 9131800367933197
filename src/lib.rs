//! Declarative agent pipelines: a YAML file lists steps, prompts and JSON Schemas are files beside it, and one runner
//! executes the steps against a workspace.
//!
//! [`session`] is the front door: it runs pipelines from a program as the command line does.
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
//! let runner = Runner::new(Environment::of_process()?.with_current_dir(project.path()));
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! let result = runtime.block_on(runner.start(&RunRequest::new(pipeline, serde_json::Map::new())))?;
//! // The step asks a person, and nobody can be asked here: the run waits for `Runner::answer`.
//! assert_eq!(result.state.status.as_str(), "waiting");
//! # Ok(())
//! # }
//! ```
//!
//! Below it, [`config`] loads a project, [`check`] finds its mistakes, [`engine`] plans and interprets it, [`durable`] is
//! the seam to durability that [`store`] implements on one machine, and [`extract`] takes the JSON out of replies.
//! [`cli`] is the command line. How the parts work together is in `ARCHITECTURE.md`.

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
