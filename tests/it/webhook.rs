//! Webhooks: orch posts the events of a run to a real HTTP server, which verifies them.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::default_pipeline::good_reply;
use crate::support::{Orch, RunOutput, Server};

const SECRET: &str = "whsec-0123456789";

#[derive(Default)]
struct Inbox {
    events: Vec<Value>,
    deliveries: Vec<String>,
    /// Timestamp, signature and body of the latest request.
    latest: (String, String, Vec<u8>),
    /// The status of the response; 0 means 204.
    answer: u16,
}

type Shared = Arc<Mutex<Inbox>>;

/// A receiver as a team would write it.
struct Receiver {
    url: String,
    inbox: Shared,
    _runtime: tokio::runtime::Runtime,
}

impl Receiver {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let inbox = Shared::default();
        let app = Router::new().fallback(receive).with_state(inbox.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/hooks/orch", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { url, inbox, _runtime: runtime }
    }

    fn answer(&self, status: u16) {
        self.inbox.lock().unwrap().answer = status;
    }

    /// The numbers of the events, in the order of arrival.
    fn seqs(&self) -> Vec<u64> {
        self.inbox.lock().unwrap().events.iter().map(|event| event["seq"].as_u64().unwrap()).collect()
    }
}

async fn receive(State(inbox): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let timestamp = header("X-Orch-Timestamp");
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(&body);
    let signature = header("X-Orch-Signature");
    let digits = signature.strip_prefix("sha256=").unwrap_or_default().as_bytes();
    let sent: Vec<u8> =
        digits.chunks(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let fresh = timestamp.parse::<u64>().is_ok_and(|at| now.abs_diff(at) < 300);
    if mac.verify_slice(&sent).is_err() || !fresh {
        return StatusCode::UNAUTHORIZED;
    }
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert!(event["fact"].get(header("X-Orch-Event")).is_some(), "{event}");
    let mut inbox = inbox.lock().unwrap();
    if inbox.answer != 0 {
        return StatusCode::from_u16(inbox.answer).unwrap();
    }
    inbox.events.push(event);
    inbox.latest = (timestamp, signature, body.to_vec());
    inbox.deliveries.push(header("X-Orch-Delivery"));
    StatusCode::NO_CONTENT
}

fn project(server: &Server, tracker: &str) -> Orch {
    let orch = Orch::new().with(server);
    orch.write("orch.yaml", &(orch.read("orch.yaml") + tracker)).trust();
    orch
}

fn run(orch: &Orch, secret: Option<&str>, args: &[&str]) -> RunOutput {
    let mut command = orch.command(args);
    if let Some(secret) = secret {
        command.env("HOOK_SECRET", secret);
    }
    RunOutput::of(&command.output().unwrap())
}

const PIPELINE: [&str; 5] = ["pipeline", "run", "pipelines/default.yaml", "--task", "t"];

#[test]
fn every_event_of_a_run_is_posted_once_in_order_with_a_signature() {
    let (receiver, server) = (Receiver::start(), Server::start(good_reply));
    let tracker = format!("tracker: {{ webhook: {{ url: \"{}\", secret: {{ env: HOOK_SECRET }} }} }}\n", receiver.url);
    let orch = project(&server, &tracker);
    run(&orch, Some(SECRET), &PIPELINE).exits(0);
    let seqs = receiver.seqs();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let inbox = receiver.inbox.lock().unwrap();
    let kinds: Vec<&str> =
        inbox.events.iter().map(|e| e["fact"].as_object().unwrap().keys().next().unwrap().as_str()).collect();
    assert_eq!((kinds[0], kinds[1], *kinds.last().unwrap()), ("run_started", "step_started", "run_ended"));
    let id = inbox.events[0]["run"].as_str().unwrap();
    assert_eq!(inbox.deliveries[0], format!("{id}-1"));
}

#[test]
fn a_receiver_with_a_wrong_secret_receives_the_run_after_it_is_corrected() {
    let (receiver, server) = (Receiver::start(), Server::start(good_reply));
    let tracker =
        format!("tracker: {{ webhook: {{ url: \"{}\", secret: {{ env: HOOK_SECRET }} }}, flush: 2s }}\n", receiver.url);
    let orch = project(&server, &tracker);
    run(&orch, None, &PIPELINE).exits(0).says("webhook can't follow this run: HOOK_SECRET is not set");
    let ran = run(&orch, Some("whsec-another"), &["runs", "track", "--all"]).exits(1);
    assert!(ran.stdout.contains("replied with status 401") && !ran.stdout.contains("whsec"), "{ran:?}");
    assert!(run(&orch, None, &["runs", "track"]).exits(1).stdout.contains("HOOK_SECRET is not set"));
    assert_eq!(receiver.seqs(), [0; 0]);
    run(&orch, Some(SECRET), &["runs", "track", "--all"]).exits(0);
    let seqs = receiver.seqs();
    assert!(seqs.len() > 5 && seqs == (1..=seqs.len() as u64).collect::<Vec<_>>(), "{seqs:?}");
}

#[test]
fn rejected_events_are_posted_again_on_demand() {
    let (receiver, server) = (Receiver::start(), Server::start(good_reply));
    let tracker = format!("tracker: {{ webhook: {{ url: \"{}\", secret: {{ env: HOOK_SECRET }} }} }}\n", receiver.url);
    let orch = project(&server, &tracker);
    receiver.answer(422);
    run(&orch, Some(SECRET), &PIPELINE).exits(0).says("events refused: 422");
    receiver.answer(0);
    run(&orch, Some(SECRET), &["runs", "track"]).exits(0);
    let seqs = receiver.seqs();
    assert!(seqs.len() > 5 && seqs == (1..=seqs.len() as u64).collect::<Vec<_>>(), "{seqs:?}");
    assert_eq!(
        json!(receiver.inbox.lock().unwrap().events.last().unwrap()["fact"]["run_ended"]["status"]),
        "completed"
    );
}

#[test]
fn runs_track_reports_a_missing_tracker() {
    let server = Server::start(good_reply);
    let orch = Orch::new().with(&server);
    orch.pipeline(&[]).exits(0);
    orch.run(&["runs", "track"]).exits(2).says("orch.yaml has no tracker");
}

#[test]
fn the_receiver_in_docs_tracking_verifies_signatures() {
    let (receiver, server) = (Receiver::start(), Server::start(good_reply));
    let tracker = format!("tracker: {{ webhook: {{ url: \"{}\", secret: {{ env: HOOK_SECRET }} }} }}\n", receiver.url);
    run(&project(&server, &tracker), Some(SECRET), &PIPELINE).exits(0);
    let text = std::fs::read_to_string("docs/tracking.md").unwrap();
    let code = text.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let (timestamp, signature, body) = receiver.inbox.lock().unwrap().latest.clone();
    let given = json!({ "X-Orch-Timestamp": timestamp, "X-Orch-Signature": signature });
    let check = "import sys, json\nheaders, body = json.loads(sys.argv[1]), sys.argv[2].encode()\n\
                 assert genuine(headers, body, sys.argv[3]) and not genuine(headers, body + b' ', sys.argv[3])\n";
    let python = std::process::Command::new("python3")
        .args(["-c", &format!("{code}\n{check}"), &given.to_string(), std::str::from_utf8(&body).unwrap(), SECRET])
        .output()
        .unwrap();
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
}
