//! Tests for counting the cost of validations.

use serde_json::json;

use super::*;
use crate::schema::Schema;

/// Returns a schema with this many definitions. Each definition offers the next one twice.
fn doubling_schema(levels: usize) -> Value {
    let mut defs = Map::new();
    for level in 0..levels {
        let next = json!({ "$ref": format!("#/$defs/l{}", level + 1) });
        defs.insert(format!("l{level}"), json!({ "anyOf": [next, next] }));
    }
    defs.insert(format!("l{levels}"), json!({ "type": "string" }));
    json!({ "$ref": "#/$defs/l0", "$defs": defs })
}

#[test]
fn a_schema_that_takes_too_long_for_every_value_is_rejected() {
    assert!(Schema::compile("a", doubling_schema(10)).unwrap().is_valid(&json!("x")));
    let error = Schema::compile("a", doubling_schema(40)).unwrap_err();
    assert_eq!(error.pointer, "");
    assert!(error.message.starts_with("this is too complex"), "{error}");
    let inside = json!({ "properties": { "x": { "$ref": "#/$defs/l0" } }, "$defs": doubling_schema(40)["$defs"] });
    assert_eq!(Schema::compile("a", inside).unwrap_err().pointer, "/properties/x");
}

#[test]
fn a_value_that_takes_too_long_does_not_fit_and_the_error_has_the_reason() {
    let link = json!({ "properties": { "next": { "$ref": "#" } } });
    let schema = Schema::compile("a", json!({ "anyOf": [link, link, { "type": "integer" }] })).unwrap();
    let linked_list = |length: usize| (0..length).fold(json!("x"), |inner, _| json!({ "next": inner }));
    assert!(schema.is_valid(&json!({ "next": 1 })));
    assert!(!schema.mismatches(&linked_list(5)).is_empty() || schema.is_valid(&linked_list(5)));
    assert!(!schema.is_valid(&linked_list(60)));
    let errors = schema.mismatches(&linked_list(60));
    assert_eq!(errors.len(), 1);
    assert!(errors[0].to_string().contains("too long to check"), "{}", errors[0]);
}

#[test]
fn the_cost_of_plain_schemas_is_not_counted() {
    let tree = json!({ "properties": { "children": { "items": { "$ref": "#" } } } });
    let shared =
        json!({ "properties": { "a": { "$ref": "#/$defs/x" }, "b": { "$ref": "#/$defs/x" } }, "$defs": { "x": {} } });
    let union = json!({ "anyOf": [{ "type": "string" }, { "properties": { "a": { "type": "integer" } } }] });
    for schema in [tree, shared, union] {
        assert_eq!(required_cost_counting("a", &schema), Ok(CostCounting::NotNeeded), "{schema}");
    }
    assert_eq!(required_cost_counting("a", &doubling_schema(3)), Ok(CostCounting::MayTakeLong));
    assert_eq!(required_cost_counting("a", &reference_chain(30)), Ok(CostCounting::MayOverflowStack));
    assert_eq!(required_cost_counting("a", &json!({ "unevaluatedProperties": false })), Ok(CostCounting::MayTakeLong));
}

#[test]
fn overlapping_and_dynamic_references_do_not_circumvent_the_limit() {
    let mut defs = Map::new();
    for level in 0..40 {
        let next = format!("#/$defs/l{}", level + 1);
        let alternatives = json!([{ "$ref": next }, { "$ref": format!("{next}/allOf/0") }]);
        defs.insert(format!("l{level}"), json!({ "allOf": [{ "anyOf": alternatives }] }));
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
fn each_value_counts_the_comparisons_with_a_long_enum() {
    let long: Vec<Value> = (0..3000).map(|index| json!([index])).collect();
    let schema = Schema::compile("a", json!({ "items": { "enum": long } })).unwrap();
    assert!(schema.is_valid(&json!([[1], [2]])));
    let many: Vec<Value> = (0..20_000).map(|_| json!([7])).collect();
    assert!(!schema.is_valid(&Value::Array(many)));
}

/// Returns a schema with this many definitions. Each definition refers to the next one; the last one has items like the
/// first.
fn reference_chain(length: usize) -> Value {
    let mut defs = Map::new();
    for index in 1..length {
        defs.insert(format!("c{index}"), json!({ "$ref": format!("#/$defs/c{}", index + 1) }));
    }
    defs.insert(format!("c{length}"), json!({ "items": { "$ref": "#/$defs/c1" } }));
    json!({ "$ref": "#/$defs/c1", "$defs": defs })
}

fn nested_list(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

/// Runs `work` on a stack as large as the stack of the main thread, because test threads have a smaller stack.
fn with_main_stack_size(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(8 << 20).spawn(work).unwrap().join().unwrap();
}

#[test]
fn a_long_chain_of_references_is_rejected_with_advice() {
    with_main_stack_size(|| {
        let error = Schema::compile("a", reference_chain(20_000)).unwrap_err();
        assert_eq!(error.pointer, "");
        assert!(error.message.contains("refer to one another in a row"), "{error}");
        assert!(error.help.unwrap().contains("name the last schema"));
    });
}

#[test]
fn long_reference_chains_with_deep_values_do_not_exhaust_the_stack() {
    with_main_stack_size(|| {
        let schema = Schema::compile("a", reference_chain(100)).unwrap();
        assert!(schema.is_valid(&nested_list(5)));
        let errors = schema.mismatches(&nested_list(500));
        assert!(errors.len() == 1 && errors[0].to_string().contains("nested too deeply"), "{errors:?}");
        // The maximum depth of a value that orch validates.
        let max_depth = (MAX_CHECK_DEPTH - 1) / 101;
        assert!(schema.is_valid(&nested_list(max_depth - 1)) && !schema.is_valid(&nested_list(max_depth + 2)));
        let longest = Schema::compile("a", reference_chain(MAX_CHECK_DEPTH - 2)).unwrap();
        assert!(longest.is_valid(&json!(1)));
    });
}

#[test]
fn the_count_equals_the_visits_of_a_validation_without_a_cache() {
    let schema = doubling_schema(3);
    // The root, 1 + 2 + 4 alternatives, a reference before each alternative, and eight times the last definition.
    assert_eq!(count_visits(&schema, &json!("x")), Ok(1 + 7 + 14 + 8));
}
