//! The generator: values with quotes in their texts, written without backslashes. It shares no code with the extractor.

use serde_json::{Map, Value, json};

/// Random numbers from a seed (splitmix64).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x2545_f491_4f6c_dd1d);
        dice.below(1);
        Self(dice.0.rotate_left(17) ^ seed)
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % count as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// A generated text.
pub(super) struct Sloppy {
    /// The value that the model intended.
    pub(super) meant: Value,
    /// Its JSON, with the mistakes.
    pub(super) json: String,
    /// A reply that contains the JSON.
    pub(super) reply: String,
    /// Whether every inner quote can only be a part of its text, because a word follows it on its line.
    pub(super) unambiguous: bool,
}

const WORDS: [&str; 24] = [
    "queue", "the", "lock", "is", "held", "yes", "no", "maybe", "file", "done", "coder", "a", "of", "it", "should",
    "run", "twice", "name", "note", "plan", "next", "x1", "don't", "v2",
];

/// A part of a text, with quotes as people and programs write them.
fn fragment(dice: &mut Dice) -> String {
    let (a, b, c) = (dice.pick(&WORDS), dice.pick(&WORDS), dice.pick(&WORDS));
    let q = '"';
    match dice.below(38) {
        0..=3 => format!("{a} {b} {c}"),
        4 => format!("{a} #5 {b}"),
        5 => format!("{a} // {b}"),
        6..=9 => format!("{a} {q}{b}{q} {c}"),
        10 => format!("{q}{a} {b}{q} {c}"),
        11 => format!("{a} {q}{b}{q}"),
        12 => format!("{q}{a}{q}, {q}{b}{q} or {q}{c}{q}"),
        13 => format!("{a} {q}{b}{q}, {c}"),
        14 => format!("x = {q}{a}{q}  # {b}"),
        15 => format!("x = {q}{a}{q}; // {b}"),
        16 => format!("call({q}{a}{q}, {q}{b}{q})"),
        17 => format!("[{q}{a}{q}, {q}{b}{q}] {c}"),
        18 => format!("{{{q}{a}{q}: {q}{b}{q}}} {c}"),
        19 => format!("set {q}{a}{q}: {b}"),
        20 => format!("a 5{q} disk {a}"),
        21 => format!("{a}{q}{b} {c}"),
        22 => format!("{a} {q}{b} {c}"),
        23 => format!("{a}{q} {b} {c}"),
        24 => format!("{q}{a},{q} said {b}"),
        25 => format!("{a} ({q}{b}{q}) {c}"),
        26 => format!("{a} {q}{q} {b}"),
        27 => format!("{a} {q}{b}{q}."),
        28 => format!("set {{{q}{a}{q}}} {b}"),
        29 => format!("{a}{q}, {b} {c}"),
        30 => format!("{a} {q}{b}{q}, {q}{c}{q} {a}"),
        31 => format!("{a} {{{b}: {q}{c}{q}}} {a}"),
        32 => format!("{a} [{q}{b}{q}] {c}"),
        33 => format!("{a}, {b}: {q}{c}{q} {a}"),
        34 => format!("{a} {q}{b} {q}{c}{q} {a}{q} {b}"),
        35 => format!("{q}{a}{q}{b} {c}"),
        36 => format!("{a} {q}{b}{q} {q}{c}{q} {a}"),
        _ => format!("{a} {q}{b}{q}/{q}{c}{q} {a}"),
    }
}

fn text(dice: &mut Dice) -> String {
    let fragments: Vec<String> = (0..=dice.below(3)).map(|_| fragment(dice)).collect();
    fragments.join(dice.pick(&[" ", ", ", " and "]))
}

fn value(dice: &mut Dice) -> Value {
    let mut members = Map::new();
    members.insert("next".to_owned(), json!(dice.pick(&["coder", "reviewer", "done"])));
    for key in ["reason", "extra"] {
        if dice.one_in(2) {
            members.insert(key.to_owned(), json!(text(dice)));
        }
    }
    if dice.one_in(2) {
        let tags: Vec<String> = (0..dice.below(4)).map(|_| text(dice)).collect();
        members.insert("tags".to_owned(), json!(tags));
    }
    if dice.one_in(4) {
        let items: Vec<Value> =
            (0..=dice.below(2)).map(|_| json!({ "name": dice.pick(&WORDS), "note": text(dice) })).collect();
        members.insert("items".to_owned(), json!(items));
    }
    if dice.one_in(8) {
        let key = text(dice);
        let notes = json!({ key: dice.pick(&WORDS), "note": text(dice) });
        members.insert("notes".to_owned(), notes);
    }
    if dice.one_in(3) {
        members.insert("score".to_owned(), json!(dice.below(100)));
    }
    Value::Object(members)
}

/// How a text is written.
struct Style {
    /// The line breaks between members, and the space around colons and after commas.
    pretty: bool,
    space: &'static str,
    quote: char,
    bare_keys: bool,
    trailing: bool,
    comments: bool,
    missing: bool,
    /// Whether texts without inner quotes are written without quotes, and whether some texts lose their closing quote.
    bare: bool,
    unclosed: bool,
    /// Whether some inner quotes keep their backslash.
    half: bool,
}

