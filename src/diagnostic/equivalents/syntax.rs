//! Maps words and operators of other languages in expressions and templates to their equivalents in orch.

use std::ops::Range;

/// A mistake in an expression: its location, and the text to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxMistake {
    /// The bytes of the mistake.
    pub range: Range<usize>,
    /// One sentence for the user.
    pub help: String,
    /// The text to write instead, if replacing the mistake fixes it.
    pub replacement: Option<&'static str>,
}

/// Operators, each with the operator to write instead. Longer operators come first.
const OPERATORS: &[(&str, &str)] = &[("===", "=="), ("!==", "!="), ("<>", "!="), ("&&", "and"), ("||", "or")];

/// Words that are operators in other languages, each with the operator to write instead.
const WORD_OPERATORS: &[(&str, &str)] = &[
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

/// Words that are operators in other languages, each with advice on how to rewrite the expression.
const WORD_OPERATOR_ADVICE: &[(&str, &str)] = &[
    ("contains", "write `B in A` in place of `A contains B`"),
    ("includes", "write `B in A` in place of `A includes B`"),
    ("startswith", "write `A is startingwith(B)`"),
    ("endswith", "write `A is endingwith(B)`"),
    ("matches", "there are no regular expressions: write `'TEXT' in VALUE`, or `VALUE is startingwith('TEXT')`"),
    ("like", "there are no patterns: write `'TEXT' in VALUE`, or `VALUE is startingwith('TEXT')`"),
    ("between", "write `A >= B and A <= C`"),
];

/// Operators, each with advice on how to rewrite the expression.
const OPERATOR_ADVICE: &[(&str, &str)] = &[
    ("{%", "an expression has no tags: write the condition alone, or `A if CONDITION else B`"),
    ("??", "write `VALUE | default(OTHER)` in place of `VALUE ?? OTHER`"),
    ("?.", "write `VALUE.KEY if VALUE is defined` in place of `VALUE?.KEY`"),
    ("?:", "write `VALUE or OTHER` in place of `VALUE ?: OTHER`"),
    ("?", "write `A if CONDITION else B` in place of `CONDITION ? A : B`"),
    ("=~", "there are no regular expressions: write `'TEXT' in VALUE`, or `VALUE is startingwith('TEXT')`"),
    ("=>", "functions can't be defined: use a filter, such as `LIST | map(attribute='KEY')`"),
    ("++", "write `VALUE + 1` in place of `VALUE++`"),
    ("`", "put text in single or double quotes: write `'TEXT'`"),
];

/// Finds the first known mistake in an expression that can't be parsed.
pub fn find_expression_mistake(text: &str) -> Option<SyntaxMistake> {
    let mut depth = 0_usize;
    for offset in (UnquotedPositions { text, offset: 0, quote: None }) {
        let remaining = text.get(offset..)?;
        let preceding = text.get(..offset)?;
        depth = match remaining.chars().next()? {
            '(' | '[' | '{' => depth + 1,
            ')' | ']' | '}' => depth.saturating_sub(1),
            _ => depth,
        };
        if let Some(mistake) = operator_mistake(remaining, preceding, offset, depth) {
            return Some(mistake);
        }
    }
    None
}

/// Returns the known mistake that begins at this offset, if there is one.
fn operator_mistake(remaining: &str, preceding: &str, offset: usize, depth: usize) -> Option<SyntaxMistake> {
    let with_replacement = |wrong: &str, right: &'static str, help: String| {
        Some(SyntaxMistake { range: offset..offset + wrong.len(), help, replacement: Some(right) })
    };
    if let Some((wrong, right)) = OPERATORS.iter().find(|(wrong, _)| remaining.starts_with(wrong)) {
        return with_replacement(wrong, right, format!("write `{right}` in place of `{wrong}`"));
    }
    let with_advice = |length: usize, help: &str| {
        Some(SyntaxMistake { range: offset..offset + length, help: help.to_owned(), replacement: None })
    };
    if let Some((wrong, help)) = OPERATOR_ADVICE.iter().find(|(wrong, _)| remaining.starts_with(wrong)) {
        return with_advice(wrong.len(), help);
    }
    if remaining.starts_with("for ") && preceding.ends_with(' ') && depth > 0 {
        let help = "write `LIST | map(attribute='KEY') | list`, or a loop with `{% for item in LIST %}`, in place of a list \
                    comprehension";
        return with_advice(3, help);
    }
    if remaining.starts_with(':')
        && depth == 0
        && let Some(filter) = last_filter(preceding)
    {
        return with_advice(
            1,
            &format!("put the arguments of a filter in parentheses: write `VALUE | {filter}(ARGUMENT)`"),
        );
    }
    if preceding.ends_with([' ', ')'])
        && let Some(mistake) = word_operator_mistake(remaining, offset)
    {
        return Some(mistake);
    }
    let follows_word = preceding.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    if remaining.starts_with('!') && !remaining.starts_with("!=") {
        let replacement = if follows_word { " not " } else { "not " };
        return with_replacement("!", replacement, "write `not` in place of `!`".to_owned());
    }
    let is_comparison = remaining.starts_with("==") || preceding.ends_with(['=', '!', '<', '>']);
    if remaining.starts_with('=') && !is_comparison && depth == 0 {
        return with_replacement("=", "==", "write `==` to compare; `=` is an assignment".to_owned());
    }
    if remaining.starts_with(['"', '\''])
        && preceding.ends_with(['f', 'F'])
        && !preceding.trim_end_matches(['f', 'F']).ends_with(|c: char| c.is_alphanumeric() || c == '_')
    {
        return with_advice(1, "join texts with `~`, as `'TEXT' ~ VALUE`, in place of an f-string");
    }
    if let Some(name) = remaining.strip_prefix('$') {
        let name: String =
            name.trim_start_matches('{').chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        return (!name.is_empty()).then(|| SyntaxMistake {
            range: offset..offset + 1,
            help: format!("a variable has no `$`: write `{name}`"),
            replacement: if remaining.starts_with("${") { None } else { Some("") },
        });
    }
    None
}

