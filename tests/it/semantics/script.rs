//! What answers the calls of a generated pipeline: a pure function of what is asked, and outcomes that a
//! seed chooses by the path of a step and the number of the call.

use serde_json::{Value, json};

/// A number that depends on its parts alone.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0xff])) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    state ^= state >> 32;
    state = state.wrapping_mul(0xd6e8_feb8_6659_fd93);
    state ^ (state >> 32)
}

/// Words without those of failures, which are the program's own.
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

/// What the answer to some words is.
pub(crate) fn answer(words: &str) -> Value {
    let words = &without_messages(words);
    let number = hash(&["answer", words]);
    let list: Vec<u64> = (0..number % 4).map(|index| number / 7 % 50 + index).collect();
    json!({ "v": number % 1000, "list": list, "ok": !number.is_multiple_of(3) })
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Say {
    /// As asked.
    Well,
    /// With something that is no JSON.
    Garbage,
    /// With a failure that is worth another try.
    Busy,
    /// With one that is not.
    No,
    /// A person leaves the question for later.
    Later,
}

/// The outcomes of one case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    /// How many of a hundred steps have an outcome other than well.
    pub(crate) trouble: u64,
    /// The session from which on everything goes well.
    pub(crate) mended: u32,
    /// In place of chance: what every call of a step `x…` and inside of it comes to, or its first alone;
    /// a question of a step `l…` is left for later.
    pub(crate) chosen: Option<(Say, bool)>,
}

impl Script {
    /// How the call with this number (of those of its step that ended, from 0) ends.
    pub(crate) fn say(&self, session: u32, path: &str, number: usize, is_question: bool) -> Say {
        let draw = hash(&["say", &self.seed.to_string(), path]);
        let kind = draw / 100 % 8;
        if let Some((say, first)) = self.chosen {
            let within = |id: char| path.split(['/', '[']).any(|part| part.starts_with(id));
            let meant = within('x') && session < self.mended && (number == 0 || !first);
            if is_question && within('l') && session < self.mended {
                return Say::Later;
            }
            return match say {
                Say::Busy | Say::Garbage | Say::Later if is_question => Say::Well,
                say if meant => say,
                _ => Say::Well,
            };
        }
        if session >= self.mended || draw % 100 >= self.trouble {
            return Say::Well;
        }
        if is_question {
            return match kind {
                0..4 => Say::No,
                4..6 if session == 1 => Say::Later,
                _ => Say::Well,
            };
        }
        match (kind, number) {
            (0 | 1, _) => Say::No,
            (2, _) => Say::Busy,
            (3, _) => Say::Garbage,
            (4 | 5, 0) => Say::Busy,
            (6, 0) => Say::No,
            (7, 0) => Say::Garbage,
            _ => Say::Well,
        }
    }

    /// How long a call takes, in units of no meaning; hardly any two sums are the same.
    pub(crate) fn takes(&self, session: u32, path: &str, number: usize) -> u64 {
        let draw = hash(&["takes", &self.seed.to_string(), &session.to_string(), path, &number.to_string()]);
        1 + draw % (1 << 40)
    }
}
