//! Chooses the next token from its scores.

use toktrie::{SimpleVob, TokenId};

/// Samples tokens; the same seed samples the same ones.
#[derive(Debug)]
pub(crate) struct TokenSampler {
    temperature: f32,
    top_p: f32,
    state: u64,
}

impl TokenSampler {
    /// A sampler; with a temperature of zero, it always takes the best token.
    pub(crate) fn new(temperature: f32, top_p: f32, seed: u64) -> Self {
        Self { temperature, top_p, state: seed }
    }

    /// A random number from 0 up to but not including 1 (`splitmix64`).
    fn draw(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        #[allow(clippy::cast_precision_loss)]
        let fraction = (mixed >> 40) as f32 / (1u32 << 24) as f32;
        fraction
    }

    /// The next token among those that are allowed and not `banned`.
    pub(crate) fn pick(
        &mut self,
        scores: &[f32],
        allowed: Option<&SimpleVob>,
        banned: impl Fn(TokenId) -> bool,
    ) -> Option<TokenId> {
        let open = |token: TokenId| allowed.is_none_or(|mask| mask.is_allowed(token)) && !banned(token);
        let candidates =
            scores.iter().zip(0..).filter(|(score, token): &(&f32, TokenId)| score.is_finite() && open(*token));
        if self.temperature <= 0.0 {
            let best = candidates.max_by(|(a, i), (b, j)| a.total_cmp(b).then(j.cmp(i)));
            return best.map(|(_, token)| token);
        }
        let mut ranked: Vec<(f32, TokenId)> =
            candidates.map(|(score, token)| (score / self.temperature, token)).collect();
        let top = ranked.iter().map(|(score, _)| *score).max_by(f32::total_cmp)?;
        // A token this far below the best is practically never drawn.
        ranked.retain(|(score, _)| *score > top - 16.0);
        ranked.sort_unstable_by(|(a, i), (b, j)| b.total_cmp(a).then(i.cmp(j)));
        let total: f32 = ranked.iter().map(|(score, _)| (score - top).exp()).sum();
        let mut kept = 0.0;
        let mut count = 0;
        for (score, _) in &ranked {
            kept += (score - top).exp();
            count += 1;
            if kept >= self.top_p * total {
                break;
            }
        }
        ranked.truncate(count);
        let mut left = self.draw() * kept;
        for (score, token) in &ranked {
            left -= (score - top).exp();
            if left <= 0.0 {
                return Some(*token);
            }
        }
        ranked.first().map(|(_, token)| *token)
    }
}

/// Whether the end of the text repeats itself: its last tokens are the same sequence several times in a row.
pub(crate) fn repeats(tokens: &[TokenId]) -> bool {
    let circles = |period: usize, times: usize| {
        let span = period * times;
        tokens.len() >= span && {
            let tail = &tokens[tokens.len() - span..];
            tail.iter().zip(&tail[period..]).all(|(a, b)| a == b)
        }
    };
    (1..=4).any(|period| circles(period, 32 / (period + 1)))
        || (5..=16).any(|period| circles(period, 4))
        || (17..=96).any(|period| circles(period, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_allowed_token_wins() {
        let mut sampler = TokenSampler::new(0.0, 1.0, 0);
        let scores = [0.0, 3.0, 2.0, f32::NAN];
        assert_eq!(sampler.pick(&scores, None, |_| false), Some(1));
        assert_eq!(sampler.pick(&scores, None, |token| token == 1), Some(2));
        let mut mask = SimpleVob::alloc(4);
        mask.allow_token(0);
        assert_eq!(sampler.pick(&scores, Some(&mask), |_| false), Some(0));
        assert_eq!(sampler.pick(&scores, Some(&mask), |token| token == 0), None);
        assert_eq!(sampler.pick(&scores, Some(&SimpleVob::alloc(4)), |_| false), None);
    }

    #[test]
    fn a_narrow_top_p_takes_the_best_and_seeds_repeat() {
        let scores = [1.0, 1.5, 1.2];
        for seed in 0..20 {
            assert_eq!(TokenSampler::new(1.0, 0.01, seed).pick(&scores, None, |_| false), Some(1));
        }
        let many = |seed| {
            let mut sampler = TokenSampler::new(1.0, 1.0, seed);
            (0..20).map(|_| sampler.pick(&scores, None, |_| false)).collect::<Vec<_>>()
        };
        assert_eq!(many(7), many(7));
        assert_ne!(many(7), many(8));
    }

    #[test]
    fn circles_are_noticed() {
        assert!(repeats(&[5; 20]));
        assert!(!repeats(&[5; 6]));
        let words: Vec<u32> = (0..10).cycle().take(40).collect();
        assert!(repeats(&words));
        assert!(!repeats(&words[..30]));
        assert!(!repeats(&(0..300).collect::<Vec<_>>()));
    }
}
