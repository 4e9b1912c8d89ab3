use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn start() -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000).unwrap()
}

pub(crate) fn account(folder: &tempfile::TempDir, name: &str) -> Account {
    let home = Home::open(&folder.path().join(name)).unwrap();
    let user = UserId::parse(name).unwrap();
    Account::create(&home, &user, &Realm::default(), None, start()).unwrap()
}

fn reopen(account: &Account, now: Timestamp) -> Account {
    Account::open(
        account.home(),
        account.user(),
        account.realm(),
        || panic!("asked"),
        now,
    )
    .unwrap()
}

#[test]
fn keys_survive_closing_and_opening() {
    let folder = tempfile::tempdir().unwrap();
    let made = account(&folder, "alice");
    let opened = reopen(&made, start());
    assert_eq!(opened.identity_key(), made.identity_key());
    assert_eq!(opened.bundle().as_bytes(), made.bundle().as_bytes());
    assert_eq!(**opened.store_key(), **made.store_key());
    assert_eq!(
        opened.decryption_keys()[0].encryption_key(),
        &made.bundle().encryption()[0]
    );
    assert!(opened.made(&made.bundle().digest()));
}

#[test]
fn keys_are_never_made_over_existing_ones() {
    let folder = tempfile::tempdir().unwrap();
    let made = account(&folder, "alice");
    let again = Account::create(made.home(), made.user(), made.realm(), None, start());
    assert!(matches!(again, Err(KeystoreError::Exists(_))));
}

#[test]
fn a_replaced_key_opens_for_45_days_and_is_then_destroyed() {
    let folder = tempfile::tempdir().unwrap();
    let mut account = account(&folder, "alice");
    let old = account.bundle().clone();
    account.rotate(start().saturating_add(DAY)).unwrap();
    assert_eq!(account.decryption_keys().len(), 2);
    assert!(account.bundle().seq() > old.seq());
    assert_ne!(account.bundle().encryption(), old.encryption());
    assert_eq!(account.bundle().encryption().len(), 1);
    assert_eq!(account.bundle().identity(), old.identity());
    assert!(account.made(&old.digest()));

    let within = reopen(&account, start().saturating_add(DAY * 45));
    assert_eq!(within.decryption_keys().len(), 2);
    let over = reopen(&account, start().saturating_add(DAY * 46));
    assert_eq!(over.decryption_keys().len(), 1);
    // Destroyed on disk as well, whatever the clock says later.
    assert_eq!(reopen(&account, start()).decryption_keys().len(), 1);
}

#[test]
fn the_bundle_is_made_anew_well_before_it_expires() {
    let folder = tempfile::tempdir().unwrap();
    let account = account(&folder, "alice");
    let first = account.bundle().clone();
    let early = reopen(&account, start().saturating_add(DAY * 119));
    assert_eq!(early.bundle(), &first);
    let due = reopen(&account, start().saturating_add(DAY * 121));
    assert!(due.bundle().seq() > first.seq());
    assert!(due.bundle().expires() > first.expires());
    assert_eq!(due.bundle().encryption(), first.encryption());
}

#[test]
fn another_process_sees_a_rotation_after_reloading() {
    let folder = tempfile::tempdir().unwrap();
    let mut chat = account(&folder, "alice");
    let mut rotate = reopen(&chat, start());
    rotate.rotate(start()).unwrap();
    assert!(!chat.made(&rotate.bundle().digest()));
    chat.reload().unwrap();
    assert!(chat.made(&rotate.bundle().digest()));
    assert_eq!(chat.decryption_keys().len(), 2);
}

