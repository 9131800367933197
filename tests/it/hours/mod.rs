//! Limits, pauses and people, over hours: a run over a real journal, with the program's own interpreter,
//! performer, provider and budgets, a server on loopback and real commands, in time that leaps. So every
//! time that is recorded is exact to the millisecond, and nobody waits.

mod clock;
mod people;
mod server;
mod sessions;
mod world;

use std::time::Duration;

use orch::model::FailureClass;
use orch::model::RunStatus;
use orch::model::event::Fact;

use server::Play;
use world::{HOUR, MINUTE, SECOND, Session, world};

/// Milliseconds.
pub(crate) const fn ms(duration: Duration) -> u64 {
    duration.as_secs() * 1000 + (duration.subsec_millis() as u64)
}

/// One step that asks the model, with more keys.
fn step(keys: &str) -> String {
    format!("steps:\n  - {{ id: one, agent: a, prompt: p.md, message: one, schema: text, output: x{keys} }}\n")
}

#[test]
fn a_request_ends_at_its_time_out_and_not_before() {
    world(
        &step(", timeout: 90m, retry: { max: 1 }"),
        |_, _| Play::silence(),
        async |mut world| {
            assert_eq!(world.run().await.status, RunStatus::Failed);
            assert_eq!(world.calls("one"), [(0, ms(90 * MINUTE))]);
            assert_eq!(world.failure("one").unwrap().0, FailureClass::Timeout);
            assert_eq!(world.times(|fact| matches!(fact, Fact::StepFailed(_))), [ms(90 * MINUTE)]);
        },
    );
    let late = |_: &str, _| Play::says("late", 5399 * SECOND);
    world(&step(", timeout: 90m, retry: { max: 1 }"), late, async |mut world| {
        assert_eq!(world.run().await.status, RunStatus::Completed);
        assert_eq!(world.calls("one"), [(0, ms(5399 * SECOND))]);
    });
}

#[test]
fn a_command_ends_at_its_time_out_and_not_before() {
    let steps = "steps: [{ id: nap, run: echo asleep; exec sleep 1000, timeout: 2h, access: none }]\n";
    world(
        steps,
        |_, _| Play::silence(),
        async |mut world| {
            assert_eq!(world.run().await.status, RunStatus::Failed);
            assert_eq!(world.calls("nap"), [(0, ms(2 * HOUR))]);
            assert_eq!(world.failure("nap").unwrap().0, FailureClass::Timeout);
        },
    );
}

#[test]
fn pauses_between_tries_double_up_to_half_a_minute() {
    let play = |_: &str, count| if count < 9 { Play::refuses(503) } else { Play::says("done", HOUR) };
    world(&step(", timeout: 2h, retry: { max: 10 }"), play, async |mut world| {
        assert_eq!(world.run().await.status, RunStatus::Completed);
        let (calls, pauses) = (world.calls("one"), world.pauses());
        assert_eq!((calls.len(), pauses.len()), (10, 9));
        let full = [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000];
        for (pause, full) in pauses.iter().zip(full) {
            assert!((full / 2..=full).contains(pause), "{pauses:?}");
        }
        let mut now = 0;
        for (at, (began, ended)) in calls.into_iter().enumerate() {
            let takes = if at < 9 { 0 } else { ms(HOUR) };
            assert_eq!((began, ended), (now, now + takes), "call {at}, pauses {pauses:?}");
            now = ended + pauses.get(at).copied().unwrap_or_default();
        }
    });
}

#[test]
fn a_provider_that_is_unavailable_is_waited_for_half_a_minute() {
    world(
        &step(", timeout: 2h"),
        |_, _| Play::refuses(503),
        async |mut world| {
            assert_eq!(world.run().await.status, RunStatus::Failed);
            let pauses = world.pauses();
            assert_eq!((world.calls("one").len(), pauses.len()), (6, 5));
            for (pause, least) in pauses.iter().zip([1000, 2000, 4000, 8000, 16_000]) {
                assert!((least..=least + least / 4).contains(pause), "{pauses:?}");
            }
        },
    );
    let loads = |_: &str, count| if count < 5 { Play::refuses(503) } else { Play::says("done", SECOND) };
    world(&step(""), loads, async |mut world| assert_eq!(world.run().await.status, RunStatus::Completed));
}

