//! `orch init`.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use anyhow::Result;

use crate::cli::output::Ui;
use crate::cli::startup::current_dir;
use crate::config;
use crate::folder::{FolderAccess, NoFollowFile, NoFollowFolder};
use crate::runner::project_state::resolve_link;
use crate::runner::{ExitStatus, RunnerError};

/// Create a project: pipelines, prompts, schemas and orch.yaml
///
/// Writes the pipelines default (plan, code, review), fix, iterate, research and review-diff with their
/// prompts and schemas, and an orch.yaml. orch does not overwrite existing files.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct InitArgs {
    /// The folder to create the project in
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

/// Embeds files of this repository, as pairs of path and content.
macro_rules! embed_files {
    ($($name:literal,)+) => {
        [$(($name, include_str!(concat!("../../../../", $name)))),+]
    };
}

/// The files of a new project, except for orch.yaml.
const PROJECT_FILES: &[(&str, &str)] = &embed_files![
    "pipelines/default.yaml",
    "pipelines/fix.yaml",
    "pipelines/iterate.yaml",
    "pipelines/research.yaml",
    "pipelines/review-diff.yaml",
    "prompts/planner.md",
    "prompts/coder.md",
    "prompts/reviewer.md",
    "prompts/fix.md",
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
    "schemas/fix_report.schema.json",
    "schemas/questions.schema.json",
    "schemas/pipeline.schema.json",
    "schemas/orch.schema.json",
];

/// The orch.yaml of a new project.
const SETTINGS_FILE: (&str, &str) = ("orch.yaml", include_str!("orch.yaml"));

pub(in crate::cli) fn run(args: &InitArgs, ui: &Ui) -> Result<ExitStatus> {
    let folder = resolve_link(current_dir()?.join(&args.folder));
    let project_folder = NoFollowFolder::create(&folder, FolderAccess::Ordinary);
    let project_folder = project_folder
        .map_err(|error| RunnerError::usage(format!("`{}` can't be created: {error}", folder.display())))?;
    let mut existing_count = 0;
    for (name, text) in PROJECT_FILES.iter().chain([&SETTINGS_FILE]) {
        let path = folder.join(name);
        let write_error =
            |error: io::Error| RunnerError::usage(format!("`{}` can't be written: {error}", path.display()));
        match create(&project_folder.file(*name)) {
            Ok(mut file) => {
                io::Write::write_all(&mut file, text.as_bytes()).map_err(write_error)?;
                ui.print_message(format!("{} {name}", ui.stderr_style.success("created")));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                existing_count += 1;
                ui.print_message(format!("{} {name} (it already exists)", ui.stderr_style.dim("skipped")));
            }
            Err(error) => return Err(write_error(error).into()),
        }
    }
    let cd_command =
        if args.folder.as_os_str() == "." { String::new() } else { format!("cd {} && ", args.folder.display()) };
    if existing_count <= PROJECT_FILES.len() {
        ui.print_message(format!(
            "\n{} {cd_command}orch pipeline run pipelines/default.yaml --task \"Create a User model with authentication\"",
            ui.stderr_style.bold("next:")
        ));
    }
    Ok(ExitStatus::Success)
}

/// Creates an empty file. Empties the placeholder that orch creates in place of a missing `orch.yaml` while a confined
/// program runs, and does not replace it: the sandbox of the program protects this file, and would not protect another.
fn create(file: &NoFollowFile) -> io::Result<File> {
    match file.create_new() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && config::is_settings_placeholder(&file.path()) => {
            let placeholder = file.open_or_create()?;
            placeholder.set_len(0)?;
            Ok(placeholder)
        }
        created => created,
    }
}
