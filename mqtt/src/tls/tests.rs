//! TLS against a server of the test's own, and what each way to fail is called and advised.

use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::advice::advice;
use crate::connection::{ConnectionError, Hello, Login};
use crate::proxy::Proxy;
use crate::route::{ConnectError, Route};

/// An authority that certifies what it is asked to.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    files: TempDir,
}

struct Certified {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, files }
    }

    fn trusted(&self) -> TlsFiles {
        TlsFiles {
            ca: Some(self.files.path().join("ca.pem")),
            client: None,
        }
    }

    fn certify(&self, names: &[&str], years: (i32, i32)) -> Certified {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file =
            |name: &str, text: String| fs::write(self.files.path().join(name), text).unwrap();
        file("client.pem", certificate.pem());
        file("client.key", key.serialize_pem());
        Certified {
            chain: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    fn client(&self) -> ClientCertificate {
        ClientCertificate {
            certificate: self.files.path().join("client.pem"),
            key: self.files.path().join("client.key"),
        }
    }
}

fn server(certified: Certified, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    builder
        .with_single_cert(certified.chain, certified.key)
        .unwrap()
}

/// Listens, and answers every connection with what `answer` makes of it.
async fn listen<F>(answer: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    port
}

/// A server with TLS that answers a CONNECT and stays.
async fn serve(config: ServerConfig) -> u16 {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    listen(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let _ = stream.read(&mut [0; 1_024]).await;
            let _ = stream.write_all(b"\x20\x03\x00\x00\x00").await;
            let _ = stream.read(&mut [0; 1_024]).await;
        }
    })
    .await
}

async fn connect(url: String, tls: TlsFiles) -> Result<ChannelBinding, ConnectError> {
    let route = Route::new(url.parse().unwrap(), Vec::new(), tls, Proxy::direct());
    let hello = Hello {
        client_id: "c".into(),
        session_expiry: None,
        receive_maximum: 1,
        max_packet: 1_000,
        keep_alive: std::time::Duration::from_secs(30),
        read_ahead: 1_024,
    };
    let mut bound = ChannelBinding::default();
    let mut login = |binding: &ChannelBinding| {
        bound = binding.clone();
        Login {
            user: "bob".into(),
            password: String::new(),
        }
    };
    let connected = route.connect(&hello, &mut login).await;
    connected.map(|_| bound)
}

/// The problem, and a word that its advice has to have.
async fn assert_fails(url: String, tls: TlsFiles, problem: &str, word: &str) {
    let error = connect(url, tls).await.expect_err(problem);
    let said = error.to_string();
    assert!(said.contains(problem), "{said}");
    let advice = advice(&error).unwrap_or_else(|| panic!("no advice for {said}"));
    assert!(advice.contains(word), "{said}: {advice}");
}

#[tokio::test]
async fn each_connection_has_a_binding_of_its_own() {
    let authority = Authority::new("ours");
    let names = ["localhost", "127.0.0.1"];
    let port = serve(server(authority.certify(&names, (2020, 2100)), None)).await;
    let bind = async |host| connect(format!("mqtts://{host}:{port}"), authority.trusted()).await;
    let (one, two) = (
        bind("localhost").await.unwrap(),
        bind("127.0.0.1").await.unwrap(),
    );
    assert_eq!((one.as_bytes().len(), two.as_bytes().len()), (32, 32));
    assert_ne!(one, two);
}

#[tokio::test]
async fn each_way_that_a_certificate_fails_has_its_name_and_its_advice() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let good = serve(server(ours.certify(&["localhost"], (2020, 2100)), None)).await;
    let url = |host: &str, port: u16| format!("mqtts://{host}:{port}");
    assert_fails(
        url("localhost", good),
        theirs.trusted(),
        "not trusted here",
        "--ca FILE",
    )
    .await;
    // Whatever this machine trusts, it is not that.
    if TlsFiles::default().load().is_ok() {
        assert_fails(
            url("localhost", good),
            TlsFiles::default(),
            "not trusted here",
            "--ca FILE",
        )
        .await;
    }
    assert_fails(
        url("127.0.0.1", good),
        ours.trusted(),
        "not for this name but for localhost",
        "as the certificate has it",
    )
    .await;
    let ended = serve(server(ours.certify(&["localhost"], (2020, 2021)), None)).await;
    assert_fails(
        url("localhost", ended),
        ours.trusted(),
        "has expired",
        "clock",
    )
    .await;
    let future = serve(server(ours.certify(&["localhost"], (2090, 2100)), None)).await;
    assert_fails(
        url("localhost", future),
        ours.trusted(),
        "not valid yet",
        "clock",
    )
    .await;
}