#[test]
fn a_pause_of_the_files_doubles_from_where_it_begins() {
    let play = |_: &str, count| if count < 3 { Play::refuses(503) } else { Play::says("done", Duration::ZERO) };
    world(&step(", retry: { max: 4, backoff: 20m }"), play, async |mut world| {
        assert_eq!(world.run().await.status, RunStatus::Completed);
        let pauses = world.pauses();
        assert_eq!(pauses.len(), 3);
        assert!(pauses.iter().all(|pause| (ms(10 * MINUTE)..=ms(20 * MINUTE)).contains(pause)), "{pauses:?}");
        assert_eq!(world.now(), pauses.iter().sum::<u64>());
    });
}

#[test]
fn what_a_provider_asks_to_wait_is_waited_by_all_its_steps() {
    let steps = "steps:
  - id: both
    parallel:
      - { id: one, agent: a, prompt: p.md, message: both/one, schema: text, output: x }
      - id: two
        steps:
          - { id: nap, run: echo asleep; exec sleep 1000, timeout: 1m, access: none, on_error: continue }
          - { id: ask, agent: a, prompt: p.md, message: both/two/ask, schema: text, output: y }
success: steps.both.status == 'completed'
";
    for header in
        [("retry-after", "240"), ("retry-after-ms", "240000"), ("retry-after", "Tue, 01 Jan 2030 00:04:00 GMT")]
    {
        let play = move |step: &str, count| match (step, count) {
            ("both/one", 0) => Play::refuses(429).header(header.0, header.1),
            _ => Play::says("done", Duration::ZERO),
        };
        world(steps, play, async |mut world| {
            assert_eq!(world.run().await.status, RunStatus::Completed);
            let pause = world.pauses()[0];
            assert!((240_000..=240_250).contains(&pause), "{header:?}: {pause}");
            assert_eq!(world.calls("both/one"), [(0, 0), (pause, pause)], "{header:?}");
            // It began after a minute, and waited for the provider's time.
            assert_eq!(world.calls("both/two/ask"), [(240_000, 240_000)], "{header:?}");
        });
    }
}

#[test]
fn a_date_to_come_back_at_is_told_by_the_clock_of_who_names_it() {
    let play = |_: &str, count| match count {
        0 => Play::refuses(429)
            .header("date", "Mon, 01 Jan 2029 09:00:00 GMT")
            .header("retry-after", "Mon, 01 Jan 2029 09:03:00 GMT"),
        _ => Play::says("done", Duration::ZERO),
    };
    world(&step(""), play, async |mut world| {
        assert_eq!(world.run().await.status, RunStatus::Completed);
        assert!((180_000..=180_250).contains(&world.pauses()[0]), "{:?}", world.pauses());
    });
}

#[test]
fn a_provider_that_asks_for_too_long_a_pause_is_not_waited_for() {
    let play = |_: &str, _| Play::refuses(429).header("retry-after", "301");
    world(&step(""), play, async |mut world| {
        assert_eq!(world.run().await.status, RunStatus::Failed);
        assert_eq!(world.calls("one"), [(0, 0)]);
        let (class, message) = world.failure("one").unwrap();
        assert_eq!(class, FailureClass::RateLimited);
        assert!(message.ends_with("it asks to wait 301 s, longer than the 300 s that a step waits"), "{message}");
    });
}

#[test]
fn requests_a_minute_are_counted_by_the_minute() {
    let steps = "steps: [{ id: all, for_each: '[0, 1, 2, 3, 4]', max_parallel: 5, agent: a, prompt: p.md, message: 'all[{{ index }}]', schema: text, output: x }]\n";
    world(
        steps,
        |_, _| Play::says("done", 10 * SECOND),
        async |mut world| {
            world.settings("requests_per_minute: 100", "requests_per_minute: 2");
            assert_eq!(world.run().await.status, RunStatus::Completed);
            let mut began: Vec<u64> =
                (0..5).flat_map(|item| world.calls(&format!("all[{item}]"))).map(|call| call.0).collect();
            began.sort_unstable();
            assert_eq!(began, [0, 0, ms(MINUTE), ms(MINUTE), ms(2 * MINUTE)]);
        },
    );
}

