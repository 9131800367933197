//! Secrets: the values that orch must never write, and the redactor that removes them from texts.
//!
//! Secrets come only from the environment: the keys of providers, variables that orch sends as credentials, and
//! variables whose names or values show that they are secrets. All text that orch writes (journal, blobs, messages,
//! reports) passes through a [`Redactor`]; text that arrives in pieces passes through a [`StreamRedactor`]. The redactor
//! finds a secret in plain text, in Base64, in hexadecimal, and with the escapes of JSON and of URLs. It can't recognize
//! other values that a program derives from the secret.
//!
//! Code that shortens a text redacts it first, because the redactor does not recognize a part of a secret. Where a text
//! is cut off as it arrives, the redactor removes the parts of secrets at the cut.

mod credentials;
mod decodings;
mod encodings;
mod stream;
mod variables;

use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::model::event::CallReply;
use crate::model::{
    AgentActivity, ChatReply, Content, ContentBlock, Failure, FailureClass, LeftOutReason, OfferedTools, ReplyDetails,
    SandboxUse, ToolDefinition, TurnReply,
};

pub use stream::StreamRedactor;
pub use variables::{secrets_among, secrets_for_servers, secrets_in_listed_variables};

/// The minimum length in bytes of a value that the redactor searches for. A shorter value would match ordinary text.
pub const MIN_NEEDLE_BYTES: usize = 8;

/// Replaces every known secret, in any of the encodings that programs use, by a placeholder.
#[derive(Default)]
pub struct Redactor {
    /// The search strings: each encoding of each secret, with the placeholder that replaces it.
    needles: Vec<(SecretString, String)>,
    automaton: Option<AhoCorasick>,
    max_needle_bytes: usize,
}

