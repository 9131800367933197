//! Downloads weights over HTTP: from a model hub, or from an address that the user specifies.

use std::cmp::Ordering;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;

use super::{FetchProgress, ReportProgress, SourceFailure};

/// The time limit for connecting to a source.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time that a download may stall before it fails. The file keeps the bytes downloaded so far.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The number of bytes between two progress reports.
const REPORT_INTERVAL: u64 = 1 << 18;

/// Converts an error to a short message for users who do not know HTTP clients.
fn source_failure(error: &reqwest::Error, host: &str) -> SourceFailure {
    SourceFailure::Unavailable(match error.status() {
        Some(status) => format!("{host} responded with {status}"),
        None if error.is_connect() => format!("{host} can't be reached"),
        None if error.is_timeout() => format!("{host} does not respond"),
        None if error.is_builder() => format!("the address is invalid: {error}"),
        None if error.is_body() || error.is_decode() => format!("the connection to {host} broke off"),
        None => format!("the request to {host} failed"),
    })
}

/// The host of an address, for messages.
pub(super) fn host(address: &str) -> String {
    let host = reqwest::Url::parse(address).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_else(|| address.to_owned())
}

/// Creates an HTTP client; fails if the process has not installed a cryptography provider for TLS.
fn client(host: &str) -> Result<Client, SourceFailure> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(SourceFailure::Unavailable("this program has no cryptography provider for HTTPS".to_owned()));
    }
    let client = Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
    client.map_err(|error| source_failure(&error, host))
}

/// The size of the complete file according to the response.
fn total_size(response: &Response, is_resumed: bool) -> Option<u64> {
    if !is_resumed {
        return response.content_length();
    }
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.rsplit_once('/')?.1.parse().ok()
}

/// Downloads a file to `partial`, or resumes an earlier download. `expected` is the size of the file, if known.
pub(super) async fn fetch(
    address: &str,
    partial: &Path,
    expected: Option<u64>,
    report: ReportProgress<'_>,
) -> Result<(), SourceFailure> {
    let host = host(address);
    let mut received = tokio::fs::metadata(partial).await.map_or(0, |metadata| metadata.len());
    if expected.is_some_and(|expected| received > expected) {
        received = 0;
    }
    if expected == Some(received) {
        return Ok(());
    }
    report(FetchProgress::Bytes { done: received, total: expected.unwrap_or(0) });
    let mut request = client(&host)?.get(address);
    if received > 0 {
        request = request.header(RANGE, format!("bytes={received}-"));
    }
    let response = request.send().await.map_err(|error| source_failure(&error, &host))?;
    let mut response = response.error_for_status().map_err(|error| source_failure(&error, &host))?;
    let is_resumed = response.status() == StatusCode::PARTIAL_CONTENT
        && response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|range| range.to_str().ok())
            .is_some_and(|range| range.starts_with(&format!("bytes {received}-")));
    if !is_resumed {
        received = 0;
    }
    let expected = expected.or_else(|| total_size(&response, is_resumed));
    let total = expected.unwrap_or(0);
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(!is_resumed)
        .append(is_resumed)
        .open(partial)
        .await
        .map_err(|error| SourceFailure::from_disk(partial, error))?;
    let mut reported = received;
    report(FetchProgress::Bytes { done: received, total });
    let interruption = |received: u64| {
        SourceFailure::Unavailable(format!("the connection to {host} broke off after {received} bytes"))
    };
    while let Some(chunk) = response.chunk().await.map_err(|_| interruption(received))? {
        file.write_all(&chunk).await.map_err(|error| SourceFailure::from_disk(partial, error))?;
        received += chunk.len() as u64;
        if expected.is_some_and(|expected| received > expected) {
            break;
        }
        if received - reported >= REPORT_INTERVAL || received == total {
            reported = received;
            report(FetchProgress::Bytes { done: received, total });
        }
    }
    file.flush().await.map_err(|error| SourceFailure::from_disk(partial, error))?;
    file.sync_all().await.map_err(|error| SourceFailure::from_disk(partial, error))?;
    match expected.map_or(Ordering::Equal, |expected| received.cmp(&expected)) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(SourceFailure::Unavailable(format!("{host} sent {received} of {total} bytes"))),
        Ordering::Greater => {
            tokio::fs::remove_file(partial).await.map_err(|error| SourceFailure::from_disk(partial, error))?;
            Err(SourceFailure::Unavailable(format!("{host} sent more than the {total} bytes of the file")))
        }
    }
}
