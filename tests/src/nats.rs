//! A cluster of three NATS nodes with the configuration that `config/nats` has for it.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::{Process, free_port, root};

/// How many nodes a cluster has.
pub const NODES: usize = 3;

/// A cluster on ports of its own.
#[derive(Debug)]
pub struct Nats {
    nodes: Vec<Node>,
    dir: TempDir,
}

#[derive(Debug)]
struct Node {
    process: Process,
    port: u16,
    cluster_port: u16,
    mqtt_port: u16,
}

impl Nats {
    /// Starts one that lets these users and this archiver in, each with their name as password.
    #[must_use]
    pub fn start(users: &[&str], archivers: &[&str]) -> Nats {
        let archivers = archivers.iter().map(|name| ("--archiver", *name));
        Nats::start_for(users, &archivers.collect::<Vec<_>>())
    }

    /// Starts one that lets these users in, and `migration`, by whom others move there.
    #[must_use]
    pub fn with_migration(users: &[&str]) -> Nats {
        Nats::start_for(users, &[("--migration", "migration")])
    }

    fn start_for(users: &[&str], others: &[(&str, &str)]) -> Nats {
        let dir = tempfile::tempdir().unwrap();
        let ours = root().join("config/nats");
        std::fs::copy(ours.join("nats.conf"), dir.path().join("nats.conf")).unwrap();
        let mut entries = String::new();
        for user in users {
            entries += &entry(&ours, &[user], user);
        }
        for (kind, name) in others {
            entries += &entry(&ours, &[kind, name], name);
        }
        let empty = std::fs::read_to_string(ours.join("users.conf")).unwrap();
        let filled = empty.replace("users: [\n", &format!("users: [\n{entries}"));
        assert_ne!(filled, empty);
        std::fs::write(dir.path().join("users.conf"), filled).unwrap();

        let ports: Vec<[u16; 3]> = (0..NODES)
            .map(|_| [free_port(), free_port(), free_port()])
            .collect();
        let routes = routes(ports.iter().map(|ports| ports[1]));
        let nodes = ports
            .iter()
            .enumerate()
            .map(|(number, &[port, cluster_port, mqtt_port])| Node {
                process: launch(dir.path(), number, [port, cluster_port, mqtt_port], &routes),
                port,
                cluster_port,
                mqtt_port,
            })
            .collect();
        let cluster = Nats { nodes, dir };
        for node in &cluster.nodes {
            node.process.expect_error("Listening for MQTT clients");
        }
        // Nothing can be kept before the cluster has a leader for it.
        let leaders = cluster.nodes.iter().map(|node| &node.process);
        let until = std::time::Instant::now() + crate::PATIENCE;
        while !leaders.clone().any(|process| {
            let log = process.stderr();
            log.iter()
                .any(|line| line.contains("Self is new JetStream cluster metadata leader"))
        }) {
            assert!(
                std::time::Instant::now() < until,
                "no leader: {:#?}",
                leaders.map(Process::stderr).collect::<Vec<_>>()
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        cluster
    }

    /// The URLs of all nodes, this one first.
    #[must_use]
    pub fn urls_from(&self, first: usize) -> String {
        let urls: Vec<String> = (0..NODES)
            .map(|number| {
                let node = &self.nodes[(first + number) % NODES];
                format!("mqtt://127.0.0.1:{}", node.mqtt_port)
            })
            .collect();
        urls.join(",")
    }

    /// Kills a node (SIGKILL).
    pub fn kill(&mut self, number: usize) {
        self.nodes[number].process.kill();
    }

    /// Starts a node again on its data.
    pub fn restart(&mut self, number: usize) {
        let routes = routes(self.nodes.iter().map(|node| node.cluster_port));
        let node = &mut self.nodes[number];
        let ports = [node.port, node.cluster_port, node.mqtt_port];
        node.process = launch(self.dir.path(), number, ports, &routes);
        node.process.expect_error("Listening for MQTT clients");
    }
}

/// A user's entry, as `config/nats/user` makes it.
fn entry(ours: &Path, arguments: &[&str], password: &str) -> String {
    let mut command = Command::new(ours.join("user"));
    command.args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, format!("{password}\n").as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn routes(ports: impl Iterator<Item = u16>) -> String {
    let routes: Vec<String> = ports
        .map(|port| format!("nats://127.0.0.1:{port}"))
        .collect();
    format!("[{}]", routes.join(","))
}

fn launch(dir: &Path, number: usize, ports: [u16; 3], routes: &str) -> Process {
    let [port, cluster_port, mqtt_port] = ports;
    let mut command = Command::new(root().join("tests/brokers/nats-server"));
    command
        .arg("-c")
        .arg(dir.join("nats.conf"))
        .env("NATS_NAME", format!("n{number}"))
        .env("NATS_HOST", "127.0.0.1")
        .env("NATS_PORT", port.to_string())
        .env("NATS_CLUSTER_PORT", cluster_port.to_string())
        .env("NATS_MQTT_PORT", mqtt_port.to_string())
        .env("NATS_ROUTES", routes)
        .env("NATS_STORE", dir.join(format!("store-{number}")));
    Process::spawn("nats-server", &mut command)
}
