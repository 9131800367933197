//! What the user sees on a terminal: a terminal emulator that a real pseudo-terminal feeds renders the screen.
#![cfg(unix)]

use std::process::Command;

use vt100::Parser;

use crate::support::{Orch, Reply, RunOutput, Server};

/// A terminal of a size, and the output that it received.
struct TerminalOutput {
    ran: RunOutput,
    size: (u16, u16),
}

impl TerminalOutput {
    fn parser(&self) -> Parser {
        let (columns, lines) = self.size;
        Parser::new(lines.try_into().unwrap(), columns.try_into().unwrap(), 0)
    }

    /// The screen at the end.
    fn screen(&self) -> Vec<String> {
        let mut parser = self.parser();
        parser.process(self.ran.stdout.as_bytes());
        rows(&parser)
    }

    /// Every screen after the program drew something.
    fn frames(&self) -> Vec<Vec<String>> {
        let mut parser = self.parser();
        let pieces = self.ran.stdout.split_inclusive("\x1b[J");
        pieces
            .map(|piece| {
                parser.process(piece.as_bytes());
                rows(&parser)
            })
            .collect()
    }
}

fn rows(parser: &Parser) -> Vec<String> {
    parser.screen().rows(0, parser.screen().size().1.get()).map(|row| row.trim_end().to_owned()).collect()
}

/// The text of a screen, joined over the ends of its lines. A word that is split between two lines does not match.
fn joined_text(rows: &[String]) -> String {
    rows.iter().flat_map(|row| row.split_whitespace()).collect::<Vec<_>>().join(" ")
}

fn has_spinner(row: &str) -> bool {
    row.chars().any(|c| ('\u{2800}'..='\u{28ff}').contains(&c))
}

/// Runs the program on a terminal; each pair of `typed` is the text to wait for and the text to type then.
fn on_terminal(orch: &Orch, size: (u16, u16), typed: &[(&str, &str)], args: &[&str]) -> TerminalOutput {
    let output = terminal_command(orch, size, typed, args).output().unwrap();
    TerminalOutput { ran: RunOutput::of(&output), size }
}

/// Prepares a run of the program on a terminal.
fn terminal_command(orch: &Orch, size: (u16, u16), typed: &[(&str, &str)], args: &[&str]) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/terminal.py");
    let mut command = Command::new("python3");
    command.arg(script).args(typed.iter().flat_map(|(wait, keys)| [*wait, *keys]));
    command.args(["--", env!("CARGO_BIN_EXE_orch")]).args(args).current_dir(orch.path());
    command.env("TERM", "xterm").env("TERMINAL_SIZE", format!("{}x{}", size.0, size.1)).env("NO_COLOR", "1");
    command
}

const SIZES: [(u16, u16); 2] = [(80, 24), (120, 30)];
const RUN: [&str; 3] = ["pipeline", "run", "pipelines/main.yaml"];
const STOPPING: &str = "stopping: waiting up to 10 s for replies in flight, ending commands and CLI agents; press Ctrl-C again to stop now";

/// A pipeline of parallel commands.
fn parallel_commands(names: &[String], command: &str) -> Orch {
    let orch = Orch::empty();
    let step = |name: &String| format!("      - {{ id: {name}, access: read, run: \"{command}\" }}\n");
    let steps: String = names.iter().map(step).collect();
    orch.write("pipelines/main.yaml", &format!("name: main\nsteps:\n  - id: all\n    parallel:\n{steps}"));
    orch
}

fn six_names() -> Vec<String> {
    ["one", "two", "three", "four_with_a_long_name", "five", "six"].map(str::to_owned).to_vec()
}

#[test]
fn the_message_of_ctrl_c_stays_and_all_live_lines_disappear() {
    let chatty = "for i in 1 2 3 4 5; do echo a line of output that is longer than any terminal in this test is wide, \
                  so that it has to be cut somewhere $i; sleep 0.1; done; sleep 20";
    for size in SIZES {
        for command in ["sleep 20", chatty] {
            let orch = parallel_commands(&six_names(), command);
            let shown = on_terminal(&orch, size, &[("all/six", "pause"), (" 1s", "^C")], &RUN);
            assert_eq!(shown.ran.code, 130, "{}", shown.ran.stdout);
            let screen = shown.screen();
            assert_eq!(joined_text(&screen).matches(STOPPING).count(), 1, "{screen:#?}");
            assert!(!screen.iter().any(|row| has_spinner(row)), "{screen:#?}");
            for name in six_names() {
                let told = format!("! all/{name} cancelled: the run was stopped");
                assert_eq!(joined_text(&screen).matches(&told).count(), 1, "{told}: {screen:#?}");
            }
            assert!(
                joined_text(&screen).contains("continues the run; orch reuses the recorded replies"),
                "{screen:#?}"
            );
        }
    }
}

