//! Approvals whose answers come after hours, or too late.

use std::sync::Arc;
use std::time::Duration;

use orch::model::event::Fact;
use orch::model::{FailureClass, RunStatus};

use super::ms;
use super::server::ScriptedReply;
use super::simulation::{HOUR, MINUTE, SessionScript, simulate};

const APPROVAL: &str = "steps:
  - { id: ask, approve: Continue?, timeout: 2h, output: signed }
  - { id: after, run: 'true', access: none }
";

/// A session with a person at the terminal. `answers` returns the time until an answer, and whether it is an approval.
fn session_with_person(answers: impl Fn(&str) -> (Duration, bool) + Send + Sync + 'static) -> SessionScript {
    SessionScript { answers: Some(Arc::new(answers)), ..SessionScript::default() }
}

fn is_question(fact: &Fact) -> bool {
    matches!(fact, Fact::ApprovalAsked(_))
}

fn is_answer(fact: &Fact) -> bool {
    matches!(fact, Fact::ApprovalAnswered(_))
}

#[test]
fn an_answer_before_the_timeout_is_recorded_with_its_time() {
    simulate(
        APPROVAL,
        |_, _| ScriptedReply::never(),
        async |mut run| {
            let state = run.run_session_with(session_with_person(|_| (119 * MINUTE, true))).await.unwrap();
            assert_eq!(state.status, RunStatus::Completed);
            assert_eq!((run.event_times(is_question), run.event_times(is_answer)), (vec![0], vec![ms(119 * MINUTE)]));
            assert_eq!(run.call_times("after"), [(ms(119 * MINUTE), ms(119 * MINUTE))]);
        },
    );
}

#[test]
fn a_rejection_and_a_missing_answer_are_different_failures() {
    simulate(
        APPROVAL,
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert_eq!(
                run.run_session_with(session_with_person(|_| (HOUR, false))).await.unwrap().status,
                RunStatus::Failed
            );
            assert_eq!(run.failure("ask").unwrap(), (FailureClass::Rejected, "ada rejected it".to_owned()));
            assert_eq!(run.event_times(|fact| matches!(fact, Fact::StepFailed(_))), [ms(HOUR)]);
        },
    );
    simulate(
        APPROVAL,
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert_eq!(
                run.run_session_with(session_with_person(|_| (3 * HOUR, true))).await.unwrap().status,
                RunStatus::Failed
            );
            assert_eq!(run.failure("ask").unwrap().0, FailureClass::ApprovalTimeout);
            assert_eq!(run.event_times(|fact| matches!(fact, Fact::StepFailed(_))), [ms(2 * HOUR)]);
            assert_eq!(run.event_times(is_answer), Vec::<u64>::new());
        },
    );
}

#[test]
fn a_suspended_run_accepts_only_answers_before_the_timeout() {
    // The time and the kind of the answer, the time of the resume, and the resulting failure.
    for (answer, resume_time, class) in [
        (Some((HOUR, true)), 5 * HOUR, None),
        (Some((HOUR, false)), 5 * HOUR, Some(FailureClass::Rejected)),
        (Some((2 * HOUR + MINUTE, true)), 5 * HOUR, Some(FailureClass::ApprovalTimeout)),
        (None, 2 * HOUR, Some(FailureClass::ApprovalTimeout)),
    ] {
        simulate(
            APPROVAL,
            |_, _| ScriptedReply::never(),
            async |mut run| {
                assert_eq!(run.run_session().await.status, RunStatus::Waiting);
                let mut remaining = resume_time;
                if let Some((answer_time, approved)) = answer {
                    run.advance(answer_time).await;
                    run.send_answer(approved);
                    remaining -= answer_time;
                }
                run.advance(remaining).await;
                let state = run.run_session().await;
                assert_eq!(run.failure("ask").map(|failure| failure.0), class, "{answer:?}");
                assert_eq!(state.status == RunStatus::Completed, class.is_none(), "{answer:?}");
                assert_eq!(run.event_times(is_question), [0], "the resume does not ask again");
                let failures = run.event_times(|fact| matches!(fact, Fact::StepFailed(_)));
                assert_eq!(failures, if class.is_some() { vec![ms(resume_time)] } else { vec![] }, "{answer:?}");
            },
        );
    }
}

#[test]
fn a_resume_waits_for_an_open_question_without_asking_again() {
    simulate(
        APPROVAL,
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert_eq!(run.run_session().await.status, RunStatus::Waiting);
            run.advance(HOUR).await;
            assert_eq!(run.run_session().await.status, RunStatus::Waiting);
            // The timeout starts with the question, not with the resume.
            assert_eq!(
                run.run_session_with(session_with_person(|_| (HOUR + MINUTE, true))).await.unwrap().status,
                RunStatus::Failed
            );
            assert_eq!(run.failure("ask").unwrap().0, FailureClass::ApprovalTimeout);
            assert_eq!((run.event_times(is_question), run.now()), (vec![0], ms(2 * HOUR)));
            // The next resume asks again.
            assert_eq!(
                run.run_session_with(session_with_person(|_| (HOUR, true))).await.unwrap().status,
                RunStatus::Completed
            );
            assert_eq!((run.event_times(is_question), run.now()), (vec![0, ms(2 * HOUR)], ms(3 * HOUR)));
        },
    );
}

