//! Real proxies: tinyproxy for HTTP CONNECT, microsocks for SOCKS5.

use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::{PATIENCE, Process, free_port};

/// A proxy on a port of its own.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    url: String,
    /// How it says, and where, that it has connected somebody.
    connected: &'static str,
    _dir: TempDir,
}

impl Proxy {
    /// One for HTTP CONNECT that wants this login, as `USER:PASSWORD`, or none, and connects to `ports` alone.
    #[must_use]
    pub fn http(login: Option<&str>, ports: &[u16]) -> Proxy {
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        let mut settings = format!("Port {port}\nListen 127.0.0.1\nMaxClients 20\nLogLevel Info\n");
        if let Some((user, password)) = login.and_then(|login| login.split_once(':')) {
            settings += &format!("BasicAuth {user} {password}\n");
        }
        for port in ports {
            settings += &format!("ConnectPort {port}\n");
        }
        let file = dir.path().join("tinyproxy.conf");
        std::fs::write(&file, settings).unwrap();
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(&file);
        let url = url("http", login, port);
        Proxy::start(
            "tinyproxy",
            &mut command,
            port,
            url,
            "Established connection to host",
            dir,
        )
    }

    /// One for SOCKS5 that wants this login, as `USER:PASSWORD`, or none.
    #[must_use]
    pub fn socks5(login: Option<&str>) -> Proxy {
        let port = free_port();
        let mut command = Command::new("microsocks");
        command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
        if let Some((user, password)) = login.and_then(|login| login.split_once(':')) {
            command.args(["-u", user, "-P", password]);
        }
        let (url, dir) = (url("socks5", login, port), tempfile::tempdir().unwrap());
        Proxy::start("microsocks", &mut command, port, url, "connected to", dir)
    }

    fn start(
        name: &str,
        command: &mut Command,
        port: u16,
        url: String,
        connected: &'static str,
        dir: TempDir,
    ) -> Proxy {
        let process = Process::spawn(name, command);
        let until = Instant::now() + PATIENCE;
        // It says nothing when it is ready.
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                Instant::now() < until,
                "{name} does not listen (`make test-tools`)"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Proxy {
            process,
            url,
            connected,
            _dir: dir,
        }
    }

    /// Its URL, with the login that it wants.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many connections it has made so far to this port.
    #[must_use]
    pub fn connections_to(&self, port: u16) -> usize {
        let lines = [self.process.stdout(), self.process.stderr()].concat();
        let ours = lines
            .iter()
            .filter(|line| line.contains(self.connected) || line.contains("CONNECT "));
        ours.filter(|line| line.contains(&format!(":{port}")))
            .count()
    }
}

fn url(scheme: &str, login: Option<&str>, port: u16) -> String {
    let login = login.map_or_else(String::new, |login| format!("{login}@"));
    format!("{scheme}://{login}127.0.0.1:{port}")
}
