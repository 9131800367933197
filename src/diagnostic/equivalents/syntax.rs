//! Maps words and operators of other languages in expressions and templates to how orch spells them.

use std::ops::Range;

/// A mistake in a text: where it is, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slip {
    /// The bytes of the mistake.
    pub range: Range<usize>,
    /// One sentence for the user.
    pub help: String,
    /// The text to write instead, if the replacement is all that is necessary.
    pub replacement: Option<&'static str>,
}

/// Operators, each with the operator to write instead; longer ones first.
const OPERATORS: &[(&str, &str)] = &[("===", "=="), ("!==", "!="), ("<>", "!="), ("&&", "and"), ("||", "or")];

/// Words between two values, each with the operator to write instead.
const INFIX: &[(&str, &str)] = &[
    ("AND", "and"),
    ("OR", "or"),
    ("NOT", "not"),
    ("eq", "=="),
    ("ne", "!="),
    ("gt", ">"),
    ("ge", ">="),
    ("lt", "<"),
    ("le", "<="),
    ("equals", "=="),
    ("mod", "%"),
];

/// Words between two values, each with advice on how to rewrite the expression.
const INFIX_PHRASES: &[(&str, &str)] = &[
    ("contains", "write `B in A` in place of `A contains B`"),
    ("includes", "write `B in A` in place of `A includes B`"),
    ("startswith", "write `A is startingwith(B)`"),
    ("endswith", "write `A is endingwith(B)`"),
    ("matches", "there are no regular expressions: write `'TEXT' in VALUE`, or `VALUE is startingwith('TEXT')`"),
    ("like", "there are no patterns: write `'TEXT' in VALUE`, or `VALUE is startingwith('TEXT')`"),
    ("between", "write `A >= B and A <= C`"),
];

/// Operators, each with advice on how to rewrite the expression.
const PHRASES: &[(&str, &str)] = &[
    ("{%", "an expression has no tags: write the condition alone, or `A if CONDITION else B`"),
    ("??", "write `VALUE | default(OTHER)` in place of `VALUE ?? OTHER`"),
    ("?.", "write `VALUE.KEY if VALUE is defined` in place of `VALUE?.KEY`"),
    ("?:", "write `VALUE or OTHER` in place of `VALUE ?: OTHER`"),
    ("?", "write `A if CONDITION else B` in place of `CONDITION ? A : B`"),
    ("=~", "there are no regular expressions: write `'TEXT' in VALUE`, or `VALUE is startingwith('TEXT')`"),
    ("=>", "there are no functions to write: use a filter, such as `LIST | map(attribute='KEY')`"),
    ("++", "write `VALUE + 1` in place of `VALUE++`"),
    ("`", "a text stands in single or double quotes: write `'TEXT'`"),
];

/// Finds the first known mistake in an expression that can't be parsed.
pub fn in_expression(text: &str) -> Option<Slip> {
    let mut depth = 0_usize;
    for at in (Outside { text, at: 0, quote: None }) {
        let rest = text.get(at..)?;
        let before = text.get(..at)?;
        depth = match rest.chars().next()? {
            '(' | '[' | '{' => depth + 1,
            ')' | ']' | '}' => depth.saturating_sub(1),
            _ => depth,
        };
        if let Some(slip) = operator(rest, before, at, depth) {
            return Some(slip);
        }
    }
    None
}