/// Whether a quote has no partner: there is one too many, or one too few.
fn stays_open(text: &str) -> bool {
    let quotes = text.match_indices('"').map(|(at, _)| {
        let before = text[..at].chars().next_back();
        let next = text[at + 1..].chars().next();
        let opens = before.is_none_or(|c| !c.is_alphanumeric()) && next.is_some_and(char::is_alphanumeric);
        let inside = before.is_some_and(char::is_alphanumeric) && next.is_some_and(char::is_alphanumeric);
        // A quote inside a word has no partner.
        if inside {
            0
        } else if opens {
            1
        } else {
            -1
        }
    });
    quotes.fold(0_i32, |open, step| (open + step).max(0)) > 0
}

struct Writer<'d> {
    out: String,
    style: Style,
    dice: &'d mut Dice,
    unambiguous: bool,
}

impl Writer<'_> {
    fn write(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Object(members) => {
                let members: Vec<(Option<&str>, &Value)> = members.iter().map(|(k, v)| (Some(k.as_str()), v)).collect();
                self.container(&members, ['{', '}'], depth);
            }
            Value::Array(items) => {
                let items: Vec<(Option<&str>, &Value)> = items.iter().map(|item| (None, item)).collect();
                self.container(&items, ['[', ']'], depth);
            }
            Value::String(text) => self.string(text),
            other => self.out.push_str(&other.to_string()),
        }
    }

    fn container(&mut self, parts: &[(Option<&str>, &Value)], brackets: [char; 2], depth: usize) {
        self.out.push(brackets[0]);
        for (i, (key, value)) in parts.iter().enumerate() {
            self.line(depth + 1);
            if let Some(key) = key {
                let quote = if self.style.bare_keys { String::new() } else { self.style.quote.to_string() };
                self.unambiguous &= !key.contains('"') && (!key.contains(' ') || !self.style.bare_keys);
                self.out.push_str(&format!("{quote}{key}{quote}:{}", self.style.space));
            }
            self.write(value, depth + 1);
            let last = i + 1 == parts.len();
            let drop = self.style.missing && self.style.pretty && self.dice.one_in(3);
            if !last && !drop || last && self.style.trailing {
                self.out.push(',');
            }
            if self.style.comments && self.style.pretty && self.dice.one_in(3) {
                self.comment(value, !last && drop || last && !self.style.trailing);
            } else if !last && !self.style.pretty {
                self.out.push_str(self.style.space);
            }
        }
        self.line(depth);
        self.out.push(brackets[1]);
    }

    /// Writes a comment; after a text with raw quotes and without a comma, the comment may belong to the text.
    fn comment(&mut self, value: &Value, directly: bool) {
        let (a, b) = (self.dice.pick(&WORDS), self.dice.pick(&WORDS));
        let body = match self.dice.below(5) {
            0 => format!("{a} \"{b}\""),
            1 => format!("{a} \"{b}\","),
            2 => format!("\"{a}\" {b}"),
            3 => format!("{a} {b}\","),
            _ => format!("{a} {b}"),
        };
        self.unambiguous &= !(body.contains('"') || directly && value.is_string());
        self.out.push_str(&format!("  {} {body}", self.dice.pick(&["//", "#"])));
    }

    fn line(&mut self, depth: usize) {
        if self.style.pretty {
            self.out.push('\n');
            self.out.push_str(&"  ".repeat(depth));
        }
    }

    /// Writes a string whose inner quotes are not escaped.
    fn string(&mut self, text: &str) {
        let quote = self.style.quote;
        if self.style.bare && !text.contains(['"', ',', ':', '{', '}', '[', ']', '\'']) {
            self.unambiguous = false;
            self.out.push_str(text);
            return;
        }
        self.out.push(quote);
        for (at, c) in text.char_indices().filter(|(_, c)| *c == quote) {
            let after = &text[at + c.len_utf8()..];
            let next = after.trim_start().chars().next();
            let ends = after.is_empty();
            self.unambiguous &=
                ends || next.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | ')' | '(' | ';' | '='));
        }
        self.unambiguous &= !stays_open(text);
        for c in text.chars() {
            if c == quote && self.style.half && self.dice.one_in(2) {
                self.out.push('\\');
            }
            self.out.push(c);
        }
        if self.style.unclosed && self.dice.one_in(3) {
            self.unambiguous = false;
        } else {
            self.out.push(quote);
        }
    }
}

/// Generates one text.
pub(super) fn sloppy(dice: &mut Dice) -> Sloppy {
    let meant = value(dice);
    // A comment may contain the very quote that is missing.
    let unclosed = dice.one_in(20);
    let style = Style {
        pretty: dice.one_in(2),
        space: dice.pick(&[" ", " ", ""]),
        quote: if dice.one_in(8) { '\'' } else { '"' },
        bare_keys: dice.one_in(8),
        trailing: dice.one_in(6),
        comments: dice.one_in(4) && !unclosed,
        missing: dice.one_in(10),
        bare: dice.one_in(12),
        unclosed,
        half: dice.one_in(10),
    };
    let mut writer = Writer { out: String::new(), style, dice, unambiguous: true };
    writer.write(&meant, 0);
    let (json, unambiguous) = (writer.out, writer.unambiguous);
    let reply = match dice.below(4) {
        0 => format!("Here it is:\n```json\n{json}\n```\nDone."),
        1 => format!("I think this is it:\n\n{json}\n"),
        _ => json.clone(),
    };
    Sloppy { meant, json, reply, unambiguous }
}
