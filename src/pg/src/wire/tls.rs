//! Encryption, configured once at start: a server that cannot encrypt as asked does not start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::aws_lc_rs::digest;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;

use crate::Error;

/// Certificate chain and private key, both in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, followed by any intermediate ones.
    pub certificate: PathBuf,
    /// Its private key, in PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Encryption of connections.
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// The hash of the certificate that a password exchange may be bound to, see [`end_point`].
    pub(crate) end_point: Option<Vec<u8>>,
}

/// Reads the files and checks that they belong together.
pub(crate) fn read(files: &TlsFiles) -> Result<Tls, Error> {
    let (acceptor, end_point) = open(files, ALPN)?;
    Ok(Tls { acceptor, end_point })
}

/// Reads the files for another protocol, by its name in ALPN.
///
/// # Errors
/// [`Error::Tls`] if they cannot be read or do not belong together.
pub fn acceptor(files: &TlsFiles, protocol: &[u8]) -> Result<TlsAcceptor, Error> {
    open(files, protocol).map(|(acceptor, _)| acceptor)
}

fn open(files: &TlsFiles, protocol: &[u8]) -> Result<(TlsAcceptor, Option<Vec<u8>>), Error> {
    let bad = |file: &Path, reason: String| Error::Tls { file: file.to_path_buf(), reason };
    let read = |file: &Path| std::fs::read(file).map_err(|error| bad(file, error.to_string()));

    let chain = CertificateDer::pem_slice_iter(&read(&files.certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(&files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(bad(&files.certificate, "holds no certificate".into()));
    }
    let end_point = end_point(&chain[0]);
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| bad(&files.key, format!("holds no usable private key: {error}")))?;

    // The provider is named because more than one is linked into the binary.
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&files.key, error.to_string()))?
        .with_no_client_auth()
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