#[test]
fn a_deadline_bounds_all_tries_of_a_step() {
    let keys = ", timeout: 40m, deadline: 1h, retry: { max: 5, backoff: 10m }";
    world(
        &step(keys),
        |_, _| Play::silence(),
        async |mut world| {
            assert_eq!(world.run().await.status, RunStatus::Failed);
            let pause = world.pauses()[0];
            let again = ms(40 * MINUTE) + pause;
            assert_eq!(world.calls("one"), [(0, ms(40 * MINUTE)), (again, ms(HOUR))]);
            assert_eq!(world.failure("one").unwrap().0, FailureClass::Timeout);
        },
    );
}

#[test]
fn a_request_is_ended_when_the_seconds_of_the_run_are_over() {
    let steps = format!("budget: {{ seconds: 3600 }}\n{}", step(", timeout: 2h"));
    world(
        &steps,
        |_, _| Play::says("late", HOUR + SECOND),
        async |mut world| {
            let state = world.run().await;
            assert_eq!(state.failure.unwrap().class, FailureClass::BudgetExceeded);
            assert_eq!(world.calls("one"), [(0, ms(HOUR))]);
            world.later(HOUR).await;
            world.edit("seconds: 3600", "seconds: 7202");
            assert_eq!(world.run().await.status, RunStatus::Completed);
            assert_eq!(world.calls("one")[1], (ms(2 * HOUR), ms(3 * HOUR + SECOND)));
        },
    );
}

#[test]
fn a_request_that_waits_for_its_place_is_never_begun_when_the_seconds_are_over_before() {
    let steps = "budget: { seconds: 30 }\nsteps: [{ id: all, for_each: '[0, 1]', max_parallel: 2, agent: a, prompt: p.md, message: 'all[{{ index }}]', schema: text, output: x }]\nfinally:\n  - { id: tidy, agent: a, prompt: p.md, message: tidy, schema: text, output: tidy }\n";
    world(
        steps,
        |_, _| Play::says("done", SECOND),
        async |mut world| {
            world.settings("requests_per_minute: 100", "requests_per_minute: 1");
            assert_eq!(world.run().await.failure.unwrap().class, FailureClass::BudgetExceeded);
            let calls: Vec<_> = (0..2).flat_map(|item| world.calls(&format!("all[{item}]"))).collect();
            assert_eq!(calls, [(0, ms(SECOND))]);
            // Those of `finally` wait as long as it takes.
            assert_eq!(world.calls("tidy"), [(ms(MINUTE), ms(MINUTE + SECOND))]);
        },
    );
}

#[test]
fn the_seconds_of_a_step_are_those_of_its_calls() {
    let keys = ", timeout: 20m, retry: { max: 5, backoff: 30m }, budget: { seconds: 1800 }";
    world(
        &step(keys),
        |_, _| Play::silence(),
        async |mut world| {
            assert_eq!(world.run().await.failure.unwrap().class, FailureClass::BudgetExceeded);
            let again = ms(20 * MINUTE) + world.pauses()[0];
            assert_eq!(world.calls("one"), [(0, ms(20 * MINUTE)), (again, again + ms(10 * MINUTE))]);
        },
    );
}

#[test]
fn steps_side_by_side_use_up_the_seconds_of_their_group_together() {
    let steps = "steps:
  - id: both
    budget: { seconds: 3600 }
    parallel:
      - { id: one, agent: a, prompt: p.md, message: both/one, schema: text, output: x, timeout: 3h }
      - id: two
        steps:
          - { id: nap, run: echo asleep; exec sleep 1000, timeout: 10m, access: none, on_error: continue }
          - { id: late, agent: a, prompt: p.md, message: both/two/late, schema: text, output: y, timeout: 3h }
          - { id: last, run: 'true', access: none }
finally:
  - { id: tidy, run: 'true', access: none }
";
    world(
        steps,
        |_, _| Play::silence(),
        async |mut world| {
            assert_eq!(world.run().await.failure.unwrap().class, FailureClass::BudgetExceeded);
            // Two calls at a time from the beginning: half an hour each is an hour.
            let half = ms(30 * MINUTE);
            assert_eq!(world.calls("both/two/nap"), [(0, ms(10 * MINUTE))]);
            assert_eq!(world.calls("both/one"), [(0, half)]);
            assert_eq!(world.calls("both/two/late"), [(ms(10 * MINUTE), half)]);
            assert_eq!(world.calls("both/two/last"), []);
            assert_eq!(world.calls("tidy"), [(half, half)], "`finally` runs all the same");
        },
    );
}

