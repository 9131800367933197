//! Integration tests: the real program against real servers, files and processes.
#![allow(clippy::disallowed_methods, reason = "tests are no runs: they wait for processes")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod accept;
mod acp;
mod acp_claude;
mod agent_budget;
mod agent_cut;
mod agent_ends;
mod agent_faults;
mod agent_sessions;
mod agent_team;
mod agents;
mod brought;
mod budget;
mod check;
#[cfg(unix)]
mod ci;
mod completed;
#[cfg(unix)]
mod confined;
mod control;
#[cfg(all(unix, feature = "failpoints"))]
mod crash;
mod docs;
mod doctor;
#[cfg(feature = "local")]
mod embedded;
mod explain;
mod extract;
mod files;
mod findings;
mod fix;
mod foreign;
mod graph;
mod guide;
mod hostile;
mod hours;
mod house;
mod inputs;
mod kept;
mod kill;
#[cfg(unix)]
mod links;
mod llamacpp;
#[cfg(unix)]
mod lsp;
#[cfg(unix)]
mod lsp_words;
mod mistakes;
#[cfg(all(unix, feature = "local"))]
mod model_downloads;
#[cfg(feature = "local")]
mod model_files;
mod moved;
mod names;
#[cfg(target_os = "linux")]
mod offload;
mod orphans;
mod outputs;
mod outside;
mod own;
mod places;
mod plan;
mod programs;
mod provider;
mod proxies;
mod repairs;
mod replay;
mod reply_words;
mod resume;
mod reused;
mod runs;
mod schema_check;
mod screen;
mod secrets;
mod semantics;
mod session;
mod shipped;
mod shown;
mod sound;
mod spent;
mod stands;
mod store;
mod stranger;
mod support;
mod taken;
mod terminal;
mod tls;
#[cfg(target_os = "linux")]
mod traced;
#[cfg(target_os = "linux")]
mod traced_writes;
mod track;
mod transcript;
mod trust;
mod unread;
mod unreported;
#[cfg(unix)]
mod unreported_turns;
mod ways_out;
mod webhook;
mod wire_ends;
mod wire_errors;
mod wire_runs;
mod words;
mod workflow;