/// The known mistake that begins at this place, if there is one.
fn operator(rest: &str, before: &str, at: usize, depth: usize) -> Option<Slip> {
    let spelt = |wrong: &str, right: &'static str, help: String| {
        Some(Slip { range: at..at + wrong.len(), help, replacement: Some(right) })
    };
    if let Some((wrong, right)) = OPERATORS.iter().find(|(wrong, _)| rest.starts_with(wrong)) {
        return spelt(wrong, right, format!("write `{right}` in place of `{wrong}`"));
    }
    let phrase = PHRASES.iter().find(|(wrong, _)| rest.starts_with(wrong));
    let advised =
        |length: usize, help: &str| Some(Slip { range: at..at + length, help: help.to_owned(), replacement: None });
    if let Some((wrong, help)) = phrase {
        return advised(wrong.len(), help);
    }
    if before.ends_with([' ', ')'])
        && let Some(slip) = infix(rest, at)
    {
        return Some(slip);
    }
    let after_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    if rest.starts_with('!') && !rest.starts_with("!=") {
        let gap = if after_word { " not " } else { "not " };
        return spelt("!", gap, "write `not` in place of `!`".to_owned());
    }
    let compares = rest.starts_with("==") || before.ends_with(['=', '!', '<', '>']);
    if rest.starts_with('=') && !compares && depth == 0 {
        return spelt("=", "==", "write `==` to compare; `=` gives a value to a name".to_owned());
    }
    if rest.starts_with(['"', '\''])
        && before.ends_with(['f', 'F'])
        && !before.trim_end_matches(['f', 'F']).ends_with(|c: char| c.is_alphanumeric() || c == '_')
    {
        return advised(1, "join texts with `~`, as `'TEXT' ~ VALUE`, in place of a string with a letter before it");
    }
    if let Some(name) = rest.strip_prefix('$') {
        let name: String =
            name.trim_start_matches('{').chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        return (!name.is_empty()).then(|| Slip {
            range: at..at + 1,
            help: format!("a variable has no `$`: write `{name}`"),
            replacement: if rest.starts_with("${") { None } else { Some("") },
        });
    }
    None
}

/// The known mistake of a word where an operator is expected.
fn infix(rest: &str, at: usize) -> Option<Slip> {
    let word = rest.split(|c: char| !c.is_alphanumeric()).next()?;
    if !rest.get(word.len()..)?.starts_with([' ', '(']) {
        return None;
    }
    let range = at..at + word.len();
    if let Some((_, right)) = INFIX.iter().find(|(known, _)| *known == word) {
        return Some(Slip { range, help: format!("write `{right}` in place of `{word}`"), replacement: Some(right) });
    }
    let (_, help) = INFIX_PHRASES.iter().find(|(known, _)| known.eq_ignore_ascii_case(word))?;
    Some(Slip { range, help: (*help).to_owned(), replacement: None })
}

/// Iterates over the positions of a text that are outside quotes. An opening quote counts as outside.
struct Outside<'a> {
    text: &'a str,
    at: usize,
    quote: Option<char>,
}

impl Iterator for Outside<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        loop {
            let here = self.at;
            let char = self.text.get(here..)?.chars().next()?;
            self.at += char.len_utf8();
            match self.quote {
                Some(_) if char == '\\' => {
                    self.at += self.text.get(self.at..)?.chars().next().map_or(0, char::len_utf8);
                }
                Some(quote) if quote == char => self.quote = None,
                Some(_) => {}
                None => {
                    self.quote = Some(char).filter(|char| matches!(char, '"' | '\''));
                    return Some(here);
                }
            }
        }
    }
}

/// Statements of other template languages: how they begin, and what to write instead.
const STATEMENTS: &[(&str, &str)] = &[
    ("else if", "write `{% elif CONDITION %}` in place of `{% else if %}`"),
    ("elseif", "write `{% elif CONDITION %}` in place of `{% elseif %}`"),
    ("elsif", "write `{% elif CONDITION %}` in place of `{% elsif %}`"),
    ("end if", "write `{% endif %}` in place of `{% end if %}`"),
    ("end for", "write `{% endfor %}` in place of `{% end for %}`"),
    ("end", "name what ends: `{% endif %}` or `{% endfor %}` in place of `{% end %}`"),
    ("fi", "write `{% endif %}` in place of `{% fi %}`"),
    ("done", "write `{% endfor %}` in place of `{% done %}`"),
    ("foreach", "write `{% for item in LIST %}` in place of `{% foreach %}`"),
    ("each", "write `{% for item in LIST %}` in place of `{% each %}`"),
    ("endforeach", "write `{% endfor %}` in place of `{% endforeach %}`"),
    ("endeach", "write `{% endfor %}` in place of `{% endeach %}`"),
    ("unless", "write `{% if not (CONDITION) %}` in place of `{% unless %}`"),
    ("endunless", "write `{% endif %}` in place of `{% endunless %}`"),
    ("while", "a template has no `while`: write `{% for item in LIST %}`"),
    ("switch", "write `{% if VALUE == 'A' %}…{% elif VALUE == 'B' %}…{% endif %}` in place of `{% switch %}`"),
    ("case", "write `{% if VALUE == 'A' %}…{% elif VALUE == 'B' %}…{% endif %}` in place of `{% case %}`"),
    ("assign", "write `{% set NAME = VALUE %}` in place of `{% assign %}`"),
    ("let", "write `{% set NAME = VALUE %}` in place of `{% let %}`"),
    ("var", "write `{% set NAME = VALUE %}` in place of `{% var %}`"),
    ("print", "write `{{ VALUE }}` in place of `{% print %}`"),
    ("echo", "write `{{ VALUE }}` in place of `{% echo %}`"),
    ("render", "write `{% include \"FILE.md\" %}` in place of `{% render %}`"),
    ("comment", "write `{# TEXT #}` in place of `{% comment %}`"),
    ("verbatim", "write `{% raw %}` and `{% endraw %}` in place of `{% verbatim %}`"),
];

