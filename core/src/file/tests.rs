use alloc::string::ToString as _;
use alloc::vec;

use super::*;

fn id() -> MessageId {
    MessageId::parse("018bcfe5-687b-7041-8243-444546474849").unwrap()
}

fn key(byte: u8) -> FileKey {
    FileKey::from_bytes([byte; 32])
}

fn cut(size: u64) -> Chunking {
    Chunking::new(size, MIN_CHUNK).unwrap()
}

#[test]
fn a_file_is_cut_into_full_chunks_and_a_rest() {
    for (size, count, last) in [
        (0, 1, 0),
        (1, 1, 1),
        (1_024, 1, 1_024),
        (1_025, 2, 1),
        (4_096, 4, 1_024),
    ] {
        let chunking = cut(size);
        assert_eq!(chunking.count(), count, "{size}");
        assert_eq!(chunking.length(count - 1), Some(last), "{size}");
        assert_eq!(chunking.length(count), None, "{size}");
        assert!(chunking.is_last(count - 1));
        assert!(count == 1 || !chunking.is_last(count - 2));
    }
    assert_eq!(cut(MAX_FILE).count(), 1 << 30);
    assert_eq!(Chunking::new(MAX_FILE + 1, MAX_CHUNK), None);
    assert_eq!(Chunking::new(1, MIN_CHUNK - 1), None);
    assert_eq!(Chunking::new(1, MAX_CHUNK + 1), None);
}

#[test]
fn what_is_written_is_read() {
    let offer = FileOffer::new("a \"b\"\n.jpg", cut(7), [3; 32], key(1)).unwrap();
    assert_eq!(
        FileOffer::read(&offer.to_content().unwrap()),
        Some(offer.clone())
    );
    let request = FileRequest::new(id(), 2, 3, 67).unwrap();
    assert_eq!(
        FileRequest::read(&request.to_content().unwrap()),
        Some(request)
    );
    let chunk = FileChunk::new(id(), 9, vec![5; 40]).unwrap();
    assert_eq!(
        FileChunk::read(&chunk.to_content().unwrap()),
        Some(chunk.clone())
    );
    for outcome in [
        FileOutcome::Received,
        FileOutcome::Declined,
        FileOutcome::Damaged,
        FileOutcome::Withdrawn,
        FileOutcome::Other,
    ] {
        let end = FileEnd {
            file: id(),
            outcome,
        };
        assert_eq!(FileEnd::read(&end.to_content().unwrap()), Some(end));
    }
    assert!(!format!("{offer:?} {chunk:?} {:?}", key(1)).contains("jpg"));
}

#[test]
fn the_largest_chunk_fits_into_an_envelope() {
    let chunking = Chunking::new(MAX_FILE, MAX_CHUNK).unwrap();
    let data = key(1).encrypt(chunking, u32::MAX >> 9, &vec![0; MAX_CHUNK as usize]);
    let chunk = FileChunk::new(id(), u32::MAX, data.unwrap()).unwrap();
    let plaintext = chunk.to_content().unwrap().to_plaintext().unwrap();
    assert_eq!(plaintext.len(), crate::MAX_PLAINTEXT);
    assert_eq!(
        FileChunk::new(id(), 0, vec![0; MAX_CHUNK as usize + 17]),
        None
    );
    assert_eq!(FileChunk::new(id(), 0, vec![0; 15]), None);
}

#[test]
fn a_chunk_opens_at_its_place_in_its_file_and_nowhere_else() {
    let file = cut(2_500);
    let chunk = vec![7; 1_024];
    let data = key(1).encrypt(file, 1, &chunk).unwrap();
    assert_eq!(key(1).decrypt(file, 1, &data).unwrap(), chunk);
    assert_eq!(key(1).decrypt(file, 0, &data), Err(ChunkRefused), "moved");
    assert_eq!(
        key(2).decrypt(file, 1, &data),
        Err(ChunkRefused),
        "of another"
    );
    assert_eq!(
        key(1).decrypt(cut(2_048), 1, &data),
        Err(ChunkRefused),
        "made the last"
    );
    for at in [0, 1_023, 1_024, 1_039] {
        let mut changed = data.clone();
        changed[at] ^= 1;
        assert_eq!(key(1).decrypt(file, 1, &changed), Err(ChunkRefused), "{at}");
    }
    assert_eq!(key(1).decrypt(file, 1, &data[..1_039]), Err(ChunkRefused));
    assert_eq!(key(1).decrypt(file, 1, &[]), Err(ChunkRefused));
    assert_eq!(key(1).decrypt(file, 3, &data), Err(ChunkRefused));
    assert_eq!(
        key(1).encrypt(file, 2, &chunk),
        Err(ChunkRefused),
        "of another length"
    );
    let last = key(1).encrypt(file, 2, &[1; 452]).unwrap();
    assert_eq!(key(1).decrypt(cut(3_500), 2, &last), Err(ChunkRefused));
    let empty = key(1).encrypt(cut(0), 0, &[]).unwrap();
    assert_eq!(
        (empty.len(), key(1).decrypt(cut(0), 0, &empty)),
        (16, Ok(vec![]))
    );
}

#[test]
fn requests_ask_for_some_chunks_and_not_too_many() {
    assert!(FileRequest::new(id(), 0, 0, MAX_REQUESTED).is_some());
    for (have, first, until) in [(0, 0, 0), (1, 0, 1), (0, 2, 1), (0, 0, MAX_REQUESTED + 1)] {
        assert_eq!(FileRequest::new(id(), have, first, until), None);
    }
}

#[test]
fn what_is_not_of_the_form_is_content_of_another_kind() {
    let file = id();
    for json in [
        r#"{"kind":"file","path":"x"}"#.to_string(),
        format!(r#"{{"kind":"file-request","file":"{file}","have":0,"first":0,"until":65}}"#),
        format!(
            r#"{{"kind":"file-chunk","file":"{file}","index":-1,"data":"AAAAAAAAAAAAAAAAAAAAAA=="}}"#
        ),
        format!(r#"{{"kind":"file-chunk","file":"{file}","index":1,"data":""}}"#),
        format!(r#"{{"kind":"file-end","file":"x{file}","state":"received"}}"#),
        format!(r#"{{"kind":"file-end","file":"{file}"}}"#),
    ] {
        let content = Content::parse(&json).unwrap();
        assert_eq!(FileOffer::read(&content), None, "{json}");
        assert_eq!(FileRequest::read(&content), None, "{json}");
        assert_eq!(FileChunk::read(&content), None, "{json}");
        assert_eq!(FileEnd::read(&content), None, "{json}");
    }
}

#[test]
fn a_saved_name_is_one_harmless_part_of_a_path() {
    for (name, saved) in [
        ("holiday.jpg", "holiday.jpg"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\windows\\system32\\x.dll", "x.dll"),
        ("..", "file"),
        ("../", "file"),
        ("", "file"),
        ("a/", "a"),
        (".bashrc", "bashrc"),
        ("a\u{202e}gpj.exe", "agpj.exe"),
        ("a\u{0}b\nc\u{1b}[2J", "abc[2J"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("Com1.log", "_Com1.log"),
        ("com10", "com10"),
        ("a<b>:c|?*\"", "a_b__c____"),
        ("  spaced . ", "spaced"),
        ("фото.jpg", "фото.jpg"),
    ] {
        assert_eq!(saved_name(name), saved, "{name:?}");
    }
    let long = "я".repeat(300) + ".tar";
    let saved = saved_name(&long);
    assert!(
        saved.len() <= MAX_SAVED_NAME && saved.ends_with("я.tar"),
        "{saved}"
    );
}
