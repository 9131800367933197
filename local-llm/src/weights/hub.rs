//! Downloads weights over HTTP: from a model hub, or from an address that the user gives.

use std::cmp::Ordering;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;

use super::{FetchProgress, ReportProgress, SourceFailure};

/// How long to wait for a connection; then the next source is tried.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a download may stall before it fails; what has arrived is kept.
const STALL: Duration = Duration::from_secs(30);

/// Bytes between two progress reports.
const STEP: u64 = 1 << 18;

/// Describes an error in a few words, for a user who knows nothing of HTTP clients.
fn reason(error: &reqwest::Error, host: &str) -> SourceFailure {
    SourceFailure::Source(match error.status() {
        Some(status) => format!("{host} answered {status}"),
        None if error.is_connect() => format!("{host} can't be reached"),
        None if error.is_timeout() => format!("{host} does not answer"),
        None if error.is_builder() => format!("{error} is no address"),
        None if error.is_body() || error.is_decode() => format!("the connection to {host} broke off"),
        None => format!("{host} can't be asked"),
    })
}

/// The host of an address, for messages.
pub(super) fn host(address: &str) -> String {
    let host = reqwest::Url::parse(address).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_else(|| address.to_owned())
}

/// An HTTP client; fails if the process has not set up cryptography for TLS.
fn client(host: &str) -> Result<Client, SourceFailure> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(SourceFailure::Source("this program has no cryptography for HTTPS set up".to_owned()));
    }
    let client = Client::builder().connect_timeout(CONNECT).read_timeout(STALL).build();
    client.map_err(|error| reason(&error, host))
}

/// The size of the whole file, according to the response.
fn whole(answer: &Response, resumed: bool) -> Option<u64> {
    if !resumed {
        return answer.content_length();
    }
    let range = answer.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.rsplit_once('/')?.1.parse().ok()
}

/// Downloads a file to `partial`, and resumes where an earlier download ended. `expected` is its size, if known.
pub(super) async fn fetch(
    address: &str,
    partial: &Path,
    expected: Option<u64>,
    report: ReportProgress<'_>,
) -> Result<(), SourceFailure> {
    let host = host(address);
    let mut have = tokio::fs::metadata(partial).await.map_or(0, |found| found.len());
    if expected.is_some_and(|expected| have > expected) {
        have = 0;
    }
    if expected == Some(have) {
        return Ok(());
    }
    report(FetchProgress::Bytes { done: have, total: expected.unwrap_or(0) });
    let mut request = client(&host)?.get(address);
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let answer = request.send().await.map_err(|error| reason(&error, &host))?;
    let mut answer = answer.error_for_status().map_err(|error| reason(&error, &host))?;
    let resumed = answer.status() == StatusCode::PARTIAL_CONTENT
        && answer
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|range| range.to_str().ok())
            .is_some_and(|range| range.starts_with(&format!("bytes {have}-")));
    if !resumed {
        have = 0;
    }
    let expected = expected.or_else(|| whole(&answer, resumed));
    let total = expected.unwrap_or(0);
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(!resumed)
        .append(resumed)
        .open(partial)
        .await
        .map_err(|error| SourceFailure::disk(partial, error))?;
    let mut told = have;
    report(FetchProgress::Bytes { done: have, total });
    let broke_off = |have: u64| SourceFailure::Source(format!("the connection to {host} broke off after {have} bytes"));
    while let Some(piece) = answer.chunk().await.map_err(|_| broke_off(have))? {
        file.write_all(&piece).await.map_err(|error| SourceFailure::disk(partial, error))?;
        have += piece.len() as u64;
        if expected.is_some_and(|expected| have > expected) {
            break;
        }
        if have - told >= STEP || have == total {
            told = have;
            report(FetchProgress::Bytes { done: have, total });
        }
    }
    file.flush().await.map_err(|error| SourceFailure::disk(partial, error))?;
    file.sync_all().await.map_err(|error| SourceFailure::disk(partial, error))?;
    match expected.map_or(Ordering::Equal, |expected| have.cmp(&expected)) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(SourceFailure::Source(format!("{host} sent {have} of {total} bytes"))),
        Ordering::Greater => {
            tokio::fs::remove_file(partial).await.map_err(|error| SourceFailure::disk(partial, error))?;
            Err(SourceFailure::Source(format!("{host} sent more than the {total} bytes that the file has")))
        }
    }
}
