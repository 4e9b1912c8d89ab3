//! Makes an archive to try readers on: `sample_archive DIR LINES` writes envelopes that nobody can open, sealed in segments of 100,000
//! lines, with tiles, a signed checkpoint and its key.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../tests/reading/sample.rs"]
mod sample;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sealpost_archive::checkpoint::CheckpointSigner;
use sealpost_archive::hash::Hash;
use sealpost_archive::layout::{self, LogName};
use sealpost_archive::line;
use sealpost_archive::segment::SegmentWriter;
use sealpost_archive::storage::{Directory, Storage as _, StoredFile as _};
use sealpost_archive::tree::Tree;

const SEGMENT: u64 = 100_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, lines] = arguments.as_slice() else {
        eprintln!("usage: sample_archive DIR LINES");
        std::process::exit(2);
    };
    let count: u64 = lines.parse().expect("LINES is a number");
    let log = LogName::EncryptedLogs;
    let storage = Directory::open(Path::new(directory)).unwrap();
    let origin = "sealpost/local/archiver/encrypted_logs";
    let key = CheckpointSigner::text_from_seed(origin, &[7; 32]);
    let mut tree = Tree::new();
    let mut first = 1;
    while first + SEGMENT <= count {
        let day = layout::day(sample::at(first));
        storage.make_directory(&day).unwrap();
        let path = format!("{day}/{}", layout::segment(first, 0));
        let mut writer = SegmentWriter::new(storage.create_new(&path).unwrap()).unwrap();
        for seq in first..first + SEGMENT {
            writer.push(&line_of(seq, &mut tree)).unwrap();
        }
        let (_, manifest) = writer.finish(log, tree.root()).unwrap();
        let path = format!("{day}/{}", layout::manifest(first));
        let mut file = storage.create_new(&path).unwrap();
        file.append(&manifest.to_bytes()).unwrap();
        first += SEGMENT;
    }
    let mut active = storage.create_new(&log.active()).unwrap();
    for seq in first..=count {
        let mut line = line_of(seq, &mut tree);
        line.push(b'\n');
        active.append(&line).unwrap();
    }
    let tiles = tree.take_full_tiles().into_iter();
    for tile in tiles.chain(tree.partial_tiles()) {
        let (folder, _) = tile.path.rsplit_once('/').unwrap();
        std::fs::create_dir_all(storage.path().join(folder)).unwrap();
        std::fs::write(storage.path().join(&tile.path), &tile.bytes).unwrap();
    }
    let signer = CheckpointSigner::parse(&key).unwrap();
    let note = signer.sign(tree.head()).unwrap();
    std::fs::write(storage.path().join(log.checkpoint()), note).unwrap();
    let path = storage.path().join(log.checkpoint_key());
    std::fs::write(&path, format!("{}\n", key.as_str())).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A line, whose leaf is added to the tree.
fn line_of(seq: u64, tree: &mut Tree) -> Vec<u8> {
    let (from, to) = sample::people(seq);
    let prev = (seq > 4).then(|| sample::id(seq - 4));
    let payload = sample::envelope(seq, from, to, prev.as_deref());
    let mut line = Vec::new();
    line::write_message(&mut line, seq, sample::at(seq), None, &payload);
    line.pop();
    tree.push(Hash::of_leaf(&line));
    line
}
