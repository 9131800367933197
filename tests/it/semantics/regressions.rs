//! Regressions: minimal cases that once differed from the documentation.

use super::combinations::{agent, reads, run, step};
use super::harness::Harness;
use super::pipeline::{Access, Each, Kind, List, OnError, Step, TestPipeline, When};
use super::script::{Script, ScriptedOutcome};
use super::{Case, Verdict};

/// Asserts that these steps match the model when the calls of `x` have this outcome in the first session.
fn assert_matches_model(pipeline: TestPipeline, say: ScriptedOutcome) {
    for seed in 0..6 {
        let script = Script { seed, trouble: 0, mended: 2, chosen: Some((say, false)) };
        let case = Case {
            pipeline: pipeline.clone(),
            script,
            lenient: false,
            crashes: Vec::new(),
            stops: Vec::new(),
            edits: Vec::new(),
        };
        match case.run(&Harness::new(), "named") {
            Verdict::Same(_) => {}
            other => panic!("{other:#?}\n{case}"),
        }
    }
}

fn continue_on_error(step: Step) -> Step {
    Step { on_error: Some(OnError::Continue), ..step }
}

/// A group that continues after the failure of `x`, until a step stops it because its path is refused.
fn steps_with_two_failures() -> Vec<Step> {
    vec![continue_on_error(agent("x")), step("bad", Kind::Write { escapes: true })]
}

#[test]
fn a_group_fails_with_the_error_of_the_step_that_stopped_it_and_not_of_an_earlier_one() {
    assert_matches_model(
        TestPipeline { steps: vec![step("group", Kind::Steps(steps_with_two_failures()))], ..TestPipeline::default() },
        ScriptedOutcome::No,
    );
    let called = TestPipeline { steps: steps_with_two_failures(), ..TestPipeline::default() };
    assert_matches_model(
        TestPipeline { steps: vec![step("call", Kind::Call(Box::new(called)))], ..TestPipeline::default() },
        ScriptedOutcome::No,
    );
}

#[test]
fn a_failing_finally_step_fails_a_run_whose_success_is_true() {
    let steps = vec![continue_on_error(agent("x")), agent("end")];
    let finally = vec![continue_on_error(agent("x_too"))];
    assert_matches_model(
        TestPipeline { steps, finally, success: Some("end".into()), ..TestPipeline::default() },
        ScriptedOutcome::No,
    );
}

#[test]
fn a_required_input_is_not_taken_from_the_previous_round() {
    // The second round does not produce `of_b`: the step that needs it does not get that of the first round.
    let once = Step { when: Some(When::Ok("of_a".into())), ..reads(run("b", Access::None), "of_a", false) };
    for word in 0..8 {
        let round = vec![Step { word, ..agent("a") }, once.clone(), reads(agent("c"), "of_b", false)];
        let repeat = Kind::Repeat { until: None, max: 3, goes_on: false, steps: round };
        assert_matches_model(
            TestPipeline { steps: vec![step("again", repeat)], ..TestPipeline::default() },
            ScriptedOutcome::Well,
        );
    }
}

#[test]
fn a_question_in_a_failed_group_does_not_wait_for_an_answer() {
    let steps = vec![step("later", Kind::Approve { goes_on: true }), agent("x")];
    assert_matches_model(
        TestPipeline { steps: vec![step("both", Kind::Parallel { limit: None, steps })], ..TestPipeline::default() },
        ScriptedOutcome::No,
    );
}

#[test]
fn a_cancelled_called_pipeline_still_runs_its_finally() {
    let called = TestPipeline {
        steps: vec![agent("b"), agent("c"), agent("d")],
        finally: vec![run("tidy", Access::Write)],
        ..TestPipeline::default()
    };
    let steps = vec![agent("x"), step("call", Kind::Call(Box::new(called)))];
    assert_matches_model(
        TestPipeline { steps: vec![step("both", Kind::Parallel { limit: None, steps })], ..TestPipeline::default() },
        ScriptedOutcome::No,
    );
}

#[test]
fn the_finally_of_a_pipeline_called_in_finally_runs_after_another_item_failed() {
    let called = TestPipeline {
        steps: vec![agent("x"), agent("b")],
        finally: vec![run("tidy", Access::Read)],
        ..TestPipeline::default()
    };
    let each = Some(Each { list: List::Literal(2), limit: 2 });
    let call = Step { each, ..step("x_all", Kind::Call(Box::new(called))) };
    assert_matches_model(
        TestPipeline { steps: vec![agent("a")], finally: vec![call], ..TestPipeline::default() },
        ScriptedOutcome::No,
    );
}

#[test]
fn steps_that_had_not_begun_when_a_parallel_step_failed_are_skipped() {
    let list = step("many", Kind::Steps(vec![agent("b"), agent("c"), agent("d")]));
    let steps = vec![agent("x"), list];
    assert_matches_model(
        TestPipeline { steps: vec![step("both", Kind::Parallel { limit: None, steps })], ..TestPipeline::default() },
        ScriptedOutcome::No,
    );
}

#[test]
fn a_step_that_did_not_run_does_not_count_as_a_write() {
    // The condition is no boolean: the step did not run, so a resume keeps the steps that see the workspace.
    let write = reads(step("bad", Kind::Write { escapes: false }), "of_a", false);
    let steps = vec![
        agent("a"),
        Step { when: Some(When::Wrong("of_a".into())), ..continue_on_error(write) },
        run("sees", Access::Read),
        agent("x"),
    ];
    assert_matches_model(TestPipeline { steps, ..TestPipeline::default() }, ScriptedOutcome::No);
    // A step without items did not run either.
    let each = Some(Each { list: List::Literal(0), limit: 1 });
    let none = Step { each, ..step("none", Kind::Write { escapes: false }) };
    let called = TestPipeline { steps: vec![agent("a")], finally: vec![none], ..TestPipeline::default() };
    let steps = vec![step("call", Kind::Call(Box::new(called))), run("sees", Access::Read), agent("x")];
    assert_matches_model(TestPipeline { steps, ..TestPipeline::default() }, ScriptedOutcome::No);
}

#[test]
fn the_file_of_a_loop_is_that_of_its_last_round_even_if_only_that_round_is_kept() {
    // The resume repeats the first round, whose file must not replace that of the second round, which it keeps.
    let first = continue_on_error(reads(agent("x"), "of_b", true));
    let round = vec![first, agent("b")];
    let inner = Kind::Repeat { until: None, max: 2, goes_on: false, steps: round };
    assert_matches_model(
        TestPipeline { steps: vec![step("again", inner)], ..TestPipeline::default() },
        ScriptedOutcome::No,
    );
    let items = Step {
        each: Some(Each { list: List::Literal(2), limit: 2 }),
        output: Some("all".into()),
        ..continue_on_error(agent("y"))
    };
    for seed in 0..40 {
        let script = Script { seed, trouble: 45, mended: 2, chosen: None };
        let repeat = Kind::Repeat { until: None, max: 2, goes_on: false, steps: vec![items.clone()] };
        let pipeline = TestPipeline { steps: vec![step("again", repeat)], ..TestPipeline::default() };
        let case = Case { pipeline, script, lenient: false, crashes: Vec::new(), stops: Vec::new(), edits: Vec::new() };
        match case.run(&Harness::new(), "named") {
            Verdict::Same(_) => {}
            other => panic!("{other:#?}\n{case}"),
        }
    }
}
