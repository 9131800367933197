//! Random schemas, and values that fit them: usual ones and those at the edges.

use serde_json::{Map, Value, json};

/// Pseudo-random numbers, the same for the same seed (xorshift64*).
pub(crate) struct Rng(u64);

pub(crate) const NAMES: &[&str] = &["title", "items", "ok", "count", "kind", "note"];
const KINDS: &[&str] = &["low", "mid", "high"];
/// A property that no generated schema declares and no generated text reads.
const EXTRA_NAME: &str = "undeclared";
/// An integer that a floating-point number can't represent exactly.
const LARGE_INTEGER: i64 = 9_007_199_254_740_993;

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % end.max(1)
    }

    /// True in so many percent of the cases.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }

    pub(crate) fn word(&mut self) -> String {
        self.pick(&["", "a", "True", "12", "-3", "two words", "x,y", "‹ü›", "a\nb", "{{ x }}"]).to_owned()
    }

    fn integer(&mut self, end: i64) -> i64 {
        i64::try_from(self.below(usize::try_from(end).unwrap())).unwrap()
    }
}

/// Which of the values that fit a schema a run gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueChoice {
    /// Any value, also an additional property where the schema allows one.
    Random,
    /// Empty lists and texts, `null`, no optional property, the smallest numbers.
    Smallest,
    /// Long lists and texts, every optional property and an additional one, the largest numbers.
    Largest,
}

/// A schema of an object, or occasionally of another type.
pub(crate) fn schema(rng: &mut Rng, depth: usize) -> Value {
    let kind = if depth == 0 { 0 } else { rng.below(if depth > 2 { 9 } else { 15 }) };
    match kind {
        0 | 9 => object(rng, depth),
        1 => json!({ "type": "string" }),
        2 => json!({ "type": "integer" }),
        3 => json!({ "type": "boolean" }),
        4 => json!({ "enum": KINDS }),
        5 => json!({ "type": ["string", "null"] }),
        6 => json!({ "type": "number", "minimum": 0, "maximum": 10 }),
        7 => json!({ "type": "string", "minLength": 1, "maxLength": 40 }),
        8 => json!({ "type": "integer", "minimum": 1 }),
        10 => json!({ "type": "array", "items": schema(rng, depth + 1), "minItems": rng.below(3) }),
        11 => json!({ "type": "object", "additionalProperties": schema(rng, depth + 1) }),
        12 => json!({ "anyOf": [schema(rng, depth + 1), schema(rng, depth + 1)] }),
        _ => tagged_union(rng, depth),
    }
}

/// Two objects that a constant tells apart.
fn tagged_union(rng: &mut Rng, depth: usize) -> Value {
    let tags = [
        ("ok", json!(true), json!(false)),
        ("count", json!(1), json!(2)),
        ("kind", json!("low"), json!("high")),
        ("note", json!(null), json!("x")),
    ];
    let (tag, first, second) = tags[rng.below(tags.len())].clone();
    let [first, second] = [("title", first), ("items", second)].map(|(member, constant)| {
        let properties = json!({ tag: { "const": constant }, member: schema(rng, depth + 1) });
        // What else an open object may have is unknown, so no use of it fails predictably.
        json!({
            "type": "object", "required": [tag, member], "properties": properties, "additionalProperties": false,
        })
    });
    json!({ "oneOf": [first, second] })
}

fn object(rng: &mut Rng, depth: usize) -> Value {
    let mut properties = Map::new();
    for _ in 0..=rng.below(4) {
        let name = rng.pick(NAMES);
        properties.insert(name.to_owned(), schema(rng, depth + 1));
    }
    let required: Vec<&String> = properties.keys().filter(|_| rng.chance(85)).collect();
    let mut object = json!({ "type": "object", "required": required, "properties": properties });
    if rng.chance(50) {
        object["additionalProperties"] = json!(false);
    }
    object
}

