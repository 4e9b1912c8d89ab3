use std::time::Duration;

use super::*;
use crate::access::password::Password;
use crate::access::registry::Invited;
use sealpost_core::{Identity, Invitation, LoginToken};

const NOW: u64 = 1_700_000_000_000;

struct Door {
    admission: Admission,
    _dir: tempfile::TempDir,
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn door(open_registration: bool) -> Door {
    let dir = tempfile::tempdir().unwrap();
    let registry = Arc::new(Registry::open(dir.path(), Realm::default(), 100).unwrap());
    let roles = Roles {
        archivers: [(user("archiver"), Identity::from_seed(&[9; 32]).key())].into(),
        operators: [(user("ops"), Identity::from_seed(&[8; 32]).key())].into(),
    };
    let admission = Admission::new(
        Realm::default(),
        registry,
        roles,
        open_registration,
        Nonces::open(dir.path(), at(NOW)).unwrap(),
        PasswordDesk::open().unwrap(),
        Arc::new(Audit::off()),
    );
    Door {
        admission,
        _dir: dir,
    }
}

fn login(seed: u8, name: &str, client_id: &str, nonce: u8) -> Login {
    let identity = Identity::from_seed(&[seed; 32]);
    let password = LoginToken::mint(
        &identity,
        &Realm::default(),
        &user(name),
        client_id,
        at(NOW),
        [nonce; 16],
        &[],
    );
    Login {
        username: name.into(),
        password: password.to_string(),
    }
}

impl Door {
    async fn knock(&self, login: &Login, client_id: &str) -> Result<Principal, Denied> {
        self.knock_at(Some(login), client_id, NOW).await
    }

    async fn knock_at(
        &self,
        login: Option<&Login>,
        client_id: &str,
        now: u64,
    ) -> Result<Principal, Denied> {
        let attempt = Attempt {
            login,
            client_id,
            channel: &Channel::plain(IpAddr::from([127, 0, 0, 1])),
            now: at(now),
        };
        let admitted = self.admission.admit(attempt).await?;
        assert!(self.admission.still_holds(&admitted));
        Ok(admitted.principal)
    }

    fn registry(&self) -> &Registry {
        &self.admission.registry
    }

    async fn set_password(&self, name: &str, password: &str) {
        let hash = PasswordHash::of(&Password::parse(password).unwrap()).unwrap();
        self.registry()
            .set_password(&user(name), Some(hash), at(NOW))
            .await
            .unwrap();
    }

