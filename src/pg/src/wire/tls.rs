//! Encryption, configured once at start: a server that cannot encrypt as asked does not start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::aws_lc_rs::digest;
use neuroql_access::ClientCertificate;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::{NoClientAuth, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection};
use x509_certificate::X509Certificate;

use crate::Error;

/// Certificates and private key, in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, followed by any intermediate ones.
    pub certificate: PathBuf,
    /// Its private key, in PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// Certificates of the authorities that sign those of clients. With it clients may show one; host rules ask for it.
    pub client_authorities: Option<PathBuf>,
}

/// Encryption of connections.
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// The hash of the certificate that a password exchange may be bound to, see [`end_point`].
    pub(crate) end_point: Option<Vec<u8>>,
}

/// Reads the files and checks that they belong together.
pub(crate) fn read(files: &TlsFiles) -> Result<Tls, Error> {
    let (acceptor, end_point) = open(files, ALPN, files.client_authorities.as_deref())?;
    Ok(Tls { acceptor, end_point })
}

/// Reads the files for another protocol, by its name in ALPN, whose clients are not asked for certificates.
///
/// # Errors
/// [`Error::Tls`] if they cannot be read or do not belong together.
pub fn acceptor(files: &TlsFiles, protocol: &[u8]) -> Result<TlsAcceptor, Error> {
    open(files, protocol, None).map(|(acceptor, _)| acceptor)
}

/// Returns the certificate that the client of a connection has shown, if it has.
pub(crate) fn client_certificate(connection: &ServerConnection) -> Option<ClientCertificate> {
    let shown = connection.peer_certificates()?.first()?;
    let parsed = X509Certificate::from_der(shown).ok();
    Some(ClientCertificate { common_name: parsed.and_then(|parsed| parsed.subject_common_name()) })
}

fn bad(file: &Path, reason: impl ToString) -> Error {
    Error::Tls { file: file.to_path_buf(), reason: reason.to_string() }
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = std::fs::read(file).map_err(|error| bad(file, error))?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| bad(file, error))?;
    if found.is_empty() { Err(bad(file, "holds no certificate")) } else { Ok(found) }
}

fn open(
    files: &TlsFiles,
    protocol: &[u8],
    client_authorities: Option<&Path>,
) -> Result<(TlsAcceptor, Option<Vec<u8>>), Error> {
    let chain = read_certificates(&files.certificate)?;
    let end_point = end_point(&chain[0]);
    let key = std::fs::read(&files.key).map_err(|error| bad(&files.key, error))?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| bad(&files.key, format!("holds no usable private key: {error}")))?;

    // The provider is named because more than one is linked into the binary.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = match client_authorities {
        Some(file) => {
            let mut authorities = RootCertStore::empty();
            for certificate in read_certificates(file)? {
                authorities.add(certificate).map_err(|error| bad(file, error))?;
            }
            WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(|error| bad(file, error))?
        }
        None => Arc::new(NoClientAuth),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&files.key, error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| bad(&files.key, format!("does not fit the certificate: {error}")))?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), end_point))
}

/// Protocol that a client must name if it starts with TLS right away (libpq's `sslnegotiation=direct`).
pub(crate) const ALPN: &[u8] = b"postgresql";

/// Returns `tls-server-end-point` of RFC 5929: the certificate's hash by the function of its signature, SHA-256 for
/// weaker ones. `None` if the signature names no known function.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    const SIGNATURES: [(&[u8], &digest::Algorithm); 8] = [
        // With RSA: MD5, SHA-1, SHA-256, SHA-384, SHA-512.
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], &digest::SHA256),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], &digest::SHA256),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b], &digest::SHA256),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c], &digest::SHA384),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d], &digest::SHA512),
        // With ECDSA.
        (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], &digest::SHA256),
        (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], &digest::SHA384),
        (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], &digest::SHA512),
    ];
    // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, … }, … }
    let (content, _) = element(certificate, 0x30)?;
    let (_, rest) = element(content, 0x30)?;
    let (algorithm, _) = element(rest, 0x30)?;
    let (identifier, _) = element(algorithm, 0x06)?;
    let (_, hash) = SIGNATURES.iter().find(|(known, _)| *known == identifier)?;
    Some(digest::digest(hash, certificate).as_ref().to_vec())
}

/// Returns the content of the DER element at the beginning of `bytes`, and the bytes after it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = bytes else { return None };
    let (length, rest) = match usize::from(*length) {
        short @ 0..0x80 => (short, rest),
        long => {
            let (digits, rest) = rest.split_at_checked(long - 0x80).filter(|(digits, _)| digits.len() <= 4)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    (*found == tag).then(|| rest.split_at_checked(length)).flatten()
}
