//! Generated scripts: those with a known output print it, and in all others, values have the effect of plain words.

use orch::template::ShellScript;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tempfile::TempDir;

use super::{HOSTILE_VALUES, TestedShell, render, shells, temporary_folder};

/// A script and its output. `@` stands for a value.
#[derive(Clone, Debug)]
struct SampleScript {
    text: String,
    output: String,
}

/// Words, and the texts that a command receives.
const WORDS: &[(&str, &str)] = &[
    ("@", "@"),
    ("\"@\"", "@"),
    ("'@'", "@"),
    ("a@b", "a@b"),
    ("\"it's @\"", "it's @"),
    ("'say \" @'", "say \" @"),
    ("\\\"@\\'", "\"@'"),
    ("@\"@\"'@'", "@@@"),
    ("x", "x"),
    ("a#@", "a#@"),
    ("$((1 + 2))", "3"),
    ("\"${y:-z}\"", "z"),
    ("${y:-'}'}", "}"),
];

fn simple_command() -> impl Strategy<Value = SampleScript> {
    vec(select(WORDS), 1..4).prop_map(|words| {
        let (mut text, mut output) = ("printf '<%s>'".to_owned(), String::new());
        for (word, received) in words {
            text.push_str(&format!(" {word}"));
            output.push_str(&format!("<{received}>"));
        }
        SampleScript { text, output }
    })
}

/// The ways to put a script into a larger one. `SCRIPT` stands for the script, `OUTPUT` for its output, `TRIMMED` for
/// its output as a substitution returns it, and `DELIMITER` for a text that the script does not contain.
const CONTEXTS: &[(&str, &str)] = &[
    ("# don't @ $( ` \"\nSCRIPT", "OUTPUT"),
    ("( SCRIPT\n)", "OUTPUT"),
    ("{ SCRIPT\n} | cat", "OUTPUT"),
    ("if true; then SCRIPT\nfi", "OUTPUT"),
    ("case @ in (@) SCRIPT\n;; *) printf no ;; esac", "OUTPUT"),
    ("case x in x) SCRIPT\nesac", "OUTPUT"),
    ("for i in a@; do printf '%s' \"$i\"; SCRIPT\ndone", "a@OUTPUT"),
    ("f() { SCRIPT\n}; f @", "OUTPUT"),
    ("v=@; printf '<%s>' \"$v\"; SCRIPT", "<@>OUTPUT"),
    ("printf '<%s>' \"$( SCRIPT\n)\"", "<TRIMMED>"),
    ("cat <<DELIMITER\nit's \"@\" $( SCRIPT\n)\nDELIMITER", "it's \"@\" TRIMMED\n"),
    ("cat <<-DELIMITER\n\t@\n\tDELIMITER\nSCRIPT", "@\nOUTPUT"),
    ("cat <<'DELIMITER'\n$( ` '\nDELIMITER\nSCRIPT", "$( ` '\nOUTPUT"),
    ("true && SCRIPT\nprintf '<%s>' \\\n@", "OUTPUT<@>"),
];

/// The context of backticks, in which some texts have another meaning.
const BACKTICKS: (&str, &str) = ("printf '<%s>' \"`SCRIPT`\"", "<TRIMMED>");

/// Returns the script in a larger one. In a substitution, orch refuses values after a heredoc.
fn in_context(script: &SampleScript, context: (&str, &str)) -> SampleScript {
    if context.0.contains("$( SCRIPT") && script.text.contains("<<") {
        return script.clone();
    }
    let trimmed = script.output.trim_end_matches('\n');
    let output = context.1.replace("TRIMMED", trimmed).replace("OUTPUT", &script.output);
    // A script is longer than the scripts in it, so their delimiters differ.
    let delimiter = format!("E{}", script.text.len());
    let text = context.0.replace("DELIMITER", &delimiter).replace("SCRIPT", &script.text);
    SampleScript { text, output }
}

fn in_backticks(script: SampleScript) -> SampleScript {
    let is_plain = !script.text.contains(['`', '\\', '#']) && !script.text.contains("<<");
    if is_plain { in_context(&script, BACKTICKS) } else { script }
}

fn one_after_the_other(first: &SampleScript, second: &SampleScript) -> SampleScript {
    let text = format!("{}\n{}", first.text, second.text);
    SampleScript { text, output: format!("{}{}", first.output, second.output) }
}

fn known_script() -> impl Strategy<Value = SampleScript> {
    simple_command().prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            5 => (inner.clone(), select(CONTEXTS)).prop_map(|(script, context)| in_context(&script, context)),
            1 => inner.clone().prop_map(in_backticks),
            2 => (inner.clone(), inner).prop_map(|(first, second)| one_after_the_other(&first, &second)),
        ]
    })
}

