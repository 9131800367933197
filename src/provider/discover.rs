//! Lists the models that a server offers.

use std::time::Duration;

use serde_json::Value;

use super::{Dialect, Endpoint, RequestLimits, errors, http};
use crate::model::failure::Failure;

/// The models of a server, by `GET {base_url}/models` in `OpenAI`'s format, in the server's order. Sends no key.
pub async fn served_models(server: &Endpoint, timeout: Duration) -> Result<Vec<String>, Failure> {
    let base = server.base_url.trim_end_matches('/');
    let endpoint = Endpoint {
        name: "the server".to_owned(),
        dialect: Dialect::OpenAi,
        base_url: base.to_owned(),
        api_key: None,
        key_variable: None,
        headers: Vec::new(),
        structured: false,
        key_header: None,
        query: Vec::new(),
        network: server.network.clone(),
    };
    let limits = RequestLimits {
        connect: timeout,
        first_byte: timeout,
        idle: timeout,
        total: timeout,
        max_bytes: 4 * 1024 * 1024,
        ..RequestLimits::default()
    };
    let value = http::get_json(&endpoint, &format!("{base}/models"), &limits).await?;
    let Some(models) = value.get("data").and_then(Value::as_array) else {
        return Err(errors::unavailable(&endpoint, "answered with something that is no list of models"));
    };
    Ok(models.iter().filter_map(|model| Some(model.get("id")?.as_str()?.to_owned())).collect())
}
