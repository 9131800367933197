//! `pipelines/fix.yaml` on small projects whose tests fail, with a scripted model in every dialect.

use std::process::Command;

use serde_json::{Value, json};

use super::dialects::{DIALECTS, ToolCall};
use super::{ScriptedTurn, answer, calls, last_results, scripted_server, use_dialect};
use crate::support::sandbox::reaches_full;
use crate::support::{Orch, print_skipped};

/// A project whose tests fail, and how the model fixes it.
struct BrokenProject {
    /// The program that its tests need.
    program: &'static str,
    files: &'static [(&'static str, &'static str)],
    /// The command that runs the tests.
    test: &'static str,
    /// The calls of the model between the two runs of the tests, turn by turn.
    turns: Vec<Vec<ToolCall>>,
    /// The file with the mistake, and its content after the fix.
    fixed: (&'static str, &'static str),
}

const SUM: &str = "echo $(($1 - $2))\n";
const SUM_TEST: &str = "[ \"$(sh sum.sh 2 3)\" = 5 ] || { echo \"2 + 3 is not 5\"; exit 1; }\n";
const CALC: &str = "def mean(numbers):\n    return sum(numbers) / (len(numbers) - 1)\n";
const CALC_TEST: &str = "import unittest\n\nfrom calc import mean\n\n\nclass Mean(unittest.TestCase):\n    def test_mean(self):\n        self.assertEqual(mean([1, 2, 3]), 2)\n";
const SLUG: &str = "module.exports = (title) => title.toLowerCase().replace(\" \", \"-\");\n";
const SLUG_TEST: &str = "const assert = require(\"assert\");\nconst slug = require(\"./slug.js\");\nassert.strictEqual(slug(\"A b C\"), \"a-b-c\");\n";
const MAX: &str = "int max(int a, int b) { return a < b ? a : b; }\n";
const MAX_TEST: &str = "int max(int, int);\nint main(void) { return max(2, 3) == 3 && max(3, 2) == 3 ? 0 : 1; }\n";
const TOTAL: &str = "{ total += $1 }\nEND { print total }\n";
const TOTAL_TEST: &str = "[ \"$(printf 'a 1\\nb 2\\n' | awk -f lib/total.awk)\" = 3 ]\n";

fn edit(path: &str, old: &str, new: &str) -> ToolCall {
    ("edit", json!({ "path": path, "old": old, "new": new }))
}

fn read(path: &str) -> ToolCall {
    ("read", json!({ "path": path }))
}

fn broken_projects() -> Vec<BrokenProject> {
    vec![
        BrokenProject {
            program: "sh",
            files: &[("sum.sh", SUM), ("test.sh", SUM_TEST)],
            test: "sh test.sh",
            turns: vec![vec![read("sum.sh"), read("test.sh")], vec![edit("sum.sh", "$1 - $2", "$1 + $2")]],
            fixed: ("sum.sh", "echo $(($1 + $2))\n"),
        },
        BrokenProject {
            program: "python3",
            files: &[("calc.py", CALC), ("test_calc.py", CALC_TEST)],
            test: "python3 -B -m unittest -q",
            turns: vec![
                vec![("search", json!({ "regex": "def mean", "glob": "*.py" }))],
                vec![read("calc.py")],
                vec![edit("calc.py", "(len(numbers) - 1)", "len(numbers)")],
            ],
            fixed: ("calc.py", "def mean(numbers):\n    return sum(numbers) / len(numbers)\n"),
        },
        BrokenProject {
            program: "node",
            files: &[("slug.js", SLUG), ("test.js", SLUG_TEST)],
            test: "node test.js",
            turns: vec![
                vec![("list", json!({})), read("slug.js")],
                vec![(
                    "write",
                    json!({ "path": "slug.js",
                        "content": "module.exports = (title) => title.toLowerCase().replaceAll(\" \", \"-\");\n" }),
                )],
            ],
            fixed: ("slug.js", "module.exports = (title) => title.toLowerCase().replaceAll(\" \", \"-\");\n"),
        },
        BrokenProject {
            program: "gcc",
            files: &[("max.c", MAX), ("main.c", MAX_TEST)],
            test: "gcc -o \"$TMPDIR/main\" max.c main.c && \"$TMPDIR/main\"",
            // The first edit does not fit the file, and its result says so.
            turns: vec![vec![edit("max.c", "a > b ? b : a", "b")], vec![read("max.c")], vec![edit("max.c", "<", ">")]],
            fixed: ("max.c", "int max(int a, int b) { return a > b ? a : b; }\n"),
        },
        BrokenProject {
            program: "awk",
            files: &[("lib/total.awk", TOTAL), ("test.sh", TOTAL_TEST)],
            test: "sh test.sh",
            turns: vec![
                vec![("search", json!({ "regex": "total" })), ("list", json!({ "glob": "**" }))],
                vec![("shell", json!({ "command": "sed -i 's/\\$1/$2/' lib/total.awk && cat lib/total.awk" }))],
            ],
            fixed: ("lib/total.awk", "{ total += $2 }\nEND { print total }\n"),
        },
    ]
}

