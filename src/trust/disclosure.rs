//! What `orch.yaml` sends away from this machine, and which of it the user has to agree to.

use std::fmt;

use serde_json::{Value, json};

use crate::config::{Address, ProviderSettings, Settings};
use crate::model::visible::one_line;
use crate::model::{Digest, canonical};
use crate::provider::{BUILTIN, Builtin, host_of, is_loopback_address, is_unencrypted_address, understood_address};

/// The version of the data that a digest covers; another version voids every agreement.
const VERSION: u32 = 1;

/// Where something is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To this address.
    Url(String),
    /// To the address in this environment variable.
    Variable(String),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Variable(name) => write!(f, "the address in {name}"),
        }
    }
}

/// Why a disclosure needs the user's agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustReason {
    /// The host is not the one that the key belongs to.
    ForeignHost,
    /// The variable is not the one that holds the provider's own key.
    ForeignVariable,
    /// Every event of every run is sent, artifacts included.
    FollowsRuns,
    /// The key is sent without encryption, or may be.
    Unencrypted,
}

impl TrustReason {
    /// The name in JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForeignHost => "foreign_host",
            Self::ForeignVariable => "foreign_variable",
            Self::FollowsRuns => "follows_runs",
            Self::Unencrypted => "unencrypted",
        }
    }
}

/// Something that `orch.yaml` sends away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disclosure {
    /// The key of `orch.yaml` that causes it, such as `providers.lab`.
    pub key: String,
    /// The environment variable whose value is sent, or signs what is sent; `None` when no secret is involved.
    pub variable: Option<String>,
    /// Where it goes.
    pub destination: Destination,
    /// Why the user has to agree; empty when no agreement is needed.
    pub reasons: Vec<TrustReason>,
    /// Whether the file allows sending the secret without encryption.
    pub insecure: bool,
}

impl Disclosure {
    /// Whether orch refuses it even if the user agrees: others could read the secret in transit, and the file does not
    /// allow that.
    pub fn is_refused(&self) -> bool {
        self.variable.is_some() && self.reasons.contains(&TrustReason::Unencrypted) && !self.insecure
    }

    /// Whether the user has to agree.
    pub fn needs_trust(&self) -> bool {
        !self.reasons.is_empty()
    }

    /// The disclosure as JSON: `{key, variable, destination, reasons, insecure, needs_trust}`.
    pub fn to_json(&self) -> Value {
        let destination = match &self.destination {
            Destination::Url(url) => json!({ "url": url }),
            Destination::Variable(name) => json!({ "env": name }),
        };
        let reasons: Vec<&str> = self.reasons.iter().map(|reason| reason.as_str()).collect();
        json!({
            "key": self.key,
            "variable": self.variable,
            "destination": destination,
            "reasons": reasons,
            "insecure": self.insecure,
            "needs_trust": self.needs_trust(),
        })
    }
}

impl fmt::Display for Disclosure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, variable, destination, reasons, .. } = self;
        let key = one_line(key);
        let variable = variable.as_deref().map(one_line);
        let destination = destination.to_string();
        let destination = one_line(&destination);
        match (variable, reasons.contains(&TrustReason::FollowsRuns)) {
            (Some(variable), true) => {
                write!(f, "`{key}` sends every event of every run to {destination}, with the secret in {variable}")
            }
            (None, true) => write!(f, "`{key}` sends every event of every run to {destination}"),
            (Some(variable), false) => write!(f, "`{key}` sends the key in {variable} to {destination}"),
            (None, false) => write!(f, "`{key}` sends prompts to {destination}, without a key"),
        }?;
        if reasons.contains(&TrustReason::Unencrypted) { f.write_str(", also without encryption") } else { Ok(()) }
    }
}

/// Everything that the `orch.yaml` of a project sends away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disclosures(Vec<Disclosure>);

impl Disclosures {
    /// The disclosures of some settings, in the order of the file: providers, then trackers.
    pub fn of(settings: &Settings) -> Self {
        let providers = settings.providers.iter().filter_map(|(name, entry)| provider(name, entry));
        Self(providers.chain(trackers(settings)).collect())
    }

    /// All of them.
    pub fn all(&self) -> &[Disclosure] {
        &self.0
    }

    /// Those that the user has to agree to.
    pub fn untrusted(&self) -> impl Iterator<Item = &Disclosure> {
        self.0.iter().filter(|disclosure| disclosure.needs_trust())
    }

    /// The digest that an agreement covers; `None` when nothing needs one.
    ///
    /// It is computed from the canonical JSON of the disclosures that need an agreement, sorted by key, so that
    /// comments, order and other settings do not change it.
    pub fn digest(&self) -> Option<Digest> {
        let mut untrusted: Vec<&Disclosure> = self.untrusted().collect();
        untrusted.sort_by(|a, b| a.key.cmp(&b.key));
        let list: Vec<Value> = untrusted.iter().map(|disclosure| disclosure.to_json()).collect();
        let text = canonical(&json!({ "version": VERSION, "disclosures": list }));
        (!list.is_empty()).then(|| Digest::of(text.as_bytes()))
    }
}

