//! `orch runs budget`: raises the budget of a run while another process executes it, or while it waits.

use anyhow::Result;

use crate::cli::args::StateArgs;
use crate::cli::output::{Ui, user_name};
use crate::cli::startup::runner;
use crate::model::budget::Budget;
use crate::model::event::{Event, Fact};
use crate::runner::{Delivery, ExitStatus, RaiseBudgetRequest, SentRaise};

/// Raise the budget of a run that is in progress or waits
///
/// The run keeps limits that are higher, and gets no limit that it does not have. The budgets of steps and agents stay
/// as they are. The exit code is 2 if the run has none of the limits. A run that stopped because its budget was used up
/// continues with `orch pipeline resume --budget`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RunsBudgetArgs {
    /// The ID of the run, or the start of it [default: the only run in progress]
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// The new limit in US dollars
    #[arg(long, value_name = "AMOUNT", value_parser = parse_usd)]
    usd: Option<f64>,

    /// The new limit of tokens
    #[arg(long, value_name = "COUNT")]
    tokens: Option<u64>,

    /// The new limit of seconds during which a process executes the run
    #[arg(long, value_name = "COUNT")]
    seconds: Option<u64>,

    /// The name of the person who raises the budget [default: the current user, from the variable USER, LOGNAME or
    /// USERNAME]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,

    #[command(flatten)]
    state: StateArgs,
}

/// Parses an amount of dollars.
fn parse_usd(text: &str) -> Result<f64, String> {
    let amount = text.parse().ok().filter(|usd: &f64| usd.is_finite() && *usd >= 0.0);
    amount.ok_or_else(|| format!("`{text}` is not an amount of dollars"))
}

/// Says which of the wanted limits did not raise the budget that the run has now.
fn unraised_suffix(wanted: &Budget, budget: &Budget) -> String {
    let reasons = [
        unraised_reason("dollars", wanted.usd, budget.usd),
        unraised_reason("tokens", wanted.tokens, budget.tokens),
        unraised_reason("seconds", wanted.seconds, budget.seconds),
    ];
    let reasons: Vec<String> = reasons.into_iter().flatten().collect();
    if reasons.is_empty() { String::new() } else { format!("; not raised: {}", reasons.join(", and ")) }
}

fn unraised_reason<T: PartialOrd>(unit: &str, wanted: Option<T>, limit: Option<T>) -> Option<String> {
    let wanted = wanted?;
    match limit {
        None => Some(format!("the run has no limit of {unit}")),
        Some(limit) => (limit > wanted).then(|| format!("the limit of {unit} was higher already")),
    }
}

pub(super) fn run(args: &RunsBudgetArgs, ui: &Ui) -> Result<ExitStatus> {
    let runner = runner(ui)?;
    let RunsBudgetArgs { usd, tokens, seconds, .. } = *args;
    let limits = Budget { usd, tokens, seconds, ..Budget::default() };
    let request = RaiseBudgetRequest {
        run: args.run.clone(),
        state: args.state.state_folder(),
        limits: limits.clone(),
        user: args.by.clone().unwrap_or_else(user_name),
    };
    let SentRaise { message, budget } = runner.raise_budget(&request)?;
    let run = message.run;
    ui.print_message(match runner.wait_until_heard(&message)? {
        Delivery::Heard(events) => {
            let raise = events.iter().find_map(|Event { fact, .. }| match fact {
                Fact::BudgetRaised(raise) => Some(raise),
                _ => None,
            });
            match raise {
                Some(raise) => {
                    request.check_budget(run, &raise.budget)?;
                    format!("run {run}: {raise}{}", unraised_suffix(&limits, &raise.budget))
                }
                None => format!("run {run}: the run has taken the request"),
            }
        }
        Delivery::NotRunning => match budget {
            Some(budget) => {
                format!("the next resume of run {run} raises its budget{}", unraised_suffix(&limits, &budget))
            }
            None => format!(
                "the next resume of run {run} raises its budget, if it has these limits; orch can't read it now"
            ),
        },
        Delivery::NotHeard => format!("run {run} has the request; its process has not heard it yet"),
    });
    Ok(ExitStatus::Success)
}