/// The turns of a model that runs the tests, fixes the project, runs the tests again, and reports.
fn turns_of(project: &BrokenProject) -> Vec<ScriptedTurn> {
    let test = || calls([("shell", json!({ "command": project.test }))]);
    let report = json!({
        "tests_pass": true,
        "cause": "A mistake in one expression.",
        "changes": [{ "file": project.fixed.0, "change": "Corrected the expression." }],
        "notes": [],
    });
    let fixes = project.turns.iter().map(|turn| calls(turn.clone()));
    [test()].into_iter().chain(fixes).chain([test(), answer(&report)]).collect()
}

fn is_installed(program: &str) -> bool {
    let search = format!("command -v {program}");
    Command::new("sh").args(["-c", &search]).output().is_ok_and(|output| output.status.success())
}

fn assert_fixed(project: &BrokenProject, dialect: &str) {
    let place = format!("{} in {dialect}", project.program);
    let server = scripted_server(turns_of(project));
    let orch = Orch::new();
    use_dialect(&orch, &server, dialect);
    for (name, content) in project.files {
        orch.write(&format!("workspace/{name}"), content);
    }
    let input = format!("test={}", project.test);
    let ran = orch.run(&["pipeline", "run", "pipelines/fix.yaml", "--input", &input, "--output", "json"]);
    assert_eq!(ran.code, 0, "{place}: {ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["result"]["exit_code"], 0, "{place}: {report:#}");
    let results = last_results(&server);
    assert!(!results[0].contains("[exit code 0]"), "{place}: {results:?}");
    assert!(results.last().unwrap().contains("[exit code 0]"), "{place}: {results:?}");
    let (name, content) = project.fixed;
    let (path, run) = (format!("workspace/{name}"), report["run"].as_str().unwrap());
    assert_eq!(orch.read(&path), content, "{place}");
    // The run knows what its tools changed.
    let diff = orch.run(&["runs", "diff", run]).exits(0).stdout;
    assert!(diff.contains(&format!("+++ b/{name}")), "{place}: {diff}");
    orch.run(&["runs", "revert", run]).exits(0);
    let broken = project.files.iter().find(|(file, _)| *file == name).unwrap().1;
    assert_eq!(orch.read(&path), broken, "{place}");
}

#[test]
fn the_pipeline_fix_makes_the_tests_of_broken_projects_pass_in_every_dialect() {
    if !reaches_full() {
        return;
    }
    for project in broken_projects() {
        if !is_installed(project.program) {
            print_skipped("a broken project is not tested", &format!("`{}` is not installed", project.program));
            continue;
        }
        for dialect in DIALECTS {
            assert_fixed(&project, dialect);
        }
    }
}
