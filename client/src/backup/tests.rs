use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sealpost_core::MessageId;
use zeroize::Zeroizing;

use super::*;
use crate::account::Account;
use crate::account::tests::{account, start};
use crate::keystore::KeystoreError;
use crate::own_bundle::{self, Foreign, OwnBundle};
use crate::passphrase::Passphrase;
use crate::store::tests::{at, user};
use crate::store::{Incoming, Store};

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.to_owned())).unwrap()
}

fn never() -> bool {
    false
}

fn store_of(account: &Account) -> Store {
    Store::open(&account.home().store(), account.store_key()).unwrap()
}

fn later() -> Timestamp {
    start().saturating_add(Duration::from_secs(60))
}

struct House {
    folder: tempfile::TempDir,
    alice: Account,
    received: MessageId,
    written: MessageId,
}

impl House {
    /// Alice, who got one message and wrote another that has not gone yet.
    fn new() -> House {
        let folder = tempfile::tempdir().unwrap();
        let alice = account(&folder, "alice");
        let mut store = store_of(&alice);
        let id = |ms| MessageId::new(at(ms), &mut rand::rng());
        let (received, written) = (id(1), id(2));
        let body = br#"{"kind":"text","text":"the lighthouse"}"#;
        let message = Incoming {
            from: &user("bob"),
            id: &received,
            prev: None,
            ts: at(1),
            body,
            digest: [7; 32],
            signer: None,
        };
        store.accept(&message, at(100)).unwrap();
        let text = Zeroizing::new(r#"{"kind":"text","text":"waits"}"#.to_owned());
        store
            .enqueue(&user("bob"), &[(written, text)], at(200))
            .unwrap();
        House {
            folder,
            alice,
            received,
            written,
        }
    }

    fn backup(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let settings = SettingsFile {
            path: PathBuf::from("client.toml"),
            text: b"user = \"alice\"\n".to_vec(),
        };
        write(
            &self.alice,
            &store_of(&self.alice),
            Some(&settings),
            &passphrase("of the backup"),
            &mut out,
            start(),
            &never,
        )
        .unwrap();
        out
    }

    fn restore(&self, backup: &[u8], target: &Path) -> Result<Restored, RestoreError> {
        let destination = Destination::Home(target.to_owned(), Some(passphrase("new")));
        let mut destination = Some(destination);
        restore(
            backup,
            &passphrase("of the backup"),
            |_| Ok(destination.take().unwrap()),
            later(),
            &never,
        )
    }

    fn open(&self, home: &Path) -> Result<Account, KeystoreError> {
        let home = crate::home::Home::open(home).unwrap();
        let realm = Realm::default();
        Account::open(
            &home,
            &user("alice"),
            &realm,
            || Ok(passphrase("new")),
            later(),
        )
    }
}

/// What is in a folder for new homes.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// An archive of our form with other things in it.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive_with(|archive| {
        for (name, content) in entries {
            put(archive, name, content);
        }
    })
}

type Encrypted = tar::Builder<age::stream::StreamWriter<Vec<u8>>>;

fn archive_with(fill: impl FnOnce(&mut Encrypted)) -> Vec<u8> {
    let mut recipient = age::scrypt::Recipient::new("of the backup".to_owned().into());
    recipient.set_work_factor(2);
    let recipient: &dyn age::Recipient = &recipient;
    let encryptor = age::Encryptor::with_recipients(std::iter::once(recipient)).unwrap();
    let mut archive = tar::Builder::new(encryptor.wrap_output(Vec::new()).unwrap());
    fill(&mut archive);
    archive.into_inner().unwrap().finish().unwrap()
}

fn put(archive: &mut Encrypted, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, name, content).unwrap();
}

