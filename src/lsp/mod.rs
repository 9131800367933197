//! A language server for pipelines, prompts, schemas and `orch.yaml`.
//!
//! Owns the protocol and everything that an editor asks for: findings, completion, hover, places. What it
//! knows of files it has from `config`, `check` and `template`; it decides nothing anew. Promises
//! that no message ends it but `exit`. Refuses to run pipelines and to write files.

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
    /// The client asked for it, as it should: `shutdown`, then `exit`.
    Asked,
    /// `exit` without `shutdown`, or the stream ended.
    Abrupt,
}

/// How many messages may wait before the client is slowed down.
const WAITING: usize = 256;
/// The stack of the thread that serves: as large as that of a process.
const STACK: usize = 8 << 20;

/// Serves one client until it asks for the end, or its stream ends.
///
/// # Errors
/// The answers can't be written.
pub fn serve(input: impl Read + Send + 'static, mut output: impl Write + Send) -> io::Result<End> {
    let (sender, messages) = sync_channel(WAITING);
    // Not joined: it may wait for a client that says nothing more.
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

/// Serves a client whose messages are all here: every check is done before the next message is read. For programs
/// that talk to the server themselves, such as tests.
///
/// # Errors
/// The answers can't be written.
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

    /// Whatever is cut off, and wherever one asks, there is an answer.
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
