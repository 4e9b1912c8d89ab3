//! Files: contents of their four kinds, chunks under a file's key, and the names that files are saved under.

use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use serde_json::{Value, json};

use super::cases::{FileCase, FileChunkCase, FileNameCase};
use super::people::base64;

const ID: &str = "018bcfe5-687b-7041-8243-444546474849";

pub(crate) fn contents() -> Vec<FileCase> {
    let (sha256, key) = (base64([0x11; 32]), base64([0x22; 32]));
    let offer = |name: &str, size: &str, chunk: &str| {
        format!(
            r#"{{"kind":"file","name":{name},"size":{size},"sha256":"{sha256}","chunk":{chunk},"key":"{key}"}}"#
        )
    };
    let request = |have: &str, first: &str, until: &str| {
        format!(
            r#"{{"kind":"file-request","file":"{ID}","have":{have},"first":{first},"until":{until}}}"#
        )
    };
    let chunk = |index: &str, data: &str| {
        format!(r#"{{"kind":"file-chunk","file":"{ID}","index":{index},"data":"{data}"}}"#)
    };
    let end = |state: &str| format!(r#"{{"kind":"file-end","file":"{ID}","state":{state}}}"#);
    let longest = format!("\"{}\"", "n".repeat(255));
    let mut cases = Vec::new();
    let mut add = |name: &str, content: String, expect: &str, says: Value| {
        cases.push(FileCase {
            name: name.to_owned(),
            content,
            expect: expect.to_owned(),
            says: (!says.is_null()).then_some(says),
        });
    };
    for (name, file, size, chunk, chunks) in [
        ("an offer", r#""holiday.jpg""#, 100_000, 48_000, 3),
        ("an empty file", r#""empty""#, 0, 1_024, 1),
        ("full chunks and no rest", r#""x""#, 96_000, 48_000, 2),
        (
            "the largest file in the smallest chunks",
            r#""x""#,
            1_u64 << 40,
            1_024,
            1 << 30,
        ),
        (
            "a name that harms nobody who does not take it for a path",
            r#""../\u001b[2J\u202e.\u0000""#,
            1,
            48_000,
            1,
        ),
        ("the longest name", longest.as_str(), 1, 48_000, 1),
    ] {
        let says = json!({
            "name": serde_json::from_str::<String>(file).unwrap(),
            "size": size,
            "sha256": sha256,
            "chunk": chunk,
            "key": key,
            "chunks": chunks,
        });
        let content = offer(file, &size.to_string(), &chunk.to_string());
        add(name, content, "file", says);
    }
    add(
        "an offer in another order, with white space and a member that is not known",
        format!(
            r#"{{ "key":"{key}", "chunk" : 2048,"sha256":"{sha256}","type":"text/plain","size":2049,"name":"a","kind":"file"}}"#
        ),
        "file",
        json!({"name": "a", "size": 2_049, "sha256": sha256, "chunk": 2_048, "key": key, "chunks": 2}),
    );
    for (name, have, first, until) in [
        ("a request", 0_u32, 0_u32, 32_u32),
        ("a request further on", 16, 32, 48),
        ("the longest request", 7, 7, 71),
        ("the last chunk there can be", 0, u32::MAX - 1, u32::MAX),
    ] {
        let content = request(&have.to_string(), &first.to_string(), &until.to_string());
        let says = json!({"file": ID, "have": have, "first": first, "until": until});
        add(name, content, "file-request", says);
    }
    let (shortest, most) = (base64([0x33; 16]), base64([0x33; 48_016]));
    for (name, index, data) in [
        ("a chunk of nothing but a tag", 0, &shortest),
        ("a chunk", u32::MAX, &base64([0x44; 100])),
        ("the largest chunk", 9, &most),
    ] {
        let says = json!({"file": ID, "index": index, "data": data});
        add(name, chunk(&index.to_string(), data), "file-chunk", says);
    }
    for state in ["received", "declined", "damaged", "withdrawn"] {
        let says = json!({"file": ID, "state": state});
        add(state, end(&format!("\"{state}\"")), "file-end", says);
    }
    add(
        "an end of a later version",
        end(r#""eaten""#),
        "file-end",
        json!({"file": ID, "state": "other"}),
    );
    for (name, content) in [
        ("an empty name", offer(r#""""#, "1", "48000")),
        (
            "a name of 256 bytes",
            offer(&format!("\"{}é\"", "n".repeat(254)), "1", "48000"),
        ),
        ("a name that is no string", offer("7", "1", "48000")),
        ("half a surrogate pair", offer(r#""\ud83d""#, "1", "48000")),
        (
            "a file of more than 2^40 bytes",
            offer(r#""x""#, "1099511627777", "48000"),
        ),
        ("a negative size", offer(r#""x""#, "-1", "48000")),
        ("a size with a fraction", offer(r#""x""#, "1.0", "48000")),
        ("a size that is a string", offer(r#""x""#, "\"1\"", "48000")),
        ("chunks of 1,023 bytes", offer(r#""x""#, "1", "1023")),
        ("chunks of 48,001 bytes", offer(r#""x""#, "1", "48001")),
        (
            "a key of 31 bytes",
            offer(r#""x""#, "1", "48000").replace(&key, &base64([0x22; 31])),
        ),
        (
            "a digest of 33 bytes",
            offer(r#""x""#, "1", "48000").replace(&sha256, &base64([0x11; 33])),
        ),
        (
            "loose base64",
            offer(r#""x""#, "1", "48000").replace(&key, key.trim_end_matches('=')),
        ),
        (
            "members of one's own",
            r#"{"kind":"file","path":"x"}"#.to_owned(),
        ),
        ("nothing is asked for", request("0", "3", "3")),
        ("backwards", request("0", "3", "2")),
        ("65 chunks at once", request("0", "0", "65")),
        ("chunks that are there", request("5", "4", "6")),
        ("beyond 2^32 - 1", request("0", "4294967295", "4294967296")),
        (
            "a chunk without a whole tag",
            chunk("0", &base64([0x33; 15])),
        ),
        (
            "a chunk that is too long",
            chunk("0", &base64([0x33; 48_017])),
        ),
        ("a negative index", chunk("-1", &shortest)),
        (
            "a chunk in base64url",
            chunk("0", "____________________________"),
        ),
        (
            "an end without a state",
            format!(r#"{{"kind":"file-end","file":"{ID}"}}"#),
        ),
        (
            "an end of a file whose name is none",
            end(r#""received""#).replace("-7041-", "-4041-"),
        ),
        ("a text", r#"{"kind":"text","text":"file"}"#.to_owned()),
    ] {
        add(name, content, "other", Value::Null);
    }
    cases
}

pub(crate) fn chunks() -> Vec<FileChunkCase> {
    let key = [0x55; 32];
    let bytes = |from: u32, length: usize| -> Vec<u8> {
        (from..).map(|n| (n % 251) as u8).take(length).collect()
    };
    let mut cases = Vec::new();
    let mut add = |name: &str, size: u64, index: u32, data: &[u8], plaintext: Option<&[u8]>| {
        cases.push(FileChunkCase {
            name: name.to_owned(),
            key: base64(key),
            size,
            chunk: 1_024,
            index,
            data: base64(data),
            expect: match plaintext {
                Some(_) => "ok".to_owned(),
                None => "refused".to_owned(),
            },
            plaintext: plaintext.map(base64),
        });
    };
    let (first, middle, rest) = (bytes(0, 1_024), bytes(1, 1_024), bytes(2, 452));
    let (one, two, three) = (
        seal(&key, 0, false, &first),
        seal(&key, 1, false, &middle),
        seal(&key, 2, true, &rest),
    );
    add("the first of three", 2_500, 0, &one, Some(&first));
    add("the second of three", 2_500, 1, &two, Some(&middle));
    add("the last of three", 2_500, 2, &three, Some(&rest));
    add("an empty file", 0, 0, &seal(&key, 0, true, b""), Some(b""));
    let only = seal(&key, 0, true, &first);
    add("one full chunk", 1_024, 0, &only, Some(&first));
    add("a chunk in another's place", 2_500, 0, &two, None);
    add(
        "a file that was cut behind this chunk",
        2_048,
        1,
        &two,
        None,
    );
    add("a last chunk with more behind it", 2_048, 0, &only, None);
    add(
        "a chunk that is too short for its place",
        2_500,
        1,
        &three,
        None,
    );
    add("a chunk behind the end", 2_500, 3, &two, None);
    add("a chunk cut short", 2_500, 1, &two[..1_039], None);
    add("less than a tag", 0, 0, &one[..15], None);
    let mut changed = two.clone();
    changed[0] ^= 1;
    add("a changed byte", 2_500, 1, &changed, None);
    let foreign = seal(&[0x56; 32], 1, false, &middle);
    add("a chunk under another key", 2_500, 1, &foreign, None);
    cases
}

/// The nonce: seven zero bytes, the number of the chunk, and 1 for the last.
fn seal(key: &[u8; 32], index: u32, last: bool, chunk: &[u8]) -> Vec<u8> {
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&index.to_be_bytes());
    nonce[11] = u8::from(last);
    Aes256Gcm::new(key.into())
        .encrypt(&Nonce::from(nonce), chunk)
        .unwrap()
}

pub(crate) fn names() -> Vec<FileNameCase> {
    let long = "n".repeat(300);
    let (long_jpg, cut_jpg) = (format!("{long}.jpg"), format!("{}.jpg", "n".repeat(196)));
    let no_ending = format!("n.{long}");
    let (wide, cut_wide) = ("я".repeat(127), "я".repeat(100));
    [
        ("holiday.jpg", "holiday.jpg"),
        ("фото из отпуска.jpg", "фото из отпуска.jpg"),
        ("a b", "a b"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("a/b/", "b"),
        (r"C:\Windows\x.dll", "x.dll"),
        ("C:x", "C_x"),
        ("..", "file"),
        (".", "file"),
        ("/", "file"),
        ("a/..", "a"),
        (".ssh", "ssh"),
        ("...hidden...", "hidden"),
        (" spaced. ", "spaced"),
        ("tab\tline\nend", "tablineend"),
        ("\u{1b}[2Jx\u{9b}31m", "[2Jx31m"),
        ("nul\u{0}byte", "nulbyte"),
        ("photo\u{202e}gpj.exe", "photogpj.exe"),
        ("zero\u{200b}width\u{feff}", "zerowidth"),
        ("\u{a0}no\u{a0}break\u{2003}", "no break"),
        ("a<b>c:d\"e|f?g*h", "a_b_c_d_e_f_g_h"),
        ("con", "_con"),
        ("Aux.txt", "_Aux.txt"),
        ("LPT9", "_LPT9"),
        ("COM\u{b9}.x", "_COM\u{b9}.x"),
        ("com12", "com12"),
        ("console", "console"),
        (long.as_str(), &long[..200]),
        (long_jpg.as_str(), cut_jpg.as_str()),
        (no_ending.as_str(), &no_ending[..200]),
        (wide.as_str(), cut_wide.as_str()),
    ]
    .into_iter()
    .map(|(name, saved)| FileNameCase {
        name: name.to_owned(),
        saved: saved.to_owned(),
    })
    .collect()
}