#[test]
fn a_restored_home_has_everything_and_keys_under_the_new_passphrase() {
    let house = House::new();
    let backup = house.backup();
    assert_eq!(
        names(house.alice.home().path()),
        [
            "backup.lock",
            "keystore.json",
            "keystore.lock",
            "store.sqlite"
        ]
    );
    let new = tempfile::tempdir().unwrap();
    let target = new.path().join("alice");
    let restored = house.restore(&backup, &target).unwrap();
    assert_eq!(restored.manifest.user, user("alice"));
    assert_eq!(restored.manifest.created, start());
    assert_eq!((restored.messages, restored.settings), (2, true));
    assert_eq!(names(new.path()), ["alice"]);
    assert_eq!(
        names(&target),
        ["client.toml", "keystore.json", "store.sqlite"]
    );
    assert_eq!(
        fs::metadata(&target).unwrap().permissions().mode() & 0o777,
        0o700
    );
    for name in names(&target) {
        let mode = fs::metadata(target.join(&name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }

    let alice = house.open(&target).unwrap();
    assert_eq!(alice.identity_key(), house.alice.identity_key());
    assert_eq!(alice.protection(), crate::keystore::Protection::Passphrase);
    let (before, after) = (store_of(&house.alice), store_of(&alice));
    assert_eq!(
        before.installation().unwrap(),
        after.installation().unwrap()
    );
    assert!(after.seen(&user("bob"), &house.received).unwrap().contains);
    let due = after.due(later(), 10).unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].id, house.written);
}

#[test]
fn the_home_that_lives_on_and_the_restored_one_see_each_other() {
    let house = House::new();
    let new = tempfile::tempdir().unwrap();
    let target = new.path().join("alice");
    house.restore(&house.backup(), &target).unwrap();
    let restored = house.open(&target).unwrap();
    assert!(restored.bundle().seq() > house.alice.bundle().seq());
    let (theirs, ours) = (
        restored.bundle().as_bytes(),
        house.alice.bundle().as_bytes(),
    );
    assert_eq!(
        own_bundle::look(&house.alice, theirs),
        OwnBundle::Foreign(Foreign::Copy)
    );
    // What the broker had at the time of the backup is simply replaced.
    assert_eq!(own_bundle::look(&restored, ours), OwnBundle::Publish);
}

#[test]
fn a_backup_of_before_a_revocation_does_not_take_it_back() {
    let mut house = House::new();
    let new = tempfile::tempdir().unwrap();
    let target = new.path().join("alice");
    let backup = house.backup();
    house.alice.revoke(start()).unwrap();
    house.restore(&backup, &target).unwrap();
    let restored = house.open(&target).unwrap();
    assert_eq!(
        own_bundle::look(&restored, house.alice.bundle().as_bytes()),
        OwnBundle::Foreign(Foreign::Revoked)
    );
}

#[test]
fn a_backup_that_is_cut_or_changed_anywhere_leaves_nothing() {
    let house = House::new();
    let backup = house.backup();
    let new = tempfile::tempdir().unwrap();
    let target = new.path().join("alice");
    let refused = |bytes: &[u8], what: String| {
        let refused = house.restore(bytes, &target);
        assert!(refused.is_err(), "{what} of {}", backup.len());
        assert!(names(new.path()).is_empty(), "{what} of {}", backup.len());
    };
    let places = (0..200)
        .chain((200..backup.len()).step_by(4_093))
        .chain(backup.len() - 40..backup.len());
    for place in places {
        refused(&backup[..place], format!("cut at {place}"));
        let mut changed = backup.clone();
        changed[place] ^= 1;
        refused(&changed, format!("changed at {place}"));
    }
    let mut longer = backup.clone();
    longer.push(0);
    refused(&longer, "one byte more".into());
    // At the ends of age's chunks too.
    for chunk in (0..backup.len()).step_by(64 * 1024 + 16) {
        for place in chunk.saturating_sub(2)..backup.len().min(chunk + 300) {
            refused(&backup[..place], format!("cut at {place}"));
        }
    }
    house.restore(&backup, &target).unwrap();
}

