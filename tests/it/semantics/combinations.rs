//! Runs every relevant combination:
//!
//! | the step `x` | values |
//! |---|---|
//! | kind | agent, command that sees nothing, command that writes, files, approval, parallel, repeat, steps, pipeline |
//! | `when` | none, true, false, no boolean |
//! | `for_each` | none, no items, one by one, side by side |
//! | failure policy | none, none under `--continue-on-error`, `stop`, `continue` |
//! | outcome of the calls | success, a failure, a transient failure, the same once, no JSON |
//! | resume | after the end with every failure fixed, after a crash behind the second call |
//!
//! Before `x` is a step that it reads; after it are a step that needs its artifact, one that reads it as an optional
//! input, one that sees the workspace, and a `finally`.

use super::harness::Harness;
use super::memory::Memory;
use super::pipeline::{Access, Each, Kind, List, OnError, Read, Step, TestPipeline, When};
use super::script::{Script, ScriptedOutcome, answer};
use super::{Case, Verdict};

pub(super) fn step(id: &str, kind: Kind) -> Step {
    let output = matches!(kind, Kind::Agent { .. }).then(|| format!("of_{id}"));
    Step { id: id.to_owned(), kind, when: None, each: None, reads: Vec::new(), output, on_error: None, word: 0 }
}

pub(super) fn agent(id: &str) -> Step {
    step(id, Kind::Agent { tries: Some(2), fallback: false })
}

pub(super) fn run(id: &str, access: Access) -> Step {
    let output = Some(format!("of_{id}"));
    Step { output, ..step(id, Kind::Run { tries: Some(2), access }) }
}

pub(super) fn reads(mut step: Step, name: &str, optional: bool) -> Step {
    step.reads.push(Read { name: name.to_owned(), optional });
    step
}

/// A step whose answer has this `ok`, and a list with two items.
fn first_step(ok: bool) -> Step {
    let fits = |word: &u32| {
        let value = answer(&format!("a {word}"));
        value["ok"] == ok && value["list"].as_array().is_some_and(|list| list.len() == 2)
    };
    Step { word: (0..10_000).find(fits).unwrap(), ..agent("a") }
}

fn kinds() -> Vec<(&'static str, Step)> {
    let inner = || vec![agent("i"), agent("j")];
    let called = TestPipeline {
        steps: inner(),
        finally: vec![agent("k")],
        outputs: vec![("given".into(), "of_i".into())],
        ..TestPipeline::default()
    };
    let repeat = Kind::Repeat { until: Some("of_i".into()), max: 2, goes_on: true, steps: inner() };
    vec![
        ("agent", agent("x")),
        ("run", run("x", Access::None)),
        ("run that writes", run("x", Access::Write)),
        ("write", step("x", Kind::Write { escapes: false })),
        ("approve", Step { output: Some("of_x".into()), ..step("x", Kind::Approve { goes_on: false }) }),
        ("parallel", step("x", Kind::Parallel { limit: None, steps: inner() })),
        ("repeat", step("x", repeat)),
        ("steps", step("x", Kind::Steps(inner()))),
        ("pipeline", step("x", Kind::Call(Box::new(called)))),
    ]
}

