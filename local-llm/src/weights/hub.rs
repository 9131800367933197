//! Weights from a model hub over HTTPS.

use std::cmp::Ordering;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, StatusCode};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;

use super::{Progress, Reason, Report};
use crate::catalog::Spec;

/// A hub that does not answer within this time is left for the next source.
const CONNECT: Duration = Duration::from_secs(5);

/// A download that stalls this long is given up; what arrived is kept.
const STALL: Duration = Duration::from_secs(30);

/// Bytes between two pieces of news.
const STEP: u64 = 1 << 20;

/// What an error and everything behind it say.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// A client, if the process has set up cryptography for it.
fn client() -> Result<Client, Reason> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(Reason::Source("this program has no cryptography for HTTPS set up".to_owned()));
    }
    Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(STALL)
        .build()
        .map_err(|error| Reason::Source(chain(&error)))
}

/// Downloads the file to `partial`, going on where an earlier try ended.
pub(super) async fn fetch(address: &str, partial: &Path, spec: &Spec, report: Report<'_>) -> Result<(), Reason> {
    let mut have = tokio::fs::metadata(partial).await.map_or(0, |found| found.len());
    if have > spec.bytes {
        have = 0;
    }
    if have == spec.bytes {
        return Ok(());
    }
    let mut request = client()?.get(address);
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let answer = request.send().await.map_err(|error| Reason::Source(chain(&error)))?;
    let mut answer = answer.error_for_status().map_err(|error| Reason::Source(chain(&error)))?;
    let resumed = answer.status() == StatusCode::PARTIAL_CONTENT
        && answer
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|range| range.to_str().ok())
            .is_some_and(|range| range.starts_with(&format!("bytes {have}-")));
    if !resumed {
        have = 0;
    }
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(!resumed)
        .append(resumed)
        .open(partial)
        .await
        .map_err(|error| Reason::disk(partial, error))?;
    let mut told = have;
    report(Progress::Bytes { done: have, total: spec.bytes });
    while let Some(piece) = answer.chunk().await.map_err(|error| Reason::Source(chain(&error)))? {
        file.write_all(&piece).await.map_err(|error| Reason::disk(partial, error))?;
        have += piece.len() as u64;
        if have > spec.bytes {
            break;
        }
        if have - told >= STEP || have == spec.bytes {
            told = have;
            report(Progress::Bytes { done: have, total: spec.bytes });
        }
    }
    file.flush().await.map_err(|error| Reason::disk(partial, error))?;
    file.sync_all().await.map_err(|error| Reason::disk(partial, error))?;
    match have.cmp(&spec.bytes) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(Reason::Source(format!("the hub sent {have} of {} bytes", spec.bytes))),
        Ordering::Greater => {
            tokio::fs::remove_file(partial).await.map_err(|error| Reason::disk(partial, error))?;
            Err(Reason::Source("the hub sent more bytes than the file has".to_owned()))
        }
    }
}
