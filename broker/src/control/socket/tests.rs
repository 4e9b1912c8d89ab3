use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sealpost_core::Realm;
use tempfile::TempDir;

use super::*;
use crate::access::audit::Audit;
use crate::access::registry::Registry;
use crate::control::caller::{CallError, Caller};

struct Office {
    dir: TempDir,
    data: PathBuf,
    shutdown: CancellationToken,
}

impl Office {
    /// Somebody who answers, in a data directory with a path of at least this many bytes.
    fn open(path_length: usize) -> Office {
        let dir = tempfile::tempdir().unwrap();
        let mut data = dir.path().to_owned();
        while data.as_os_str().len() < path_length {
            data.push("a-rather-long-name");
        }
        fs::create_dir_all(&data).unwrap();
        let office = Office {
            dir,
            data,
            shutdown: CancellationToken::new(),
        };
        office.serve();
        office
    }

    fn serve(&self) {
        let registry = Registry::open(&self.data, Realm::default(), 5_000).unwrap();
        let administration = Arc::new(Administration::of_files(registry, Audit::off()));
        let socket = ControlSocket::bind(&self.data).unwrap();
        tokio::spawn(socket.serve(administration, self.shutdown.clone()));
    }

    async fn ask(&self, request: Request) -> Result<Vec<Item>, CallError> {
        let data = self.data.clone();
        let asking = tokio::task::spawn_blocking(move || {
            let caller = Caller::connect(&data)?.expect("a broker that runs");
            let mut items = Vec::new();
            caller.ask(&request, |item| items.push(item))?;
            Ok(items)
        });
        asking.await.unwrap()
    }

    /// Sends bytes as they are, closes that direction, and returns what comes back.
    async fn say(&self, bytes: Vec<u8>) -> String {
        let path = self.data.join("control.sock");
        let saying = tokio::task::spawn_blocking(move || {
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut said = String::new();
            let _ = BufReader::new(&stream).read_line(&mut said);
            said
        });
        saying.await.unwrap()
    }
}

fn add(user: &str) -> Request {
    Request::AddUser {
        user: user.into(),
        key: None,
    }
}

#[tokio::test]
async fn a_request_is_done_and_answered_however_long_the_path_is() {
    for length in [0, 300] {
        let office = Office::open(length);
        office.ask(add("alice")).await.unwrap();
        let users = office.ask(Request::Users { after: None }).await.unwrap();
        assert_eq!(users.len(), 1);
        let Some(Item::User(first)) = users.first() else {
            panic!("{users:?}");
        };
        assert_eq!(first.user, "alice");
        let refused = office.ask(add("alice")).await;
        let Err(CallError::Refused { message, hint }) = refused else {
            panic!("{refused:?}");
        };
        assert!(message.contains("alice") && !hint.is_empty(), "{message}");
    }
}

#[tokio::test]
async fn what_is_not_a_request_is_refused_with_a_word() {
    let office = Office::open(0);
    for bytes in [
        b"\n".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"{\"do\":\"fly\"}\n".to_vec(),
        b"{\"do\":\"reload\"}".to_vec(),
        b"\xff\xfe\n".to_vec(),
        vec![b'x'; 20_000],
    ] {
        let said = office.say(bytes.clone()).await;
        assert!(said.contains("not a request"), "{bytes:?}: {said}");
    }
    let users = office.ask(Request::Users { after: None }).await.unwrap();
    assert!(users.is_empty());
}

#[tokio::test]
async fn the_socket_is_its_owners_and_a_dead_brokers_is_replaced() {
    let office = Office::open(0);
    let path = office.data.join("control.sock");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // As after kill -9: the socket is there, and nobody listens.
    let dead = tempfile::tempdir().unwrap();
    let path = dead.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    assert!(Caller::connect(dead.path()).unwrap().is_none());
    ControlSocket::bind(dead.path()).unwrap();
    assert!(!path.exists(), "it is gone with the broker");
    assert!(
        Caller::connect(office.dir.path().join("nowhere").as_path())
            .unwrap()
            .is_none()
    );
}