#[test]
fn no_step_is_on_the_screen_twice_even_with_more_steps_than_lines() {
    let names: Vec<String> = (0..40).map(|number| format!("step_{number:02}")).collect();
    for size in SIZES {
        let orch = parallel_commands(&names, "for i in 1 2 3; do echo $i; sleep 0.3; done");
        let shown = on_terminal(&orch, size, &[], &RUN);
        assert_eq!(shown.ran.code, 0, "{}", shown.ran.stdout);
        let (mut live, mut cut) = (0, false);
        for frame in shown.frames() {
            let moving: Vec<&String> = frame.iter().filter(|row| has_spinner(row)).collect();
            live = live.max(moving.len());
            cut |= frame.iter().any(|row| row.starts_with('…') && row.ends_with(" more"));
            for name in &names {
                let told = moving.iter().filter(|row| row.contains(name.as_str())).count();
                assert!(told <= 1, "{name}: {frame:#?}");
            }
        }
        assert!(live > 5 && live < usize::from(size.1) && cut, "{live} lines moved at once");
        assert!(!shown.screen().iter().any(|row| has_spinner(row)), "{:#?}", shown.screen());
    }
}

#[test]
fn log_records_appear_above_the_live_lines() {
    for format in ["text", "json"] {
        let orch = parallel_commands(&six_names(), "sleep 1");
        let args = [&RUN[..], &["--log-format", format]].concat();
        let output = terminal_command(&orch, (120, 30), &[], &args).env("ORCH_LOG", "info").output().unwrap();
        let shown = TerminalOutput { ran: RunOutput::of(&output), size: (120, 30) };
        assert_eq!(shown.ran.code, 0, "{}", shown.ran.stdout);
        let is_record = |row: &String| row.contains("orch::engine");
        let mut frames_with_both = 0;
        for frame in shown.frames() {
            let last_record = frame.iter().rposition(is_record);
            let first_live_line = frame.iter().position(|row| has_spinner(row));
            if let (Some(record), Some(live_line)) = (last_record, first_live_line) {
                assert!(record < live_line, "{frame:#?}");
                frames_with_both += 1;
            }
        }
        assert!(frames_with_both > 0, "{}", shown.ran.stdout);
        assert!(!shown.screen().iter().any(|row| has_spinner(row)), "{:#?}", shown.screen());
    }
}

#[test]
fn a_second_ctrl_c_leaves_no_live_lines() {
    let server = Server::always(Reply::openai_text("late").delay(std::time::Duration::from_mins(1)));
    let orch = Orch::empty().with(&server);
    orch.write("prompts/a.md", "Say something.");
    orch.write(
        "pipelines/main.yaml",
        "name: main\nagents: { a: {} }\nsteps:\n  - { id: ask, agent: a, prompt: a.md, output: x, schema: text }\n",
    );
    let shown = on_terminal(&orch, (80, 24), &[(" 1s", "^C"), ("stop now", "pause"), ("", "^C")], &RUN);
    assert_eq!(shown.ran.code, 130, "{}", shown.ran.stdout);
    let screen = shown.screen();
    assert!(joined_text(&screen).contains(STOPPING) && joined_text(&screen).contains("stopping now"), "{screen:#?}");
    assert!(!screen.iter().any(|row| has_spinner(row)), "{screen:#?}");
}

#[test]
fn a_call_that_waits_for_budget_says_so() {
    let server = Server::always(Reply::openai_text("late").delay(std::time::Duration::from_mins(1)));
    let orch = Orch::empty().with(&server);
    orch.write("prompts/a.md", "Say something.");
    let step = |id: &str| format!("      - {{ id: {id}, agent: a, prompt: a.md, output: {id}, schema: text }}\n");
    let steps = format!("  - id: all\n    parallel:\n{}{}", step("one"), step("two"));
    // Room for one request at a time.
    let head = "name: main\nbudget: { tokens: 190 }\nagents: { a: { max_output_tokens: 100 } }\n";
    orch.write("pipelines/main.yaml", &format!("{head}steps:\n{steps}"));
    let typed = [("waiting for budget", "^C"), ("stop now", "pause"), ("", "^C")];
    let shown = on_terminal(&orch, (80, 24), &typed, &RUN);
    assert_eq!(shown.ran.code, 130, "{}", shown.ran.stdout);
    let is_shown = |row: &String| has_spinner(row) && row.contains("lab/test · waiting for budget");
    assert!(shown.frames().iter().flatten().any(is_shown), "{}", shown.ran.stdout);
}

