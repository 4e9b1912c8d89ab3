//! The client's and the archiver's ways to a broker: TLS, WebSocket, client certificates, several brokers, proxies. What goes
//! wrong on the way is told with its cause and what to do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sealpost_tests::{
    Answer, Archiver, Broker, BrokerOptions, Clock, Lab, Person, Proxy, free_port,
};
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn broker(lab: &Lab) -> Broker {
    Broker::start(BrokerOptions {
        settings: lab.settings(),
        ..BrokerOptions::default()
    })
}

fn ca(lab: &Lab) -> [std::ffi::OsString; 2] {
    ["--ca".into(), lab.file("ca.pem").into()]
}

/// The broker's URL with this scheme.
fn url(broker: &Broker, scheme: &str) -> String {
    let port = match scheme {
        "mqtts" | "wss" => broker.tls_address().port(),
        _ => broker.address().port(),
    };
    format!("{scheme}://localhost:{port}")
}

/// Failed with this code, and says this and that.
#[track_caller]
fn assert_failed(answer: &Answer, code: i32, words: &[&str]) {
    assert_eq!(answer.code, code, "{answer:?}");
    for word in words {
        assert!(
            answer.stderr.contains(word),
            "{word:?} is missing: {answer:?}"
        );
    }
}

#[test]
fn people_and_the_archiver_meet_over_every_transport() {
    let lab = Lab::new();
    let mut archiver = Archiver::prepare();
    let broker = Broker::start(BrokerOptions {
        archivers: vec![archiver.credential()],
        settings: lab.settings(),
        ..BrokerOptions::default()
    });
    let schemes = ["mqtt", "mqtts", "ws", "wss"];
    for (round, scheme) in schemes.iter().rev().enumerate() {
        archiver.run_with(&url(&broker, scheme), &ca(&lab));
        let sender = Person::newcomer(&format!("sender{round}"), &url(&broker, scheme));
        let sender = sender.with(&ca(&lab)).settled();
        let other = schemes[round];
        let reader = Person::newcomer(&format!("reader{round}"), &url(&broker, other));
        let reader = reader.with(&ca(&lab)).settled();
        let sent = sender.run(&["send", reader.name(), "by", scheme]);
        assert_eq!(sent.code, 0, "{scheme}: {sent:?}");
        let got = reader.run(&["listen", "--count", "1", "--timeout", "30s"]);
        assert_eq!(
            got.stdout,
            format!("From {}: by {scheme}", sender.name()),
            "{got:?}"
        );
        archiver.expect_lines(round + 1);
        assert!(archiver.process().terminate().success());
    }
}

