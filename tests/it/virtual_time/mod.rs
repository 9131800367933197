//! Timeouts, pauses and approvals over hours of virtual time. A test uses the program's own interpreter, performer,
//! provider and budgets, with a real journal, a server on the loopback interface and real commands. The recorded times
//! are exact to the millisecond, and the test does not wait.

mod approvals;
mod clock;
mod restarts;
mod server;
mod simulation;

use std::time::Duration;

use orch::model::FailureClass;
use orch::model::RunStatus;
use orch::model::event::Fact;

use server::ScriptedReply;
use simulation::{HOUR, MINUTE, SECOND, SessionScript, simulate};

/// A duration in milliseconds.
pub(crate) const fn ms(duration: Duration) -> u64 {
    duration.as_secs() * 1000 + (duration.subsec_millis() as u64)
}

/// The steps of a pipeline: one agent step with these additional keys.
fn step(keys: &str) -> String {
    format!("steps:\n  - {{ id: one, agent: a, prompt: p.md, message: one, schema: text, output: x{keys} }}\n")
}

#[test]
fn a_request_ends_exactly_at_its_timeout() {
    simulate(
        &step(", timeout: 90m, retry: { max: 1 }"),
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert_eq!(run.run_session().await.status, RunStatus::Failed);
            assert_eq!(run.call_times("one"), [(0, ms(90 * MINUTE))]);
            assert_eq!(run.failure("one").unwrap().0, FailureClass::Timeout);
            assert_eq!(run.event_times(|fact| matches!(fact, Fact::StepFailed(_))), [ms(90 * MINUTE)]);
        },
    );
    let just_in_time = |_: &str, _| ScriptedReply::text("done", 5399 * SECOND);
    simulate(&step(", timeout: 90m, retry: { max: 1 }"), just_in_time, async |mut run| {
        assert_eq!(run.run_session().await.status, RunStatus::Completed);
        assert_eq!(run.call_times("one"), [(0, ms(5399 * SECOND))]);
    });
}

#[test]
fn a_command_ends_exactly_at_its_timeout() {
    let steps = "steps: [{ id: nap, run: echo asleep; exec sleep 1000, timeout: 2h, access: none }]\n";
    simulate(
        steps,
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert_eq!(run.run_session().await.status, RunStatus::Failed);
            assert_eq!(run.call_times("nap"), [(0, ms(2 * HOUR))]);
            assert_eq!(run.failure("nap").unwrap().0, FailureClass::Timeout);
        },
    );
}

#[test]
fn pauses_between_attempts_double_up_to_half_a_minute() {
    let script = |_: &str, count| if count < 9 { ScriptedReply::error(503) } else { ScriptedReply::text("done", HOUR) };
    simulate(&step(", timeout: 2h, retry: { max: 10 }"), script, async |mut run| {
        assert_eq!(run.run_session().await.status, RunStatus::Completed);
        let (calls, pauses) = (run.call_times("one"), run.pauses());
        assert_eq!((calls.len(), pauses.len()), (10, 9));
        let max_pauses = [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000];
        for (pause, max) in pauses.iter().zip(max_pauses) {
            assert!((max / 2..=max).contains(pause), "{pauses:?}");
        }
        let mut now = 0;
        for (index, (start, end)) in calls.into_iter().enumerate() {
            let duration = if index < 9 { 0 } else { ms(HOUR) };
            assert_eq!((start, end), (now, now + duration), "call {index}, pauses {pauses:?}");
            now = end + pauses.get(index).copied().unwrap_or_default();
        }
    });
}

#[test]
fn an_unavailable_provider_is_retried_for_half_a_minute() {
    simulate(
        &step(", timeout: 2h"),
        |_, _| ScriptedReply::error(503),
        async |mut run| {
            assert_eq!(run.run_session().await.status, RunStatus::Failed);
            let pauses = run.pauses();
            assert_eq!((run.call_times("one").len(), pauses.len()), (6, 5));
            for (pause, min) in pauses.iter().zip([1000, 2000, 4000, 8000, 16_000]) {
                assert!((min..=min + min / 4).contains(pause), "{pauses:?}");
            }
        },
    );
    let available_later =
        |_: &str, count| if count < 5 { ScriptedReply::error(503) } else { ScriptedReply::text("done", SECOND) };
    simulate(&step(""), available_later, async |mut run| {
        assert_eq!(run.run_session().await.status, RunStatus::Completed);
    });
}

