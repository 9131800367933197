//! Small language models, run in process on the CPU alone.
//!
//! A model is one GGUF file. [`catalog`] lists the models that this crate can fetch, [`weights`] fetches and checks
//! them, and [`Model`] loads one and generates replies. A JSON Schema can constrain a reply: every token is then chosen
//! among those that the schema allows, and the reply is closed before it reaches the token limit, so that it is a
//! complete JSON document.

#![forbid(unsafe_code)]

pub mod catalog;
mod error;
pub mod gguf;
mod grammar;
mod items;
pub mod memory;
mod model;
mod network;
mod reader;
mod repack;
mod sampler;
mod schema;
mod spm;
#[cfg(test)]
#[path = "../tests/support/gguf.rs"]
#[allow(dead_code, reason = "tests of the whole crate use the rest")]
mod support;
mod template;
mod threads;
mod vocab;
pub mod weights;
mod words;
mod writer;

pub use error::Error;
pub use model::{GenerateEvent, GeneratedReply, LoadOptions, Model, PromptMessage, ReplyEnd, Request};
