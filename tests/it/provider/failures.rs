//! Failures of every kind: statuses, error bodies, broken streams, timeouts, limits and addresses.

use std::time::{Duration, Instant};

use orch::model::failure::FailureClass;
use orch::provider::{Dialect, Endpoint, RequestLimits};
use serde_json::{Value, json};

use super::{DIALECTS, KEY, ask, endpoint, endpoint_of, failure_of, key_auth, request, short_limits};
use crate::support::server::{Reply, Server};
use crate::support::{ClosedPort, cpu_time};

#[tokio::test]
async fn each_http_status_has_its_class_message_and_hint() {
    let error = |kind: &str| json!({"error": {"message": "it says why.", "type": kind}}).to_string();
    for (status, kind, class, message, hint) in [
        (401, "x", FailureClass::Auth, "lab refuses the key (401): it says why", Some("check the key in LAB_KEY")),
        (403, "x", FailureClass::Auth, "lab refuses the key (403): it says why", Some("check the key in LAB_KEY")),
        (
            404,
            "x",
            FailureClass::BadRequest,
            "lab does not know the model some-model (404): it says why",
            Some("http://127.0.0.1"),
        ),
        (408, "x", FailureClass::Timeout, "lab gave up waiting (408): it says why", None),
        (429, "x", FailureClass::RateLimited, "lab says that there were too many requests (429): it says why", None),
        (
            429,
            "insufficient_quota",
            FailureClass::BadRequest,
            "lab says that the account has no credit left (429): it says why",
            Some("add credit to the account at lab"),
        ),
        (
            402,
            "x",
            FailureClass::BadRequest,
            "lab says that the account has no credit left (402): it says why",
            Some("add credit"),
        ),
        (400, "x", FailureClass::BadRequest, "lab refuses the request (400): it says why", None),
        (413, "request_too_large", FailureClass::BadRequest, "lab refuses the request (413): it says why", None),
        (422, "x", FailureClass::BadRequest, "lab refuses the request (422): it says why", None),
        (500, "x", FailureClass::ProviderUnavailable, "lab is unavailable (500): it says why", None),
        (503, "x", FailureClass::ProviderUnavailable, "lab is unavailable (503): it says why", None),
        (529, "overloaded_error", FailureClass::ProviderUnavailable, "lab is unavailable (529): it says why", None),
    ] {
        for dialect in DIALECTS {
            let failure = failure_of(dialect, Reply::status(status, error(kind)), &short_limits()).await;
            assert_eq!((failure.class, failure.message.as_str()), (class, message));
            assert_eq!(failure.status, Some(status));
            assert_eq!(failure.retry_after_ms, None);
            match hint {
                Some(hint) => {
                    assert!(failure.hint.as_deref().unwrap().contains(hint), "{failure:?}");
                }
                None => assert_eq!(failure.hint, None, "{failure:?}"),
            }
        }
    }
}

