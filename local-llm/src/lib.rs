//! Small language models run in process, on the processor alone.
//!
//! A model is one GGUF file. [`catalog`] lists the models this crate knows how
//! to fetch, [`weights`] fetches them and checks them, and [`Model`] loads one
//! and writes replies. A reply can be bound to a JSON Schema: every token is
//! then chosen among those the schema allows, and the reply is closed before
//! the token limit is reached, so that it is a complete JSON document.

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
