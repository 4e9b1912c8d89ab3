//! mosquitto with the configuration that `config/mosquitto` has for it.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::{Process, free_port, root};

/// A mosquitto on a port of its own.
#[derive(Debug)]
pub struct Mosquitto {
    process: Process,
    port: u16,
    dir: TempDir,
}

impl Mosquitto {
    /// Starts one that lets these users in, each with their name as password.
    #[must_use]
    pub fn start(users: &[&str]) -> Mosquitto {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let ours = |name: &str| std::fs::read_to_string(root().join("config/mosquitto").join(name));
        // What a person changes: where the files are, and the port.
        let settings = ours("sealpost.conf")
            .unwrap()
            .replace("/etc/mosquitto/sealpost.", &path("sealpost."))
            .replace("/var/lib/mosquitto/", &format!("{}/", dir.path().display()))
            .replace("listener 1883 ", &format!("listener {port} "));
        assert!(!settings.contains("1883"), "{settings}");
        // As root it would become somebody who cannot read this folder.
        let settings = format!("user {}\n{settings}", whoami());
        std::fs::write(path("sealpost.conf"), settings).unwrap();
        std::fs::write(path("sealpost.acl"), ours("sealpost.acl").unwrap()).unwrap();
        for (number, user) in users.iter().enumerate() {
            let mut command = Command::new("mosquitto_passwd");
            if number == 0 {
                command.arg("-c");
            }
            let made = command
                .arg("-b")
                .arg(path("sealpost.passwords"))
                .args([user, user]);
            assert!(made.status().unwrap().success());
        }
        Mosquitto {
            process: launch(dir.path().join("sealpost.conf")),
            port,
            dir,
        }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Ends it as an operator would, and starts it again on its data.
    pub fn restart(&mut self) {
        self.process.terminate();
        self.process = launch(self.dir.path().join("sealpost.conf"));
    }
}

fn whoami() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn launch(settings: PathBuf) -> Process {
    // Debian has it where only root looks.
    let system = PathBuf::from("/usr/sbin/mosquitto");
    let program = match system.exists() {
        true => system,
        false => "mosquitto".into(),
    };
    let process = Process::spawn("mosquitto", Command::new(program).arg("-c").arg(settings));
    process.expect_error("running");
    process
}
