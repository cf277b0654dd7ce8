//! Encryption, configured once at start: a server that cannot encrypt as asked does not start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

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

/// Reads the files and checks that they belong together.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, Error> {
    let bad = |file: &Path, reason: String| Error::Tls { file: file.to_path_buf(), reason };
    let read = |file: &Path| std::fs::read(file).map_err(|error| bad(file, error.to_string()));

    let chain = CertificateDer::pem_slice_iter(&read(&files.certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(&files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(bad(&files.certificate, "holds no certificate".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| bad(&files.key, format!("holds no usable private key: {error}")))?;

    // Named rather than the process default: more than one provider is linked into the binary.
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&files.key, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| bad(&files.key, format!("does not fit the certificate: {error}")))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What a client must ask for if it starts with TLS right away (libpq's `sslnegotiation=direct`).
pub(crate) const ALPN: &[u8] = b"postgresql";