/// Parts of scripts, separated by `¦`, for scripts of which most are invalid. None of them repeats anything, or changes
/// files outside of the current folder.
const PARTS: &str = "@¦@¦@¦@¦ ¦ ¦ ¦\n¦\n¦; ¦'¦\"¦\\¦$¦$(¦)¦`¦${x:-¦${y#¦}¦$((¦))¦(¦((¦<<E\n¦\nE\n¦<<'E'\n¦<<-E\n¦\tE\n¦#¦ # don't ¦\
     echo ¦printf '<%s>' ¦cat ¦case x in ¦x) ¦ ;; ¦ esac ¦a=¦b[¦]=¦[[ ¦ ]] ¦ -eq ¦if true; then ¦ fi ¦{ ¦; }¦( ¦\
     \"$(¦)\"¦eval ¦&& ¦|| ¦| cat ¦for i in ¦; do ¦ done ¦${i}¦f() ¦$'¦$\"¦$[¦]¦\\\n¦x¦=¦1¦[ ¦ ]¦> ¦<<<¦=~¦*¦~¦\
     {a,¦-v ¦printf -v ¦export ¦local ¦sh -c ¦declare -i ¦unset ¦read ¦test ¦command ¦let ¦! ";

fn part() -> impl Strategy<Value = &'static str> {
    select(PARTS.split('¦').collect::<Vec<_>>())
}

/// A folder with the only programs of the random scripts, and an empty folder in which they run.
struct ScriptFolder(TempDir);

impl ScriptFolder {
    fn new() -> Self {
        let folder = temporary_folder();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        for name in ["cat", "sh"] {
            std::os::unix::fs::symlink(format!("/bin/{name}"), folder.path().join("bin").join(name)).unwrap();
        }
        Self(folder)
    }

    /// Runs a script. Returns what it printed, its exit code, and whether it executed its value.
    fn run(&self, shell: &TestedShell, script: &ShellScript) -> (String, Option<i32>, bool) {
        let work = tempfile::tempdir_in(self.0.path()).unwrap();
        let mut values = script.values.clone();
        values.push(("PATH".to_owned(), self.0.path().join("bin").display().to_string()));
        let (output, code) = shell.run(&ShellScript { script: script.script.clone(), values }, work.path());
        // A script can print the name of its folder: `export` alone prints all exported variables.
        let output = output.replace(&work.path().display().to_string(), "FOLDER");
        // A process in the background may write a file while this folder is removed, so errors of that are ignored.
        let was_executed = work.path().join("hacked").exists();
        (output, code, was_executed)
    }
}

/// Checks that values in a script have the effect of words in their places, and that no shell executes them.
fn check_random_script(shell: &TestedShell, text: &str, folder: &ScriptFolder) -> Result<(), TestCaseError> {
    let Ok(script) = render(text, "word") else { return Ok(()) };
    let direct = ShellScript { script: text.replace('@', "word"), values: script.values.clone() };
    // What processes in the background and in pipelines print can depend on their speed.
    let (mut expected, mut actual) = (vec![folder.run(shell, &direct)], vec![folder.run(shell, &script)]);
    while expected.len() < 50 && !actual.iter().any(|result| expected.contains(result)) {
        expected.push(folder.run(shell, &direct));
        actual.push(folder.run(shell, &script));
    }
    let is_equal = actual.iter().any(|result| expected.contains(result));
    let (expected, actual) = (&expected[0], &actual[0]);
    let (name, arguments) = (shell.name, shell.arguments);
    prop_assert!(is_equal, "{name} {arguments:?}\n{}\n{actual:?}\n{expected:?}", script.script);
    for value in HOSTILE_VALUES.iter().take(5) {
        let Ok(hostile) = render(text, value) else { continue };
        let (output, _, was_executed) = folder.run(shell, &hostile);
        prop_assert!(!was_executed, "{} executed {value:?}\n{}", shell.name, script.script);
        let has_reference = output.contains("${ORCH_VALUE");
        prop_assert!(!has_reference, "{} printed a reference\n{}\n{output}", shell.name, script.script);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_script_of_known_parts_prints_its_values(sample in known_script(), value in select(HOSTILE_VALUES)) {
        let script = render(&sample.text, value);
        let script = script.map_err(|error| TestCaseError::fail(format!("{}\n{error}", sample.text)))?;
        for shell in shells() {
            let folder = temporary_folder();
            let (output, _) = shell.run(&script, folder.path());
            prop_assert_eq!(&output, &sample.output.replace('@', value), "{} {}", shell.name, script.script);
            prop_assert!(!folder.path().join("hacked").exists(), "{} {}", shell.name, script.script);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_in_any_accepted_script_has_the_effect_of_a_word(parts in vec(part(), 2..14)) {
        let text = parts.concat();
        // The process id differs, a word would become a part of the name `x`, and templates read the other texts.
        let is_excluded = ["$$", "$x", "{{", "{%", "{#"].iter().any(|excluded| text.contains(excluded));
        if !is_excluded && text.contains('@') && render(&text, "word").is_ok() {
            let folder = ScriptFolder::new();
            for shell in shells() {
                check_random_script(&shell, &text, &folder)?;
            }
        }
    }
}
