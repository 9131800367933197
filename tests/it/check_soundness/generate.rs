//! Random projects: schemas, templates over them that are mostly valid, and values that fit.

use serde_json::{Map, Value, json};

/// Pseudo-random numbers, the same for the same seed (xorshift64*).
pub(crate) struct Rng(u64);

const NAMES: &[&str] = &["title", "items", "ok", "count", "kind", "note"];
const KINDS: &[&str] = &["low", "mid", "high"];

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
}

/// A schema of an object, or occasionally of another type.
pub(crate) fn schema(rng: &mut Rng, depth: usize) -> Value {
    let kind = if depth == 0 { 0 } else { rng.below(if depth > 2 { 6 } else { 9 }) };
    match kind {
        0 | 6 => object(rng, depth),
        1 => json!({ "type": "string" }),
        2 => json!({ "type": "integer" }),
        3 => json!({ "type": "boolean" }),
        4 => json!({ "enum": KINDS }),
        5 => json!({ "type": ["string", "null"] }),
        7 => json!({ "type": "array", "items": schema(rng, depth + 1), "minItems": rng.below(3) }),
        _ => json!({ "anyOf": [schema(rng, depth + 1), schema(rng, depth + 1)] }),
    }
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
pub(crate) fn fitting_value(schema: &Value, rng: &mut Rng) -> Value {
    if let Some(values) = schema["enum"].as_array() {
        return values[rng.below(values.len())].clone();
    }
    if let Some(branches) = schema["anyOf"].as_array() {
        return fitting_value(&branches[rng.below(branches.len())], rng);
    }
    if schema["type"].is_array() {
        return if rng.chance(40) { Value::Null } else { json!(rng.word()) };
    }
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let mut value = Map::new();
            for (name, inner) in schema["properties"].as_object().unwrap() {
                if required.contains(&json!(name)) || rng.chance(50) {
                    value.insert(name.clone(), fitting_value(inner, rng));
                }
            }
            Value::Object(value)
        }
        Some("array") => {
            let count = usize::try_from(schema["minItems"].as_u64().unwrap_or(0)).unwrap() + rng.below(3);
            (0..count).map(|_| fitting_value(&schema["items"], rng)).collect()
        }
        Some("integer") => json!(i64::try_from(rng.below(7)).unwrap() - 2),
        Some("boolean") => json!(rng.chance(50)),
        _ => json!(rng.word()),
    }
}

/// A place in a value, with its schema as far as it is known.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) path: String,
    pub(crate) schema: Value,
}

impl Place {
    pub(crate) fn new(name: &str, schema: &Value) -> Self {
        Self { path: name.to_owned(), schema: schema.clone() }
    }

    /// A place one level below, mostly one that the schema has.
    fn down(&self, rng: &mut Rng) -> Self {
        let schema = match self.schema["anyOf"].as_array() {
            Some(branches) => branches[rng.below(branches.len())].clone(),
            None => self.schema.clone(),
        };
        let listed = schema["items"].clone();
        if !listed.is_null() && rng.chance(60) {
            return Self { path: format!("{}[{}]", self.path, rng.below(2)), schema: listed };
        }
        let names: Vec<&String> = schema["properties"].as_object().map(|map| map.keys().collect()).unwrap_or_default();
        let name = if names.is_empty() || rng.chance(3) {
            rng.pick(NAMES).to_owned()
        } else {
            names[rng.below(names.len())].clone()
        };
        let inner = schema["properties"][&name].clone();
        Self { path: format!("{}.{name}", self.path), schema: inner }
    }
}

/// Writes templates and expressions over some places.
pub(crate) struct Writer<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) places: Vec<Place>,
    names: usize,
}

const FILTERS: &[&str] = &[
    "tojson",
    "length",
    "first",
    "last",
    "join(', ')",
    "upper",
    "trim",
    "default('none')",
    "sort",
    "unique",
    "reverse",
    "list",
    "string",
    "title",
    "map(attribute='title')",
    "selectattr('ok')",
    "map('upper')",
    "items",
    "dictsort",
    "abs",
    "sum",
    "min",
    "max",
    "lines",
    "split(',')",
    "replace('a', 'b')",
    "groupby('kind')",
    "batch(2)",
    "slice(2)",
    "select",
    "reject",
    "bool",
    "lower",
    "rejectattr('ok')",
    "map(attribute='note', default='-')",
    "selectattr('count', '>', 1)",
    "round",
    "indent(2)",
];
const TESTS: &[&str] = &[
    "defined",
    "none",
    "not none",
    "undefined",
    "string",
    "mapping",
    "sequence",
    "number",
    "boolean",
    "true",
    "iterable",
    "eq('low')",
    "in(['low', 'mid'])",
    "even",
    "startingwith('a')",
    "integer",
];

