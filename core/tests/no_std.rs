//! This crate links and seals without std: the program in `core/no-std` is built and run, and its envelopes are opened here.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

#[path = "promises/people.rs"]
#[allow(dead_code)]
mod people;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sealpost_core::{BurstCache, ContactLink, Content, Envelope, Identity, KeyBundle, open};

use people::{Memory, Person, at};

/// The most memory that sealing takes, in bytes: what a device must have to spare. RSA-2048 takes some 10 KiB.
const MOST_MEMORY: usize = 16 * 1_024;
/// The most code and constants, in bytes, on a 64-bit machine; some 320 KiB, of which the C library is no part.
const MOST_CODE: u64 = 400 * 1_024;

/// Where the program without std was built, as firmware would be.
fn built() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("no-std");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-std");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "--target-dir"])
        .arg(&target)
        .current_dir(package)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    target.join("release/sealpost-no-std")
}

/// What the program prints: envelopes, and how much memory they took.
fn report(device: &Identity, bundle: &KeyBundle, readings: &[&str]) -> (Vec<Envelope>, usize) {
    let (realm, user, identity) = (bundle.realm(), bundle.user(), bundle.identity());
    let link = ContactLink::new(realm.clone(), user.clone(), *identity, "mqtts://broker");
    let mut input = [*device.seed(), [7; 32]].concat();
    let bundle = std::str::from_utf8(bundle.as_bytes()).unwrap();
    for line in [at(60).to_string(), link.unwrap().to_string(), bundle.into()] {
        input.extend(line.bytes().chain([b'\n']));
    }
    for reading in readings {
        input.extend(reading.bytes().chain([b'\n']));
    }
    let mut program = Command::new(built())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    program.stdin.take().unwrap().write_all(&input).unwrap();
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = printed.lines().collect();
    let memory = lines.pop().unwrap().parse().unwrap();
    let envelopes = lines.iter().map(|line| Envelope::parse(line.as_bytes()));
    (envelopes.map(Result::unwrap).collect(), memory)
}

#[test]
fn readings_sealed_by_a_program_without_std_open_and_share_one_wrapped_key() {
    let alice = Person::new("alice", 1);
    let device = Identity::from_seed(&[9; 32]);
    let readings = [
        r#"{"kind":"reading","celsius":21.5}"#,
        r#"{"kind":"reading","celsius":21.6}"#,
    ];
    let (envelopes, memory) = report(&device, &alice.bundle(1), &readings);
    assert_eq!(envelopes.len(), 2);
    assert_eq!(envelopes[0].enc_key(), envelopes[1].enc_key());
    assert_eq!(envelopes[1].prev(), Some(envelopes[0].id()));
    let mut cache = BurstCache::new();
    for (envelope, reading) in envelopes.iter().zip(readings) {
        let opened = alice.opens(&[alice.rsa], |me| {
            open(envelope, me, &device.key(), &Memory::default(), &mut cache)
        });
        assert_eq!(opened.unwrap(), Content::parse(reading).unwrap());
    }
    println!("memory: {memory} bytes at most");
    assert!(memory <= MOST_MEMORY, "{memory}");
}

#[test]
fn it_has_neither_std_nor_rsa_private_operations_and_its_size_is_bounded() {
    let program = built();
    let bytes = std::fs::read(&program).unwrap();
    let has = |name: &str| {
        bytes
            .windows(name.len())
            .any(|part| part == name.as_bytes())
    };
    // Its symbols are not stripped.
    assert!(has("sealpost_no_std"));
    for (name, what) in [
        ("3std2io", "std"),
        ("3std6thread", "std"),
        ("rust_begin_short_backtrace", "std"),
        ("RsaDecryptionKey", "an RSA private key"),
        ("aws_lc", "aws-lc-rs"),
    ] {
        assert!(!has(name), "{what} is linked: {name}");
    }
    let lock = include_str!("../no-std/Cargo.lock");
    assert!(!lock.contains("aws-lc"));
    let size = Command::new("size").arg(&program).output().unwrap();
    let size = String::from_utf8(size.stdout).unwrap();
    let code: u64 = size
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    println!("code and constants: {code} bytes");
    assert!(code <= MOST_CODE, "{code}");
}
