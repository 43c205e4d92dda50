//! Whether PostgreSQL is spoken to in TLS, and who it has to be then.
//!
//! Decides from `sslmode` and `sslrootcert` of the URL. A server is either asked in plain text, or taken as it comes (`prefer`), or has to
//! show a certificate that names it and that is believed; from that there is no way back to plain text.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sheaf_transport::tls;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// `sslrootcert=system`: those that the system trusts.
const SYSTEM: &str = "system";

/// What a URL says of TLS.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    mode: Option<Mode>,
    authorities: Option<Authorities>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Verify,
}

#[derive(Debug, PartialEq, Eq)]
enum Authorities {
    System,
    File(PathBuf),
}

/// The URL without what is said of TLS, of which the library knows a part only, and that.
///
/// # Errors
/// A sentence that says what of it can't be, without the URL.
pub fn split(url: &str) -> Result<(String, Wanted), String> {
    // A password may have a `?`, and ends where the library lets it end.
    let host = url.find('@').unwrap_or_default();
    let Some(query) = url[host..].find('?').map(|at| host + at) else {
        return Ok((url.to_owned(), Wanted::default()));
    };
    let (mut wanted, mut others) = (Wanted::default(), Vec::new());
    for pair in url[query + 1..].split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_new = match name {
            "sslmode" => wanted.mode.replace(mode(value)?).is_none(),
            "sslrootcert" => wanted.authorities.replace(authorities(value)?).is_none(),
            // Such as a certificate to show: what isn't done must not look as if it were.
            _ if name.starts_with("ssl") => {
                return Err("of TLS it may say sslmode and sslrootcert only".to_owned());
            }
            _ => {
                others.push(pair);
                true
            }
        };
        if !is_new {
            return Err(format!("it says {name} twice"));
        }
    }
    let mut rest = url[..query].to_owned();
    if !others.is_empty() {
        rest.push('?');
        rest.push_str(&others.join("&"));
    }
    Ok((rest, wanted))
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "disable" => Ok(Mode::Disable),
        "prefer" => Ok(Mode::Prefer),
        "require" | "verify-full" => Ok(Mode::Verify),
        "verify-ca" => Err("sslmode=verify-ca would believe any server of that authority; write sslmode=verify-full, and a host that the \
                            server's certificate names"
            .to_owned()),
        _ => Err("its sslmode is none of disable, prefer, require and verify-full".to_owned()),
    }
}

fn authorities(text: &str) -> Result<Authorities, String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(file) if file.is_empty() => Err("its sslrootcert names no file".to_owned()),
        Ok(file) if file == SYSTEM => Ok(Authorities::System),
        Ok(file) => Ok(Authorities::File(PathBuf::from(file.into_owned()))),
        Err(_) => Err("its sslrootcert is no UTF-8".to_owned()),
    }
}

/// How sessions are begun.
#[derive(Clone)]
pub enum Tls {
    Plain,
    /// Whoever the server is, and in plain text if it has no TLS.
    Preferred(MakeRustlsConnect),
    /// It has to be believed.
    Verified(MakeRustlsConnect),
}

impl Tls {
    /// What is wanted, with the authorities in the file `ca` if the URL names none.
    ///
    /// # Errors
    /// A sentence that says what of it can't be.
    pub fn new(wanted: Wanted, ca: Option<&Path>) -> Result<Self, String> {
        let Wanted { mode, authorities } = wanted;
        let authorities = match (authorities, ca) {
            (Some(_), Some(_)) => {
                return Err(
                    "it has sslrootcert, and engine_ca is set; leave one of them out".to_owned()
                );
            }
            (authorities, ca) => authorities.or(ca.map(|file| Authorities::File(file.to_owned()))),
        };
        match (mode, &authorities) {
            (None | Some(Mode::Disable), None) => Ok(Self::Plain),
            (Some(Mode::Prefer), None) => Ok(Self::Preferred(MakeRustlsConnect::new(anybody()?))),
            (Some(Mode::Disable | Mode::Prefer), Some(_)) => Err(
                "its sslmode takes no notice of who the server is, and an authority is named for that; write sslmode=verify-full, or leave \
                 sslmode out"
                    .to_owned(),
            ),
            (None | Some(Mode::Verify), authorities) => {
                let file = match authorities {
                    Some(Authorities::File(file)) => Some(&**file),
                    Some(Authorities::System) | None => None,
                };
                let config = tls::client(file).map_err(|error| error.to_string())?;
                Ok(Self::Verified(MakeRustlsConnect::new(config)))
            }
        }
    }

