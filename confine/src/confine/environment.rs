//! The environment variables that name the folder for temporary files and the proxy of a confined program.

use std::ffi::OsString;

use super::policy::{Level, Policy};

/// The proxy variables that programs read. Some programs read only the names in lower case, so orch sets both.
const PROXY_NAMES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
/// The addresses of the program's own loopback, which programs connect to without the proxy.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";
/// The private folder for temporary files at `full`.
const PRIVATE_TMP: &str = "/tmp";

/// Returns the variables to set for a program.
pub(super) fn variables(policy: &Policy, level: Level, proxy_port: Option<u16>) -> Vec<(String, OsString)> {
    let mut variables: Vec<(String, OsString)> = Vec::new();
    let tmp = policy.tmp.as_ref().map(|folder| folder.clone().into_os_string());
    let private = (level == Level::Full && cfg!(target_os = "linux")).then(|| PRIVATE_TMP.into());
    variables.extend(tmp.or(private).map(|folder| ("TMPDIR".to_owned(), folder)));
    if let Some(port) = proxy_port {
        let mut add = |name: &str, value: &str| {
            variables.extend([name.to_owned(), name.to_ascii_lowercase()].map(|name| (name, value.into())));
        };
        for name in PROXY_NAMES {
            add(name, &format!("http://127.0.0.1:{port}"));
        }
        add("NO_PROXY", NO_PROXY);
        // Node ignores the variables above unless this variable is set.
        variables.push(("NODE_USE_ENV_PROXY".to_owned(), "1".into()));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_variables_have_names_in_both_cases() {
        let policy = Policy { tmp: Some("/t".into()), ..Policy::default() };
        let variables = variables(&policy, Level::Full, Some(9));
        let value =
            |name: &str| variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.to_str().unwrap());
        assert_eq!(value("TMPDIR"), Some("/t"));
        for name in ["HTTP_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"] {
            assert_eq!(value(name), Some("http://127.0.0.1:9"), "{name}");
        }
        assert_eq!(value("no_proxy"), Some("localhost,127.0.0.1,::1"));
        assert!(super::variables(&Policy::default(), Level::Basic, None).is_empty());
    }
}
