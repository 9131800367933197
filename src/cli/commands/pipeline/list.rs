//! `orch pipeline list`.

use anyhow::Result;

use crate::cli::args::OutputFormat;
use crate::cli::output::Ui;
use crate::diagnostic::Diagnostic;
use crate::model::visible::escape_line_breaks;
use crate::report::to_printable;
use crate::report::width::{display_width, pad_end};
use crate::runner::execute::resolve_path;
use crate::runner::project_state::{pipeline_files, project_root};
use crate::runner::{Environment, ExitStatus};
use crate::{check, config};

/// List the pipelines of a project
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ListArgs {
    /// The output format
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: OutputFormat,
}

pub(super) fn run(args: &ListArgs, ui: &Ui) -> Result<ExitStatus> {
    let environment = Environment::from_process()?;
    let current_dir = environment.current_dir();
    let root = project_root(current_dir);
    let mut rows = Vec::new();
    let (paths, findings) = pipeline_files(&root, current_dir);
    for path in paths {
        let display_path = path.strip_prefix(current_dir).unwrap_or(&path).display().to_string();
        rows.push(match config::load_from(&environment.sources(), &resolve_path(&path, current_dir)) {
            Ok(project) if check::check(&project).iter().any(Diagnostic::is_error) => (
                display_path,
                project.pipeline.name,
                "has errors; see `orch pipeline validate`".to_owned(),
                project.pipeline.steps.len(),
            ),
            Ok(project) => (
                display_path,
                project.pipeline.name,
                project.pipeline.description.unwrap_or_default(),
                project.pipeline.steps.len(),
            ),
            Err(_) => (display_path, "-".to_owned(), "can't be read; see `orch pipeline validate`".to_owned(), 0),
        });
    }
    ui.print_findings(&findings);
    let code = if findings.iter().any(Diagnostic::is_error) { ExitStatus::Usage } else { ExitStatus::Success };
    if args.output == OutputFormat::Json {
        let entries: Vec<_> = rows
            .iter()
            .map(|(path, name, description, steps)| serde_json::json!({ "path": path, "name": name, "description": description, "steps": steps }))
            .collect();
        ui.write_data(&format!("{:#}", serde_json::Value::from(entries)))?;
        return Ok(code);
    }
    if rows.is_empty() && findings.is_empty() {
        ui.print_message(format!(
            "there are no pipelines in `{}`\n\n{} `orch init` creates a project with one",
            root.join("pipelines").display(),
            ui.stderr_style.bold("hint:")
        ));
    }
    let lines = rows.iter().map(|(path, name, description, _)| {
        (printable_line(path), printable_line(name), escape_line_breaks(description.trim_end()))
    });
    let lines: Vec<_> = lines.collect();
    let path_width = lines.iter().map(|(path, ..)| display_width(path)).max().unwrap_or(0);
    let name_width = lines.iter().map(|(_, name, _)| display_width(name)).max().unwrap_or(0);
    for (path, name, description) in lines {
        let (path, name) = (pad_end(&path, path_width), ui.stdout_style.bold(pad_end(&name, name_width)));
        ui.write_row(&format!("{path}  {name}  "), &description)?;
    }
    Ok(code)
}

/// A text in one line, without unsafe characters.
fn printable_line(text: &str) -> String {
    to_printable(&escape_line_breaks(text)).into_owned()
}
