//! Tests of how the work of checks is counted.

use serde_json::json;

use super::*;
use crate::schema::Schema;

/// A schema with this many definitions that each offer the next one twice.
fn doubling(levels: usize) -> Value {
    let mut defs = Map::new();
    for level in 0..levels {
        let next = json!({ "$ref": format!("#/$defs/l{}", level + 1) });
        defs.insert(format!("l{level}"), json!({ "anyOf": [next, next] }));
    }
    defs.insert(format!("l{levels}"), json!({ "type": "string" }));
    json!({ "$ref": "#/$defs/l0", "$defs": defs })
}

#[test]
fn a_schema_that_takes_too_long_for_every_value_is_refused() {
    assert!(Schema::compile("a", doubling(10)).unwrap().is_valid(&json!("x")));
    let error = Schema::compile("a", doubling(40)).unwrap_err();
    assert_eq!(error.pointer, "");
    assert!(error.message.starts_with("this is too complex"), "{error}");
    let inside = json!({ "properties": { "x": { "$ref": "#/$defs/l0" } }, "$defs": doubling(40)["$defs"] });
    assert_eq!(Schema::compile("a", inside).unwrap_err().pointer, "/properties/x");
}

#[test]
fn a_value_that_takes_too_long_does_not_fit_and_says_why() {
    let link = json!({ "properties": { "next": { "$ref": "#" } } });
    let schema = Schema::compile("a", json!({ "anyOf": [link, link, { "type": "integer" }] })).unwrap();
    let chain = |length: usize| (0..length).fold(json!("x"), |inner, _| json!({ "next": inner }));
    assert!(schema.is_valid(&json!({ "next": 1 })));
    assert!(!schema.errors(&chain(5)).is_empty() || schema.is_valid(&chain(5)));
    assert!(!schema.is_valid(&chain(60)));
    let errors = schema.errors(&chain(60));
    assert_eq!(errors.len(), 1);
    assert!(errors[0].to_string().contains("too long to check"), "{}", errors[0]);
}

#[test]
fn plain_schemas_are_not_counted() {
    let tree = json!({ "properties": { "children": { "items": { "$ref": "#" } } } });
    let shared =
        json!({ "properties": { "a": { "$ref": "#/$defs/x" }, "b": { "$ref": "#/$defs/x" } }, "$defs": { "x": {} } });
    let union = json!({ "anyOf": [{ "type": "string" }, { "properties": { "a": { "type": "integer" } } }] });
    for schema in [tree, shared, union] {
        assert_eq!(must_be_counted("a", &schema), Ok(WorkCounting::No), "{schema}");
    }
    assert_eq!(must_be_counted("a", &doubling(3)), Ok(WorkCounting::Growth));
    assert_eq!(must_be_counted("a", &chain(30)), Ok(WorkCounting::Depth));
    assert_eq!(must_be_counted("a", &json!({ "unevaluatedProperties": false })), Ok(WorkCounting::Growth));
}

#[test]
fn references_that_overlap_or_are_dynamic_are_no_way_around() {
    let mut defs = Map::new();
    for level in 0..40 {
        let next = format!("#/$defs/l{}", level + 1);
        let both = json!([{ "$ref": next }, { "$ref": format!("{next}/allOf/0") }]);
        defs.insert(format!("l{level}"), json!({ "allOf": [{ "anyOf": both }] }));
    }
    defs.insert("l40".to_owned(), json!({ "allOf": [{ "type": "string" }] }));
    let overlapping = json!({ "$ref": "#/$defs/l0", "$defs": defs });
    assert!(Schema::compile("a", overlapping).unwrap_err().message.starts_with("this is too complex"));
    let error = Schema::compile("a", json!({ "anyOf": [{ "$dynamicRef": "#x" }] })).unwrap_err();
    assert!(error.message.starts_with("`$dynamicRef` can't be used"), "{error}");
    let data = json!({ "properties": { "$dynamicRef": {} }, "examples": [{ "$dynamicRef": "#x" }] });
    assert!(Schema::compile("a", data).is_ok());
}

#[test]
fn a_long_enum_is_counted_for_each_value() {
    let long: Vec<Value> = (0..3000).map(|at| json!([at])).collect();
    let schema = Schema::compile("a", json!({ "items": { "enum": long } })).unwrap();
    assert!(schema.is_valid(&json!([[1], [2]])));
    let many: Vec<Value> = (0..20_000).map(|_| json!([7])).collect();
    assert!(!schema.is_valid(&Value::Array(many)));
}

/// A schema with this many definitions that each refer to the next one; the last one has items like the first.
fn chain(length: usize) -> Value {
    let mut defs = Map::new();
    for at in 1..length {
        defs.insert(format!("c{at}"), json!({ "$ref": format!("#/$defs/c{}", at + 1) }));
    }
    defs.insert(format!("c{length}"), json!({ "items": { "$ref": "#/$defs/c1" } }));
    json!({ "$ref": "#/$defs/c1", "$defs": defs })
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

/// Runs work on a stack as large as that of the main thread; test threads have a smaller one.
fn on_a_main_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(8 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn a_long_chain_of_references_is_refused_with_what_to_do() {
    on_a_main_stack(|| {
        let error = Schema::compile("a", chain(20_000)).unwrap_err();
        assert_eq!(error.pointer, "");
        assert!(error.message.contains("refer to one another in a row"), "{error}");
        assert!(error.help.unwrap().contains("name the last schema"));
    });
}

#[test]
fn chains_of_references_times_levels_of_a_value_do_not_exhaust_the_stack() {
    on_a_main_stack(|| {
        let schema = Schema::compile("a", chain(100)).unwrap();
        assert!(schema.is_valid(&nested(5)));
        let errors = schema.errors(&nested(500));
        assert!(errors.len() == 1 && errors[0].to_string().contains("nested too deeply"), "{errors:?}");
        // The greatest depth that is still checked.
        let deepest = (MAX_CHECK_DEPTH - 1) / 101;
        assert!(schema.is_valid(&nested(deepest - 1)) && !schema.is_valid(&nested(deepest + 2)));
        let longest = Schema::compile("a", chain(MAX_CHECK_DEPTH - 2)).unwrap();
        assert!(longest.is_valid(&json!(1)));
    });
}

#[test]
fn a_count_is_what_a_check_without_memory_visits() {
    let schema = doubling(3);
    // The root, 1 + 2 + 4 alternatives, a reference before each alternative, and eight times the last definition.
    assert_eq!(visits(&schema, &json!("x")), Ok(1 + 7 + 14 + 8));
}
