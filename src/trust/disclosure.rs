//! Lists the disclosures of `orch.yaml`: the data that it makes orch send, the address, and whether the user has to
//! agree.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

use crate::config::Settings;
use crate::model::visible::escape_line_breaks;
use crate::model::{Digest, canonical_json};
use crate::provider::AWS_VARIABLES;

use super::mcp::mcp_disclosures;
use super::providers::provider_disclosure;
use super::sandbox::sandbox_disclosures;
use super::trackers::tracker_disclosures;

/// The version of the text from which orch computes the digest. Changing it invalidates every agreement.
const DIGEST_VERSION: u32 = 1;

/// The last words of the description of a disclosure that orch may send without encryption.
const UNENCRYPTED: &str = ", also without encryption";

/// The destination of a disclosure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// This address.
    Url(String),
    /// The address in this environment variable.
    Variable(String),
    /// No address: the key loosens the sandbox of programs, or orch starts a program. The text describes what the
    /// programs may do.
    Programs(String),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Variable(name) => write!(f, "the address in {name}"),
            Self::Programs(text) => f.write_str(text),
        }
    }
}

/// The reason why a disclosure needs the user's agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustReason {
    /// The host does not belong to the provider of the key.
    ForeignHost,
    /// The variable is not the one with the provider's own key.
    ForeignVariable,
    /// orch sends every event of every run, including artifacts.
    SendsEvents,
    /// orch sends the key without encryption, or may do so.
    Unencrypted,
    /// The sandbox of programs allows more than the default.
    LoosensSandbox,
    /// orch starts an MCP server, or sends it the arguments of tool calls.
    McpServer,
}

impl TrustReason {
    /// The name in JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForeignHost => "foreign_host",
            Self::ForeignVariable => "foreign_variable",
            Self::SendsEvents => "follows_runs",
            Self::Unencrypted => "unencrypted",
            Self::LoosensSandbox => "loosens_sandbox",
            Self::McpServer => "mcp_server",
        }
    }
}

/// Data that orch sends because of a key in `orch.yaml`, a key that loosens the sandbox of programs, or a program that
/// orch starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disclosure {
    /// The key of `orch.yaml` that causes it, such as `providers.lab`.
    pub key: String,
    /// The environment variable with the secret that orch sends or uses to sign; `None` without a secret.
    pub variable: Option<String>,
    /// The destination.
    pub destination: Destination,
    /// The reasons why the user has to agree; empty if no agreement is necessary.
    pub reasons: Vec<TrustReason>,
    /// Whether the file allows sending the secret without encryption.
    pub insecure: bool,
    /// The AWS region for which orch signs requests with the secret, instead of sending it.
    pub aws_region: Option<String>,
    /// What else the user agrees to, as the end of the description: of an MCP server, its headers and the tools that
    /// pipelines may call.
    pub terms: Option<String>,
}

impl Disclosure {
    /// Whether orch refuses the disclosure even if the user agrees: orch would send the secret without encryption, and
    /// the file does not allow that.
    pub fn is_refused(&self) -> bool {
        self.variable.is_some() && self.reasons.contains(&TrustReason::Unencrypted) && !self.insecure
    }

    /// The label in listings: `starts` for an MCP server that orch starts, `allows` for a key that loosens the sandbox of
    /// programs, else `sends`.
    pub fn label(&self) -> &'static str {
        match self.destination {
            Destination::Programs(_) if self.reasons.contains(&TrustReason::McpServer) => "starts",
            Destination::Programs(_) => "allows",
            Destination::Url(_) | Destination::Variable(_) => "sends",
        }
    }

    /// Whether the user has to agree.
    pub fn needs_trust(&self) -> bool {
        !self.reasons.is_empty()
    }

    /// The disclosure as JSON: `{key, variable, destination, reasons, insecure, needs_trust}`, `aws_region` if orch signs
    /// for a region, and `terms` of an MCP server.
    pub fn to_json(&self) -> Value {
        let destination = match &self.destination {
            Destination::Url(url) => json!({ "url": url }),
            Destination::Variable(name) => json!({ "env": name }),
            Destination::Programs(text) => json!({ "programs": text }),
        };
        let reasons: Vec<&str> = self.reasons.iter().map(|reason| reason.as_str()).collect();
        let mut value = json!({
            "key": self.key,
            "variable": self.variable,
            "destination": destination,
            "reasons": reasons,
            "insecure": self.insecure,
            "needs_trust": self.needs_trust(),
        });
        if let Some(region) = &self.aws_region {
            value["aws_region"] = json!(region);
        }
        if let Some(terms) = &self.terms {
            value["terms"] = json!(terms);
        }
        value
    }
}

