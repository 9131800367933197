//! `orch doctor`.

use std::time::Duration;

use crate::agent;
use crate::config;
use crate::model::ProgramKind;
use crate::process::{self, Spec};
use crate::provider::served_models;
use crate::store::Journal;

use super::error::{CliError, Code};
use super::ui::Ui;
use super::{State, here, resolve, runtime};

/// Say what is set up and what is missing
///
/// Looks at the project, the keys in the environment, local model servers, agent programs, the
/// embedded model and the journal, and says what `model: auto` would be. Sends nothing outside this machine.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    state: State,
}

/// What a program says about itself; `None` when it is not here.
fn version(program: &str) -> Option<String> {
    let spec = Spec {
        argv: vec![program.to_owned(), "--version".to_owned()],
        cwd: std::env::temp_dir(),
        env: std::env::vars().collect(),
        stdin: None,
        timeout: Some(Duration::from_secs(10)),
        cap: 4096,
        most: None,
    };
    let ended = runtime().ok()?.block_on(process::run(&spec, &|_, _| {})).ok()?;
    (ended.code == 0).then(|| ended.stdout.text().lines().next().unwrap_or_default().trim().to_owned())
}

pub(super) fn run(args: &Args, ui: &Ui) -> Result<Code, CliError> {
    let here = here()?;
    let root = super::runs::root(&here);
    let mut bad = 0;
    let mut line = |ok: Option<bool>, name: &str, words: String| {
        let mark = match ok {
            Some(true) => ui.out_style.good("ok  "),
            Some(false) => ui.out_style.bad("bad "),
            None => ui.out_style.dim("-   "),
        };
        bad += usize::from(ok == Some(false));
        ui.data(&format!("{mark} {name:<11} {words}"))
    };
    line(
        Some(true),
        "orch",
        format!("{} ({} {})", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH),
    )?;
    let pipelines = super::runs::pipelines(&root);
    let words =
        format!("{} with {} pipeline{}", root.display(), pipelines.len(), if pipelines.len() == 1 { "" } else { "s" });
    line((!pipelines.is_empty()).then_some(true), "project", words)?;
    let settings = match config::load_settings(&super::session::given(&root, &here)) {
        Ok(settings) => settings,
        Err(findings) => {
            ui.findings(&findings);
            line(Some(false), "orch.yaml", "it can't be used; see above".to_owned())?;
            config::Settings::default()
        }
    };
    let models = resolve::models(&settings);
    for name in models.providers() {
        let Some(endpoint) = models.endpoint(name) else {
            continue;
        };
        let Some(variable) = &endpoint.key_variable else {
            continue;
        };
        let set = endpoint.api_key.is_some();
        line(set.then_some(true), name, format!("{variable} is {}set", if set { "" } else { "not " }))?;
    }
    if let Some(endpoint) = models.endpoint("ollama") {
        let answer = runtime()?.block_on(served_models(&endpoint.base_url, Duration::from_millis(300)));
        match answer {
            Ok(list) => line(Some(true), "ollama", format!("{} answers with {}", endpoint.base_url, list.join(", ")))?,
            Err(_) => line(None, "ollama", format!("nothing answers at {}", endpoint.base_url))?,
        }
    }
    for kind in [ProgramKind::Claude, ProgramKind::Codex] {
        let name = kind.as_str();
        match version(name) {
            Some(version) => line(Some(true), name, version)?,
            None => line(None, name, format!("not installed; {}", agent::missing(kind, name)))?,
        }
    }
    #[cfg(feature = "local")]
    for spec in local_llm::catalog::all() {
        let there = local_llm::weights::installed(models.cache(), spec).is_some();
        let words = format!(
            "{} ({}), {}",
            spec.title,
            crate::report::human::bytes(spec.bytes),
            if there { "here" } else { "not downloaded" }
        );
        line(there.then_some(true), "local", words)?;
    }
    match Journal::open_existing(&args.state.folder(&root)) {
        Ok(None) => line(None, "journal", "no runs yet".to_owned())?,
        Ok(Some(journal)) => match journal.integrity() {
            Ok(None) => {
                let count = journal.runs(usize::MAX)?.len();
                let runs = if count == 1 { "run" } else { "runs" };
                line(Some(true), "journal", format!("{count} {runs} in {}", journal.state().display()))?;
            }
            Ok(Some(what)) => line(Some(false), "journal", format!("damaged: {what}"))?,
            Err(error) => line(Some(false), "journal", error.to_string())?,
        },
        Err(error) => line(Some(false), "journal", error.to_string())?,
    }
    Ok(if bad == 0 { Code::Ok } else { Code::Usage })
}
