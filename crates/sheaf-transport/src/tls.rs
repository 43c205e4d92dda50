//! TLS to servers of others: who is trusted to say which server it is.
//!
//! A server is believed when one of the authorities has signed its certificate, and the certificate names the host that was asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::hyper::{HttpOptions, HyperTransport, tcp};

/// Why nobody could be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{0} can't be read as certificates in PEM: {1}")]
    File(PathBuf, rustls::pki_types::pem::Error),
    #[error("a certificate in {0} can't be used: {1}")]
    Certificate(PathBuf, rustls::Error),
    #[error("{0} has no certificate in PEM")]
    Empty(PathBuf),
    #[error(
        "the system has no authorities that can be read{0}; install its package ca-certificates, or name a file of them"
    )]
    System(String),
    #[error("TLS can't be spoken: {0}")]
    Library(#[from] rustls::Error),
}

/// How TLS is spoken: by the library's own code, whatever other code in the process uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A client that believes the authorities in this file in PEM; `None`: those that the system trusts.
///
/// # Errors
/// There are none.
pub fn client(authorities: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let roots = match authorities {
        Some(file) => of_file(file)?,
        None => of_system()?,
    };
    let client =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(client.with_root_certificates(roots).with_no_client_auth())
}

fn of_file(file: &Path) -> Result<RootCertStore, TlsError> {
    let unreadable = |error| TlsError::File(file.to_owned(), error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
        let added = roots.add(certificate.map_err(unreadable)?);
        added.map_err(|error| TlsError::Certificate(file.to_owned(), error))?;
    }
    if roots.is_empty() { Err(TlsError::Empty(file.to_owned())) } else { Ok(roots) }
}

fn of_system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems ship certificates that no library can use; the others count.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(TlsError::System(why));
    }
    Ok(roots)
}

impl HyperTransport<HttpsConnector<HttpConnector>> {
    /// A client that speaks TLS to peers whose URL begins with `https`, and trusts whom `tls` trusts.
    pub fn with_tls(options: HttpOptions, tls: Arc<ClientConfig>) -> Self {
        let mut tcp = tcp(options);
        tcp.enforce_http(false);
        Self::with_connector(HttpsConnector::from((tcp, tls)), options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_authority_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        assert!(client(Some(&file)).unwrap_err().to_string().contains("ca.pem"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, says) in
            [("", "no certificate"), ("hush", "no certificate"), (broken, "can't be used")]
        {
            std::fs::write(&file, text).unwrap();
            let said = client(Some(&file)).unwrap_err().to_string();
            assert!(
                said.contains(says) && said.contains("ca.pem") && !said.contains("hush"),
                "{said}"
            );
        }
    }
}