#[test]
fn lines_break_between_words() {
    let orch = Orch::empty();
    orch.write(
        "pipelines/main.yaml",
        concat!(
            "name: main\nsteps:\n  - id: all\n    parallel:\n",
            "      - { id: first_command_that_writes_something, run: \"true\" }\n",
            "      - { id: second_command_that_writes_something, run: \"true\" }\n",
        ),
    );
    let whole = orch.run(&["pipeline", "validate"]).stderr;
    let said = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for columns in [60, 80, 120] {
        let shown = on_terminal(&orch, (columns, 40), &[], &["pipeline", "validate"]);
        for words_of in
            ["could write to the workspace at the same time", "or set `access: read` for a step that writes nothing"]
        {
            assert!(said(&whole).contains(words_of), "{whole}");
            assert!(joined_text(&shown.screen()).contains(words_of), "{:#?}", shown.screen());
        }
    }
    // A failed run shows its error, its hint, and how to continue.
    let steps = "  - { id: works, run: \"true\" }\n  - { id: fails, run: \"exit 7\" }\n";
    orch.write("pipelines/main.yaml", &format!("name: main\nsteps:\n{steps}"));
    for size in SIZES {
        let screen = on_terminal(&orch, size, &[], &RUN).screen();
        for words_of in [
            "error: step `fails`: the command ended with exit code 7 (command_failed)",
            "to count exit code 7 as success, set `expect: { exit_code: [0, 7] }`",
            "orch reuses the completed steps",
        ] {
            assert!(joined_text(&screen).contains(words_of), "{screen:#?}");
        }
    }
}

#[test]
fn a_long_word_is_whole_on_one_line() {
    let orch = Orch::empty();
    let name = "an_artifact_whose_name_has_more_columns_than_half_a_line";
    let step = format!("  - {{ id: say, run: [echo, x], access: none, output: {name}, schema: text }}\n");
    orch.write("pipelines/main.yaml", &format!("name: main\nsteps:\n{step}"));
    let path = format!("workspace/{name}.md");
    for args in [&RUN[..], &["runs", "show"]] {
        let screen = on_terminal(&orch, (80, 24), &[], args).screen();
        assert!(screen.iter().any(|row| row.trim_start() == path), "{screen:#?}");
    }
    // Messages of the parser.
    let arguments = ["run", "main", "Create", "a", "User", "model", "with", "authentication"];
    let whole = orch.run(&arguments).exits(2).stderr;
    for columns in [60, 80] {
        let screen = on_terminal(&orch, (columns, 24), &[], &arguments).screen();
        let rest =
            whole.split_whitespace().find(|word| !screen.iter().any(|row| row.split_whitespace().any(|w| w == *word)));
        assert_eq!(rest, None, "{screen:#?}");
    }
}

#[test]
fn the_list_of_runs_fits_the_terminal_and_is_complete_in_a_pipe() {
    let orch = Orch::empty();
    let task = "Create a User model with authentication,\nand then everything else that one could possibly ask for in one task";
    for name in ["short", "a_pipeline_with_quite_a_long_name_that_takes_room"] {
        let file = format!("pipelines/{name}.yaml");
        let inputs = "inputs: { task: { type: string } }";
        orch.write(
            &file,
            &format!("name: {name}\n{inputs}\nsteps:\n  - {{ id: say, run: [echo, '{{{{ task }}}}'] }}\n"),
        );
        orch.run(&["pipeline", "run", &file, "--task", task, "-q"]).exits(0);
    }
    let whole = orch.run(&["runs", "list"]).exits(0).stdout;
    assert_eq!(whole.lines().count(), 2, "{whole}");
    let every = whole.lines().all(|line| line.ends_with(&task.replace('\n', " ")));
    assert!(every && whole.contains("a_pipeline_with_quite_a_long_name_that_takes_room"), "{whole}");
    for size in SIZES {
        let screen = on_terminal(&orch, size, &[], &["runs", "list"]).screen();
        let used: Vec<&String> = screen.iter().filter(|row| !row.is_empty()).collect();
        assert_eq!(used.len(), 2, "{screen:#?}");
        let at = |row: &str| row.find("Create").map(|at| row[..at].chars().count());
        assert!(at(used[0]).is_some() && at(used[0]) == at(used[1]), "{screen:#?}");
        assert!(used.iter().all(|row| row.ends_with('…')), "{screen:#?}");
    }
}

