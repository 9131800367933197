//! Parses the value of `--budget`.

use crate::model::budget::{Budget, Unpriced, Unreported};

/// Parses a value such as `usd=2,tokens=500000,seconds=3600`.
pub(in crate::cli) fn parse(text: &str) -> Result<Budget, String> {
    let mut budget = Budget::default();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` has no `=`"))?;
        let not_a_number = || format!("`{value}` is not a number for `{name}`");
        match name.trim() {
            "usd" => budget.usd = Some(value.trim().parse().ok().filter(|usd| *usd >= 0.0).ok_or_else(not_a_number)?),
            "tokens" => budget.tokens = Some(value.trim().parse().map_err(|_| not_a_number())?),
            "seconds" => budget.seconds = Some(value.trim().parse().map_err(|_| not_a_number())?),
            "unpriced" if value.trim() == "allow" => budget.unpriced = Some(Unpriced::Allow),
            "unpriced" => return Err(format!("`unpriced={value}` is not `unpriced=allow`")),
            "unreported" => {
                budget.unreported = Some(match value.trim() {
                    "estimate" => Unreported::Estimate,
                    "refuse" => Unreported::Refuse,
                    other => return Err(format!("`unreported={other}` is not `estimate` or `refuse`")),
                });
            }
            other => {
                return Err(format!(
                    "`{other}` is not `usd`, `tokens`, `seconds`, `unpriced=allow` or `unreported=refuse`"
                ));
            }
        }
    }
    Ok(budget)
}
