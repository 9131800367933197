//! Stores paths as JSON without loss.
//!
//! serde refuses a path that is not UTF-8. A program chooses the names of its files, so it could prevent orch from
//! storing a state that contains them. Each module here is for `#[serde(with = …)]`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// The beginning of the stored form of a path that is not UTF-8, before the hexadecimal digits of its bytes.
const HEX_PREFIX: &str = "hex:";

/// The stored form of a path: its text, or its bytes after [`HEX_PREFIX`].
fn encode(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.starts_with(HEX_PREFIX) => text.to_owned(),
        Some(_) | None => {
            let mut text = HEX_PREFIX.to_owned();
            for byte in path.as_os_str().as_bytes() {
                // Writing to a string never fails.
                let _ = write!(text, "{byte:02x}");
            }
            text
        }
    }
}

/// The path with this stored form.
///
/// # Errors
/// [`encode`] does not return this text.
fn decode(text: &str) -> Result<PathBuf, String> {
    let Some(digits) = text.strip_prefix(HEX_PREFIX) else { return Ok(PathBuf::from(text)) };
    let invalid = || format!("`{text}` is not the stored form of a path");
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok()?;
        let is_byte = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
        if is_byte { u8::from_str_radix(pair, 16).ok() } else { None }
    };
    let bytes = digits.as_bytes().chunks(2).map(byte).collect::<Option<Vec<u8>>>().ok_or_else(invalid)?;
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

/// For a path.
pub(super) mod path {
    use std::path::{Path, PathBuf};

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::encode(path))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        super::decode(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// For a collection of paths.
pub(super) mod paths {
    use std::path::PathBuf;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in super::super) fn serialize<'p, C, S>(paths: &'p C, serializer: S) -> Result<S::Ok, S::Error>
    where
        &'p C: IntoIterator<Item = &'p PathBuf>,
        S: Serializer,
    {
        serializer.collect_seq(paths.into_iter().map(|path| super::encode(path)))
    }

    pub(in super::super) fn deserialize<'de, C, D>(deserializer: D) -> Result<C, D::Error>
    where
        C: FromIterator<PathBuf>,
        D: Deserializer<'de>,
    {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| super::decode(text).map_err(D::Error::custom)).collect()
    }
}

/// For a map whose keys are paths.
pub(super) mod map {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<V: Serialize, S: Serializer>(
        map: &BTreeMap<PathBuf, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter().map(|(path, value)| (super::encode(path), value)))
    }

    pub(in super::super) fn deserialize<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<PathBuf, V>, D::Error> {
        let entries = Vec::<(String, V)>::deserialize(deserializer)?.into_iter();
        entries.map(|(text, value)| Ok((super::decode(&text).map_err(D::Error::custom)?, value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn every_path_is_stored_without_loss() {
        for (bytes, stored) in [
            (&b"/srv/a b"[..], "/srv/a b"),
            (&b"../\xc3\xa4"[..], "../\u{e4}"),
            (&b"/n\xff"[..], "hex:2f6eff"),
            (&b"hex:2f"[..], "hex:6865783a3266"),
        ] {
            let path = Path::new(OsStr::from_bytes(bytes));
            assert_eq!((encode(path).as_str(), decode(stored).unwrap().as_path()), (stored, path));
        }
        for invalid in ["hex:2", "hex:zz", "hex:+1", "hex:\u{e4}"] {
            assert!(decode(invalid).is_err(), "{invalid}");
        }
    }
}
