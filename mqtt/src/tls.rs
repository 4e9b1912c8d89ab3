//! TLS to a broker: what it is trusted by, and what a finished handshake is bound to.

mod certificate;
mod problem;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::broker_url::BrokerUrl;
use crate::dial::{BoxStream, ChannelBinding, DialError, Dialled};

pub use self::certificate::Certificate;
pub use self::problem::TlsProblem;

/// Bytes of the largest file of certificates or keys. All public authorities together have 250 KiB.
const MAX_FILE: u64 = 1024 * 1024;

/// The exporter that login tokens are bound to (RFC 9266, section 2): label and bytes. Its context is empty, not absent,
/// which is a difference in TLS 1.2.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
const EXPORTER_BYTES: usize = 32;

/// The files that decide whom TLS trusts and who we are, in PEM. They are read for each connection, so that renewed ones
/// count without a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that may certify the broker; without it those that this machine trusts.
    pub ca: Option<PathBuf>,
    /// Our own certificate, for brokers that want one.
    pub client: Option<ClientCertificate>,
}

/// A client's certificate and what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and those between it and the authority, in this order.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why the files are of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsFilesError {
    /// A file cannot be read.
    #[error("cannot read {path:?}: {why}")]
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
    /// A certificate or a key that does not parse, or of a kind that is not known.
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
    /// This machine trusts no authority.
    #[error("this machine has no list of certificate authorities that it trusts")]
    NoRoots,
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// See [`TlsFilesError`].
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsFilesError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for root in read_certificates(path)? {
                    roots.add(root).map_err(|why| invalid(path, why))?;
                }
            }
            None => {
                // Some stores hold one or two certificates that nothing can read; the others are good.
                let found = rustls_native_certs::load_native_certs();
                let (added, _) = roots.add_parsable_certificates(found.certs);
                if added == 0 {
                    return Err(TlsFilesError::NoRoots);
                }
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|why| invalid(Path::new("TLS"), why))?
            .with_root_certificates(roots);
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some(ClientCertificate { certificate, key }) => {
                let chain = read_certificates(certificate)?;
                let pem = read(key)?;
                let der = PrivateKeyDer::from_pem_slice(&pem)
                    .map_err(|_| TlsFilesError::NoKey(key.clone()))?;
                builder
                    .with_client_auth_cert(chain, der)
                    .map_err(|why| match why {
                        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                            TlsFilesError::Mismatch {
                                key: key.clone(),
                                certificate: certificate.clone(),
                            }
                        }
                        why => invalid(key, why),
                    })?
            }
        };
        // Without it, the exporter of TLS 1.2 is not of one connection alone (RFC 9266, section 4.2; RFC 7627).
        config.require_ems = true;
        // Each connection looks at the certificates and their dates anew.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn invalid(path: &Path, why: impl ToString) -> TlsFilesError {
    TlsFilesError::Invalid {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

/// A file's bytes, which are erased when dropped: they may be a key.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsFilesError> {
    let io = |why| TlsFilesError::Io {
        path: path.to_owned(),
        why,
    };
    let file = File::open(path).map_err(io)?;
    // Room for the whole from the start, so that growing leaves no copy behind.
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(length.min(MAX_FILE)).unwrap_or_default() + 1,
    ));
    let length = file
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if u64::try_from(length).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(TlsFilesError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFilesError> {
    let pem = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|why| invalid(path, why))?;
    if certificates.is_empty() {
        return Err(TlsFilesError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

/// Puts TLS on a stream.
pub(crate) async fn handshake(
    files: &TlsFiles,
    broker: &BrokerUrl,
    stream: BoxStream,
) -> Result<Dialled, DialError> {
    let files = files.clone();
    // The files and this machine's list of authorities: some milliseconds of reading.
    let config = tokio::task::spawn_blocking(move || files.load())
        .await
        .map_err(|error| DialError::Tls(TlsProblem::Other(error.to_string())))??;
    let stream = TlsConnector::from(config)
        .connect(broker.server_name().clone(), stream)
        .await
        .map_err(|error| DialError::Tls(TlsProblem::of_handshake(&error)))?;
    let binding = stream
        .get_ref()
        .1
        .export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, Some(b"".as_slice()))
        .map_err(|error| DialError::Tls(TlsProblem::Other(error.to_string())))?;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = shown.iter().map(Certificate::of).collect();
    Ok(Dialled {
        stream: Box::new(stream),
        binding: ChannelBinding::new(binding.to_vec()),
        certificates,
    })
}

#[cfg(test)]
mod tests;