#[test]
fn a_key_of_age_is_replaced_by_upkeep_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let made = account(&folder, "alice");
    let first = made.bundle().clone();
    let mut account = made.with_rotation(Some(DAY * 90));
    let early = start().saturating_add(DAY * 89);
    assert_eq!(account.upkeep(early).unwrap(), Upkeep::default());
    let due = start().saturating_add(DAY * 90);
    let upkeep = account.upkeep(due).unwrap();
    assert!(upkeep.rotated && upkeep.renewed && upkeep.destroyed == 0);
    assert_ne!(account.bundle().encryption(), first.encryption());
    assert!(account.bundle().seq() > first.seq());
    assert_eq!(account.decryption_keys().len(), 2);
    assert_eq!(account.upkeep(due).unwrap(), Upkeep::default());
    let over = account.upkeep(due.saturating_add(GRACE)).unwrap();
    assert_eq!((over.rotated, over.destroyed), (false, 1));
    let mut never = account.with_rotation(None);
    let late = due.saturating_add(DAY * 100);
    assert!(!never.upkeep(late).unwrap().rotated);
}

#[test]
fn a_replaced_identity_signs_over_and_its_key_opens_for_45_days() {
    let folder = tempfile::tempdir().unwrap();
    let mut account = account(&folder, "alice");
    let (old, first) = (account.identity_key(), account.bundle().clone());
    let at = start().saturating_add(DAY);
    account.rotate_identity(at).unwrap();
    let new = account.identity_key();
    assert_ne!(new, old);
    let [link] = account.bundle().links() else {
        panic!("{:?}", account.bundle().links());
    };
    assert_eq!((link.old(), link.new_identity()), (&old, &new));
    assert!(account.bundle().seq() > first.seq());
    assert!(account.made(&first.digest()));
    assert!(matches!(
        account.rotate_identity(at),
        Err(KeystoreError::HandingOver)
    ));

    let mut opened = reopen(&account, at);
    assert_eq!(opened.handing_over().map(Identity::key), Some(old));
    let of: Vec<(IdentityKey, usize)> = opened
        .addressees()
        .into_iter()
        .map(|(identity, keys)| (identity, keys.len()))
        .collect();
    assert_eq!(of, [(new, 1), (old, 1)]);
    opened.handed_over().unwrap();
    let opened = reopen(&account, at);
    assert!(opened.handing_over().is_none());
    let over = reopen(&account, at.saturating_add(GRACE));
    assert_eq!(over.addressees().len(), 1);
}

#[test]
fn the_ninth_change_of_identity_drops_the_oldest_link() {
    let folder = tempfile::tempdir().unwrap();
    let mut account = account(&folder, "alice");
    let mut olds = Vec::new();
    for _ in 0..9 {
        olds.push(account.identity_key());
        account.rotate_identity(start()).unwrap();
        account.handed_over().unwrap();
    }
    let links = account.bundle().links();
    let left: Vec<IdentityKey> = links.iter().map(|link| *link.old()).collect();
    assert_eq!(left, olds[1..]);
    assert_eq!(reopen(&account, start()).bundle(), account.bundle());
}

#[test]
fn revoked_keys_are_retired_for_good_and_open_what_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let mut account = account(&folder, "alice");
    let first = account.bundle().clone();
    account.revoke(start()).unwrap();
    assert!(account.is_retired() && account.bundle().is_retired());
    assert!(account.bundle().seq() > first.seq());
    for refused in [account.rotate(start()), account.rotate_identity(start())] {
        assert!(matches!(refused, Err(KeystoreError::Retired)));
    }
    let retired = account.bundle().clone();
    let mut opened = reopen(&account, start()).with_rotation(Some(DAY));
    assert_eq!(opened.decryption_keys().len(), 1);
    opened.revoke(start()).unwrap();
    let upkeep = opened.upkeep(start().saturating_add(DAY * 300)).unwrap();
    assert_eq!((upkeep.renewed, upkeep.destroyed), (false, 1));
    assert_eq!(reopen(&account, start()).bundle(), &retired);
}

#[test]
fn debug_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        format!("{:?}", account(&folder, "alice")),
        "Account { user: UserId(alice), realm: Realm(local), .. }"
    );
}
