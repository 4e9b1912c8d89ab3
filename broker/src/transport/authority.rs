//! An authority of one's own, for a home or a lab: it certifies the broker and, if wanted, users.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use sealpost_core::{Realm, UserId};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::files::{PRIVATE, PUBLIC, create_new};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the authority itself lasts: 10 years, because everybody who trusts it would have to be told of another.
const AUTHORITY_LASTS: Duration = DAY.saturating_mul(3_650);

/// How long what it certifies lasts: a little over two years. Apple's systems take no server certificate above 825 days.
const CERTIFICATE_LASTS: Duration = DAY.saturating_mul(800);

/// Certificates begin a day early, for clients whose clocks are behind.
const EARLY: Duration = DAY;

/// Bytes of the longest common name (RFC 5280, appendix A.1).
const MAX_COMMON_NAME: usize = 64;

/// Names in one certificate; far above what a home has.
const MAX_NAMES: usize = 100;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file or directory could not be read or made.
    #[error("{path:?}: {why}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// A file is there already. Nothing is overwritten.
    #[error("{0:?} is there already")]
    Exists(PathBuf),
    /// The authority's file is none, or its key is another's.
    #[error("{path:?} is not the authority's: {why}")]
    NotAnAuthority {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Neither a host name nor an address.
    #[error("{0:?} is neither a host name nor an address")]
    BadName(String),
    /// More names than a certificate should have.
    #[error("a certificate takes at most {MAX_NAMES} names")]
    TooManyNames,
    /// The cryptography failed.
    #[error("cannot make a certificate: {0}")]
    Making(#[from] rcgen::Error),
}

/// An authority and the directory that it lives in.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where the authority's certificate lies in its directory.
#[must_use]
pub fn certificate_path(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}

impl Authority {
    /// Opens the authority in the directory, or makes one there. Returns whether it is new.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn open(dir: &Path, realm: &Realm) -> Result<(Authority, bool), AuthorityError> {
        let files = Made {
            certificate: certificate_path(dir),
            key: dir.join("ca.key"),
        };
        let is_new = !files.certificate.exists();
        let issuer = if is_new {
            make_dir(dir)?;
            make_authority(&files, realm)?
        } else {
            read_authority(&files)?
        };
        let dir = dir.to_owned();
        Ok((Authority { dir, issuer }, is_new))
    }

    /// Certifies a server for host names and addresses, in `server.pem` and `server.key`.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn certify_server(&self, names: &[String]) -> Result<Made, AuthorityError> {
        if names.len() > MAX_NAMES {
            return Err(AuthorityError::TooManyNames);
        }
        for name in names {
            ServerName::try_from(name.as_str())
                .map_err(|_| AuthorityError::BadName(name.clone()))?;
        }
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = names.first().filter(|name| name.len() <= MAX_COMMON_NAME) {
            params
                .distinguished_name
                .push(DnType::CommonName, name.as_str());
        }
        self.certify(params, ExtendedKeyUsagePurpose::ServerAuth, "server")
    }

    /// Certifies a user, in `client-USER.pem` and `client-USER.key`.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn certify_user(&self, user: &UserId) -> Result<Made, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, user.as_str());
        let name = format!("client-{user}");
        self.certify(params, ExtendedKeyUsagePurpose::ClientAuth, &name)
    }

    fn certify(
        &self,
        mut params: CertificateParams,
        purpose: ExtendedKeyUsagePurpose,
        file: &str,
    ) -> Result<Made, AuthorityError> {
        lasts(&mut params, CERTIFICATE_LASTS);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // One purpose: no server's certificate logs a user in, and none of a user passes for the server.
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let made = Made {
            certificate: self.dir.join(format!("{file}.pem")),
            key: self.dir.join(format!("{file}.key")),
        };
        write_both(&made, &certificate.pem(), &key)?;
        Ok(made)
    }
}

fn make_authority(files: &Made, realm: &Realm) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
    let mut params = CertificateParams::default();
    lasts(&mut params, AUTHORITY_LASTS);
    params.distinguished_name = DistinguishedName::new();
    let name = format!("Sealpost {realm}");
    let name = name.get(..MAX_COMMON_NAME).unwrap_or(&name);
    params.distinguished_name.push(DnType::CommonName, name);
    // Its certificates certify nobody else.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    write_both(files, &certificate.pem(), &key)?;
    Ok(Issuer::new(params, key))
}

