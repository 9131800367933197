//! Checks the signatures of requests like a server of AWS: from the published algorithm, not with orch's code.

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

use super::Recorded;

impl Recorded {
    /// Whether the signature of the request belongs to this secret key and to all parts of the request.
    pub(crate) fn has_aws_signature(&self, secret: &str) -> bool {
        self.expected_aws_signature(secret).is_some_and(|(expected, sent)| expected == sent)
    }

    /// The signature that the request should have, and the one that it has.
    fn expected_aws_signature(&self, secret: &str) -> Option<(String, String)> {
        let authorization = self.header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let field = |name: &str| {
            authorization.split(", ").find_map(|part| part.strip_prefix(&format!("{name}=")).map(str::to_owned))
        };
        let (credential, names, sent) = (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
        let scope: Vec<&str> = credential.split('/').skip(1).collect();
        let headers: Vec<String> =
            names.split(';').map(|name| Some(format!("{name}:{}\n", self.header(name)?))).collect::<Option<_>>()?;
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        // Every character of the path counts once more, also the percent signs of its encoding.
        let path: String = path
            .bytes()
            .map(|byte| match byte {
                b'/' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
                byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        let mut query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
        query.sort_unstable();
        let canonical = [
            self.method.clone(),
            path,
            query.join("&"),
            headers.concat(),
            names.clone(),
            hex(&Sha256::digest(&self.bytes)),
        ];
        let to_sign = [
            "AWS4-HMAC-SHA256".to_owned(),
            self.header("x-amz-date")?.to_owned(),
            scope.join("/"),
            hex(&Sha256::digest(canonical.join("\n"))),
        ];
        let key = scope.iter().fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
        Some((hex(&hmac(&key, to_sign.join("\n").as_bytes())), sent))
    }
}

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