#[test]
fn a_wrong_passphrase_and_other_files_are_told_apart() {
    let house = House::new();
    let new = tempfile::tempdir().unwrap();
    let target = new.path().join("alice");
    let backup = house.backup();
    let nothing = |_: &Manifest| -> Result<Destination, RestoreError> { panic!("asked where to") };
    let wrong = restore(&backup[..], &passphrase("guess"), nothing, later(), &never);
    assert!(
        matches!(wrong, Err(RestoreError::WrongPassphrase)),
        "{wrong:?}"
    );
    let other = restore(
        &b"-----BEGIN"[..],
        &passphrase("x"),
        nothing,
        later(),
        &never,
    );
    assert!(
        matches!(other, Err(RestoreError::NotABackup(_))),
        "{other:?}"
    );

    let manifest: &[u8] = br#"{"sealpost_backup":1,"user":"alice","realm":"local","created":5}"#;
    let of_later: &[u8] = br#"{"sealpost_backup":2,"colour":"red"}"#;
    type Entries<'a> = &'a [(&'a str, &'a [u8])];
    type Check = fn(&RestoreError) -> bool;
    let cases: [(Entries<'_>, Check); 6] = [
        (&[("backup.json", of_later)], |e| {
            matches!(e, RestoreError::Version(2))
        }),
        (&[("backup.json", b"{}")], |e| {
            matches!(e, RestoreError::NotABackup(_))
        }),
        (&[("photo.jpg", b"x")], |e| {
            matches!(e, RestoreError::NotABackup(_))
        }),
        (&[], |e| matches!(e, RestoreError::Damaged)),
        (
            &[("backup.json", manifest), ("keystore.json", b"{}")],
            |e| matches!(e, RestoreError::Damaged),
        ),
        (
            &[
                ("backup.json", manifest),
                ("keystore.json", b"{}"),
                ("store.sqlite", b"x"),
            ],
            |e| matches!(e, RestoreError::Keystore(KeystoreError::Damaged { .. })),
        ),
    ];
    for (entries, expected) in cases {
        let refused = house.restore(&archive(entries), &target).unwrap_err();
        assert!(expected(&refused), "{refused:?}");
        assert!(names(new.path()).is_empty());
    }
}

#[test]
fn headers_that_would_be_read_into_memory_are_something_else() {
    let house = House::new();
    let new = tempfile::tempdir().unwrap();
    let manifest: &[u8] = br#"{"sealpost_backup":1,"user":"alice","realm":"local","created":5}"#;
    for kind in [b'x', b'g', b'L', b'K'] {
        let backup = archive_with(|archive| {
            let long = [b'a'; 200_000];
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::new(kind));
            header.set_size(long.len() as u64);
            header.set_path("x").unwrap();
            header.set_cksum();
            archive.append(&header, &long[..]).unwrap();
            put(archive, "backup.json", manifest);
        });
        let refused = house.restore(&backup, &new.path().join("alice"));
        assert!(
            matches!(
                refused,
                Err(RestoreError::NotABackup("something else is in it"))
            ),
            "{refused:?}"
        );
    }
}

#[test]
fn a_file_that_asks_for_much_memory_is_refused_before_it_gets_any() {
    let house = House::new();
    let backup = archive(&[]);
    let new = tempfile::tempdir().unwrap();
    // `-> scrypt SALT 2`
    let end = 1 + backup
        .windows(3)
        .position(|bytes| bytes == b" 2\n")
        .unwrap();
    let greedy = [&backup[..end], b"30", &backup[end + 1..]].concat();
    let refused = house.restore(&greedy, &new.path().join("alice"));
    assert!(
        matches!(refused, Err(RestoreError::TooMuchWork(30))),
        "{refused:?}"
    );
}

#[test]
fn what_is_there_already_is_never_touched() {
    let house = House::new();
    let backup = house.backup();
    let new = tempfile::tempdir().unwrap();
    let target = new.path().join("alice");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("keystore.json"), "precious").unwrap();
    let refused = house.restore(&backup, &target);
    assert!(
        matches!(refused, Err(RestoreError::Exists(_))),
        "{refused:?}"
    );
    assert_eq!(fs::read(target.join("keystore.json")).unwrap(), b"precious");
    let file = new.path().join("file");
    fs::write(&file, "precious").unwrap();
    let refused = house.restore(&backup, &file);
    assert!(
        matches!(refused, Err(RestoreError::Exists(_))),
        "{refused:?}"
    );
    assert_eq!(names(new.path()), ["alice", "file"]);
    // An empty folder is as good as none.
    let empty = new.path().join("empty");
    fs::create_dir(&empty).unwrap();
    house.restore(&backup, &empty).unwrap();
    house.open(&empty).unwrap();
}

