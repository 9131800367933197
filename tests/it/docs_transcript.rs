//! Records the transcript of docs/first-mistakes.md again, command by command, and compares it with the page.
#![cfg(unix)]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::default_pipeline::{good_reply, step_of};
use crate::support::{ClosedPort, Orch, Reply, Server};

/// The text on a terminal: commands, their output, and how they end.
struct Transcript {
    orch: Orch,
    text: String,
}

impl Transcript {
    fn note(&mut self, words: &str) {
        let _ = writeln!(self.text, "\n# {words}");
    }

    /// Runs a command of the page; the page does not show the variables in `set`.
    fn types(&mut self, line: &str, set: &[(&str, &str)]) {
        let output = self.command(line, set).output().unwrap();
        self.shows(line, &[], &[output.stdout, output.stderr].concat(), output.status.code());
    }

    fn command(&self, line: &str, set: &[(&str, &str)]) -> Command {
        let words = split_words(line);
        let at = words.iter().position(|word| word == "orch").unwrap();
        let args: Vec<&str> = words[at + 1..].iter().map(String::as_str).collect();
        let mut command = self.orch.command(&args);
        command.envs(words[..at].iter().filter_map(|word| word.split_once('=')));
        command.envs(set.iter().copied());
        command
    }

    fn shows(&mut self, line: &str, between: &[&str], output: &[u8], code: Option<i32>) {
        let _ = writeln!(self.text, "$ {line}");
        for line in between {
            let _ = writeln!(self.text, "{line}");
        }
        let _ = writeln!(self.text, "{}", String::from_utf8_lossy(output).trim_end());
        let _ = writeln!(self.text, "[exit {}]", code.unwrap_or(-1));
    }

    /// Runs a command, and presses Ctrl-C once it has printed a text.
    fn interrupts(&mut self, line: &str, at: &str) {
        let mut child = self.command(line, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut shown = String::new();
        while !shown.contains(at) {
            assert!(errors.read_line(&mut shown).unwrap() > 0, "it never said {at:?}: {shown}");
        }
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        errors.read_to_string(&mut shown).unwrap();
        let code = child.wait().unwrap().code();
        self.shows(line, &["^C while the coder writes"], shown.as_bytes(), code);
    }
}

/// Splits a command line into words, with quotes.
fn split_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for char in line.chars() {
        match char {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            char => words.last_mut().unwrap().push(char),
        }
    }
    words
}