/// The name of the filter with which a text ends, as in `title | default`.
fn last_filter(text: &str) -> Option<&str> {
    let text = text.trim_end();
    let start = text.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
    let is_filter = start.len() < text.len() && start.trim_end().ends_with('|');
    text.get(start.len()..).filter(|_| is_filter)
}

/// Returns the known mistake if the text begins with a word that another language uses as an operator.
fn word_operator_mistake(remaining: &str, offset: usize) -> Option<SyntaxMistake> {
    let word = remaining.split(|c: char| !c.is_alphanumeric()).next()?;
    if !remaining.get(word.len()..)?.starts_with([' ', '(']) {
        return None;
    }
    let range = offset..offset + word.len();
    if let Some((_, right)) = WORD_OPERATORS.iter().find(|(known, _)| *known == word) {
        return Some(SyntaxMistake {
            range,
            help: format!("write `{right}` in place of `{word}`"),
            replacement: Some(right),
        });
    }
    let (_, help) = WORD_OPERATOR_ADVICE.iter().find(|(known, _)| known.eq_ignore_ascii_case(word))?;
    Some(SyntaxMistake { range, help: (*help).to_owned(), replacement: None })
}

/// Iterates over the positions of a text that are outside quotes. An opening quote counts as outside.
struct UnquotedPositions<'a> {
    text: &'a str,
    offset: usize,
    quote: Option<char>,
}

impl Iterator for UnquotedPositions<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        loop {
            let position = self.offset;
            let c = self.text.get(position..)?.chars().next()?;
            self.offset += c.len_utf8();
            match self.quote {
                Some(_) if c == '\\' => {
                    self.offset += self.text.get(self.offset..)?.chars().next().map_or(0, char::len_utf8);
                }
                Some(quote) if quote == c => self.quote = None,
                Some(_) => {}
                None => {
                    self.quote = Some(c).filter(|c| matches!(c, '"' | '\''));
                    return Some(position);
                }
            }
        }
    }
}

