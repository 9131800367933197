//! Checks the signatures of requests as AWS does, with an implementation of the published algorithm that shares no code
//! with orch.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::ReceivedRequest;

impl ReceivedRequest {
    /// Whether the signature of the request is valid for this secret key.
    pub(crate) fn has_aws_signature(&self, secret: &str) -> bool {
        self.aws_signatures(secret).is_some_and(|(expected, actual)| expected == actual)
    }

    /// The expected and the actual signature of the request.
    fn aws_signatures(&self, secret: &str) -> Option<(String, String)> {
        let authorization = self.header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let field = |name: &str| {
            authorization.split(", ").find_map(|part| part.strip_prefix(&format!("{name}=")).map(str::to_owned))
        };
        let (credential, signed_headers, actual) = (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
        let scope: Vec<&str> = credential.split('/').skip(1).collect();
        let headers: Vec<String> = signed_headers
            .split(';')
            .map(|name| Some(format!("{name}:{}\n", self.header(name)?)))
            .collect::<Option<_>>()?;
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        // AWS encodes the path of the request again, including its percent signs.
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
            signed_headers.clone(),
            hex(&Sha256::digest(&self.bytes)),
        ];
        let to_sign = [
            "AWS4-HMAC-SHA256".to_owned(),
            self.header("x-amz-date")?.to_owned(),
            scope.join("/"),
            hex(&Sha256::digest(canonical.join("\n"))),
        ];
        let key = scope.iter().fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
        Some((hex(&hmac(&key, to_sign.join("\n").as_bytes())), actual))
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
