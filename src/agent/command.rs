//! `command:` agents: any program that reads the conversation on standard input and writes the reply to standard
//! output.
//!
//! The program may be a script. orch also sets the variables `ORCH_MODEL`, `ORCH_TOOLS` and `ORCH_MAX_TURNS` for it.
//! The program has no session, so a re-ask sends the whole conversation again.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::model::Failure;
use crate::process::{self, SandboxNeeds};

use super::exit::exit_failure;
use super::program::{AgentEvent, AgentProgram, TurnJob, TurnResult};

/// Any program, as a CLI agent.
pub(super) struct CommandAgent;

impl AgentProgram for CommandAgent {
    fn run_turn<'a>(
        &'a self,
        job: &'a TurnJob<'a>,
        sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    ) -> BoxFuture<'a, Result<TurnResult, Failure>> {
        async move {
            let program = &job.turn.program;
            let variable = |name: &str, value: String| (name.to_owned(), value);
            let mut own_variables = vec![variable("ORCH_TOOLS", program.tools.join(","))];
            own_variables.extend(program.model.clone().map(|model| variable("ORCH_MODEL", model)));
            let max_turns = program.max_turns.map(|turns| variable("ORCH_MAX_TURNS", turns.to_string()));
            own_variables.extend(max_turns);
            let env = job.environment(&["HOME"], own_variables);
            let (argv, stdin) = (program.argv.clone(), Some(job.conversation_text()));
            let spec = job.program_spec(argv, env, stdin, SandboxNeeds::default()).await?;
            let on_output = |_: process::OutputStream, bytes: &[u8]| {
                sink(AgentEvent::Text(String::from_utf8_lossy(bytes).into_owned()));
            };
            let exit = process::run(&spec, &on_output).await.map_err(|error| job.process_failure(&error))?;
            if exit.code != Some(0) {
                let name = program.argv.first().map_or("", String::as_str);
                return Err(exit_failure(name, &spec, exit.code, &[&exit.stderr, &exit.stdout]));
            }
            Ok(TurnResult::from_text(exit.stdout.text(), job.turn))
        }
        .boxed()
    }
}
