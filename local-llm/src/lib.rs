//! Runs small language models in this process, on the CPU.
//!
//! A model is one GGUF file. [`catalog`] lists the models that this crate can fetch, [`weights`] fetches and verifies
//! them, and [`Model`] loads one and generates replies. A JSON Schema can constrain a reply: the model then chooses
//! only among the tokens that the schema allows, and closes the reply before the token limit, so that the reply is a
//! complete JSON document. A request can also offer tools: then the reply may be a call, whose name and arguments are
//! constrained in the same way.

#![forbid(unsafe_code)]

pub mod catalog;
mod decoder;
mod error;
pub mod gguf;
mod grammar;
mod incremental_json;
pub mod memory;
mod model;
mod network;
mod ops;
mod pre_tokenizer;
mod repack;
mod reply_stream;
mod sampler;
mod schema;
mod spm;
#[cfg(test)]
#[path = "../tests/support/gguf.rs"]
#[allow(dead_code, reason = "the integration tests use the other functions")]
mod support;
mod template;
mod tensor_info;
mod tensor_reader;
mod threads;
mod tools;
mod vocab;
pub mod weights;

pub use error::Error;
pub use model::{FinishReason, GenerateEvent, GeneratedReply, LoadOptions, Model, PromptMessage, Request};
pub use tools::{CallChoice, ModelCall, OfferedTool};
