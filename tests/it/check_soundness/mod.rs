//! Soundness of the check: a random project without findings does not fail when it runs with random valid replies.
//!
//! Of every project without any finding, a run may not end with an undefined variable, a wrong type in an expression,
//! or a missing artifact, whatever fitting values its models reply with and whichever of its steps fail.
//!
//! `ORCH_TEST_CASES` sets the number of cases, each of which tries ten texts, and `ORCH_TEST_SEED` the first case. So
//! several sessions can add up: 1000 cases are 10 000 texts.

mod generate;
mod memory_durable;
mod nestings;
mod projects;
mod texts;

use std::path::Path;

use orch::check::check;
use orch::config::{Project, load};
use orch::engine::{PlannedModel, StepDefaults, interpret};
use orch::model::{Failure, FailureClass, ModelRef};
use orch::runner::plan_project;
use orch::schema::Schema;
use serde_json::{Map, json};

use generate::{Rng, ValueChoice, fitting_value, schema};
use memory_durable::{MemoryDurable, RunBehavior};
use projects::GeneratedProject;

/// How many cases the test tries if `ORCH_TEST_CASES` is not set.
const CASES: u64 = 60;
/// How many texts a case tries with the same schemas.
const TEXTS: u64 = 10;
/// How often a clean project runs with each choice of values.
const RUNS: &[(ValueChoice, u64)] = &[(ValueChoice::Random, 6), (ValueChoice::Smallest, 2), (ValueChoice::Largest, 2)];

/// The behavior of the models in each run of a project. In every other run, some requests and commands fail.
fn run_behaviors(seed: u64) -> impl Iterator<Item = RunBehavior> {
    let choices = RUNS.iter().flat_map(|(values, runs)| (0..*runs).map(move |run| (*values, run)));
    choices.enumerate().map(move |(index, (values, run))| {
        let failure_percent = if run % 2 == 0 { 0 } else { 20 };
        RunBehavior { seed: seed * 100 + u64::try_from(index).unwrap(), values, failure_percent }
    })
}

/// Runs a project; returns a failure that a check could have predicted.
fn predictable_failure(project: &Project, behavior: RunBehavior) -> Option<String> {
    let inputs = Map::from_iter([("task".to_owned(), json!("do it"))]);
    let planned = |name: &str| Ok(PlannedModel::new(ModelRef::new("test", name), "test"));
    let plan = plan_project(project, inputs, &StepDefaults::default(), &planned).unwrap();
    let memory = MemoryDurable::new(behavior);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ended = runtime.block_on(interpret(&memory, &plan)).unwrap();
    let (failed, replies) = memory.into_results();
    let of_steps = failed.into_iter().map(|(step, failure)| (format!("step {step}"), failure));
    let mut failures = of_steps.chain(ended.failure.map(|failure| ("the run".to_owned(), failure)));
    let (place, failure) = failures.find(|(_, failure)| is_predictable(failure))?;
    let replies: Vec<String> = replies.iter().map(|(step, value)| format!("{step}: {value}")).collect();
    Some(format!("{place}, {behavior:?}: {}\nreplies:\n{}", failure.message, replies.join("\n")))
}

fn is_predictable(failure: &Failure) -> bool {
    matches!(failure.class, FailureClass::TemplateError | FailureClass::ExpressionError)
}

/// Loads a generated project, unless the check has a finding that concerns its texts or steps. Findings about unused
/// definitions, for example, are irrelevant here.
fn load_if_clean(folder: &Path, generated: &GeneratedProject) -> Option<Project> {
    generated.write(folder);
    let project = load(&folder.join("pipelines/main.yaml")).ok()?;
    let findings = check(&project);
    let concerns_run = findings.iter().any(|finding| finding.is_error() || finding.code.as_str() >= "ORCH04");
    (!concerns_run).then_some(project)
}

fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn random_values_fit_their_schemas() {
    let mut rng = Rng::new(1);
    for _ in 0..500 {
        let schema = schema(&mut rng, 0);
        let compiled = Schema::compile("a", schema.clone()).unwrap();
        for (choice, _) in RUNS {
            let value = fitting_value(&schema, *choice, &mut rng);
            assert!(compiled.is_valid(&value), "{choice:?} {schema} {value}");
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "`--nocapture` shows the number of projects that ran")]
fn a_project_without_findings_does_not_fail_predictably() {
    let cases = number_from_environment("ORCH_TEST_CASES", CASES);
    let first = number_from_environment("ORCH_TEST_SEED", 1);
    let folder = tempfile::tempdir().unwrap();
    let (mut clean, mut wrong) = (0_u64, Vec::new());
    for seed in first..first + cases {
        let rng = &mut Rng::new(seed);
        let schemas = projects::schemas(rng);
        for _ in 0..TEXTS {
            let generated = projects::project(rng, &schemas);
            let Some(project) = load_if_clean(folder.path(), &generated) else { continue };
            clean += 1;
            if let Some(why) = run_behaviors(seed).find_map(|behavior| predictable_failure(&project, behavior)) {
                wrong.push(format!("seed {seed}: {why}\n{}", generated.describe()));
            }
        }
    }
    println!("{clean} of {} projects are clean, {} of them fail", cases * TEXTS, wrong.len());
    let few = wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(wrong.is_empty(), "{} of {clean} clean projects fail when they run:\n{few}", wrong.len());
    assert!(clean * 3 > cases, "only {clean} of {cases} times {TEXTS} projects are clean: the test tells little");
}
