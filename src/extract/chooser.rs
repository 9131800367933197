//! Chooses the answer among the values of a reply: the last value that fits the schema.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::cursor::HALF_SURROGATE;
use super::equality::NumberValue;
use super::report::{Extraction, Rejection, RejectionReason, Repair, UNREADABLE, ValueSource, reject};
use super::scan::{ScanSink, ScannedValue};
use super::{Options, brackets, coerce};
use crate::schema::Schema;

/// The maximum number of stored candidates that do not fit the schema. If there are more, the chooser drops the oldest.
const MAX_MISMATCHED: usize = 32;

/// A value of the reply, and where it starts.
struct Candidate {
    value: Value,
    source: ValueSource,
    repairs: Vec<Repair>,
    start: usize,
    /// Whether the value can't be part of a string that began before it.
    is_outside_strings: bool,
}

/// Receives every value of a reply from the scanner, and stores the candidates for the answer.
pub(super) struct Chooser<'a> {
    schema: &'a Schema,
    property_names: Vec<&'a str>,
    /// The last value that fits the schema without repairs.
    last_exact: Option<Candidate>,
    /// The last value that fits the schema after repairs.
    last_repaired: Option<Candidate>,
    /// The digests of all values that fit the schema.
    match_digests: HashSet<u64>,
    /// The values that do not fit the schema. [`Chooser::finish`] tries to coerce them.
    mismatched_candidates: VecDeque<Candidate>,
    /// The last matching value from a block in another language.
    last_fallback: Option<Candidate>,
    /// The digests of all matching values from blocks in other languages.
    fallback_digests: HashSet<u64>,
    /// The reason and the start of the last text that the scanner reported as unreadable JSON.
    last_unreadable: Option<(&'static str, usize)>,
    /// The start of the last value that can be parsed in more than one way.
    last_ambiguous: Option<usize>,
    /// The start of the first text that looks like JSON and can't be parsed as JSON.
    first_failed: Option<usize>,
    is_cut_off: bool,
    has_skipped_markup: bool,
}

impl ScanSink for Chooser<'_> {
    fn add_candidate(&mut self, candidate: ScannedValue) {
        let ScannedValue { parsed, source, start, is_outside_strings } = candidate;
        if source == ValueSource::Prose && self.schema.is_any() && brackets::is_trivial_value(&parsed.value) {
            return;
        }
        let candidate = Candidate { value: parsed.value, source, repairs: parsed.repairs, start, is_outside_strings };
        if self.schema.is_valid(&candidate.value) {
            self.add_match(candidate);
        } else {
            if self.mismatched_candidates.len() == MAX_MISMATCHED {
                self.mismatched_candidates.pop_front();
            }
            self.mismatched_candidates.push_back(candidate);
        }
    }

    fn add_fallback(&mut self, candidate: ScannedValue) {
        let ScannedValue { parsed, source, start, is_outside_strings } = candidate;
        if self.schema.is_valid(&parsed.value) {
            self.fallback_digests.insert(value_digest(&parsed.value));
            self.last_fallback =
                Some(Candidate { value: parsed.value, source, repairs: parsed.repairs, start, is_outside_strings });
        }
    }

    fn report_unreadable(&mut self, reason: &'static str, start: usize, text: &str) {
        let mentions_property =
            self.property_names.is_empty() || self.property_names.iter().any(|name| text.contains(name));
        let is_only_finding =
            self.last_unreadable.is_none() && self.last_exact.is_none() && self.last_repaired.is_none();
        if mentions_property || is_only_finding {
            self.last_unreadable = Some((reason, start));
        }
    }

    fn report_ambiguous(&mut self, start: usize) {
        self.last_ambiguous = Some(start);
    }

    fn report_failed_parse(&mut self, start: usize) {
        self.first_failed.get_or_insert(start);
    }

    fn fits_schema(&self, value: &Value) -> bool {
        self.schema.is_valid(value) || coerce::coerce_to_schema(value, self.schema, &[]).is_some()
    }

    fn report_cut_off(&mut self, _start: usize) {
        self.is_cut_off = true;
    }

    fn discard_findings(&mut self) {
        self.last_exact = None;
        self.last_repaired = None;
        self.match_digests.clear();
        self.mismatched_candidates.clear();
        self.last_fallback = None;
        self.fallback_digests.clear();
        self.last_unreadable = None;
        self.last_ambiguous = None;
        self.first_failed = None;
        self.is_cut_off = false;
    }

    fn report_skipped_markup(&mut self) {
        self.has_skipped_markup = true;
    }
}

impl<'a> Chooser<'a> {
    pub(super) fn new(schema: &'a Schema) -> Self {
        let property_names = schema
            .as_value()
            .get("properties")
            .and_then(Value::as_object)
            .map(|map| map.keys().map(String::as_str).collect());
        Self {
            schema,
            property_names: property_names.unwrap_or_default(),
            last_exact: None,
            last_repaired: None,
            match_digests: HashSet::new(),
            mismatched_candidates: VecDeque::new(),
            last_fallback: None,
            fallback_digests: HashSet::new(),
            last_unreadable: None,
            last_ambiguous: None,
            first_failed: None,
            is_cut_off: false,
            has_skipped_markup: false,
        }
    }

    fn add_match(&mut self, candidate: Candidate) {
        self.match_digests.insert(value_digest(&candidate.value));
        let slot = if candidate.repairs.is_empty() { &mut self.last_exact } else { &mut self.last_repaired };
        *slot = Some(candidate);
    }

