//! Formats numbers, durations and sizes for messages.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::cost::format_dollars_rounded;
use crate::model::{CostTotal, ReportedUsage, UsageTotal, counted};

/// Formats a duration: `0.8s`, `12.3s`, `4m 05s`, `2h 03m`.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// The time between two timestamps; zero if `end` is before `start`.
pub fn duration_between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

/// Formats a number: `640`, `12.4k`, `1.2M`.
pub fn format_count(number: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
    let value = number as f64;
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.1}k", value / 1e3),
        _ => format!("{:.1}M", value / 1e6),
    }
}

/// Formats token usage: `1204 in, 312 out`, with the cached tokens if there are any. An estimate begins with `~`, as in
/// `1204 in, ~4096 out`. Unknown usage is `not reported`.
pub fn format_usage(usage: &UsageTotal) -> String {
    let estimated = usage.estimated.unwrap_or_default();
    let estimate_prefix = |tokens: u64| if tokens > 0 { "~" } else { "" };
    let mut parts = Vec::new();
    if usage.input > 0 || usage.output > 0 || (estimated.unsplit == 0 && usage.calls_with_unknown_usage == 0) {
        let cached =
            if usage.cache_read > 0 { format!(" ({} cached)", format_count(usage.cache_read)) } else { String::new() };
        parts.push(format!("{}{} in{cached}", estimate_prefix(estimated.input), format_count(usage.input)));
        parts.push(format!("{}{} out", estimate_prefix(estimated.output), format_count(usage.output)));
    }
    if estimated.unsplit > 0 {
        parts.push(format!("~{} in and out", format_count(estimated.unsplit)));
    }
    match usage.calls_with_unknown_usage {
        0 => {}
        1 if parts.is_empty() => parts.push("not reported".to_owned()),
        turns => parts.push(format!("{} not reported", counted(turns, "turn"))),
    }
    parts.join(", ")
}

/// Formats the usage that one reply reported: `1204 in, output not reported`.
pub fn format_reported_usage(reported: &ReportedUsage) -> String {
    match (reported.complete(), reported.input, reported.output) {
        (Some(_), ..) => format_usage(&UsageTotal::from_call(Some(*reported), None, true)),
        (None, Some(input), _) => format!("{} in, output not reported", format_count(input)),
        (None, None, Some(output)) => format!("input not reported, {} out", format_count(output)),
        (None, None, None) => "tokens not reported".to_owned(),
    }
}

/// Formats a cost: `$0.0042`, `~$0.0042` for an estimate, `cost unknown`.
pub fn format_cost(cost: CostTotal) -> String {
    let estimated = || cost.upper_bound().map(|usd| format!("~{}", format_usd(usd)));
    cost.exact().map(format_usd).or_else(estimated).unwrap_or_else(|| "cost unknown".to_owned())
}

/// Formats an amount in US dollars: `$0.0042`, `$1.25`; `no charge` for zero.
pub fn format_usd(usd: f64) -> String {
    if usd <= 0.0 {
        "no charge".to_owned()
    } else if usd < 0.1 {
        format_dollars_rounded(usd)
    } else {
        format!("${usd:.2}")
    }
}

/// Formats a size in decimal units: `1.1 GB`, `98 MB`.
pub fn format_bytes(number: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
    let value = number as f64;
    match number {
        0..1_000_000 => format!("{:.0} kB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", value / 1e6),
        _ => format!("{:.1} GB", value / 1e9),
    }
}

/// A text on one line, with single spaces between its words.
pub fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EstimatedUsage;

    #[test]
    fn messages_show_which_usage_is_estimated_or_unknown() {
        let format_total = |input, output, estimated: Option<(u64, u64, u64)>, calls_with_unknown_usage| {
            let estimated = estimated.map(|(input, output, unsplit)| EstimatedUsage { input, output, unsplit });
            format_usage(&UsageTotal { input, output, estimated, calls_with_unknown_usage, ..UsageTotal::default() })
        };
        assert_eq!(format_total(12, 3, None, 0), "12 in, 3 out");
        assert_eq!(format_total(12, 4096, Some((0, 4096, 0)), 0), "12 in, ~4096 out");
        assert_eq!(format_total(500, 4096, Some((500, 4096, 0)), 0), "~500 in, ~4096 out");
        assert_eq!(format_total(0, 0, Some((0, 0, 5000)), 0), "~5000 in and out");
        assert_eq!(format_total(0, 0, None, 1), "not reported");
        assert_eq!(format_total(12, 3, None, 2), "12 in, 3 out, 2 turns not reported");
        let format_reported =
            |input, output| format_reported_usage(&ReportedUsage { input, output, ..ReportedUsage::default() });
        assert_eq!(
            (format_reported(Some(9), Some(3)), format_reported(None, None)),
            ("9 in, 3 out".into(), "tokens not reported".into())
        );
        assert_eq!(format_reported(None, Some(3)), "input not reported, 3 out");
        assert_eq!(format_reported(Some(9), None), "9 in, output not reported");
        assert_eq!(format_cost(CostTotal::from_call(None, Some(0.004), true)), "~$0.0040");
        assert_eq!(format_cost(CostTotal::from_call(None, None, true)), "cost unknown");
    }

    #[test]
    fn numbers_are_rounded() {
        assert_eq!(format_duration(Duration::from_millis(840)), "0.8s");
        assert_eq!(format_duration(Duration::from_secs(245)), "4m 05s");
        assert_eq!(format_duration(Duration::from_secs(7_400)), "2h 03m");
        assert_eq!(format_count(640), "640");
        assert_eq!(format_count(12_420), "12.4k");
        assert_eq!(format_usd(0.0042), "$0.0042");
        assert_eq!(format_usd(1.25), "$1.25");
        assert_eq!(format_usd(0.000_021), "$0.000021");
        assert_eq!(format_bytes(1_117_320_768), "1.1 GB");
        assert_eq!(on_one_line(" a\n\n  b\tc "), "a b c");
    }
}
