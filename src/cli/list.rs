//! `orch pipeline list`.

use crate::diagnostic::Diagnostic;
use crate::model::visible::one_line;
use crate::session::execute::short_path;
use crate::{check, config};

use super::here;
use super::report::OutputFormat;
use super::ui::Ui;
use crate::session::{ExitStatus, SessionError};

/// List the pipelines of a project
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    output: OutputFormat,
}

pub(super) fn run(args: &ListArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let here = here()?;
    let root = super::runs::root(&here);
    let mut rows = Vec::new();
    let (paths, unread) = super::runs::pipelines(&root, &here);
    for path in paths {
        let shown = path.strip_prefix(&here).unwrap_or(&path).display().to_string();
        rows.push(match config::load(&short_path(&path, &here)) {
            Ok(project) if check::check(&project).iter().any(Diagnostic::is_error) => (
                shown,
                project.pipeline.name,
                "has errors; see `orch pipeline validate`".to_owned(),
                project.pipeline.steps.len(),
            ),
            Ok(project) => (
                shown,
                project.pipeline.name,
                project.pipeline.description.unwrap_or_default(),
                project.pipeline.steps.len(),
            ),
            Err(_) => (shown, "-".to_owned(), "can't be read; see `orch pipeline validate`".to_owned(), 0),
        });
    }
    ui.findings(&unread);
    let code = if unread.iter().any(Diagnostic::is_error) { ExitStatus::Usage } else { ExitStatus::Success };
    if args.output == OutputFormat::Json {
        let list: Vec<_> = rows
            .iter()
            .map(|(path, name, description, steps)| serde_json::json!({ "path": path, "name": name, "description": description, "steps": steps }))
            .collect();
        ui.data(&format!("{:#}", serde_json::Value::from(list)))?;
        return Ok(code);
    }
    if rows.is_empty() && unread.is_empty() {
        ui.say(format!(
            "no pipelines in `{}`\n\n{} `orch init` makes a first one",
            root.join("pipelines").display(),
            ui.style.strong("hint:")
        ));
    }
    let shown = rows.iter().map(|row| (one_line(&row.0), one_line(&row.1), one_line(row.2.trim_end())));
    let shown: Vec<_> = shown.collect();
    let width = shown.iter().map(|row| row.0.len()).max().unwrap_or(0);
    for (path, name, description) in shown {
        ui.text(&format!("{path:<width$}  {}  {description}", ui.out_style.strong(name)))?;
    }
    Ok(code)
}
