//! Lists the models that a server offers.

use std::time::Duration;

use serde_json::Value;

use super::{Dialect, Endpoint, RequestLimits, errors, http};
use crate::model::failure::Failure;

/// Requests `GET {base_url}/models` without a key and returns the models in the server's order. The response must have
/// `OpenAI`'s format.
pub async fn served_models(server: &Endpoint, timeout: Duration) -> Result<Vec<String>, Failure> {
    let base = server.base_url.trim_end_matches('/');
    let endpoint = Endpoint { network: server.network.clone(), ..Endpoint::new("the server", Dialect::OpenAi, base) };
    let limits = RequestLimits {
        connect_timeout: timeout,
        first_byte_timeout: timeout,
        idle_timeout: timeout,
        total_timeout: timeout,
        max_reply_bytes: 4 * 1024 * 1024,
        ..RequestLimits::default()
    };
    let value = http::get_json(&endpoint, &format!("{base}/models"), &limits).await?;
    let Some(models) = value.get("data").and_then(Value::as_array) else {
        // The status shows the caller that the server responded.
        let failure = errors::unavailable(&endpoint, "answered with something that is not a list of models");
        return Err(Failure { status: Some(200), ..failure });
    };
    Ok(models.iter().filter_map(|model| Some(model.get("id")?.as_str()?.to_owned())).collect())
}
