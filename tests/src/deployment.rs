//! A deployment of some broker: ours, or one of those that Sealpost's client and archiver also run against. The promises between
//! the ends are the same with each; what a broker does not do is named here, and in docs/other-brokers.md.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::{Archiver, Broker, BrokerOptions, Mosquitto, Nats, Person, Sensor};

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Sealpost,
    /// mosquitto, as `config/mosquitto` sets it up.
    Mosquitto,
    /// Three nodes of NATS with JetStream, as `config/nats` sets them up.
    Nats,
}

/// What runs.
#[derive(Debug)]
enum Running {
    Sealpost(Broker),
    Mosquitto(Mosquitto),
    Nats(Nats),
}

/// A broker, the people that it knows, and an archiver.
#[derive(Debug)]
pub struct Deployment {
    kind: Kind,
    running: Running,
    /// The archiver's password, where the broker wants one.
    password: PathBuf,
    dir: TempDir,
}

impl Deployment {
    /// Starts a broker that lets these people and this archiver in.
    #[must_use]
    pub fn start(kind: Kind, people: &[&str], archiver: &Archiver) -> Deployment {
        let running = match kind {
            Kind::Sealpost => Running::Sealpost(Broker::start(BrokerOptions {
                archivers: vec![archiver.credential()],
                ..BrokerOptions::default()
            })),
            Kind::Mosquitto => {
                Running::Mosquitto(Mosquitto::start(&[people, &[archiver.name()]].concat()))
            }
            Kind::Nats => Running::Nats(Nats::start(people, &[archiver.name()])),
        };
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("password");
        std::fs::write(&password, archiver.name()).unwrap();
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
        Deployment {
            kind,
            running,
            password,
            dir,
        }
    }

    /// Its URL, or all of its URLs.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.running {
            Running::Sealpost(broker) => broker.url(),
            Running::Mosquitto(broker) => broker.url(),
            Running::Nats(cluster) => cluster.urls_from(0),
        }
    }

    /// Somebody without keys, who can log in.
    #[must_use]
    pub fn newcomer(&self, name: &str) -> Person {
        let person = Person::newcomer(name, &self.url());
        match self.kind {
            Kind::Sealpost => person,
            _ => person.with(&["--broker-password-command", &format!("echo {name}")]),
        }
    }

    /// A device without keys, that can log in.
    #[must_use]
    pub fn sensor(&self, name: &str) -> Sensor {
        let sensor = Sensor::new(name, &self.url());
        if self.kind == Kind::Sealpost {
            return sensor;
        }
        let settings = self.dir.path().join(format!("{name}.toml"));
        std::fs::write(
            &settings,
            format!("broker_password_command = \"echo {name}\"\n"),
        )
        .unwrap();
        sensor.with(&["--config".as_ref(), settings.as_os_str()])
    }

    /// Somebody with keys, published there.
    #[must_use]
    pub fn settle(&self, name: &str) -> Person {
        self.newcomer(name).settled()
    }

    /// Starts the archiver and waits until it has subscribed.
    pub fn run(&self, archiver: &mut Archiver) {
        match self.kind {
            Kind::Sealpost => archiver.run(&self.url()),
            _ => archiver.run_with(
                &self.url(),
                &["--password-file", self.password.to_str().unwrap()],
            ),
        };
    }

    /// The broker goes and comes back, in the hardest way after which it still has what it acknowledged: ours is killed, of three
    /// NATS nodes one is, and mosquitto, which writes its store every few seconds alone, is told to end.
    pub fn lose_and_return(&mut self) {
        match &mut self.running {
            Running::Sealpost(broker) => {
                broker.kill();
                broker.restart();
            }
            Running::Mosquitto(broker) => broker.restart(),
            Running::Nats(cluster) => {
                cluster.kill(0);
                cluster.restart(0);
            }
        }
    }

    /// Whether what is sent after the broker was lost comes behind what was sent before. What a NATS node had on its way when it
    /// died comes again after a while, behind what was sent later.
    #[must_use]
    pub fn keeps_the_order_over_a_loss(&self) -> bool {
        self.kind != Kind::Nats
    }

    /// Whether the broker says of a publish that it is not allowed. MQTT 3.1.1 has no words for that: NATS acknowledges it and
    /// throws it away.
    #[must_use]
    pub fn tells_of_refused_publishes(&self) -> bool {
        self.kind != Kind::Nats
    }
}
