//! What `orch pipeline resume --dry-run` says.

use crate::engine::{self, Plan};
use crate::model::StepKey;
use crate::model::event::Event;
use crate::model::visible::one_line;
use crate::store::{Fate, Rehearsal, gone};

use super::error::{CliError, Code};
use super::report::Output;
use super::runtime;
use super::ui::Ui;

/// Tells what a resume would do.
pub(super) fn rehearse(
    plan: &Plan,
    events: &[Event],
    from: Option<&StepKey>,
    output: Output,
    ui: &Ui,
) -> Result<Code, CliError> {
    let rehearsal = Rehearsal::new(events, from);
    // A rehearsal makes no call that could stop it.
    let told = runtime()?.block_on(engine::interpret(&rehearsal, plan));
    told.map_err(|stop| CliError::internal(format!("the rehearsal broke off: {stop}")))?;
    let planned: Vec<StepKey> = plan.announced().into_iter().map(|step| step.step).collect();
    let fates = rehearsal.fates().into_iter().map(|(step, fate)| match fate {
        Fate::Keep => ("keep", step, String::new()),
        Fate::Run(why) => ("run", step, why),
        Fate::Maybe(why) => ("maybe", step, why),
        Fate::Skip(why) => ("skip", step, why),
    });
    let gone = gone(events, &planned).into_iter().map(|step| ("gone", step, "the files no longer have it".to_owned()));
    let lines: Vec<(&str, StepKey, String)> = fates.chain(gone).collect();
    if output == Output::Json {
        let list: Vec<serde_json::Value> = lines
            .iter()
            .map(|(fate, step, why)| serde_json::json!({ "step": step, "fate": fate, "why": why }))
            .collect();
        ui.data(&format!("{:#}", serde_json::Value::from(list)))?;
        return Ok(Code::Ok);
    }
    for (fate, step, why) in lines {
        ui.text(&one_line(format!("{fate:<5} {step:<14} {why}").trim_end()))?;
    }
    Ok(Code::Ok)
}