#[test]
fn a_configured_backoff_doubles_from_its_initial_value() {
    let script = |_: &str, count| {
        if count < 3 { ScriptedReply::error(503) } else { ScriptedReply::text("done", Duration::ZERO) }
    };
    simulate(&step(", retry: { max: 4, backoff: 20m }"), script, async |mut run| {
        assert_eq!(run.run_session().await.status, RunStatus::Completed);
        let pauses = run.pauses();
        assert_eq!(pauses.len(), 3);
        assert!(pauses.iter().all(|pause| (ms(10 * MINUTE)..=ms(20 * MINUTE)).contains(pause)), "{pauses:?}");
        assert_eq!(run.now(), pauses.iter().sum::<u64>());
    });
}

#[test]
fn all_steps_of_a_provider_observe_its_requested_wait() {
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
        let script = move |step: &str, count| match (step, count) {
            ("both/one", 0) => ScriptedReply::error(429).header(header.0, header.1),
            _ => ScriptedReply::text("done", Duration::ZERO),
        };
        simulate(steps, script, async |mut run| {
            assert_eq!(run.run_session().await.status, RunStatus::Completed);
            let pause = run.pauses()[0];
            assert!((240_000..=240_250).contains(&pause), "{header:?}: {pause}");
            assert_eq!(run.call_times("both/one"), [(0, 0), (pause, pause)], "{header:?}");
            // This step started after a minute, and waited until the time that the provider requested.
            assert_eq!(run.call_times("both/two/ask"), [(240_000, 240_000)], "{header:?}");
        });
    }
}

#[test]
fn a_retry_date_is_relative_to_the_clock_of_the_provider() {
    let script = |_: &str, count| match count {
        0 => ScriptedReply::error(429)
            .header("date", "Mon, 01 Jan 2029 09:00:00 GMT")
            .header("retry-after", "Mon, 01 Jan 2029 09:03:00 GMT"),
        _ => ScriptedReply::text("done", Duration::ZERO),
    };
    simulate(&step(""), script, async |mut run| {
        assert_eq!(run.run_session().await.status, RunStatus::Completed);
        assert!((180_000..=180_250).contains(&run.pauses()[0]), "{:?}", run.pauses());
    });
}

#[test]
fn a_requested_wait_that_is_too_long_fails_the_step_at_once() {
    let script = |_: &str, _| ScriptedReply::error(429).header("retry-after", "301");
    simulate(&step(""), script, async |mut run| {
        assert_eq!(run.run_session().await.status, RunStatus::Failed);
        assert_eq!(run.call_times("one"), [(0, 0)]);
        let (class, message) = run.failure("one").unwrap();
        assert_eq!(class, FailureClass::RateLimited);
        assert!(message.ends_with("it asks to wait 301 s, longer than the 300 s that a step waits"), "{message}");
    });
}

#[test]
fn the_limit_of_requests_per_minute_applies_to_each_minute() {
    let steps = "steps: [{ id: all, for_each: '[0, 1, 2, 3, 4]', max_parallel: 5, agent: a, prompt: p.md, message: 'all[{{ index }}]', schema: text, output: x }]\n";
    simulate(
        steps,
        |_, _| ScriptedReply::text("done", 10 * SECOND),
        async |mut run| {
            run.edit_settings("requests_per_minute: 100", "requests_per_minute: 2");
            assert_eq!(run.run_session().await.status, RunStatus::Completed);
            let mut start_times: Vec<u64> =
                (0..5).flat_map(|item| run.call_times(&format!("all[{item}]"))).map(|call| call.0).collect();
            start_times.sort_unstable();
            assert_eq!(start_times, [0, 0, ms(MINUTE), ms(MINUTE), ms(2 * MINUTE)]);
        },
    );
}

