//! The fuzz targets' corpus, replayed: what fuzzing has found interesting stays sound.

// A panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, unreachable_pub)]

#[path = "../fuzz/checks/conversation.rs"]
mod conversation;
#[path = "../fuzz/checks/decoder.rs"]
mod decoder;

use std::path::Path;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(path).unwrap())
    });
    let mut corpus = entries.collect::<Vec<_>>();
    corpus.sort();
    assert!(corpus.len() >= 10, "a corpus");
    corpus
}

#[test]
fn the_decoder_holds_for_its_corpus() {
    for (name, data) in corpus("decoder") {
        println!("{name}");
        decoder::check(&data);
    }
}

#[test]
fn conversations_of_the_corpus_leave_an_honest_client_served() {
    let stage = conversation::Stage::new();
    for (name, data) in corpus("conversation") {
        println!("{name}");
        stage.play(&data);
    }
}
