//! What `validate` reports for folders of valid and invalid pipelines.
//!
//! Each folder of `tests/pipelines/invalid` is a small project with one mistake, and its `expected.txt` is exactly what
//! the user sees. `ORCH_UPDATE=1` writes these files anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use orch::check::check;
use orch::config::{load, pipeline_schema, published_pipeline_schema, published_settings_schema, settings_schema};
use orch::diagnostic::{Code, Diagnostic, RenderStyle, render_all};
use serde_json::Value;

use crate::support::{Orch, assert_stored, stored_difference};

fn validate(pipeline: &Path) -> Vec<Diagnostic> {
    match load(pipeline) {
        Ok(project) => check(&project),
        Err(found) => found,
    }
}

fn folders(kind: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(format!("tests/pipelines/{kind}")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// What the user sees, with paths relative to the project's folder.
fn rendered(folder: &Path, found: &[Diagnostic]) -> String {
    render_all(found, RenderStyle::default()).replace(&format!("{}/", folder.display()), "")
}

#[test]
fn each_invalid_pipeline_gives_exactly_the_expected_message() {
    let difference = |folder: &PathBuf| {
        let found = rendered(folder, &validate(&folder.join("pipelines/main.yaml")));
        stored_difference(&folder.join("expected.txt"), &found)
    };
    let wrong: Vec<String> = folders("invalid").iter().filter_map(difference).collect();
    assert!(wrong.is_empty(), "{} differ (ORCH_UPDATE=1 writes them anew):\n\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn each_invalid_pipeline_has_a_finding_with_a_location() {
    for folder in folders("invalid") {
        let found = validate(&folder.join("pipelines/main.yaml"));
        assert!(!found.is_empty(), "{} has no finding", folder.display());
        for problem in found {
            assert!(problem.file.is_some(), "{}: {}", folder.display(), problem.message);
            assert!(!problem.message.ends_with('.'), "{}", problem.message);
            let first = problem.message.chars().next().unwrap();
            assert!(!first.is_uppercase(), "{}", problem.message);
        }
    }
}

#[test]
fn each_code_has_an_example() {
    let mut missing: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    for folder in folders("invalid") {
        for problem in validate(&folder.join("pipelines/main.yaml")) {
            missing.remove(problem.code.as_str());
        }
    }
    // These codes need a file that version control does not keep (none at all, unreadable, huge, a link to another
    // folder), another command, or `--strict`.
    for code in [
        Code::FileNotFound,
        Code::FileUnreadable,
        Code::FileTooLarge,
        Code::LinkOutsideProject,
        Code::ArtifactMismatch,
        Code::UnportableYaml,
        Code::UncheckedValue,
    ] {
        missing.remove(code.as_str());
    }
    assert!(missing.is_empty(), "no example for {missing:?}");
}

#[test]
fn valid_pipelines_have_no_finding() {
    let all = folders("valid");
    assert!(all.len() >= 40);
    for folder in all {
        let found = validate(&folder.join("pipelines/main.yaml"));
        assert!(found.is_empty(), "{}:\n{}", folder.display(), rendered(&folder, &found));
    }
}

/// Walks a schema of orch: collects every key that a file may have, and those that this file has.
fn collect_keys(schema: &Value, root: &Value, value: Option<&Value>, at: &str, all: &mut BTreeSet<String>) {
    // A definition may refer to itself (steps in steps), so its keys are named after it and walked once.
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
    let (schema, at) = match name {
        Some(name) => (root.pointer(name).unwrap(), name),
        None => (schema, at),
    };
    if value.is_none() && name.is_some() && !all.insert(at.to_owned()) {
        return;
    }
    if value.is_some() && name.is_some() {
        all.insert(at.to_owned());
    }
    for (key, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let below = format!("{at}.{key}");
        let found = value.and_then(|value| value.get(key));
        if value.is_none() || found.is_some() {
            all.insert(below.clone());
            collect_keys(inner, root, found, &below, all);
        }
    }
    let each: Vec<Option<&Value>> = match value {
        None => vec![None],
        Some(Value::Object(map)) => map.values().map(Some).collect(),
        Some(Value::Array(list)) => list.iter().map(Some).collect(),
        Some(_) => Vec::new(),
    };
    for (word, mark) in [("additionalProperties", "*"), ("items", "[]")] {
        if let Some(inner) = schema.get(word).filter(|inner| inner.is_object()) {
            for value in &each {
                collect_keys(inner, root, *value, &format!("{at}.{mark}"), all);
            }
        }
    }
}

#[test]
fn the_valid_pipelines_use_every_key_together() {
    for (name, schema) in [("pipelines/main.yaml", pipeline_schema()), ("orch.yaml", settings_schema())] {
        let (mut all, mut used) = (BTreeSet::new(), BTreeSet::new());
        collect_keys(schema, schema, None, "", &mut all);
        for folder in folders("valid") {
            let Ok(text) = fs::read_to_string(folder.join(name)) else { continue };
            let value: Value = serde_yaml::from_str(&text).unwrap();
            collect_keys(schema, schema, Some(&value), "", &mut used);
        }
        assert!(all.len() > 10, "{all:?}");
        let missing: Vec<_> = all.difference(&used).collect();
        assert!(missing.is_empty(), "no valid {name} has {missing:?}");
    }
}

#[test]
fn the_default_pipeline_has_no_finding() {
    let found = validate(Path::new("pipelines/default.yaml"));
    assert!(found.is_empty(), "{}", render_all(&found, RenderStyle::default()));
}

/// Editors use these schema files; `ORCH_UPDATE=1` writes them.
#[test]
fn the_schema_files_for_editors_are_up_to_date() {
    for (path, schema) in [
        ("schemas/pipeline.schema.json", published_pipeline_schema()),
        ("schemas/orch.schema.json", published_settings_schema()),
    ] {
        assert_stored(path, &format!("{}\n", serde_json::to_string_pretty(&schema).unwrap()));
    }
}

#[test]
fn a_missing_pipeline_names_the_ones_that_exist() {
    let message = |path: &str| {
        let found = validate(Path::new(path));
        (found[0].message.clone(), found[0].help.clone())
    };
    let (text, help) = message("pipelines/defualt.yaml");
    assert_eq!(text, "there is no file `pipelines/defualt.yaml`");
    assert_eq!(help, ["did you mean `pipelines/default.yaml`?"]);
    assert_eq!(message("default.yaml").1, ["did you mean `pipelines/default.yaml`?"]);
    assert_eq!(message("default").1, ["did you mean `pipelines/default.yaml`?"]);
    assert_eq!(
        message("pipelines/nothing-like-it.yaml").1,
        [
            "pipelines here: `pipelines/default.yaml`, `pipelines/fix.yaml`, `pipelines/iterate.yaml`, `pipelines/research.yaml`, `pipelines/review-diff.yaml`"
        ]
    );
    assert_eq!(message("pipelines").0, "`pipelines` is a folder, not a file");
}

/// The files of the default project, copied and then damaged.
fn damaged_project(which: usize, at: f64, cut: usize, insert: &str) -> tempfile::TempDir {
    let files = ["pipelines/default.yaml", "prompts/coder.md", "prompts/reviewer.md", "schemas/plan.schema.json"];
    let folder = tempfile::tempdir().unwrap();
    for name in ["pipelines", "prompts", "schemas"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        for entry in fs::read_dir(name).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            fs::copy(entry.path(), folder.path().join(name).join(entry.file_name())).unwrap();
        }
    }
    let path = folder.path().join(files[which % files.len()]);
    let text: Vec<char> = fs::read_to_string(&path).unwrap().chars().collect();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let at = (at * text.len() as f64) as usize;
    let end = (at + cut).min(text.len());
    let out: String = text[..at].iter().copied().chain(insert.chars()).chain(text[end..].iter().copied()).collect();
    fs::write(path, out).unwrap();
    folder
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Whatever is done to a file, the check ends with findings that can be displayed.
    #[test]
    fn a_check_of_a_damaged_file_never_panics(
        which in 0usize..4,
        at in 0.0f64..1.0,
        cut in 0usize..30,
        insert in "([{}\\[\\]\"':|.%$#&*<>=!?\n\t -]|plan|if|for|é|\\{\\{|\\}\\}|\\{% ){0,6}",
    ) {
        let folder = damaged_project(which, at, cut, &insert);
        let found = validate(&folder.path().join("pipelines/default.yaml"));
        let _ = rendered(folder.path(), &found);
    }
}

/// An embedded model has a small context; orch limits its replies, whatever its agent allows.
#[test]
fn the_shipped_pipelines_fit_the_context_of_the_smallest_embedded_model() {
    let orch = Orch::new();
    orch.write("orch.yaml", "defaults: { model: local/smollm2-135m }\n");
    orch.run(&["pipeline", "validate", "--deny", "warnings"]).exits(0);
}