#[test]
fn a_deadline_limits_all_attempts_of_a_step_together() {
    let keys = ", timeout: 40m, deadline: 1h, retry: { max: 5, backoff: 10m }";
    simulate(
        &step(keys),
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert_eq!(run.run_session().await.status, RunStatus::Failed);
            let pause = run.pauses()[0];
            let second_start = ms(40 * MINUTE) + pause;
            assert_eq!(run.call_times("one"), [(0, ms(40 * MINUTE)), (second_start, ms(HOUR))]);
            assert_eq!(run.failure("one").unwrap().0, FailureClass::Timeout);
        },
    );
}

#[test]
fn a_request_ends_when_the_seconds_of_the_run_are_used_up() {
    let steps = format!("budget: {{ seconds: 3600 }}\n{}", step(", timeout: 2h"));
    simulate(
        &steps,
        |_, _| ScriptedReply::text("late", HOUR + SECOND),
        async |mut run| {
            let state = run.run_session().await;
            assert_eq!(state.failure.unwrap().class, FailureClass::BudgetExceeded);
            assert_eq!(run.call_times("one"), [(0, ms(HOUR))]);
            run.advance(HOUR).await;
            run.edit("seconds: 3600", "seconds: 7202");
            assert_eq!(run.run_session().await.status, RunStatus::Completed);
            assert_eq!(run.call_times("one")[1], (ms(2 * HOUR), ms(3 * HOUR + SECOND)));
        },
    );
}

#[test]
fn a_request_that_waits_for_its_permit_does_not_start_after_the_budget_is_used_up() {
    let steps = "budget: { seconds: 30 }\nsteps: [{ id: all, for_each: '[0, 1]', max_parallel: 2, agent: a, prompt: p.md, message: 'all[{{ index }}]', schema: text, output: x }]\nfinally:\n  - { id: tidy, agent: a, prompt: p.md, message: tidy, schema: text, output: tidy }\n";
    simulate(
        steps,
        |_, _| ScriptedReply::text("done", SECOND),
        async |mut run| {
            run.edit_settings("requests_per_minute: 100", "requests_per_minute: 1");
            assert_eq!(run.run_session().await.failure.unwrap().class, FailureClass::BudgetExceeded);
            let calls: Vec<_> = (0..2).flat_map(|item| run.call_times(&format!("all[{item}]"))).collect();
            assert_eq!(calls, [(0, ms(SECOND))]);
            // The requests of `finally` wait as long as necessary.
            assert_eq!(run.call_times("tidy"), [(ms(MINUTE), ms(MINUTE + SECOND))]);
        },
    );
}

#[test]
fn pauses_between_attempts_do_not_count_as_seconds_of_a_step() {
    let keys = ", timeout: 20m, retry: { max: 5, backoff: 30m }, budget: { seconds: 1800 }";
    simulate(
        &step(keys),
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert_eq!(run.run_session().await.failure.unwrap().class, FailureClass::BudgetExceeded);
            let second_start = ms(20 * MINUTE) + run.pauses()[0];
            assert_eq!(run.call_times("one"), [(0, ms(20 * MINUTE)), (second_start, second_start + ms(10 * MINUTE))]);
        },
    );
}

#[test]
fn parallel_steps_share_the_seconds_of_their_group() {
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
    simulate(
        steps,
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert_eq!(run.run_session().await.failure.unwrap().class, FailureClass::BudgetExceeded);
            // Two calls are always in flight, so they use up the hour in half an hour.
            let half_hour = ms(30 * MINUTE);
            assert_eq!(run.call_times("both/two/nap"), [(0, ms(10 * MINUTE))]);
            assert_eq!(run.call_times("both/one"), [(0, half_hour)]);
            assert_eq!(run.call_times("both/two/late"), [(ms(10 * MINUTE), half_hour)]);
            assert_eq!(run.call_times("both/two/last"), []);
            assert_eq!(run.call_times("tidy"), [(half_hour, half_hour)], "`finally` still runs");
        },
    );
}

