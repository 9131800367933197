//! Maps filters, tests and tags of other template languages to their equivalents in orch.

/// Filters and tests of other template languages, with their equivalents.
const FILTERS: &[(&str, &str)] = &[
    ("json to_json dump jsonify to_nice_json toJson pprint", "tojson"),
    ("size len", "length"),
    ("uppercase upcase", "upper"),
    ("lowercase downcase", "lower"),
    ("strip", "trim"),
    ("dflt default_value or", "default"),
    ("str to_string text", "string"),
    ("where filter", "selectattr"),
    ("sorted sort_by", "sort"),
    ("uniq", "unique"),
    ("group_by", "groupby"),
    ("to_int integer", "int"),
    ("null nil NULL Null None", "none"),
    ("exists set present isset", "defined"),
    ("startswith starts_with", "startingwith"),
    ("endswith ends_with", "endingwith"),
    ("list array", "sequence"),
    ("dict object", "mapping"),
];

/// Filters of other template languages without an equivalent of their own, with advice; `A` is the value.
const FILTER_ADVICE: &[(&str, &str)] = &[
    ("truncate ellipsis", "write `A[:80]` for the first 80 characters"),
    ("wordcount word_count", "write `A | split | length`"),
    ("format", "join texts with `~`, as in `A ~ VALUE`"),
    ("wordwrap center ljust rjust", "write `A` alone: templates have no filters for the layout of a text"),
    ("escape e safe forceescape", "write `A` alone: orch never escapes text"),
    ("striptags strip_html", "write `A` alone, and remove the tags in a command: no filter removes them"),
    ("filesizeformat", "compute it: `(A / 1024) | round(1) ~ ' KiB'`"),
    ("attr", "write `A.KEY`"),
    ("pluck map_attr", "write `A | map(attribute='KEY')`"),
];

/// Returns advice for an unknown filter that is applied to `operand`.
pub fn filter_advice(name: &str, operand: &str) -> Option<String> {
    let (_, advice) = FILTER_ADVICE.iter().find(|(names, _)| names.split(' ').any(|known| known == name))?;
    Some(advice.replacen('A', operand, 1))
}

/// Returns the equivalent, among `available`, of the filter or test that another language calls `name`.
pub fn filter_equivalent(name: &str, available: &[&str]) -> Option<&'static str> {
    let is_equivalent = |(names, equivalent): &&(&str, &'static str)| {
        names.split(' ').any(|known| known == name) && available.contains(equivalent)
    };
    FILTERS.iter().find(is_equivalent).map(|(_, equivalent)| *equivalent)
}

/// The beginnings of tags of Handlebars and Mustache, with advice.
const HANDLEBARS_TAGS: &[(&str, &str)] = &[
    ("#if", "for a condition, write `{% if CONDITION %}` and `{% endif %}`"),
    ("#unless", "for a condition, write `{% if not (CONDITION) %}` and `{% endif %}`"),
    ("#each", "for a loop, write `{% for item in LIST %}` and `{% endfor %}`"),
    ("/if", "a condition ends with `{% endif %}`"),
    ("/unless", "a condition ends with `{% endif %}`"),
    ("/each", "a loop ends with `{% endfor %}`"),
    (">", "to include a prompt, write `{% include \"FILE.md\" %}`"),
];

/// Returns advice for a tag of Handlebars or Mustache, such as `{{#if name}}`.
pub fn handlebars_help(tag: &str) -> Option<&'static str> {
    let content = tag.strip_prefix("{{")?.trim_start();
    let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric());
    let begins_with = |(name, _): &&(&str, &str)| content.strip_prefix(*name).is_some_and(is_end);
    HANDLEBARS_TAGS.iter().find(begins_with).map(|(_, help)| *help)
}
