//! Certificates as a home or lab has them, made by the broker's own command, and TLS clients that trust them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Answer, Process, program};

/// An authority with a certificate for this machine.
#[derive(Debug)]
pub struct Lab {
    dir: TempDir,
}

impl Default for Lab {
    fn default() -> Self {
        Lab::new()
    }
}

impl Lab {
    /// Makes an authority and a server's certificate.
    #[must_use]
    pub fn new() -> Lab {
        Lab::named(&["localhost", "127.0.0.1"])
    }

    /// As [`Lab::new`], with a certificate for these names.
    #[must_use]
    pub fn named(names: &[&str]) -> Lab {
        let lab = Lab {
            dir: tempfile::tempdir().unwrap(),
        };
        let answer = lab.run(names);
        assert_eq!(answer.code, 0, "{answer:?}");
        lab
    }

    /// Runs `sealpost-broker certificate` in the lab.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(program("sealpost-broker"));
        command.arg("certificate").arg("--dir").arg(self.dir.path());
        let mut process = Process::spawn("certificate", command.args(arguments));
        let status = process.wait();
        Answer {
            code: status.code().unwrap_or(-1),
            stdout: process.stdout().join("\n"),
            stderr: process.stderr().join("\n"),
        }
    }

    /// A file of the lab: `ca.pem`, `server.pem`, `server.key` …
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The broker's `[tls]` with the lab's certificates, on a free port of loopback. Other tables may follow it.
    #[must_use]
    pub fn settings(&self) -> String {
        let (certificate, key) = (self.file("server.pem"), self.file("server.key"));
        let ca = self.file("ca.pem");
        format!(
            "[tls]\nlisten = \"127.0.0.1:0\"\ncertificate = {certificate:?}\nkey = {key:?}\nclient_ca = {ca:?}\n"
        )
    }

    /// Takes over the certificates of another lab, the key after the certificate, as slow hands would.
    pub fn renew_from(&self, other: &Lab) {
        for name in ["server.pem", "server.key"] {
            std::fs::copy(other.file(name), self.file(name)).unwrap();
        }
    }

    /// A client's TLS that trusts the lab, with a client certificate or without.
    #[must_use]
    pub fn client(&self, user: Option<&str>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.file("ca.pem")) {
            roots.add(root).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let Some(user) = user else {
            return builder.with_no_client_auth();
        };
        let (certificate, key) = (format!("client-{user}.pem"), format!("client-{user}.key"));
        if !self.file(&certificate).exists() {
            let answer = self.run(&["--client", user]);
            assert_eq!(answer.code, 0, "{answer:?}");
        }
        let key = PrivateKeyDer::from_pem_file(self.file(&key)).unwrap();
        builder
            .with_client_auth_cert(certificates(&self.file(&certificate)), key)
            .unwrap()
    }

    /// Connects with TLS.
    ///
    /// # Errors
    /// When there is no TCP or no TLS to be had.
    pub async fn connect(
        &self,
        address: SocketAddr,
        user: Option<&str>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::new(self.client(user)));
        let socket = TcpStream::connect(address).await?;
        connector
            .connect(ServerName::try_from("localhost").unwrap(), socket)
            .await
    }
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

/// What a login token on this connection is bound to (RFC 9266).
#[must_use]
pub fn exporter(connection: &ClientConnection) -> [u8; 32] {
    connection
        .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"".as_slice()))
        .unwrap()
}
