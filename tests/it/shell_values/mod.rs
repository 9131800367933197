//! Values in command lines, in real shells: a value arrives as one word or one text, whatever it contains, or orch
//! refuses its place.

mod generated;
mod table;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use orch::template::{ShellScript, TemplateContext, TemplateError, Templates};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Orch;
use table::{BASH_SCRIPTS, REFUSED_SCRIPTS, SCRIPTS};

/// Values that a script would run, split, expand or take as syntax, if a shell read them as a part of the script.
const HOSTILE_VALUES: &[&str] = &[
    "a'b\"c $(: >hacked) ; | & < > * ? \\n \n `: >hacked` end",
    "$(: >hacked)",
    "a[$(: >hacked)]",
    "-va[$(: >hacked)]",
    "($(: >hacked))",
    "'; : >hacked; '",
    "\n: >hacked\nE\n: >hacked #",
    "${ORCH_VALUE_1}",
    "\\",
    "",
];

/// A shell, with its arguments before `-c`.
struct TestedShell {
    name: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
}

impl TestedShell {
    fn find(name: &'static str, arguments: &'static [&'static str]) -> Option<Self> {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        // The folder of an absolute path has no effect.
        let program = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())?;
        Some(Self { name, program, arguments })
    }

    fn is_bash(&self) -> bool {
        self.name == "bash"
    }

    /// The standard output and the exit code of a script.
    fn run(&self, script: &ShellScript, folder: &Path) -> (String, Option<i32>) {
        let output = Command::new(&self.program)
            .args(self.arguments)
            .args(["-c", &script.script])
            .envs(script.values.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
    }
}

/// The shells of this machine; every system has `/bin/sh`.
fn shells() -> Vec<TestedShell> {
    const SHELLS: &[(&str, &[&str])] = &[("/bin/sh", &[]), ("dash", &[]), ("bash", &[]), ("bash", &["--posix"])];
    let found: Vec<TestedShell> =
        SHELLS.iter().filter_map(|&(name, arguments)| TestedShell::find(name, arguments)).collect();
    assert!(found.iter().any(|shell| shell.name == "/bin/sh"));
    found
}

/// Renders a command line in which `@` stands for a value.
fn render(line: &str, value: &str) -> Result<ShellScript, TemplateError> {
    let mut context = TemplateContext::new();
    context.insert("x", &json!(value));
    // A template drops the line end at its end.
    let template = format!("{}\n", line.replace('@', "{{ x }}"));
    Templates::new([]).unwrap().render_shell(&template, &context)
}

fn temporary_folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Runs a script with each hostile value in a shell, and compares its output.
fn check_script(shell: &TestedShell, line: &str, expected: &str) {
    for value in HOSTILE_VALUES {
        let folder = temporary_folder();
        let script = render(line, value).unwrap_or_else(|error| panic!("{line}\n{error}"));
        let (output, _) = shell.run(&script, folder.path());
        let context = format!("{} {:?}\n{line}\n{}\n{value:?}", shell.name, shell.arguments, script.script);
        assert_eq!(output, expected.replace('@', value), "{context}");
        assert!(!folder.path().join("hacked").exists(), "executed a value: {context}");
    }
}

#[test]
fn a_value_arrives_whole_and_is_not_executed() {
    for shell in shells() {
        for (line, expected) in SCRIPTS {
            check_script(&shell, line, expected);
        }
    }
}

#[test]
fn a_value_arrives_whole_in_the_words_of_bash() {
    let shells = shells();
    if !shells.iter().any(TestedShell::is_bash) {
        // `eprintln!` would print this only for tests that fail.
        let _ = writeln!(std::io::stderr(), "SKIPPED: bash is not installed");
    }
    for shell in shells.iter().filter(|shell| shell.is_bash()) {
        for (line, expected) in BASH_SCRIPTS {
            check_script(shell, line, expected);
        }
    }
}

#[test]
fn a_file_name_is_one_word_in_a_redirection() {
    for shell in shells() {
        let folder = temporary_folder();
        let script = render("printf hi >@; cat <@ >>d/'@'; cat d/@", "a b;*'\"$(: >hacked)").unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        assert_eq!(shell.run(&script, folder.path()).0, "hi", "{}", shell.name);
        assert!(!folder.path().join("hacked").exists());
    }
}

#[test]
fn other_places_are_refused_when_the_line_is_rendered() {
    for (line, reason) in REFUSED_SCRIPTS {
        let error = match render(line, "v") {
            Ok(script) => panic!("{line}\n{}", script.script),
            Err(error) => error,
        };
        assert!(error.message.contains("as one word") && error.message.contains(reason), "{line}\n{}", error.message);
        assert!(error.help.is_some_and(|help| help.contains("run: [PROGRAM") && help.contains("stdin")), "{line}");
    }
}

/// A pipeline with a step for each line. Step `sN` is on line N + 4.
fn pipeline<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut text = "name: main\ninputs: { x: { type: string } }\nsteps:\n".to_owned();
    for (index, line) in lines.enumerate() {
        let line = json!(line.replace('@', "{{ x }}"));
        text.push_str(&format!("  - {{ id: s{index}, access: none, run: {line} }}\n"));
    }
    text
}

