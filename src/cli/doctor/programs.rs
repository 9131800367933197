//! Which agent programs are here: the known ones with their versions, and those that the project's pipelines name.

use crate::session::execute::short_path;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agent;
use crate::cli::runtime;
use crate::config;
use crate::engine::environment;
use crate::model::step::Access;
use crate::model::{Program, ProgramKind};
use crate::process::{self, EndingGroups, ProgramSpec};
use crate::session::{Runner, SessionError};

use super::DoctorReport;

/// Tells of the programs; those that can be asked are given back.
pub(super) fn tell(
    pipelines: &[PathBuf],
    runner: &Runner,
    report: &mut DoctorReport<'_>,
) -> Result<Vec<Program>, SessionError> {
    let mut usable = Vec::new();
    for kind in [ProgramKind::Claude, ProgramKind::Codex] {
        let name = kind.as_str();
        match version(name, runner) {
            Some(version) => {
                report.line(Some(true), name, version)?;
                usable.push(bare(kind));
            }
            None => report.line(None, name, format!("not installed; {}", agent::missing(kind, name)))?,
        }
    }
    let here = runner.current_dir();
    for program in named(pipelines, here) {
        let (kind, name) = (program.kind, program.argv.first().cloned().unwrap_or_default());
        if let Some(path) = find(&name, here) {
            report.line(Some(true), kind.as_str(), path.display().to_string())?;
            usable.push(program);
        } else {
            let how = agent::missing(kind, &name);
            report.line(Some(false), kind.as_str(), format!("`{name}` is not installed; {how}"))?;
        }
    }
    Ok(usable)
}

fn bare(kind: ProgramKind) -> Program {
    let (argv, tools, env) = (Vec::new(), Vec::new(), Vec::new());
    Program { kind, argv, model: None, tools, max_turns: None, env, access: Access::None }
}

/// The programs behind `acp` and `command` of the pipelines, each once; files that can't be read are for `validate`.
fn named(pipelines: &[PathBuf], here: &Path) -> Vec<Program> {
    let mut found: Vec<Program> = Vec::new();
    for path in pipelines {
        let Ok(project) = config::load(&short_path(path, here)) else { continue };
        let programs = project.pipeline.agents.values().filter_map(|agent| agent.program(Access::None));
        for program in programs.filter(|program| !program.argv.is_empty()) {
            let program = Program { tools: Vec::new(), ..program };
            if found.iter().all(|known| known.argv != program.argv) {
                found.push(program);
            }
        }
    }
    found
}

/// The file that is started for a program's name.
fn find(name: &str, here: &Path) -> Option<PathBuf> {
    if name.contains(std::path::MAIN_SEPARATOR) {
        return Some(here.join(name)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What a program says about itself; `None` when it is not here.
fn version(program: &str, runner: &Runner) -> Option<String> {
    let spec = ProgramSpec {
        argv: vec![program.to_owned(), "--version".to_owned()],
        cwd: std::env::temp_dir(),
        // The project may have brought the program, which has no business with keys.
        env: environment(&*runner.environment.variables(), []),
        stdin: None,
        timeout: Some(Duration::from_secs(10)),
        cap: 4096,
        most: None,
        guard: runner.environment.guard().to_owned().into(),
        endings: EndingGroups::default(),
    };
    let run = async {
        let ended = process::run(&spec, &|_, _| {}).await;
        spec.endings.settled().await;
        ended
    };
    let ended = runtime().ok()?.block_on(run).ok()?;
    (ended.code == Some(0)).then(|| ended.stdout.text().lines().next().unwrap_or_default().trim().to_owned())
}
