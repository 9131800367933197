//! Generated JSON whose quotes lost their backslashes: orch extracts the intended value, or none.
//!
//! `ORCH_REPAIRS=100000` reads that many texts; by default, the test reads a few thousand.

mod generate;

use std::io::Write as _;

use orch::extract::{Options, extract};
use orch::schema::Schema;
use serde_json::{Value, json};

use generate::{Dice, Sloppy, sloppy};

/// How many of the generated texts had which outcome.
#[derive(Default)]
struct Tally {
    wrong: Vec<String>,
    unambiguous: usize,
    repaired: usize,
    taken: usize,
    missed: Vec<String>,
}

fn schemas() -> [Schema; 3] {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": "array", "items": text });
    let item = json!({ "type": "object", "properties": { "name": text, "note": text }, "required": ["name"], "additionalProperties": false });
    let properties = json!({
        "next": { "enum": ["coder", "reviewer", "done"] },
        "reason": text, "extra": text, "tags": texts,
        "items": { "type": "array", "items": item },
        "score": { "type": "integer" },
    });
    let strict =
        json!({ "type": "object", "properties": properties, "required": ["next"], "additionalProperties": false });
    let loose = json!({ "type": "object", "properties": properties });
    [strict, loose, json!({})].map(|schema| Schema::compile("generated", schema).unwrap())
}

fn extract_and_count(text: &Sloppy, schema: &Schema, tally: &mut Tally) {
    // Exact JSON has one meaning, whatever was intended.
    if serde_json::from_str::<Value>(&text.json).is_ok() {
        return;
    }
    let found = extract(text.reply.as_bytes(), schema, &Options::default());
    tally.unambiguous += usize::from(text.unambiguous);
    match found {
        Ok(found) if found.value == text.meant => {
            tally.taken += 1;
            tally.repaired += usize::from(text.unambiguous);
        }
        Ok(found) => tally.wrong.push(format!("{}\nmeant {}\ntook  {}", text.reply, text.meant, found.value)),
        Err(no) if text.unambiguous => tally.missed.push(format!("{}\n{}", text.reply, no.message)),
        Err(_) => {}
    }
}

#[test]
fn a_repair_never_changes_the_intended_value() {
    let whole = std::env::var("ORCH_REPAIRS").ok().and_then(|count| count.parse().ok());
    let count: usize = whole.unwrap_or(3000);
    let schemas = schemas();
    let mut tally = Tally::default();
    for seed in 0..count as u64 {
        let mut dice = Dice::new(seed);
        let text = sloppy(&mut dice);
        extract_and_count(&text, &schemas[dice.below(schemas.len())], &mut tally);
    }
    let Tally { wrong, unambiguous, repaired, taken, missed } = &tally;
    let figures = format!(
        "{count} texts: {taken} taken, {} wrong; {repaired} of {unambiguous} unambiguous ones taken",
        wrong.len()
    );
    if whole.is_some() {
        let missed: Vec<&String> = missed.iter().take(20).collect();
        writeln!(std::io::stderr(), "{figures}; refused, among others: {missed:#?}").unwrap();
    }
    let first: Vec<&String> = wrong.iter().take(10).collect();
    assert!(wrong.is_empty(), "{figures}; wrong, among others: {first:#?}");
    assert!(*unambiguous > count / 6, "too few texts are unambiguous to say anything: {figures}");
    assert!(repaired * 100 >= unambiguous * 95, "{figures}");
}