#[test]
fn what_a_killed_restore_left_is_cleared_and_one_at_work_is_left_alone() {
    let house = House::new();
    let backup = house.backup();
    let new = tempfile::tempdir().unwrap();
    let target = new.path().join("alice");
    let staging = new.path().join(".alice.restoring");
    fs::create_dir(&staging).unwrap();
    fs::write(staging.join("store.sqlite"), "half").unwrap();
    let at_work = fs::File::open(&staging).unwrap();
    at_work.lock().unwrap();
    let refused = house.restore(&backup, &target);
    assert!(matches!(refused, Err(RestoreError::Busy(_))), "{refused:?}");
    assert_eq!(names(&staging), ["store.sqlite"]);
    drop(at_work);
    house.restore(&backup, &target).unwrap();
    assert_eq!(names(new.path()), ["alice"]);
    house.open(&target).unwrap();
}

#[test]
fn a_home_does_not_grow_in_a_folder_of_somebody_elses() {
    let house = House::new();
    let backup = house.backup();
    let new = tempfile::tempdir().unwrap();
    let staging = new.path().join(".alice.restoring");
    fs::create_dir(&staging).unwrap();
    // Only root can try this.
    if std::os::unix::fs::chown(&staging, Some(65_534), None).is_ok() {
        let refused = house.restore(&backup, &new.path().join("alice"));
        assert!(
            matches!(refused, Err(RestoreError::Foreign(_))),
            "{refused:?}"
        );
        assert_eq!(names(new.path()), [".alice.restoring"]);
    }
}

#[test]
fn a_look_at_a_backup_leaves_nothing_and_who_is_asked_to_stop_neither() {
    let house = House::new();
    let backup = house.backup();
    let looked: Result<Restored, RestoreError> = restore(
        &backup[..],
        &passphrase("of the backup"),
        |_| Ok(Destination::Nothing),
        later(),
        &never,
    );
    assert_eq!(looked.unwrap().messages, 2);
    let new = tempfile::tempdir().unwrap();
    let target = new.path().join("alice");
    let stopped: Result<Restored, RestoreError> = restore(
        &backup[..],
        &passphrase("of the backup"),
        |_| Ok(Destination::Home(target.clone(), None)),
        later(),
        &|| true,
    );
    assert!(
        matches!(stopped, Err(RestoreError::Interrupted)),
        "{stopped:?}"
    );
    assert!(names(new.path()).is_empty());
    let stopped = write(
        &house.alice,
        &store_of(&house.alice),
        None,
        &passphrase("x"),
        &mut Vec::new(),
        start(),
        &|| true,
    );
    assert!(
        matches!(stopped, Err(BackupError::Interrupted)),
        "{stopped:?}"
    );
}

#[test]
fn a_full_disk_is_an_error_and_no_snapshot_stays() {
    /// Room for so many bytes.
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if bytes.len() > self.0 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.0 -= bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let house = House::new();
    for room in [0, 100, 10_000, 70_000] {
        let store = store_of(&house.alice);
        let key = passphrase("x");
        let failed = write(
            &house.alice,
            &store,
            None,
            &key,
            &mut Full(room),
            start(),
            &never,
        );
        assert!(
            matches!(failed, Err(BackupError::Write(_))),
            "{room}: {failed:?}"
        );
    }
    assert!(!house.alice.home().snapshot().exists());
    // Nor the one of a killed process.
    fs::write(house.alice.home().snapshot(), "half").unwrap();
    house.backup();
    assert!(!house.alice.home().snapshot().exists());
    drop(house.folder);
}
