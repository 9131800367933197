//! `orch init`.

use std::path::PathBuf;

use super::here;
use super::ui::Ui;
use crate::folder::{FolderAccess, OwnFolder};
use crate::session::{ExitStatus, SessionError};

/// Make a new project: pipelines, prompts, schemas, orch.yaml
///
/// Writes the pipelines default (plan, code, review), iterate, research and review-diff with their
/// prompts and schemas.
/// Files that are there already are left as they are.
#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    /// The folder of the project
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

/// The files of this repository that a new project begins with.
macro_rules! shipped {
    ($($name:literal,)+) => {
        [$(($name, include_str!(concat!("../../", $name)))),+]
    };
}

/// What a new project is made of: path and content.
const FILES: &[(&str, &str)] = &shipped![
    "pipelines/default.yaml",
    "pipelines/iterate.yaml",
    "pipelines/research.yaml",
    "pipelines/review-diff.yaml",
    "prompts/planner.md",
    "prompts/coder.md",
    "prompts/reviewer.md",
    "prompts/iterate-engineer.md",
    "prompts/iterate-reviewer.md",
    "prompts/iterate-tests.md",
    "prompts/research-planner.md",
    "prompts/research-answer.md",
    "prompts/research-writer.md",
    "prompts/diff.md",
    "prompts/diff-rules.md",
    "prompts/diff-correctness.md",
    "prompts/diff-security.md",
    "prompts/diff-design.md",
    "prompts/diff-judge.md",
    "schemas/plan.schema.json",
    "schemas/code.schema.json",
    "schemas/review.schema.json",
    "schemas/questions.schema.json",
    "schemas/pipeline.schema.json",
    "schemas/orch.schema.json",
];

/// The settings of a new project.
const SETTINGS: (&str, &str) = ("orch.yaml", include_str!("orch.yaml"));

pub(super) fn run(args: &InitArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let folder = crate::session::project_state::without_link(here()?.join(&args.folder));
    let made = OwnFolder::create(&folder, FolderAccess::Ordinary);
    let made = made.map_err(|error| SessionError::usage(format!("`{}` can't be made: {error}", folder.display())))?;
    let mut kept = 0;
    for (name, text) in FILES.iter().chain([&SETTINGS]) {
        let path = folder.join(name);
        let io = |error: std::io::Error| SessionError::usage(format!("`{}` can't be written: {error}", path.display()));
        match made.file(*name).create_new() {
            Ok(mut file) => {
                std::io::Write::write_all(&mut file, text.as_bytes()).map_err(io)?;
                ui.say(format!("{} {name}", ui.style.good("made")));
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                kept += 1;
                ui.say(format!("{} {name} (it was there)", ui.style.dim("kept")));
            }
            Err(error) => return Err(io(error)),
        }
    }
    let go = if args.folder.as_os_str() == "." { String::new() } else { format!("cd {} && ", args.folder.display()) };
    if kept <= FILES.len() {
        ui.say(format!(
            "\n{} {go}orch pipeline run pipelines/default.yaml --task \"Create a User model with authentication\"",
            ui.style.strong("next:")
        ));
    }
    Ok(ExitStatus::Success)
}
