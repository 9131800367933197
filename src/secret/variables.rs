//! Finds the environment variables that contain secrets, by their names and by the form of their values.

use secrecy::SecretString;

use super::credentials::secret_parts;

/// The last words in the names of variables that contain secrets.
const SECRET_WORDS: &[&str] = &[
    "AUTHORIZATION",
    "CREDENTIAL",
    "CREDENTIALS",
    "JWT",
    "KEY",
    "PASSCODE",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "PAT",
    "SECRET",
    "TOKEN",
];
/// The last words in the names of variables that contain a secret if their value looks like a credential. Other values
/// are ordinary words, such as that of `DESKTOP_SESSION`.
const POSSIBLE_SECRET_WORDS: &[&str] = &["AUTH", "COOKIE", "COOKIES", "LOGIN", "SESSION"];
/// The endings of such words in names without separators.
const SECRET_ENDINGS: &[&str] = &["APIKEY", "AUTHTOKEN", "ACCESSKEY", "SECRETKEY", "PRIVATEKEY"];
/// The minimum length in bytes of a value that counts as a secret. A shorter value, such as `postgres`, would match
/// ordinary text.
pub(super) const MIN_SECRET_BYTES: usize = 16;

/// Returns the secrets in the variables, each with the name of its variable: the values of variables whose names
/// suggest a secret, and the passwords in URLs.
pub fn secrets_among(variables: impl IntoIterator<Item = (String, String)>) -> Vec<(String, SecretString)> {
    let find_secret = |(name, value): (String, String)| {
        let is_named = has_secret_name(&name) || (may_have_secret(&name) && looks_like_credential(&value));
        let has_secret_value = is_named && !is_path(&value);
        let secret = if has_secret_value { Some(value.trim()) } else { url_password(&value) };
        let secret = secret.filter(|secret| secret.len() >= MIN_SECRET_BYTES)?.to_owned();
        Some((name, SecretString::from(secret)))
    };
    variables.into_iter().filter_map(find_secret).collect()
}

/// Returns the secrets in variables that a pipeline or `orch.yaml` lists for a program: the values that look random or
/// have the form of a credential. If the name of a variable suggests a secret, shorter values count too.
pub fn secrets_in_listed_variables(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Vec<(String, SecretString)> {
    let find_secret = |(name, value): (String, String)| {
        let text = value.trim();
        let is_named = has_secret_name(&name) || may_have_secret(&name);
        let min_bytes = if is_named { super::MIN_NEEDLE_BYTES } else { MIN_SECRET_BYTES };
        let is_secret = text.len() >= min_bytes && !is_path(text) && looks_like_credential(text);
        is_secret.then(|| (name, SecretString::from(text.to_owned())))
    };
    variables.into_iter().filter_map(find_secret).collect()
}

/// Returns the secrets in variables that `orch.yaml` names for an MCP server, under `headers` or `env`: the values, whatever
/// they look like. The path of a file or a folder under `env` is no secret, and results of the server contain it. All
/// values under `headers` are secrets of the project anyway.
pub fn secrets_for_servers(variables: impl IntoIterator<Item = (String, String)>) -> Vec<(String, SecretString)> {
    let secrets = variables.into_iter().filter(|(_, value)| !is_path(value) && !is_folder(value));
    secrets.map(|(name, value)| (name, SecretString::from(value))).collect()
}

/// Whether a value looks random, or has the form of a credential, such as `Bearer KEY` or `token=KEY`.
fn looks_like_credential(value: &str) -> bool {
    looks_random(value.trim()) || !secret_parts(value).is_empty()
}

/// Whether a value looks random, such as `ghp_x2Yd81kQ…`: one long word in which digits, upper-case letters and
/// lower-case letters alternate more often than in words, names, paths, URLs and numbers.
pub(super) fn looks_random(value: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '=' | '~');
    let char_class = |c: char| (c.is_ascii_digit(), c.is_ascii_uppercase());
    let alphanumerics: Vec<char> = value.chars().filter(char::is_ascii_alphanumeric).collect();
    let class_changes =
        alphanumerics.windows(2).filter(|pair| matches!(pair, [a, b] if char_class(*a) != char_class(*b))).count();
    value.chars().all(is_allowed) && class_changes * 5 >= alphanumerics.len()
}

/// Whether the name of a variable, a header or a parameter suggests a secret.
pub(super) fn has_secret_name(name: &str) -> bool {
    let last_word = last_word(name);
    SECRET_WORDS.contains(&last_word.as_str()) || SECRET_ENDINGS.iter().any(|ending| last_word.ends_with(ending))
}

/// Whether a variable or a parameter with this name contains a secret if its value looks like a credential.
pub(super) fn may_have_secret(name: &str) -> bool {
    POSSIBLE_SECRET_WORDS.contains(&last_word(name).as_str())
}

/// The last word of a name, in upper case.
fn last_word(name: &str) -> String {
    let name = name.trim_end_matches(['_', '-']);
    name.rsplit(['_', '-']).next().unwrap_or_default().to_ascii_uppercase()
}

