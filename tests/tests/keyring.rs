//! A passphrase that the operating system's keyring holds: the commands of the client's README with GNOME's keyring and its
//! `secret-tool`, over a D-Bus session of their own.

use std::process::Command;

use sealpost_tests::{Broker, BrokerOptions, Person, Process};

/// A D-Bus session with an unlocked keyring.
struct Keyring {
    session: Process,
    address: String,
    /// Where the keyring has its files.
    home: tempfile::TempDir,
}

impl Keyring {
    fn unlocked() -> Keyring {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new("dbus-run-session");
        command
            .args(["--", "sh", "-c"])
            .arg(
                "printf login | gnome-keyring-daemon --unlock --components=secrets >/dev/null \
                 && echo \"at $DBUS_SESSION_BUS_ADDRESS\" && exec cat",
            )
            .env("HOME", home.path())
            .env("XDG_RUNTIME_DIR", home.path())
            .env_remove("XDG_DATA_HOME")
            .env_remove("DISPLAY");
        let session = Process::spawn("dbus-run-session", &mut command);
        let address = session.expect("at ")["at ".len()..].to_owned();
        Keyring {
            session,
            address,
            home,
        }
    }

    /// A command of this session.
    fn within<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .env("HOME", self.home.path())
    }

    fn shell(&self, line: &str) {
        let mut shell = Command::new("sh");
        let status = self.within(shell.args(["-c", line])).status().unwrap();
        assert!(status.success(), "{line}");
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        // The session ends with its command, and takes the keyring along.
        self.session.hush();
        self.session.wait();
    }
}

const COMMAND: &str = "secret-tool lookup sealpost alice";

/// How a command of alice's ended that asks the keyring: its code, and what it printed.
fn asked(keyring: &Keyring, alice: &Person, arguments: &[&str]) -> (i32, String) {
    let mut command = alice.command();
    command
        .args(["--passphrase-command", COMMAND])
        .args(arguments);
    let output = keyring.within(&mut command).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn a_passphrase_in_the_keyring_opens_the_keys_and_none_there_is_told() {
    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::newcomer("alice", &broker.url());
    let keyring = Keyring::unlocked();
    let (code, text) = asked(&keyring, &alice, &["keys", "init"]);
    assert_eq!(code, 1, "nothing there yet: {text}");
    assert!(text.contains("passphrase command"), "{text}");

    keyring.shell(
        "head -c 24 /dev/urandom | base64 | secret-tool store --label=Sealpost sealpost alice",
    );
    for arguments in [
        &["keys", "init"][..],
        &["keys", "rotate"],
        &["keys", "show"],
    ] {
        let (code, text) = asked(&keyring, &alice, arguments);
        assert_eq!(code, 0, "{arguments:?}: {text}");
    }

    keyring.shell("secret-tool clear sealpost alice");
    let (code, text) = asked(&keyring, &alice, &["keys", "show"]);
    assert_eq!(code, 1, "{text}");
}