/// Returns advice for a template tag that can't be parsed, given without its braces.
pub fn in_template(tag: &str) -> Option<&'static str> {
    let words: Vec<&str> = tag.split_whitespace().collect();
    let begins = |known: &str| {
        let mut known = known.split(' ').enumerate();
        known.all(|(index, word)| words.get(index).is_some_and(|written| *written == word))
    };
    STATEMENTS.iter().find(|(known, _)| begins(known)).map(|(_, help)| *help)
}

/// Constants of other languages, each group with its equivalent.
const CONSTANTS: &[(&str, &str)] = &[("null nil none", "none"), ("true yes on", "true"), ("false no off", "false")];

/// The equivalent of the constant that another language calls `name`, in any case.
pub fn constant(name: &str) -> Option<&'static str> {
    let named = |(words, _): &&(&str, &str)| words.split(' ').any(|word| word.eq_ignore_ascii_case(name));
    CONSTANTS.iter().find(named).map(|(_, right)| *right)
}

/// Names of variables in other tools, with advice on how orch provides the value.
#[rustfmt::skip]
const VARIABLES: &[(&str, &str)] = &[
    ("undefined", "ask whether there is a value: `VALUE is defined`"),
    ("env environ ENV", "texts do not see the environment: give the value to the run as an input, `--input NAME=VALUE`, or let a command read it with `env: [NAME]`"),
    ("secrets", "texts do not see secrets: let a command read the variable, with `env: [NAME]` at its step"),
    ("github gitlab CI event trigger", "texts do not see what started the run: give the value as an input, `--input NAME=VALUE`"),
    ("matrix each", "the value of `for_each: LIST` is `item`"),
    ("needs jobs tasks nodes dag outputs artifacts results", "an artifact is seen by its own name: list it, `inputs: [NAME]`, and write `NAME.FIELD`"),
    ("inputs input params parameters vars variables args kwargs context ctx state workflow run self this data", "inputs and artifacts are seen by their own names: write `NAME` alone"),
    ("forloop", "write `loop.index`, as in Jinja"),
];

/// Returns advice for an unknown variable, and whether this advice names a known variable. `rest` is the property path
/// after the name, such as `.task`; `known` says whether a name exists.
pub fn variable(name: &str, rest: &str, known: impl Fn(&str) -> bool) -> Option<(String, bool)> {
    let (_, help) = VARIABLES.iter().find(|(words, _)| words.split(' ').any(|word| word == name))?;
    let path: Vec<&str> = rest.split('.').skip(1).collect();
    // In `needs.build.outputs.plan` the last part may be the name that the user means.
    let meant = path
        .iter()
        .rposition(|part| known(part))
        .filter(|_| help.contains("by its own name") || help.contains("by their own names"));
    Some(match meant.and_then(|at| path.get(at..)) {
        Some(path) => (format!("inputs and artifacts are seen by their own names: write `{}`", path.join(".")), true),
        None => ((*help).to_owned(), false),
    })
}

