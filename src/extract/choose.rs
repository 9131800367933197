//! Chooses the answer among the values of a reply: the last one that fits the schema.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::report::{Extraction, Rejection, RejectionReason, Repair, ValueSource, no};
use super::scan::{ScanSink, ScannedValue};
use super::{Options, coerce, guard};
use crate::schema::Schema;

/// How many values that do not fit are stored for a second look; the oldest are dropped first.
const MOST_MISFITS: usize = 32;

/// A value, and where it started.
struct Pick {
    value: Value,
    source: ValueSource,
    repairs: Vec<Repair>,
    start: usize,
    /// Whether the value can't be part of a string that began before it.
    apart: bool,
}

/// Receives every value of a reply from the scanner and stores what the answer may need.
pub(super) struct Chooser<'a> {
    schema: &'a Schema,
    names: Vec<&'a str>,
    exact: Option<Pick>,
    repaired: Option<Pick>,
    distinct: HashSet<u64>,
    misfits: VecDeque<Pick>,
    /// The last fitting value from a block in another language; `last_distinct` counts the distinct ones.
    last: Option<Pick>,
    last_distinct: HashSet<u64>,
    broken: Option<(&'static str, usize)>,
    /// Where the last value starts that can be read in more than one way.
    ambiguous: Option<usize>,
    /// Where the first text starts that looks like JSON and can't be read as JSON.
    failed: Option<usize>,
    cut: bool,
    marked: bool,
}

impl ScanSink for Chooser<'_> {
    fn offer(&mut self, candidate: ScannedValue) {
        let ScannedValue { parsed, source, start, apart } = candidate;
        if source == ValueSource::Prose && self.schema.is_any() && guard::is_vague(&parsed.value) {
            return;
        }
        let pick = Pick { value: parsed.value, source, repairs: parsed.repairs, start, apart };
        if self.schema.is_valid(&pick.value) {
            self.fits(pick);
        } else {
            if self.misfits.len() == MOST_MISFITS {
                self.misfits.pop_front();
            }
            self.misfits.push_back(pick);
        }
    }

    fn offer_last(&mut self, candidate: ScannedValue) {
        let ScannedValue { parsed, source, start, apart } = candidate;
        if self.schema.is_valid(&parsed.value) {
            self.last_distinct.insert(digest(&parsed.value));
            self.last = Some(Pick { value: parsed.value, source, repairs: parsed.repairs, start, apart });
        }
    }

    fn broken(&mut self, why: &'static str, start: usize, text: &str) {
        let about = self.names.is_empty() || self.names.iter().any(|name| text.contains(name));
        if about || self.broken.is_none() && self.exact.is_none() && self.repaired.is_none() {
            self.broken = Some((why, start));
        }
    }

    fn ambiguous(&mut self, start: usize) {
        self.ambiguous = Some(start);
    }

    fn failed(&mut self, start: usize) {
        self.failed.get_or_insert(start);
    }

    fn fits(&self, value: &Value) -> bool {
        self.schema.is_valid(value) || coerce::fit(value, self.schema, &[]).is_some()
    }

    fn cut(&mut self, _start: usize) {
        self.cut = true;
    }

    fn forget(&mut self) {
        self.exact = None;
        self.repaired = None;
        self.distinct.clear();
        self.misfits.clear();
        self.last = None;
        self.last_distinct.clear();
        self.broken = None;
        self.ambiguous = None;
        self.failed = None;
        self.cut = false;
    }

    fn marked(&mut self) {
        self.marked = true;
    }
}

impl<'a> Chooser<'a> {
    pub(super) fn new(schema: &'a Schema) -> Self {
        let names = schema
            .document()
            .get("properties")
            .and_then(Value::as_object)
            .map(|map| map.keys().map(String::as_str).collect());
        Self {
            schema,
            names: names.unwrap_or_default(),
            exact: None,
            repaired: None,
            distinct: HashSet::new(),
            misfits: VecDeque::new(),
            last: None,
            last_distinct: HashSet::new(),
            broken: None,
            ambiguous: None,
            failed: None,
            cut: false,
            marked: false,
        }
    }

    fn fits(&mut self, pick: Pick) {
        self.distinct.insert(digest(&pick.value));
        let slot = if pick.repairs.is_empty() { &mut self.exact } else { &mut self.repaired };
        *slot = Some(pick);
    }

