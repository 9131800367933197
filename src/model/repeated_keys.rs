//! Reads JSON without losing what an object says twice. JSON does not forbid that an object has a key several times, and
//! most readers silently keep the last value.

use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Precedes a key that its object already has with another value, once for each such value. Unicode reserves this code
/// point for internal use, so keys do not contain it.
pub const REPEATED: char = '\u{fdd1}';

/// The maximum number of different values under one key. Each further value takes time proportional to their number.
const MAX_VALUES_OF_KEY: usize = 16;

/// The key under which `serde_json` passes a number that is no integer of 64 bits.
const NUMBER_KEY: &str = "$serde_json::private::Number";

/// A value, and whether one of its objects has a key several times with different values.
#[derive(Debug)]
pub struct ReadJson {
    /// The value. A key that an object has again with another value begins with [`REPEATED`].
    pub value: Value,
    /// Whether there is such a key.
    pub has_repeated_keys: bool,
}

/// Reads JSON. A key that an object has twice with the same value counts once.
///
/// # Errors
/// The bytes are not JSON, or an object has a key with very many different values.
pub fn read_json(bytes: &[u8]) -> serde_json::Result<ReadJson> {
    serde_json::from_slice(bytes)
}

impl<'de> Deserialize<'de> for ReadJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let has_repeated_keys = Cell::new(false);
        let value = ValueReader { has_repeated_keys: &has_repeated_keys }.deserialize(deserializer)?;
        Ok(Self { value, has_repeated_keys: has_repeated_keys.get() })
    }
}

/// The first key in a value that [`read_json`] has marked as repeated, without the marks.
pub fn repeated_key(value: &Value) -> Option<&str> {
    match value {
        Value::Object(members) => members.iter().find_map(|(key, value)| match key.strip_prefix(REPEATED) {
            Some(name) => Some(name.trim_start_matches(REPEATED)),
            None => repeated_key(value),
        }),
        Value::Array(items) => items.iter().find_map(repeated_key),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// All values that an object has under a key.
pub fn values_of<'v>(object: &'v Value, key: &str) -> Vec<&'v Value> {
    let mut key = key.to_owned();
    let mut values = Vec::new();
    while let Some(value) = object.get(&key) {
        values.push(value);
        key.insert(0, REPEATED);
    }
    values
}

/// The JSON text of a value, in which repeated keys have no marks.
pub fn text_with_repeated_keys(value: &Value) -> String {
    value.to_string().replace(REPEATED, "")
}

/// Reads one value, with all nested values.
#[derive(Clone, Copy)]
struct ValueReader<'a> {
    has_repeated_keys: &'a Cell<bool>,
}

impl ValueReader<'_> {
    /// Adds a member; returns false if the object has too many values under this key.
    fn insert(self, members: &mut Map<String, Value>, mut key: String, value: Value) -> bool {
        let mut count = 1;
        while let Some(earlier) = members.get(&key) {
            if *earlier == value {
                return true;
            }
            count += 1;
            if count > MAX_VALUES_OF_KEY {
                return false;
            }
            self.has_repeated_keys.set(true);
            key.insert(0, REPEATED);
        }
        members.insert(key, value);
        true
    }
}

impl<'de> DeserializeSeed<'de> for ValueReader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueReader<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = elements.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key == NUMBER_KEY && members.is_empty() {
                let number = entries.next_value::<String>()?;
                return number.parse::<Number>().map(Value::Number).map_err(de::Error::custom);
            }
            let value = entries.next_value_seed(self)?;
            if !self.insert(&mut members, key, value) {
                return Err(de::Error::custom("an object has the same key too often"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn other_json_is_read_as_by_serde_json() {
        for json in [
            r#" {"a": 1.50, "b": [null, true, "é😀\n", -7, 18446744073709551615], "c": {"d": {}, "e": []}} "#,
            "1e400",
            "-0",
            "123456789012345678901234567890",
            "\"\"",
        ] {
            let read = read_json(json.as_bytes()).unwrap();
            assert_eq!(read.value, serde_json::from_str::<Value>(json).unwrap(), "{json}");
            assert!(!read.has_repeated_keys, "{json}");
        }
        for broken in ["", "{", "{} {}", "[1,]", "nul", "\"\\ud83d\"", r#"{"a": 1, "a"}"#] {
            assert!(read_json(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_key_with_several_values_keeps_them_all() {
        let read = read_json(br#"{"x": [{"a": 1, "b": 0, "a": 2, "a": 1, "a": 3}]}"#).unwrap();
        assert!(read.has_repeated_keys);
        let object = &read.value["x"][0];
        assert_eq!(values_of(object, "a"), [&json!(1), &json!(2), &json!(3)]);
        assert_eq!((values_of(object, "b").len(), values_of(object, "c").len()), (1, 0));
        assert_eq!(repeated_key(&read.value), Some("a"));
        let text = text_with_repeated_keys(object);
        assert_eq!(text, r#"{"a":1,"b":0,"a":2,"a":3}"#);
        let same = read_json(br#"{"a": {"b": 1}, "a": {"b": 1}}"#).unwrap();
        assert_eq!((same.value, same.has_repeated_keys), (json!({"a": {"b": 1}}), false));
    }

    #[test]
    fn a_key_that_is_repeated_endlessly_is_an_error_and_takes_little_time() {
        let members: Vec<String> = (0..200_000).map(|number| format!("\"a\":{number}")).collect();
        assert!(read_json(format!("{{{}}}", members.join(",")).as_bytes()).is_err());
    }
}
