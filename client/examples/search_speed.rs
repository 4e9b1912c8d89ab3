//! How long it takes to search a long history: every text is decrypted and looked at.
//!
//! `cargo run --config profile.dev.opt-level=3 -p sealpost --example search_speed -- 100000`

use std::time::Instant;

use sealpost::search::Search;
use sealpost::store::{HistoryRange, ImportedMessage, Side, Store};
use sealpost_core::{Content, MessageId, Timestamp, UserId};
use zeroize::Zeroizing;

/// About as long as a message is.
const WORDS: [&str; 16] = [
    "the", "pump", "in", "Hall", "three", "stopped", "because", "of", "a", "blocked", "filter",
    "and", "was", "cleaned", "by", "Jörg",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let messages: u64 = std::env::args()
        .nth(1)
        .as_deref()
        .unwrap_or("100000")
        .parse()?;
    let folder = tempfile::tempdir()?;
    let mut store = Store::open(
        &folder.path().join("store.sqlite"),
        &Zeroizing::new([7; 32]),
    )?;
    let from = UserId::parse("alice")?;
    let begun = Instant::now();
    let mut batch = Vec::new();
    for number in 0..messages {
        let at = Timestamp::from_millis(1_700_000_000_000 + number)?;
        let words = (0..24).filter_map(|word| {
            WORDS
                .get((number * 7 + word * 5) as usize % WORDS.len())
                .copied()
        });
        let text = format!("{number}: {}", words.collect::<Vec<_>>().join(" "));
        batch.push(ImportedMessage {
            side: Side::Theirs {
                from: from.clone(),
                id: MessageId::new(at, &mut rand::rng()),
                ts: at,
                received: at,
            },
            body: Zeroizing::new(Content::Text { text }.to_json()?),
        });
        if batch.len() == 1_000 || number + 1 == messages {
            store.import_history(&batch)?;
            batch.clear();
        }
    }
    println!(
        "{messages} messages stored in {:.2} s",
        begun.elapsed().as_secs_f32()
    );

    for words in ["jörg \"12345: \"", "nowhere to be found"] {
        let search = Search::parse(words)?;
        let begun = Instant::now();
        let mut found = 0;
        for place in store.history(&HistoryRange::default(), u32::MAX)? {
            let Some(entry) = store.history_entry(place)? else {
                continue;
            };
            let content = Content::parse(std::str::from_utf8(&entry.body)?)?;
            found += u64::from(search.matches(&content));
        }
        println!(
            "{words:?}: {found} found in {:.2} s",
            begun.elapsed().as_secs_f32()
        );
    }
    Ok(())
}