/// A value that fits a schema of [`schema`], with `$defs` and without.
pub(crate) fn fitting_value(schema: &Value, choice: ValueChoice, rng: &mut Rng) -> Value {
    if let Some(values) = schema["enum"].as_array() {
        return values[rng.below(values.len())].clone();
    }
    if let Some(constant) = schema.get("const") {
        return constant.clone();
    }
    if let Some(branches) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        return fitting_value(&branches[rng.below(branches.len())], choice, rng);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => name.as_str().into_iter().collect(),
    };
    if types.contains(&"null") && pick_edge(choice, rng, 40) != ValueChoice::Largest {
        return Value::Null;
    }
    match types.first().copied() {
        Some("object") => fitting_object(schema, choice, rng),
        Some("array") => {
            let count = usize::try_from(schema["minItems"].as_u64().unwrap_or(0)).unwrap() + extra_count(choice, rng);
            (0..count).map(|_| fitting_value(&schema["items"], choice, rng)).collect()
        }
        Some("integer") => fitting_integer(schema, choice, rng),
        Some("number") => match choice {
            ValueChoice::Smallest => schema["minimum"].clone(),
            ValueChoice::Largest => schema["maximum"].clone(),
            ValueChoice::Random => json!(f64::from(u32::try_from(rng.below(100)).unwrap()) / 10.0),
        },
        Some("boolean") => json!(rng.chance(50)),
        _ => fitting_text(schema, choice, rng),
    }
}

/// `Smallest` or `Largest`: as the choice says, or the smallest in so many percent of the cases.
fn pick_edge(choice: ValueChoice, rng: &mut Rng, percent: usize) -> ValueChoice {
    match choice {
        ValueChoice::Random if rng.chance(percent) => ValueChoice::Smallest,
        ValueChoice::Random => ValueChoice::Largest,
        edge => edge,
    }
}

/// How many items or properties a value has in addition to the least number.
fn extra_count(choice: ValueChoice, rng: &mut Rng) -> usize {
    match choice {
        ValueChoice::Random => rng.below(3),
        ValueChoice::Smallest => 0,
        ValueChoice::Largest => 4,
    }
}

fn fitting_object(schema: &Value, choice: ValueChoice, rng: &mut Rng) -> Value {
    let mut value = Map::new();
    if let Some(properties) = schema["properties"].as_object() {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (name, inner) in properties {
            if required.contains(&json!(name)) || pick_edge(choice, rng, 50) == ValueChoice::Largest {
                value.insert(name.clone(), fitting_value(inner, choice, rng));
            }
        }
        if schema["additionalProperties"].is_null() && pick_edge(choice, rng, 70) == ValueChoice::Largest {
            value.insert(EXTRA_NAME.to_owned(), json!([rng.word()]));
        }
    } else {
        for name in NAMES.iter().take(extra_count(choice, rng)) {
            value.insert((*name).to_owned(), fitting_value(&schema["additionalProperties"], choice, rng));
        }
    }
    Value::Object(value)
}

fn fitting_integer(schema: &Value, choice: ValueChoice, rng: &mut Rng) -> Value {
    let minimum = schema["minimum"].as_i64();
    json!(match choice {
        ValueChoice::Random => minimum.unwrap_or(-2) + rng.integer(7),
        ValueChoice::Smallest => minimum.unwrap_or(-LARGE_INTEGER),
        ValueChoice::Largest => LARGE_INTEGER,
    })
}

fn fitting_text(schema: &Value, choice: ValueChoice, rng: &mut Rng) -> Value {
    let length = |key: &str| schema[key].as_u64().map(|length| usize::try_from(length).unwrap());
    let (min, max) = (length("minLength").unwrap_or(0), length("maxLength").unwrap_or(2_000));
    let text = match choice {
        ValueChoice::Random => rng.word(),
        ValueChoice::Smallest => String::new(),
        ValueChoice::Largest => "long text, ".repeat(200),
    };
    let padding = "x".repeat(min.saturating_sub(text.chars().count()));
    json!(text.chars().take(max).collect::<String>() + &padding)
}