    async fn by_certificate(
        &self,
        certificate: &str,
        login: Option<&Login>,
    ) -> Result<Principal, Denied> {
        let channel = Channel {
            certificate: Some(user(certificate)),
            ..Channel::plain(IpAddr::from([127, 0, 0, 1]))
        };
        let attempt = Attempt {
            login,
            client_id: "a",
            channel: &channel,
            now: at(NOW),
        };
        let admitted = self.admission.admit(attempt).await;
        admitted.map(|admitted| admitted.principal)
    }
}

#[tokio::test]
async fn the_first_login_claims_a_free_name_and_another_identity_is_turned_away() {
    let door = door(true);
    assert_eq!(
        door.knock(&login(1, "alice", "a", 1), "a").await.unwrap(),
        Principal::User(user("alice"))
    );
    assert_eq!(
        door.knock(&login(1, "alice", "b", 2), "b").await.unwrap(),
        Principal::User(user("alice"))
    );
    assert!(matches!(
        door.knock(&login(2, "alice", "c", 3), "c").await,
        Err(Denied::NotTheOwner(_))
    ));
}

#[tokio::test]
async fn a_token_opens_once_and_only_for_its_client_and_name() {
    let door = door(true);
    let token = login(1, "alice", "a", 1);
    door.knock(&token, "a").await.unwrap();
    assert!(matches!(
        door.knock(&token, "a").await,
        Err(Denied::Replayed)
    ));
    assert!(matches!(
        door.knock(&login(1, "alice", "a", 2), "b").await,
        Err(Denied::BadToken(_))
    ));
    let stolen = Login {
        username: "bob".into(),
        ..login(1, "alice", "a", 3)
    };
    assert!(matches!(
        door.knock(&stolen, "a").await,
        Err(Denied::BadToken(_))
    ));
}

#[tokio::test]
async fn nobody_can_use_up_anothers_nonce() {
    let door = door(true);
    door.knock(&login(2, "mallory", "a", 1), "a").await.unwrap();
    door.knock(&login(1, "alice", "a", 1), "a").await.unwrap();
}

#[tokio::test]
async fn old_and_early_tokens_are_turned_away() {
    let door = door(true);
    let token = login(1, "alice", "a", 1);
    for now in [NOW - 60_001, NOW + 60_001] {
        let result = door.knock_at(Some(&token), "a", now).await;
        let Err(Denied::Clock { ahead, by }) = result else {
            panic!("{now}: {result:?}");
        };
        assert_eq!((ahead, by.as_millis()), (now < NOW, 60_001));
    }
    let told = Denied::Clock {
        ahead: true,
        by: Duration::from_millis(75_500),
    };
    assert_eq!(
        told.to_string(),
        "the login token was made 75.500 s in the future by this broker's clock, and 60 s are allowed: set the clock that is wrong"
    );
    door.knock_at(Some(&token), "a", NOW + 60_000)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_archivers_role_comes_from_its_key_and_never_from_its_name() {
    let door = door(true);
    assert_eq!(
        door.knock(&login(9, "archiver", "x", 1), "x")
            .await
            .unwrap(),
        Principal::Archiver(user("archiver"))
    );
    assert!(matches!(
        door.knock(&login(1, "archiver", "x", 2), "x").await,
        Err(Denied::NotTheOwner(_))
    ));
    // The archiver's key under another name is that user and nothing more.
    assert_eq!(
        door.knock(&login(9, "carol", "x", 3), "x").await.unwrap(),
        Principal::User(user("carol"))
    );
    assert!(matches!(
        door.knock(&login(1, "operator", "x", 4), "x").await,
        Err(Denied::Reserved(_))
    ));
}

#[tokio::test]
async fn an_operators_role_comes_from_its_key_too() {
    let door = door(true);
    assert_eq!(
        door.knock(&login(8, "ops", "x", 1), "x").await.unwrap(),
        Principal::Operator(user("ops"))
    );
    assert!(matches!(
        door.knock(&login(1, "ops", "x", 2), "x").await,
        Err(Denied::NotTheOwner(_))
    ));
}

fn invitation() -> Invitation {
    Invitation::parse("sealpost-invitation-AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE").unwrap()
}

fn accepted(seed: u8, name: &str, nonce: u8, invitation: &Invitation) -> Login {
    let Login { username, password } = login(seed, name, "a", nonce);
    let token = LoginToken::parse(&password).unwrap();
    let acceptance = invitation.accept(&Realm::default(), &user(name), &token);
    Login {
        username,
        password: LoginPassword::join(&password, &acceptance),
    }
}

#[tokio::test]
async fn an_invitation_claims_its_name_once() {
    let door = door(false);
    let invited = Invited {
        key: invitation().key(),
        expires: at(NOW + 1_000),
    };
    let alice = user("alice");
    door.registry()
        .invite(&alice, invited, at(NOW))
        .await
        .unwrap();
    let other = Invitation::generate(&mut rand::rng());
    for (login, why) in [
        (login(1, "alice", "a", 1), "without it"),
        (accepted(1, "alice", 2, &other), "with another"),
        (accepted(1, "bob", 3, &invitation()), "for another name"),
    ] {
        let denied = door.knock(&login, "a").await;
        assert!(
            matches!(denied, Err(Denied::Held(_) | Denied::NotInvited(_))),
            "{why}: {denied:?}"
        );
    }
    let late = accepted(1, "alice", 4, &invitation());
    assert!(matches!(
        door.knock_at(Some(&late), "a", NOW + 1_001).await,
        Err(Denied::NotInvited(_))
    ));
    let first = accepted(1, "alice", 5, &invitation());
    assert_eq!(
        door.knock(&first, "a").await.unwrap(),
        Principal::User(alice.clone())
    );
    // Whose CONNACK was lost may say it again; nobody else can.
    let again = accepted(1, "alice", 6, &invitation());
    door.knock(&again, "a").await.unwrap();
    let thief = accepted(2, "alice", 7, &invitation());
    assert!(matches!(
        door.knock(&thief, "a").await,
        Err(Denied::NotTheOwner(_))
    ));
}

#[tokio::test]
async fn a_name_that_is_held_by_an_invitation_is_not_for_whoever_comes_first() {
    let door = door(true);
    let invited = Invited {
        key: invitation().key(),
        expires: at(NOW + 1_000),
    };
    door.registry()
        .invite(&user("alice"), invited, at(NOW))
        .await
        .unwrap();
    assert!(matches!(
        door.knock(&login(1, "alice", "a", 1), "a").await,
        Err(Denied::Held(_))
    ));
    // An offer that nobody took is none any longer.
    let token = login(1, "alice", "a", 2);
    door.knock_at(Some(&token), "a", NOW + 2_000).await.unwrap();
}

#[tokio::test]
async fn whoever_is_disabled_removed_or_reset_is_turned_away() {
    let door = door(true);
    let alice = user("alice");
    let admitted = |nonce| login(1, "alice", "a", nonce);
    door.knock(&admitted(1), "a").await.unwrap();
    let was_let_in = Admitted {
        principal: Principal::User(alice.clone()),
        proof: Proof::Token(Identity::from_seed(&[1; 32]).key()),
    };
    assert!(door.admission.still_holds(&was_let_in));
    door.registry().set_enabled(&alice, false).await.unwrap();
    assert!(!door.admission.still_holds(&was_let_in));
    assert!(matches!(
        door.knock(&admitted(2), "a").await,
        Err(Denied::Disabled(_))
    ));
    door.registry().set_enabled(&alice, true).await.unwrap();
    door.knock(&admitted(3), "a").await.unwrap();

    let invited = Invited {
        key: invitation().key(),
        expires: at(NOW + 1_000),
    };
    drop(
        door.registry()
            .reset_identity(&alice, invited)
            .await
            .unwrap(),
    );
    assert!(!door.admission.still_holds(&was_let_in));
    for (who, nonce) in [(1, 4), (2, 5)] {
        assert!(matches!(
            door.knock(&login(who, "alice", "a", nonce), "a").await,
            Err(Denied::Held(_))
        ));
    }
    let new = accepted(2, "alice", 6, &invitation());
    door.knock(&new, "a").await.unwrap();

    drop(door.registry().remove(&alice).await.unwrap());
    for (who, nonce) in [(1, 7), (2, 8), (3, 9)] {
        assert!(matches!(
            door.knock(&login(who, "alice", "a", nonce), "a").await,
            Err(Denied::Removed(_))
        ));
    }
}

#[tokio::test]
async fn a_static_password_lets_its_user_in_and_nobody_learns_who_has_one() {
    let door = door(false);
    let knock = async |name: &str, password: &str| {
        let login = Login {
            username: name.into(),
            password: password.into(),
        };
        door.knock(&login, "a").await
    };
    assert!(matches!(
        knock("sensor", "correct horse").await,
        Err(Denied::BadToken(_))
    ));
    door.set_password("sensor", "correct horse").await;
    assert_eq!(
        knock("sensor", "correct horse").await.unwrap(),
        Principal::User(user("sensor"))
    );
    for (name, password) in [
        ("sensor", "wrong horse"),
        ("nobody", "correct horse"),
        ("archiver", "correct horse"),
    ] {
        assert!(matches!(
            knock(name, password).await,
            Err(Denied::BadPassword)
        ));
    }
    door.registry()
        .set_enabled(&user("sensor"), false)
        .await
        .unwrap();
    assert!(matches!(
        knock("sensor", "correct horse").await,
        Err(Denied::Disabled(_))
    ));
}

#[tokio::test]
async fn whoever_guesses_passwords_waits() {
    let door = door(false);
    door.set_password("sensor", "correct horse").await;
    let guess = Login {
        username: "sensor".into(),
        password: "wrong horse".into(),
    };
    for _ in 0..5 {
        assert!(matches!(
            door.knock(&guess, "a").await,
            Err(Denied::BadPassword)
        ));
    }
    assert!(matches!(
        door.knock(&guess, "a").await,
        Err(Denied::TooManyGuesses(_))
    ));
}

#[tokio::test]
async fn inside_tls_a_token_is_bound_to_the_connection_unless_the_settings_let_it_be() {
    let door = door(true);
    let knock = async |binding: &[u8], unbound, nonce| {
        let token = LoginToken::mint(
            &Identity::from_seed(&[1; 32]),
            &Realm::default(),
            &user("alice"),
            "a",
            at(NOW),
            [nonce; 16],
            binding,
        );
        let login = Login {
            username: "alice".into(),
            password: token,
        };
        let channel = Channel {
            binding: vec![7; 32],
            unbound,
            ..Channel::plain(IpAddr::from([127, 0, 0, 1]))
        };
        let attempt = Attempt {
            login: Some(&login),
            client_id: "a",
            channel: &channel,
            now: at(NOW),
        };
        door.admission.admit(attempt).await.map(drop)
    };
    knock(&[7; 32], false, 1).await.unwrap();
    let replayed = knock(&[7; 32], true, 1).await;
    assert!(matches!(replayed, Err(Denied::Replayed)));
    let unbound = knock(&[], false, 2).await;
    assert!(matches!(unbound, Err(Denied::Unbound)));
    knock(&[], true, 3).await.unwrap();
    for unbound in [false, true] {
        let others = knock(&[8; 32], unbound, 4).await;
        assert!(matches!(others, Err(Denied::BadToken(_))));
    }
}

#[tokio::test]
async fn a_certificate_lets_in_the_registered_user_that_it_names() {
    let door = door(false);
    assert!(matches!(
        door.by_certificate("sensor", None).await,
        Err(Denied::NotRegistered(_))
    ));
    door.registry()
        .hold(&user("sensor"), at(NOW))
        .await
        .unwrap();
    let sensor = Principal::User(user("sensor"));
    assert_eq!(door.by_certificate("sensor", None).await.unwrap(), sensor);
    let named = Login {
        username: "sensor".into(),
        password: String::new(),
    };
    assert_eq!(
        door.by_certificate("sensor", Some(&named)).await.unwrap(),
        sensor
    );
    assert!(matches!(
        door.by_certificate("other", Some(&named)).await,
        Err(Denied::OtherCertificate { .. })
    ));
    door.registry()
        .set_enabled(&user("sensor"), false)
        .await
        .unwrap();
    assert!(matches!(
        door.by_certificate("sensor", None).await,
        Err(Denied::Disabled(_))
    ));
}

#[tokio::test]
async fn where_registration_is_closed_newcomers_are_turned_away() {
    let door = door(false);
    assert!(matches!(
        door.knock(&login(1, "alice", "a", 1), "a").await,
        Err(Denied::NotRegistered(_))
    ));
    assert!(matches!(
        door.knock_at(None, "a", NOW).await,
        Err(Denied::NoLogin)
    ));
}
