//! A language server for pipelines, prompts, schemas and `orch.yaml`.
//!
//! Implements the protocol and the features of an editor: findings, completion, hover, definitions, references. The
//! rules for files are in `config`, `check` and `template`; this module adds no rules. Only the message `exit` ends the
//! server. The server never runs a pipeline and never writes a file.

mod actions;
mod checks;
mod complete;
mod completion;
mod cursor;
mod definition;
mod definition_target;
mod documents;
mod hover;
mod incoming;
mod keys;
mod lookups;
mod named_files;
mod outgoing;
mod outline;
mod outline_entry;
mod positions;
mod projects;
mod references;
mod schema_refs;
mod server;
mod skeleton;
mod symbols;
mod template_cursor;
mod template_tags;
mod test_case;
mod tokens;
mod tool_names;
mod wire;
mod yaml_flow;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::config::EnvAddresses;

pub use server::SessionEnd;

use server::Server;
use wire::{Incoming, IncomingCall, MessageOutput};

/// The capacity of the message queue. When it is full, the server stops reading, which slows the client down.
const QUEUE_CAPACITY: usize = 256;
/// The stack size of the server thread, in bytes; the same as that of a main thread.
const STACK_SIZE: usize = 8 << 20;

/// Serves one client until it sends `exit` or its stream ends. `env_addresses` are the addresses of providers in
/// environment variables.
///
/// # Errors
/// The responses can't be written.
pub fn serve(
    input: impl Read + Send + 'static,
    mut output: impl Write + Send,
    env_addresses: Arc<EnvAddresses>,
) -> io::Result<SessionEnd> {
    let (sender, messages) = sync_channel(QUEUE_CAPACITY);
    // Nothing joins this thread, because it may be blocked on a client that sends no more messages.
    thread::Builder::new().spawn(move || {
        let mut input = BufReader::new(input);
        while let Ok(Some(message)) = wire::read_message(&mut input) {
            let is_last = matches!(&message, Incoming::Call(IncomingCall { method, .. }) if method == "exit");
            if sender.send(message).is_err() || is_last {
                break;
            }
        }
    })?;
    thread::scope(|scope| {
        let builder = thread::Builder::new().stack_size(STACK_SIZE);
        let server_thread = builder.spawn_scoped(scope, move || {
            Server::new(MessageOutput(&mut output)).with_env_addresses(env_addresses).run(&messages)
        })?;
        server_thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Serves a client, and runs all checks after each message before it reads the next one. For programs that supply all
/// messages at once, such as tests.
///
/// # Errors
/// The responses can't be written.
pub fn serve_synchronously(mut input: impl BufRead, output: &mut impl Write) -> io::Result<SessionEnd> {
    let mut server = Server::new(MessageOutput(output));
    while let Some(message) = wire::read_message(&mut input)? {
        if let Some(end) = server.handle_message(message)? {
            return Ok(end);
        }
        server.run_all_checks()?;
    }
    Ok(SessionEnd::Abrupt)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::checks::Checks;
    use super::documents::Documents;
    use super::{complete, definition, hover, symbols};

    #[test]
    fn requests_in_any_prefix_of_a_text_do_not_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("pipelines/p.yaml");
        let text = "name: p\nagents: { a: {model: auto} }\nsteps:\n  - id: ü\n    repeat:\n      until: \"o.x[0] | \"\n      steps:\n      - {id: b, run: [a, '{{ o. }}'], inputs: [c?]}\n    message: |\n      {% for s in o.p if s. %}{{ s['a\n\n\tx: y\n";
        for end in text.char_indices().map(|(index, _)| index) {
            let mut documents = Documents::default();
            let prefix = text.get(..end).unwrap();
            documents.open(path.clone(), "file:///p".into(), 1, prefix.into());
            symbols::document_symbols(prefix);
            for offset in [end, end / 2].into_iter().filter(|offset| prefix.is_char_boundary(*offset)) {
                let checks = Checks::default();
                complete::completions_at(&path, offset, &documents, &checks);
                hover::hover_at(&path, offset, &documents, &checks);
                definition::find_definitions(&path, offset, &documents, &checks);
            }
        }
    }
}