#[test]
fn no_branch_starts_a_call_after_a_call_exceeds_the_budget() {
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
    simulate(
        steps,
        |_, _| ScriptedReply::text("done", MINUTE),
        async |mut run| {
            run.edit(
                "a: { model: lab/m }",
                "a: { model: lab/m, max_output_tokens: 100 }, b: { model: lab/m, max_output_tokens: 5000 }",
            );
            let failure = run.run_session().await.failure.unwrap();
            assert!(failure.message.starts_with("the budget of step `both` is 1000 tokens; 14 are used"), "{failure}");
            // The large request waited for the calls in flight. Then it still did not fit, so the budget ended the run.
            let ten_minutes = ms(10 * MINUTE);
            assert_eq!(run.call_times("both/two/nap"), [(0, ten_minutes)]);
            assert_eq!((run.call_times("both/two/small"), run.call_times("both/two/last")), (vec![], vec![]));
            assert_eq!(
                (run.call_times("tidy"), run.call_times("word")),
                (vec![(ten_minutes, ten_minutes)], vec![(ten_minutes, ten_minutes + ms(MINUTE))])
            );
        },
    );
}

#[test]
fn a_stop_waits_ten_seconds_for_a_reply_and_a_second_stop_does_not() {
    let session_with_stops = |stop_delays: Vec<Duration>| SessionScript { stop_delays, ..SessionScript::default() };
    for (reply_delay, stop_delays, call_end, completed) in [
        (HOUR + 9 * SECOND, vec![HOUR], HOUR + 9 * SECOND, true),
        (HOUR + 11 * SECOND, vec![HOUR], HOUR + 10 * SECOND, false),
        (HOUR + 9 * SECOND, vec![HOUR, 4 * SECOND], HOUR + 4 * SECOND, false),
    ] {
        let steps = format!(
            "{}  - {{ id: two, agent: a, prompt: p.md, message: two, schema: text, output: y }}\n",
            step(", timeout: 2h")
        );
        simulate(
            &steps,
            move |_, _| ScriptedReply::text("done", reply_delay),
            async |mut run| {
                assert_eq!(
                    run.run_session_with(session_with_stops(stop_delays)).await.unwrap().status,
                    RunStatus::Cancelled
                );
                assert_eq!(run.call_times("one"), [(0, ms(call_end))]);
                assert_eq!(run.call_times("two"), []);
                let completions = run.event_times(|fact| matches!(fact, Fact::StepCompleted(_)));
                assert_eq!(completions.len(), usize::from(completed));
            },
        );
    }
}

#[test]
fn a_reply_is_recorded_while_timed_out_commands_are_being_ended() {
    let steps = "steps:
  - id: all
    parallel:
      - { id: many, for_each: range(8), max_parallel: 8, run: \"trap '' TERM; echo asleep; while :; do sleep 1; done\", timeout: 1h, access: none, on_error: continue }
      - { id: ask, agent: a, prompt: p.md, message: all/ask, schema: text, output: x, timeout: 2h }
";
    let script = |_: &str, _| ScriptedReply::text("done", HOUR);
    simulate(steps, script, async |mut run| {
        assert_eq!(run.run_session().await.status, RunStatus::Failed);
        let ended_step = |event: orch::model::Event| match event.fact {
            Fact::CallEnded(call) => Some(call.call.step.to_string()),
            _ => None,
        };
        let ended_steps: Vec<String> = run.events().into_iter().filter_map(ended_step).collect();
        assert_eq!((ended_steps.len(), ended_steps[0].as_str()), (9, "all/ask"), "{ended_steps:?}");
        // Each call ended at its timeout. The time that orch needs to end the program does not count.
        for item in 0..8 {
            assert_eq!(run.call_times(&format!("all/many[{item}]")), [(0, ms(HOUR))]);
        }
    });
}
