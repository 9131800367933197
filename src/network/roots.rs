//! The root certificates of TLS that the environment names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::model::failure::{Failure, FailureClass};

/// The TLS configuration that trusts the certificates in a file and in folders; `None` if there is neither.
pub(super) fn client_config(file: Option<&Path>, dirs: &[PathBuf]) -> Result<Option<ClientConfig>, Failure> {
    let Some(certificates) = read_certificates(file, dirs)? else { return Ok(None) };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = EnvRootVerifier::new(certificates, provider.clone())?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable_certificates(&error.to_string()))?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(config))
}

fn unusable_certificates(reason: &str) -> Failure {
    let message = format!("the certificates of SSL_CERT_FILE and SSL_CERT_DIR can't be used: {reason}");
    Failure::new(FailureClass::BadRequest, message)
        .with_hint("correct these variables, or unset them to trust the certificates of the system")
}

/// Reads the certificates in a file and in folders; `None` if there is neither.
fn read_certificates(file: Option<&Path>, dirs: &[PathBuf]) -> Result<Option<Vec<CertificateDer<'static>>>, Failure> {
    if file.is_none() && dirs.is_empty() {
        return Ok(None);
    }
    let mut certificates = Vec::new();
    if let Some(file) = file {
        certificates.extend(read_file(file)?);
    }
    let mut first_error = None;
    let mut has_readable_folder = false;
    for dir in dirs {
        match read_folder(dir) {
            Ok(folder_certificates) => {
                has_readable_folder = true;
                certificates.extend(folder_certificates);
            }
            Err(error) => first_error = first_error.or(Some((dir, error))),
        }
    }
    // Ignore an unreadable folder if another one is readable, since such a list often names the folders of several
    // systems.
    if let (false, Some((dir, error))) = (has_readable_folder, first_error) {
        return Err(invalid_variable("SSL_CERT_DIR", dir, &format!("which can't be read: {error}")));
    }
    if certificates.is_empty() {
        return Err(unusable_certificates("they hold no certificate in PEM"));
    }
    Ok(Some(certificates))
}

fn invalid_variable(variable: &str, path: &Path, reason: &str) -> Failure {
    Failure::new(FailureClass::BadRequest, format!("{variable} names `{}`, {reason}", path.display()))
        .with_hint(format!("correct {variable}, or unset it to trust the certificates of the system"))
}

fn read_file(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let bytes = std::fs::read(file)
        .map_err(|error| invalid_variable("SSL_CERT_FILE", file, &format!("which can't be read: {error}")))?;
    let certificates = parse_pem(&bytes);
    let has_header = bytes.windows(PEM_HEADER.len()).any(|window| window == PEM_HEADER);
    if has_header && !certificates.iter().any(is_parsable) {
        return Err(invalid_variable("SSL_CERT_FILE", file, "whose certificates can't be read: they are damaged"));
    }
    if certificates.is_empty() {
        let reason = "which holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`)";
        return Err(invalid_variable("SSL_CERT_FILE", file, reason));
    }
    Ok(certificates)
}

/// Reads the certificates in a folder. Ignores files without certificates, as OpenSSL does.
fn read_folder(dir: &Path) -> std::io::Result<Vec<CertificateDer<'static>>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        paths.push(entry?.path());
    }
    paths.sort();
    let files = paths.iter().filter(|path| path.is_file()).filter_map(|path| std::fs::read(path).ok());
    Ok(files.flat_map(|bytes| parse_pem(&bytes)).collect())
}

/// The first line of a certificate in PEM.
const PEM_HEADER: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Whether a certificate can be parsed as a CA certificate or as a server certificate.
fn is_parsable(certificate: &CertificateDer<'_>) -> bool {
    webpki::anchor_from_trusted_cert(certificate).is_ok() || ParsedCertificate::try_from(certificate).is_ok()
}

fn parse_pem(bytes: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(bytes).filter_map(Result::ok).collect()
}

/// Trusts a certificate chain that ends with a certificate from the environment, and a server that presents such a
/// certificate as its own.
#[derive(Debug)]
struct EnvRootVerifier {
    inner: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl EnvRootVerifier {
    fn new(trusted: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(trusted.iter().cloned());
        if added == 0 {
            return Err(unusable_certificates("none of them can be parsed"));
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| unusable_certificates(&error.to_string()))?;
        Ok(Self { inner, trusted })
    }

    /// Whether a server presents a trusted CA certificate as its own, such as one from `openssl req -x509`.
    ///
    /// WebPKI checks the validity period of such a certificate and then refuses it because it is a CA certificate. The
    /// owner of its key could sign a certificate for any server anyway, so accepting it for the server adds no risk.
    fn is_trusted_ca(&self, error: &Error, certificate: &CertificateDer<'_>) -> bool {
        is_ca_used_as_server(error) && self.trusted.iter().any(|trusted| trusted.as_ref() == certificate.as_ref())
    }
}

/// The hint for a certificate that is not trusted.
const TRUST_HINT: &str = "if you trust it, set SSL_CERT_FILE (a file in PEM) or SSL_CERT_DIR to the certificate of its authority, or to the certificate itself if it is self-signed";

/// The reason why orch does not trust a certificate, and a hint; `None` if the error has another cause.
pub(super) fn certificate_problem(error: &(dyn std::error::Error + 'static)) -> Option<(String, String)> {
    let error = tls_error(error)?;
    let Error::InvalidCertificate(cause) = error else { return None };
    let (reason, hint) = match cause {
        _ if is_ca_used_as_server(error) => ("it is self-signed and not a trusted certificate".to_owned(), TRUST_HINT),
        CertificateError::UnknownIssuer => ("no trusted authority signed it (UnknownIssuer)".to_owned(), TRUST_HINT),
        CertificateError::Other(other) => (other.0.to_string(), TRUST_HINT),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (cause.to_string(), "renew the certificate of the server, and check the clock of this machine")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            (cause.to_string(), "use a host name of the certificate in the base URL")
        }
        _ => (cause.to_string(), TRUST_HINT),
    };
    Some((reason, hint.to_owned()))
}

/// Whether the server did not reply to a TLS handshake with TLS.
pub(super) fn is_not_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(tls_error(error), Some(Error::InvalidMessage(_)))
}

/// The TLS error that caused another error.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    // `source` of an `io::Error` skips the error that it wraps, so unwrap each `io::Error` here.
    fn as_tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
        match error.downcast_ref::<io::Error>() {
            Some(outer) => as_tls_error(outer.get_ref()?),
            None => error.downcast_ref::<Error>(),
        }
    }
    std::iter::successors(Some(error), |&e| e.source()).find_map(as_tls_error)
}

/// Whether WebPKI refused a server's certificate because it is a CA certificate.
fn is_ca_used_as_server(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            matches!(other.0.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

impl ServerCertVerifier for EnvRootVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(error) if self.is_trusted_ca(&error, end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
