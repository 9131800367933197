//! The outcomes of calls of a generated pipeline. The answer is a pure function of the request; a seed chooses how a
//! call ends, by the path of its step and its number.

use serde_json::{Value, json};

/// A number that depends only on its parts.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0xff])) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    state ^= state >> 32;
    state = state.wrapping_mul(0xd6e8_feb8_6659_fd93);
    state ^ (state >> 32)
}

/// A text without the messages of failures, which the model does not know.
fn without_messages(words: &str) -> String {
    let mut parts = words.split(",\"message\":\"");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut rest = part.char_indices();
        while let Some((at, letter)) = rest.next() {
            match letter {
                '\\' => drop(rest.next()),
                '"' => {
                    text += &part[at + 1..];
                    break;
                }
                _ => {}
            }
        }
    }
    text
}

/// The answer to a request.
pub(crate) fn answer(words: &str) -> Value {
    let words = &without_messages(words);
    let number = hash(&["answer", words]);
    let list: Vec<u64> = (0..number % 4).map(|index| number / 7 % 50 + index).collect();
    json!({ "v": number % 1000, "list": list, "ok": !number.is_multiple_of(3) })
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ScriptedOutcome {
    /// It succeeds.
    Well,
    /// Its reply is no JSON.
    Garbage,
    /// It fails with a class that is retried.
    Busy,
    /// It fails with a class that is not retried.
    No,
    /// The question stays open.
    Later,
}

/// The outcomes of one case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    /// How many of a hundred steps have failures.
    pub(crate) trouble: u64,
    /// The session from which on every call succeeds.
    pub(crate) mended: u32,
    /// Instead of a random choice: the outcome of every call of a step `x…` and inside of it, or of its first call
    /// alone; a question of a step `l…` stays open.
    pub(crate) chosen: Option<(ScriptedOutcome, bool)>,
}

impl Script {
    /// How a call ends; `number` counts the ended calls of its step from 0.
    pub(crate) fn outcome(&self, session: u32, path: &str, number: usize, is_question: bool) -> ScriptedOutcome {
        let draw = hash(&["say", &self.seed.to_string(), path]);
        let kind = draw / 100 % 8;
        if let Some((say, first)) = self.chosen {
            let within = |id: char| path.split(['/', '[']).any(|part| part.starts_with(id));
            let meant = within('x') && session < self.mended && (number == 0 || !first);
            if is_question && within('l') && session < self.mended {
                return ScriptedOutcome::Later;
            }
            return match say {
                ScriptedOutcome::Busy | ScriptedOutcome::Garbage | ScriptedOutcome::Later if is_question => {
                    ScriptedOutcome::Well
                }
                say if meant => say,
                _ => ScriptedOutcome::Well,
            };
        }
        if session >= self.mended || draw % 100 >= self.trouble {
            return ScriptedOutcome::Well;
        }
        if is_question {
            return match kind {
                0..4 => ScriptedOutcome::No,
                4..6 if session == 1 => ScriptedOutcome::Later,
                _ => ScriptedOutcome::Well,
            };
        }
        match (kind, number) {
            (0 | 1, _) => ScriptedOutcome::No,
            (2, _) => ScriptedOutcome::Busy,
            (3, _) => ScriptedOutcome::Garbage,
            (4 | 5, 0) => ScriptedOutcome::Busy,
            (6, 0) => ScriptedOutcome::No,
            (7, 0) => ScriptedOutcome::Garbage,
            _ => ScriptedOutcome::Well,
        }
    }

    /// How long a call takes, in arbitrary units; two sums of such times are hardly ever equal.
    pub(crate) fn takes(&self, session: u32, path: &str, number: usize) -> u64 {
        let draw = hash(&["takes", &self.seed.to_string(), &session.to_string(), path, &number.to_string()]);
        1 + draw % (1 << 40)
    }
}
