//! Files that can't be written.

use orch::model::FailureClass;

use super::{Case, ROW, Row, assert_hints_work};

const RESUME: &str = "orch pipeline resume RUN";
const CHANGED: &str = "orch pipeline resume RUN --accept-changed";
const PLAN: &str = "  - { id: plan, agent: a, prompt: plan.md, output: plan, schema: any, re_ask: 0 }\n";
/// A step whose output is the content of a file of the project.
const LIST: &str = "  - { id: list, run: [cat, \"{{ project.root }}/list.json\"], output: files, schema: any }\n";

/// A step lists files, and another one writes them.
fn list_and_write(case: &Case, list: &str) {
    case.pipeline("model: lab/test", &format!("{LIST}  - {{ id: put, write: files, inputs: [files] }}\n"));
    case.orch.write("list.json", list);
}

const GOOD_LIST: &str = "[{\"path\": \"a.txt\", \"content\": \"x\"}]";

/// Corrects the list where the command reads it: in its source, or in the artifact.
fn correct_list(case: &Case, command: &str) {
    if command == CHANGED {
        case.orch.write("workspace/files.json", GOOD_LIST);
    } else {
        case.orch.write("list.json", GOOD_LIST);
    }
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            class: FailureClass::PathRefused,
            setup: |case| list_and_write(case, "[{\"path\": \"../out.txt\", \"content\": \"x\"}]"),
            says: &["(path_refused)", "edit `files.json` in the workspace", "run `list` again"],
            commands: &[CHANGED, "orch pipeline resume RUN --from list"],
            repair: correct_list,
            ..ROW
        },
        // A folder has the name of the file.
        Row {
            class: FailureClass::PathRefused,
            setup: |case| {
                list_and_write(case, GOOD_LIST);
                case.orch.write("workspace/a.txt/inside", "y");
            },
            says: &["(path_refused)", "a.txt"],
            commands: &[RESUME, CHANGED, "orch pipeline resume RUN --from list"],
            repair: |case, _| std::fs::remove_dir_all(case.orch.path().join("workspace/a.txt")).unwrap(),
            ..ROW
        },
        // The step is in a loop, and only the whole loop can be repeated.
        Row {
            class: FailureClass::PathRefused,
            setup: |case| {
                let steps =
                    format!("{LIST}  - {{ id: put, write: files, inputs: [files] }}\n").replace("  - ", "        - ");
                let rounds = format!("  - id: rounds\n    repeat:\n      max: 1\n      steps:\n{steps}");
                case.pipeline("model: lab/test", &rounds);
                case.orch.write("list.json", "[{\"path\": \"../out.txt\", \"content\": \"x\"}]");
            },
            says: &["(path_refused)", "edit `files.json` in the workspace"],
            commands: &[CHANGED, "orch pipeline resume RUN --from rounds"],
            repair: correct_list,
            ..ROW
        },
        // The step is in a called pipeline.
        Row {
            class: FailureClass::PathRefused,
            setup: |case| {
                case.pipeline("model: lab/test", "  - { id: sub, pipeline: sub.yaml }\n");
                let steps = format!("{LIST}  - {{ id: put, write: files, inputs: [files] }}\n");
                case.orch.write("pipelines/sub.yaml", &format!("name: sub\nsteps:\n{steps}"));
                case.orch.write("list.json", "[{\"path\": \"../out.txt\", \"content\": \"x\"}]");
            },
            says: &["(path_refused)", "run `sub/list` again"],
            commands: &["orch pipeline resume RUN --from sub/list"],
            repair: correct_list,
            ..ROW
        },
        Row {
            class: FailureClass::PathRefused,
            setup: |case| {
                case.pipeline("model: lab/test", "  - { id: list, run: ls, cwd: nowhere }\n");
            },
            says: &["(path_refused)", "set it to a folder in the workspace"],
            repair: |case, _| case.edit("cwd: nowhere", "cwd: ."),
            ..ROW
        },
        Row {
            class: FailureClass::SchemaMismatch,
            setup: |case| list_and_write(case, "{\"n\": 1}"),
            says: &["(schema_mismatch)", "give a list of `{path, content}`"],
            commands: &[CHANGED, "orch pipeline resume RUN --from list"],
            repair: correct_list,
            ..ROW
        },
        Row {
            class: FailureClass::Storage,
            setup: |case| {
                let block = "  - { id: block, run: mkdir -p plan.json/in }\n";
                case.pipeline("model: lab/test", &format!("{block}{PLAN}"));
            },
            says: &["(storage)", "plan.json", "remove the folder that is in the place of a file"],
            repair: |case, _| std::fs::remove_dir_all(case.orch.path().join("workspace/plan.json")).unwrap(),
            ..ROW
        },
    ]
}

#[test]
fn hints_about_written_files_work() {
    assert_hints_work(&rows());
}
