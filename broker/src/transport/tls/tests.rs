use std::fs;

use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, SupportedProtocolVersion};
use sealpost_core::Realm;
use tempfile::TempDir;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::transport::authority::{Authority, Made, certificate_path};
use crate::transport::certificates::Certificates;

/// An authority with a certificate for `localhost`.
struct Lab {
    dir: TempDir,
    authority: Authority,
    server: Made,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let (authority, _) = Authority::open(dir.path(), &Realm::default()).unwrap();
        let server = authority.certify_server(&["localhost".into()]).unwrap();
        Lab {
            dir,
            authority,
            server,
        }
    }

    fn files(&self, client_ca: bool) -> CertificateFiles {
        CertificateFiles {
            certificate: self.server.certificate.clone(),
            key: self.server.key.clone(),
            client_ca: client_ca.then(|| certificate_path(self.dir.path())),
        }
    }

    fn user(&self, name: &str) -> Made {
        let user = UserId::parse(name).unwrap();
        self.authority.certify_user(&user).unwrap()
    }

    fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        certificate: Option<&Made>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for root in read_certificates(&certificate_path(self.dir.path())).unwrap() {
            roots.add(root).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        match certificate {
            None => builder.with_no_client_auth(),
            Some(made) => {
                let chain = read_certificates(&made.certificate).unwrap();
                let key = PrivateKeyDer::from_pem_file(&made.key).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// The client's exporter and what the server makes of the client, or the server's refusal.
async fn shake_hands(
    server: Arc<ServerConfig>,
    client: ClientConfig,
) -> io::Result<([u8; EXPORTER_BYTES], Channel)> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let connecting = tokio::spawn(async move { connector.connect(name, near).await });
    let accepted = TlsAcceptor::from(server).accept(far).await?;
    let connected = connecting.await.unwrap()?;
    let address = IpAddr::from([127, 0, 0, 1]);
    let channel = channel(address, accepted.get_ref().1).unwrap();
    let exporter = exporter(connected.get_ref().1);
    Ok((exporter, channel))
}

fn exporter(connection: &ClientConnection) -> [u8; EXPORTER_BYTES] {
    connection
        .export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, Some(b"".as_slice()))
        .unwrap()
}

#[tokio::test]
async fn both_ends_know_the_same_exporter_and_each_connection_has_another() {
    let lab = Lab::new();
    let server = lab.files(false).load().unwrap().config;
    for version in VERSIONS {
        // The same client, so that the second connection takes the first one's session up again.
        let client = lab.client(version, None);
        let (first, channel) = shake_hands(Arc::clone(&server), client.clone())
            .await
            .unwrap();
        assert_eq!(channel.binding, first, "{version:?}");
        assert_eq!(channel.certificate, None);
        let (second, channel) = shake_hands(Arc::clone(&server), client).await.unwrap();
        assert_eq!(channel.binding, second, "{version:?}");
        assert_ne!(first, second, "{version:?}");
    }
}

#[tokio::test]
async fn a_verified_certificate_names_its_user_and_none_is_asked_of_others() {
    let lab = Lab::new();
    let server = lab.files(true).load().unwrap().config;
    let alice = lab.user("alice");
    for version in VERSIONS {
        let with = lab.client(version, Some(&alice));
        let (_, channel) = shake_hands(Arc::clone(&server), with).await.unwrap();
        assert_eq!(channel.certificate, Some(UserId::parse("alice").unwrap()));
        let without = lab.client(version, None);
        let (_, channel) = shake_hands(Arc::clone(&server), without).await.unwrap();
        assert_eq!(channel.certificate, None);
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_for_another_purpose_lets_nobody_in() {
    let (lab, strangers) = (Lab::new(), Lab::new());
    let server = lab.files(true).load().unwrap().config;
    for version in VERSIONS {
        for certificate in [&strangers.user(version_name(version)), &lab.server] {
            let client = lab.client(version, Some(certificate));
            assert!(shake_hands(Arc::clone(&server), client).await.is_err());
        }
    }
}

fn version_name(version: &SupportedProtocolVersion) -> &'static str {
    if std::ptr::eq(version, &rustls::version::TLS13) {
        "tls13"
    } else {
        "tls12"
    }
}

#[tokio::test]
async fn without_client_ca_a_client_certificate_means_nothing() {
    let lab = Lab::new();
    let server = lab.files(false).load().unwrap().config;
    let client = lab.client(&rustls::version::TLS13, Some(&lab.user("alice")));
    let (_, channel) = shake_hands(server, client).await.unwrap();
    assert_eq!(channel.certificate, None);
}

#[test]
fn a_certificate_names_a_user_only_if_it_names_one() {
    let named = |common: &[&str], alternatives: &[&str]| {
        let names = alternatives.iter().map(|&name| name.to_owned());
        let mut params = CertificateParams::new(names.collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in common {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key, &issuer).unwrap();
        certificate_user(certificate.der()).map(|user| user.to_string())
    };
    assert_eq!(named(&["alice"], &[]).as_deref(), Some("alice"));
    assert_eq!(named(&["alice"], &["bob"]).as_deref(), Some("alice"));
    assert_eq!(named(&[], &["bob"]).as_deref(), Some("bob"));
    assert_eq!(named(&[], &["bob", "carol"]), None);
    assert_eq!(named(&["Alice Example"], &["bob"]), None);
    assert_eq!(named(&[], &[]), None);
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let (lab, other) = (Lab::new(), Lab::new());
    let good = lab.files(true);
    good.load().unwrap();
    let load = |change: &dyn Fn(&mut CertificateFiles)| {
        let mut files = good.clone();
        change(&mut files);
        files.load().unwrap_err()
    };
    let (missing, empty) = (lab.dir.path().join("missing"), lab.dir.path().join("empty"));
    fs::write(&empty, "nothing in PEM").unwrap();
    let huge = lab.dir.path().join("huge");
    fs::write(&huge, vec![b' '; 2 * 1024 * 1024]).unwrap();
    assert!(matches!(
        load(&|files| files.certificate = missing.clone()),
        TlsError::Io { path, .. } if path == missing
    ));
    assert!(matches!(
        load(&|files| files.certificate = empty.clone()),
        TlsError::NoCertificate(path) if path == empty
    ));
    assert!(matches!(
        load(&|files| files.key = empty.clone()),
        TlsError::NoKey(path) if path == empty
    ));
    assert!(matches!(
        load(&|files| files.key = huge.clone()),
        TlsError::TooLarge(path) if path == huge
    ));
    assert!(matches!(
        load(&|files| files.key = other.server.key.clone()),
        TlsError::Mismatch { .. }
    ));
    assert!(matches!(
        load(&|files| files.client_ca = Some(empty.clone())),
        TlsError::NoCertificate(path) if path == empty
    ));
}

#[test]
fn changed_files_are_taken_up_and_bad_ones_change_nothing() {
    let (lab, other) = (Lab::new(), Lab::new());
    let certificates = Certificates::load(lab.files(false)).unwrap();
    let first = certificates.current();
    certificates.look(false).unwrap();
    assert!(
        Arc::ptr_eq(&first, &certificates.current()),
        "nothing changed"
    );

    // The certificate comes before its key: until then the old pair stays.
    fs::copy(&other.server.certificate, &lab.server.certificate).unwrap();
    assert!(certificates.look(false).is_err());
    assert!(Arc::ptr_eq(&first, &certificates.current()));
    fs::copy(&other.server.key, &lab.server.key).unwrap();
    certificates.look(false).unwrap();
    let second = certificates.current();
    assert!(!Arc::ptr_eq(&first, &second));

    fs::remove_file(&lab.server.key).unwrap();
    assert!(certificates.look(true).is_err());
    assert!(Arc::ptr_eq(&second, &certificates.current()));

    fs::copy(&other.server.key, &lab.server.key).unwrap();
    certificates.look(false).unwrap();
    let third = certificates.current();
    assert!(!Arc::ptr_eq(&second, &third));
    certificates.look(true).unwrap();
    assert!(!Arc::ptr_eq(&third, &certificates.current()), "asked to");
}

#[test]
fn an_expired_certificate_does_not_replace_a_good_one() {
    let lab = Lab::new();
    let certificates = Certificates::load(lab.files(false)).unwrap();
    let first = certificates.current();
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = KeyPair::generate().unwrap();
    fs::write(
        &lab.server.certificate,
        params.self_signed(&key).unwrap().pem(),
    )
    .unwrap();
    fs::write(&lab.server.key, key.serialize_pem()).unwrap();
    assert!(certificates.look(false).is_err());
    assert!(Arc::ptr_eq(&first, &certificates.current()));
}
