//! Runs whose process dies, and that another process resumes hours later.

use orch::model::{FailureClass, RunStatus};

use super::server::ScriptedReply;
use super::simulation::{HOUR, MINUTE, SECOND, SessionScript, simulate};
use super::{ms, step};

fn session_that_dies_after(delay: std::time::Duration) -> SessionScript {
    SessionScript { crash_after: Some(delay), ..SessionScript::default() }
}

#[test]
fn the_seconds_of_a_run_do_not_pass_while_no_process_runs() {
    let steps = format!("budget: {{ seconds: 3600 }}\n{}", step(", timeout: 3h"));
    simulate(
        &steps,
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert!(run.run_session_with(session_that_dies_after(20 * MINUTE)).await.is_none());
            run.advance(5 * HOUR).await;
            let state = run.run_session().await;
            assert_eq!(state.failure.unwrap().class, FailureClass::BudgetExceeded);
            // The first process used 20 of the 60 minutes before it died.
            let start = ms(5 * HOUR + 20 * MINUTE);
            assert_eq!(run.call_times("one"), [(start, start + ms(40 * MINUTE))]);
        },
    );
}

#[test]
fn an_interrupted_call_counts_towards_the_seconds_of_its_step() {
    simulate(
        &step(", timeout: 3h, budget: { seconds: 3600 }"),
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert!(run.run_session_with(session_that_dies_after(20 * MINUTE)).await.is_none());
            run.advance(5 * HOUR).await;
            assert_eq!(run.run_session().await.failure.unwrap().class, FailureClass::BudgetExceeded);
            let start = ms(5 * HOUR + 20 * MINUTE);
            assert_eq!(run.call_times("one"), [(start, start + ms(40 * MINUTE))]);
        },
    );
}

#[test]
fn a_deadline_keeps_running_while_no_process_runs() {
    let steps = "steps: [{ id: one, agent: a, prompt: p.md, message: one, schema: any, output: x, deadline: 2h, timeout: 1h }]\n";
    let script = |_: &str, count| match count {
        // This reply is not JSON, so orch re-asks in the same conversation.
        0 => ScriptedReply::text("hm", 10 * MINUTE),
        1 => ScriptedReply::never(),
        _ => ScriptedReply::text("1", SECOND),
    };
    // The next process has the remaining time until the deadline.
    simulate(steps, script, async |mut run| {
        assert!(run.run_session_with(session_that_dies_after(30 * MINUTE)).await.is_none());
        run.advance(HOUR).await;
        assert_eq!(run.run_session().await.status, RunStatus::Completed);
        assert_eq!(run.call_times("one"), [(0, ms(10 * MINUTE)), (ms(90 * MINUTE), ms(90 * MINUTE + SECOND))]);
    });
    // After the deadline, orch reads the recorded reply and sends no new request.
    simulate(steps, script, async |mut run| {
        assert!(run.run_session_with(session_that_dies_after(30 * MINUTE)).await.is_none());
        run.advance(5 * HOUR).await;
        assert_eq!(run.run_session().await.status, RunStatus::Failed);
        let (class, message) = run.failure("one").unwrap();
        assert_eq!((class, message.as_str()), (FailureClass::Timeout, "the step's deadline has passed"));
        assert_eq!(run.call_times("one")[0], (0, ms(10 * MINUTE)));
        assert_eq!(run.now(), ms(5 * HOUR + 30 * MINUTE));
    });
}

#[test]
fn an_interrupted_pause_is_repeated_in_full() {
    let script = |_: &str, count| {
        if count == 0 { ScriptedReply::error(503) } else { ScriptedReply::text("done", SECOND) }
    };
    simulate(&step(", retry: { backoff: 1h }"), script, async |mut run| {
        assert!(run.run_session_with(session_that_dies_after(10 * MINUTE)).await.is_none());
        run.advance(5 * HOUR).await;
        assert_eq!(run.run_session().await.status, RunStatus::Completed);
        let pauses = run.pauses();
        assert_eq!(pauses[0], pauses[1], "a resumed run repeats the same pause");
        let second_start = ms(5 * HOUR + 10 * MINUTE) + pauses[1];
        assert_eq!(run.call_times("one"), [(0, 0), (second_start, second_start + ms(SECOND))]);
    });
}