    /// Returns the answer, or why there is none. `before` lists the repairs of the text as a whole.
    pub(super) fn finish(mut self, options: Options, before: &[Repair]) -> Result<Extraction, Box<Rejection>> {
        if self.cut {
            return no(RejectionReason::MaxTokensReached, "the reply ends inside a JSON value");
        }
        if self.exact.is_none() && self.repaired.is_none() {
            let alone = self.misfits.is_empty()
                && self.broken.is_none()
                && self.ambiguous.is_none()
                && self.last_distinct.len() == 1;
            self.repaired = self.last.take().filter(|_| alone);
            self.second_look();
        }
        // A value after the ambiguous one is still the answer, unless a string of the ambiguous one may contain it.
        let last = self.exact.as_ref().or(self.repaired.as_ref());
        let is_quoted = last.is_some_and(|last| !last.apart && self.failed.is_some_and(|start| start < last.start));
        if is_quoted || self.ambiguous.is_some_and(|start| last.is_none_or(|last| last.start < start || !last.apart)) {
            let why =
                "the JSON of the reply can be read in more than one way: a quote inside a string has no backslash";
            return no(RejectionReason::AmbiguousReply, why);
        }
        let Some(pick) = self.exact.take().or_else(|| self.repaired.take()) else { return self.nothing() };
        if let Some((why, _)) = self.broken.filter(|(_, start)| *start > pick.start) {
            return no(RejectionReason::NoJson, format!("the last JSON of the reply can't be read: {why}"));
        }
        let others = self.distinct.len().saturating_sub(1);
        if options.strict && others > 0 {
            return no(
                RejectionReason::AmbiguousReply,
                format!("{} different values of the reply fit the schema", others + 1),
            );
        }
        // A replaced byte outside the value does not affect it.
        let touched = |repair: &Repair| *repair != Repair::InvalidUtf8 || pick.value.to_string().contains('\u{fffd}');
        let repairs: Vec<Repair> = before.iter().copied().filter(touched).chain(pick.repairs.iter().copied()).collect();
        if options.strict && !repairs.is_empty() {
            let list: Vec<&str> = repairs.iter().map(|repair| repair.as_str()).collect();
            return no(
                RejectionReason::SchemaMismatch,
                format!("the reply fits only when repaired ({})", list.join(", ")),
            );
        }
        Ok(Extraction { value: pick.value, source: pick.source, repairs, others, left_out: Vec::new() })
    }

    /// Tries the stored values again, with scalars converted to the schema's types or wrappings removed.
    fn second_look(&mut self) {
        for mut misfit in std::mem::take(&mut self.misfits) {
            match coerce::fit(&misfit.value, self.schema, &misfit.repairs) {
                Some((value, repairs)) => {
                    misfit.value = value;
                    misfit.repairs.extend(repairs);
                    self.fits(misfit);
                }
                None => self.misfits.push_back(misfit),
            }
        }
    }

    fn nothing(&self) -> Result<Extraction, Box<Rejection>> {
        let errors =
            self.misfits.iter().rev().take(8).map(|misfit| self.schema.errors(&misfit.value)).min_by_key(Vec::len);
        if let Some(mismatches) = errors {
            let first = mismatches.first().map_or_else(String::new, |first| format!(": {first}"));
            let more =
                if mismatches.len() > 1 { format!(" (and {} more)", mismatches.len() - 1) } else { String::new() };
            let message = format!("the reply does not fit the schema{first}{more}");
            return Err(Box::new(Rejection { reason: RejectionReason::SchemaMismatch, message, mismatches }));
        }
        let message = match (self.broken, self.marked) {
            (Some((why, _)), _) => format!("the JSON of the reply can't be read: {why}"),
            (None, true) => {
                "the reply holds JSON at most where it is no answer: in reasoning, a quotation or other code".to_owned()
            }
            (None, false) => "the reply holds no JSON".to_owned(),
        };
        no(RejectionReason::NoJson, message)
    }
}

/// Hashes a value; equal values have the same hash, whatever the order of their keys.
fn digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    match value {
        Value::Object(members) => {
            let sum = members.iter().fold(members.len() as u64, |sum, (key, value)| {
                let mut member = DefaultHasher::new();
                (key, digest(value)).hash(&mut member);
                sum.wrapping_add(member.finish())
            });
            (5, sum).hash(&mut hasher);
        }
        Value::Array(items) => {
            (4, items.len()).hash(&mut hasher);
            for item in items {
                digest(item).hash(&mut hasher);
            }
        }
        Value::String(text) => (3, text).hash(&mut hasher),
        Value::Number(number) => (2, number.as_str()).hash(&mut hasher),
        Value::Bool(flag) => (1, flag).hash(&mut hasher),
        Value::Null => 0.hash(&mut hasher),
    }
    hasher.finish()
}
