//! Answers of model servers in each dialect, in pieces.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::Timestamp;
use orch::clock::Clock;
use orch::model::{ChatReply, Failure};
use orch::provider::{Dialect, Endpoint, RequestLimits, ServerResponse, StreamEvent, read_response};

/// The digit of an input that chooses a dialect is its position here, so a new dialect goes to the end.
const DIALECTS: [Dialect; 5] =
    [Dialect::Anthropic, Dialect::OpenAi, Dialect::Gemini, Dialect::Responses, Dialect::Converse];
const KINDS: [&str; 4] = ["text/event-stream", "application/json", "", "text/html"];
const STATUSES: [u16; 4] = [200, 400, 429, 529];

/// Where an answer is split does not matter, what was heard on the way is the text of the reply, and messages are short.
///
/// The first four bytes of an input choose dialect, content type, status and the size of pieces, by their digits.
pub fn stream(input: &[u8]) {
    let input = input.get(..super::MAX_INPUT).unwrap_or(input);
    let Some((choice, body)) = input.split_at_checked(4) else { return };
    let pick = |at: usize| usize::from(choice[at].wrapping_sub(b'0'));
    let dialect = DIALECTS[pick(0) % DIALECTS.len()];
    let size = if body.len() <= 4096 { pick(3).max(1) } else { pick(3).max(64) };
    let answer = |pieces: Vec<Bytes>| ServerResponse {
        status: STATUSES[pick(2) % STATUSES.len()],
        content_type: KINDS[pick(1) % KINDS.len()].to_owned(),
        chunks: pieces,
    };
    let whole = read(dialect, answer(vec![Bytes::copy_from_slice(body)]));
    let split = read(dialect, answer(body.chunks(size).map(Bytes::copy_from_slice).collect()));
    // The body of a refused request may be read in part only: it explains, and its end is not waited for.
    if answer(Vec::new()).status == 200 {
        assert_eq!(whole, split);
    }
    let (result, heard) = whole;
    match result {
        Ok(reply) => assert_eq!(heard, reply.text()),
        Err(failure) => {
            assert!(!failure.message.is_empty());
            assert!(failure.message.len() < 4096, "a message of {} bytes", failure.message.len());
        }
    }
}

/// The result, and the text that was heard.
fn read(dialect: Dialect, answer: ServerResponse) -> (Result<ChatReply, Failure>, String) {
    let endpoint = Endpoint::new("lab", dialect, "http://127.0.0.1:1/v1");
    let limits = RequestLimits { clock: Arc::new(StillClock), ..RequestLimits::default() };
    let heard = Mutex::new(String::new());
    let sink = |signal: StreamEvent| {
        if let StreamEvent::Text(text) = signal {
            heard.lock().expect("not poisoned").push_str(&text);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let result = runtime.block_on(read_response(&endpoint, answer, &limits, &sink));
    (result, heard.into_inner().expect("not poisoned"))
}

/// A clock that shows one time, so that dates in answers are as far away each time.
#[derive(Debug)]
struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}
