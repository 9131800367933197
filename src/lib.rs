//! Declarative agent pipelines: a YAML file lists steps, prompts and JSON Schemas lie beside it,
//! and one runner executes the steps against a workspace.
//!
//! [`config`] loads a project, [`check`] says what is wrong with it, [`engine`] plans and interprets
//! it, [`durable`] is the seam to durability that [`store`] implements on one machine, and
//! [`extract`] takes the JSON out of replies. [`cli`] is the command line on top. How the parts
//! hang together is in `ARCHITECTURE.md`.

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
pub mod store;
pub mod template;
pub mod track;
pub mod trust;
