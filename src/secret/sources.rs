//! Which values of an environment are secrets, told by their names and their form.

use secrecy::SecretString;

/// Words that end the names of variables which hold secrets.
const WORDS: &[&str] =
    &["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "PAT"];
/// Endings of such names that are written in one word.
const ENDINGS: &[&str] = &["APIKEY", "AUTHTOKEN", "ACCESSKEY", "SECRETKEY", "PRIVATEKEY"];
/// A value of a variable that is a secret by its name alone is at least this long: a shorter one, such as
/// `postgres`, would hit ordinary text.
const LEAST: usize = 16;

/// The secrets among variables, each with its name: values of variables that are called like a secret, and
/// passwords in addresses.
pub fn secrets_among(variables: impl IntoIterator<Item = (String, String)>) -> Vec<(String, SecretString)> {
    let secret = |(name, value): (String, String)| {
        let found = if is_called_secret(&name) && !is_path(&value) { Some(value.trim()) } else { password(&value) };
        let found = found.filter(|value| value.len() >= LEAST)?.to_owned();
        Some((name, SecretString::from(found)))
    };
    variables.into_iter().filter_map(secret).collect()
}

fn is_called_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let last = name.trim_end_matches('_').rsplit('_').next().unwrap_or_default();
    WORDS.contains(&last) || ENDINGS.iter().any(|ending| last.ends_with(ending))
}

/// Whether a value names a file that holds the secret: `/home/me/key.json`.
fn is_path(value: &str) -> bool {
    let value = value.trim();
    ["/", "./", "~/"].iter().any(|start| value.starts_with(start)) && value.contains('.')
}

/// The password of an address: `pw` of `scheme://user:pw@host`.
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
    fn the_password_of_an_address_is_a_secret() {
        let address = "postgres://me:correct-horse-battery@db:5432/x?y=a@b";
        assert_eq!(found("DATABASE_URL", address).as_deref(), Some("correct-horse-battery"));
        assert_eq!(found("HOMEPAGE", "https://example.org/a:b@c"), None);
    }
}
