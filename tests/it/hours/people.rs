//! People who take their time to answer, or more than that.

use std::sync::Arc;
use std::time::Duration;

use orch::model::event::Fact;
use orch::model::{FailureClass, RunStatus};

use super::ms;
use super::server::Play;
use super::world::{HOUR, MINUTE, Session, world};

const ASK: &str = "steps:
  - { id: ask, approve: Shall it?, timeout: 2h, output: signed }
  - { id: after, run: 'true', access: none }
";

/// A person in front of the terminal who says this after some time.
fn person(says: impl Fn(&str) -> (Duration, bool) + Send + Sync + 'static) -> Session {
    Session { person: Some(Arc::new(says)), ..Session::default() }
}

fn asked(fact: &Fact) -> bool {
    matches!(fact, Fact::ApprovalAsked(_))
}

fn answered(fact: &Fact) -> bool {
    matches!(fact, Fact::ApprovalAnswered(_))
}

#[test]
fn an_answer_that_comes_in_time_is_taken_at_its_time() {
    world(
        ASK,
        |_, _| Play::silence(),
        async |mut world| {
            let state = world.session(person(|_| (119 * MINUTE, true))).await.unwrap();
            assert_eq!(state.status, RunStatus::Completed);
            assert_eq!((world.times(asked), world.times(answered)), (vec![0], vec![ms(119 * MINUTE)]));
            assert_eq!(world.calls("after"), [(ms(119 * MINUTE), ms(119 * MINUTE))]);
        },
    );
}

#[test]
fn a_no_and_no_answer_at_all_are_different_failures() {
    world(
        ASK,
        |_, _| Play::silence(),
        async |mut world| {
            assert_eq!(world.session(person(|_| (HOUR, false))).await.unwrap().status, RunStatus::Failed);
            assert_eq!(world.failure("ask").unwrap(), (FailureClass::Rejected, "ada rejected it".to_owned()));
            assert_eq!(world.times(|fact| matches!(fact, Fact::StepFailed(_))), [ms(HOUR)]);
        },
    );
    world(
        ASK,
        |_, _| Play::silence(),
        async |mut world| {
            assert_eq!(world.session(person(|_| (3 * HOUR, true))).await.unwrap().status, RunStatus::Failed);
            assert_eq!(world.failure("ask").unwrap().0, FailureClass::ApprovalTimeout);
            assert_eq!(world.times(|fact| matches!(fact, Fact::StepFailed(_))), [ms(2 * HOUR)]);
            assert_eq!(world.times(answered), Vec::<u64>::new());
        },
    );
}

#[test]
fn a_run_that_parks_takes_answers_that_were_given_in_time_and_no_others() {
    // When it is answered, when it is resumed, and what comes of it.
    for (answer, resume, class) in [
        (Some((HOUR, true)), 5 * HOUR, None),
        (Some((HOUR, false)), 5 * HOUR, Some(FailureClass::Rejected)),
        (Some((2 * HOUR + MINUTE, true)), 5 * HOUR, Some(FailureClass::ApprovalTimeout)),
        (None, 2 * HOUR, Some(FailureClass::ApprovalTimeout)),
    ] {
        world(
            ASK,
            |_, _| Play::silence(),
            async |mut world| {
                assert_eq!(world.run().await.status, RunStatus::Waiting);
                let mut left = resume;
                if let Some((at, approved)) = answer {
                    world.later(at).await;
                    world.post(approved);
                    left -= at;
                }
                world.later(left).await;
                let state = world.run().await;
                assert_eq!(world.failure("ask").map(|failure| failure.0), class, "{answer:?}");
                assert_eq!(state.status == RunStatus::Completed, class.is_none(), "{answer:?}");
                assert_eq!(world.times(asked), [0], "nobody is asked twice");
                let ended = world.times(|fact| matches!(fact, Fact::StepFailed(_)));
                assert_eq!(ended, if class.is_some() { vec![ms(resume)] } else { vec![] }, "{answer:?}");
            },
        );
    }
}