#[tokio::test]
async fn a_broker_that_wants_a_certificate_says_so_and_takes_the_right_one() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let certified = ours.certify(&["localhost"], (2020, 2100));
    let port = serve(server(certified, Some(&ours))).await;
    let url = || format!("mqtts://localhost:{port}");
    let with = |client: Option<ClientCertificate>| TlsFiles {
        client,
        ..ours.trusted()
    };
    assert_fails(
        url(),
        with(None),
        "wants a client certificate",
        "--client-cert",
    )
    .await;
    theirs.certify(&["bob"], (2020, 2100));
    assert_fails(
        url(),
        with(Some(theirs.client())),
        "does not accept",
        "client_ca",
    )
    .await;
    ours.certify(&["bob"], (2020, 2100));
    connect(url(), with(Some(ours.client()))).await.unwrap();
}

#[tokio::test]
async fn a_port_for_something_else_is_recognised_and_the_right_url_is_given() {
    let ours = Authority::new("ours");
    let certified = || ours.certify(&["localhost"], (2020, 2100));
    let tls = serve(server(certified(), None)).await;
    let trusted = || ours.trusted();
    let url = |scheme: &str, port: u16| format!("{scheme}://localhost:{port}");
    assert_fails(
        url("mqtt", tls),
        trusted(),
        "speaks TLS",
        &url("mqtts", tls),
    )
    .await;
    assert_fails(
        url("ws", tls),
        trusted(),
        "does not speak HTTP",
        &url("wss", tls),
    )
    .await;
    // Over TLS, MQTT without WebSocket.
    assert_fails(url("wss", tls), trusted(), "", &url("mqtts", tls)).await;

    let web = listen(|mut stream| async move {
        let _ = stream.read(&mut [0; 1_024]).await;
        let page = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let _ = stream.write_all(page).await;
    })
    .await;
    assert_fails(
        url("mqtts", web),
        trusted(),
        "does not speak TLS",
        &url("mqtt", web),
    )
    .await;
    assert_fails(
        url("mqtt", web),
        trusted(),
        "is a web server",
        &url("ws", web),
    )
    .await;
    assert_fails(url("ws", web), trusted(), "HTTP status 200", "/mqtt").await;

    // What closes without a word may be anything.
    let mute = listen(|mut stream| async move {
        let _ = stream.read(&mut [0; 1_024]).await;
    })
    .await;
    assert_fails(
        url("mqtts", mute),
        trusted(),
        "closed the connection",
        &url("mqtt", mute),
    )
    .await;
    assert_fails(url("mqtt", mute), trusted(), "", &url("mqtts", mute)).await;
    assert_fails(
        url("ws", mute),
        trusted(),
        "closed the connection",
        &url("wss", mute),
    )
    .await;
}

#[test]
fn files_that_are_none_are_named() {
    let authority = Authority::new("ours");
    authority.certify(&["bob"], (2020, 2100));
    let path = |name: &str| authority.files.path().join(name);
    fs::write(path("empty"), "").unwrap();
    fs::write(path("large"), vec![b'x'; MAX_FILE as usize + 1]).unwrap();
    let ca = |name: &str| TlsFiles {
        ca: Some(path(name)),
        client: None,
    };
    let client = |certificate: &str, key: &str| TlsFiles {
        client: Some(ClientCertificate {
            certificate: path(certificate),
            key: path(key),
        }),
        ..authority.trusted()
    };
    for (files, problem) in [
        (ca("missing"), "cannot read"),
        (ca("empty"), "holds no certificate"),
        (ca("client.key"), "holds no certificate"),
        (ca("large"), "larger than"),
        (client("client.pem", "ca.pem"), "holds no private key"),
        (client("ca.pem", "client.key"), "does not belong"),
    ] {
        let error = files.load().expect_err(problem).to_string();
        assert!(error.contains(problem), "{error}");
    }
    client("client.pem", "client.key").load().unwrap();
}

#[tokio::test]
async fn a_connection_that_was_refused_needs_no_tls_to_say_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = connect(
        format!("mqtts://127.0.0.1:{port}"),
        Authority::new("ours").trusted(),
    )
    .await;
    let error = error.expect_err("nobody listens");
    assert!(matches!(
        &error.last.error,
        ConnectionError::Dial(DialError::Tcp(error)) if error.kind() == io::ErrorKind::ConnectionRefused
    ));
    assert_eq!(error.to_string(), "connection refused");
}
