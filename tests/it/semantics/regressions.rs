//! Minimal cases in which orch once behaved differently from the documentation.

use super::combinations::{agent, command, step, with_input, with_previous_input};
use super::harness::Harness;
use super::pipeline::{Access, ForEachSpec, ItemSource, Kind, OnError, Step, TestPipeline, When};
use super::script::{Script, ScriptedOutcome};
use super::{Case, CaseResult};

/// Asserts that a run of a pipeline matches the model.
fn assert_case_matches_model(pipeline: TestPipeline, script: Script) {
    let case =
        Case { pipeline, script, continue_on_error: false, crashes: Vec::new(), stops: Vec::new(), edits: Vec::new() };
    match case.run(&Harness::new(), "regression") {
        CaseResult::Matches(_) => {}
        other => panic!("{other:#?}\n{case}"),
    }
}

/// Asserts that a run matches the model if the calls of the steps with an `x…` ID have this outcome in the first
/// session.
fn assert_matches_model(pipeline: TestPipeline, outcome: ScriptedOutcome) {
    for seed in 0..6 {
        let script = Script { seed, failing_percent: 0, succeeds_from: 2, forced_outcome: Some((outcome, false)) };
        assert_case_matches_model(pipeline.clone(), script);
    }
}

fn with_continue_on_error(step: Step) -> Step {
    Step { on_error: Some(OnError::Continue), ..step }
}

/// Steps that continue after the failure of `x`. The second step then fails and stops the group, because it writes
/// outside of the workspace.
fn steps_with_two_failures() -> Vec<Step> {
    vec![with_continue_on_error(agent("x")), step("bad", Kind::Write { escapes_workspace: true })]
}

#[test]
fn a_group_fails_with_the_error_of_the_step_that_stopped_it_and_not_of_an_earlier_one() {
    assert_matches_model(
        TestPipeline { steps: vec![step("group", Kind::Steps(steps_with_two_failures()))], ..TestPipeline::default() },
        ScriptedOutcome::PermanentFailure,
    );
    let called = TestPipeline { steps: steps_with_two_failures(), ..TestPipeline::default() };
    assert_matches_model(
        TestPipeline { steps: vec![step("call", Kind::Call(Box::new(called)))], ..TestPipeline::default() },
        ScriptedOutcome::PermanentFailure,
    );
}

#[test]
fn a_failing_finally_step_fails_a_run_whose_success_is_true() {
    let steps = vec![with_continue_on_error(agent("x")), agent("end")];
    let finally = vec![with_continue_on_error(agent("x_too"))];
    assert_matches_model(
        TestPipeline { steps, finally, success: Some("end".into()), ..TestPipeline::default() },
        ScriptedOutcome::PermanentFailure,
    );
}

#[test]
fn a_required_input_is_not_taken_from_the_previous_iteration() {
    // The second iteration does not produce `of_b`, and the step that requires it must not get the artifact of the
    // first iteration.
    let conditional =
        Step { when: Some(When::Ok("of_a".into())), ..with_input(command("b", Access::None), "of_a", false) };
    for revision in 0..8 {
        let round = vec![Step { revision, ..agent("a") }, conditional.clone(), with_input(agent("c"), "of_b", false)];
        let repeat = Kind::Repeat { until: None, max: 3, continues: false, steps: round };
        assert_matches_model(
            TestPipeline { steps: vec![step("again", repeat)], ..TestPipeline::default() },
            ScriptedOutcome::Success,
        );
    }
}

#[test]
fn each_entry_into_an_inner_loop_begins_without_a_previous_iteration() {
    let inner = Kind::Repeat {
        until: None,
        max: 2,
        continues: false,
        steps: vec![with_previous_input(agent("a"), "of_b"), with_previous_input(agent("b"), "of_a")],
    };
    let outer = Kind::Repeat { until: None, max: 2, continues: false, steps: vec![step("inner", inner)] };
    assert_matches_model(
        TestPipeline { steps: vec![step("outer", outer)], ..TestPipeline::default() },
        ScriptedOutcome::Success,
    );
}

#[test]
fn a_skipped_step_leaves_the_artifact_of_the_previous_iteration_only_in_loop_previous() {
    for revision in 0..8 {
        let patch = with_input(agent("patch"), "of_a", false);
        let patch = Step { when: Some(When::Ok("of_a".into())), ..patch };
        let apply = with_previous_input(with_input(agent("apply"), "of_patch", true), "of_patch");
        let round = vec![Step { revision, ..agent("a") }, patch, apply];
        let repeat = Kind::Repeat { until: None, max: 4, continues: false, steps: round };
        assert_matches_model(
            TestPipeline { steps: vec![step("again", repeat)], ..TestPipeline::default() },
            ScriptedOutcome::Success,
        );
    }
}