/// The combinations, each with its name.
fn cases() -> Vec<(String, Case)> {
    let mut found = Vec::new();
    let whens = [("", None), ("true", Some(true)), ("false", Some(false)), ("wrong", None)];
    let eaches = [("", None), ("none", Some((0, 1))), ("one by one", Some((2, 1))), ("at once", Some((2, 2)))];
    let policies = [
        ("", None, false),
        ("--continue-on-error", None, true),
        ("stop", Some(OnError::Stop), false),
        ("continue", Some(OnError::Continue), false),
    ];
    let outcomes = [
        ("well", ScriptedOutcome::Well, false),
        ("no", ScriptedOutcome::No, false),
        ("busy", ScriptedOutcome::Busy, false),
        ("busy once", ScriptedOutcome::Busy, true),
        ("garbage", ScriptedOutcome::Garbage, false),
    ];
    for (kind, x) in kinds() {
        for (when, ok) in whens {
            for (each, items) in eaches {
                for (policy, on_error, lenient) in policies {
                    for (outcome, say, once) in outcomes {
                        let runs = when.is_empty() || when == "true";
                        // A step without calls, or with writes at the same time, has fewer combinations.
                        let writes = matches!(kind, "write" | "run that writes") && each == "at once";
                        if (!runs && outcome != "well") || writes {
                            continue;
                        }
                        for crash in [None, Some(2)] {
                            let name = format!(
                                "{kind}, when {when:?}, for_each {each:?}, policy {policy:?}, {outcome}, crash {crash:?}"
                            );
                            let script = Script { seed: 7, trouble: 0, mended: 2, chosen: Some((say, once)) };
                            let pipeline = pipeline_around(x.clone(), (when, ok), items, on_error);
                            found.push((
                                name,
                                Case {
                                    pipeline,
                                    script,
                                    lenient,
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
    found
}

fn pipeline_around(
    x: Step,
    (when, ok): (&str, Option<bool>),
    items: Option<(u32, usize)>,
    on_error: Option<OnError>,
) -> TestPipeline {
    let mut x = Step { on_error, ..reads(x, "of_a", false) };
    x.when = match (when, ok) {
        ("", _) => None,
        (_, Some(_)) => Some(When::Ok("of_a".into())),
        (_, None) => Some(When::Wrong("of_a".into())),
    };
    x.each = items.map(|(count, limit)| {
        let list = if count == 0 { List::Literal(0) } else { List::Of("of_a".into()) };
        Each { list, limit }
    });
    if x.each.is_some() && !matches!(x.kind, Kind::Write { .. }) {
        x.output = Some("of_x".into());
    }
    let gives = x.artifact_names().first().cloned();
    let mut steps = vec![first_step(ok.unwrap_or(true)), x];
    if let Some(name) = &gives {
        steps.push(reads(agent("needs"), name, false));
        steps.push(reads(agent("may"), name, true));
    }
    steps.push(run("sees", Access::Read));
    TestPipeline { steps, finally: vec![run("tidy", Access::Write)], ..TestPipeline::default() }
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures, for who runs it with --nocapture")]
fn every_combination_of_kind_condition_items_failure_policy_and_resume_is_as_documented() {
    // All combinations take a minute: without `ORCH_TABLE`, the test runs every sixth one.
    let step = if std::env::var_os("ORCH_TABLE").is_some() { 1 } else { 6 };
    let cases: Vec<_> = cases().into_iter().step_by(step).collect();
    let work = |half: usize| {
        let harness = Harness::new();
        for (at, (name, case)) in cases.iter().enumerate().filter(|(at, _)| at % 2 == half) {
            match case.run(&harness, &format!("row-{at}")) {
                Verdict::Same(_) => {}
                Verdict::Differs(wrong) => panic!("{name}:\n{}\n{case}", wrong.join("\n")),
                // Items of a called pipeline have the same request, so the outcome of either serves both after a crash.
                Verdict::Open if name.starts_with("pipeline") => {}
                Verdict::Open => panic!("{name}: more than one outcome is right\n{case}"),
                Verdict::Refused(why) => panic!("{name}: {why}\n{case}"),
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|half| scope.spawn(move || work(half))).collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    println!("{} combinations", cases.len());
}

/// Checks the model itself: if it expected nothing, every comparison would succeed.
#[test]
fn the_model_of_one_case_matches_a_handwritten_list() {
    let (_, case) = cases()
        .into_iter()
        .find(|(name, _)| name.starts_with("agent, when \"\", for_each \"\", policy \"continue\", no, crash None"))
        .unwrap();
    let (ran, open) = case.reference(&case.pipeline, 1, (&Memory::default(), None));
    assert!(!open);
    let ended: Vec<String> = ran.facts.iter().filter_map(super::memory::Fact::describe_end).collect();
    assert_eq!(
        ended,
        [
            "a completed",
            "x failed bad_request",
            "needs skipped input of_x missing",
            "may completed",
            "sees completed",
            "tidy completed"
        ]
    );
}