/// Masks what differs from run to run in a text: ids, times, ports.
fn masked(text: &str) -> String {
    let is_id = |word: &str| word.len() == 12 && word.chars().all(|char| char.is_ascii_hexdigit());
    let is_number = |word: &str| !word.is_empty() && word.chars().all(|char| char.is_ascii_digit() || char == '.');
    let word = |word: &str| match word {
        word if is_id(word) => "ID".to_owned(),
        word if word.strip_suffix('s').is_some_and(is_number) => "TIME".to_owned(),
        word if word.len() == 10 && word.matches('-').count() == 2 => "DATE".to_owned(),
        word if word.len() == 5 && word.matches(':').count() == 1 && is_number(&word.replace(':', "")) => {
            "HOUR".to_owned()
        }
        word => word.to_owned(),
    };
    let parts = |line: &str| {
        let mut out = String::new();
        for part in line.split_inclusive([' ', ',', '`', ')', '(']) {
            let (body, end) = match part.char_indices().last() {
                Some((at, last)) if [' ', ',', '`', ')', '('].contains(&last) => part.split_at(at),
                _ => (part, ""),
            };
            // A line may end with a colon after an id, or with a port after an address.
            let body = match body.split_once("http://127.0.0.1:") {
                Some((before, port)) => {
                    let rest = port.trim_start_matches(|char: char| char.is_ascii_digit());
                    format!("{before}http://127.0.0.1:PORT{rest}")
                }
                None => match body.strip_suffix(':') {
                    Some(body) => format!("{}:", word(body)),
                    None => word(body),
                },
            };
            out.push_str(&body);
            out.push_str(end);
        }
        // The widths of columns depend on the masked text.
        out.split(' ').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(parts).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_transcript_of_first_mistakes_matches_the_program() {
    let refusing = Server::start(|_| {
        Reply::status(401, r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#)
    });
    let model = Server::start(|request| {
        let reply = good_reply(request);
        if step_of(request) == "code" { reply.delay(Duration::from_millis(800)) } else { reply }
    });
    let closed = ClosedPort::reserve();
    let nowhere = closed.url();

    let mut session = Transcript { orch: Orch::empty(), text: String::new() };
    let task = "--task \"Create a User model\"";
    let run = format!("orch pipeline run pipelines/default.yaml {task}");
    let claude = format!("{run} --model anthropic/claude-sonnet-5-5");
    let file = "pipelines/default.yaml";

    session.types("orch init", &[]);
    session.note("no such pipeline");
    session.types(&format!("orch pipeline run pipelines/defualt.yaml {task}"), &[]);
    let whole = session.orch.read(file);
    session.note("a misspelt key");
    session.orch.edit(file, "    prompt: coder.md", "    promt: coder.md");
    session.types(&run, &[]);
    session.orch.write(file, &whole);
    session.note("a key of another tool");
    session.orch.edit(file, "    prompt: coder.md", "    prompt: coder.md\n    needs: [plan]");
    session.types("orch pipeline validate", &[]);
    session.orch.write(file, &whole);
    session.note("a hyphen in an id, a key and operators of other languages: `--fix` rewrites what is unambiguous");
    session.orch.edit(file, "  - id: files\n", "  - id: write-files\n    if: task !== '' && task !== 'none'\n");
    session.types("orch pipeline validate", &[]);
    session.types("orch pipeline validate --fix", &[]);
    session.orch.write(file, &whole);
    session.note("a missing prompt");
    let prompt = session.orch.read("prompts/reviewer.md");
    std::fs::rename(session.orch.path().join("prompts/reviewer.md"), session.orch.path().join("prompts/review.md"))
        .unwrap();
    session.types("orch pipeline validate", &[]);
    session.orch.write("prompts/reviewer.md", &prompt);
    session.note("a field that the plan does not have");
    let coder = session.orch.read("prompts/coder.md");
    session.orch.write("prompts/coder.md", "Write the code.\n{{ plan.sumary }}\n");
    session.types("orch pipeline validate", &[]);
    session.orch.write("prompts/coder.md", &coder);
    session.note("a wrong model name");
    session.types(&format!("{run} --model antropic/claude-sonnet-5-5"), &[]);
    session.note("no key");
    session.types(&claude, &[]);
    session.note("a wrong key (a local server that answers 401 stands in for the provider)");
    let keyed = format!("ANTHROPIC_API_KEY=sk-ant-wrong-key-000 {claude}");
    session.types(&keyed, &[("ANTHROPIC_BASE_URL", &refusing.url())]);
    session.note("no network");
    session.types(&keyed, &[("ANTHROPIC_BASE_URL", &nowhere)]);
    session.note("Ctrl-C while the coder writes, then a resume (a local server stands in for the model)");
    let lab = format!("providers:\n  lab: {{ dialect: openai, base_url: \"{}/v1\" }}\n", model.url());
    session.orch.write("orch.yaml", &lab);
    session.interrupts(&format!("{run} --model lab/m"), "code: attempt 1");
    session.types("orch pipeline resume", &[]);
    session.types("orch runs list", &[]);

    let page = std::fs::read_to_string("docs/first-mistakes.md").unwrap();
    let shown = page.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let made = session.text.trim_start();
    assert_eq!(masked(shown).trim_end(), masked(made).trim_end(), "what it shows now:\n{made}");
}