/// Ends TLS with the broker's own certificate, as a thief of its key or a wicked authority could, and passes everything on
/// over a TLS connection of its own. Counts connections.
async fn man_in_the_middle(lab: Arc<Lab>, broker: SocketAddr) -> (u16, Arc<AtomicUsize>) {
    let chain = CertificateDer::pem_file_iter(lab.file("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(lab.file("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let relayed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&relayed);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, lab, count) = (acceptor.clone(), Arc::clone(&lab), Arc::clone(&count));
            tokio::spawn(async move {
                let mut victim = acceptor.accept(socket).await.unwrap();
                let mut broker = lab.connect(broker, None).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let _ = copy_bidirectional(&mut victim, &mut broker).await;
            });
        }
    });
    (port, relayed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_relayed_over_another_tls_connection_is_refused() {
    let lab = Arc::new(Lab::new());
    let mut archiver = Archiver::prepare();
    let broker = Broker::start(BrokerOptions {
        archivers: vec![archiver.credential()],
        settings: lab.settings(),
        ..BrokerOptions::default()
    });
    let (port, relayed) = man_in_the_middle(Arc::clone(&lab), broker.tls_address()).await;
    tokio::task::block_in_place(|| {
        for scheme in ["mqtts", "wss"] {
            let direct = url(&broker, scheme);
            let alice = Person::newcomer(&format!("alice-{scheme}"), &direct);
            let mut alice = alice.with(&ca(&lab)).settled();
            alice.move_to(&format!("{scheme}://localhost:{port}"));
            let answer = alice.run(&["listen", "--timeout", "30s"]);
            assert_failed(
                &answer,
                5,
                &["refused the login", "was not signed for this"],
            );
            alice.move_to(&direct);
            let answer = alice.run(&["listen", "--timeout", "1s"]);
            assert_eq!(answer.code, 0, "{answer:?}");
        }
    });
    assert_eq!(
        relayed.load(Ordering::Relaxed),
        2,
        "both logins went that way"
    );
    tokio::task::block_in_place(|| {
        let archiver = archiver.start(&format!("mqtts://localhost:{port}"), &ca(&lab));
        archiver.expect_error("was not signed for this");
    });
}

#[test]
fn a_client_certificate_is_shown_and_has_to_be_the_users() {
    let lab = Lab::new();
    let broker = broker(&lab);
    // Makes the certificate's files.
    drop(lab.client(Some("bob")));
    let (certificate, key) = (lab.file("client-bob.pem"), lab.file("client-bob.key"));
    let url = url(&broker, "mqtts");
    let as_bob = |name: &str| {
        let person = Person::newcomer(name, &url).with(&ca(&lab));
        person
            .with(&["--client-cert".as_ref(), certificate.as_os_str()])
            .with(&["--client-key".as_ref(), key.as_os_str()])
    };
    let bob = as_bob("bob").settled();
    let listening = bob.run(&["listen", "--timeout", "1s"]);
    assert_eq!(listening.code, 0, "{listening:?}");
    let alice = as_bob("alice");
    assert_eq!(
        alice
            .run(&["keys", "init", "--no-passphrase", "--no-publish"])
            .code,
        0
    );
    assert_failed(
        &alice.run(&["listen", "--timeout", "30s"]),
        5,
        &["the client certificate is bob's, and you say that you are alice"],
    );

    let half =
        Person::newcomer("carol", &url).with(&["--client-cert".as_ref(), certificate.as_os_str()]);
    assert_failed(&half.run(&["contacts"]), 2, &["--client-key"]);
    let other = Lab::new();
    drop(other.client(Some("bob")));
    let stranger = Person::newcomer("bob", &url)
        .with(&ca(&lab))
        .with(&[
            "--client-cert".as_ref(),
            other.file("client-bob.pem").as_os_str(),
        ])
        .with(&[
            "--client-key".as_ref(),
            other.file("client-bob.key").as_os_str(),
        ]);
    assert_eq!(
        stranger
            .run(&["keys", "init", "--no-passphrase", "--no-publish"])
            .code,
        0
    );
    assert_failed(
        &stranger.run(&["listen", "--timeout", "5s"]),
        3,
        &["does not accept the client certificate", "client_ca"],
    );
}

#[test]
fn listeners_and_the_archiver_come_back_to_a_broker_that_was_restarted() {
    let lab = Lab::new();
    let mut archiver = Archiver::prepare();
    let settings = lab
        .settings()
        .replace("127.0.0.1:0", &format!("127.0.0.1:{}", free_port()));
    let mut broker = Broker::start(BrokerOptions {
        archivers: vec![archiver.credential()],
        settings,
        ..BrokerOptions::default()
    });
    archiver.run_with(&url(&broker, "wss"), &ca(&lab));
    let bob = Person::newcomer("bob", &url(&broker, "mqtts"))
        .with(&ca(&lab))
        .settled();
    let alice = Person::newcomer("alice", &url(&broker, "wss"))
        .with(&ca(&lab))
        .settled();
    let listening = bob.start(&["--json", "listen"]);
    listening.expect("\"connected\"");
    for round in 1..=2 {
        let lines = listening.stdout().len();
        if round == 1 {
            broker.kill();
        } else {
            assert!(broker.stop().success());
        }
        let (lines, lost) = listening.expect_from(lines, "\"disconnected\"");
        assert!(lost.contains("\"reason\""), "{lost}");
        if round == 2 {
            assert!(
                lost.contains("shutting down"),
                "the broker's own reason: {lost}"
            );
        }
        broker.restart();
        listening.expect_from(lines, "\"connected\"");
        assert_eq!(
            alice.run(&["send", "bob", &format!("round {round}")]).code,
            0
        );
        listening.expect(&format!("round {round}"));
        archiver.expect_lines(round);
    }
}

#[test]
fn a_dead_broker_is_passed_over_and_the_one_that_works_is_named() {
    let lab = Lab::new();
    let mut archiver = Archiver::prepare();
    let broker = Broker::start(BrokerOptions {
        archivers: vec![archiver.credential()],
        settings: lab.settings(),
        ..BrokerOptions::default()
    });
    let (dead, alive) = (
        format!("mqtts://localhost:{}", free_port()),
        url(&broker, "wss"),
    );
    let bob = Person::newcomer("bob", &format!("{dead},{alive}"))
        .with(&ca(&lab))
        .settled();
    let listening = bob.start(&["--json", "listen"]);
    let status = listening.expect("\"connected\"");
    assert!(status.contains(&format!("{alive}/mqtt")), "{status}");
    archiver.run_with(
        &dead,
        &[
            "--broker",
            &alive,
            "--ca",
            lab.file("ca.pem").to_str().unwrap(),
        ],
    );
    let alice = Person::newcomer("alice", &dead)
        .with(&["--broker", &alive])
        .with(&ca(&lab))
        .settled();
    assert_eq!(alice.run(&["send", "bob", "hello"]).code, 0);
    listening.expect("hello");
    archiver.expect_lines(1);

    let nobody = Person::newcomer("carol", &dead)
        .with(&["--broker", &format!("ws://localhost:{}", free_port())]);
    let nobody = nobody.with(&ca(&lab));
    assert_eq!(
        nobody
            .run(&["keys", "init", "--no-passphrase", "--no-publish"])
            .code,
        0
    );
    assert_failed(
        &nobody.run(&["listen", "--timeout", "5s"]),
        3,
        &[&dead, "ws://localhost:", "connection refused"],
    );
}

#[test]
fn proxies_are_gone_through_with_their_logins() {
    let lab = Lab::new();
    let mut archiver = Archiver::prepare();
    let broker = Broker::start(BrokerOptions {
        archivers: vec![archiver.credential()],
        settings: lab.settings(),
        ..BrokerOptions::default()
    });
    let ports = [broker.address().port(), broker.tls_address().port()];
    let http = Proxy::http(Some("carol:s3cret"), &ports);
    let socks = Proxy::socks5(Some("carol:s3cret"));
    for (proxy, scheme, name) in [
        (&http, "mqtts", "a"),
        (&socks, "wss", "b"),
        (&http, "ws", "c"),
        (&socks, "mqtt", "d"),
    ] {
        let through = ["--proxy", proxy.url()];
        let person = Person::newcomer(name, &url(&broker, scheme))
            .with(&ca(&lab))
            .with(&through)
            .settled();
        let listening = person.run(&["listen", "--timeout", "1s"]);
        assert_eq!(listening.code, 0, "{listening:?}");
        let port = if scheme.ends_with('s') && scheme != "ws" {
            ports[1]
        } else {
            ports[0]
        };
        assert!(proxy.connections_to(port) >= 1, "{proxy:?}");
    }
    let before = socks.connections_to(ports[1]);
    archiver.run_with(
        &url(&broker, "mqtts"),
        &[
            "--ca",
            lab.file("ca.pem").to_str().unwrap(),
            "--proxy",
            socks.url(),
        ],
    );
    assert!(socks.connections_to(ports[1]) > before);

    let keyed = |proxy: &str| {
        let person = Person::newcomer("e", &url(&broker, "mqtts"))
            .with(&ca(&lab))
            .with(&["--proxy", proxy]);
        assert_eq!(
            person
                .run(&["keys", "init", "--no-passphrase", "--no-publish"])
                .code,
            0
        );
        person.run(&["listen", "--timeout", "5s"])
    };
    for proxy in [&http, &socks] {
        let anonymous = proxy.url().replace("carol:s3cret@", "");
        let answer = keyed(&anonymous);
        assert_failed(&answer, 3, &["wants another login", "USER:PASSWORD"]);
        assert!(!answer.stderr.contains("s3cret"));
    }
    let elsewhere = Proxy::http(None, &[443]);
    assert_failed(
        &keyed(elsewhere.url()),
        3,
        &["does not connect to localhost:", "wss://"],
    );
    // Where nobody listens, the SOCKS proxy says so.
    let nowhere = Person::newcomer("f", &format!("mqtts://localhost:{}", free_port()));
    let nowhere = nowhere.with(&ca(&lab)).with(&["--proxy", socks.url()]);
    let init = ["keys", "init", "--no-passphrase", "--no-publish"];
    assert_eq!(nowhere.run(&init).code, 0);
    assert_failed(
        &nowhere.run(&["listen", "--timeout", "5s"]),
        3,
        &["does not connect to localhost:"],
    );
    let dead = format!("socks5://127.0.0.1:{}", free_port());
    assert_failed(
        &keyed(&dead),
        3,
        &["cannot reach the proxy", "--proxy none"],
    );
}

#[test]
fn the_environments_proxy_is_for_other_machines_only() {
    let broker = Broker::start(BrokerOptions::default());
    let mut bob = Person::settle("bob", &broker.url());
    let dead = format!("http://127.0.0.1:{}", free_port());
    let mut run = |url: &str, exceptions: &str| {
        bob.move_to(url);
        let mut command = bob.command();
        command.args(["listen", "--timeout", "1s"]);
        command
            .env("HTTPS_PROXY", &dead)
            .env("NO_PROXY", exceptions)
            .env_remove("ALL_PROXY");
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(run(&broker.url(), "").0, Some(0));
    // A name of this machine that does not look like one is for the proxy, unless it is excepted.
    let (code, said) = run("mqtt://broker.invalid", "");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("cannot reach the proxy"), "{said}");
    let (code, said) = run("mqtt://broker.invalid", "invalid");
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("no address is known for broker.invalid"),
        "{said}"
    );
}

