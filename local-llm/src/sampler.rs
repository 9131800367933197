//! Samples the next token from the logits.

use toktrie::{SimpleVob, TokenId};

/// Samples tokens; the same seed produces the same tokens.
#[derive(Debug)]
pub(crate) struct TokenSampler {
    temperature: f32,
    top_p: f32,
    state: u64,
}

impl TokenSampler {
    /// Creates a sampler; with a temperature of zero, it always chooses the likeliest token.
    pub(crate) fn new(temperature: f32, top_p: f32, seed: u64) -> Self {
        Self { temperature, top_p, state: seed }
    }

    /// Returns a random number from 0 up to but not including 1 (`splitmix64`).
    fn next_random(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        #[allow(clippy::cast_precision_loss)]
        let fraction = (mixed >> 40) as f32 / (1u32 << 24) as f32;
        fraction
    }

    /// Samples the next token from the tokens that are allowed and not banned.
    pub(crate) fn sample(
        &mut self,
        logits: &[f32],
        allowed: Option<&SimpleVob>,
        is_banned: impl Fn(TokenId) -> bool,
    ) -> Option<TokenId> {
        // `is_banned` may be slow, because it may check the text of a token. Few tokens have a high logit, so compare
        // the logits first.
        let is_candidate = |token: TokenId| allowed.is_none_or(|mask| mask.is_allowed(token)) && !is_banned(token);
        let finite_logits = || logits.iter().copied().zip(0..).filter(|(logit, _): &(f32, TokenId)| logit.is_finite());
        let (max_logit, best_token) = finite_logits().fold(None, |best: Option<(f32, TokenId)>, (logit, token)| {
            let is_better = best.is_none_or(|(max_logit, _)| logit > max_logit) && is_candidate(token);
            if is_better { Some((logit, token)) } else { best }
        })?;
        if self.temperature <= 0.0 {
            return Some(best_token);
        }
        let max_logit = max_logit / self.temperature;
        // The sampler practically never chooses a token whose logit is this far below the maximum.
        let mut ranking: Vec<(f32, TokenId)> = finite_logits()
            .map(|(logit, token)| (logit / self.temperature, token))
            .filter(|(logit, token)| *logit > max_logit - 16.0 && is_candidate(*token))
            .collect();
        ranking.sort_unstable_by(|(a, i), (b, j)| b.total_cmp(a).then(i.cmp(j)));
        let total: f32 = ranking.iter().map(|(logit, _)| (logit - max_logit).exp()).sum();
        let mut nucleus_mass = 0.0;
        let mut nucleus_len = 0;
        for (logit, _) in &ranking {
            nucleus_mass += (logit - max_logit).exp();
            nucleus_len += 1;
            if nucleus_mass >= self.top_p * total {
                break;
            }
        }
        ranking.truncate(nucleus_len);
        let mut remaining = self.next_random() * nucleus_mass;
        for (logit, token) in &ranking {
            remaining -= (logit - max_logit).exp();
            if remaining <= 0.0 {
                return Some(*token);
            }
        }
        ranking.first().map(|(_, token)| *token)
    }
}

/// Whether the tokens end in a repetition: the same sequence several times in a row.
pub(crate) fn ends_in_repetition(tokens: &[TokenId]) -> bool {
    let repeats_with_period = |period: usize, times: usize| {
        let tail_len = period * times;
        tokens.len() >= tail_len && {
            let tail = &tokens[tokens.len() - tail_len..];
            tail.iter().zip(&tail[period..]).all(|(a, b)| a == b)
        }
    };
    (1..=4).any(|period| repeats_with_period(period, 32 / (period + 1)))
        || (5..=16).any(|period| repeats_with_period(period, 4))
        || (17..=96).any(|period| repeats_with_period(period, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_allowed_token_wins() {
        let mut sampler = TokenSampler::new(0.0, 1.0, 0);
        let logits = [0.0, 3.0, 2.0, f32::NAN];
        assert_eq!(sampler.sample(&logits, None, |_| false), Some(1));
        assert_eq!(sampler.sample(&logits, None, |token| token == 1), Some(2));
        let mut mask = SimpleVob::alloc(4);
        mask.allow_token(0);
        assert_eq!(sampler.sample(&logits, Some(&mask), |_| false), Some(0));
        assert_eq!(sampler.sample(&logits, Some(&mask), |token| token == 0), None);
        assert_eq!(sampler.sample(&logits, Some(&SimpleVob::alloc(4)), |_| false), None);
    }

    #[test]
    fn a_small_top_p_chooses_the_best_token_and_a_seed_is_reproducible() {
        let logits = [1.0, 1.5, 1.2];
        for seed in 0..20 {
            assert_eq!(TokenSampler::new(1.0, 0.01, seed).sample(&logits, None, |_| false), Some(1));
        }
        let sample_tokens = |seed| {
            let mut sampler = TokenSampler::new(1.0, 1.0, seed);
            (0..20).map(|_| sampler.sample(&logits, None, |_| false)).collect::<Vec<_>>()
        };
        assert_eq!(sample_tokens(7), sample_tokens(7));
        assert_ne!(sample_tokens(7), sample_tokens(8));
    }

    #[test]
    fn repeated_sequences_are_detected() {
        assert!(ends_in_repetition(&[5; 20]));
        assert!(!ends_in_repetition(&[5; 6]));
        let tokens: Vec<u32> = (0..10).cycle().take(40).collect();
        assert!(ends_in_repetition(&tokens));
        assert!(!ends_in_repetition(&tokens[..30]));
        assert!(!ends_in_repetition(&(0..300).collect::<Vec<_>>()));
    }
}
