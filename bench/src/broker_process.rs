//! Brokers that a comparison starts, and stops again whatever happens.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use thiserror::Error;

use crate::child_process::{ChildProcess, tail};
use crate::connection::{Connection, Introduction, Limits};
use crate::loopback::{LoopbackAddr, LoopbackAddrError};

/// How long a broker may take from its start to its first CONNACK.
const START: Duration = Duration::from_secs(15);

/// Attempts to start a broker that cannot choose a free port itself: another process may take the port in between.
const PORT_ATTEMPTS: u32 = 5;

/// Where Debian and others put daemons without telling a user's PATH.
const DAEMON_DIRECTORIES: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"];

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Eclipse mosquitto, with a configuration that gives it its best: nothing kept on disk, nothing dropped.
    Mosquitto(Option<PathBuf>),
    /// Our broker with `--open`: any topic, no checks, as mosquitto does.
    Sealpost(Option<PathBuf>),
    /// One node of NATS with JetStream, and MQTT on top of it.
    Nats(Option<PathBuf>),
    /// A broker that runs already.
    Running {
        /// What to call it.
        name: String,
        /// Where it is.
        addr: LoopbackAddr,
    },
}

/// Why a peer was not understood.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum PeerError {
    /// Not one of the forms.
    #[error(
        "{0:?} is none of mosquitto, sealpost, nats, each perhaps with :PATH, and NAME@HOST:PORT"
    )]
    Unknown(String),
    /// The address of a running broker.
    #[error(transparent)]
    Address(#[from] LoopbackAddrError),
}

impl FromStr for Peer {
    type Err = PeerError;

    fn from_str(given: &str) -> Result<Self, PeerError> {
        if let Some((name, addr)) = given.split_once('@') {
            return Ok(Self::Running {
                name: name.to_owned(),
                addr: addr.parse()?,
            });
        }
        let (kind, path) = match given.split_once(':') {
            Some((kind, path)) => (kind, Some(PathBuf::from(path))),
            None => (given, None),
        };
        match kind {
            "mosquitto" => Ok(Self::Mosquitto(path)),
            "sealpost" => Ok(Self::Sealpost(path)),
            "nats" => Ok(Self::Nats(path)),
            _ => Err(PeerError::Unknown(given.to_owned())),
        }
    }
}

/// Why a broker does not run.
#[derive(Debug, Error)]
pub(crate) enum BrokerError {
    /// Its program is not there.
    #[error("{0} is not installed: give its path, as in {0}:PATH")]
    Missing(&'static str),
    /// Its program could not be started.
    #[error("cannot start {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It ended, or did not answer in time.
    #[error("{} did not become ready within {} s; it said: {log}", program.display(), START.as_secs())]
    NotReady {
        /// The program.
        program: PathBuf,
        /// The last it wrote to its standard error.
        log: String,
    },
    /// Its files could not be made.
    #[error("cannot make the files of a broker: {0}")]
    Files(io::Error),
}

/// A broker that answers. Dropping it ends its process and removes its files.
pub(crate) struct BrokerProcess {
    addr: LoopbackAddr,
    child: Option<ChildProcess>,
    _directory: Option<TempDir>,
}

impl Peer {
    /// Its name in a table.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Mosquitto(_) => "mosquitto",
            Self::Sealpost(_) => "sealpost",
            Self::Nats(_) => "nats",
            Self::Running { name, .. } => name,
        }
    }

    /// What its program says its version is; empty if that is not known.
    pub(crate) fn version(&self) -> Result<String, BrokerError> {
        let (program, argument) = match self {
            Self::Mosquitto(path) => (find("mosquitto", path.as_deref())?, "-h"),
            Self::Sealpost(path) => (find("sealpost-broker", path.as_deref())?, "--version"),
            Self::Nats(path) => (find("nats-server", path.as_deref())?, "--version"),
            Self::Running { .. } => return Ok(String::new()),
        };
        let output = Command::new(&program)
            .arg(argument)
            .stdin(Stdio::null())
            .output()
            .map_err(|source| BrokerError::Start { program, source })?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text
            .lines()
            .next()
            .and_then(|line| line.split_whitespace().last())
            .unwrap_or_default()
            .to_owned())
    }

    /// Starts it on a free loopback port, and waits until it answers a CONNECT.
    pub(crate) fn start(&self) -> Result<BrokerProcess, BrokerError> {
        match self {
            Self::Running { addr, .. } => Ok(BrokerProcess {
                addr: *addr,
                child: None,
                _directory: None,
            }),
            Self::Sealpost(path) => {
                start_sealpost(&find("sealpost-broker", path.as_deref())?, &["--open"])
            }
            Self::Mosquitto(path) => {
                start_on_free_port(&find("mosquitto", path.as_deref())?, |port, _| {
                    mosquitto_config(port)
                })
            }
            Self::Nats(path) => {
                start_on_free_port(&find("nats-server", path.as_deref())?, nats_config)
            }
        }
    }
}

impl BrokerProcess {
    /// Where it listens.
    pub(crate) fn addr(&self) -> LoopbackAddr {
        self.addr
    }

    /// Its process, if it was started here.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(ChildProcess::id)
    }
}

/// The mosquitto configuration of a comparison, for `port`. No limit on queues, because a limit makes it drop messages;
/// Nagle's algorithm off, because that is faster; nothing on disk.
fn mosquitto_config(port: u16) -> String {
    format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n\
         max_inflight_messages 0\nset_tcp_nodelay true\nlog_dest stderr\nlog_type error\nlog_type warning\n"
    )
}