#[test]
fn an_approval_in_a_failed_group_does_not_wait_for_an_answer() {
    let steps = vec![step("later", Kind::Approve { continues: true }), agent("x")];
    assert_matches_model(
        TestPipeline { steps: vec![step("both", Kind::Parallel { limit: None, steps })], ..TestPipeline::default() },
        ScriptedOutcome::PermanentFailure,
    );
}

#[test]
fn a_cancelled_called_pipeline_still_runs_its_finally() {
    let called = TestPipeline {
        steps: vec![agent("b"), agent("c"), agent("d")],
        finally: vec![command("tidy", Access::Write)],
        ..TestPipeline::default()
    };
    let steps = vec![agent("x"), step("call", Kind::Call(Box::new(called)))];
    assert_matches_model(
        TestPipeline { steps: vec![step("both", Kind::Parallel { limit: None, steps })], ..TestPipeline::default() },
        ScriptedOutcome::PermanentFailure,
    );
}

#[test]
fn the_finally_of_a_pipeline_called_in_finally_runs_after_another_item_failed() {
    let called = TestPipeline {
        steps: vec![agent("x"), agent("b")],
        finally: vec![command("tidy", Access::Read)],
        ..TestPipeline::default()
    };
    let for_each = Some(ForEachSpec { items: ItemSource::Literal(2), limit: 2 });
    let call = Step { for_each, ..step("x_all", Kind::Call(Box::new(called))) };
    assert_matches_model(
        TestPipeline { steps: vec![agent("a")], finally: vec![call], ..TestPipeline::default() },
        ScriptedOutcome::PermanentFailure,
    );
}

#[test]
fn steps_that_had_not_started_when_a_parallel_step_failed_are_skipped() {
    let sequence = step("many", Kind::Steps(vec![agent("b"), agent("c"), agent("d")]));
    let steps = vec![agent("x"), sequence];
    assert_matches_model(
        TestPipeline { steps: vec![step("both", Kind::Parallel { limit: None, steps })], ..TestPipeline::default() },
        ScriptedOutcome::PermanentFailure,
    );
}

#[test]
fn a_step_that_did_not_run_does_not_count_as_a_write() {
    // The step does not run, because its condition is not a boolean. So a resume reuses the step that reads the
    // workspace.
    let write = with_input(step("bad", Kind::Write { escapes_workspace: false }), "of_a", false);
    let steps = vec![
        agent("a"),
        Step { when: Some(When::NotABoolean("of_a".into())), ..with_continue_on_error(write) },
        command("sees", Access::Read),
        agent("x"),
    ];
    assert_matches_model(TestPipeline { steps, ..TestPipeline::default() }, ScriptedOutcome::PermanentFailure);
    // A step without items did not run either.
    let for_each = Some(ForEachSpec { items: ItemSource::Literal(0), limit: 1 });
    let without_items = Step { for_each, ..step("none", Kind::Write { escapes_workspace: false }) };
    let called = TestPipeline { steps: vec![agent("a")], finally: vec![without_items], ..TestPipeline::default() };
    let steps = vec![step("call", Kind::Call(Box::new(called))), command("sees", Access::Read), agent("x")];
    assert_matches_model(TestPipeline { steps, ..TestPipeline::default() }, ScriptedOutcome::PermanentFailure);
}

#[test]
fn the_file_of_a_loop_comes_from_the_last_iteration_even_if_a_resume_reuses_only_this_iteration() {
    // The resume repeats the first iteration and reuses the second one. The file of the first iteration must not
    // replace the file of the second iteration.
    let first = with_continue_on_error(with_previous_input(agent("x"), "of_b"));
    let round = vec![first, agent("b")];
    let repeat = Kind::Repeat { until: None, max: 2, continues: false, steps: round };
    assert_matches_model(
        TestPipeline { steps: vec![step("again", repeat)], ..TestPipeline::default() },
        ScriptedOutcome::PermanentFailure,
    );
    let items = Step {
        for_each: Some(ForEachSpec { items: ItemSource::Literal(2), limit: 2 }),
        output: Some("all".into()),
        ..with_continue_on_error(agent("y"))
    };
    for seed in 0..40 {
        let script = Script { seed, failing_percent: 45, succeeds_from: 2, forced_outcome: None };
        let repeat = Kind::Repeat { until: None, max: 2, continues: false, steps: vec![items.clone()] };
        let pipeline = TestPipeline { steps: vec![step("again", repeat)], ..TestPipeline::default() };
        assert_case_matches_model(pipeline, script);
    }
}
