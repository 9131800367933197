//! Files that can't be written.

use orch::model::FailureClass;

use super::{Case, ROW, Row, lead_out};

const RESUME: &str = "orch pipeline resume RUN";
const CHANGED: &str = "orch pipeline resume RUN --accept-changed";
const PLAN: &str = "  - { id: plan, agent: a, prompt: plan.md, output: plan, schema: any, re_ask: 0 }\n";
/// A step whose output is what stands in a file of the project.
const LIST: &str = "  - { id: list, run: [cat, \"{{ project.root }}/list.json\"], output: files, schema: any }\n";

/// Files that a step lists and another one writes.
fn written(case: &Case, list: &str) {
    case.pipeline("model: lab/test", &format!("{LIST}  - {{ id: put, write: files, inputs: [files] }}\n"));
    case.orch.write("list.json", list);
}

const GOOD_LIST: &str = "[{\"path\": \"a.txt\", \"content\": \"x\"}]";

/// The list is corrected where the command tells it from: in its source, or as the artifact.
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
            lay: |case| written(case, "[{\"path\": \"../out.txt\", \"content\": \"x\"}]"),
            says: &["(path_refused)", "edit `files.json` in the workspace", "run `list` again"],
            ways: &[CHANGED, "orch pipeline resume RUN --from list"],
            mend: correct_list,
            ..ROW
        },
        // A folder is where the file would be.
        Row {
            class: FailureClass::PathRefused,
            lay: |case| {
                written(case, GOOD_LIST);
                case.orch.write("workspace/a.txt/inside", "y");
            },
            says: &["(path_refused)", "a.txt"],
            ways: &[RESUME, CHANGED, "orch pipeline resume RUN --from list"],
            mend: |case, _| std::fs::remove_dir_all(case.orch.path().join("workspace/a.txt")).unwrap(),
            ..ROW
        },
        // In a round: only the whole loop is begun anew.
        Row {
            class: FailureClass::PathRefused,
            lay: |case| {
                let steps =
                    format!("{LIST}  - {{ id: put, write: files, inputs: [files] }}\n").replace("  - ", "        - ");
                let rounds = format!("  - id: rounds\n    repeat:\n      max: 1\n      steps:\n{steps}");
                case.pipeline("model: lab/test", &rounds);
                case.orch.write("list.json", "[{\"path\": \"../out.txt\", \"content\": \"x\"}]");
            },
            says: &["(path_refused)", "edit `files.json` in the workspace"],
            ways: &[CHANGED, "orch pipeline resume RUN --from rounds"],
            mend: correct_list,
            ..ROW
        },
        // In a pipeline that a step calls.
        Row {
            class: FailureClass::PathRefused,
            lay: |case| {
                case.pipeline("model: lab/test", "  - { id: sub, pipeline: sub.yaml }\n");
                let steps = format!("{LIST}  - {{ id: put, write: files, inputs: [files] }}\n");
                case.orch.write("pipelines/sub.yaml", &format!("name: sub\nsteps:\n{steps}"));
                case.orch.write("list.json", "[{\"path\": \"../out.txt\", \"content\": \"x\"}]");
            },
            says: &["(path_refused)", "run `sub/list` again"],
            ways: &["orch pipeline resume RUN --from sub/list"],
            mend: correct_list,
            ..ROW
        },
        Row {
            class: FailureClass::PathRefused,
            lay: |case| {
                case.pipeline("model: lab/test", "  - { id: list, run: ls, cwd: nowhere }\n");
            },
            says: &["(path_refused)", "set it to a folder in the workspace"],
            mend: |case, _| case.edit("cwd: nowhere", "cwd: ."),
            ..ROW
        },
        Row {
            class: FailureClass::SchemaMismatch,
            lay: |case| written(case, "{\"n\": 1}"),
            says: &["(schema_mismatch)", "give a list of `{path, content}`"],
            ways: &[CHANGED, "orch pipeline resume RUN --from list"],
            mend: correct_list,
            ..ROW
        },
        Row {
            class: FailureClass::Storage,
            lay: |case| {
                let block = "  - { id: block, run: mkdir -p plan.json/in }\n";
                case.pipeline("model: lab/test", &format!("{block}{PLAN}"));
            },
            says: &["(storage)", "plan.json", "remove the folder that is in the place of a file"],
            mend: |case, _| std::fs::remove_dir_all(case.orch.path().join("workspace/plan.json")).unwrap(),
            ..ROW
        },
    ]
}

#[test]
fn of_written_files() {
    lead_out(&rows());
}