impl Redactor {
    /// Creates a redactor for named secrets, and for the parts of credentials, such as KEY in `Bearer KEY`. The
    /// placeholder for a secret contains its name.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a SecretString)>) -> Self {
        let mut needles: Vec<(SecretString, String)> = Vec::new();
        for (name, secret) in secrets {
            let value = secret.expose_secret().trim();
            if value.len() < MIN_NEEDLE_BYTES {
                continue;
            }
            let placeholder = format!("[secret {name}]");
            let parts = credentials::secret_parts(value);
            let values = std::iter::once(value).chain(parts.iter().map(String::as_str));
            for encoding in values.flat_map(encodings::encodings_of) {
                if needles.iter().all(|(needle, _)| needle.expose_secret() != encoding) {
                    needles.push((SecretString::from(encoding), placeholder.clone()));
                }
            }
        }
        let texts = || needles.iter().map(|(needle, _)| needle.expose_secret());
        let longest = texts().map(str::len).max().unwrap_or_default();
        // This fails only for more search strings than an environment can contain.
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts()).ok();
        Self { automaton: automaton.filter(|_| longest > 0), needles, max_needle_bytes: longest }
    }

    /// Whether there is no secret to search for.
    pub fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    /// Redacts every secret in a text.
    pub fn redact(&self, text: &str) -> String {
        self.mask(text, self.find_secrets(text))
    }

    /// Redacts a text whose end was cut off, including the part of a secret before the cut.
    pub fn redact_beginning(&self, text: &str) -> String {
        self.redact_part(text, false, true)
    }

    /// Redacts a text whose beginning was cut off, including the part of a secret after the cut.
    pub fn redact_ending(&self, text: &str) -> String {
        self.redact_part(text, true, false)
    }

    /// Redacts a text whose beginning or end may have been cut off, including the parts of secrets at the cuts.
    pub fn redact_part(&self, text: &str, is_cut_before: bool, is_cut_after: bool) -> String {
        let mut matches = self.find_secrets(text);
        if is_cut_before {
            matches.extend(self.find_truncated_at_start(text));
        }
        if is_cut_after {
            matches.extend(self.find_truncated_at_end(text));
        }
        self.mask(text, matches)
    }

    /// Whether the text contains a secret.
    pub fn contains_secret(&self, text: &str) -> bool {
        !self.find_secrets(text).is_empty()
    }

    /// Redacts a reply or a failure. orch calls this once, when the reply arrives, and records only the redacted form.
    pub fn redact_result(&self, result: Result<CallReply, Failure>) -> Result<CallReply, Failure> {
        match result {
            Ok(CallReply::Chat(reply)) => self.redact_reply(reply).map(CallReply::Chat),
            Ok(CallReply::Turn(turn)) => {
                let TurnReply { reply, activity } = *turn;
                let activity = self.redact_activity(activity);
                Ok(CallReply::Turn(Box::new(TurnReply { reply: self.redact_reply(reply)?, activity })))
            }
            Ok(CallReply::Output(output)) => Ok(CallReply::Output(output.map_secret_texts(|text| self.redact(text)))),
            Err(failure) => Err(self.redact_failure(failure)),
        }
    }

    /// Redacts the message and the hint of a failure.
    pub fn redact_failure(&self, failure: Failure) -> Failure {
        Failure {
            message: self.redact_quotations(&failure.message),
            hint: failure.hint.map(|hint| self.redact_quotations(&hint)),
            ..failure
        }
    }

    /// Redacts a text that may quote a server, a program or a model. A `…` shows where orch cut a quotation off, which
    /// may be within a secret: redacts the parts of a secret on both sides.
    pub fn redact_quotations(&self, text: &str) -> String {
        let redacted = self.redact(text);
        let last = redacted.matches('…').count();
        if last == 0 {
            return redacted;
        }
        let parts = redacted.split('…').enumerate();
        let parts: Vec<String> =
            parts.map(|(index, part)| self.redact_cut_part(part, index > 0, index < last)).collect();
        parts.join("…")
    }

    /// Redacts the parts of secrets at the ends of a text. The marker of a cut in the middle of a text has a bracket and
    /// a line break on each side.
    fn redact_cut_part(&self, text: &str, is_cut_before: bool, is_cut_after: bool) -> String {
        let marker_end = if is_cut_before && text.starts_with("]\n") { 2 } else { 0 };
        let (marker_end, text) = text.split_at(marker_end);
        let marker_start = if is_cut_after && text.ends_with("\n[") { text.len() - 2 } else { text.len() };
        let (text, marker_start) = text.split_at(marker_start);
        let before = if is_cut_before { self.find_truncated_at_start(text) } else { None };
        let after = if is_cut_after { self.find_truncated_at_end(text) } else { None };
        format!("{marker_end}{}{marker_start}", self.mask(text, before.into_iter().chain(after).collect()))
    }

    /// Redacts a reply. Fails if opaque data contains a secret, since orch must send this data back unchanged and so
    /// can't redact it.
    fn redact_reply(&self, reply: ChatReply) -> Result<ChatReply, Failure> {
        let blocks = Vec::from(reply.content).into_iter().map(|block| self.redact_block(block));
        let content = Content::from(blocks.collect::<Result<Vec<_>, _>>().map_err(|failure| Failure {
            usage: Some(reply.usage).filter(|usage| !usage.is_empty()).map(Box::new),
            interrupted: reply.usage.complete().is_none(),
            ..failure
        })?);
        Ok(ChatReply {
            content,
            model: reply.model.map(|model| self.redact(&model)),
            id: reply.id.map(|id| self.redact(&id)),
            details: Box::new(self.redact_details(*reply.details)),
            ..reply
        })
    }

    fn redact_block(&self, block: ContentBlock) -> Result<ContentBlock, Failure> {
        Ok(match block {
            ContentBlock::Text { text } => ContentBlock::Text { text: self.redact(&text) },
            ContentBlock::ToolCall { id, name, mut arguments } => {
                self.redact_strings(&mut arguments);
                ContentBlock::ToolCall { id: self.redact(&id), name: self.redact(&name), arguments }
            }
            ContentBlock::ToolResult { id, name, content, is_error } => ContentBlock::ToolResult {
                id: self.redact(&id),
                name: self.redact(&name),
                content: self.redact(&content),
                is_error,
            },
            ContentBlock::Opaque { dialect, data } => {
                if self.contains_secret(&data.to_string()) {
                    let message = "the reply contains a secret in signed or encrypted data, which orch can't redact";
                    return Err(Failure::new(FailureClass::SecretInReply, message).with_hint(
                        "orch did not save the reply: remove the secret from the inputs and the workspace of the step, or choose a model without reasoning",
                    ));
                }
                ContentBlock::Opaque { dialect, data }
            }
            block @ ContentBlock::File { .. } => block,
        })
    }

    /// Whether a string or a name in a JSON value contains a secret.
    pub fn finds_secret_in(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.contains_secret(text),
            Value::Array(list) => list.iter().any(|item| self.finds_secret_in(item)),
            Value::Object(map) => {
                map.iter().any(|(name, item)| self.contains_secret(name) || self.finds_secret_in(item))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// Returns a JSON value with every string and every name redacted.
    pub fn redact_value(&self, mut value: Value) -> Value {
        self.redact_strings(&mut value);
        value
    }

    /// Redacts every string and every name in a JSON value.
    fn redact_strings(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.redact(text),
            Value::Array(list) => list.iter_mut().for_each(|item| self.redact_strings(item)),
            Value::Object(map) => {
                *map = std::mem::take(map)
                    .into_iter()
                    .map(|(name, mut item)| {
                        self.redact_strings(&mut item);
                        (self.redact(&name), item)
                    })
                    .collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Redacts the details of a reply.
    pub fn redact_details(&self, details: ReplyDetails) -> ReplyDetails {
        let redact = |text: Option<String>| text.map(|text| self.redact_quotations(&text));
        ReplyDetails {
            unknown_stop: redact(details.unknown_stop),
            instead: redact(details.instead),
            beside: redact(details.beside),
            refusal: redact(details.refusal),
            exceeded_context_window: details.exceeded_context_window,
            omitted_calls: details.omitted_calls.iter().map(|name| self.redact(name)).collect(),
            // The provider's reader cuts a long description off without a mark.
            malformed_call: details.malformed_call.map(|text| self.redact_beginning(&text)),
            paused: details.paused,
            half_surrogate: details.half_surrogate,
        }
    }

    /// Redacts the tools of a request: their descriptions and schemas may come from a server or a file.
    pub fn redact_tools(&self, tools: OfferedTools) -> OfferedTools {
        let redact_definition = |definition: ToolDefinition| {
            let mut parameters = Arc::unwrap_or_clone(definition.parameters);
            self.redact_strings(&mut parameters);
            ToolDefinition {
                name: self.redact(&definition.name),
                description: self.redact(&definition.description),
                parameters: Arc::new(parameters),
            }
        };
        OfferedTools { definitions: tools.definitions.into_iter().map(redact_definition).collect(), ..tools }
    }

    /// Redacts the activity of a CLI agent. Replaces the record of a changed file that contains a secret by the path of
    /// the file in `left_out`.
    pub fn redact_activity(&self, mut activity: AgentActivity) -> AgentActivity {
        activity.session = activity.session.map(|session| self.redact(&session));
        for text in [&mut activity.changed, &mut activity.partial_reasons, &mut activity.left_out].into_iter().flatten()
        {
            *text = self.redact(text);
        }
        for line in [&mut activity.tools, &mut activity.denied].into_iter().flatten() {
            *line = self.redact_quotations(line);
        }
        let reasons = std::mem::take(&mut activity.left_out_reasons);
        activity.left_out_reasons = reasons.into_iter().map(|(path, reason)| (self.redact(&path), reason)).collect();
        let mut paths_with_secrets = Vec::new();
        let files = activity.files.as_mut().and_then(|record| record["files"].as_array_mut());
        if let Some(files) = files {
            files.retain(|change| {
                let has_secret = self.contains_secret(&change.to_string());
                if has_secret {
                    paths_with_secrets.push(self.redact(change["path"].as_str().unwrap_or_default()));
                }
                !has_secret
            });
        }
        for path in paths_with_secrets {
            activity.leave_out(path, LeftOutReason::Secret);
        }
        activity
    }

    /// Redacts the record of a sandbox, because a program chooses the hosts and the paths in it.
    pub fn redact_sandbox(&self, mut sandbox: SandboxUse) -> SandboxUse {
        for connection in &mut sandbox.connections {
            connection.host = self.redact(&connection.host);
            for reason in [&mut connection.refused, &mut connection.failed].into_iter().flatten() {
                *reason = self.redact(reason);
            }
        }
        let paths_and_sentences = sandbox.changed_protected.iter_mut().chain(&mut sandbox.damage);
        for text in paths_and_sentences.chain(&mut sandbox.unknown) {
            *text = self.redact(text);
        }
        sandbox
    }

    /// Finds the secrets in the text. Returns the range of each match and the index of its needle.
    fn find_secrets(&self, text: &str) -> Vec<(Range<usize>, usize)> {
        let Some(automaton) = &self.automaton else { return Vec::new() };
        let mut matches = Vec::new();
        decodings::visit_decodings(text, &mut |decoded| {
            for needle_match in automaton.find_iter(decoded.bytes()) {
                matches.push((decoded.original_range(needle_match.range()), needle_match.pattern().as_usize()));
            }
        });
        matches
    }

    /// The match at the end of the text, if the text ends with the beginning of a secret.
    fn find_truncated_at_end(&self, text: &str) -> Option<(Range<usize>, usize)> {
        let needles = self.needles.iter().map(|(needle, _)| needle.expose_secret()).enumerate();
        let matches = needles.filter_map(|(index, needle)| {
            let lengths = needle.char_indices().map(|(length, _)| length).filter(|length| *length >= MIN_NEEDLE_BYTES);
            let length =
                lengths.filter(|length| needle.get(..*length).is_some_and(|start| text.ends_with(start))).max()?;
            Some((length, index))
        });
        matches.max().map(|(length, index)| (text.len() - length..text.len(), index))
    }

    /// The match at the beginning of the text, if the text begins with the end of a secret.
    fn find_truncated_at_start(&self, text: &str) -> Option<(Range<usize>, usize)> {
        let needles = self.needles.iter().map(|(needle, _)| needle.expose_secret()).enumerate();
        let matches = needles.filter_map(|(index, needle)| {
            let tails = needle.char_indices().map(|(start, _)| needle.get(start..).unwrap_or_default());
            let tail = tails.filter(|tail| tail.len() >= MIN_NEEDLE_BYTES).find(|tail| text.starts_with(tail))?;
            Some((tail.len(), index))
        });
        matches.max().map(|(length, index)| (0..length, index))
    }

    /// Replaces each match by its placeholder. Overlapping matches share one placeholder.
    fn mask(&self, text: &str, mut matches: Vec<(Range<usize>, usize)>) -> String {
        matches.sort_unstable_by_key(|(range, index)| (range.start, std::cmp::Reverse(range.end), *index));
        let (mut out, mut masked_end) = (String::with_capacity(text.len()), 0);
        for (range, index) in matches {
            if range.start >= masked_end {
                out.push_str(text.get(masked_end..range.start).unwrap_or_default());
                out.push_str(self.needles.get(index).map_or("[secret]", |(_, placeholder)| placeholder));
            }
            masked_end = masked_end.max(range.end);
        }
        out.push_str(text.get(masked_end..).unwrap_or_default());
        out
    }
}

#[cfg(test)]
mod tests;
