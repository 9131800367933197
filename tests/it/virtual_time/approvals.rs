//! Approvals whose answers come after hours, or too late.

use std::sync::Arc;
use std::time::Duration;

use orch::model::event::Fact;
use orch::model::{FailureClass, RunStatus};

use super::ms;
use super::server::ScriptedReply;
use super::simulation::{HOUR, MINUTE, Session, simulate};

const ASK: &str = "steps:
  - { id: ask, approve: Shall it?, timeout: 2h, output: signed }
  - { id: after, run: 'true', access: none }
";

/// A session with a person at the terminal, who answers this after some time.
fn person(says: impl Fn(&str) -> (Duration, bool) + Send + Sync + 'static) -> Session {
    Session { person: Some(Arc::new(says)), ..Session::default() }
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
        ASK,
        |_, _| ScriptedReply::never(),
        async |mut run| {
            let state = run.session(person(|_| (119 * MINUTE, true))).await.unwrap();
            assert_eq!(state.status, RunStatus::Completed);
            assert_eq!((run.times(is_question), run.times(is_answer)), (vec![0], vec![ms(119 * MINUTE)]));
            assert_eq!(run.calls("after"), [(ms(119 * MINUTE), ms(119 * MINUTE))]);
        },
    );
}

#[test]
fn a_rejection_and_a_missing_answer_are_different_failures() {
    simulate(
        ASK,
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert_eq!(run.session(person(|_| (HOUR, false))).await.unwrap().status, RunStatus::Failed);
            assert_eq!(run.failure("ask").unwrap(), (FailureClass::Rejected, "ada rejected it".to_owned()));
            assert_eq!(run.times(|fact| matches!(fact, Fact::StepFailed(_))), [ms(HOUR)]);
        },
    );
    simulate(
        ASK,
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert_eq!(run.session(person(|_| (3 * HOUR, true))).await.unwrap().status, RunStatus::Failed);
            assert_eq!(run.failure("ask").unwrap().0, FailureClass::ApprovalTimeout);
            assert_eq!(run.times(|fact| matches!(fact, Fact::StepFailed(_))), [ms(2 * HOUR)]);
            assert_eq!(run.times(is_answer), Vec::<u64>::new());
        },
    );
}

#[test]
fn a_suspended_run_accepts_only_answers_before_the_timeout() {
    // When the person answers, when the run resumes, and the failure that follows.
    for (answer, resume, class) in [
        (Some((HOUR, true)), 5 * HOUR, None),
        (Some((HOUR, false)), 5 * HOUR, Some(FailureClass::Rejected)),
        (Some((2 * HOUR + MINUTE, true)), 5 * HOUR, Some(FailureClass::ApprovalTimeout)),
        (None, 2 * HOUR, Some(FailureClass::ApprovalTimeout)),
    ] {
        simulate(
            ASK,
            |_, _| ScriptedReply::never(),
            async |mut run| {
                assert_eq!(run.run_session().await.status, RunStatus::Waiting);
                let mut left = resume;
                if let Some((at, approved)) = answer {
                    run.advance(at).await;
                    run.send_answer(approved);
                    left -= at;
                }
                run.advance(left).await;
                let state = run.run_session().await;
                assert_eq!(run.failure("ask").map(|failure| failure.0), class, "{answer:?}");
                assert_eq!(state.status == RunStatus::Completed, class.is_none(), "{answer:?}");
                assert_eq!(run.times(is_question), [0], "nobody is asked twice");
                let ended = run.times(|fact| matches!(fact, Fact::StepFailed(_)));
                assert_eq!(ended, if class.is_some() { vec![ms(resume)] } else { vec![] }, "{answer:?}");
            },
        );
    }
}

#[test]
fn a_resume_waits_for_an_open_question_without_asking_again() {
    simulate(
        ASK,
        |_, _| ScriptedReply::never(),
        async |mut run| {
            assert_eq!(run.run_session().await.status, RunStatus::Waiting);
            run.advance(HOUR).await;
            assert_eq!(run.run_session().await.status, RunStatus::Waiting);
            // The timeout counts from the question, not from the resume.
            assert_eq!(run.session(person(|_| (HOUR + MINUTE, true))).await.unwrap().status, RunStatus::Failed);
            assert_eq!(run.failure("ask").unwrap().0, FailureClass::ApprovalTimeout);
            assert_eq!((run.times(is_question), run.now()), (vec![0], ms(2 * HOUR)));
            // The next resume asks again.
            assert_eq!(run.session(person(|_| (HOUR, true))).await.unwrap().status, RunStatus::Completed);
            assert_eq!((run.times(is_question), run.now()), (vec![0, ms(2 * HOUR)], ms(3 * HOUR)));
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
fn each_round_asks_its_own_question_with_its_own_timeout() {
    let script = |_: &str, _| ScriptedReply::text("a draft", 10 * MINUTE);
    let says = |step: &str| (HOUR, step == "fix[2]/ask");
    simulate(ROUNDS, script, async |mut run| {
        assert_eq!(run.session(person(says)).await.unwrap().status, RunStatus::Completed);
        let round = ms(HOUR + 10 * MINUTE);
        assert_eq!(run.times(is_question), [ms(10 * MINUTE), round + ms(10 * MINUTE), 2 * round + ms(10 * MINUTE)]);
        assert_eq!(run.times(is_answer), [round, 2 * round, 3 * round]);
    });
    // A second round without an answer fails at its own timeout.
    let says = |step: &str| (if step == "fix[0]/ask" { HOUR } else { 5 * HOUR }, false);
    simulate(ROUNDS, script, async |mut run| {
        assert_eq!(run.session(person(says)).await.unwrap().status, RunStatus::Failed);
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
            assert_eq!(run.times(is_question), [0, 1, 2].map(|before| ms(before * round + 10 * MINUTE)));
            for number in 0..3 {
                let began = ms(number * round);
                assert_eq!(run.calls(&format!("fix[{number}]/draft")), [(began, began + ms(10 * MINUTE))]);
            }
        },
    );
}

#[test]
fn waiting_for_a_person_uses_no_budget_even_if_the_process_dies_meanwhile() {
    let steps = "steps:
  - id: group
    budget: { seconds: 3600 }
    steps:
      - { id: ask, approve: Shall it?, output: signed }
      - { id: one, agent: a, prompt: p.md, message: group/one, schema: text, output: x, timeout: 2h }
";
    simulate(
        steps,
        |_, _| ScriptedReply::text("done", 50 * MINUTE),
        async |mut run| {
            assert_eq!(run.run_session().await.status, RunStatus::Waiting);
            // The question is open; the process asks a person at the terminal, and dies before the answer.
            let dies = Session { dies: Some(2 * HOUR), ..person(|_| (9 * HOUR, true)) };
            assert!(run.session(dies).await.is_none());
            assert_eq!(run.session(person(|_| (HOUR, true))).await.unwrap().status, RunStatus::Completed);
            assert_eq!(run.times(is_question), [0]);
            assert_eq!(run.calls("group/one"), [(ms(3 * HOUR), ms(3 * HOUR + 50 * MINUTE))]);
        },
    );
}