/// Whether a value is a path, such as `/home/me/key.json`. The path of a file that contains a secret is not secret.
fn is_path(value: &str) -> bool {
    let value = value.trim();
    ["/", "./", "~/"].iter().any(|start| value.starts_with(start)) && value.contains('.')
}

/// Whether a value is a path without a point, such as `/home/me/data`. A part that looks random shows that it is none.
fn is_folder(value: &str) -> bool {
    let value = value.trim();
    let is_random = |part: &str| part.len() >= MIN_SECRET_BYTES && looks_random(part);
    ["/", "./", "../", "~/"].iter().any(|start| value.starts_with(start)) && !value.split('/').any(is_random)
}

/// The password in a URL: `pw` of `scheme://user:pw@host`.
fn url_password(value: &str) -> Option<&str> {
    let (_, after_scheme) = value.trim().split_once("://")?;
    let authority = after_scheme.split(['/', '?', '#']).next()?;
    let (userinfo, _) = authority.rsplit_once('@')?;
    userinfo.split_once(':').map(|(_, password)| password)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn find_secret(name: &str, value: &str) -> Option<String> {
        let secrets = secrets_among([(name.to_owned(), value.to_owned())]);
        secrets.first().map(|(_, secret)| secret.expose_secret().to_owned())
    }

    #[test]
    fn secrets_are_found_by_the_names_of_their_variables() {
        let value = "abcdefghij0123456789";
        for name in
            ["GITHUB_TOKEN", "aws_secret_access_key", "DB_PASSWORD", "NPM_AUTHTOKEN", "MY_API_KEY", "STRIPE_SECRET"]
        {
            assert_eq!(find_secret(name, value).as_deref(), Some(value), "{name}");
        }
        for name in ["PATH", "HOME", "LS_COLORS", "SSH_AUTH_SOCK", "TOKENIZERS_PARALLELISM", "KEYBOARD", "PWD"] {
            assert_eq!(find_secret(name, value), None, "{name}");
        }
    }

    #[test]
    fn a_credential_is_a_secret_if_the_name_of_its_variable_allows_it() {
        for (name, value) in [
            ("DOCS_AUTH", "Bearer kFq9xB2mWz7RtY4p"),
            ("SITE_COOKIE", "theme=dark; sid=x7Kp2qL9x7Kp4Tz1"),
            ("WEB_SESSION", "x7Kp2qL9x7Kp4Tz1"),
            ("HTTP_AUTHORIZATION", "abcdefghij0123456789"),
        ] {
            assert_eq!(find_secret(name, value).as_deref(), Some(value), "{name}");
        }
        for (name, value) in [
            ("DESKTOP_SESSION", "plasma-wayland-session"),
            ("GIT_AUTHOR", "kFq9xB2mWz7RtY4p"),
            ("XAUTHORITY", "kFq9xB2mWz7RtY4p"),
            ("DOCS_AUTH", "platform engineering"),
        ] {
            assert_eq!(find_secret(name, value), None, "{name}");
        }
    }

    #[test]
    fn short_values_and_paths_are_not_secrets() {
        assert_eq!(find_secret("DB_PASSWORD", "postgres"), None);
        assert_eq!(find_secret("GOOGLE_CREDENTIALS", "/home/me/credentials.json"), None);
    }

    #[test]
    fn listed_variables_are_secrets_if_they_look_random() {
        let is_secret =
            |name: &str, value: &str| !secrets_in_listed_variables([(name.to_owned(), value.to_owned())]).is_empty();
        assert!(is_secret("DB_PASSWORD", "x7Kp2qL9") && !is_secret("DB_PASSWORD", "postgres"));
        for value in ["ghp_x2Yd81kQz0PmT4vB9s", "hunter2-a8f3b1c9d7e5", "Bearer kFq9xB2mWz7RtY4p"] {
            assert!(is_secret("LOGIN", value), "{value}");
        }
        for value in
            ["/home/me/.cargo/bin", "production", "2026-11-24T10:00:00", "x86_64-unknown-linux-gnu", "info,hyper=warn"]
        {
            assert!(!is_secret("RUST_LOG", value), "{value}");
        }
    }

    #[test]
    fn values_for_servers_are_secrets_unless_they_are_paths() {
        let is_secret = |value: &str| !secrets_for_servers([("SHOP_LOGIN".to_owned(), value.to_owned())]).is_empty();
        for value in ["correct horse", "postgres", "x7Kp2qL9", "/x7Kp2qL9x7Kp4Tz1x7Kp2qL9", "https://me:pw@db/x"] {
            assert!(is_secret(value), "{value}");
        }
        for value in ["/home/me/data", "./data", "../data", "~/notes", "/home/me/key.json", "/usr/bin:/bin"] {
            assert!(!is_secret(value), "{value}");
        }
    }

    #[test]
    fn the_password_of_a_url_is_a_secret() {
        let url = "postgres://me:correct-horse-battery@db:5432/x?y=a@b";
        assert_eq!(find_secret("DATABASE_URL", url).as_deref(), Some("correct-horse-battery"));
        assert_eq!(find_secret("HOMEPAGE", "https://example.org/a:b@c"), None);
    }
}