/// Statements of other template languages: their first words, and advice on how to write them in orch.
const STATEMENTS: &[(&str, &str)] = &[
    ("else if", "write `{% elif CONDITION %}` in place of `{% else if %}`"),
    ("elseif", "write `{% elif CONDITION %}` in place of `{% elseif %}`"),
    ("elsif", "write `{% elif CONDITION %}` in place of `{% elsif %}`"),
    ("end if", "write `{% endif %}` in place of `{% end if %}`"),
    ("end for", "write `{% endfor %}` in place of `{% end for %}`"),
    ("end", "name the block that ends: `{% endif %}` or `{% endfor %}` in place of `{% end %}`"),
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

/// Returns advice for a template tag that can't be parsed. `tag` is the tag without its braces.
pub fn template_tag_help(tag: &str) -> Option<&'static str> {
    let tag_words: Vec<&str> = tag.split_whitespace().collect();
    let begins_with = |statement: &str| {
        let mut words = statement.split(' ').enumerate();
        words.all(|(index, word)| tag_words.get(index).is_some_and(|tag_word| *tag_word == word))
    };
    STATEMENTS.iter().find(|(statement, _)| begins_with(statement)).map(|(_, help)| *help)
}

/// Constants of other languages. Each group of names has one equivalent.
const CONSTANTS: &[(&str, &str)] = &[("null nil none", "none"), ("true yes on", "true"), ("false no off", "false")];

/// Returns the equivalent of the constant that another language calls `name`, in any case.
pub fn constant_equivalent(name: &str) -> Option<&'static str> {
    let has_name = |(names, _): &&(&str, &str)| names.split(' ').any(|known| known.eq_ignore_ascii_case(name));
    CONSTANTS.iter().find(has_name).map(|(_, equivalent)| *equivalent)
}

/// Names of variables in other tools, with advice on how to get the value in orch.
#[rustfmt::skip]
const VARIABLES: &[(&str, &str)] = &[
    ("undefined", "test whether there is a value: `VALUE is defined`"),
    ("env environ ENV", "templates and expressions can't read the environment: pass the value to the run as an input, `--input NAME=VALUE`, or let a command read it with `env: [NAME]`"),
    ("secrets", "templates and expressions can't read secrets: let a command read the variable, with `env: [NAME]` at its step"),
    ("github gitlab CI event trigger", "templates and expressions can't read the trigger of the run: pass the value as an input, `--input NAME=VALUE`"),
    ("matrix each", "the value of `for_each: LIST` is `item`"),
    ("needs jobs tasks nodes dag outputs artifacts results", "use an artifact by its own name: list it, `inputs: [NAME]`, and write `NAME.FIELD`"),
    ("inputs input params parameters vars variables args kwargs context ctx state workflow run self this data", "use inputs and artifacts by their own names: write `NAME` alone"),
    ("forloop", "write `loop.index`, as in Jinja"),
];

/// Advice for an unknown variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableHelp {
    /// The advice.
    pub advice: String,
    /// Whether the advice names a variable that exists.
    pub names_known_variable: bool,
}

/// Returns advice for an unknown variable. `property_path` is the path after the name, such as `.task`; `is_known`
/// returns whether a name exists.
pub fn variable_help(name: &str, property_path: &str, is_known: impl Fn(&str) -> bool) -> Option<VariableHelp> {
    let (_, help) = VARIABLES.iter().find(|(names, _)| names.split(' ').any(|known| known == name))?;
    let segments: Vec<&str> = property_path.split('.').skip(1).collect();
    // In `needs.build.outputs.plan` the last segment may be the name that the user means.
    let intended = segments
        .iter()
        .rposition(|segment| is_known(segment))
        .filter(|_| help.contains("by its own name") || help.contains("by their own names"));
    Some(match intended.and_then(|index| segments.get(index..)) {
        Some(path) => VariableHelp {
            advice: format!("use inputs and artifacts by their own names: write `{}`", path.join(".")),
            names_known_variable: true,
        },
        None => VariableHelp { advice: (*help).to_owned(), names_known_variable: false },
    })
}

