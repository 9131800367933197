//! `orch init`.

use std::path::PathBuf;

use super::error::{CliError, Code};
use super::here;
use super::ui::Ui;

/// Make a new project: pipelines, prompts, schemas, orch.yaml
///
/// Writes the default pipeline (plan, write the code, review it) with its prompts and schemas.
/// Files that are there already are left as they are.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder of the project
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

/// What a new project is made of: path and content.
const FILES: [(&str, &str); 10] = [
    ("pipelines/default.yaml", include_str!("../../pipelines/default.yaml")),
    ("prompts/planner.md", include_str!("../../prompts/planner.md")),
    ("prompts/coder.md", include_str!("../../prompts/coder.md")),
    ("prompts/reviewer.md", include_str!("../../prompts/reviewer.md")),
    ("schemas/plan.schema.json", include_str!("../../schemas/plan.schema.json")),
    ("schemas/code.schema.json", include_str!("../../schemas/code.schema.json")),
    ("schemas/review.schema.json", include_str!("../../schemas/review.schema.json")),
    ("schemas/pipeline.schema.json", include_str!("../../schemas/pipeline.schema.json")),
    ("schemas/orch.schema.json", include_str!("../../schemas/orch.schema.json")),
    ("orch.yaml", include_str!("orch.yaml")),
];

pub(super) fn run(args: &Args, ui: &Ui) -> Result<Code, CliError> {
    let folder = here()?.join(&args.folder);
    let mut kept = 0;
    for (name, text) in FILES {
        let path = folder.join(name);
        let io = |error: std::io::Error| CliError::could_not(format!("`{}` can't be written: {error}", path.display()));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
        match file {
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
    if kept < FILES.len() {
        ui.say(format!(
            "\n{} {go}orch pipeline run pipelines/default.yaml --task \"Create a User model with authentication\"",
            ui.style.strong("next:")
        ));
    }
    Ok(Code::Ok)
}