impl fmt::Display for Disclosure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, variable, destination, reasons, terms, .. } = self;
        let key = escape_line_breaks(key);
        let variable = variable.as_deref().map(escape_line_breaks);
        let destination = destination.to_string();
        let destination = escape_line_breaks(&destination);
        let terms = terms.as_ref().map_or_else(String::new, |terms| format!("; {}", escape_line_breaks(terms)));
        if matches!(self.destination, Destination::Programs(_)) {
            return write!(f, "`{key}` {destination}{terms}");
        }
        if let Some(region) = &self.aws_region {
            let (names, region) = (AWS_VARIABLES.join(", "), escape_line_breaks(region));
            write!(f, "`{key}` signs requests to {destination} (region {region}) with the credentials in {names}")?;
            return if reasons.contains(&TrustReason::Unencrypted) { f.write_str(UNENCRYPTED) } else { Ok(()) };
        }
        if reasons.contains(&TrustReason::McpServer) {
            let secret = variable.map_or_else(String::new, |variable| format!("the secret in {variable} and "));
            write!(f, "`{key}` sends {secret}the arguments of tool calls to the MCP server {destination}")?;
            f.write_str(if reasons.contains(&TrustReason::Unencrypted) { UNENCRYPTED } else { "" })?;
            return f.write_str(&terms);
        }
        match (variable, reasons.contains(&TrustReason::SendsEvents)) {
            (Some(variable), true) => {
                write!(f, "`{key}` sends every event of every run to {destination}, with the secret in {variable}")
            }
            (None, true) => write!(f, "`{key}` sends every event of every run to {destination}"),
            (Some(variable), false) => write!(f, "`{key}` sends the key in {variable} to {destination}"),
            (None, false) => write!(f, "`{key}` sends prompts to {destination}, without a key"),
        }?;
        if reasons.contains(&TrustReason::Unencrypted) { f.write_str(UNENCRYPTED) } else { Ok(()) }
    }
}

/// The disclosures of a project's `orch.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disclosures(Vec<Disclosure>);

impl Disclosures {
    /// Lists the disclosures of settings: first those of the providers in the order of the file, then those of the
    /// trackers, then those of the sandbox, then those of the MCP servers.
    pub fn from_settings(settings: &Settings) -> Self {
        let providers = settings.providers.iter().filter_map(|(name, entry)| provider_disclosure(name, entry));
        let programs = sandbox_disclosures(&settings.sandbox).into_iter().chain(mcp_disclosures(settings));
        Self(providers.chain(tracker_disclosures(settings)).chain(programs).collect())
    }

    /// All disclosures.
    pub fn all(&self) -> &[Disclosure] {
        &self.0
    }

    /// All disclosures as JSON, in the order of the file.
    pub fn to_json(&self) -> Value {
        self.0.iter().map(Disclosure::to_json).collect()
    }

    /// The disclosures that need the user's agreement.
    pub fn needing_agreement(&self) -> impl Iterator<Item = &Disclosure> {
        self.0.iter().filter(|disclosure| disclosure.needs_trust())
    }

    /// The digest that an agreement covers; `None` if no disclosure needs an agreement.
    ///
    /// orch computes it from the canonical JSON of the disclosures that need an agreement, sorted by key. So comments,
    /// the order of keys and other settings do not change it.
    pub fn digest(&self) -> Option<Digest> {
        self.digest_with(&BTreeSet::new())
    }

