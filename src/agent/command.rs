//! `command:` agents: any program that reads the conversation on standard input and writes the reply to standard
//! output.
//!
//! The program may be a script: it needs to know nothing else about orch, except the variables `ORCH_MODEL`,
//! `ORCH_TOOLS` and `ORCH_MAX_TURNS`. It has no session, so a re-ask sends the whole conversation again.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::model::Failure;
use crate::process;

use super::exit::ended_badly;
use super::program::{AgentEvent, AgentProgram, TurnJob, TurnResult};

/// Any program, as a CLI agent.
pub(super) struct CommandAgent;

impl AgentProgram for CommandAgent {
    fn turn<'a>(
        &'a self,
        job: &'a TurnJob<'a>,
        sink: &'a (dyn Fn(AgentEvent) + Send + Sync),
    ) -> BoxFuture<'a, Result<TurnResult, Failure>> {
        async move {
            let program = &job.turn.program;
            let set = |name: &str, value: String| (name.to_owned(), value);
            let mut more = vec![set("ORCH_TOOLS", program.tools.join(","))];
            more.extend(program.model.clone().map(|model| set("ORCH_MODEL", model)));
            more.extend(program.max_turns.map(|turns| set("ORCH_MAX_TURNS", turns.to_string())));
            let env = job.environment(&["HOME"], more);
            let spec = job.spec(program.argv.clone(), env, Some(job.whole_talk()));
            let heard = |_: process::Stream, bytes: &[u8]| {
                sink(AgentEvent::Text(String::from_utf8_lossy(bytes).into_owned()));
            };
            let ended = process::run(&spec, &heard).await.map_err(|error| job.failed(&error))?;
            if ended.code != Some(0) {
                let name = program.argv.first().map_or("", String::as_str);
                return Err(ended_badly(name, ended.code, &[&ended.stderr, &ended.stdout]));
            }
            Ok(TurnResult::plain(ended.stdout.text(), job.turn))
        }
        .boxed()
    }
}