#[tokio::test]
async fn error_bodies_of_every_shape_are_read() {
    let long = "x".repeat(5000);
    for (body, said) in [
        (r#"{"type":"error","error":{"type":"invalid_request_error","message":"too long"}}"#.to_owned(), ": too long"),
        (r#"[{"error":{"code":400,"message":"bad field","status":"INVALID_ARGUMENT"}}]"#.to_owned(), ": bad field"),
        (r#"{"error":"model is missing"}"#.to_owned(), ": model is missing"),
        (r#"{"message":"plain","type":"BadRequestError"}"#.to_owned(), ": plain"),
        (r#"{"detail":"from a framework"}"#.to_owned(), ": from a framework"),
        ("no JSON\nat all".to_owned(), ": no JSON at all"),
        (String::new(), "(400)"),
        (long, "xxx…"),
    ] {
        let failure = failure_of(Dialect::OpenAi, Reply::status(400, body), &short_limits()).await;
        assert_eq!(failure.class, FailureClass::BadRequest);
        assert!(failure.message.ends_with(said), "{}", failure.message);
        assert!(failure.message.chars().count() < 350);
    }
}

#[tokio::test]
async fn a_wrong_gemini_key_is_recognized_by_its_message() {
    let body = json!({"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT"}});
    let failure = failure_of(Dialect::Gemini, Reply::status(400, body.to_string()), &short_limits()).await;
    assert_eq!(failure.class, FailureClass::Auth);
}

#[tokio::test]
async fn waits_that_the_provider_requests_are_read() {
    let soon = jiff::Timestamp::now() + Duration::from_secs(30);
    let date = soon.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (headers, least, most) in [
        (vec![("retry-after", "7")], 7000, 7000),
        (vec![("retry-after", "1.5")], 1500, 1500),
        (vec![("Retry-After", "7"), ("retry-after-ms", "250")], 250, 250),
        (vec![("retry-after", date.as_str())], 25_000, 30_000),
        (vec![("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], 0, 0),
        (vec![("retry-after", "99999999999999")], 86_400_000, 86_400_000),
        (vec![("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")], 86_400_000, 86_400_000),
    ] {
        let mut reply = Reply::status(429, "{}");
        for (name, value) in &headers {
            reply = reply.header(name, value);
        }
        let wait = failure_of(Dialect::Anthropic, reply, &short_limits()).await.retry_after_ms.unwrap();
        assert!((least..=most).contains(&wait), "{headers:?}: {wait}");
    }
    for nonsense in ["soon", "-1", "NaN"] {
        let reply = Reply::status(503, "{}").header("retry-after", nonsense);
        assert_eq!(failure_of(Dialect::OpenAi, reply, &short_limits()).await.retry_after_ms, None);
    }
}

#[tokio::test]
async fn errors_in_the_middle_of_a_stream_have_their_classes() {
    let anthropic = |kind: &str| {
        Reply::named_events(&[
            json!({"type": "message_start", "message": {}}),
            json!({"type": "error", "error": {"type": kind, "message": "sorry"}}),
        ])
    };
    let openai =
        |error: Value| Reply::events(&[json!({"choices": [{"delta": {"content": "x"}}]}), json!({"error": error})]);
    for (dialect, reply, class) in [
        (Dialect::Anthropic, anthropic("overloaded_error"), FailureClass::ProviderUnavailable),
        (Dialect::Anthropic, anthropic("rate_limit_error"), FailureClass::RateLimited),
        (Dialect::Anthropic, anthropic("api_error"), FailureClass::ProviderUnavailable),
        (Dialect::Anthropic, anthropic("invalid_request_error"), FailureClass::BadRequest),
        (Dialect::OpenAi, openai(json!({"message": "sorry", "code": 502})), FailureClass::ProviderUnavailable),
        (Dialect::OpenAi, openai(json!({"message": "sorry", "code": 429})), FailureClass::RateLimited),
        (
            Dialect::OpenAi,
            openai(json!({"message": "sorry", "type": "server_error"})),
            FailureClass::ProviderUnavailable,
        ),
        (Dialect::OpenAi, openai(json!("sorry")), FailureClass::ProviderUnavailable),
        (Dialect::OpenAi, Reply::status(200, r#"{"error":{"message":"sorry"}}"#), FailureClass::ProviderUnavailable),
        (
            Dialect::Gemini,
            openai(json!({"message": "sorry", "code": 503, "status": "UNAVAILABLE"})),
            FailureClass::ProviderUnavailable,
        ),
        (
            Dialect::Gemini,
            openai(json!({"message": "sorry", "code": 429, "status": "RESOURCE_EXHAUSTED"})),
            FailureClass::RateLimited,
        ),
    ] {
        let failure = failure_of(dialect, reply, &short_limits()).await;
        assert_eq!(failure.class, class, "{dialect} {failure:?}");
        assert!(failure.message.ends_with(": sorry"), "{}", failure.message);
    }
}

#[tokio::test]
async fn the_failure_of_a_truncated_reply_says_how_much_arrived() {
    for dialect in DIALECTS {
        let server =
            Server::start(|r| Reply::text_for(&r.path, "a reply that is long enough to be cut").cut_after(150));
        let failure = ask(endpoint_of(dialect, &server), &request(), &short_limits()).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::ProviderUnavailable);
        assert_eq!(failure.message, "lab broke off after 150 bytes, before the reply was complete");
    }
    // The end of the connection without a final event also truncates the reply.
    let clean = Reply::events(&[json!({"choices": [{"delta": {"content": "half a"}}]})]);
    let length = clean.len();
    let failure = failure_of(Dialect::OpenAi, clean, &short_limits()).await;
    assert_eq!(failure.message, format!("lab broke off after {length} bytes, before the reply was complete"));
    let failure = failure_of(Dialect::OpenAi, Reply::raw_events(""), &short_limits()).await;
    assert_eq!(failure.message, "lab broke off after 0 bytes, before the reply was complete");
    let half = Reply::raw_events("data: {\"choices\":[{\"delta\":{\"conte");
    assert!(failure_of(Dialect::OpenAi, half, &short_limits()).await.message.contains("broke off after 34 bytes"));
    let cut = Reply::openai_json("whole").cut_after(20);
    assert!(failure_of(Dialect::OpenAi, cut, &short_limits()).await.message.contains("after 20 bytes"));
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_final_event_loses_nothing() {
    let reply = Reply::openai_text("whole");
    // The blank line after `[DONE]` is missing.
    let cut = reply.len() - 2;
    let server = Server::always(reply.clone().cut_after(cut));
    let answer = ask(endpoint_of(Dialect::OpenAi, &server), &request(), &short_limits()).await.unwrap();
    assert_eq!((&*answer.text(), answer.usage.input), ("whole", Some(11)));
    // Before the final event the reply is truncated, although the stop reason has arrived.
    let failure = failure_of(Dialect::OpenAi, reply.cut_after(cut - 2), &short_limits()).await;
    assert_eq!(failure.class, FailureClass::ProviderUnavailable);
    assert!(failure.message.contains("broke off after"), "{failure:?}");
}

#[tokio::test]
async fn each_kind_of_timeout_has_its_own_message() {
    let brief = Duration::from_millis(900);
    let slow = || Reply::openai_text("hello there").delay(Duration::from_secs(3));
    let first = RequestLimits { first_byte_timeout: brief, ..short_limits() };
    let failure = failure_of(Dialect::OpenAi, slow(), &first).await;
    assert_eq!((failure.class, failure.message.as_str()), (FailureClass::Timeout, "lab sent nothing within 900 ms"));
    let failure = failure_of(Dialect::OpenAi, Reply::openai_text("x").stall_after(0), &first).await;
    assert_eq!((failure.class, failure.message.as_str()), (FailureClass::Timeout, "lab sent nothing within 900 ms"));
    let idle = RequestLimits { idle_timeout: brief, ..short_limits() };
    let failure = failure_of(Dialect::OpenAi, Reply::openai_text("x").stall_after(40), &idle).await;
    assert_eq!(failure.message, "lab went silent for 900 ms after 40 bytes");
    assert_eq!(failure.class, FailureClass::Timeout);
    let total = RequestLimits { total_timeout: Duration::from_millis(300), ..short_limits() };
    let drip = Reply::openai_text(&"word ".repeat(200)).pieces(10, Duration::from_millis(20));
    // The whole reply would take a minute.
    let started = Instant::now();
    let failure = failure_of(Dialect::OpenAi, drip, &total).await;
    assert_eq!((failure.class, failure.message.as_str()), (FailureClass::Timeout, "lab did not finish within 300 ms"));
    assert!(started.elapsed() < Duration::from_secs(30));
}

/// A server whose queue of new connections is full: it neither accepts nor rejects a connection.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_to_a_host_that_does_not_answer_times_out() {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let _queued: Vec<_> =
        (0..4).map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50))).collect();
    let limits = RequestLimits { connect_timeout: Duration::from_millis(200), ..short_limits() };
    // The kernel alone would try for two minutes.
    let started = Instant::now();
    let failure =
        ask(endpoint(Dialect::OpenAi, format!("http://{address}/v1")), &request(), &limits).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Timeout, "{failure:?}");
    assert_eq!(failure.message, format!("can't connect to http://{address}/v1 within 200 ms"));
    assert!(started.elapsed() < Duration::from_mins(1));
}

#[tokio::test]
async fn a_reply_that_is_too_large_fails() {
    let limits = RequestLimits { max_reply_bytes: 10_000, ..short_limits() };
    for reply in [
        Reply::openai_text(&"word ".repeat(5000)),
        Reply::openai_json(&"word ".repeat(5000)),
        Reply::raw_events(": ping\n\n".repeat(5000)),
    ] {
        let failure = failure_of(Dialect::OpenAi, reply, &limits).await;
        assert_eq!(failure.class, FailureClass::OutputTooLarge);
        assert_eq!(failure.message, "lab sent more than the allowed 10000 bytes");
    }
    // One line of many megabytes takes no longer than many lines.
    let endless = Reply::raw_events(format!("data: {}", "x".repeat(40_000_000)));
    let started = cpu_time();
    let failure = failure_of(Dialect::OpenAi, endless, &RequestLimits::default()).await;
    assert_eq!(failure.class, FailureClass::OutputTooLarge);
    // Quadratic time would take minutes of this thread's processor time, however busy the machine is.
    assert!(cpu_time().saturating_sub(started) < Duration::from_secs(30));
}

#[tokio::test]
async fn responses_that_are_no_replies_have_their_classes() {
    let page = format!("<html>\n<h1>It works!</h1>{}</html>", "x".repeat(999));
    for (reply, class, message) in [
        (Reply::html(&page), FailureClass::BadRequest, "lab answered with a web page: <html> <h1>It works!</h1>x"),
        (
            Reply::typed("", "hello"),
            FailureClass::ProviderUnavailable,
            "lab answered with something without a content type: hello",
        ),
        (Reply::typed("image/png", "PNG"), FailureClass::ProviderUnavailable, "lab answered with image/png: PNG"),
        (Reply::status(200, "{\"a\":"), FailureClass::ProviderUnavailable, "lab sent broken JSON: {\"a\":"),
        (
            Reply::status(200, "{\"a\":1}"),
            FailureClass::ProviderUnavailable,
            "lab answered with JSON that is not a reply: {\"a\":1}",
        ),
        (
            Reply::raw_events("data: {nope\n\n"),
            FailureClass::ProviderUnavailable,
            "lab sent an event that is not JSON: {nope",
        ),
        (
            Reply::raw_events(&b"data: \xff\xfe\n\n"[..]),
            FailureClass::ProviderUnavailable,
            "lab sent an event that is not JSON: \u{fffd}\u{fffd}",
        ),
        (Reply::typed("text/html", "x").header("x", "y"), FailureClass::BadRequest, "lab answered with a web page: x"),
    ] {
        let failure = failure_of(Dialect::OpenAi, reply, &short_limits()).await;
        assert_eq!(failure.class, class, "{failure:?}");
        assert!(failure.message.starts_with(message), "{}", failure.message);
        assert!(failure.message.chars().count() < 250);
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = Server::saying("never");
    let reply = Reply::status(307, "").header("location", &format!("{}/v1/chat/completions?t=1", target.url()));
    let failure = failure_of(Dialect::OpenAi, reply, &short_limits()).await;
    assert_eq!(failure.class, FailureClass::BadRequest);
    assert_eq!(failure.message, format!("lab redirects to {}/v1/chat/completions (307)", target.url()));
    assert!(target.requests().is_empty());
}

#[tokio::test]
async fn unreachable_hosts_have_their_messages() {
    let closed = ClosedPort::reserve();
    let gone = closed.url();
    for dialect in DIALECTS {
        let failure = ask(endpoint(dialect, gone.clone()), &request(), &short_limits()).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::ProviderUnavailable);
        assert_eq!(failure.message, format!("can't reach {gone}: connection refused"));
        assert_eq!(failure.hint.as_deref(), Some("start lab, or correct its base URL"));
    }
    let base = "http://no-such-host.invalid/v1".to_owned();
    // Without a network, the system may look for a name server for many seconds.
    let patient = RequestLimits { connect_timeout: Duration::from_mins(2), ..RequestLimits::default() };
    let failure = ask(endpoint(Dialect::OpenAi, base), &request(), &patient).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::ProviderUnavailable, "{failure:?}");
    assert!(failure.message.starts_with("can't reach http://no-such-host.invalid/v1: "), "{failure:?}");
    assert!(failure.hint.is_some());
    // This server does not speak TLS.
    let server = Server::saying("x");
    let base = server.url().replace("http://", "https://");
    let failure = ask(endpoint(Dialect::Anthropic, base), &request(), &short_limits()).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::ProviderUnavailable, "{failure:?}");
    assert!(failure.message.starts_with("can't reach https://127.0.0.1"), "{failure:?}");
}

#[tokio::test]
async fn invalid_addresses_have_their_messages() {
    for base in ["", "lab", "ftp://lab/v1", "127.0.0.1:80/v1"] {
        let failure = ask(endpoint(Dialect::OpenAi, base.into()), &request(), &short_limits()).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::BadRequest, "{base}: {failure:?}");
        assert!(failure.hint.as_deref().unwrap().contains("base URL of lab"));
    }
}

#[tokio::test]
async fn no_failure_contains_a_key() {
    let header = "token-in-a-header-987";
    let echo = json!({"error": {"message": format!("wrong key {KEY} and {header}, {KEY}"), "type": "x"}}).to_string();
    // The limit of a few hundred characters cuts the text inside the key.
    let late = json!({"error": {"message": format!("{}{KEY}", "x".repeat(290))}}).to_string();
    for reply in [
        Reply::status(401, echo.clone()),
        Reply::status(500, echo.clone()),
        Reply::status(200, echo.clone()),
        Reply::status(400, late),
        Reply::status(502, format!("plain {KEY} {header}")),
        Reply::html(&format!("<p>{KEY} {header}")),
        Reply::raw_events(format!("data: {echo}\n\n")),
        Reply::raw_events(format!("data: nope {KEY} {header}\n\n")),
        Reply::status(302, "").header("location", &format!("http://user:{KEY}@host/{KEY}?key={header}")),
    ] {
        for dialect in DIALECTS {
            let server = Server::always(reply.clone());
            let headers = vec![("x-token".to_owned(), header.to_owned())];
            let base = endpoint_of(dialect, &server).base_url.replace("http://", &format!("http://user:{KEY}@"));
            let endpoint = Endpoint { headers, base_url: base, ..endpoint_of(dialect, &server) };
            let failure = ask(endpoint, &request(), &short_limits()).await.unwrap_err();
            let shown = format!("{failure:?} {failure}");
            assert!(!shown.contains("very-secret") && !shown.contains(header), "{shown}");
        }
    }
    let endpoint =
        Endpoint { auth: key_auth("sk-line\nbreak", None), ..endpoint(Dialect::OpenAi, "http://127.0.0.1:1".into()) };
    let failure = ask(endpoint, &request(), &short_limits()).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Auth);
    assert!(failure.hint.as_deref().unwrap().contains("LAB_KEY"));
    assert!(!format!("{failure:?}").contains("sk-line"));
}
