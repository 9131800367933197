//! The outcomes of the calls of a generated pipeline. An answer is a pure function of the request. The outcome of a
//! call is a pure function of a seed, the path of its step and the number of the call.

use serde_json::{Value, json};

/// Hashes a list of texts.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0xff])) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    state ^= state >> 32;
    state = state.wrapping_mul(0xd6e8_feb8_6659_fd93);
    state ^ (state >> 32)
}

/// Removes the messages of failures from a request, because the model does not know them.
fn strip_failure_messages(request: &str) -> String {
    let mut parts = request.split(",\"message\":\"");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.char_indices();
        while let Some((offset, letter)) = letters.next() {
            match letter {
                '\\' => drop(letters.next()),
                '"' => {
                    text += &part[offset + 1..];
                    break;
                }
                _ => {}
            }
        }
    }
    text
}

/// The answer to a request.
pub(crate) fn answer(request: &str) -> Value {
    let request = &strip_failure_messages(request);
    let number = hash(&["answer", request]);
    let list: Vec<u64> = (0..number % 4).map(|index| number / 7 % 50 + index).collect();
    json!({ "v": number % 1000, "list": list, "ok": !number.is_multiple_of(3) })
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ScriptedOutcome {
    /// The call succeeds, or the user approves.
    Success,
    /// The reply is not JSON.
    NotJson,
    /// The call fails with a class that orch retries.
    TransientFailure,
    /// The call fails with a class that orch does not retry, or the user rejects.
    PermanentFailure,
    /// The user does not answer the question.
    Unanswered,
}

/// The outcomes of one case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    /// The percentage of steps with failing calls.
    pub(crate) failing_percent: u64,
    /// The first session in which every call succeeds.
    pub(crate) succeeds_from: u32,
    /// Replaces the random outcomes. A step whose ID starts with `x`, and every step inside it, has this outcome: for
    /// each call, or, if the flag is set, for the first call only. The user does not answer the question of a step
    /// whose ID starts with `l`.
    pub(crate) forced_outcome: Option<(ScriptedOutcome, bool)>,
}

impl Script {
    /// The outcome of a call. `number` is the number of calls of the step that have already ended.
    pub(crate) fn outcome(&self, session: u32, path: &str, number: usize, is_question: bool) -> ScriptedOutcome {
        let random = hash(&["say", &self.seed.to_string(), path]);
        let pattern = random / 100 % 8;
        if let Some((outcome, only_first)) = self.forced_outcome {
            let is_inside = |letter: char| path.split(['/', '[']).any(|id| id.starts_with(letter));
            let applies = is_inside('x') && session < self.succeeds_from && (number == 0 || !only_first);
            if is_question && is_inside('l') && session < self.succeeds_from {
                return ScriptedOutcome::Unanswered;
            }
            return match outcome {
                ScriptedOutcome::TransientFailure | ScriptedOutcome::NotJson | ScriptedOutcome::Unanswered
                    if is_question =>
                {
                    ScriptedOutcome::Success
                }
                outcome if applies => outcome,
                _ => ScriptedOutcome::Success,
            };
        }
        if session >= self.succeeds_from || random % 100 >= self.failing_percent {
            return ScriptedOutcome::Success;
        }
        if is_question {
            return match pattern {
                0..4 => ScriptedOutcome::PermanentFailure,
                4..6 if session == 1 => ScriptedOutcome::Unanswered,
                _ => ScriptedOutcome::Success,
            };
        }
        match (pattern, number) {
            (0 | 1, _) => ScriptedOutcome::PermanentFailure,
            (2, _) => ScriptedOutcome::TransientFailure,
            (3, _) => ScriptedOutcome::NotJson,
            (4 | 5, 0) => ScriptedOutcome::TransientFailure,
            (6, 0) => ScriptedOutcome::PermanentFailure,
            (7, 0) => ScriptedOutcome::NotJson,
            _ => ScriptedOutcome::Success,
        }
    }

    /// The virtual duration of a call. The range is so large that two sums of durations are hardly ever equal.
    pub(crate) fn call_duration(&self, session: u32, path: &str, number: usize) -> u64 {
        let random = hash(&["takes", &self.seed.to_string(), &session.to_string(), path, &number.to_string()]);
        1 + random % (1 << 40)
    }
}