#[test]
fn a_question_that_is_still_open_is_waited_for_without_being_asked_again() {
    world(
        ASK,
        |_, _| Play::silence(),
        async |mut world| {
            assert_eq!(world.run().await.status, RunStatus::Waiting);
            world.later(HOUR).await;
            assert_eq!(world.run().await.status, RunStatus::Waiting);
            // Its time goes on from the question, not from the resume.
            assert_eq!(world.session(person(|_| (HOUR + MINUTE, true))).await.unwrap().status, RunStatus::Failed);
            assert_eq!(world.failure("ask").unwrap().0, FailureClass::ApprovalTimeout);
            assert_eq!((world.times(asked), world.now()), (vec![0], ms(2 * HOUR)));
            // A resume after that asks anew.
            assert_eq!(world.session(person(|_| (HOUR, true))).await.unwrap().status, RunStatus::Completed);
            assert_eq!((world.times(asked), world.now()), (vec![0, ms(2 * HOUR)], ms(3 * HOUR)));
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
fn each_round_asks_for_itself_and_has_its_own_time() {
    let play = |_: &str, _| Play::says("a draft", 10 * MINUTE);
    let says = |step: &str| (HOUR, step == "fix[2]/ask");
    world(ROUNDS, play, async |mut world| {
        assert_eq!(world.session(person(says)).await.unwrap().status, RunStatus::Completed);
        let round = ms(HOUR + 10 * MINUTE);
        assert_eq!(world.times(asked), [ms(10 * MINUTE), round + ms(10 * MINUTE), 2 * round + ms(10 * MINUTE)]);
        assert_eq!(world.times(answered), [round, 2 * round, 3 * round]);
    });
    // A second round that nobody answers fails by its own time-out.
    let says = |step: &str| (if step == "fix[0]/ask" { HOUR } else { 5 * HOUR }, false);
    world(ROUNDS, play, async |mut world| {
        assert_eq!(world.session(person(says)).await.unwrap().status, RunStatus::Failed);
        assert_eq!(world.failure("fix[1]/ask").unwrap().0, FailureClass::ApprovalTimeout);
        assert_eq!(world.now(), ms(HOUR + 20 * MINUTE + 2 * HOUR));
    });
}

#[test]
fn rounds_whose_process_ends_between_them_go_on_where_they_were() {
    world(
        ROUNDS,
        |_, _| Play::says("a draft", 10 * MINUTE),
        async |mut world| {
            for round in 1..=3 {
                assert_eq!(world.run().await.status, RunStatus::Waiting);
                world.later(HOUR).await;
                world.post(round == 3);
                world.later(3 * HOUR).await;
            }
            assert_eq!(world.run().await.status, RunStatus::Completed);
            let round = 4 * HOUR + 10 * MINUTE;
            assert_eq!(world.times(asked), [0, 1, 2].map(|before| ms(before * round + 10 * MINUTE)));
            for number in 0..3 {
                let began = ms(number * round);
                assert_eq!(world.calls(&format!("fix[{number}]/draft")), [(began, began + ms(10 * MINUTE))]);
            }
        },
    );
}

#[test]
fn a_persons_time_is_nobodys_also_when_the_process_died_while_they_thought() {
    let steps = "steps:
  - id: group
    budget: { seconds: 3600 }
    steps:
      - { id: ask, approve: Shall it?, output: signed }
      - { id: one, agent: a, prompt: p.md, message: group/one, schema: text, output: x, timeout: 2h }
";
    world(
        steps,
        |_, _| Play::says("done", 50 * MINUTE),
        async |mut world| {
            assert_eq!(world.run().await.status, RunStatus::Waiting);
            // The question stands; somebody is asked in person, and the process dies before they answer.
            let dies = Session { dies: Some(2 * HOUR), ..person(|_| (9 * HOUR, true)) };
            assert!(world.session(dies).await.is_none());
            assert_eq!(world.session(person(|_| (HOUR, true))).await.unwrap().status, RunStatus::Completed);
            assert_eq!(world.times(asked), [0]);
            assert_eq!(world.calls("group/one"), [(ms(3 * HOUR), ms(3 * HOUR + 50 * MINUTE))]);
        },
    );
}
