//! AWS credentials, with which orch signs each request.

use reqwest::header::HeaderName;
use secrecy::{ExposeSecret as _, SecretString};

use super::sigv4::{CredentialScope, SignableRequest, sign};
use super::{Auth, UnauthenticatedRequest, invalid_secret, secret_header};
use crate::model::failure::{Failure, FailureClass};

/// The environment variable with the id of the access key.
const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
/// The environment variable with the secret of the access key.
const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
/// The environment variable with the token of temporary credentials.
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// The environment variables with AWS credentials. The last one is needed for temporary credentials only.
pub const AWS_VARIABLES: [&str; 3] = [ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN];

/// The environment variable with the secret that signs requests, which disclosures name.
pub const AWS_SECRET_VARIABLE: &str = SECRET_ACCESS_KEY;

/// AWS credentials and the region whose models they are for.
#[derive(Clone, Debug)]
pub struct AwsAuth {
    region: String,
    access_key_id: Option<String>,
    secret_access_key: Option<SecretString>,
    session_token: Option<SecretString>,
}

impl AwsAuth {
    /// The credentials in the environment, for a region.
    pub fn from_variables(region: &str, variables: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            region: region.to_owned(),
            access_key_id: variables(ACCESS_KEY_ID).map(|id| id.trim().to_owned()),
            secret_access_key: variables(SECRET_ACCESS_KEY).map(SecretString::from),
            session_token: variables(SESSION_TOKEN).map(SecretString::from),
        }
    }
}

impl Auth for AwsAuth {
    fn authenticate(&self, request: &mut UnauthenticatedRequest<'_>) -> Result<(), Failure> {
        let Some((id, secret)) = self.access_key_id.as_deref().zip(self.secret_access_key.as_ref()) else {
            let message = format!("{} needs AWS credentials, and none are set", request.provider);
            return Err(Failure::new(FailureClass::Auth, message).with_hint(self.refused_hint(request.provider)));
        };
        let timestamp = request.now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let invalid = |kind: &str, variable: &str| invalid_secret(request.provider, kind, Some(variable));
        let date = secret_header(&timestamp).ok_or_else(|| invalid("date", ACCESS_KEY_ID))?;
        request.headers.insert(HeaderName::from_static("x-amz-date"), date);
        if let Some(token) = &self.session_token {
            let token = secret_header(token.expose_secret().trim()).ok_or_else(|| invalid("token", SESSION_TOKEN))?;
            request.headers.insert(HeaderName::from_static("x-amz-security-token"), token);
        }
        let request_to_sign = SignableRequest {
            method: "POST",
            url: request.url,
            headers: request.headers,
            body: request.body,
            timestamp: &timestamp,
        };
        let scope = CredentialScope { region: &self.region, service: "bedrock" };
        let signature = sign(&request_to_sign, &scope, secret.expose_secret().trim());
        let authorization = signature.authorization(id, &scope, &timestamp);
        let value = secret_header(&authorization).ok_or_else(|| invalid("key id", ACCESS_KEY_ID))?;
        request.headers.insert(HeaderName::from_static("authorization"), value);
        Ok(())
    }

    fn variables(&self) -> Vec<&str> {
        let token = self.session_token.as_ref().map(|_| SESSION_TOKEN);
        [ACCESS_KEY_ID, SECRET_ACCESS_KEY].into_iter().chain(token).collect()
    }

    fn missing_variable(&self) -> Option<&str> {
        if self.access_key_id.is_none() {
            Some(ACCESS_KEY_ID)
        } else if self.secret_access_key.is_none() {
            Some(SECRET_ACCESS_KEY)
        } else {
            None
        }
    }

    fn secrets(&self) -> Vec<(Option<&str>, &SecretString)> {
        let secrets = [(SECRET_ACCESS_KEY, &self.secret_access_key), (SESSION_TOKEN, &self.session_token)];
        secrets.into_iter().filter_map(|(name, secret)| Some((Some(name), secret.as_ref()?))).collect()
    }

    fn refused_hint(&self, _: &str) -> String {
        format!(
            "set {ACCESS_KEY_ID} and {SECRET_ACCESS_KEY}, and {SESSION_TOKEN} for temporary credentials; \
             `aws configure export-credentials --format env` prints those of your AWS profile"
        )
    }

    fn denied_hint(&self, _: &str) -> String {
        let region = &self.region;
        format!(
            "allow `bedrock:InvokeModel` for the credentials in {ACCESS_KEY_ID}, and enable the model for the account \
             in the region {region}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(variables: &'static [(&'static str, &'static str)]) -> AwsAuth {
        AwsAuth::from_variables("us-east-1", |name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_missing_variable_is_named_and_debug_output_contains_no_secret() {
        assert_eq!(auth(&[]).missing_variable(), Some(ACCESS_KEY_ID));
        assert_eq!(auth(&[(ACCESS_KEY_ID, "AKID")]).missing_variable(), Some(SECRET_ACCESS_KEY));
        let complete = auth(&[(ACCESS_KEY_ID, "AKID"), (SECRET_ACCESS_KEY, "hunter2"), (SESSION_TOKEN, "token-1")]);
        assert_eq!(complete.missing_variable(), None);
        assert_eq!(complete.variables(), AWS_VARIABLES);
        let names: Vec<Option<&str>> = complete.secrets().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [Some(SECRET_ACCESS_KEY), Some(SESSION_TOKEN)]);
        let debug_output = format!("{complete:?}");
        assert!(!debug_output.contains("hunter2") && !debug_output.contains("token-1"), "{debug_output}");
    }
}