#[test]
fn when_a_call_does_not_fit_no_branch_begins_anything_more() {
    let steps = "steps:
  - id: both
    budget: { tokens: 1000 }
    parallel:
      - id: one
        steps:
          - { id: first, agent: a, prompt: p.md, message: both/one/first, schema: text, output: w }
          - { id: large, agent: b, prompt: p.md, message: both/one/large, schema: text, output: x }
      - id: two
        steps:
          - { id: nap, run: echo asleep; exec sleep 1000, timeout: 10m, access: none, on_error: continue }
          - { id: small, agent: a, prompt: p.md, message: both/two/small, schema: text, output: y }
          - { id: last, run: 'true', access: none }
finally:
  - { id: tidy, run: 'true', access: none }
  - { id: word, agent: a, prompt: p.md, message: word, schema: text, output: word }
";
    world(
        steps,
        |_, _| Play::says("done", MINUTE),
        async |mut world| {
            world.edit(
                "a: { model: lab/m }",
                "a: { model: lab/m, max_output_tokens: 100 }, b: { model: lab/m, max_output_tokens: 5000 }",
            );
            let failure = world.run().await.failure.unwrap();
            assert!(failure.message.starts_with("the budget of step both is 1000 tokens; 14 are used"), "{failure}");
            // The large request waited for what was under way; after that the run was over.
            let ten = ms(10 * MINUTE);
            assert_eq!(world.calls("both/two/nap"), [(0, ten)]);
            assert_eq!((world.calls("both/two/small"), world.calls("both/two/last")), (vec![], vec![]));
            assert_eq!((world.calls("tidy"), world.calls("word")), (vec![(ten, ten)], vec![(ten, ten + ms(MINUTE))]));
        },
    );
}

#[test]
fn a_stop_leaves_a_reply_ten_seconds_and_a_second_one_none() {
    let stopped = |stops: Vec<Duration>| Session { stops, ..Session::default() };
    for (takes, stops, ends, completed) in [
        (HOUR + 9 * SECOND, vec![HOUR], HOUR + 9 * SECOND, true),
        (HOUR + 11 * SECOND, vec![HOUR], HOUR + 10 * SECOND, false),
        (HOUR + 9 * SECOND, vec![HOUR, 4 * SECOND], HOUR + 4 * SECOND, false),
    ] {
        let steps = format!(
            "{}  - {{ id: two, agent: a, prompt: p.md, message: two, schema: text, output: y }}\n",
            step(", timeout: 2h")
        );
        world(
            &steps,
            move |_, _| Play::says("done", takes),
            async |mut world| {
                assert_eq!(world.session(stopped(stops)).await.unwrap().status, RunStatus::Cancelled);
                assert_eq!(world.calls("one"), [(0, ms(ends))]);
                assert_eq!(world.calls("two"), []);
                let done = world.times(|fact| matches!(fact, Fact::StepCompleted(_)));
                assert_eq!(done.len(), usize::from(completed));
            },
        );
    }
}

#[test]
fn a_reply_that_comes_while_commands_are_ended_is_recorded_before_their_ends() {
    let steps = "steps:
  - id: all
    parallel:
      - { id: many, for_each: range(8), max_parallel: 8, run: \"trap '' TERM; echo asleep; while :; do sleep 1; done\", timeout: 1h, access: none, on_error: continue }
      - { id: ask, agent: a, prompt: p.md, message: all/ask, schema: text, output: x, timeout: 2h }
";
    let play = |_: &str, _| Play::says("done", HOUR);
    world(steps, play, async |mut world| {
        assert_eq!(world.run().await.status, RunStatus::Failed);
        let ended = |event: orch::model::Event| match event.fact {
            Fact::CallEnded(call) => Some(call.call.step.to_string()),
            _ => None,
        };
        let ends: Vec<String> = world.events().into_iter().filter_map(ended).collect();
        assert_eq!((ends.len(), ends[0].as_str()), (9, "all/ask"), "{ends:?}");
        // Each of them ended at its time: ending it took none, since it was none of the run's.
        for item in 0..8 {
            assert_eq!(world.calls(&format!("all/many[{item}]")), [(0, ms(HOUR))]);
        }
    });
}
