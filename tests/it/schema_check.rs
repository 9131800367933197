//! `orch schema check`: every schema of a project, and an artifact against one.

use crate::support::Orch;

#[test]
fn every_schema_is_checked_even_if_no_pipeline_names_it() {
    let orch = Orch::new();
    orch.run(&["schema", "check"]).exits(0).says("ok: 7 schemas checked");
    orch.write(
        "schemas/spare.schema.json",
        "{\n  \"type\": \"objekt\",\n  \"items\": { \"$ref\": \"plan.schema.json\" }\n}\n",
    );
    orch.run(&["pipeline", "validate"]).exits(0);
    orch.run(&["schema", "check"])
        .exits(2)
        .says("`objekt` is not a type of JSON Schema")
        .says("schemas/spare.schema.json:2:11");
    orch.write(
        "schemas/spare.schema.json",
        "{ \"type\": \"array\", \"items\": { \"$ref\": \"https://example.org/x\" } }",
    );
    let ran = orch.run(&["schema", "check", "--format", "github"]).exits(2);
    assert!(
        ran.stdout.contains("file=schemas/spare.schema.json") && ran.stdout.contains("is remote"),
        "{}",
        ran.stdout
    );
    Orch::empty().run(&["schema", "check"]).exits(2).says("there is no schema in `schemas/`");
}

#[test]
fn an_artifact_that_does_not_fit_is_shown_with_the_location() {
    let orch = Orch::new();
    orch.write(
        "review.json",
        "{\n  \"approved\": \"yes\",\n  \"score\": 9,\n  \"summary\": \"Good and small and readable.\",\n  \"issues\": []\n}\n",
    );
    let check = |more: &[&str]| {
        orch.run(&[&["schema", "check", "--artifact", "review.json", "--schema", "review"], more].concat())
    };
    check(&[]).exits(2).says("review.json:2:15").says("expected boolean, got string (\"yes\")").says("^^^^^");
    let ran = check(&["--format", "json"]).exits(2);
    assert!(ran.stdout.contains("\"ORCH0504\""), "{}", ran.stdout);
    orch.edit("review.json", "\"yes\"", "true");
    check(&[]).exits(0).says("ok: 1 artifact checked");
    orch.write("review.json", "{ \"approved\": true, }");
    check(&[]).exits(2).says("error[ORCH0114]").says("review.json:1:21");
    orch.run(&["schema", "check", "--artifact", "none.json", "--schema", "review"]).exits(2).says("there is no file");
    orch.run(&["schema", "check", "--artifact", "review.json", "--schema", "reviw"])
        .exits(2)
        .says("there is no schema");
    orch.run(&["schema", "check", "--artifact", "review.json"]).exits(2);
}

#[test]
fn a_required_name_that_is_nearly_declared_is_found() {
    let orch = Orch::empty();
    for (schema, is_found) in [
        (r#"{ "type": "object", "required": ["txet"], "properties": { "text": { "type": "string" } } }"#, true),
        (r#"{ "type": "object", "required": ["other"], "properties": { "text": { "type": "string" } } }"#, false),
        (
            r#"{ "type": "object", "required": ["texts", "text"], "properties": { "text": { "type": "string" } } }"#,
            false,
        ),
        (
            r#"{ "type": "object", "allOf": [{ "properties": { "txet": true } }], "required": ["txet"], "properties": { "text": { "type": "string" } } }"#,
            false,
        ),
    ] {
        orch.write("schemas/note.schema.json", schema);
        let ran = orch.run(&["schema", "check"]);
        let found = ran.stderr.contains("`txet` is required, and `properties` does not declare it");
        assert_eq!(found, is_found, "{schema}: {ran:?}");
        assert!(!is_found || ran.stderr.contains("did you mean `text`?"), "{ran:?}");
    }
}
