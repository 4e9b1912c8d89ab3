use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const SECRETS: &[u8] = b"{\"identity\":\"the secret\"}";

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.to_owned())).unwrap()
}

fn saved(folder: &tempfile::TempDir, word: Option<&str>) -> PathBuf {
    let path = folder.path().join("keystore.json");
    let word = word.map(passphrase);
    Unlocked::create(&path, "alice", "local", word.as_ref())
        .unwrap()
        .save(SECRETS)
        .unwrap();
    path
}

fn open(path: &Path, word: &str) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
    Unlocked::open(path, "alice", "local", || Ok(passphrase(word))).map(|(_, secrets)| secrets)
}

#[test]
fn the_right_passphrase_opens_and_a_wrong_one_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(&folder, Some("correct horse"));
    assert_eq!(&**open(&path, "correct horse").unwrap(), SECRETS);
    let refused = open(&path, "battery staple");
    assert!(
        matches!(refused, Err(KeystoreError::WrongPassphrase(_))),
        "{refused:?}"
    );
    let bytes = fs::read(&path).unwrap();
    assert!(!bytes.windows(6).any(|w| w == b"secret"));
    assert!(
        !String::from_utf8(bytes)
            .unwrap()
            .contains(&BASE64.encode(SECRETS))
    );
}

#[test]
fn no_passphrase_is_asked_for_bare_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(&folder, None);
    let (unlocked, secrets) = Unlocked::open(&path, "alice", "local", || panic!("asked")).unwrap();
    assert_eq!(&**secrets, SECRETS);
    assert_eq!(unlocked.protection(), Protection::None);
}

#[test]
fn what_was_saved_last_is_reloaded_without_asking_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(&folder, Some("correct horse"));
    let (mine, _) =
        Unlocked::open(&path, "alice", "local", || Ok(passphrase("correct horse"))).unwrap();
    let (other, _) =
        Unlocked::open(&path, "alice", "local", || Ok(passphrase("correct horse"))).unwrap();
    other.save(b"changed").unwrap();
    assert_eq!(&**mine.reload().unwrap(), b"changed");
}

#[test]
fn every_save_uses_a_fresh_nonce() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(&folder, Some("correct horse"));
    let before = fs::read(&path).unwrap();
    let (unlocked, _) =
        Unlocked::open(&path, "alice", "local", || Ok(passphrase("correct horse"))).unwrap();
    unlocked.save(SECRETS).unwrap();
    assert_ne!(before, fs::read(&path).unwrap());
}

#[test]
fn a_change_anywhere_in_the_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    for word in [Some("correct horse"), None] {
        let path = saved(&folder, word);
        let good = String::from_utf8(fs::read(&path).unwrap()).unwrap();
        // One letter or digit changed at places all over the file. Every field is covered by the tag or a check.
        let places: Vec<usize> = good
            .bytes()
            .enumerate()
            .filter(|(_, b)| b.is_ascii_alphanumeric())
            .map(|(i, _)| i)
            .step_by(23)
            .collect();
        for place in places {
            let mut bad = good.clone().into_bytes();
            bad[place] = if bad[place] == b'9' { b'8' } else { b'9' };
            write_private(&path, &bad).unwrap();
            // A larger Argon2id cost would be honoured within bounds; skip what only makes the test slow.
            if String::from_utf8_lossy(&bad).contains("\"memory_kib\": 9") {
                continue;
            }
            assert!(open(&path, "correct horse").is_err(), "byte {place}");
        }
    }
}

#[test]
fn a_truncated_file_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(&folder, Some("correct horse"));
    let good = fs::read(&path).unwrap();
    for len in (0..good.len() - 2).step_by(17) {
        write_private(&path, &good[..len]).unwrap();
        let refused = open(&path, "correct horse");
        assert!(
            matches!(refused, Err(KeystoreError::Damaged { .. })),
            "{len}: {refused:?}"
        );
    }
}

#[test]
fn a_file_that_others_can_read_is_refused_before_the_passphrase_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(&folder, Some("correct horse"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Unlocked::open(&path, "alice", "local", || panic!("asked"));
    assert!(matches!(
        refused,
        Err(KeystoreError::File(HomeError::LooseMode {
            mode: 0o644,
            ..
        }))
    ));
}

#[test]
fn keys_of_another_user_or_realm_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(&folder, None);
    for (user, realm) in [("bob", "local"), ("alice", "other")] {
        let refused = Unlocked::open(&path, user, realm, || panic!("asked"));
        assert!(matches!(refused, Err(KeystoreError::Owner { .. })));
    }
}

#[test]
fn a_planted_file_cannot_ask_for_all_memory_or_for_a_cheap_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = saved(&folder, Some("correct horse"));
    let good = String::from_utf8(fs::read(&path).unwrap()).unwrap();
    for memory in ["4294967295", "8"] {
        let bad = good.replace("65536", memory);
        assert_ne!(good, bad);
        write_private(&path, bad.as_bytes()).unwrap();
        let refused = Unlocked::open(&path, "alice", "local", || panic!("asked"));
        assert!(
            matches!(refused, Err(KeystoreError::Damaged { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_missing_or_a_later_keystore_is_told_apart_from_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keystore.json");
    assert!(matches!(open(&path, "x"), Err(KeystoreError::Missing(_))));
    let path = saved(&folder, None);
    let later = String::from_utf8(fs::read(&path).unwrap())
        .unwrap()
        .replace("\"sealpost_keystore\": 1", "\"sealpost_keystore\": 2");
    write_private(&path, later.as_bytes()).unwrap();
    assert!(matches!(
        open(&path, "x"),
        Err(KeystoreError::Version { version: 2, .. })
    ));
}

#[test]
fn debug_shows_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let unlocked = Unlocked::create(
        &folder.path().join("k"),
        "alice",
        "local",
        Some(&passphrase("correct horse")),
    )
    .unwrap();
    let shown = format!("{unlocked:?}");
    assert!(!shown.contains("key"), "{shown}");
}