impl<'a> Writer<'a> {
    pub(crate) fn new(rng: &'a mut Rng, places: Vec<Place>) -> Self {
        Self { rng, places, names: 0 }
    }

    fn place(&mut self) -> Place {
        let mut place = self.places[self.rng.below(self.places.len())].clone();
        while self.rng.chance(55) {
            place = place.down(self.rng);
        }
        place
    }

    pub(crate) fn value(&mut self, depth: usize) -> String {
        let path = self.place().path;
        match self.rng.below(if depth > 1 { 6 } else { 14 }) {
            0..3 => path,
            3 => format!("({path} | default('none'))"),
            4 => format!(
                "({path} if {path} is {} else 'x')",
                self.rng.pick(&["defined", "string", "mapping", "sequence", "number"])
            ),
            5..9 => format!("{} | {}", self.value(depth + 1), self.rng.pick(FILTERS)),
            9 => format!("({} ~ {})", self.value(depth + 1), self.value(depth + 1)),
            10 => format!("({} + {})", self.value(depth + 1), self.rng.pick(&["1", "'x'", "[1]"])),
            11 => {
                format!("({} if {} else {})", self.value(depth + 1), self.condition(depth + 1), self.value(depth + 1))
            }
            12 => format!("({} or {})", self.value(depth + 1), self.value(depth + 1)),
            _ => format!("{{'a': {}}}.a", self.value(depth + 1)),
        }
    }

    pub(crate) fn condition(&mut self, depth: usize) -> String {
        let path = self.place().path;
        match self.rng.below(if depth > 2 { 4 } else { 10 }) {
            0 => path,
            1 | 2 | 9 => format!("{path} is {}", self.rng.pick(TESTS)),
            3 => format!("not ({})", self.condition(depth + 1)),
            4 => format!("({}) and ({})", self.condition(depth + 1), self.condition(depth + 1)),
            5 => format!("({}) or ({})", self.condition(depth + 1), self.condition(depth + 1)),
            6 => format!(
                "{} {} {}",
                self.value(depth + 1),
                self.rng.pick(&["==", "!=", "<", ">="]),
                self.rng.pick(&["1", "'low'", "true", "none"])
            ),
            7 => format!("'a' in {}", self.value(depth + 1)),
            _ => format!("{} == {}", self.value(depth + 1), self.value(depth + 1)),
        }
    }

    pub(crate) fn template(&mut self, depth: usize) -> String {
        let mut out = String::new();
        for _ in 0..=self.rng.below(2) {
            out.push_str(&self.statement(depth));
        }
        out
    }

    fn statement(&mut self, depth: usize) -> String {
        let kind = self.rng.below(if depth > 2 { 4 } else { 9 });
        match kind {
            0..4 => format!("{{{{ {} }}}}\n", self.value(0)),
            4 | 5 => {
                let condition = if self.rng.chance(50) { self.place().path } else { self.condition(1) };
                let (then, other) = (self.template(depth + 1), self.template(depth + 1));
                format!("{{% if {condition} %}}{then}{{% else %}}{other}{{% endif %}}\n")
            }
            6 | 7 => {
                let list = self.place();
                let over = if self.rng.chance(60) {
                    list.path.clone()
                } else {
                    format!("{} | {}", list.path, self.rng.pick(FILTERS))
                };
                self.names += 1;
                let name = format!("v{}", self.names);
                self.places.push(Place { path: name.clone(), schema: list.schema["items"].clone() });
                let body = self.template(depth + 1);
                self.places.pop();
                format!("{{% for {name} in {over} %}}{body}{{{{ loop.index }}}}{{% endfor %}}\n")
            }
            _ => {
                self.names += 1;
                let (name, place) = (format!("v{}", self.names), self.place());
                let set = format!("{{% set {name} = {} %}}", place.path);
                self.places.push(Place { path: name, schema: place.schema });
                let rest = self.template(depth + 1);
                self.places.pop();
                format!("{set}{rest}")
            }
        }
    }
}
