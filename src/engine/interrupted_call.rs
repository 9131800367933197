//! What a model learns about a tool call that was interrupted: why, and which files it changed.

use crate::files::EXCLUDED_FOLDERS;
use crate::model::{AgentActivity, BuiltinTool, FailureClass};

/// The maximum number of changed files that the model receives the names of after an interruption.
const MAX_NAMED_FILES: usize = 50;

/// The result for the model of a call of a tool that was interrupted; `None` if the call failed for another reason.
pub(super) fn interruption_text(tool: &str, class: FailureClass, activity: Option<&AgentActivity>) -> Option<String> {
    let reason = match class {
        FailureClass::Crashed => "orch was killed",
        FailureClass::Cancelled => "the user stopped orch",
        FailureClass::BudgetExceeded => "the time budget was used up",
        _ => return None,
    };
    let files = activity.map_or_else(|| "it is not known whether files changed".to_owned(), describe_changes);
    // A command may also write outside of the workspace, and into folders that orch does not compare.
    let scope = if tool == BuiltinTool::Shell.as_str() && activity.is_some() {
        format!("; orch does not compare {} and files outside of the workspace", EXCLUDED_FOLDERS.join(", "))
    } else {
        String::new()
    };
    Some(format!(
        "interrupted: {reason} during this call, so its output is lost, and orch did not repeat the call; {files}{scope}"
    ))
}

/// The files that an interrupted call changed, as far as orch could compare them.
fn describe_changes(activity: &AgentActivity) -> String {
    let named = activity.changed.iter().take(MAX_NAMED_FILES).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = match activity.changed.len().saturating_sub(MAX_NAMED_FILES) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    match (activity.changed.is_empty(), activity.partial_note()) {
        (true, None) => "no file changed".to_owned(),
        (true, Some(note)) => note,
        (false, None) => format!("these files changed: {named}{more}"),
        (false, Some(note)) => format!("these files changed: {named}{more}; {note}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_learns_what_an_interrupted_call_changed() {
        let changed = vec!["a.txt".to_owned(), "b.txt".to_owned()];
        let changed = AgentActivity { changed, ..AgentActivity::default() };
        let (mut partial, nothing) = (changed.clone(), AgentActivity::default());
        partial.add_partial_reason("`sub` can't be read");
        let unknown = AgentActivity::with_unknown_changes("the record is missing");
        let without_reason = AgentActivity { partial: true, ..AgentActivity::default() };
        for (class, activity, expected) in [
            (FailureClass::Crashed, Some(&changed), "; these files changed: a.txt, b.txt"),
            (FailureClass::Crashed, Some(&nothing), "; no file changed"),
            (FailureClass::Crashed, None, "; it is not known whether files changed"),
            (FailureClass::Cancelled, None, "; it is not known whether files changed"),
            (FailureClass::BudgetExceeded, Some(&changed), "; these files changed: a.txt, b.txt"),
            (
                FailureClass::Crashed,
                Some(&partial),
                "; these files changed: a.txt, b.txt; orch could not compare everything: `sub` can't be read; more \
                 files may have changed",
            ),
            (
                FailureClass::Cancelled,
                Some(&unknown),
                "; orch could not compare everything: the record is missing; files may have changed",
            ),
            (
                FailureClass::Crashed,
                Some(&without_reason),
                "; orch could not compare everything; files may have changed",
            ),
        ] {
            let text = interruption_text("edit", class, activity).unwrap();
            assert!(text.starts_with("interrupted: ") && text.ends_with(expected), "{text}");
        }
        assert_eq!(interruption_text("edit", FailureClass::NotConfined, None), None);
        let many = (0..=MAX_NAMED_FILES).map(|number| number.to_string()).collect();
        let many = AgentActivity { changed: many, ..AgentActivity::default() };
        assert!(describe_changes(&many).ends_with(", 49 and 1 more"), "{}", describe_changes(&many));
    }

    #[test]
    fn the_model_learns_which_folders_orch_does_not_compare() {
        let nothing = AgentActivity::default();
        let text = interruption_text("shell", FailureClass::Crashed, Some(&nothing)).unwrap();
        let expected = "; no file changed; orch does not compare .git, node_modules, target and files outside of the \
                        workspace";
        assert!(text.ends_with(expected), "{text}");
    }
}