/// A NATS configuration of a comparison, for `port`, with its files in `directory`. As it comes, but that more may be unacknowledged
/// than 1,024 messages a subscription, so that it is not that which is measured.
fn nats_config(port: u16, directory: &Path) -> String {
    format!(
        "server_name: bench\nhost: 127.0.0.1\nport: -1\njetstream {{ store_dir: {:?} }}\n\
         mqtt {{ host: 127.0.0.1, port: {port}, max_ack_pending: 10000 }}\n",
        directory.join("store")
    )
}

/// A broker that has to be told its port, by the configuration for it.
fn start_on_free_port(
    program: &Path,
    config: impl Fn(u16, &Path) -> String,
) -> Result<BrokerProcess, BrokerError> {
    let mut attempt = 1;
    loop {
        match start_configured(program, &config) {
            Err(BrokerError::NotReady { .. }) if attempt < PORT_ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}

fn start_configured(
    program: &Path,
    text: impl Fn(u16, &Path) -> String,
) -> Result<BrokerProcess, BrokerError> {
    let directory = TempDir::new().map_err(BrokerError::Files)?;
    let port = free_port().map_err(BrokerError::Files)?;
    let config = directory.path().join("broker.conf");
    fs::write(&config, text(port, directory.path())).map_err(BrokerError::Files)?;
    let log = directory.path().join("log");
    let mut command = Command::new(program);
    command.arg("-c").arg(&config).stdout(Stdio::null());
    let child = spawn(command, program, &log)?;
    let mut broker = BrokerProcess {
        addr: LoopbackAddr::localhost(port),
        child: Some(child),
        _directory: Some(directory),
    };
    let begun = Instant::now();
    while !answers(broker.addr) {
        let ended = broker.child.as_mut().is_none_or(ChildProcess::has_ended);
        if ended || begun.elapsed() >= START {
            return Err(BrokerError::NotReady {
                program: program.to_owned(),
                log: tail(&log),
            });
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(broker)
}

/// Our broker's configuration: ten thousand clients, and who writes to them.
const SEALPOST_CONFIG: &str = "[limits]\nconnections = 20000\n";

/// Our broker on a port of its own choice, with further arguments.
pub(crate) fn start_sealpost(
    program: &Path,
    arguments: &[&str],
) -> Result<BrokerProcess, BrokerError> {
    let directory = TempDir::new().map_err(BrokerError::Files)?;
    let log = directory.path().join("log");
    let config = directory.path().join("broker.toml");
    fs::write(&config, SEALPOST_CONFIG).map_err(BrokerError::Files)?;
    let mut command = Command::new(program);
    command
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(directory.path().join("data"))
        .arg("--config")
        .arg(&config);
    command.args(arguments).stdout(Stdio::piped());
    let mut child = spawn(command, program, &log)?;
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.take_stdout() {
        // Reads to the end, so that the broker never waits for a full pipe. Ends with the broker.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let addr = line
                    .strip_prefix("listening on ")
                    .and_then(|addr| addr.parse().ok());
                if let Some(addr) = addr {
                    let _ = sender.send(addr);
                }
            }
        });
    }
    let mut broker = BrokerProcess {
        addr: LoopbackAddr::localhost(0),
        child: Some(child),
        _directory: Some(directory),
    };
    broker.addr = receiver
        .recv_timeout(START)
        .map_err(|_| BrokerError::NotReady {
            program: program.to_owned(),
            log: tail(&log),
        })?;
    Ok(broker)
}

fn spawn(command: Command, program: &Path, log: &Path) -> Result<ChildProcess, BrokerError> {
    ChildProcess::start(command, log).map_err(|source| BrokerError::Start {
        program: program.to_owned(),
        source,
    })
}

/// Whether a broker accepts a CONNECT.
fn answers(addr: LoopbackAddr) -> bool {
    let limits = Limits::from_now(Duration::from_secs(1), Duration::from_secs(1));
    let introduction = Introduction {
        client_id: "bench-ready",
        clean_session: true,
        credentials: None,
    };
    Connection::open(addr, &introduction, limits, 1024)
        .map(Connection::close)
        .is_ok()
}

/// A port that was free a moment ago.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// A program: the one given, the one beside this program, or the one installed.
pub(crate) fn find(name: &'static str, given: Option<&Path>) -> Result<PathBuf, BrokerError> {
    if let Some(path) = given {
        return if path.is_file() {
            Ok(path.to_owned())
        } else {
            Err(BrokerError::Missing(name))
        };
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(DAEMON_DIRECTORIES.map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
        .ok_or(BrokerError::Missing(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_in_three_ways() {
        assert_eq!("mosquitto".parse(), Ok(Peer::Mosquitto(None)));
        assert_eq!(
            "sealpost:/x/y".parse(),
            Ok(Peer::Sealpost(Some("/x/y".into())))
        );
        let running = "nats@127.0.0.1:1883".parse::<Peer>().unwrap();
        assert_eq!(
            running,
            Peer::Running {
                name: "nats".into(),
                addr: LoopbackAddr::localhost(1883)
            }
        );
        assert_eq!(
            "else".parse::<Peer>(),
            Err(PeerError::Unknown("else".into()))
        );
        assert!(matches!(
            "far@192.0.2.1:1883".parse::<Peer>(),
            Err(PeerError::Address(_))
        ));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let peer = Peer::Mosquitto(Some("/nowhere/mosquitto".into()));
        let error = peer.start().err().unwrap().to_string();
        assert_eq!(
            error,
            "mosquitto is not installed: give its path, as in mosquitto:PATH"
        );
    }

    #[test]
    fn a_program_that_ends_at_once_is_not_ready() {
        assert!(matches!(
            start_sealpost(Path::new("/bin/true"), &[]),
            Err(BrokerError::NotReady { .. })
        ));
    }
}
