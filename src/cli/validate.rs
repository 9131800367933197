//! `orch pipeline validate`.

mod fix;
mod watch;

use crate::session::execute::short_path;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::agent::ModelRegistry;
use crate::check;
use crate::config::{self, Sources};
use crate::diagnostic::{self, Diagnostic};
use crate::model::visible::one_line;
use crate::trust::Disclosures;

use super::findings::{FindingsFormat, Flags, tell};
use super::runner;
use super::ui::Ui;
use crate::session::models::{self, Missing};
use crate::session::{ExitStatus, Runner, SessionError};

/// Check pipelines, prompts and schemas without running anything
///
/// Reports everything that is wrong in one go, each finding with its file, line, column and what
/// to do. Without a path, every pipeline and test case of the project is checked. Exit code 0, or 2
/// with errors.
#[derive(Debug, clap::Args)]
pub(super) struct ValidateArgs {
    /// Pipelines by their files or names, test cases, or folders of them; all of `pipelines/` when left out
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    flags: Flags,

    /// Mend what can only be meant in one way, then check again
    #[arg(long)]
    fix: bool,

    /// With `--fix`, print what it would change first as a diff, and change nothing
    #[arg(long, requires = "fix", conflicts_with = "format")]
    dry_run: bool,

    /// Go on, and check again whenever a file changes, until Ctrl-C
    #[arg(long, conflicts_with = "fix")]
    watch: bool,
}

pub(super) fn run(args: &ValidateArgs, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let runner = runner(ui)?;
    if args.watch {
        return watch::run(args, &runner, ui);
    }
    once(args, &runner, ui)
}

fn once(args: &ValidateArgs, runner: &Runner, ui: &Ui) -> Result<ExitStatus, SessionError> {
    let here = runner.current_dir();
    let (paths, unread) = pipelines(&args.paths, here)?;
    let (mut found, missing) = match (args.fix, args.dry_run) {
        (true, true) => {
            let (found, missing) = check_all(&paths, runner);
            ui.data(&fix::diff(&found))?;
            (found, missing)
        }
        (true, false) => (fix::apply(&|| check_all(&paths, runner).0, ui)?, Missing::new()),
        (false, _) => check_all(&paths, runner),
    };
    found.extend(unread);
    diagnostic::sort(&mut found);
    let checked: Vec<String> = paths.iter().map(|path| shown(path)).collect();
    let what = if paths.iter().any(|path| config::is_case(path)) { "file" } else { "pipeline" };
    let code = tell(&args.flags, &checked, found, what, ui)?;
    if args.flags.format == FindingsFormat::Human {
        for note in disclosed(&paths, runner)? {
            ui.always(&one_line(&format!("{} {note}", ui.style.warn("note:"))));
        }
        for (variable, model) in missing {
            let note = format!("{} {variable} is not set; {model} needs it to run", ui.style.warn("note:"));
            ui.always(&one_line(&note));
        }
    }
    Ok(code)
}

/// The pipeline files that the arguments name, as short as they can be written, and what of folders was not looked at.
fn pipelines(given: &[PathBuf], here: &Path) -> Result<(Vec<PathBuf>, Vec<Diagnostic>), SessionError> {
    let mut unread = Vec::new();
    if given.is_empty() {
        let root = super::runs::root(here);
        let (mut all, unread) = super::runs::pipelines(&root, here);
        let cases = config::list_cases(&root);
        if !all.is_empty() {
            all.extend(cases.iter().map(|name| root.join(name)));
        }
        if all.is_empty() && !unread.iter().any(Diagnostic::is_error) {
            let error = SessionError::usage("there is no pipeline here");
            return Err(error.hint("`orch init` makes a project with a first pipeline"));
        }
        return Ok((all.iter().map(|path| short_path(path, here)).collect(), unread));
    }
    let mut out: Vec<PathBuf> = Vec::new();
    for path in given {
        let files = if path.is_dir() {
            let (below, problems) = config::pipelines_below(path);
            unread.extend(problems);
            if below.is_empty() && !unread.iter().any(Diagnostic::is_error) {
                let error = SessionError::usage(format!("there is no pipeline in `{}`", shown(path)));
                return Err(error.hint("pipelines are `.yaml` files, by custom in a folder `pipelines/`"));
            }
            below
        } else {
            vec![super::named::pipeline(path, here)?]
        };
        for file in files {
            let file = short_path(file.strip_prefix(".").unwrap_or(&file), here);
            if !out.contains(&file) {
                out.push(file);
            }
        }
    }
    Ok((out, unread))
}

/// The stack of a thread that checks: as large as that of a process.
const STACK: usize = 8 << 20;

/// What is wrong with any of the pipelines; a schema that two share is told of once. Keys that are not set are of the
/// machine and no finding: files that are fine stay so where nobody has a key.
fn check_all(paths: &[PathBuf], runner: &Runner) -> (Vec<Diagnostic>, Missing) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = paths.len().div_ceil(threads).max(1);
    let parts: Vec<(Vec<Diagnostic>, Missing)> = std::thread::scope(|scope| {
        let start = |part| {
            let thread = std::thread::Builder::new().stack_size(STACK);
            (part, thread.spawn_scoped(scope, move || check_each(part, runner)))
        };
        let started: Vec<_> = paths.chunks(share).map(start).collect();
        let ended = started.into_iter().map(|(part, thread)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // A system without a thread to spare has this one.
            Err(_) => check_each(part, runner),
        });
        ended.collect()
    });
    let (found, missing): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let mut found = found.into_iter().flatten().collect();
    diagnostic::sort(&mut found);
    (found, missing.into_iter().flatten().collect())
}

fn check_each(paths: &[PathBuf], runner: &Runner) -> (Vec<Diagnostic>, Missing) {
    let (mut found, mut missing) = (Vec::new(), Missing::new());
    for path in paths {
        if config::is_case(path) {
            found.extend(check::check_file(&Sources::default(), path));
            continue;
        }
        match config::load(path) {
            Ok(project) => {
                found.extend(check::check(&project));
                missing.extend(missing_keys(&project, runner));
            }
            Err(problems) => found.extend(problems),
        }
    }
    (found, missing)
}

fn missing_keys(project: &config::Project, runner: &Runner) -> Missing {
    let named = check::models(project);
    if named.is_empty() {
        return Missing::new();
    }
    let available = ModelRegistry::new(&project.settings, &runner.environment.variables(), PathBuf::new());
    models::missing_keys(&named, &available)
}

/// What the settings of the projects of some pipelines send away, a line each; those with mistakes are findings.
fn disclosed(paths: &[PathBuf], runner: &Runner) -> Result<Vec<String>, SessionError> {
    let roots: BTreeSet<PathBuf> = paths.iter().map(|path| config::find_root(path)).collect();
    let mut lines = Vec::new();
    for root in roots {
        let Ok(settings) = config::load_settings(&root) else { continue };
        let disclosures = Disclosures::of(&settings);
        let trusted = runner.is_trusted(&runner.current_dir().join(&root), &disclosures)?;
        for disclosure in disclosures.untrusted() {
            let way_out = if trusted { "" } else { "; a run needs `orch trust` first" };
            lines.push(format!("{disclosure}{way_out}"));
        }
    }
    Ok(lines)
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "/")
}