#[test]
fn what_goes_wrong_with_tls_is_told_with_what_to_do() {
    let (lab, other) = (Lab::new(), Lab::new());
    let broker = broker(&lab);
    let listen = |url: &str, lab: &Lab| {
        let person = Person::newcomer("bob", url).with(&ca(lab));
        assert_eq!(
            person
                .run(&["keys", "init", "--no-passphrase", "--no-publish"])
                .code,
            0
        );
        person.run(&["listen", "--timeout", "5s"])
    };
    let (plain, tls) = (broker.address().port(), broker.tls_address().port());
    let at = |scheme: &str, host: &str, port: u16| format!("{scheme}://{host}:{port}");
    for (url, words) in [
        (
            at("mqtts", "localhost", tls),
            ["not trusted here", "--ca FILE"],
        ),
        (
            at("wss", "localhost", tls),
            ["not trusted here", "--ca FILE"],
        ),
    ] {
        assert_failed(&listen(&url, &other), 3, &words);
    }
    let mut cases = Vec::new();
    for (url, problem, advice) in [
        (at("mqtts", "[::1]", tls), "connection refused", "--broker"),
        (
            at("mqtts", "127.0.0.2", tls),
            "connection refused",
            "--broker",
        ),
        (
            at("mqtts", "localhost", plain),
            "TLS",
            &at("mqtt", "localhost", plain),
        ),
        (
            at("wss", "localhost", plain),
            "TLS",
            &at("ws", "localhost", plain),
        ),
        (
            at("mqtt", "localhost", tls),
            "",
            &at("mqtts", "localhost", tls),
        ),
        (at("ws", "localhost", tls), "", &at("wss", "localhost", tls)),
        (
            format!("{}/elsewhere", at("wss", "localhost", tls)),
            "HTTP status 404",
            "/mqtt",
        ),
    ] {
        cases.push((url, problem, advice.to_owned()));
    }
    // Each tries until its time is over: side by side that is not long.
    std::thread::scope(|scope| {
        for (url, problem, advice) in &cases {
            scope.spawn(|| assert_failed(&listen(url, &lab), 3, &[problem, advice]));
        }
    });
    let nothing =
        Person::newcomer("bob", &at("mqtts", "localhost", tls)).with(&["--ca", "/nowhere/ca.pem"]);
    assert_eq!(
        nothing
            .run(&["keys", "init", "--no-passphrase", "--no-publish"])
            .code,
        0
    );
    assert_failed(
        &nothing.run(&["listen", "--timeout", "5s"]),
        2,
        &["cannot read \"/nowhere/ca.pem\"", "Check the path"],
    );

    // A certificate for this machine's name, and not for its address.
    let named = Lab::named(&["localhost"]);
    let broker = self::broker(&named);
    let url = at("mqtts", "127.0.0.1", broker.tls_address().port());
    assert_failed(
        &listen(&url, &named),
        3,
        &[
            "not for this name but for localhost",
            "as the certificate has it",
        ],
    );
}

#[test]
fn a_refused_login_says_what_the_broker_said() {
    let broker = Broker::start(BrokerOptions {
        settings: "registration = \"closed\"".into(),
        ..BrokerOptions::default()
    });
    let newcomer = Person::newcomer("bob", &broker.url());
    assert_eq!(
        newcomer
            .run(&["keys", "init", "--no-passphrase", "--no-publish"])
            .code,
        0
    );
    assert_failed(
        &newcomer.run(&["listen"]),
        5,
        &["the name bob is not registered", "--invitation"],
    );

    let broker = Broker::start(BrokerOptions::default());
    let alice = Person::settle("alice", &broker.url());
    let impostor = Person::newcomer("alice", &broker.url());
    assert_eq!(
        impostor
            .run(&["keys", "init", "--no-passphrase", "--no-publish"])
            .code,
        0
    );
    assert_failed(
        &impostor.run(&["listen"]),
        5,
        &["the name alice belongs to another identity key"],
    );
    let clock = Clock::new();
    clock.set(2 * 3_600);
    let mut command = alice.command();
    clock.put_on(command.args(["listen", "--timeout", "30s"]));
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{said}");
    for words in ["s in the future by this broker's clock", "clock"] {
        assert!(said.contains(words), "{said}");
    }
}
