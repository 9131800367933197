//! Writes the call of a reply.

use serde_json::Value;
use toktrie::TokenId;

use super::{Generation, PartEnd, ReplyPart};
use crate::Error;
use crate::model::FinishReason;
use crate::schema::JsonSpacing;
use crate::tools::{CALL_END, ModelCall, OfferedTool, arguments_schema, call_start};

impl Generation<'_> {
    /// Writes a call, with which the reply ends. `unread` are tokens that the model has not read yet, and `start` is
    /// the text before the call.
    pub(super) fn write_call(&mut self, unread: Vec<TokenId>, start: &str) -> Result<(), Error> {
        let openings = self.openings(start)?;
        let closing = self.tokenize(CALL_END)?;
        let reserved = openings.iter().map(Vec::len).max().unwrap_or_default() + closing.len();
        if self.room(unread.len()) <= reserved {
            self.reply.finish_reason = FinishReason::Length;
            return Ok(());
        }
        let (index, unread) = self.choose_opening(unread, &openings)?;
        let request = self.request;
        let Some(tool) = request.tools.get(index) else {
            return Err(Error::InvalidRequest("the request offers no tool to call".to_owned()));
        };
        self.reply.output_tokens += openings.get(index).map_or(0, Vec::len);
        self.write_arguments(tool, unread, closing.len())
    }

    /// Writes the arguments of a call. `closing_len` is the number of tokens after them, which the model need not read,
    /// because the reply ends there.
    fn write_arguments(
        &mut self,
        tool: &OfferedTool,
        mut unread: Vec<TokenId>,
        closing_len: usize,
    ) -> Result<(), Error> {
        let limit = self.room(unread.len() + closing_len);
        let grammar = self.model.grammars.build_with_spacing(&arguments_schema(tool), JsonSpacing::Spaced)?;
        let mut decoder = self.new_decoder(Some(grammar), limit);
        let forced_prefix = decoder.forced_prefix();
        unread.extend_from_slice(&forced_prefix);
        self.read(&unread)?;
        let base = self.cache.tokens.len() - forced_prefix.len();
        let end = self.write_part(&mut decoder, base, ReplyPart::Arguments)?;
        self.reply.output_tokens += decoder.generated_count();
        self.reply.finish_reason = match (end, serde_json::from_slice::<Value>(&decoder.document())) {
            (PartEnd::Complete, Ok(arguments)) => {
                self.reply.output_tokens += closing_len;
                self.reply.call = Some(ModelCall { name: tool.name.clone(), arguments });
                FinishReason::Complete
            }
            (PartEnd::Cancelled, _) => FinishReason::Cancelled,
            (PartEnd::Complete | PartEnd::Truncated | PartEnd::CallBegun, _) => {
                self.reply.cut_call = Some(tool.name.clone());
                FinishReason::Length
            }
        };
        Ok(())
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
}