    /// The same for the library.
    pub fn mode(&self) -> SslMode {
        match self {
            Self::Plain => SslMode::Disable,
            Self::Preferred(_) => SslMode::Prefer,
            Self::Verified(_) => SslMode::Require,
        }
    }
}

fn anybody() -> Result<ClientConfig, String> {
    let provider = tls::provider();
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    Ok(config.with_no_client_auth())
}

/// Believes every certificate: with `sslmode=prefer` nobody is promised who the server is.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(url: &str, ca: Option<&str>) -> Result<(String, &'static str), String> {
        let (rest, wanted) = split(url)?;
        let word = match Tls::new(wanted, ca.map(Path::new))? {
            Tls::Plain => "plain",
            Tls::Preferred(_) => "preferred",
            Tls::Verified(_) => "verified",
        };
        Ok((rest, word))
    }

    /// An authority's certificate that a file in PEM has.
    fn authority(folder: &Path) -> String {
        let file = folder.join("c a.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key);
        std::fs::write(&file, certificate.unwrap().pem()).unwrap();
        file.display().to_string()
    }

    #[test]
    fn what_is_said_of_tls_is_taken_out_of_the_url_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = authority(folder.path());
        let root = format!("postgres://u@h/d?sslrootcert={}", file.replace(' ', "%20"));
        for (url, ca, rest, word) in [
            ("postgres://u@h/d", None, "postgres://u@h/d", "plain"),
            ("postgres://u:a?sslmode=x@h/d", None, "postgres://u:a?sslmode=x@h/d", "plain"),
            ("postgres://u@h/d?sslmode=disable", None, "postgres://u@h/d", "plain"),
            (
                "postgres://u@h/d?a=b&sslmode=prefer&c=d",
                None,
                "postgres://u@h/d?a=b&c=d",
                "preferred",
            ),
            (&root, None, "postgres://u@h/d", "verified"),
            (&format!("{root}&sslmode=require"), None, "postgres://u@h/d", "verified"),
            ("postgres://u@h/d", Some(&*file), "postgres://u@h/d", "verified"),
            ("postgres://u@h/d?sslmode=verify-full", Some(&*file), "postgres://u@h/d", "verified"),
        ] {
            assert_eq!(said(url, ca), Ok((rest.to_owned(), word)), "{url}");
        }
    }

    #[test]
    fn what_would_only_look_safe_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = authority(folder.path());
        let ca = Some(&*file);
        for (query, ca, says) in [
            ("sslmode=verify-ca", None, "verify-full"),
            ("sslmode=allow", None, "disable, prefer, require and verify-full"),
            ("sslmode=", None, "disable, prefer, require and verify-full"),
            ("sslmode=require&sslmode=disable", None, "sslmode twice"),
            ("sslmode=disable", ca, "who the server is"),
            ("sslmode=prefer", ca, "who the server is"),
            ("sslmode=prefer&sslrootcert=system", None, "who the server is"),
            ("sslrootcert=/none/ca.pem", None, "/none/ca.pem"),
            ("sslrootcert=", None, "no file"),
            ("sslrootcert=/none/ca.pem", ca, "engine_ca"),
            ("sslkey=hush", None, "sslmode and sslrootcert only"),
            ("sslnegotiation=direct", None, "sslmode and sslrootcert only"),
        ] {
            let why = said(&format!("postgres://u@h/d?{query}"), ca).unwrap_err();
            assert!(why.contains(says) && !why.contains("hush"), "{query}: {why}");
        }
    }
}
