//! Cases that once came out otherwise than documented, each as small as it gets.

use super::pipe::{Access, Each, Kind, List, OnError, Pipe, Step, When};
use super::script::{Say, Script};
use super::stage::Stage;
use super::table::{agent, reads, run, step};
use super::{Case, Verdict};

/// Runs steps whose `x` comes to `say`, and once more with everything mended; more than one try has none.
fn holds(pipe: Pipe, say: Say) {
    for seed in 0..6 {
        let script = Script { seed, trouble: 0, mended: 2, chosen: Some((say, false)) };
        let case = Case {
            pipe: pipe.clone(),
            script,
            lenient: false,
            crashes: Vec::new(),
            stops: Vec::new(),
            edits: Vec::new(),
        };
        match case.run(&Stage::new(), "named") {
            Verdict::Same(_) => {}
            other => panic!("{other:#?}\n{case}"),
        }
    }
}

fn goes_on(step: Step) -> Step {
    Step { on_error: Some(OnError::Continue), ..step }
}

/// A group that goes on after the failure of `x`, and is stopped by a step that refuses its path.
fn stopped_later() -> Vec<Step> {
    vec![goes_on(agent("x")), step("bad", Kind::Write { escapes: true })]
}

#[test]
fn a_group_fails_with_the_error_of_the_step_that_stopped_it() {
    holds(Pipe { steps: vec![step("group", Kind::Steps(stopped_later()))], ..Pipe::default() }, Say::No);
    let called = Pipe { steps: stopped_later(), ..Pipe::default() };
    holds(Pipe { steps: vec![step("call", Kind::Call(Box::new(called)))], ..Pipe::default() }, Say::No);
}

#[test]
fn a_step_of_finally_that_fails_fails_a_run_whose_success_is_true_though_another_failed_before() {
    let steps = vec![goes_on(agent("x")), agent("end")];
    let finally = vec![goes_on(agent("x_too"))];
    holds(Pipe { steps, finally, success: Some("end".into()), ..Pipe::default() }, Say::No);
}

#[test]
fn a_required_input_is_not_what_the_round_before_gave() {
    // The second round fails to give `of_b`: who needs it does not get that of the first.
    let once = Step { when: Some(When::Ok("of_a".into())), ..reads(run("b", Access::None), "of_a", false) };
    for word in 0..8 {
        let round = vec![Step { word, ..agent("a") }, once.clone(), reads(agent("c"), "of_b", false)];
        let repeat = Kind::Repeat { until: None, max: 3, goes_on: false, steps: round };
        holds(Pipe { steps: vec![step("again", repeat)], ..Pipe::default() }, Say::Well);
    }
}

#[test]
fn a_question_in_a_group_that_failed_waits_for_nobody() {
    let steps = vec![step("later", Kind::Approve { goes_on: true }), agent("x")];
    holds(Pipe { steps: vec![step("both", Kind::Parallel { limit: None, steps })], ..Pipe::default() }, Say::No);
}

#[test]
fn a_called_pipeline_that_is_given_up_still_does_its_finally() {
    let called = Pipe {
        steps: vec![agent("b"), agent("c"), agent("d")],
        finally: vec![run("tidy", Access::Write)],
        ..Pipe::default()
    };
    let steps = vec![agent("x"), step("call", Kind::Call(Box::new(called)))];
    holds(Pipe { steps: vec![step("both", Kind::Parallel { limit: None, steps })], ..Pipe::default() }, Say::No);
}

#[test]
fn the_finally_of_a_pipeline_that_finally_calls_is_done_when_another_item_failed() {
    let called =
        Pipe { steps: vec![agent("x"), agent("b")], finally: vec![run("tidy", Access::Read)], ..Pipe::default() };
    let each = Some(Each { list: List::Literal(2), limit: 2 });
    let call = Step { each, ..step("x_all", Kind::Call(Box::new(called))) };
    holds(Pipe { steps: vec![agent("a")], finally: vec![call], ..Pipe::default() }, Say::No);
}

#[test]
fn what_had_not_begun_when_a_step_beside_it_failed_is_skipped() {
    let list = step("many", Kind::Steps(vec![agent("b"), agent("c"), agent("d")]));
    let steps = vec![agent("x"), list];
    holds(Pipe { steps: vec![step("both", Kind::Parallel { limit: None, steps })], ..Pipe::default() }, Say::No);
}

#[test]
fn a_step_that_could_not_write_is_no_step_that_wrote() {
    // The condition is no boolean: nothing ran, so what sees the workspace is kept on resume.
    let write = reads(step("bad", Kind::Write { escapes: false }), "of_a", false);
    let steps = vec![
        agent("a"),
        Step { when: Some(When::Wrong("of_a".into())), ..goes_on(write) },
        run("sees", Access::Read),
        agent("x"),
    ];
    holds(Pipe { steps, ..Pipe::default() }, Say::No);
    // Nor is one without items.
    let each = Some(Each { list: List::Literal(0), limit: 1 });
    let none = Step { each, ..step("none", Kind::Write { escapes: false }) };
    let called = Pipe { steps: vec![agent("a")], finally: vec![none], ..Pipe::default() };
    let steps = vec![step("call", Kind::Call(Box::new(called))), run("sees", Access::Read), agent("x")];
    holds(Pipe { steps, ..Pipe::default() }, Say::No);
}

#[test]
fn the_file_of_a_loop_is_that_of_its_last_round_also_when_only_that_round_is_kept() {
    // The first round is made anew, and its file must not come after that of the second, which is kept.
    let first = goes_on(reads(agent("x"), "of_b", true));
    let round = vec![first, agent("b")];
    let inner = Kind::Repeat { until: None, max: 2, goes_on: false, steps: round };
    holds(Pipe { steps: vec![step("again", inner)], ..Pipe::default() }, Say::No);
    let items = Step {
        each: Some(Each { list: List::Literal(2), limit: 2 }),
        output: Some("all".into()),
        ..goes_on(agent("y"))
    };
    for seed in 0..40 {
        let script = Script { seed, trouble: 45, mended: 2, chosen: None };
        let repeat = Kind::Repeat { until: None, max: 2, goes_on: false, steps: vec![items.clone()] };
        let pipe = Pipe { steps: vec![step("again", repeat)], ..Pipe::default() };
        let case = Case { pipe, script, lenient: false, crashes: Vec::new(), stops: Vec::new(), edits: Vec::new() };
        match case.run(&Stage::new(), "named") {
            Verdict::Same(_) => {}
            other => panic!("{other:#?}\n{case}"),
        }
    }
}