/// What a provider in the file sends; `None` when it has no base URL and is not built in.
fn provider(name: &str, entry: &ProviderSettings) -> Option<Disclosure> {
    let builtin = BUILTIN.iter().find(|builtin| builtin.name == name);
    let own_variable = builtin.and_then(|builtin| builtin.key_variable);
    let variable = entry.api_key.as_ref().map(|key| key.env.as_str()).or(own_variable);
    let url = entry.base_url.as_deref().or_else(|| builtin.map(|builtin| builtin.base_url))?;
    let mut reasons = variable.map(|variable| reasons(variable, url, own_variable)).unwrap_or_default();
    // Even if the file's own address is encrypted: the environment may name another one.
    if entry.insecure && variable.is_some() && !reasons.contains(&TrustReason::Unencrypted) {
        reasons.push(TrustReason::Unencrypted);
    }
    let (variable, destination) = (variable.map(ToOwned::to_owned), Destination::Url(understood_address(url)));
    Some(Disclosure { key: format!("providers.{name}"), variable, destination, reasons, insecure: entry.insecure })
}

fn reasons(variable: &str, url: &str, own_variable: Option<&str>) -> Vec<TrustReason> {
    let host = host_of(url);
    let belongs = |builtin: &Builtin| builtin.key_variable == Some(variable) && host_of(builtin.base_url) == host;
    let mut reasons = Vec::new();
    // The key of a built-in provider may go to that provider, under any name in the file.
    if host.is_none() || !BUILTIN.iter().any(belongs) {
        reasons.extend((!is_loopback_address(url)).then_some(TrustReason::ForeignHost));
        reasons.extend((own_variable != Some(variable)).then_some(TrustReason::ForeignVariable));
    }
    if is_unencrypted_address(url) {
        reasons.push(TrustReason::Unencrypted);
    }
    reasons
}

fn trackers(settings: &Settings) -> impl Iterator<Item = Disclosure> {
    let tracker = &settings.tracker;
    let convex = tracker.convex.iter().map(|convex| Disclosure {
        key: "tracker.convex".to_owned(),
        variable: convex.auth.as_ref().map(|auth| auth.env.clone()),
        destination: destination(&convex.url),
        reasons: follows(&convex.url),
        insecure: convex.insecure,
    });
    let webhook = tracker.webhook.iter().map(|webhook| Disclosure {
        key: "tracker.webhook".to_owned(),
        variable: Some(webhook.secret.env.clone()),
        destination: destination(&webhook.url),
        reasons: follows(&webhook.url),
        // The secret signs what is sent and is not sent itself.
        insecure: true,
    });
    convex.chain(webhook)
}

fn destination(address: &Address) -> Destination {
    match address {
        Address::Plain(url) => Destination::Url(understood_address(url)),
        Address::Env(name) => Destination::Variable(name.clone()),
    }
}

fn follows(address: &Address) -> Vec<TrustReason> {
    let mut reasons = vec![TrustReason::FollowsRuns];
    if let Address::Plain(url) = address {
        reasons.extend(is_unencrypted_address(url).then_some(TrustReason::Unencrypted));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disclosures(text: Value) -> Disclosures {
        Disclosures::of(&serde_json::from_value(text).unwrap())
    }

    fn of_provider(name: &str, url: Value, env: Option<&str>) -> Vec<TrustReason> {
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
            assert_eq!(of_provider(name, url.clone(), env), [], "{name} {url} {env:?}");
        }
    }

    #[test]
    fn every_other_way_of_a_key_needs_an_agreement() {
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
            assert_eq!(of_provider(name, json!(url), env), reasons, "{name} {url} {env:?}");
        }
    }

    #[test]
    fn what_loosens_needs_an_agreement_and_what_is_shown_is_where_it_goes() {
        let of = |entry: Value| disclosures(json!({ "providers": { "openai": entry } }));
        let loose = of(json!({ "dialect": "openai", "insecure": true }));
        assert_eq!(loose.all()[0].reasons, [TrustReason::Unencrypted]);
        let shown =
            of(json!({ "dialect": "openai", "base_url": "https://аpi.openai.com/{model}" })).all()[0].to_string();
        assert_eq!(
            shown,
            "`providers.openai` sends the key in OPENAI_API_KEY to https://xn--pi-6kc.openai.com/{model}"
        );
    }

    #[test]
    fn trackers_need_an_agreement_wherever_they_are() {
        let all = disclosures(json!({ "tracker": {
            "convex": { "url": { "env": "CONVEX_URL" }, "auth": { "env": "GITHUB_TOKEN" } },
            "webhook": { "url": "http://127.0.0.1:9/", "secret": { "env": "S" } },
        } }));
        let shown: Vec<String> = all.untrusted().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "`tracker.convex` sends every event of every run to the address in CONVEX_URL, with the secret in GITHUB_TOKEN",
                "`tracker.webhook` sends every event of every run to http://127.0.0.1:9/, with the secret in S",
            ]
        );
    }

    #[test]
    fn the_digest_follows_what_is_sent_and_nothing_else() {
        let lab = json!({ "dialect": "openai", "base_url": "https://lab.example/v1", "api_key": { "env": "LAB_KEY" } });
        let base = json!({ "providers": { "lab": lab } });
        let digest = |text: &Value| disclosures(text.clone()).digest();
        assert!(digest(&base).is_some());
        assert_eq!(digest(&json!({ "budget": { "tokens": 5 } })), None);
        let mut other = base.clone();
        other["limits"] = json!({ "max_concurrency": 3 });
        other["providers"]["near"] = json!({ "dialect": "openai", "base_url": "http://127.0.0.1:9/v1" });
        assert_eq!(digest(&other), digest(&base));
        for (at, value) in [("base_url", json!("https://lab.example/v2")), ("api_key", json!({ "env": "OTHER" }))] {
            let mut changed = base.clone();
            changed["providers"]["lab"][at] = value;
            assert_ne!(digest(&changed), digest(&base), "{at}");
        }
        let mut followed = base.clone();
        followed["tracker"] = json!({ "convex": { "url": "https://a.example" } });
        assert_ne!(digest(&followed), digest(&base));
    }
}
