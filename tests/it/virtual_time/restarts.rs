//! Processes that die during a run, and hours until the next process resumes it.

use orch::model::{FailureClass, RunStatus};

use super::server::ScriptedReply;
use super::simulation::{HOUR, MINUTE, SECOND, Session, simulate};
use super::{ms, step};

fn session_that_dies(after: std::time::Duration) -> Session {
    Session { dies: Some(after), ..Session::default() }
}

#[test]
fn the_seconds_of_a_run_do_not_pass_while_no_process_runs() {
    let steps = format!("budget: {{ seconds: 3600 }}\n{}", step(", timeout: 3h"));
    simulate(
        &steps,
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert!(run.session(session_that_dies(20 * MINUTE)).await.is_none());
            run.advance(5 * HOUR).await;
            let state = run.run_session().await;
            assert_eq!(state.failure.unwrap().class, FailureClass::BudgetExceeded);
            // 20 of its 60 minutes were used up when the first process died.
            let began = ms(5 * HOUR + 20 * MINUTE);
            assert_eq!(run.calls("one"), [(began, began + ms(40 * MINUTE))]);
        },
    );
}

#[test]
fn an_interrupted_call_counts_towards_the_seconds_of_its_step() {
    simulate(
        &step(", timeout: 3h, budget: { seconds: 3600 }"),
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert!(run.session(session_that_dies(20 * MINUTE)).await.is_none());
            run.advance(5 * HOUR).await;
            assert_eq!(run.run_session().await.failure.unwrap().class, FailureClass::BudgetExceeded);
            let began = ms(5 * HOUR + 20 * MINUTE);
            assert_eq!(run.calls("one"), [(began, began + ms(40 * MINUTE))]);
        },
    );
}

#[test]
fn a_deadline_keeps_running_while_no_process_runs() {
    let steps = "steps: [{ id: one, agent: a, prompt: p.md, message: one, schema: any, output: x, deadline: 2h, timeout: 1h }]\n";
    let script = |_: &str, count| match count {
        // This is no JSON, so orch re-asks in the same conversation.
        0 => ScriptedReply::text("hm", 10 * MINUTE),
        1 => ScriptedReply::never(),
        _ => ScriptedReply::text("1", ScriptedReply::short_delay()),
    };
    // The next process has the rest of the deadline.
    simulate(steps, script, async |mut run| {
        assert!(run.session(session_that_dies(30 * MINUTE)).await.is_none());
        run.advance(HOUR).await;
        assert_eq!(run.run_session().await.status, RunStatus::Completed);
        assert_eq!(run.calls("one"), [(0, ms(10 * MINUTE)), (ms(90 * MINUTE), ms(90 * MINUTE + SECOND))]);
    });
    // After the deadline, orch reads the recorded reply and does not ask again.
    simulate(steps, script, async |mut run| {
        assert!(run.session(session_that_dies(30 * MINUTE)).await.is_none());
        run.advance(5 * HOUR).await;
        assert_eq!(run.run_session().await.status, RunStatus::Failed);
        let (class, message) = run.failure("one").unwrap();
        assert_eq!((class, message.as_str()), (FailureClass::Timeout, "the step's deadline has passed"));
        assert_eq!(run.calls("one")[0], (0, ms(10 * MINUTE)));
        assert_eq!(run.now(), ms(5 * HOUR + 30 * MINUTE));
    });
}

#[test]
fn an_interrupted_pause_is_repeated_in_full() {
    let script = |_: &str, count| {
        if count == 0 { ScriptedReply::error(503) } else { ScriptedReply::text("done", ScriptedReply::short_delay()) }
    };
    simulate(&step(", retry: { backoff: 1h }"), script, async |mut run| {
        assert!(run.session(session_that_dies(10 * MINUTE)).await.is_none());
        run.advance(5 * HOUR).await;
        assert_eq!(run.run_session().await.status, RunStatus::Completed);
        let pauses = run.pauses();
        assert_eq!(pauses[0], pauses[1], "the same run waits the same time");
        let again = ms(5 * HOUR + 10 * MINUTE) + pauses[1];
        assert_eq!(run.calls("one"), [(0, 0), (again, again + ms(SECOND))]);
    });
}
