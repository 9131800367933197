//! Writes the calls of a reply.

use serde_json::Value;
use toktrie::TokenId;

use super::{Generation, PartEnd, ReplyPart};
use crate::Error;
use crate::model::FinishReason;
use crate::schema::JsonSpacing;
use crate::tools::{CALL_END, ModelCall, arguments_schema, call_start};

/// The text that begins a call after another one.
const NEXT_CALL: &str = "\n<tool_call>";

impl Generation<'_> {
    /// Writes calls until the model ends its turn. `unread` are tokens that the model has not read yet, and `start` is
    /// the text before the first call.
    pub(super) fn write_calls(&mut self, mut unread: Vec<TokenId>, mut start: &str) -> Result<(), Error> {
        loop {
            let (rest, end) = self.write_call(unread, start)?;
            unread = rest;
            if let Some(finish_reason) = end {
                self.reply.finish_reason = finish_reason;
                return Ok(());
            }
            if self.room(unread.len()) == 0 || !self.continues_with(&unread, NEXT_CALL)? {
                self.reply.finish_reason = FinishReason::Complete;
                return Ok(());
            }
            unread.clear();
            start = NEXT_CALL;
        }
    }

    /// Writes one call. Returns the tokens that the model has not read yet, and the reason if the reply ends.
    fn write_call(&mut self, unread: Vec<TokenId>, start: &str) -> Result<(Vec<TokenId>, Option<FinishReason>), Error> {
        let openings = self.openings(start)?;
        let closing = self.tokenize(CALL_END)?;
        let reserved = openings.iter().map(Vec::len).max().unwrap_or_default() + closing.len();
        let is_first = self.reply.calls.is_empty();
        if self.room(unread.len()) <= reserved {
            return Ok((unread, Some(if is_first { FinishReason::Length } else { FinishReason::Complete })));
        }
        let (index, mut unread) = self.choose_opening(unread, &openings)?;
        let Some(tool) = self.request.tools.get(index) else { return Ok((unread, Some(FinishReason::Complete))) };
        self.reply.output_tokens += openings.get(index).map_or(0, Vec::len);
        let limit = self.room(unread.len() + closing.len());
        let grammar = self.model.grammars.build_with_spacing(&arguments_schema(tool), JsonSpacing::Spaced)?;
        let mut writer = self.new_writer(Some(grammar), limit);
        let forced_prefix = writer.forced_prefix();
        unread.extend_from_slice(&forced_prefix);
        self.read(&unread)?;
        let base = self.cache.tokens.len() - forced_prefix.len();
        let end = self.write_part(&mut writer, base, ReplyPart::Arguments)?;
        self.reply.output_tokens += writer.generated_count();
        let mut unread = writer.unread_tokens(self.read_count(base)).to_vec();
        let arguments = serde_json::from_slice::<Value>(&writer.document());
        match (end, arguments) {
            (PartEnd::Complete, Ok(arguments)) => {
                let call = ModelCall { name: tool.name.clone(), arguments };
                // Small models often repeat a call.
                if self.reply.calls.contains(&call) {
                    return Ok((unread, Some(FinishReason::Complete)));
                }
                self.reply.calls.push(call);
                unread.extend_from_slice(&closing);
                self.reply.output_tokens += closing.len();
                Ok((unread, None))
            }
            (PartEnd::Cancelled, _) => Ok((unread, Some(FinishReason::Cancelled))),
            (PartEnd::Complete | PartEnd::Truncated | PartEnd::CallBegun, _) => {
                self.reply.cut_call = Some(tool.name.clone());
                Ok((unread, Some(FinishReason::Length)))
            }
        }
    }

    /// For each tool, the tokens of a call up to its arguments.
    fn openings(&self, start: &str) -> Result<Vec<Vec<TokenId>>, Error> {
        let opening = |name: &str| self.tokenize(&format!("{start}{}", call_start(name)));
        self.request.tools.iter().map(|tool| opening(&tool.name)).collect()
    }

    /// Chooses a tool: the model chooses among the tokens of the openings wherever they differ. Returns the index of
    /// the opening, and the tokens that the model has not read yet.
    fn choose_opening(
        &mut self,
        mut unread: Vec<TokenId>,
        openings: &[Vec<TokenId>],
    ) -> Result<(usize, Vec<TokenId>), Error> {
        let mut candidates: Vec<usize> = (0..openings.len()).collect();
        for position in 0.. {
            let token_of = |candidate: &usize| openings.get(*candidate)?.get(position).copied();
            let Some(first) = candidates.first().copied() else { break };
            // No opening is the beginning of another one, so only equal openings end at the same position.
            let Some(first_token) = token_of(&first) else { return Ok((first, unread)) };
            let is_forced = candidates.iter().all(|candidate| token_of(candidate) == Some(first_token));
            let token = if is_forced {
                first_token
            } else {
                self.read(&unread)?;
                unread.clear();
                let is_next = |token| candidates.iter().any(|candidate| token_of(candidate) == Some(token));
                self.new_sampler().sample(&self.logits, None, |token| !is_next(token)).unwrap_or(first_token)
            };
            candidates.retain(|candidate| token_of(candidate) == Some(token));
            unread.push(token);
        }
        Ok((openings.len(), unread))
    }

    /// Whether the model continues with a text and not with the end of its turn, after it has read these tokens.
    fn continues_with(&mut self, unread: &[TokenId], text: &str) -> Result<bool, Error> {
        let Some(first) = self.tokenize(text)?.first().copied() else { return Ok(false) };
        self.read(unread)?;
        let end_tokens = self.model.vocab.end_tokens();
        let is_candidate = |token: TokenId| token == first || end_tokens.contains(&token);
        Ok(self.new_sampler().sample(&self.logits, None, |token| !is_candidate(token)) == Some(first))
    }
}
