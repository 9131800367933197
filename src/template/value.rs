//! Converts JSON to template values and back.
//!
//! orch has its own converter because it configures `serde_json` to preserve the digits of numbers, and the generic
//! conversion through serde would then turn each number into a map.

use std::sync::Arc;

use minijinja::Value as TemplateValue;
use minijinja::value::ValueKind;
use serde_json::{Map, Number, Value};

/// Converts a JSON value for templates. Integers of more than 128 bits become floats, and numbers beyond the range of
/// floats become infinite; no schema accepts such numbers when they arrive.
pub(super) fn to_template_value(value: &Value) -> TemplateValue {
    match value {
        Value::Null => TemplateValue::from(()),
        Value::Bool(flag) => TemplateValue::from(*flag),
        Value::Number(number) => number_to_template_value(number),
        Value::String(text) => TemplateValue::from(text.as_str()),
        Value::Array(list) => TemplateValue::from(list.iter().map(to_template_value).collect::<Vec<_>>()),
        Value::Object(map) => {
            TemplateValue::from_pairs(map.iter().map(|(key, value)| (key.as_str(), to_template_value(value))))
        }
    }
}

fn number_to_template_value(number: &Number) -> TemplateValue {
    if let Some(integer) = number.as_i64() {
        TemplateValue::from(integer)
    } else if let Some(integer) = number.as_u64() {
        TemplateValue::from(integer)
    } else if let Some(integer) = number.as_i128() {
        TemplateValue::from(integer)
    } else {
        // Unlike `as_f64`, this also converts numbers beyond the range of floats.
        TemplateValue::from(number.as_str().parse::<f64>().unwrap_or(f64::NAN))
    }
}

/// Converts a template value to JSON; `None` for values without a JSON form: undefined values, infinities, bytes,
/// functions, and keys that are not strings.
pub(super) fn from_template_value(value: &TemplateValue) -> Option<Value> {
    convert_at_depth(value, 0)
}

fn convert_at_depth(value: &TemplateValue, depth: usize) -> Option<Value> {
    // orch reads no JSON that is deeper, but a namespace can contain itself, which would recurse without end.
    if depth > 200 {
        return None;
    }
    match value.kind() {
        ValueKind::None => Some(Value::Null),
        ValueKind::Bool => Some(Value::Bool(value.is_true())),
        ValueKind::Number => number_to_json(value),
        ValueKind::String => Some(Value::String(value.as_str()?.to_owned())),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().ok()?;
            items.map(|item| convert_at_depth(&item, depth + 1)).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        ValueKind::Map => {
            let mut out = Map::new();
            for key in value.try_iter().ok()? {
                let member = value.get_item(&key).ok()?;
                out.insert(key.as_str()?.to_owned(), convert_at_depth(&member, depth + 1)?);
            }
            Some(Value::Object(out))
        }
        _ => None,
    }
}

fn number_to_json(value: &TemplateValue) -> Option<Value> {
    if value.is_integer() {
        let integer = i128::try_from(value.clone()).ok()?;
        return Some(Value::Number(Number::from_i128(integer)?));
    }
    Number::from_f64(f64::try_from(value.clone()).ok()?).map(Value::Number)
}

/// An object that looks up its members only when a template uses them.
pub struct LazyObject {
    get: Box<GetMember>,
    names: Box<ListNames>,
}

/// A member of a [`LazyObject`].
pub enum LazyMember {
    /// A JSON value.
    Json(Value),
    /// A JSON value that other parts of the program also use.
    Shared(Arc<Value>),
    /// An object that also looks up its members only when a template uses them.
    Object(LazyObject),
}

type GetMember = dyn Fn(&str) -> Option<LazyMember> + Send + Sync;
type ListNames = dyn Fn() -> Vec<String> + Send + Sync;

impl LazyObject {
    /// Creates an object from a function that looks up a member and a function that lists the names of all members.
    pub fn new(
        get: impl Fn(&str) -> Option<LazyMember> + Send + Sync + 'static,
        names: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self { get: Box::new(get), names: Box::new(names) }
    }
}

impl std::fmt::Debug for LazyObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((self.names)()).finish()
    }
}

impl minijinja::value::Object for LazyObject {
    fn get_value(self: &Arc<Self>, key: &TemplateValue) -> Option<TemplateValue> {
        Some(match (self.get)(key.as_str()?)? {
            LazyMember::Json(value) => to_template_value(&value),
            LazyMember::Shared(value) => to_template_value(&value),
            LazyMember::Object(object) => TemplateValue::from_object(object),
        })
    }

    fn enumerate(self: &Arc<Self>) -> minijinja::value::Enumerator {
        minijinja::value::Enumerator::Values((self.names)().into_iter().map(TemplateValue::from).collect())
    }
}

/// The kind of a JSON value, as a phrase for a message.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_values_survive_a_round_trip() {
        let text = r#"{"b":[1,-1,18446744073709551615,170141183460469231731687303715884105727,0.1,1.0,1e300],"a":{"x":null,"y":true},"s":"<&>é"}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let converted = from_template_value(&to_template_value(&value)).unwrap();
        assert_eq!(converted.to_string(), value.to_string().replace("1e300", "1e+300"));
        assert_eq!(to_template_value(&json!(3)).kind(), ValueKind::Number);
    }

    #[test]
    fn numbers_never_become_other_numbers() {
        let convert = |json: &str| to_template_value(&serde_json::from_str(json).unwrap());
        assert_eq!(convert("1"), convert("1.0"));
        assert_eq!(convert("-170141183460469231731687303715884105728").to_string(), i128::MIN.to_string());
        assert!(f64::try_from(convert("1e400")).unwrap().is_infinite());
        assert_eq!(from_template_value(&convert("-1e400")), None);
    }

    #[test]
    fn values_without_a_json_form_convert_to_none() {
        for value in [
            TemplateValue::UNDEFINED,
            TemplateValue::from(f64::NAN),
            TemplateValue::from(vec![TemplateValue::UNDEFINED]),
        ] {
            assert_eq!(from_template_value(&value), None);
        }
    }
}
