//! Random templates and expressions, mostly valid ones, over values whose schemas are known.

use serde_json::Value;

use super::generate::{NAMES, Rng};

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
        let schema = match self.schema["anyOf"].as_array().or_else(|| self.schema["oneOf"].as_array()) {
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
        let inner = match &schema["additionalProperties"] {
            entries @ Value::Object(_) => entries.clone(),
            _ => schema["properties"][&name].clone(),
        };
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
    "int",
    "float",
    "split(',') | first",
    "first | default('-')",
    "map('int') | list",
    "selectattr('note', 'defined') | map(attribute='note') | list",
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
        match self.rng.below(if depth > 1 { 6 } else { 17 }) {
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
            13 => format!("({} {} {})", self.value(depth + 1), self.rng.pick(&["/", "%", "//"]), self.place().path),
            14 => format!("{path}[{}]", self.place().path),
            15 => format!("({path} if {})", self.condition(depth + 1)),
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
        let kind = self.rng.below(if depth > 2 { 4 } else { 12 });
        match kind {
            0..4 => format!("{{{{ {} }}}}\n", self.value(0)),
            4 | 5 => {
                let place = self.place();
                if let Some(branches) = place.schema["oneOf"].as_array() {
                    return self.tagged(&place.path, branches);
                }
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
            8 => {
                let (path, filter) = (self.place().path, self.rng.pick(&["dictsort", "items", "groupby('kind')"]));
                format!(
                    "{{% for key, entry in {path} | {filter} %}}{{{{ key }}}}{{{{ entry | tojson }}}}{{% endfor %}}\n"
                )
            }
            10 | 11 => self.namespace(depth),
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

    /// A condition on the constant that tells two objects apart, and a member of either in each branch.
    fn tagged(&mut self, path: &str, branches: &[Value]) -> String {
        let properties = branches[0]["properties"].as_object().unwrap();
        let (tag, constant) = properties.iter().find_map(|(name, inner)| Some((name, inner.get("const")?))).unwrap();
        let value = format!("{path}.{tag}");
        let constant = if constant.is_null() { "none".to_owned() } else { constant.to_string() };
        let condition = match self.rng.below(6) {
            0 => value,
            1 => format!("not {value}"),
            2 => format!("{value} == {constant}"),
            3 => format!("{value} != {constant}"),
            4 => format!("{value} is eq({constant})"),
            _ => format!("{value} in [{constant}]"),
        };
        let [then, other] = [self.rng.pick(&["title", "items"]), self.rng.pick(&["title", "items"])];
        let print = |member: &str| format!("{{{{ {path}.{member} | tojson }}}}");
        format!("{{% if {condition} %}}{}{{% else %}}{}{{% endif %}}\n", print(then), print(other))
    }

    /// A namespace whose member a loop sets, and a text that reads the member.
    fn namespace(&mut self, depth: usize) -> String {
        self.names += 1;
        let (name, place, list) = (format!("ns{}", self.names), self.place(), self.place());
        let member = format!("{name}.m");
        let start = match self.rng.below(4) {
            0 => String::new(),
            1 => format!("m={}", place.path),
            _ => format!("m={}", self.rng.pick(&["none", "0", "''", "[]", "false", "1"])),
        };
        let assigned = match self.rng.below(5) {
            0 => format!("{member} + 1"),
            1 => format!("{member} + [{}]", place.path),
            2 => format!("{member} + {}", place.path),
            _ => place.path.clone(),
        };
        // The facts about a part of the value hold for the part of the member.
        let part = if assigned == place.path { place.down(self.rng).path } else { member.clone() };
        let schema = if assigned == place.path { place.schema } else { Value::Null };
        self.places.push(Place { path: member.clone(), schema });
        let set = format!("{{% set {member} = {assigned} %}}");
        let body = match self.rng.below(6) {
            4 => format!("{{% if {part} %}}{set}{{% endif %}}"),
            5 => format!("{{% if {part} is defined and {part} is not none %}}{set}{{% endif %}}"),
            0 => format!("{{% if {} %}}{set}{{% endif %}}", self.condition(1)),
            1 => format!("{{% if {member} is none %}}{set}{{% endif %}}"),
            2 => format!("{{% if {member} %}}{}{{% endif %}}{set}", self.template(depth + 1)),
            _ => format!("{}{set}", self.template(depth + 1)),
        };
        let rest = if self.rng.chance(50) {
            format!("{{% if {member} %}}{}{{% endif %}}", self.template(depth + 1))
        } else {
            self.template(depth + 1)
        };
        self.places.pop();
        let list = list.path;
        format!("{{% set {name} = namespace({start}) %}}{{% for v in {list} %}}{body}{{% endfor %}}{rest}\n")
    }
}
