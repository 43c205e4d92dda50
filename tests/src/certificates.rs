//! Certificates of an authority that exists for one test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Files in PEM: an authority, and one certificate of it that servers and clients use alike.
pub struct Certificates {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    /// For servers on loopback.
    ///
    /// # Panics
    /// The folder can't be written.
    pub fn issue(folder: &Path) -> Self {
        Self::issue_for(folder, &["127.0.0.1", "localhost"])
    }

    /// For servers of these names.
    ///
    /// # Panics
    /// As of [`Certificates::issue`].
    pub fn issue_for(folder: &Path, names: &[&str]) -> Self {
        let files = Self {
            ca: folder.join("ca.pem"),
            cert: folder.join("cert.pem"),
            key: folder.join("key.pem"),
        };
        let mut of_ca = CertificateParams::new(Vec::new()).expect("no names are wrong names");
        of_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().expect("the system has entropy");
        let ca = of_ca.self_signed(&ca_key).expect("it can be signed");
        let key = KeyPair::generate().expect("the system has entropy");
        let names = names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let issuer = Issuer::new(of_ca, ca_key);
        let cert = CertificateParams::new(names).expect("these are names");
        let cert = cert.signed_by(&key, &issuer).expect("it can be signed");
        for (file, text) in
            [(&files.ca, ca.pem()), (&files.cert, cert.pem()), (&files.key, key.serialize_pem())]
        {
            std::fs::write(file, text).expect("the folder can be written");
        }
        files
    }
    /// For a server of a test's own that shows the certificate.
    ///
    /// # Panics
    /// The files were changed.
    pub fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::pem_file_iter(&self.cert).expect("it can be read");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("it is in PEM");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("it is in PEM");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("they are known");
        let config = config.with_no_client_auth().with_single_cert(chain, key);
        TlsAcceptor::from(Arc::new(config.expect("they belong together")))
    }
}