/// The lines of the findings about a pipeline, and their messages.
fn findings(pipeline: &str) -> Vec<(usize, String)> {
    let folder = temporary_folder();
    let file = folder.path().join("pipelines/main.yaml");
    std::fs::create_dir(folder.path().join("pipelines")).unwrap();
    std::fs::write(&file, pipeline).unwrap();
    let findings = match orch::config::load(&file) {
        Ok(project) => orch::check::check(&project),
        Err(findings) => findings,
    };
    let line = |finding: &orch::diagnostic::Diagnostic| finding.line_column().map_or(0, |(line, _)| line);
    findings.iter().map(|finding| (line(finding), format!("{} {}", finding.code, finding.message))).collect()
}

#[test]
fn validate_refuses_the_same_places() {
    let found = findings(&pipeline(REFUSED_SCRIPTS.iter().map(|(line, _)| *line)));
    for (index, (line, reason)) in REFUSED_SCRIPTS.iter().enumerate() {
        let messages: Vec<_> = found.iter().filter(|(number, _)| *number == index + 4).collect();
        let is_expected = |(_, message): &&(usize, String)| message.contains(reason) && message.contains("ORCH0409");
        assert!(messages.iter().any(is_expected), "{line}\n{messages:?}");
    }
    let found = findings(&pipeline(SCRIPTS.iter().chain(BASH_SCRIPTS).map(|(line, _)| *line)));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn validate_checks_each_way_through_a_template() {
    for (line, is_accepted) in [
        ("{% if x == 'a' %}# don't {% endif %}echo {{ x }}", true),
        ("{% if x == 'a' %}echo '{% endif %}{{ x }}", false),
        ("echo {% if x == 'a' %}\"{% endif %}{{ x }}{% if x == 'a' %}\"{% endif %}", true),
        ("echo {% if x == 'a' %}\"a{% else %}\"b{% endif %} {{ x }}\"", true),
        ("{% for c in x | list %}echo {{ c }};{% endfor %}", true),
        ("echo {% for c in x | list %}'{{ c }} {% endfor %}", false),
        ("{% for c in x | list %}{% if loop.first %}echo{% endif %} {{ c }}{% endfor %}", false),
        ("echo {{ '-n' if x == 'a' }} {{ x }}", true),
        ("{% set y %}echo '{{ x }}{% endset %}printf '%s' {{ y }}", true),
        ("{% filter upper %}echo {{ x }}{% endfilter %}", false),
        ("{% raw %}echo '{{ x }}{% endraw %}' {{ x }}", true),
    ] {
        let found = findings(&pipeline([line].into_iter()));
        let is_refused = found.iter().any(|(_, message)| message.contains("ORCH0409"));
        assert_eq!(is_refused, !is_accepted, "{line}\n{found:?}");
    }
}

#[test]
fn a_refused_value_fails_its_step_before_the_shell_starts() {
    let orch = Orch::empty();
    // `validate` does not follow all the ways through so many conditions.
    let conditions: String = (0..80).map(|index| format!("{{% if x == 'n{index}' %}}{{% endif %}}")).collect();
    let line = format!("{conditions}: >started; echo {{% if x != 'a' %}}{{% else %}}'{{% endif %}}{{{{ x }}}}");
    orch.write("pipelines/main.yaml", &pipeline([line.as_str()].into_iter()));
    orch.run(&["pipeline", "validate", "pipelines/main.yaml"]).exits(0);
    let run = |input: &str| orch.run(&["pipeline", "run", "pipelines/main.yaml", "--output", "json", "--input", input]);
    let ran = run("x=a").exits(1);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let error = &report["steps"][0]["error"];
    assert_eq!(error["class"], "template_error", "{report:#}");
    assert!(error["message"].as_str().unwrap().contains("`'` before it is not closed"), "{report:#}");
    assert!(!orch.exists("workspace/started"));
    run("x=b").exits(0);
    assert!(orch.exists("workspace/started"));
}
