//! Replies of models that choose their texts at random, for random schemas, vocabularies and limits.

use super::*;

/// A generator of random numbers (`splitmix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % count as u64).unwrap()
    }

    fn choose<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Merges that define tokens of several characters, some of which are quotes, line ends or fences.
const MERGES: [&[&str]; 12] = [
    &["\" :", "\": \""],
    &["\" ,", "\", \""],
    &["\" }"],
    &["Ċ ```"],
    &["` Ċ"],
    &["} Ċ"],
    &["ĊĊ Ċ"],
    &["\\ n"],
    &["\\ \""],
    &["\" \""],
    &["{ \""],
    &["x Ċ", "xĊ ```"],
];

/// The texts from which the model chooses between fences; `$` stands for the end-of-turn token.
const CONTENT_TEXTS: [&str; 24] = [
    "\n```\n",
    "```\n",
    "\n",
    "x\n```",
    "abc\n",
    "a",
    "b\n",
    "`",
    "``",
    "```",
    "\"",
    "\\",
    "\t",
    "\r\n",
    "ä",
    "😀",
    "\0",
    "\u{7f}",
    "{",
    "}",
    "\n\n```rs\n",
    "\n````\n",
    "abc",
    "$",
];
/// The texts from which the model chooses outside of fences; `$` stands for the end-of-turn token.
const JSON_TEXTS: [&str; 15] =
    ["\"", "\"", "\"", "a.py\"", "}", "]", ",", "{", "\\n", "b", "\":\"", "\"}", "Markdown\"", "0", "$"];

fn random_schema(random: &mut Random) -> Value {
    let text = json!({ "type": "string" });
    let nested = object_schema(&json!({ "path": text, "content": text }));
    let contents = [
        text.clone(),
        json!({ "type": "string", "minLength": 1 }),
        json!({ "type": "string", "minLength": 20, "maxLength": 60000 }),
        json!({ "type": "string", "maxLength": 10 }),
        json!({ "type": "string", "pattern": "^[a-z]+$" }),
        json!({ "type": "string", "pattern": "^[a-z\n]*$" }),
        json!({ "enum": ["", "a\n", "abc", "abcd\n"] }),
        json!({ "type": ["string", "null"] }),
        json!({ "anyOf": [{ "type": "string", "minLength": 5 }, nested] }),
        json!({ "type": "array", "items": text }),
        json!({ "const": "ab\nc" }),
    ];
    let paths = [
        json!({ "enum": ["a.py", "b.md", "c"] }),
        json!({ "const": "a.py" }),
        json!({ "type": "string", "maxLength": 30 }),
    ];
    let mut properties = vec![("path", random.choose(&paths).clone()), ("content", random.choose(&contents).clone())];
    match random.below(5) {
        0 => properties.insert(1, ("language", text.clone())),
        1 => properties.push(("language", text.clone())),
        2 => properties.push(("kind", json!({ "const": "file" }))),
        3 => properties.insert(1, ("delete", json!({ "type": "boolean" }))),
        _ => {}
    }
    let names: Vec<&str> = properties.iter().map(|(name, _)| *name).collect();
    let required: Vec<&str> =
        names.into_iter().filter(|name| *name != "delete" && (*name != "language" || random.below(2) == 0)).collect();
    let properties: serde_json::Map<String, Value> =
        properties.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    let item =
        json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
    match random.below(5) {
        0 => item,
        1 => json!({ "type": "array", "items": item, "minItems": 2 }),
        2 => json!({ "type": "array", "items": item, "minItems": 1, "maxItems": 3 }),
        3 => object_schema(
            &json!({ "files": { "type": "array", "items": item }, "notes": { "type": "array", "items": text } }),
        ),
        _ => object_schema(&json!({ "a": item, "b": item })),
    }
}

/// Whether the text that the model read is the document, except for file contents between fences.
fn is_same_text(document: &str, model_text: &str) -> bool {
    let (mut document, mut model_text) = (document, model_text);
    loop {
        let Some(fenced) = model_text.strip_prefix("\n```") else {
            match (document.chars().next(), model_text.chars().next()) {
                (None, None) => return true,
                (Some(left), Some(right)) if left == right => {
                    document = &document[left.len_utf8()..];
                    model_text = &model_text[left.len_utf8()..];
                }
                _ => return false,
            }
            continue;
        };
        let mut values = serde_json::Deserializer::from_str(document).into_iter::<String>();
        let Some(Ok(content)) = values.next() else { return false };
        document = &document[values.byte_offset()..];
        let line_end = if content.is_empty() || content.ends_with('\n') { "" } else { "\n" };
        let Some((_, lines)) = fenced.split_once('\n') else { return false };
        let Some(rest) = lines.strip_prefix(&format!("{content}{line_end}```\n")) else { return false };
        model_text = rest;
    }
}

#[test]
fn random_replies_are_complete_and_lose_no_text() {
    let count = std::env::var("ORCH_REPLIES").ok().and_then(|count| count.parse().ok()).unwrap_or(400);
    let mut random = Random(42);
    let mut merges = || MERGES.into_iter().filter(|_| random.below(3) > 0).flatten().copied().collect::<Vec<_>>();
    let models: Vec<FakeModel> = (0..6).map(|_| FakeModel::with_merges(&merges())).collect();
    let (mut complete_count, mut fence_count) = (0, 0);
    for seed in 0..count {
        let mut random = Random(seed);
        let model = random.choose(&models);
        let schema = random_schema(&mut random);
        let limit = 30 + random.below(400);
        let can_fit = model.grammars.build(&schema).unwrap().closing_sequence(&model.vocab, limit).is_some();
        let (mut last_read, mut plan): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
        let reply = run(model, &schema, limit, |read, logits| {
            plan = match read.strip_prefix(&last_read[..]) {
                Some(written) => plan.strip_prefix(written).unwrap_or_default().to_vec(),
                None => Vec::new(),
            };
            last_read = read.to_vec();
            if plan.is_empty() {
                let read = String::from_utf8_lossy(read);
                let is_fenced = read.rsplit_once(":\n```").is_some_and(|(_, rest)| !rest.contains("\n```\n"));
                plan = if is_fenced { *random.choose(&CONTENT_TEXTS) } else { *random.choose(&JSON_TEXTS) }.into();
            }
            match random.below(30) == 0 || plan == b"$" {
                true => model.prefer_end(logits),
                false => model.prefer(logits, &plan),
            }
        });
        let context = format!("{seed} {limit} {schema} {reply:?}");
        assert!(reply.is_complete || !can_fit, "{context}");
        complete_count += usize::from(reply.is_complete);
        fence_count += reply.model_text.matches(":\n```").count();
        if reply.is_complete {
            let value: Value =
                serde_json::from_str(&reply.document).unwrap_or_else(|error| panic!("{error} {context}"));
            assert!(jsonschema::is_valid(&schema, &value), "{context}");
            assert!(is_same_text(&reply.document, &reply.model_text), "{context}");
        }
        // When a content ends, the decoder removes at most its incomplete last line.
        let loses_line = |(removed, new): &(String, String)| removed.trim_end().contains('\n') && new.contains("```");
        assert!(!reply.rewinds.iter().any(loses_line), "{context}");
    }
    println!("{complete_count} of {count} replies are complete; {fence_count} contents between fences");
    assert!(complete_count * 10 > count as usize * 8 && fence_count * 5 > count as usize);
}