#[test]
fn descriptions_of_steps_are_aligned_for_names_of_any_length() {
    let orch = Orch::empty();
    let long = "a_step_whose_name_is_longer_than_two_fifths_of_eighty_columns";
    orch.write(
        "pipelines/main.yaml",
        &format!(
            "name: main\nsteps:\n  - {{ id: a, run: \"true\" }}\n  - {{ id: a_rather_long_name, run: \"true\" }}\n  - {{ id: {long}, run: \"true\" }}\n"
        ),
    );
    let run = on_terminal(&orch, (80, 24), &[], &RUN).screen();
    let shown = on_terminal(&orch, (80, 24), &[], &["runs", "show"]).screen();
    let piped: Vec<String> = orch.run(&["runs", "show"]).exits(0).stdout.lines().map(str::to_owned).collect();
    let is_on_one_line = |row: &String| row.contains(long) && row.contains("completed, ");
    assert!(piped.iter().any(is_on_one_line) && !shown.iter().any(is_on_one_line), "{piped:#?}");
    for text in [run, shown, piped] {
        let places = text
            .iter()
            .filter(|row| !row.starts_with("run "))
            .filter_map(|row| row.find("completed, ").map(|at| row[..at].chars().count()));
        let places: Vec<usize> = places.collect();
        assert!(places.len() == 3 && places.iter().all(|at| *at == places[0]), "{text:#?}");
    }
}

/// The pipelines and the settings of a project whose lists have long texts.
fn project_with_long_texts() -> Orch {
    const LONG: &str = "a text that is so long that it has to continue in more than one line of an ordinary terminal";
    let orch = Orch::empty();
    orch.write(
        "pipelines/main.yaml",
        &format!(
            "name: main\ndescription: Begin of {LONG} end.\ninputs:\n  word: {{ type: string, default: none }}\n\
             steps:\n\
             \x20 - {{ id: skip_me, when: \"word == '{LONG}'\", run: \"true\" }}\n\
             \x20 - {{ id: ask, approve: \"Begin of {LONG} end.\" }}\n"
        ),
    );
    orch.run(&RUN).exits(3);
    orch.write(
        "orch.yaml",
        "mcp:\n  docs: { command: [a-server, --with, several, --options, and, --more, --of, --them] }\n",
    );
    orch
}

/// Runs a command on a terminal, and returns what it prints.
fn printed_lines(orch: &Orch, columns: u16, args: &[&str]) -> Vec<String> {
    let mut command = terminal_command(orch, (columns, 50), &[], args);
    command.env("OLLAMA_HOST", "127.0.0.1:9").env("XDG_CONFIG_HOME", orch.configuration());
    let ran = RunOutput::of(&command.output().unwrap());
    ran.stdout.lines().map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn a_row_of_a_list_continues_below_its_last_column() {
    let orch = project_with_long_texts();
    for (args, first, last) in [
        (&["pipeline", "list"][..], "Begin of", "end."),
        (&["pipeline", "show", "main"], "Begin of", "end."),
        (&["doctor"], "docs: command", " its"),
        (&["runs", "events"], "Begin of", "end."),
        (&["runs", "show"], "skipped,", "false"),
    ] {
        let lines = printed_lines(&orch, 80, args);
        assert!(lines.iter().all(|line| line.chars().count() <= 80 || !line.trim().contains(' ')), "{lines:#?}");
        let begin = lines.iter().position(|line| line.contains(first)).unwrap_or_else(|| panic!("{first}: {lines:#?}"));
        let column = lines[begin].find(first).map(|at| lines[begin][..at].chars().count()).unwrap();
        let length = lines[begin..].iter().position(|line| line.contains(last)).unwrap();
        assert!(length > 0, "{args:?}: {lines:#?}");
        for line in &lines[begin + 1..=begin + length] {
            assert_eq!(line.len() - line.trim_start().len(), column, "{args:?}: {lines:#?}");
        }
    }
}

#[test]
fn rows_of_narrow_terminals_have_an_indent() {
    let orch = project_with_long_texts();
    let lines = printed_lines(&orch, 40, &["explain"]);
    assert!(lines.iter().all(|line| line.starts_with("ORCH") || line.starts_with("          ")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("   ")), "{lines:#?}");
    for args in [&["runs", "list"][..], &["pipeline", "list"]] {
        let lines = printed_lines(&orch, 30, args);
        assert!(lines.len() > 1 && !lines[0].starts_with(' '), "{lines:#?}");
        assert!(lines[1..].iter().all(|line| line.starts_with("    ")), "{lines:#?}");
    }
}
