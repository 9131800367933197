//! A language server for pipelines, prompts, schemas and `orch.yaml`.
//!
//! Implements the protocol and what an editor requests: findings, completion, hover, definitions, references. The facts
//! about files come from `config`, `check` and `template`; this module has no rules of its own. No message ends the
//! server except `exit`. The server never runs a pipeline and never writes a file.

mod actions;
mod case;
mod checks;
mod complete;
mod cursor;
mod definition;
mod documents;
mod facts;
mod hover;
mod incoming;
mod keys;
mod lex;
mod outgoing;
mod outline;
mod positions;
mod projects;
mod references;
mod schemas;
mod server;
mod skeleton;
mod symbols;
mod template_cursor;
mod wire;
mod yaml_flow;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::sync_channel;
use std::thread;

use server::Server;
use wire::{Incoming, IncomingMessage, MessageOutput};

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client ended it properly: `shutdown`, then `exit`.
    Asked,
    /// The client sent `exit` without `shutdown`, or the stream ended.
    Abrupt,
}

/// The capacity of the message queue. When it is full, the server stops reading, which slows the client down.
const WAITING: usize = 256;
/// The stack size of the serving thread, in bytes: as large as that of a main thread.
const STACK: usize = 8 << 20;

/// Serves one client until it sends `exit` or its stream ends.
///
/// # Errors
/// When the answers can't be written.
pub fn serve(input: impl Read + Send + 'static, mut output: impl Write + Send) -> io::Result<End> {
    let (sender, messages) = sync_channel(WAITING);
    // This thread is never joined, because it may be blocked on a client that sends nothing more.
    thread::Builder::new().spawn(move || {
        let mut input = BufReader::new(input);
        while let Ok(Some(message)) = wire::read(&mut input) {
            let last = matches!(&message, Incoming::Asked(IncomingMessage { method, .. }) if method == "exit");
            if sender.send(message).is_err() || last {
                break;
            }
        }
    })?;
    thread::scope(|scope| {
        let serving = thread::Builder::new().stack_size(STACK);
        let serving = serving.spawn_scoped(scope, move || Server::new(MessageOutput(&mut output)).run(&messages))?;
        serving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Serves a client and finishes all checks before it reads the next message. For programs that supply all messages at
/// once, such as tests.
///
/// # Errors
/// When the answers can't be written.
pub fn serve_one_by_one(mut input: impl BufRead, output: &mut impl Write) -> io::Result<End> {
    let mut server = Server::new(MessageOutput(output));
    while let Some(message) = wire::read(&mut input)? {
        if let Some(end) = server.take(message)? {
            return Ok(end);
        }
        server.settle()?;
    }
    Ok(End::Abrupt)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::checks::Checks;
    use super::documents::Documents;
    use super::{complete, definition, hover, symbols};

    /// A request at any position in any prefix of a text gets an answer.
    #[test]
    fn every_beginning_of_a_text_has_answers() {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("pipelines/p.yaml");
        let text = "name: p\nagents: { a: {model: auto} }\nsteps:\n  - id: ü\n    repeat:\n      until: \"o.x[0] | \"\n      steps:\n      - {id: b, run: [a, '{{ o. }}'], inputs: [c?]}\n    message: |\n      {% for s in o.p if s. %}{{ s['a\n\n\tx: y\n";
        let places = text.char_indices().map(|(at, _)| at).collect::<Vec<_>>();
        for end in places.iter().copied() {
            let mut documents = Documents::default();
            let begun = text.get(..end).unwrap();
            documents.open(path.clone(), "file:///p".into(), 1, begun.into());
            symbols::of(begun);
            for offset in [end, end / 2].into_iter().filter(|offset| begun.is_char_boundary(*offset)) {
                let checks = Checks::default();
                complete::at(&path, offset, &documents, &checks);
                hover::at(&path, offset, &documents, &checks);
                definition::at(&path, offset, &documents, &checks);
            }
        }
    }
}
