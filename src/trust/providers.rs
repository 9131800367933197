//! Lists the disclosures of the providers in `orch.yaml`.

use std::borrow::Cow;

use crate::config::{AwsSettings, ProviderSettings};
use crate::provider::{
    AWS_SECRET_VARIABLE, BUILTIN_PROVIDERS, BuiltinProvider, is_loopback_address, is_unencrypted_address,
    normalized_address, url_host,
};

use super::disclosure::{Destination, Disclosure, TrustReason};

/// The disclosure of a provider in the file; `None` if the provider has no base URL and is not built in.
pub(super) fn provider_disclosure(name: &str, entry: &ProviderSettings) -> Option<Disclosure> {
    let builtin = BuiltinProvider::find(name);
    let builtin_variable = builtin.and_then(|builtin| builtin.key_variable);
    let url = entry.address().or_else(|| builtin.map(|builtin| Cow::Borrowed(builtin.base_url)))?;
    let (variable, mut reasons) = if let Some(aws) = &entry.aws {
        (Some(AWS_SECRET_VARIABLE), aws_reasons(aws, &url))
    } else {
        let variable = entry.api_key.as_ref().map(|key| key.env.as_str()).or(builtin_variable);
        (variable, variable.map(|variable| key_reasons(variable, &url, builtin_variable)).unwrap_or_default())
    };
    // Even if the address in the file is encrypted, the environment may set an unencrypted one.
    if entry.insecure && variable.is_some() && !reasons.contains(&TrustReason::Unencrypted) {
        reasons.push(TrustReason::Unencrypted);
    }
    let (variable, destination) = (variable.map(ToOwned::to_owned), Destination::Url(normalized_address(&url)));
    let aws_region = entry.aws.as_ref().map(|aws| aws.region.clone());
    let key = format!("providers.{name}");
    Some(Disclosure { key, variable, destination, reasons, insecure: entry.insecure, aws_region, terms: None })
}

/// The reasons why the user has to agree to requests that orch signs with AWS credentials. These credentials give
/// access to more than models, so even requests to Bedrock need an agreement.
fn aws_reasons(aws: &AwsSettings, url: &str) -> Vec<TrustReason> {
    let mut reasons = vec![TrustReason::ForeignVariable];
    let is_own_host = url_host(url) == url_host(&aws.bedrock_url()) || is_loopback_address(url);
    reasons.extend((!is_own_host).then_some(TrustReason::ForeignHost));
    reasons.extend(is_unencrypted_address(url).then_some(TrustReason::Unencrypted));
    reasons
}

fn key_reasons(variable: &str, url: &str, builtin_variable: Option<&str>) -> Vec<TrustReason> {
    let host = url_host(url);
    let matches_key_and_host =
        |builtin: &BuiltinProvider| builtin.key_variable == Some(variable) && url_host(builtin.base_url) == host;
    let mut reasons = Vec::new();
    // The key of a built-in provider may go to that provider, even if the file gives the provider another name.
    if host.is_none() || !BUILTIN_PROVIDERS.iter().any(matches_key_and_host) {
        reasons.extend((!is_loopback_address(url)).then_some(TrustReason::ForeignHost));
        reasons.extend((builtin_variable != Some(variable)).then_some(TrustReason::ForeignVariable));
    }
    if is_unencrypted_address(url) {
        reasons.push(TrustReason::Unencrypted);
    }
    reasons
}
