//! Compares every relevant combination of the properties of a step `x` with the model:
//!
//! | property of `x` | values |
//! |---|---|
//! | kind | agent, command without access, command that writes, files, approval, parallel, repeat, steps, pipeline |
//! | `when` | none, true, false, not a boolean |
//! | `for_each` | none, no items, one item at a time, items in parallel |
//! | failure policy | none, none under `--continue-on-error`, `stop`, `continue` |
//! | outcome of the calls | success, permanent failure, transient failure, one transient failure, not JSON |
//! | resume | after the end of the run, after a crash that follows the second call; the resumed calls succeed |
//!
//! The step before `x` produces an input of `x`. After `x` come a step that requires its artifact, a step that has the
//! artifact as an optional input, a step that reads the workspace, and a `finally`.

use super::harness::Harness;
use super::history::RunHistory;
use super::pipeline::{Access, ForEachSpec, ItemSource, Kind, OnError, Step, StepInput, TestPipeline, When};
use super::script::{Script, ScriptedOutcome, answer};
use super::{Case, CaseResult};

pub(super) fn step(id: &str, kind: Kind) -> Step {
    let output = matches!(kind, Kind::Agent { .. }).then(|| format!("of_{id}"));
    Step {
        id: id.to_owned(),
        kind,
        when: None,
        for_each: None,
        inputs: Vec::new(),
        output,
        on_error: None,
        revision: 0,
    }
}

pub(super) fn agent(id: &str) -> Step {
    step(id, Kind::Agent { max_tries: Some(2), fallback: false })
}

pub(super) fn command(id: &str, access: Access) -> Step {
    let output = Some(format!("of_{id}"));
    Step { output, ..step(id, Kind::Run { max_tries: Some(2), access }) }
}

pub(super) fn with_input(mut step: Step, name: &str, optional: bool) -> Step {
    step.inputs.push(StepInput { name: name.to_owned(), optional, from_previous_iteration: false });
    step
}

/// Adds a read of the artifact that the previous iteration produced.
pub(super) fn with_previous_input(mut step: Step, name: &str) -> Step {
    step.inputs.push(StepInput { name: name.to_owned(), optional: true, from_previous_iteration: true });
    step
}

/// The step before `x`. Its answer has this value of `ok`, and a list with two items.
fn first_step(ok: bool) -> Step {
    let has_answer = |revision: &u32| {
        let value = answer(&format!("a {revision}"));
        value["ok"] == ok && value["list"].as_array().is_some_and(|list| list.len() == 2)
    };
    Step { revision: (0..10_000).find(has_answer).unwrap(), ..agent("a") }
}

/// The step `x` of each kind, with the name of the kind.
fn kinds() -> Vec<(&'static str, Step)> {
    let inner = || vec![agent("i"), agent("j")];
    let called = TestPipeline {
        steps: inner(),
        finally: vec![agent("k")],
        outputs: vec![("given".into(), "of_i".into())],
        ..TestPipeline::default()
    };
    let repeat = Kind::Repeat { until: Some("of_i".into()), max: 2, continues: true, steps: inner() };
    vec![
        ("agent", agent("x")),
        ("command", command("x", Access::None)),
        ("command that writes", command("x", Access::Write)),
        ("write", step("x", Kind::Write { escapes_workspace: false })),
        ("approve", Step { output: Some("of_x".into()), ..step("x", Kind::Approve { continues: false }) }),
        ("parallel", step("x", Kind::Parallel { limit: None, steps: inner() })),
        ("repeat", step("x", repeat)),
        ("steps", step("x", Kind::Steps(inner()))),
        ("pipeline", step("x", Kind::Call(Box::new(called)))),
    ]
}

