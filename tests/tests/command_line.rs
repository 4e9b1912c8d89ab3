//! What a command does at its edges: output that nobody reads, input that cannot be read, brokers that do not answer,
//! signals.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sealpost_tests::{Broker, BrokerOptions, Person, Process, program};

fn broker() -> Broker {
    Broker::start(BrokerOptions::default())
}

/// A pipe that nobody reads.
fn without_reader() -> std::io::PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer
}

#[test]
fn send_sends_although_nobody_reads_its_remarks() {
    let broker = broker();
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    // The first contact is remarked upon before anything is sealed.
    let status = alice
        .command()
        .args(["send", "bob", "hello"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(without_reader())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let status = alice
        .command()
        .args(["--json", "send", "bob", "hello again"])
        .stdin(Stdio::null())
        .stdout(without_reader())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let got = bob.run(&["listen", "--count", "2", "--timeout", "5s"]);
    assert_eq!(got.stdout, "From alice: hello\nFrom alice: hello again");
}

#[test]
fn chat_sends_although_nobody_reads_and_leaves_what_comes_unshown() {
    let broker = broker();
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    assert_eq!(alice.run(&["send", "bob", "you there?"]).code, 0);
    let (input, mut typed) = std::io::pipe().unwrap();
    let mut chat = bob
        .command()
        .arg("chat")
        .stdin(input)
        .stdout(without_reader())
        .stderr(without_reader())
        .spawn()
        .unwrap();
    // Written when the mail has come, so that the chat goes on after it could not be shown.
    std::thread::sleep(Duration::from_secs(2));
    typed.write_all(b"msg alice yes\n").unwrap();
    drop(typed);
    let status = chat.wait().unwrap();
    assert!(status.success(), "{status}");
    let got = alice.run(&["listen", "--count", "1", "--timeout", "5s"]);
    assert_eq!(got.stdout, "From bob: yes");
    let got = bob.run(&["listen", "--count", "1", "--timeout", "5s"]);
    assert_eq!(got.stdout, "From alice: you there?");
}

#[test]
fn listen_is_done_when_nobody_reads_and_the_message_stays_for_the_next() {
    let broker = broker();
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    assert_eq!(alice.run(&["send", "bob", "hello"]).code, 0);
    let status = bob
        .command()
        .args(["listen", "--timeout", "10s"])
        .stdin(Stdio::null())
        .stdout(without_reader())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let got = bob.run(&["listen", "--count", "1", "--timeout", "5s"]);
    assert_eq!(got.stdout, "From alice: hello");
}

/// Alice, with keys that no broker has seen.
fn offline_alice(url: &str) -> Person {
    let alice = Person::newcomer("alice", url);
    let made = alice.run(&["keys", "init", "--no-passphrase", "--no-publish"]);
    assert_eq!(made.code, 0, "{made:?}");
    alice
}

#[test]
fn standard_input_that_cannot_be_read_is_not_called_output() {
    let alice = offline_alice("mqtt://127.0.0.1:1");
    let output = alice
        .command()
        .args(["send", "bob", "-"])
        .stdin(std::fs::File::open("/").unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot read standard input"), "{said}");
}

/// One packet: its first byte and its body.
fn packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    let first = byte[0];
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        stream.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((first, body))
}

/// A broker that accepts logins, answers pings, and grants each subscription with these codes, or never. Its URL.
fn odd_broker(codes: Option<&'static [u8]>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                while let Some((first, body)) = packet(&mut stream) {
                    let answer = match (first >> 4, codes) {
                        (1, _) => vec![0x20, 3, 0, 0, 0],
                        (12, _) => vec![0xd0, 0],
                        (8, Some(codes)) => {
                            let length = 3 + u8::try_from(codes.len()).unwrap();
                            let mut answer = vec![0x90, length, body[0], body[1], 0];
                            answer.extend(codes);
                            answer
                        }
                        _ => vec![],
                    };
                    if stream.write_all(&answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

/// The exit code, and how long it took; `None` when it is still running after 20 s.
fn ends(command: &mut Command) -> Option<(i32, Duration)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(20) {
        if let Some(status) = child.try_wait().unwrap() {
            return Some((status.code().unwrap_or(-1), since.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

#[test]
fn a_timeout_counts_from_the_start_of_connecting() {
    let alice = offline_alice(&odd_broker(None));
    for (arguments, expected) in [
        (&["send", "bob", "hi", "--timeout", "1s"][..], 0),
        (
            &["send", "bob", "hi", "--wait", "sent", "--timeout", "1s"][..],
            3,
        ),
        (&["listen", "--count", "1", "--timeout", "1s"][..], 3),
    ] {
        let (code, took) = ends(alice.command().args(arguments)).expect("an end");
        assert_eq!(code, expected, "{arguments:?}");
        assert!(took < Duration::from_secs(3), "{arguments:?}: {took:?}");
    }
}

#[test]
fn a_send_that_hangs_gives_way_to_listen() {
    let broker = broker();
    let mut alice = offline_alice(&odd_broker(None));
    let mut hanging = alice.start(&["send", "bob", "hi", "--timeout", "1m"]);
    std::thread::sleep(Duration::from_secs(1));
    alice.move_to(&broker.url());
    let listen = alice.run(&["listen", "--timeout", "1s"]);
    assert_eq!(listen.code, 0, "{listen:?}");
    hanging.kill();
}

#[test]
fn a_subscription_that_is_not_granted_as_asked_is_refused() {
    for codes in [&[0, 0][..], &[1][..], &[0x87, 0x87][..]] {
        let alice = offline_alice(&odd_broker(Some(codes)));
        let ended = ends(alice.command().args(["listen", "--timeout", "5s"]));
        assert_eq!(ended.map(|(code, _)| code), Some(5), "{codes:?}");
    }
}

#[test]
fn an_unanswered_subscription_is_a_lost_connection() {
    let alice = offline_alice(&odd_broker(None));
    let listen = alice.start(&["listen"]);
    listen.expect_error("no answer to a subscription within 10 s");
}

/// Asks for a passphrase on a terminal of its own, ends that in each way, and compares the terminal's settings.
const AT_THE_PROMPT: &str = r#"
import os, pty, select, signal, sys, termios
program, home = sys.argv[1:]
for how in ("Ctrl-C", "SIGINT", "SIGTERM", "SIGHUP"):
    # Its number goes over a pipe: the terminal belongs to the program.
    numbers = os.pipe()
    pid, terminal = pty.fork()
    if pid == 0:
        before = termios.tcgetattr(0)
        child = os.fork()
        if child == 0:
            # Under nohup some of them would be ignored from the start, and stay so.
            for signal_name in ("SIGINT", "SIGTERM", "SIGHUP"):
                signal.signal(getattr(signal, signal_name), signal.SIG_DFL)
            os.execv(program, [program, "--user", "carol", "--home", home, "keys", "init", "--no-publish"])
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.write(numbers[1], b"%d\n" % child)
        _, status = os.waitpid(child, 0)
        same = termios.tcgetattr(0) == before
        os._exit(0 if same and os.WIFSIGNALED(status) else 1 if same else 2)
    child = int(os.read(numbers[0], 100))
    seen = b""
    while b"passphrase" not in seen:
        if not select.select([terminal], [], [], 20)[0]: sys.exit("no prompt: %r" % seen)
        seen += os.read(terminal, 1000)
    while termios.tcgetattr(terminal)[3] & termios.ECHO: pass
    if how == "Ctrl-C": os.write(terminal, b"\x03")
    else: os.kill(child, getattr(signal, how))
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 1: print(how, "does not end it as a signal does")
    if code == 2: print(how, "leaves the terminal without echo, line editing and Ctrl-C")
    while select.select([terminal], [], [], 0.2)[0]:
        try: rest = os.read(terminal, 1000)
        except OSError: break
        if b"sealpost:" in rest or b"error" in rest: print(how, "is commented upon:", rest)
"#;

#[test]
fn the_terminal_is_as_it_was_after_a_signal_at_the_passphrase_prompt() {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new("python3")
        .args(["-c", AT_THE_PROMPT])
        .arg(program("sealpost"))
        .arg(home.path().join("home"))
        .output()
        .expect("python3, for a terminal of its own");
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{output:?}"
    );
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let broker = broker();
    let alice = Person::settle("alice", &broker.url());
    let bob = Person::settle("bob", &broker.url());
    // What nohup(1) and a shell's `&` do.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "trap '' HUP INT; exec \"$0\" \"$@\""])
        .arg(program("sealpost"))
        .args(["--user", "bob", "--broker", &broker.url(), "--home"])
        .arg(bob.home())
        .arg("listen");
    let mut listen = Process::spawn("bob", &mut command);
    listen.expect_error("connected");
    for signal in ["-HUP", "-INT"] {
        let pid = listen.pid().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(alice.run(&["send", "bob", "hello"]).code, 0);
    listen.expect("From alice: hello");
    assert!(listen.terminate().success());
}

#[test]
fn a_home_whose_name_is_not_utf8_is_used_or_refused_and_never_another() {
    use std::os::unix::ffi::OsStringExt;
    let folder = tempfile::tempdir().unwrap();
    let odd = folder
        .path()
        .join(std::ffi::OsString::from_vec(b"alic\xe9".to_vec()));
    let init = |flag: bool| {
        let mut command = Command::new(program("sealpost"));
        command
            .args(["--user", "alice", "keys", "init"])
            .args(["--no-passphrase", "--no-publish"])
            .env("HOME", folder.path())
            .env_remove("XDG_DATA_HOME")
            .env_remove("SEALPOST_HOME")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match flag {
            true => command.arg("--home").arg(&odd),
            false => command.env("SEALPOST_HOME", &odd),
        };
        command.status().unwrap().code()
    };
    assert_eq!(init(false), Some(2));
    assert_eq!(init(true), Some(0));
    assert!(odd.join("keystore.json").exists());
    assert!(!folder.path().join(".local").exists());
}

#[test]
fn completions_and_man_pages_come_without_a_user_and_are_what_shells_and_man_read() {
    let script = Command::new(program("sealpost"))
        .args(["completions", "bash"])
        .output()
        .unwrap();
    assert!(script.status.success(), "{script:?}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sealpost.bash");
    std::fs::write(&path, &script.stdout).unwrap();
    let read = Command::new("bash").arg("-n").arg(&path).output().unwrap();
    assert!(read.status.success() && read.stderr.is_empty(), "{read:?}");

    let man = |folder: &std::path::Path| {
        Command::new(program("sealpost"))
            .arg("man")
            .arg(folder)
            .output()
            .unwrap()
    };
    assert!(man(folder.path()).status.success());
    let page = std::fs::read_to_string(folder.path().join("sealpost-send.1")).unwrap();
    assert!(page.contains(".TH"), "{page}");
    assert_eq!(man(&folder.path().join("missing")).status.code(), Some(1));
}

#[test]
fn every_program_says_its_version_and_build_in_the_same_form() {
    for name in [
        "sealpost",
        "sealpost-device",
        "sealpost-broker",
        "sealpost-archiver",
    ] {
        let say = |flag: &str| {
            let said = Command::new(program(name)).arg(flag).output().unwrap();
            assert!(said.status.success(), "{said:?}");
            String::from_utf8(said.stdout).unwrap()
        };
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(say("-V"), format!("{name} {version}\n"));
        let long = say("--version");
        let starts: Vec<&str> = long
            .lines()
            .map(|line| line.split_once(' ').unwrap().0)
            .collect();
        assert_eq!(
            starts,
            [name, "commit", "profile", "target", "compiler"],
            "{long}"
        );
        // Nothing of the machine that built it.
        assert!(!long.contains('/'), "{long}");
        assert!(long.contains("compiler rustc "), "{long}");
    }
}

#[test]
fn completions_that_nobody_reads_to_the_end_are_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let printed = Command::new(program("sealpost"))
        .args(["completions", "bash"])
        .stdout(writer)
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    assert!(printed.stderr.is_empty(), "{printed:?}");
}
