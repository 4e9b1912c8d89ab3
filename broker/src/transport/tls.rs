//! TLS: a configuration out of files, and what a finished handshake proves.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig, ServerConnection};
use sealpost_core::{Timestamp, UserId};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::access::admission::Channel;

/// Bytes of the largest file of certificates or keys. A chain has some KiB, all public authorities together 250 KiB.
const MAX_FILE: u64 = 1024 * 1024;

/// The exporter that login tokens are bound to (RFC 9266, section 2): label and bytes. Its context is empty, not absent,
/// which is a difference in TLS 1.2.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
const EXPORTER_BYTES: usize = 32;

/// The files that TLS needs, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate and those between it and the authority, in this order.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose client certificates log users in.
    pub client_ca: Option<PathBuf>,
}

/// Why the files are of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path:?}: {why}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// A file is larger than any such file is.
    #[error("{0:?} is larger than {MAX_FILE} bytes")]
    TooLarge(PathBuf),
    /// A file holds no certificate.
    #[error("{0:?} holds no certificate in PEM")]
    NoCertificate(PathBuf),
    /// A file holds no private key.
    #[error("{0:?} holds no private key in PEM")]
    NoKey(PathBuf),
    /// A certificate or a key that does not parse, or of a kind that is not served.
    #[error("{path:?}: {why}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The key is another certificate's.
    #[error("the key in {key:?} does not belong to the certificate in {certificate:?}")]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
}

/// What TLS runs on.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// When the server's certificate ends.
    pub expires: Timestamp,
}

impl CertificateFiles {
    /// Reads the files. Key and certificate belong together in what it returns.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(&self) -> Result<Loaded, TlsError> {
        let chain = read_certificates(&self.certificate)?;
        let expires = chain
            .first()
            .and_then(|leaf| expiry(leaf))
            .ok_or_else(|| invalid(&self.certificate, "the first certificate does not parse"))?;
        let pem = read(&self.key)?;
        let key =
            PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::NoKey(self.key.clone()))?;

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|why| invalid(&self.certificate, why))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for root in read_certificates(path)? {
                    roots.add(root).map_err(|why| invalid(path, why))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        // Users without a certificate log in with their token.
                        .allow_unauthenticated()
                        .build();
                builder.with_client_cert_verifier(verifier.map_err(|why| invalid(path, why))?)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|why| match why {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    TlsError::Mismatch {
                        key: self.key.clone(),
                        certificate: self.certificate.clone(),
                    }
                }
                why => invalid(&self.key, why),
            })?;
        // Without it, the exporter of TLS 1.2 is not of one connection alone (RFC 9266, section 4.2; RFC 7627).
        config.require_ems = true;
        if self.client_ca.is_some() {
            // A session taken up again would skip the look at the client's certificate and its dates.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Loaded {
            config: Arc::new(config),
            expires,
        })
    }
}

fn invalid(path: &Path, why: impl ToString) -> TlsError {
    TlsError::Invalid {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

/// A file's bytes, which are erased when dropped: they may be a key.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let io = |why| TlsError::Io {
        path: path.to_owned(),
        why,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(io)?;
    let length = file.take(MAX_FILE + 1).read_to_end(&mut bytes);
    if u64::try_from(length.map_err(io)?).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(TlsError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|why| invalid(path, why))?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

fn expiry(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    // Some certificates "never" end, after the last time that we can tell.
    Some(Timestamp::from_millis(seconds.saturating_mul(1_000)).unwrap_or(Timestamp::MAX))
}

/// What a finished handshake proves of the client at `peer`.
///
/// # Errors
/// Only if rustls has no exporter for the connection.
pub fn channel(peer: IpAddr, connection: &ServerConnection) -> Result<Channel, rustls::Error> {
    let binding = connection.export_keying_material(
        [0; EXPORTER_BYTES],
        EXPORTER_LABEL,
        Some(b"".as_slice()),
    )?;
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    Ok(Channel {
        peer,
        binding: binding.to_vec(),
        unbound: false,
        certificate: certificate.and_then(certificate_user),
    })
}

/// The user that a certificate names: the one common name of its subject or, if it has none, its one DNS name.
fn certificate_user(certificate: &CertificateDer<'_>) -> Option<UserId> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut common = certificate.subject().iter_common_name();
    let name = match (common.next(), common.next()) {
        (Some(name), None) => name.as_str().ok()?,
        (Some(_), Some(_)) => return None,
        (None, _) => {
            let alternatives = certificate.subject_alternative_name().ok()??;
            let mut names = alternatives.value.general_names.iter().filter_map(|name| {
                if let GeneralName::DNSName(name) = name {
                    Some(*name)
                } else {
                    None
                }
            });
            match (names.next(), names.next()) {
                (Some(name), None) => name,
                _ => return None,
            }
        }
    };
    UserId::parse(name).ok()
}

#[cfg(test)]
mod tests;
