//! Processes that die, and hours until the next one goes on.

use orch::model::{FailureClass, RunStatus};

use super::server::Play;
use super::world::{HOUR, MINUTE, SECOND, Session, world};
use super::{ms, step};

fn dies(after: std::time::Duration) -> Session {
    Session { dies: Some(after), ..Session::default() }
}

#[test]
fn the_seconds_of_a_run_do_not_pass_while_nobody_owns_it() {
    let steps = format!("budget: {{ seconds: 3600 }}\n{}", step(", timeout: 3h"));
    world(
        &steps,
        |_, _| Play::silence(),
        async |mut world| {
            assert!(world.session(dies(20 * MINUTE)).await.is_none());
            world.later(5 * HOUR).await;
            let state = world.run().await;
            assert_eq!(state.failure.unwrap().class, FailureClass::BudgetExceeded);
            // 20 of its 60 minutes were over when the first process died.
            let began = ms(5 * HOUR + 20 * MINUTE);
            assert_eq!(world.calls("one"), [(began, began + ms(40 * MINUTE))]);
        },
    );
}

#[test]
fn the_seconds_of_a_step_count_the_call_that_a_death_cut_off() {
    world(
        &step(", timeout: 3h, budget: { seconds: 3600 }"),
        |_, _| Play::silence(),
        async |mut world| {
            assert!(world.session(dies(20 * MINUTE)).await.is_none());
            world.later(5 * HOUR).await;
            assert_eq!(world.run().await.failure.unwrap().class, FailureClass::BudgetExceeded);
            let began = ms(5 * HOUR + 20 * MINUTE);
            assert_eq!(world.calls("one"), [(began, began + ms(40 * MINUTE))]);
        },
    );
}

#[test]
fn a_deadline_goes_on_while_no_process_runs() {
    let steps = "steps: [{ id: one, agent: a, prompt: p.md, message: one, schema: any, output: x, deadline: 2h, timeout: 1h }]\n";
    let play = |_: &str, count| match count {
        // No JSON: it is asked again in the same talk.
        0 => Play::says("hm", 10 * MINUTE),
        1 => Play::silence(),
        _ => Play::says("1", Play::soon()),
    };
    // What is left of the deadline is what the next process has.
    world(steps, play, async |mut world| {
        assert!(world.session(dies(30 * MINUTE)).await.is_none());
        world.later(HOUR).await;
        assert_eq!(world.run().await.status, RunStatus::Completed);
        assert_eq!(world.calls("one"), [(0, ms(10 * MINUTE)), (ms(90 * MINUTE), ms(90 * MINUTE + SECOND))]);
    });
    // When nothing is left, what is on record is read and nobody is asked.
    world(steps, play, async |mut world| {
        assert!(world.session(dies(30 * MINUTE)).await.is_none());
        world.later(5 * HOUR).await;
        assert_eq!(world.run().await.status, RunStatus::Failed);
        let (class, message) = world.failure("one").unwrap();
        assert_eq!((class, message.as_str()), (FailureClass::Timeout, "the step's deadline has passed"));
        assert_eq!(world.calls("one")[0], (0, ms(10 * MINUTE)));
        assert_eq!(world.now(), ms(5 * HOUR + 30 * MINUTE));
    });
}

#[test]
fn a_pause_that_a_death_cut_off_is_waited_out_anew() {
    let play = |_: &str, count| if count == 0 { Play::refuses(503) } else { Play::says("done", Play::soon()) };
    world(&step(", retry: { backoff: 1h }"), play, async |mut world| {
        assert!(world.session(dies(10 * MINUTE)).await.is_none());
        world.later(5 * HOUR).await;
        assert_eq!(world.run().await.status, RunStatus::Completed);
        let pauses = world.pauses();
        assert_eq!(pauses[0], pauses[1], "the same run waits the same time");
        let again = ms(5 * HOUR + 10 * MINUTE) + pauses[1];
        assert_eq!(world.calls("one"), [(0, 0), (again, again + ms(SECOND))]);
    });
}
