//! Writes the integers of a value as integers. For JSON Schema, `1.0` is an integer, and some programs and servers write
//! every number like this. Readers of integers, such as command lines, do not accept it.

use serde_json::{Number, Value};

use super::Schema;
use crate::model::json_number::integer_value;

/// The maximum depth of the subschemas that apply to a value.
const MAX_DEPTH: usize = 64;

/// The maximum number of visited pairs of a subschema and a value. Nested unions multiply them.
const MAX_VISITS: usize = 200_000;

impl Schema {
    /// Returns a value that fits the schema with each number for which the schema has the type `integer` as an integer:
    /// `1` for `1.0` and `1e0`. The value of no number changes.
    pub fn with_integers(&self, mut value: Value) -> Value {
        IntegerWriter { root: self.as_value(), visits: 0 }.write(&mut value, self.as_value(), 0);
        value
    }
}

struct IntegerWriter<'a> {
    root: &'a Value,
    visits: usize,
}

impl<'a> IntegerWriter<'a> {
    /// Writes the integers in a value to which a subschema applies.
    fn write(&mut self, value: &mut Value, schema: &'a Value, depth: usize) {
        self.visits += 1;
        if depth > MAX_DEPTH || self.visits > MAX_VISITS {
            return;
        }
        let root = self.root;
        let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
        if let Some(target) = pointer.and_then(|pointer| root.pointer(pointer)) {
            self.write(value, target, depth + 1);
        }
        for keyword in ["allOf", "anyOf", "oneOf"] {
            for part in schema.get(keyword).and_then(Value::as_array).into_iter().flatten() {
                self.write(value, part, depth + 1);
            }
        }
        match value {
            Value::Number(number) if allows_integers(schema) => {
                if let Some(integer) = integer_value(number).and_then(Number::from_i128) {
                    *number = integer;
                }
            }
            Value::Array(items) => {
                let positional = schema.get("prefixItems").and_then(Value::as_array);
                let default = schema.get("items");
                for (index, item) in items.iter_mut().enumerate() {
                    let item_schema = positional.and_then(|schemas| schemas.get(index)).or(default);
                    if let Some(item_schema) = item_schema {
                        self.write(item, item_schema, depth + 1);
                    }
                }
            }
            Value::Object(members) => {
                let properties = schema.get("properties").and_then(Value::as_object);
                let default = schema.get("additionalProperties");
                for (name, member) in members {
                    let member_schema = properties.and_then(|properties| properties.get(name)).or(default);
                    if let Some(member_schema) = member_schema {
                        self.write(member, member_schema, depth + 1);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Whether one of the types of a subschema is `integer`.
fn allows_integers(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::Array(types)) => types.iter().any(|name| name == "integer"),
        Some(name) => name == "integer",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_of_the_type_integer_becomes_an_integer() {
        let document = json!({
            "$defs": { "count": { "type": ["integer", "null"] } },
            "properties": {
                "one": { "type": "integer" }, "ref": { "$ref": "#/$defs/count" }, "size": { "type": "number" },
                "list": { "items": { "type": "integer" } },
                "union": { "anyOf": [{ "type": "integer" }, { "type": "string" }] },
            },
            "additionalProperties": { "allOf": [{ "type": "integer" }] },
        });
        let schema = Schema::compile("t", document).unwrap();
        let text = r#"{"one": 1.0, "ref": 2e0, "size": 3.0, "list": [4.0, 50e-1], "union": 6.00, "more": -7.0}"#;
        let value = serde_json::from_str(text).unwrap();
        assert!(schema.is_valid(&value));
        let expected = r#"{"one":1,"ref":2,"size":3.0,"list":[4,5],"union":6,"more":-7}"#;
        assert_eq!(schema.with_integers(value).to_string(), expected);
        for unchanged in [json!({ "size": 1.5 }), json!("text"), json!(null), json!([1.0])] {
            assert_eq!(schema.with_integers(unchanged.clone()), unchanged);
        }
    }
}
