//! What is known about a call of a tool that ended without a result: why, which files it changed, and whether it took
//! effect.

use crate::files::EXCLUDED_FOLDERS;
use crate::model::event::CallKind;
use crate::model::visible::escape_line_breaks;
use crate::model::{AgentActivity, BuiltinTool, Failure, FailureClass, is_unanswered_call};

/// The maximum number of changed files that the model receives the names of after an interruption.
const MAX_NAMED_FILES: usize = 50;

/// The text in place of the result of a call of a tool that ended without one: it was interrupted, or an MCP server did
/// not answer it. `None` if orch could not perform the call. `kind` is that of a call of a tool.
pub(super) fn interruption_text(kind: CallKind, failure: &Failure, activity: Option<&AgentActivity>) -> Option<String> {
    let reason = match failure.class {
        FailureClass::Crashed => "orch was killed",
        FailureClass::Cancelled => "the user stopped orch",
        FailureClass::BudgetExceeded => "the time budget was used up",
        class if matches!(kind, CallKind::McpTool(_)) && is_unanswered_call(class) => {
            let message = &failure.message;
            return Some(if kind.is_never_repeated() && !failure.unperformed {
                format!("{message}; orch did not repeat the call; {}", describe_effect(kind, activity))
            } else {
                message.clone()
            });
        }
        _ => return None,
    };
    let effect = describe_effect(kind, activity);
    Some(format!(
        "interrupted: {reason} during this call, so its output is lost, and orch did not repeat the call; {effect}"
    ))
}

/// The message about a call of a tool that no model made and that ended without a result; `None` if the call changes
/// nothing, or if it is certain that it was not performed. `kind` is that of a call of a tool.
pub(crate) fn unknown_effect_text(
    kind: CallKind,
    failure: &Failure,
    activity: Option<&AgentActivity>,
) -> Option<String> {
    let may_have_effect = kind.is_never_repeated() && !failure.unperformed;
    if may_have_effect { interruption_text(kind, failure, activity) } else { None }
}

/// What is known about the effect of a call without a result.
fn describe_effect(kind: CallKind, activity: Option<&AgentActivity>) -> String {
    if matches!(kind, CallKind::McpTool(_)) {
        // Only the files of the workspace are compared, and a server can also change other things.
        return match activity.filter(|activity| activity.may_have_changed_files()) {
            Some(activity) => format!("{}; it is not known what else the call changed", describe_changes(activity)),
            None => "it is not known whether the call took effect".to_owned(),
        };
    }
    let Some(activity) = activity else { return "it is not known whether files changed".to_owned() };
    let files = describe_changes(activity);
    if matches!(kind, CallKind::Tool(BuiltinTool::Shell)) {
        // A command may also write outside of the workspace, and into folders that orch does not compare.
        let folders = EXCLUDED_FOLDERS.join(", ");
        return format!("{files}; orch does not compare {folders} and files outside of the workspace");
    }
    files
}

/// The files that a call without a result changed, as far as orch could compare them.
fn describe_changes(activity: &AgentActivity) -> String {
    let names: Vec<_> = activity.changed.iter().take(MAX_NAMED_FILES).map(|path| escape_line_breaks(path)).collect();
    let named = names.join(", ");
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
    use crate::model::McpCallKind;

    /// The text about a call that ended with a failure of this class.
    fn text(kind: CallKind, class: FailureClass, activity: Option<&AgentActivity>) -> Option<String> {
        interruption_text(kind, &Failure::new(class, "no answer"), activity)
    }

    #[test]
    fn the_model_learns_what_an_interrupted_call_changed() {
        let edit = CallKind::Tool(BuiltinTool::Edit);
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
            let text = text(edit, class, activity).unwrap();
            assert!(text.starts_with("interrupted: ") && text.ends_with(expected), "{text}");
        }
        assert_eq!(text(edit, FailureClass::NotConfined, None), None);
        assert_eq!(text(edit, FailureClass::Timeout, None), None, "only a server leaves calls without an answer");
        let many = (0..=MAX_NAMED_FILES).map(|number| number.to_string()).collect();
        let many = AgentActivity { changed: many, ..AgentActivity::default() };
        assert!(describe_changes(&many).ends_with(", 49 and 1 more"), "{}", describe_changes(&many));
    }

    #[test]
    fn the_model_learns_which_folders_orch_does_not_compare() {
        let nothing = AgentActivity::default();
        let text = text(CallKind::Tool(BuiltinTool::Shell), FailureClass::Crashed, Some(&nothing)).unwrap();
        let expected = "; no file changed; orch does not compare .git, node_modules, target and files outside of the \
                        workspace";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn the_effect_of_an_mcp_call_without_an_answer_is_not_known() {
        let changed = AgentActivity { changed: vec!["a.txt".to_owned()], ..AgentActivity::default() };
        let nothing = AgentActivity::default();
        for kind in [McpCallKind::RemoteWrite, McpCallKind::LocalWrite, McpCallKind::WorkspaceWrite] {
            let kind = CallKind::McpTool(kind);
            for class in [FailureClass::Crashed, FailureClass::Cancelled, FailureClass::BudgetExceeded] {
                let text = text(kind, class, Some(&nothing)).unwrap();
                let expected = "orch did not repeat the call; it is not known whether the call took effect";
                assert!(text.starts_with("interrupted: ") && text.ends_with(expected), "{text}");
            }
            let text = text(kind, FailureClass::Timeout, None).unwrap();
            let expected = "no answer; orch did not repeat the call; it is not known whether the call took effect";
            assert_eq!(text, expected);
        }
        let workspace_write = CallKind::McpTool(McpCallKind::WorkspaceWrite);
        let text_of_changes = text(workspace_write, FailureClass::Crashed, Some(&changed)).unwrap();
        let expected = "these files changed: a.txt; it is not known what else the call changed";
        assert!(text_of_changes.ends_with(expected), "{text_of_changes}");
        let unknown = AgentActivity::with_unknown_changes("the record is missing");
        let text_of_unknown = text(workspace_write, FailureClass::Crashed, Some(&unknown)).unwrap();
        let expected = "files may have changed; it is not known what else the call changed";
        assert!(text_of_unknown.ends_with(expected), "{text_of_unknown}");
        let remote_read = CallKind::McpTool(McpCallKind::RemoteRead);
        for class in [FailureClass::Timeout, FailureClass::ProviderUnavailable, FailureClass::AgentError] {
            assert_eq!(text(remote_read, class, None).as_deref(), Some("no answer"));
        }
        let limited = text(CallKind::McpTool(McpCallKind::RemoteWrite), FailureClass::RateLimited, None).unwrap();
        assert!(limited.ends_with("it is not known whether the call took effect"), "{limited}");
        let unsent =
            Failure { unperformed: true, ..Failure::new(FailureClass::AgentError, "orch did not send the call") };
        let unsent = interruption_text(workspace_write, &unsent, Some(&changed));
        assert_eq!(unsent.as_deref(), Some("orch did not send the call"));
        let refused = text(CallKind::McpTool(McpCallKind::RemoteWrite), FailureClass::Auth, None);
        assert_eq!(refused, None, "the call was not performed");
    }
}