    /// Returns the answer, or the reason why there is none. `text_repairs` lists the repairs of the text as a whole.
    pub(super) fn finish(mut self, options: Options, text_repairs: &[Repair]) -> Result<Extraction, Box<Rejection>> {
        if self.is_cut_off {
            return reject(RejectionReason::MaxTokensReached, "the reply ends inside a JSON value");
        }
        if self.last_exact.is_none() && self.last_repaired.is_none() {
            let is_only_value = self.mismatched_candidates.is_empty()
                && self.last_unreadable.is_none()
                && self.last_ambiguous.is_none()
                && self.fallback_digests.len() == 1;
            self.last_repaired = self.last_fallback.take().filter(|_| is_only_value);
            self.retry_with_coercion();
        }
        // The answer may follow an ambiguous value, but it must not be part of a string in that value.
        let best = self.last_exact.as_ref().or(self.last_repaired.as_ref());
        let may_be_in_string = best
            .is_some_and(|best| !best.is_outside_strings && self.first_failed.is_some_and(|start| start < best.start));
        let is_ambiguous = self
            .last_ambiguous
            .is_some_and(|start| best.is_none_or(|best| best.start < start || !best.is_outside_strings));
        if may_be_in_string || is_ambiguous {
            let message =
                "the JSON of the reply can be read in more than one way: a quote inside a string has no backslash";
            return reject(RejectionReason::AmbiguousReply, message);
        }
        let Some(answer) = self.last_exact.take().or_else(|| self.last_repaired.take()) else {
            return self.reject_without_match();
        };
        if let Some((reason, _)) = self.last_unreadable.filter(|(_, start)| *start > answer.start) {
            let message = format!("the last JSON of the reply {UNREADABLE}{reason}");
            return reject(unreadable_reason(reason), message);
        }
        let other_count = self.match_digests.len().saturating_sub(1);
        if options.strict && other_count > 0 {
            return reject(
                RejectionReason::AmbiguousReply,
                format!("{} different values of the reply fit the schema", other_count + 1),
            );
        }
        // A replaced byte outside the answer does not affect the answer.
        let affects_answer =
            |repair: &Repair| *repair != Repair::InvalidUtf8 || answer.value.to_string().contains('\u{fffd}');
        let text_repairs = text_repairs.iter().copied().filter(affects_answer);
        let repairs: Vec<Repair> = text_repairs.chain(answer.repairs.iter().copied()).collect();
        if options.strict && !repairs.is_empty() {
            let names: Vec<&str> = repairs.iter().map(|repair| repair.as_str()).collect();
            return reject(
                RejectionReason::SchemaMismatch,
                format!("the reply fits the schema only after repairs ({})", names.join(", ")),
            );
        }
        let Candidate { value, source, .. } = answer;
        let value = self.schema.with_integers(value);
        Ok(Extraction { value, source, repairs, others: other_count, left_out: Vec::new() })
    }

    /// Tries the stored candidates again, with scalars converted to the schema's types or wrappers removed.
    fn retry_with_coercion(&mut self) {
        for mut candidate in std::mem::take(&mut self.mismatched_candidates) {
            match coerce::coerce_to_schema(&candidate.value, self.schema, &candidate.repairs) {
                Some((value, repairs)) => {
                    candidate.value = value;
                    candidate.repairs.extend(repairs);
                    self.add_match(candidate);
                }
                None => self.mismatched_candidates.push_back(candidate),
            }
        }
    }

    fn reject_without_match(&self) -> Result<Extraction, Box<Rejection>> {
        let recent_candidates = self.mismatched_candidates.iter().rev().take(8);
        let mismatches_of =
            |candidate: &Candidate| coerce::remaining_mismatches(&candidate.value, self.schema, &candidate.repairs);
        let fewest_mismatches = recent_candidates.map(mismatches_of).min_by_key(Vec::len);
        if let Some(mismatches) = fewest_mismatches {
            let first = mismatches.first().map_or_else(String::new, |first| format!(": {first}"));
            let more =
                if mismatches.len() > 1 { format!(" (and {} more)", mismatches.len() - 1) } else { String::new() };
            let message = format!("the reply does not fit the schema{first}{more}");
            return Err(Box::new(Rejection { reason: RejectionReason::SchemaMismatch, message, mismatches }));
        }
        let message = match (self.last_unreadable, self.has_skipped_markup) {
            (Some((reason, _)), _) => {
                return reject(unreadable_reason(reason), format!("the JSON of the reply {UNREADABLE}{reason}"));
            }
            (None, true) => {
                "the reply contains no JSON outside of reasoning, quotations and code in other languages".to_owned()
            }
            (None, false) => "the reply contains no JSON".to_owned(),
        };
        reject(RejectionReason::NoJson, message)
    }
}

/// The class of the rejection for JSON that can't be read. A string with half of a surrogate pair is valid JSON that no
/// schema accepts.
fn unreadable_reason(reason: &str) -> RejectionReason {
    if reason == HALF_SURROGATE { RejectionReason::SchemaMismatch } else { RejectionReason::NoJson }
}

/// Hashes a value. Neither the order of keys nor the form of a number, such as `1.0` for `1`, changes the hash.
fn value_digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    match value {
        Value::Object(members) => {
            let sum = members.iter().fold(members.len() as u64, |sum, (key, value)| {
                let mut member_hasher = DefaultHasher::new();
                (key, value_digest(value)).hash(&mut member_hasher);
                sum.wrapping_add(member_hasher.finish())
            });
            (5, sum).hash(&mut hasher);
        }
        Value::Array(items) => {
            (4, items.len()).hash(&mut hasher);
            for item in items {
                value_digest(item).hash(&mut hasher);
            }
        }
        Value::String(text) => (3, text).hash(&mut hasher),
        Value::Number(number) => (2, NumberValue::from(number)).hash(&mut hasher),
        Value::Bool(flag) => (1, flag).hash(&mut hasher),
        Value::Null => 0.hash(&mut hasher),
    }
    hasher.finish()
}
