//! The environment of a command.

/// The environment variables that every command receives. Programs use them to find other programs and settings, and
/// to choose the language.
const BASIC_VARIABLES: &[&str] =
    &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SystemRoot"];
/// Variables whose values are paths of certificates. A sandbox lets its program read the paths.
pub const CERTIFICATE_VARIABLES: &[&str] = &["SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"];

/// Returns the part of orch's environment that a command receives: the basic variables, and those in `extra_names`. It
/// contains an API key only if `extra_names` has the name of its variable.
pub fn command_environment<'a>(
    variables: &dyn Fn(&str) -> Option<String>,
    extra_names: impl IntoIterator<Item = &'a str>,
) -> Vec<(String, String)> {
    let names = BASIC_VARIABLES.iter().copied().chain(extra_names);
    names.filter_map(|name| Some((name.to_owned(), variables(name)?))).collect()
}
