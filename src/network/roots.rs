//! Which servers are trusted over TLS: those whose certificate chain leads to a certificate that the environment names,
//! or, where it names none, to one of the system.

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

use crate::model::failure::{Class, Failure};

/// The TLS configuration that trusts the certificates of a file and of folders; `None` where neither is named.
pub(super) fn config(file: Option<&Path>, dirs: &[PathBuf]) -> Result<Option<ClientConfig>, Failure> {
    let Some(certificates) = named_certificates(file, dirs)? else { return Ok(None) };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = NamedRoots::new(certificates, provider.clone())?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error.to_string()))?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(config))
}

fn unusable(why: &str) -> Failure {
    Failure::new(Class::BadRequest, format!("the certificates of SSL_CERT_FILE and SSL_CERT_DIR can't be used: {why}"))
        .with_hint("correct these variables, or unset them to trust the certificates of the system")
}

/// The certificates that the environment names; `None` if it names none.
fn named_certificates(file: Option<&Path>, dirs: &[PathBuf]) -> Result<Option<Vec<CertificateDer<'static>>>, Failure> {
    if file.is_none() && dirs.is_empty() {
        return Ok(None);
    }
    let mut all = Vec::new();
    if let Some(file) = file {
        all.extend(of_file(file)?);
    }
    let mut unread = None;
    let mut any = false;
    for dir in dirs {
        match of_folder(dir) {
            Ok(certificates) => {
                any = true;
                all.extend(certificates);
            }
            Err(error) => unread = unread.or(Some((dir, error))),
        }
    }
    // A folder may be missing as long as another can be read: such lists often serve several systems.
    if let (false, Some((dir, error))) = (any, unread) {
        return Err(wrong("SSL_CERT_DIR", dir, &format!("which can't be read: {error}")));
    }
    if all.is_empty() {
        return Err(unusable("they hold no certificate in PEM"));
    }
    Ok(Some(all))
}

fn wrong(variable: &str, path: &Path, why: &str) -> Failure {
    Failure::new(Class::BadRequest, format!("{variable} names `{}`, {why}", path.display()))
        .with_hint(format!("correct {variable}, or unset it to trust the certificates of the system"))
}

fn of_file(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let bytes =
        std::fs::read(file).map_err(|error| wrong("SSL_CERT_FILE", file, &format!("which can't be read: {error}")))?;
    let certificates = of_pem(&bytes);
    if bytes.windows(MARK.len()).any(|part| part == MARK) && !certificates.iter().any(is_readable) {
        return Err(wrong("SSL_CERT_FILE", file, "whose certificates can't be read: they are damaged"));
    }
    if certificates.is_empty() {
        return Err(wrong("SSL_CERT_FILE", file, "which holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`)"));
    }
    Ok(certificates)
}

/// The certificates in a folder; files that hold none are ignored, as OpenSSL does.
fn of_folder(dir: &Path) -> std::io::Result<Vec<CertificateDer<'static>>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        paths.push(entry?.path());
    }
    paths.sort();
    let files = paths.iter().filter(|path| path.is_file()).filter_map(|path| std::fs::read(path).ok());
    Ok(files.flat_map(|bytes| of_pem(&bytes)).collect())
}

/// The first line of a certificate in PEM.
const MARK: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Whether a certificate can be parsed, as an authority's or as a server's.
fn is_readable(certificate: &CertificateDer<'_>) -> bool {
    webpki::anchor_from_trusted_cert(certificate).is_ok() || ParsedCertificate::try_from(certificate).is_ok()
}

fn of_pem(bytes: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(bytes).filter_map(Result::ok).collect()
}

/// Trusts chains that lead to a named certificate, and a server that presents a named certificate itself.
#[derive(Debug)]
struct NamedRoots {
    inner: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl NamedRoots {
    fn new(named: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(named.iter().cloned());
        if added == 0 {
            return Err(unusable("none of them can be read"));
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| unusable(&error.to_string()))?;
        Ok(Self { inner, named })
    }

    /// Whether a server presents a named certificate that is an authority's, such as `openssl req -x509` makes.
    ///
    /// WebPKI refuses it only because it is an authority's, and has checked its validity period before. The holder of
    /// its key could sign a certificate for any server, so accepting it for its own name trusts no further server.
    fn is_named(&self, error: &Error, certificate: &CertificateDer<'_>) -> bool {
        is_ca_as_server(error) && self.named.iter().any(|named| named.as_ref() == certificate.as_ref())
    }
}

/// The hint for a certificate that is not trusted.
const NAME_IT: &str = "if it is one of your own, name the authority that signed it, or the server's certificate if it signed itself, in SSL_CERT_FILE (a file in PEM) or SSL_CERT_DIR";

/// Why a certificate is not trusted, and a hint.
pub(super) fn distrust(error: &(dyn std::error::Error + 'static)) -> Option<(String, String)> {
    let error = tls_error(error)?;
    let Error::InvalidCertificate(why) = error else { return None };
    let (words, hint) = match why {
        _ if is_ca_as_server(error) => ("it is self-signed, and not among those that are trusted".to_owned(), NAME_IT),
        CertificateError::UnknownIssuer => ("nobody who is trusted signed it (UnknownIssuer)".to_owned(), NAME_IT),
        CertificateError::Other(other) => (other.0.to_string(), NAME_IT),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (why.to_string(), "renew the certificate of the server, and check the clock of this machine")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            (why.to_string(), "use a host in the base URL that the certificate is for")
        }
        _ => (why.to_string(), NAME_IT),
    };
    Some((words, hint.to_owned()))
}

/// Whether a server answered a TLS handshake with something else.
pub(super) fn is_no_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(tls_error(error), Some(Error::InvalidMessage(_)))
}

/// The TLS error that caused another error.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    // `source` of an `io::Error` skips the error that it holds, which may be another `io::Error`.
    fn inside<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
        match error.downcast_ref::<io::Error>() {
            Some(outer) => inside(outer.get_ref()?),
            None => error.downcast_ref::<Error>(),
        }
    }
    std::iter::successors(Some(error), |&e| e.source()).find_map(inside)
}

/// Whether WebPKI refused a server's certificate because it is an authority's.
fn is_ca_as_server(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            matches!(other.0.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

impl ServerCertVerifier for NamedRoots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(error) if self.is_named(&error, end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
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