fn read_authority(files: &Made) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
    let not = |path: &Path, why: String| AuthorityError::NotAnAuthority {
        path: path.to_owned(),
        why,
    };
    let read = |path: &Path| {
        let text = fs::read_to_string(path).map_err(|why| AuthorityError::Io {
            path: path.to_owned(),
            why,
        });
        text.map(Zeroizing::new)
    };
    let pem = read(&files.certificate)?;
    let key = KeyPair::from_pem(&read(&files.key)?)
        .map_err(|error| not(&files.key, error.to_string()))?;
    let no_certificate = || not(&files.certificate, "it holds no certificate".into());
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| no_certificate())?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| no_certificate())?;
    if !certificate.is_ca() {
        return Err(not(&files.certificate, "it may not certify others".into()));
    }
    if certificate.public_key().raw != key.subject_public_key_info() {
        return Err(not(&files.key, "it is another certificate's key".into()));
    }
    Issuer::from_ca_cert_der(&der, key).map_err(|error| not(&files.certificate, error.to_string()))
}

fn lasts(params: &mut CertificateParams, lasts: Duration) {
    let now = SystemTime::now();
    params.not_before = now.checked_sub(EARLY).unwrap_or(now).into();
    params.not_after = now.checked_add(lasts).unwrap_or(now).into();
}

fn make_dir(dir: &Path) -> Result<(), AuthorityError> {
    let make = || {
        // Those above are not ours to close: other files of the broker's may lie there, for its own user to read.
        if let Some(above) = dir.parent() {
            fs::create_dir_all(above)?;
        }
        DirBuilder::new().recursive(true).mode(0o700).create(dir)
    };
    make().map_err(|why| AuthorityError::Io {
        path: dir.to_owned(),
        why,
    })
}

fn write_both(made: &Made, certificate: &str, key: &KeyPair) -> Result<(), AuthorityError> {
    if made.certificate.exists() {
        return Err(AuthorityError::Exists(made.certificate.clone()));
    }
    let key = Zeroizing::new(key.serialize_pem());
    write_new(&made.key, key.as_bytes(), PRIVATE)?;
    write_new(&made.certificate, certificate.as_bytes(), PUBLIC)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let write = || {
        let mut file = create_new(path, mode)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|why| match why.kind() {
        io::ErrorKind::AlreadyExists => AuthorityError::Exists(path.to_owned()),
        _ => AuthorityError::Io {
            path: path.to_owned(),
            why,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_for_their_owner_alone_and_nothing_is_overwritten() {
        let above = tempfile::tempdir().unwrap();
        let dir = above.path().join("etc/certificates");
        let (authority, is_new) = Authority::open(&dir, &Realm::default()).unwrap();
        assert!(is_new);
        let server = authority.certify_server(&["localhost".into()]).unwrap();
        let alice = authority
            .certify_user(&UserId::parse("alice").unwrap())
            .unwrap();
        for key in [&server.key, &alice.key, &dir.join("ca.key")] {
            assert_eq!(mode(key), 0o600, "{key:?}");
        }
        assert_eq!(mode(&dir), 0o700);
        // As anybody's new directory: the broker's settings may lie there.
        let others = above.path().join("others");
        fs::create_dir(&others).unwrap();
        assert_eq!(mode(&above.path().join("etc")), mode(&others));

        let before = fs::read(&server.certificate).unwrap();
        let (again, is_new) = Authority::open(&dir, &Realm::default()).unwrap();
        assert!(!is_new, "the authority stays the same");
        assert!(matches!(
            again.certify_server(&["localhost".into()]),
            Err(AuthorityError::Exists(_))
        ));
        fs::remove_file(&server.certificate).unwrap();
        assert!(matches!(
            again.certify_server(&["localhost".into()]),
            Err(AuthorityError::Exists(path)) if path == server.key
        ));
        fs::remove_file(&server.key).unwrap();
        again.certify_server(&["localhost".into()]).unwrap();
        assert_ne!(fs::read(&server.certificate).unwrap(), before);
    }

    #[test]
    fn names_that_no_client_could_connect_to_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, _) = Authority::open(dir.path(), &Realm::default()).unwrap();
        for name in ["", "a b", "https://broker", "broker:8883", "-", "ä.example"] {
            assert!(
                matches!(
                    authority.certify_server(&[name.into()]),
                    Err(AuthorityError::BadName(_))
                ),
                "{name}"
            );
        }
    }

    #[test]
    fn an_authority_whose_key_is_anothers_certifies_nobody() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&one, &other] {
            Authority::open(dir.path(), &Realm::default()).unwrap();
        }
        fs::copy(other.path().join("ca.key"), one.path().join("ca.key")).unwrap();
        assert!(matches!(
            Authority::open(one.path(), &Realm::default()),
            Err(AuthorityError::NotAnAuthority { .. })
        ));
    }
}