/// Functions and methods of other languages, with their equivalents; `A` is the first argument, `B` the second, and `C`
/// the third. For a method, the value is the first argument.
const CALLS: &[(&str, &str)] = &[
    ("len length size count strlen", "`A | length`"),
    ("str string tostring", "`A | string`"),
    ("int parseint tointeger", "`A | int`"),
    ("float parsefloat number", "`A | float`"),
    ("bool boolean", "`A | bool`"),
    ("upper uppercase toupper touppercase", "`A | upper`"),
    ("lower lowercase tolower tolowercase", "`A | lower`"),
    ("trim strip lstrip rstrip ltrim rtrim trimstart trimend", "`A | trim`"),
    ("splitlines lines", "`A | lines`"),
    ("substring substr", "`A[B:C]`"),
    ("json tojson jsonencode dumps stringify", "`A | tojson`"),
    ("contains includes has indexof", "`B in A`"),
    ("startswith hasprefix", "`A is startingwith(B)`"),
    ("endswith hassuffix", "`A is endingwith(B)`"),
    ("join", "`A | join(B)`"),
    ("split", "`A | split(B)`"),
    ("replace", "`A | replace(B, C)`"),
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
    ("values", "`A | items | map('last')`"),
    ("defined isset exists isdefined", "`A is defined`"),
    ("empty isempty", "`A | length == 0`"),
    ("get getordefault", "`A.KEY | default(OTHER)`"),
    ("append push", "`A + [B]`"),
    ("default coalesce", "`A | default(B)`"),
    ("format printf sprintf concat", "`A ~ B`"),
];

/// Functions of other tools that return the status of the previous steps.
const STATUS_FUNCTIONS: &[&str] = &["success", "failure", "always", "cancelled", "failed", "succeeded"];

/// Returns advice for a call of an unknown function or method. `args` are the source texts of the arguments.
pub fn call_help(name: &str, args: &[String]) -> Option<String> {
    let normalized = super::normalize(name);
    if let ("cycle", [receiver, values @ ..]) = (normalized.as_str(), args)
        && !values.is_empty()
    {
        return Some(format!("write `[{}][{receiver}.index0 % {}]`", values.join(", "), values.len()));
    }
    if STATUS_FUNCTIONS.contains(&normalized.as_str()) && args.is_empty() {
        return Some("test the status of a step: `steps.ID.status == \"failed\"`; put steps that always run at the end under `finally:`".to_owned());
    }
    if let ("substring" | "substr", [value, start]) = (normalized.as_str(), args) {
        return Some(format!("write `{value}[{start}:]`"));
    }
    let (_, pattern) = CALLS.iter().find(|(names, _)| names.split(' ').any(|known| known == normalized))?;
    let argument = |index: usize, default: &'static str| args.get(index).map_or(default, String::as_str);
    let mut out = String::new();
    for piece in pattern.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
        let separator = piece.get(word.len()..).unwrap_or_default();
        match word {
            "A" => out.push_str(argument(0, "VALUE")),
            "B" => out.push_str(argument(1, "OTHER")),
            "C" => out.push_str(argument(2, "OTHER")),
            word => out.push_str(word),
        }
        out.push_str(separator);
    }
    Some(format!("write {out}"))
}

/// Returns advice for a property that values have in other languages.
pub fn property_help(base: &str, name: &str) -> Option<String> {
    let is_length = matches!(super::normalize(name).as_str(), "length" | "len" | "size" | "count");
    is_length.then(|| format!("write `{base} | length`"))
}

/// Properties of a finished step in other tools, except its artifact, with advice.
const STEP_PROPERTIES: &[(&str, &str)] = &[
    ("conclusion outcome state result_status success failed", "write `steps.ID.status == \"completed\"`"),
    ("message reason failure", "write `steps.ID.error`"),
];

/// Returns advice for an unknown property of a step; `output` is the name of the step's artifact.
pub fn step_property_help(name: &str, output: Option<&str>) -> Option<String> {
    if matches!(name, "output" | "outputs" | "result" | "results" | "stdout" | "artifact" | "value") {
        let name = output.unwrap_or("NAME");
        return Some(format!(
            "use the artifact of a step by its own name: list it, `inputs: [{name}]`, and write `{name}`"
        ));
    }
    let has_name = |(names, _): &&(&str, &str)| names.split(' ').any(|known| known == name);
    STEP_PROPERTIES.iter().find(has_name).map(|(_, help)| (*help).to_owned())
}