/// Functions and methods of other languages, with their equivalents; `A` is the first argument, `B` the second.
const CALLS: &[(&str, &str)] = &[
    ("len length size count strlen", "`A | length`"),
    ("str string tostring", "`A | string`"),
    ("int parseint tointeger", "`A | int`"),
    ("float parsefloat number", "`A | float`"),
    ("bool boolean", "`A | bool`"),
    ("upper uppercase toupper touppercase", "`A | upper`"),
    ("lower lowercase tolower tolowercase", "`A | lower`"),
    ("trim strip", "`A | trim`"),
    ("json tojson jsonencode dumps stringify", "`A | tojson`"),
    ("contains includes has indexof", "`B in A`"),
    ("startswith hasprefix", "`A is startingwith(B)`"),
    ("endswith hassuffix", "`A is endingwith(B)`"),
    ("join", "`A | join(B)`"),
    ("split", "`A | split(B)`"),
    ("replace", "`A | replace(B, OTHER)`"),
    ("sorted sort", "`A | sort`"),
    ("reversed reverse", "`A | reverse`"),
    ("sum", "`A | sum`"),
    ("min", "`A | min`"),
    ("max", "`A | max`"),
    ("first", "`A | first`"),
    ("last", "`A | last`"),
    ("abs", "`A | abs`"),
    ("round", "`A | round`"),
    ("items entries", "`A | items`"),
    ("keys", "`A | list`"),
    ("defined isset exists isdefined", "`A is defined`"),
    ("empty isempty", "`A | length == 0`"),
    ("get getordefault", "`A.KEY | default(OTHER)`"),
    ("append push", "`A + [B]`"),
    ("default coalesce", "`A | default(B)`"),
    ("format printf sprintf concat", "`A ~ B`"),
];

/// Functions of other tools that return how the previous steps ended.
const STATUS: &[&str] = &["success", "failure", "always", "cancelled", "failed", "succeeded"];

/// Returns advice for a call of an unknown function or method; the arguments are source text.
pub fn call(name: &str, args: &[&str]) -> Option<String> {
    let wanted = super::squashed(name);
    if STATUS.contains(&wanted.as_str()) && args.is_empty() {
        return Some("ask how a step ended: `steps.ID.status == \"failed\"`; what runs at the end whatever happened stands under `finally:`".to_owned());
    }
    let (_, pattern) = CALLS.iter().find(|(words, _)| words.split(' ').any(|word| word == wanted))?;
    let part = |index: usize, name: &'static str| args.get(index).copied().unwrap_or(name).to_owned();
    let mut out = String::new();
    for piece in pattern.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
        let end = piece.get(word.len()..).unwrap_or_default();
        let written = match word {
            "A" => part(0, "VALUE"),
            "B" => part(1, "OTHER"),
            word => word.to_owned(),
        };
        out.push_str(&written);
        out.push_str(end);
    }
    Some(format!("write {out}"))
}

/// Returns advice for a property that values have in other languages.
pub fn property(base: &str, name: &str) -> Option<String> {
    let is_length = matches!(super::squashed(name).as_str(), "length" | "len" | "size" | "count");
    is_length.then(|| format!("write `{base} | length`"))
}

/// Properties that other tools have for a finished step, with advice. The step's artifact is not among them.
const OF_STEPS: &[(&str, &str)] = &[
    ("conclusion outcome state result_status success failed", "write `steps.ID.status == \"completed\"`"),
    ("message reason failure", "write `steps.ID.error`"),
];

/// Returns advice for an unknown property of a step; `output` is the name of the step's artifact.
pub fn of_step(name: &str, output: Option<&str>) -> Option<String> {
    if matches!(name, "output" | "outputs" | "result" | "results" | "stdout" | "artifact" | "value") {
        let name = output.unwrap_or("NAME");
        return Some(format!(
            "the artifact of a step is seen by its own name: list it, `inputs: [{name}]`, and write `{name}`"
        ));
    }
    let named = |(words, _): &&(&str, &str)| words.split(' ').any(|word| word == name);
    OF_STEPS.iter().find(named).map(|(_, help)| (*help).to_owned())
}

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

/// The equivalent, among `known`, of the filter or test that another language calls `name`.
pub fn filter(name: &str, known: &[&str]) -> Option<&'static str> {
    let named =
        |(words, right): &&(&str, &'static str)| words.split(' ').any(|word| word == name) && known.contains(right);
    FILTERS.iter().find(named).map(|(_, right)| *right)
}