const ROUNDS: &str = "steps:
  - id: fix
    repeat:
      until: signed.approved
      max: 3
      steps:
        - { id: draft, agent: a, prompt: p.md, message: 'fix[{{ loop.index0 }}]/draft', timeout: 1h, schema: text, output: draft }
        - { id: ask, inputs: [draft], approve: '{{ draft }}?', on_reject: continue, timeout: 2h, output: signed }
";

#[test]
fn each_iteration_asks_its_own_question_with_its_own_timeout() {
    let script = |_: &str, _| ScriptedReply::text("a draft", 10 * MINUTE);
    let answers = |step: &str| (HOUR, step == "fix[2]/ask");
    simulate(ROUNDS, script, async |mut run| {
        assert_eq!(run.run_session_with(session_with_person(answers)).await.unwrap().status, RunStatus::Completed);
        let round = ms(HOUR + 10 * MINUTE);
        assert_eq!(
            run.event_times(is_question),
            [ms(10 * MINUTE), round + ms(10 * MINUTE), 2 * round + ms(10 * MINUTE)]
        );
        assert_eq!(run.event_times(is_answer), [round, 2 * round, 3 * round]);
    });
    // A second iteration without an answer fails at its own timeout.
    let answers = |step: &str| (if step == "fix[0]/ask" { HOUR } else { 5 * HOUR }, false);
    simulate(ROUNDS, script, async |mut run| {
        assert_eq!(run.run_session_with(session_with_person(answers)).await.unwrap().status, RunStatus::Failed);
        assert_eq!(run.failure("fix[1]/ask").unwrap().0, FailureClass::ApprovalTimeout);
        assert_eq!(run.now(), ms(HOUR + 20 * MINUTE + 2 * HOUR));
    });
}

#[test]
fn a_loop_continues_at_its_round_after_each_restart() {
    simulate(
        ROUNDS,
        |_, _| ScriptedReply::text("a draft", 10 * MINUTE),
        async |mut run| {
            for round in 1..=3 {
                assert_eq!(run.run_session().await.status, RunStatus::Waiting);
                run.advance(HOUR).await;
                run.send_answer(round == 3);
                run.advance(3 * HOUR).await;
            }
            assert_eq!(run.run_session().await.status, RunStatus::Completed);
            let round = 4 * HOUR + 10 * MINUTE;
            assert_eq!(
                run.event_times(is_question),
                [0, 1, 2].map(|earlier_iterations| ms(earlier_iterations * round + 10 * MINUTE))
            );
            for number in 0..3 {
                let start = ms(number * round);
                assert_eq!(run.call_times(&format!("fix[{number}]/draft")), [(start, start + ms(10 * MINUTE))]);
            }
        },
    );
}

#[test]
fn waiting_for_an_approval_uses_no_budget_even_if_the_process_dies_meanwhile() {
    let steps = "steps:
  - id: group
    budget: { seconds: 3600 }
    steps:
      - { id: ask, approve: Continue?, output: signed }
      - { id: one, agent: a, prompt: p.md, message: group/one, schema: text, output: x, timeout: 2h }
";
    simulate(
        steps,
        |_, _| ScriptedReply::text("done", 50 * MINUTE),
        async |mut run| {
            assert_eq!(run.run_session().await.status, RunStatus::Waiting);
            // The next process asks a person at the terminal the open question, and dies before the answer.
            let crash = SessionScript { crash_after: Some(2 * HOUR), ..session_with_person(|_| (9 * HOUR, true)) };
            assert!(run.run_session_with(crash).await.is_none());
            assert_eq!(
                run.run_session_with(session_with_person(|_| (HOUR, true))).await.unwrap().status,
                RunStatus::Completed
            );
            assert_eq!(run.event_times(is_question), [0]);
            assert_eq!(run.call_times("group/one"), [(ms(3 * HOUR), ms(3 * HOUR + 50 * MINUTE))]);
        },
    );
}

#[test]
fn a_timeout_ends_while_a_parallel_step_works() {
    let steps = "steps:
  - id: both
    parallel:
      - { id: ask, approve: Continue?, timeout: 1h, output: signed }
      - { id: one, agent: a, prompt: p.md, message: both/one, schema: text, output: x, timeout: 4h }
";
    simulate(
        steps,
        |_, _| ScriptedReply::text("done", 3 * HOUR),
        async |mut run| {
            assert_eq!(run.run_session().await.status, RunStatus::Failed);
            assert_eq!(run.failure("both/ask").unwrap().0, FailureClass::ApprovalTimeout);
            let failures = run.event_times(|fact| matches!(fact, Fact::StepFailed(_)));
            assert_eq!(failures.first(), Some(&ms(HOUR)), "{failures:?}");
        },
    );
}
