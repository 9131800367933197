//! Integration tests: the real program against real servers, files and processes.
#![allow(clippy::disallowed_methods, reason = "tests are no runs: they wait for processes")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod accept;
mod acp;
mod acp_claude;
mod agent_budget;
mod agent_faults;
mod agent_options;
mod agent_sessions;
mod agents_end_to_end;
mod architecture;
mod arithmetic_checks;
mod blank_requests;
mod branches;
mod budget;
mod budget_accounting;
mod cached_steps;
mod call_inputs;
mod called_pipelines;
mod called_tools;
mod case_checks;
mod check;
mod check_soundness;
mod chosen_agents;
#[cfg(unix)]
mod ci;
mod clean;
mod cli_agents;
mod command_agents;
mod command_output;
mod comparison_checks;
mod continued_recordings;
mod conversations;
#[cfg(all(unix, feature = "failpoints"))]
mod crash;
mod default_pipeline;
mod docs;
mod docs_transcript;
mod doctor;
#[cfg(feature = "local")]
mod embedded_model;
mod equivalents;
#[cfg(all(target_os = "linux", target_env = "gnu", not(target_feature = "crt-static")))]
mod executable;
mod explain;
mod external_input;
mod extract;
mod failed_cases;
mod files;
mod findings;
mod first_mistakes;
mod fix;
mod follow_up_findings;
mod graph;
mod guards;
mod help_texts;
mod imported_runs;
mod incomplete_replies;
mod inputs;
mod interrupted_turns;
mod item_guards;
mod json_repair;
mod kill;
mod literal_advice;
mod llamacpp;
mod logging;
#[cfg(unix)]
mod lsp;
#[cfg(unix)]
mod lsp_features;
#[cfg(unix)]
mod lsp_previous_iteration;
mod mcp;
#[cfg(all(unix, feature = "local"))]
mod model_downloads;
#[cfg(feature = "local")]
mod model_files;
mod moved_projects;
mod mutations;
mod name_lookup;
mod namespaces;
mod null_texts;
#[cfg(target_os = "linux")]
mod offload;
mod orphan_processes;
mod pipeline_tools;
mod pipelines_guide;
#[cfg(unix)]
mod placeholders;
mod plan;
mod previous_iterations;
mod price_options;
#[cfg(unix)]
mod program_files;
mod provider;
mod provider_errors;
mod proxies;
mod recovery_hints;
mod refused_constants;
mod repeated_writes;
mod replay;
mod replayed_approvals;
#[cfg(unix)]
mod replayed_commands;
mod reply_completeness;
mod reply_failures;
mod request_files;
mod reserved_files;
mod resource_exhaustion;
#[cfg(target_os = "linux")]
mod restarted_machine;
mod resume;
mod resume_validity;
mod reverted_files;
#[cfg(target_os = "linux")]
mod run_messages;
mod run_summary;
mod runner;
mod running_runs;
mod runs;
#[cfg(target_os = "linux")]
mod sandbox;
mod schema_check;
mod sdk_types;
mod second_durable;
mod secrets;
mod semantics;
mod shell_completion;
#[cfg(unix)]
mod shell_values;
mod shipped_pipelines;
mod signatures;
mod silent_mistakes;
mod step_kinds;
mod stop_texts;
mod store;
mod support;
mod suppressions;
#[cfg(unix)]
mod symlinks;
#[cfg(target_os = "linux")]
mod syncs;
mod syntax_mistakes;
#[cfg(target_os = "linux")]
mod syscalls_read_only;
#[cfg(target_os = "linux")]
mod syscalls_writing;
mod tagged_unions;
mod terminal_injection;
mod terminal_prompts;
mod terminal_screen;
mod text_artifacts;
mod tls;
#[cfg(target_os = "linux")]
mod tool_loop;
#[cfg(unix)]
mod tools;
mod track;
mod trust;
mod trust_actions;
mod turn_outcomes;
mod unreadable_files;
#[cfg(unix)]
mod unrecorded_changes;
#[cfg(unix)]
mod unreported_turn_usage;
mod unreported_usage;
mod untrusted_journals;
#[cfg(unix)]
mod untrusted_project;
mod unusable_values;
mod version;
mod virtual_time;
mod webhook;
mod working_directory;