    /// The digest of an agreement that also covers variables that pipelines pass to confined programs; `None` if there is
    /// nothing to agree to.
    pub fn digest_with(&self, variables: &BTreeSet<String>) -> Option<Digest> {
        let mut untrusted: Vec<&Disclosure> = self.needing_agreement().collect();
        untrusted.sort_by(|left, right| left.key.cmp(&right.key));
        let list: Vec<Value> = untrusted.iter().map(|disclosure| disclosure.to_json()).collect();
        if list.is_empty() && variables.is_empty() {
            return None;
        }
        let mut covered = json!({ "version": DIGEST_VERSION, "disclosures": list });
        if !variables.is_empty() {
            covered["variables"] = json!(variables);
        }
        Some(Digest::compute(canonical_json(&covered).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disclosures(settings: Value) -> Disclosures {
        Disclosures::from_settings(&serde_json::from_value(settings).unwrap())
    }

    fn provider_reasons(name: &str, url: Value, env: Option<&str>) -> Vec<TrustReason> {
        let mut entry = json!({ "dialect": "openai", "base_url": url });
        if let Some(env) = env {
            entry["api_key"] = json!({ "env": env });
        }
        let all = disclosures(json!({ "providers": { name: entry } }));
        all.all().first().map(|disclosure| disclosure.reasons.clone()).unwrap_or_default()
    }

    #[test]
    fn a_key_goes_to_its_own_provider_without_an_agreement() {
        for (name, url, env) in [
            ("openai", json!("https://api.openai.com/v1"), None),
            ("openai", json!("https://API.OpenAI.com./v1"), Some("OPENAI_API_KEY")),
            ("openai", json!(null), None),
            ("work", json!("https://api.openai.com/v1"), Some("OPENAI_API_KEY")),
            ("openai", json!("http://127.0.0.1:9/v1"), None),
            ("openai", json!("http://[::1]:9/v1"), None),
            ("lab", json!("https://lab.example/v1"), None),
        ] {
            assert_eq!(provider_reasons(name, url.clone(), env), [], "{name} {url} {env:?}");
        }
    }

    #[test]
    fn a_key_for_another_host_or_variable_needs_an_agreement() {
        use TrustReason::{ForeignHost, ForeignVariable, Unencrypted};
        for (name, url, env, reasons) in [
            ("openai", "https://evil.example/v1", None, vec![ForeignHost]),
            ("openai", "http://evil.example/v1", None, vec![ForeignHost, Unencrypted]),
            ("openai", "https://api.openai.com.evil.example/v1", None, vec![ForeignHost]),
            ("openai", "https://api.openai.com@evil.example/v1", None, vec![ForeignHost]),
            ("openai", "http://127.0.0.1@evil.example/v1", None, vec![ForeignHost, Unencrypted]),
            ("openai", "http://localhost.evil.example/v1", None, vec![ForeignHost, Unencrypted]),
            ("openai", "http://foo.localhost/v1", None, vec![ForeignHost, Unencrypted]),
            ("openai", "http://api.openai.com/v1", None, vec![Unencrypted]),
            ("openai", "https://api.openai.com/v1", Some("AWS_SECRET_ACCESS_KEY"), vec![ForeignHost, ForeignVariable]),
            ("openai", "http://127.0.0.1:9/v1", Some("AWS_SECRET_ACCESS_KEY"), vec![ForeignVariable]),
            ("lab", "http://127.0.0.1:9/v1", Some("OPENAI_API_KEY"), vec![ForeignVariable]),
            ("lab", "https://lab.example/v1", Some("LAB_KEY"), vec![ForeignHost, ForeignVariable]),
            ("openrouter", "https://api.openai.com/v1", Some("OPENROUTER_API_KEY"), vec![ForeignHost]),
            ("openai", "https://аpi.openai.com/v1", None, vec![ForeignHost]),
        ] {
            assert_eq!(provider_reasons(name, json!(url), env), reasons, "{name} {url} {env:?}");
        }
    }

    #[test]
    fn insecure_needs_an_agreement_and_the_text_shows_the_real_host() {
        let openai = |entry: Value| disclosures(json!({ "providers": { "openai": entry } }));
        let insecure = openai(json!({ "dialect": "openai", "insecure": true }));
        assert_eq!(insecure.all()[0].reasons, [TrustReason::Unencrypted]);
        let similar_host = openai(json!({ "dialect": "openai", "base_url": "https://аpi.openai.com/{model}" }));
        assert_eq!(
            similar_host.all()[0].to_string(),
            "`providers.openai` sends the key in OPENAI_API_KEY to https://xn--pi-6kc.openai.com/{model}"
        );
    }

    #[test]
    fn signing_with_aws_credentials_always_needs_an_agreement() {
        use TrustReason::{ForeignHost, ForeignVariable, Unencrypted};
        for (url, reasons) in [
            (json!(null), vec![ForeignVariable]),
            (json!("https://bedrock-runtime.eu-central-1.amazonaws.com"), vec![ForeignVariable]),
            (json!("http://127.0.0.1:9"), vec![ForeignVariable]),
            (json!("https://bedrock-runtime.us-east-1.amazonaws.com"), vec![ForeignVariable, ForeignHost]),
            (
                json!("https://bedrock-runtime.eu-central-1.amazonaws.com.evil.example"),
                vec![ForeignVariable, ForeignHost],
            ),
            (json!("http://evil.example"), vec![ForeignVariable, ForeignHost, Unencrypted]),
        ] {
            let entry = json!({ "dialect": "converse", "base_url": url, "aws": { "region": "eu-central-1" } });
            let all = disclosures(json!({ "providers": { "bedrock": entry } }));
            assert_eq!(all.all()[0].reasons, reasons, "{url}");
        }
        let entry = json!({ "dialect": "converse", "aws": { "region": "eu-central-1" } });
        assert_eq!(
            disclosures(json!({ "providers": { "bedrock": entry } })).all()[0].to_string(),
            "`providers.bedrock` signs requests to https://bedrock-runtime.eu-central-1.amazonaws.com/ (region \
             eu-central-1) with the credentials in AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN"
        );
    }

    #[test]
    fn trackers_need_an_agreement_for_every_address() {
        let all = disclosures(json!({ "tracker": {
            "convex": { "url": { "env": "CONVEX_URL" }, "auth": { "env": "GITHUB_TOKEN" } },
            "webhook": { "url": "http://127.0.0.1:9/", "secret": { "env": "S" } },
        } }));
        let texts: Vec<String> = all.needing_agreement().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "`tracker.convex` sends every event of every run to the address in CONVEX_URL, with the secret in GITHUB_TOKEN",
                "`tracker.webhook` sends every event of every run to http://127.0.0.1:9/, with the secret in S",
            ]
        );
    }

    #[test]
    fn the_digest_depends_only_on_the_disclosures() {
        let lab = json!({ "dialect": "openai", "base_url": "https://lab.example/v1", "api_key": { "env": "LAB_KEY" } });
        let base = json!({ "providers": { "lab": lab } });
        let digest = |settings: &Value| disclosures(settings.clone()).digest();
        assert!(digest(&base).is_some());
        assert_eq!(digest(&json!({ "budget": { "tokens": 5 } })), None);
        let mut unrelated = base.clone();
        unrelated["limits"] = json!({ "max_concurrency": 3 });
        unrelated["providers"]["local"] = json!({ "dialect": "openai", "base_url": "http://127.0.0.1:9/v1" });
        assert_eq!(digest(&unrelated), digest(&base));
        for (key, value) in [("base_url", json!("https://lab.example/v2")), ("api_key", json!({ "env": "OTHER" }))] {
            let mut changed = base.clone();
            changed["providers"]["lab"][key] = value;
            assert_ne!(digest(&changed), digest(&base), "{key}");
        }
        let mut with_tracker = base.clone();
        with_tracker["tracker"] = json!({ "convex": { "url": "https://a.example" } });
        assert_ne!(digest(&with_tracker), digest(&base));
        let digest_with = |settings: &Value, names: &[&str]| {
            disclosures(settings.clone()).digest_with(&names.iter().map(|name| (*name).to_owned()).collect())
        };
        assert_eq!(digest_with(&base, &[]), digest(&base));
        assert_eq!(digest_with(&base, &["A", "B"]), digest_with(&base, &["B", "A"]));
        let (none, other) = (digest_with(&json!({}), &["A"]), digest_with(&json!({}), &["B"]));
        assert!(none.is_some() && none != other && none != digest_with(&base, &["A"]));
        assert_ne!(digest_with(&base, &["A"]), digest(&base));
    }
}
