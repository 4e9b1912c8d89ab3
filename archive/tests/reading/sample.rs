//! A small archive in a directory, as an archiver would have written it.
#![allow(dead_code)]

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealpost_archive::checkpoint::{CheckpointSigner, CheckpointVerifier};
use sealpost_archive::digest::Digest;
use sealpost_archive::hash::Hash;
use sealpost_archive::layout::{self, LogName};
use sealpost_archive::line::{self, Body, Erased, Line, Verified};
use sealpost_archive::segment::SegmentWriter;
use sealpost_archive::storage::{Directory, Storage as _, StoredFile as _};
use sealpost_archive::tree::{Tree, TreeHead};
use sealpost_archive::verify::{KeptNote, Report, Verification};
use sealpost_core::Timestamp;

/// How many lines the sample has.
pub(crate) const LAST: u64 = 560;

/// The last lines of its segments.
pub(crate) const CUTS: [u64; 3] = [300, 500, 520];

/// The line that is erased, and the record of it.
pub(crate) const ERASED: u64 = 310;
pub(crate) const RECORD: u64 = 530;

/// An archive with one log.
pub(crate) struct Sample {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) log: LogName,
    pub(crate) signer: CheckpointSigner,
    /// The lines, without their newlines.
    pub(crate) lines: Vec<Vec<u8>>,
}

/// When line `seq` was written: ten lines to a second.
pub(crate) fn at(seq: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + seq * 100).unwrap()
}

pub(crate) fn signer(log: LogName, seed: u8) -> CheckpointSigner {
    let origin = format!("sealpost/local/archiver/{}", log.as_str());
    CheckpointSigner::parse(&CheckpointSigner::text_from_seed(&origin, &[seed; 32])).unwrap()
}

/// The id of the envelope in line `seq`.
pub(crate) fn id(seq: u64) -> String {
    format!("018bcfe5-6800-7000-8000-{seq:012x}")
}

/// Who sends the envelope in line `seq`, and to whom.
pub(crate) fn people(seq: u64) -> (&'static str, &'static str) {
    match seq % 4 {
        0 => ("alice", "bob"),
        1 => ("bob", "alice"),
        2 => ("carol", "bob"),
        _ => ("alice", "carol"),
    }
}

/// An envelope that is well-formed and that nobody can open.
pub(crate) fn envelope(seq: u64, from: &str, to: &str, prev: Option<&str>) -> Vec<u8> {
    let filler = |length: usize| {
        let bytes: Vec<u8> = (0..length)
            .map(|place| (seq as usize * 7 + place * 13) as u8)
            .collect();
        STANDARD.encode(bytes)
    };
    let prev = prev.map_or("null".to_owned(), |prev| format!("\"{prev}\""));
    format!(
        "{{\"v\":1,\"suite\":\"RSA-OAEP-256/A256GCM/Ed25519\",\"realm\":\"local\",\"id\":\"{}\",\"prev\":{prev},\"ts\":{},\"from\":\"{from}\",\
         \"to\":\"{to}\",\"key\":\"{}\",\"signer\":\"gTl3Dqh9F19Wo1Rmw0x+zMuNipG07jeiXfYPW4/Js5Q=\",\"enc_key\":\"{}\",\"nonce\":\"{}\",\
         \"ciphertext\":\"{}\",\"sig\":\"{}\"}}",
        id(seq),
        at(seq),
        filler(32),
        filler(256),
        filler(12),
        filler(272),
        filler(64),
    )
    .into_bytes()
}

/// Line `seq` of the sample: envelopes, every tenth line something else.
pub(crate) fn plain_line(seq: u64) -> Vec<u8> {
    let mut line = Vec::new();
    match seq % 10 {
        // Long ones, so that the third segment has several frames.
        _ if (501..=512).contains(&seq) => {
            line::write_unfit(&mut line, seq, at(seq), b"inbox/bob", "long", &[0; 300_000]);
        }
        3 => line::write_unfit(
            &mut line,
            seq,
            at(seq),
            b"inbox/bob",
            "it is \"odd\"",
            b"\0\n",
        ),
        7 => line::write_unfit(&mut line, seq, at(seq), b"\xff", "not UTF-8", b""),
        _ => {
            let (from, to) = people(seq);
            let verified = [None, Some(Verified::True), Some(Verified::Unknown)];
            let payload = envelope(seq, from, to, None);
            line::write_message(
                &mut line,
                seq,
                at(seq),
                verified[seq as usize % 3],
                &payload,
            );
        }
    }
    line.pop();
    line
}

pub(crate) fn leaf(line: &[u8]) -> Hash {
    Line::parse(line).unwrap().leaf(line)
}

/// What the record says of the erased line.
pub(crate) fn erasure() -> Erased {
    let (from, to) = people(ERASED);
    let payload = envelope(ERASED, from, to, None);
    Erased {
        seq: ERASED,
        archived_at: at(ERASED),
        digest: Digest::of(format!("inbox/{to}").as_bytes(), &payload),
        leaf: leaf(&plain_line(ERASED)),
    }
}

/// The root of some lines.
pub(crate) fn root(lines: &[Vec<u8>]) -> Hash {
    let mut tree = Tree::new();
    lines.iter().for_each(|line| tree.push(leaf(line)));
    tree.root()
}

