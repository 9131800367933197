//! Converts JSON to template values and back.
//!
//! orch has its own converter because `serde_json` keeps the digits of its numbers here, and the generic conversion
//! through serde would turn each number into a map.

use minijinja::Value as Templated;
use minijinja::value::ValueKind;
use serde_json::{Map, Number, Value};

/// Converts a JSON value for templates. Integers of more than 128 bits become floats.
pub(super) fn to_templated(value: &Value) -> Templated {
    match value {
        Value::Null => Templated::from(()),
        Value::Bool(flag) => Templated::from(*flag),
        Value::Number(number) => number_to_templated(number),
        Value::String(text) => Templated::from(text.as_str()),
        Value::Array(list) => Templated::from(list.iter().map(to_templated).collect::<Vec<_>>()),
        Value::Object(map) => Templated::from_pairs(map.iter().map(|(key, value)| (key.as_str(), to_templated(value)))),
    }
}

fn number_to_templated(number: &Number) -> Templated {
    if let Some(whole) = number.as_i64() {
        Templated::from(whole)
    } else if let Some(whole) = number.as_u64() {
        Templated::from(whole)
    } else if let Some(whole) = number.as_i128() {
        Templated::from(whole)
    } else {
        Templated::from(number.as_f64().unwrap_or_default())
    }
}

/// Converts a template value to JSON; `None` for what JSON does not have: undefined values, infinities, bytes,
/// functions, and keys that are not strings.
pub(super) fn from_templated(value: &Templated) -> Option<Value> {
    from_bounded(value, 0)
}

fn from_bounded(value: &Templated, depth: usize) -> Option<Value> {
    // No JSON that orch reads is deeper, but a namespace may even contain itself.
    if depth > 200 {
        return None;
    }
    match value.kind() {
        ValueKind::None => Some(Value::Null),
        ValueKind::Bool => Some(Value::Bool(value.is_true())),
        ValueKind::Number => number_from(value),
        ValueKind::String => Some(Value::String(value.as_str()?.to_owned())),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().ok()?;
            items.map(|item| from_bounded(&item, depth + 1)).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        ValueKind::Map => {
            let mut out = Map::new();
            for key in value.try_iter().ok()? {
                let member = value.get_item(&key).ok()?;
                out.insert(key.as_str()?.to_owned(), from_bounded(&member, depth + 1)?);
            }
            Some(Value::Object(out))
        }
        _ => None,
    }
}

fn number_from(value: &Templated) -> Option<Value> {
    if value.is_integer() {
        let whole = i128::try_from(value.clone()).ok()?;
        return Some(Value::Number(Number::from_i128(whole)?));
    }
    Number::from_f64(f64::try_from(value.clone()).ok()?).map(Value::Number)
}

/// An object that looks up its members only when a template uses them.
pub(super) fn lookup(
    get: impl Fn(&str) -> Option<Value> + Send + Sync + 'static,
    names: impl Fn() -> Vec<String> + Send + Sync + 'static,
) -> Templated {
    Templated::from_object(NameLookup { get: Box::new(get), names: Box::new(names) })
}

type Get = dyn Fn(&str) -> Option<Value> + Send + Sync;
type NameSet = dyn Fn() -> Vec<String> + Send + Sync;

struct NameLookup {
    get: Box<Get>,
    names: Box<NameSet>,
}

impl std::fmt::Debug for NameLookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((self.names)()).finish()
    }
}

impl minijinja::value::Object for NameLookup {
    fn get_value(self: &std::sync::Arc<Self>, key: &Templated) -> Option<Templated> {
        (self.get)(key.as_str()?).map(|value| to_templated(&value))
    }

    fn enumerate(self: &std::sync::Arc<Self>) -> minijinja::value::Enumerator {
        minijinja::value::Enumerator::Values((self.names)().into_iter().map(Templated::from).collect())
    }
}

/// The kind of a JSON value as words for a message.
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
    fn json_survives_the_way_there_and_back() {
        let text = r#"{"b":[1,-1,18446744073709551615,170141183460469231731687303715884105727,0.1,1.0,1e300],"a":{"x":null,"y":true},"s":"<&>é"}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let back = from_templated(&to_templated(&value)).unwrap();
        assert_eq!(back.to_string(), value.to_string().replace("1e300", "1e+300"));
        assert_eq!(to_templated(&json!(3)).kind(), ValueKind::Number);
    }

    #[test]
    fn what_json_lacks_is_none() {
        for value in [Templated::UNDEFINED, Templated::from(f64::NAN), Templated::from(vec![Templated::UNDEFINED])] {
            assert_eq!(from_templated(&value), None);
        }
    }
}
