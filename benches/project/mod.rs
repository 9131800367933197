//! Projects with pipelines of many steps; for the benches.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that can't go on fails")]
#![allow(dead_code, reason = "no bench uses everything")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// The arguments that run the pipeline of a project.
pub(crate) const RUN: [&str; 4] = ["pipeline", "run", "pipelines/main.yaml", "-q"];

/// A command of orch in a folder.
pub(crate) fn orch(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orch"));
    command.args(args).current_dir(folder);
    command
}

/// A project with one pipeline of these steps; its models are at `address`.
pub(crate) fn project(steps: &str, address: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let provider = format!("providers:\n  lab: {{ dialect: openai, base_url: \"http://{address}/v1\" }}\n");
    write("orch.yaml", &(provider + "limits: { max_concurrency: 200 }\n"));
    write("prompts/p.md", "Say yes.\n");
    write("pipelines/main.yaml", &format!("name: main\nagents:\n  a: {{ model: lab/m }}\nsteps:\n{steps}"));
    folder
}

/// Steps that each run `true`, and see nothing of the workspace.
pub(crate) fn commands(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, index| {
        let _ = writeln!(text, "  - {{ id: s{index}, run: [\"true\"], access: none }}");
        text
    })
}

/// Steps that each ask a model, whose answer is an artifact.
pub(crate) fn agents(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, index| {
        let step = format!("id: s{index}, agent: a, prompt: p.md, schema: any, output: o{index}, message: go");
        let _ = writeln!(text, "  - {{ {step} }}");
        text
    })
}

/// One step that asks a model about so many items, up to 200 at once.
pub(crate) fn items(count: usize) -> String {
    let list = (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
    let step = "id: each, agent: a, prompt: p.md, schema: any, output: all, max_parallel: 200";
    format!("  - {{ {step}, for_each: \"[{list}]\", message: \"{{{{ item }}}}\" }}\n")
}
