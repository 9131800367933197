//! Secrets: the values that orch must never write, and the redactor that removes them.
//!
//! Values come only from the environment: the keys of providers, and variables whose names or values mark them as
//! secrets. All text that orch writes (journal, blobs, messages, reports) passes through a [`Redactor`]; text that
//! arrives in pieces passes through a [`StreamRedactor`]. The redactor finds a secret as it is, in Base64 and
//! hexadecimal, and where the text escapes it for JSON or a URL. It can't recognize what a program derives from it in
//! other ways.

mod forms;
mod pieces;
mod sources;
mod views;

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use secrecy::{ExposeSecret, SecretString};

use crate::model::event::{CallOutput, CallReply};
use crate::model::{AgentActivity, Failure, ReplyRemarks};

pub use pieces::StreamRedactor;
pub use sources::{secrets_among, secrets_listed};

/// Values shorter than this, in bytes, are not searched for: they would match ordinary text.
pub const SHORTEST: usize = 8;

/// Replaces every known secret, in the encodings that programs use, with a mark.
#[derive(Default)]
pub struct Redactor {
    needles: Vec<(SecretString, String)>,
    search: Option<AhoCorasick>,
    longest: usize,
}

impl Redactor {
    /// A redactor for named values; the mark that replaces a value shows its name.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a SecretString)>) -> Self {
        let mut needles: Vec<(SecretString, String)> = Vec::new();
        for (name, secret) in secrets {
            let value = secret.expose_secret().trim();
            if value.len() < SHORTEST {
                continue;
            }
            let mark = format!("[secret {name}]");
            for form in forms::of(value) {
                if needles.iter().all(|(seen, _)| seen.expose_secret() != form) {
                    needles.push((SecretString::from(form), mark.clone()));
                }
            }
        }
        let texts = || needles.iter().map(|(needle, _)| needle.expose_secret());
        let longest = texts().map(str::len).max().unwrap_or_default();
        // This fails only for more needles than an environment can hold.
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts()).ok();
        Self { search: search.filter(|_| longest > 0), needles, longest }
    }

    /// The text with every secret redacted.
    pub fn text(&self, text: &str) -> String {
        self.struck(text, self.find(text))
    }

    /// Like [`Self::text`], for a text whose end was cut off: also redacts the part of a secret before the cut.
    pub fn beginning(&self, text: &str) -> String {
        let mut places = self.find(text);
        places.extend(self.begun(text));
        self.struck(text, places)
    }

    /// Like [`Self::text`], for a text whose beginning was cut off: also redacts the part of a secret after the cut.
    pub fn ending(&self, text: &str) -> String {
        let mut places = self.find(text);
        places.extend(self.ended(text));
        self.struck(text, places)
    }

    /// Whether the text holds a secret.
    pub fn finds_in(&self, text: &str) -> bool {
        !self.find(text).is_empty()
    }

    /// A reply or a failure as it may be recorded; orch redacts it once, when it arrives.
    pub fn result(&self, result: Result<CallReply, Failure>) -> Result<CallReply, Failure> {
        match result {
            Ok(CallReply::Chat(mut reply)) => {
                reply.text = self.text(&reply.text);
                reply.model = reply.model.map(|model| self.text(&model));
                reply.id = reply.id.map(|id| self.text(&id));
                reply.agent_activity = reply.agent_activity.map(|work| Box::new(self.work(*work)));
                reply.remarks = Box::new(self.remarks(*reply.remarks));
                Ok(CallReply::Chat(reply))
            }
            Ok(CallReply::Output(CallOutput::Command(mut done))) => {
                // Where output was cut off, its ends are redacted already.
                (done.stdout, done.stderr) = (self.text(&done.stdout), self.text(&done.stderr));
                Ok(CallReply::Output(CallOutput::Command(done)))
            }
            // Snapshots hold files as they were, so that orch can restore them exactly.
            Ok(CallReply::Output(done @ (CallOutput::Snapshot(_) | CallOutput::Applied(_)))) => {
                Ok(CallReply::Output(done))
            }
            Err(mut failure) => {
                // Messages quote the beginning of a server's or a program's text, with `…` where it was cut off.
                failure.message = match failure.message.strip_suffix('…') {
                    Some(beginning) => self.beginning(beginning) + "…",
                    None => self.text(&failure.message),
                };
                failure.hint = failure.hint.map(|hint| self.text(&hint));
                Err(failure)
            }
        }
    }

    /// Remarks about a reply, with every secret redacted.
    pub fn remarks(&self, remarks: ReplyRemarks) -> ReplyRemarks {
        let text = |text: Option<String>| text.map(|text| self.text(&text));
        ReplyRemarks {
            unknown_stop: text(remarks.unknown_stop),
            instead: text(remarks.instead),
            beside: text(remarks.beside),
        }
    }

    /// What a CLI agent did, as it may be recorded: a file that holds a secret is named, but its content is left out.
    pub fn work(&self, mut work: AgentActivity) -> AgentActivity {
        work.session = work.session.map(|session| self.text(&session));
        for lines in [&mut work.tools, &mut work.changed, &mut work.left_out, &mut work.denied] {
            for line in lines {
                *line = self.text(line);
            }
        }
        let files = work.files.as_mut().and_then(|record| record["files"].as_array_mut());
        if let Some(files) = files {
            files.retain(|change| {
                let clean = !self.finds_in(&change.to_string());
                if !clean {
                    work.left_out.push(self.text(change["path"].as_str().unwrap_or_default()));
                }
                clean
            });
        }
        work
    }

    /// Where secrets are in the text, each with the index of its needle.
    fn find(&self, text: &str) -> Vec<(Range<usize>, usize)> {
        let Some(search) = &self.search else { return Vec::new() };
        let mut found = Vec::new();
        views::each(text, &mut |view| {
            for hit in search.find_iter(view.bytes()) {
                found.push((view.place(hit.range()), hit.pattern().as_usize()));
            }
        });
        found
    }

    /// The end of the text, if it is the beginning of a secret.
    fn begun(&self, text: &str) -> Option<(Range<usize>, usize)> {
        let needles = self.needles.iter().map(|(needle, _)| needle.expose_secret()).enumerate();
        let longest = needles.filter_map(|(number, needle)| {
            let ends = needle.char_indices().map(|(end, _)| end).filter(|end| *end >= SHORTEST);
            let length = ends.filter(|end| needle.get(..*end).is_some_and(|part| text.ends_with(part))).max()?;
            Some((length, number))
        });
        longest.max().map(|(length, number)| (text.len() - length..text.len(), number))
    }

    /// The beginning of the text, if it is the end of a secret.
    fn ended(&self, text: &str) -> Option<(Range<usize>, usize)> {
        let needles = self.needles.iter().map(|(needle, _)| needle.expose_secret()).enumerate();
        let longest = needles.filter_map(|(number, needle)| {
            let ends = needle.char_indices().map(|(start, _)| needle.get(start..).unwrap_or_default());
            let end = ends.filter(|end| end.len() >= SHORTEST).find(|end| text.starts_with(end))?;
            Some((end.len(), number))
        });
        longest.max().map(|(length, number)| (0..length, number))
    }

    /// The text with a mark in each of these places; places that overlap share one mark.
    fn struck(&self, text: &str, mut places: Vec<(Range<usize>, usize)>) -> String {
        places.sort_unstable_by_key(|(place, number)| (place.start, std::cmp::Reverse(place.end), *number));
        let (mut out, mut done) = (String::with_capacity(text.len()), 0);
        for (place, number) in places {
            if place.start >= done {
                out.push_str(text.get(done..place.start).unwrap_or_default());
                out.push_str(self.needles.get(number).map_or("[secret]", |(_, mark)| mark));
            }
            done = done.max(place.end);
        }
        out.push_str(text.get(done..).unwrap_or_default());
        out
    }
}

#[cfg(test)]
mod tests;
