//! Which environment variables hold secrets, judged by their names and by the form of their values.

use secrecy::SecretString;

/// Words at the end of a variable's name that mark a secret.
const WORDS: &[&str] =
    &["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "PAT"];
/// Endings of names that are written as one word.
const ENDINGS: &[&str] = &["APIKEY", "AUTHTOKEN", "ACCESSKEY", "SECRETKEY", "PRIVATEKEY"];
/// The shortest value, in bytes, that counts as a secret. A shorter one, such as `postgres`, would match ordinary text.
const LEAST: usize = 16;

/// The secrets among variables, each with its name: values of variables with a secret's name, and passwords in URLs.
pub fn secrets_among(variables: impl IntoIterator<Item = (String, String)>) -> Vec<(String, SecretString)> {
    let secret = |(name, value): (String, String)| {
        let found = if is_called_secret(&name) && !is_path(&value) { Some(value.trim()) } else { password(&value) };
        let found = found.filter(|value| value.len() >= LEAST)?.to_owned();
        Some((name, SecretString::from(found)))
    };
    variables.into_iter().filter_map(secret).collect()
}

/// The secrets among variables that a pipeline passes to a command or a CLI agent by name: values that look random. If
/// the name marks a secret, shorter values count too.
pub fn secrets_listed(variables: impl IntoIterator<Item = (String, String)>) -> Vec<(String, SecretString)> {
    let secret = |(name, value): (String, String)| {
        let text = value.trim();
        let least = if is_called_secret(&name) { super::SHORTEST } else { LEAST };
        let found = text.len() >= least && !is_path(text) && looks_random(text);
        found.then(|| (name, SecretString::from(text.to_owned())))
    };
    variables.into_iter().filter_map(secret).collect()
}

/// Whether a value looks random: one long word whose digits, upper-case and lower-case letters alternate more than in
/// any word, name, path, URL or number: `ghp_x2Yd81kQ…`.
fn looks_random(value: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '=' | '~');
    let kind = |c: char| (c.is_ascii_digit(), c.is_ascii_uppercase());
    let letters: Vec<char> = value.chars().filter(char::is_ascii_alphanumeric).collect();
    let turns = letters.windows(2).filter(|pair| matches!(pair, [a, b] if kind(*a) != kind(*b))).count();
    value.chars().all(allowed) && turns * 5 >= letters.len()
}

fn is_called_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let last = name.trim_end_matches('_').rsplit('_').next().unwrap_or_default();
    WORDS.contains(&last) || ENDINGS.iter().any(|ending| last.ends_with(ending))
}

/// Whether a value is the path of a file that holds the secret: `/home/me/key.json`.
fn is_path(value: &str) -> bool {
    let value = value.trim();
    ["/", "./", "~/"].iter().any(|start| value.starts_with(start)) && value.contains('.')
}

/// The password in a URL: `pw` of `scheme://user:pw@host`.
fn password(value: &str) -> Option<&str> {
    let (_, rest) = value.trim().split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn found(name: &str, value: &str) -> Option<String> {
        let list = secrets_among([(name.to_owned(), value.to_owned())]);
        list.first().map(|(_, secret)| secret.expose_secret().to_owned())
    }

    #[test]
    fn secrets_are_told_by_the_names_of_their_variables() {
        let value = "abcdefghij0123456789";
        for name in
            ["GITHUB_TOKEN", "aws_secret_access_key", "DB_PASSWORD", "NPM_AUTHTOKEN", "MY_API_KEY", "STRIPE_SECRET"]
        {
            assert_eq!(found(name, value).as_deref(), Some(value), "{name}");
        }
        for name in ["PATH", "HOME", "LS_COLORS", "SSH_AUTH_SOCK", "TOKENIZERS_PARALLELISM", "KEYBOARD", "PWD"] {
            assert_eq!(found(name, value), None, "{name}");
        }
    }

    #[test]
    fn what_would_hit_ordinary_text_or_is_no_secret_is_left() {
        assert_eq!(found("DB_PASSWORD", "postgres"), None);
        assert_eq!(found("GOOGLE_CREDENTIALS", "/home/me/credentials.json"), None);
    }

    #[test]
    fn what_a_file_hands_on_is_a_secret_when_it_looks_like_one() {
        let is_found = |name: &str, value: &str| !secrets_listed([(name.to_owned(), value.to_owned())]).is_empty();
        assert!(is_found("DB_PASSWORD", "x7Kp2qL9") && !is_found("DB_PASSWORD", "postgres"));
        for value in ["ghp_x2Yd81kQz0PmT4vB9s", "hunter2-a8f3b1c9d7e5"] {
            assert!(is_found("LOGIN", value), "{value}");
        }
        for value in
            ["/home/me/.cargo/bin", "production", "2026-11-24T10:00:00", "x86_64-unknown-linux-gnu", "info,hyper=warn"]
        {
            assert!(!is_found("RUST_LOG", value), "{value}");
        }
    }

    #[test]
    fn the_password_of_an_address_is_a_secret() {
        let address = "postgres://me:correct-horse-battery@db:5432/x?y=a@b";
        assert_eq!(found("DATABASE_URL", address).as_deref(), Some("correct-horse-battery"));
        assert_eq!(found("HOMEPAGE", "https://example.org/a:b@c"), None);
    }
}
