//! Runs a pipeline from Rust and prints the status of each step:
//!
//! ```sh
//! cargo run --example embed -- pipelines/default.yaml "Create a User model with authentication"
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example prints")]

use std::process::ExitCode;

use orch::runner::{Environment, ExitStatus, RunRequest, Runner, RunnerError};
use serde_json::json;

fn main() -> ExitCode {
    // orch starts this program again as the supervisor of a run's child processes.
    if let Some(code) = orch::runner::supervisor_main() {
        return code;
    }
    match run() {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("error: {error}");
            error.hints().iter().for_each(|hint| eprintln!("hint: {hint}"));
            error.status().into()
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run() -> Result<ExitStatus, RunnerError> {
    let mut arguments = std::env::args().skip(1);
    let pipeline = arguments.next().unwrap_or_else(|| "pipelines/default.yaml".to_owned());
    let inputs = arguments.next().map_or_else(|| json!({}), |task| json!({ "task": task }));
    let runner = Runner::new(Environment::from_process()?);
    let result = runner.start(&RunRequest::new(pipeline, inputs.as_object().cloned().unwrap_or_default())).await?;
    for step in &result.state.steps {
        println!("{}: {}", step.key, step.status.as_str());
    }
    Ok(result.exit_status())
}