/// The lines of the sample: one is erased.
pub(crate) fn lines() -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = (1..=LAST).map(plain_line).collect();
    let erased = leaf(&lines[ERASED as usize - 1]);
    let mut tombstone = Vec::new();
    line::write_tombstone(&mut tombstone, ERASED, at(ERASED), RECORD, erased);
    tombstone.pop();
    lines[ERASED as usize - 1] = tombstone;
    let mut record = Vec::new();
    line::write_erasure(&mut record, RECORD, at(RECORD), &erasure(), "asked for");
    record.pop();
    lines[RECORD as usize - 1] = record;
    lines
}

impl Sample {
    /// The usual one.
    pub(crate) fn new() -> Sample {
        Sample::build(LogName::EncryptedLogs, lines(), &CUTS)
    }

    /// One of these lines (without newlines), with segments that end with the lines `cuts`.
    pub(crate) fn build(log: LogName, lines: Vec<Vec<u8>>, cuts: &[u64]) -> Sample {
        let sample = Sample {
            directory: tempfile::tempdir().unwrap(),
            log,
            signer: signer(log, 7),
            lines,
        };
        let storage = sample.storage();
        let mut tree = Tree::new();
        let mut first = 1;
        for &cut in cuts {
            let numbers = first as usize - 1..cut as usize;
            let sealed = &sample.lines[numbers];
            sealed.iter().for_each(|line| tree.push(leaf(line)));
            let day = log.place(&layout::day(at(first)));
            storage.make_directory(&day).unwrap();
            let file = storage.create_new(&sample.segment(first)).unwrap();
            let mut writer = SegmentWriter::new(file).unwrap();
            sealed.iter().for_each(|line| writer.push(line).unwrap());
            let (_, manifest) = writer.finish(log, tree.root()).unwrap();
            storage
                .create_new(&format!("{day}/{}", layout::manifest(first)))
                .unwrap()
                .append(&manifest.to_bytes())
                .unwrap();
            first = cut + 1;
        }
        let rest = &sample.lines[first as usize - 1..];
        rest.iter().for_each(|line| tree.push(leaf(line)));
        sample.write(&log.active(), &joined(rest));
        let tiles = tree.take_full_tiles().into_iter();
        for tile in tiles.chain(tree.partial_tiles()) {
            let path = log.place(&tile.path);
            storage
                .make_directory(path.rsplit_once('/').unwrap().0)
                .unwrap();
            sample.write(&path, &tile.bytes);
        }
        sample.sign(sample.lines.len() as u64);
        sample
    }

    pub(crate) fn storage(&self) -> Directory {
        Directory::existing(self.directory.path()).unwrap()
    }

    pub(crate) fn verifier(&self) -> CheckpointVerifier {
        self.signer.verifier().unwrap()
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.path(path)).unwrap()
    }

    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        std::fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        std::fs::write(self.path(path), bytes).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        std::fs::remove_file(self.path(path)).unwrap();
    }

    /// The head of the first `size` lines.
    pub(crate) fn head(&self, size: u64) -> TreeHead {
        TreeHead {
            size,
            root: root(&self.lines[..size as usize]),
        }
    }

    /// The checkpoint of the first `size` lines.
    pub(crate) fn note(&self, size: u64) -> KeptNote {
        KeptNote {
            name: format!("kept-{size}"),
            bytes: self.signer.sign(self.head(size)).unwrap(),
        }
    }

    /// Makes the archive's checkpoint that of the first `size` lines.
    pub(crate) fn sign(&self, size: u64) {
        self.write(&self.log.checkpoint(), &self.note(size).bytes);
    }

    /// The segment that begins with line `first`.
    pub(crate) fn segment(&self, first: u64) -> String {
        let day = self.log.place(&layout::day(at(first)));
        let last = CUTS.iter().find(|&&cut| cut >= first).copied();
        let last = last.unwrap_or(LAST).min(self.lines.len() as u64);
        let erased = self.lines[first as usize - 1..last as usize]
            .iter()
            .filter(|line| matches!(Line::parse(line).unwrap().body, Body::Tombstone { .. }))
            .count();
        format!("{day}/{}", layout::segment(first, erased as u64))
    }

    /// Its manifest.
    pub(crate) fn manifest(&self, first: u64) -> String {
        let day = self.log.place(&layout::day(at(first)));
        format!("{day}/{}", layout::manifest(first))
    }

    /// Puts the files of another sample in the place of some of this one.
    pub(crate) fn take_from(&self, other: &Sample, paths: &[String]) {
        for path in paths {
            self.write(path, &other.read(path));
        }
    }

    /// Changes the lines of the active file.
    pub(crate) fn change_active(&self, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let active = self.log.active();
        let mut lines: Vec<Vec<u8>> = self
            .read(&active)
            .split_inclusive(|&byte| byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        change(&mut lines);
        self.write(&active, &lines.concat());
    }

    pub(crate) fn verify(&self, kept: &[KeptNote]) -> Report {
        Verification::open(self.storage(), self.log, &self.verifier(), kept)
            .unwrap()
            .run(|_| {})
    }
}

/// Lines, each with its newline.
pub(crate) fn joined(lines: &[Vec<u8>]) -> Vec<u8> {
    let mut joined = Vec::new();
    for line in lines {
        joined.extend_from_slice(line);
        joined.push(b'\n');
    }
    joined
}

/// The files of a sample: lines, segments, manifests, tiles and the checkpoint.
pub(crate) fn sample_files(sample: &Sample) -> Vec<String> {
    fn below(root: &std::path::Path, path: &std::path::Path, files: &mut Vec<String>) {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(root, &path, files);
            } else {
                let name = path.strip_prefix(root).unwrap();
                files.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    let mut files = Vec::new();
    let root = sample.directory.path();
    below(root, root, &mut files);
    files.sort_unstable();
    files
}