/// The combinations, each with its name.
fn cases() -> Vec<(String, Case)> {
    let mut cases = Vec::new();
    let when_values = [("", None), ("true", Some(true)), ("false", Some(false)), ("not a boolean", None)];
    let for_each_values =
        [("", None), ("no items", Some((0, 1))), ("sequential", Some((2, 1))), ("parallel", Some((2, 2)))];
    let policies = [
        ("", None, false),
        ("--continue-on-error", None, true),
        ("stop", Some(OnError::Stop), false),
        ("continue", Some(OnError::Continue), false),
    ];
    let outcomes = [
        ("success", ScriptedOutcome::Success, false),
        ("permanent failure", ScriptedOutcome::PermanentFailure, false),
        ("transient failure", ScriptedOutcome::TransientFailure, false),
        ("one transient failure", ScriptedOutcome::TransientFailure, true),
        ("not JSON", ScriptedOutcome::NotJson, false),
    ];
    for (kind_name, x) in kinds() {
        for (when_name, ok) in when_values {
            for (for_each_name, item_limits) in for_each_values {
                for (policy_name, on_error, continue_on_error) in policies {
                    for (outcome_name, outcome, first_only) in outcomes {
                        let x_runs = when_name.is_empty() || when_name == "true";
                        // A step that does not run has no calls, and the check rejects parallel writes.
                        let writes_in_parallel =
                            matches!(kind_name, "write" | "command that writes") && for_each_name == "parallel";
                        if (!x_runs && outcome != ScriptedOutcome::Success) || writes_in_parallel {
                            continue;
                        }
                        for crash in [None, Some(2)] {
                            let name = format!(
                                "{kind_name}, when {when_name:?}, for_each {for_each_name:?}, policy {policy_name:?}, {outcome_name}, crash {crash:?}"
                            );
                            let script = Script {
                                seed: 7,
                                failing_percent: 0,
                                succeeds_from: 2,
                                forced_outcome: Some((outcome, first_only)),
                            };
                            let pipeline = pipeline_around(x.clone(), (when_name, ok), item_limits, on_error);
                            cases.push((
                                name,
                                Case {
                                    pipeline,
                                    script,
                                    continue_on_error,
                                    crashes: crash.into_iter().collect(),
                                    stops: Vec::new(),
                                    edits: Vec::new(),
                                },
                            ));
                        }
                    }
                }
            }
        }
    }
    cases
}

/// The pipeline with `x` and the steps around it.
fn pipeline_around(
    x: Step,
    (when_name, ok): (&str, Option<bool>),
    item_limits: Option<(u32, usize)>,
    on_error: Option<OnError>,
) -> TestPipeline {
    let mut x = Step { on_error, ..with_input(x, "of_a", false) };
    x.when = match (when_name, ok) {
        ("", _) => None,
        (_, Some(_)) => Some(When::Ok("of_a".into())),
        (_, None) => Some(When::NotABoolean("of_a".into())),
    };
    x.for_each = item_limits.map(|(count, limit)| {
        let items = if count == 0 { ItemSource::Literal(0) } else { ItemSource::Artifact("of_a".into()) };
        ForEachSpec { items, limit }
    });
    if x.for_each.is_some() && !matches!(x.kind, Kind::Write { .. }) {
        x.output = Some("of_x".into());
    }
    let artifact = x.artifact_names().first().cloned();
    let mut steps = vec![first_step(ok.unwrap_or(true)), x];
    if let Some(name) = &artifact {
        steps.push(with_input(agent("needs"), name, false));
        steps.push(with_input(agent("may"), name, true));
    }
    steps.push(command("sees", Access::Read));
    TestPipeline { steps, finally: vec![command("tidy", Access::Write)], ..TestPipeline::default() }
}

#[test]
#[expect(clippy::print_stdout, reason = "`--nocapture` shows the number of combinations")]
fn every_combination_of_kind_condition_items_failure_policy_and_resume_is_as_documented() {
    // All combinations take a minute. Without `ORCH_TABLE`, the test runs every sixth one.
    let stride = if std::env::var_os("ORCH_TABLE").is_some() { 1 } else { 6 };
    let cases: Vec<_> = cases().into_iter().step_by(stride).collect();
    let run_half = |parity: usize| {
        let harness = Harness::new();
        for (index, (name, case)) in cases.iter().enumerate().filter(|(index, _)| index % 2 == parity) {
            match case.run(&harness, &format!("combination-{index}")) {
                CaseResult::Matches(_) => {}
                CaseResult::Differs(differences) => panic!("{name}:\n{}\n{case}", differences.join("\n")),
                // The items of a called pipeline have the same request. After a crash, both can use the recorded
                // outcome.
                CaseResult::Ambiguous if name.starts_with("pipeline") => {}
                CaseResult::Ambiguous => panic!("{name}: the model allows several outcomes\n{case}"),
                CaseResult::Invalid(errors) => panic!("{name}: {errors}\n{case}"),
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|parity| scope.spawn(move || run_half(parity))).collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    println!("{} combinations", cases.len());
}

/// Checks the model itself, because a model without expectations would match every run.
#[test]
fn the_model_of_one_case_matches_a_handwritten_list() {
    let (_, case) = cases()
        .into_iter()
        .find(|(name, _)| {
            name.starts_with("agent, when \"\", for_each \"\", policy \"continue\", permanent failure, crash None")
        })
        .unwrap();
    let (evaluation, is_ambiguous) = case.evaluate(&case.pipeline, 1, (&RunHistory::default(), None));
    assert!(!is_ambiguous);
    let step_ends: Vec<String> = evaluation.facts.iter().filter_map(super::history::Fact::describe_end).collect();
    assert_eq!(
        step_ends,
        [
            "a completed",
            "x failed bad_request",
            "needs skipped input `of_x` missing",
            "may completed",
            "sees completed",
            "tidy completed"
        ]
    );
}
