use super::*;
use crate::access::password::PasswordHash;
use sealpost_core::{BundleFields, Identity, IdentityLink};

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000).unwrap()
}

fn open(dir: &Path) -> Result<Registry, OpenError> {
    Registry::open(dir, Realm::default(), 3)
}

fn bundle(name: &str, seq: u64, identity: &Identity, links: Vec<IdentityLink>) -> KeyBundle {
    let fields = BundleFields {
        realm: Realm::default(),
        user: user(name),
        seq,
        created: at(1000),
        expires: at(2000),
        encryption: Vec::new(),
        links,
    };
    KeyBundle::sign(fields, identity).unwrap()
}

async fn publish(registry: &Registry, bundle: &KeyBundle) -> Result<(), BundleRefused> {
    registry
        .publish(&user("alice"), bundle.as_bytes(), at(1000))
        .await
        .map(drop)
}

#[tokio::test]
async fn users_and_bundles_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::from_seed(&[1; 32]);
    let bundle = bundle("alice", 5, &identity, Vec::new());
    {
        let registry = open(dir.path()).unwrap();
        registry
            .register(&user("alice"), &identity.key(), Claim::First, at(1))
            .await
            .unwrap();
        publish(&registry, &bundle).await.unwrap();
    }
    let registry = open(dir.path()).unwrap();
    assert_eq!(registry.identity(&user("alice")), Some(identity.key()));
    assert_eq!(
        registry.bundles(),
        [(user("alice"), bundle.as_bytes().to_vec())]
    );
}

#[tokio::test]
async fn a_name_belongs_to_the_first_identity_and_reserved_names_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).unwrap();
    let (first, second) = (
        Identity::from_seed(&[1; 32]).key(),
        Identity::from_seed(&[2; 32]).key(),
    );
    registry
        .register(&user("alice"), &first, Claim::First, at(1))
        .await
        .unwrap();
    registry
        .register(&user("alice"), &first, Claim::First, at(2))
        .await
        .unwrap();
    assert!(matches!(
        registry
            .register(&user("alice"), &second, Claim::First, at(2))
            .await,
        Err(RegisterError::Taken)
    ));
    assert!(matches!(
        registry
            .register(&user("admin"), &first, Claim::First, at(2))
            .await,
        Err(RegisterError::Reserved)
    ));
    registry
        .register(&user("bob"), &first, Claim::First, at(1))
        .await
        .unwrap();
    registry
        .register(&user("carol"), &first, Claim::First, at(1))
        .await
        .unwrap();
    assert!(matches!(
        registry
            .register(&user("dave"), &first, Claim::First, at(1))
            .await,
        Err(RegisterError::Full)
    ));
}

#[tokio::test]
async fn bundles_only_move_forward_even_after_one_was_withdrawn() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).unwrap();
    let identity = Identity::from_seed(&[1; 32]);
    assert!(matches!(
        publish(&registry, &bundle("alice", 5, &identity, vec![])).await,
        Err(BundleRefused::Unregistered)
    ));
    registry
        .register(&user("alice"), &identity.key(), Claim::First, at(1))
        .await
        .unwrap();
    publish(&registry, &bundle("alice", 5, &identity, vec![]))
        .await
        .unwrap();
    publish(&registry, &bundle("alice", 5, &identity, vec![]))
        .await
        .unwrap();
    assert!(matches!(
        publish(&registry, &bundle("alice", 4, &identity, vec![])).await,
        Err(BundleRefused::RolledBack { seen: 5 })
    ));
    registry.withdraw(&user("alice")).await.unwrap();
    assert!(registry.bundles().is_empty());
    assert!(matches!(
        publish(&registry, &bundle("alice", 5, &identity, vec![])).await,
        Err(BundleRefused::Forked(5))
    ));
    publish(&registry, &bundle("alice", 6, &identity, vec![]))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_identity_changes_only_through_a_link_from_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).unwrap();
    let (old, new) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
    registry
        .register(&user("alice"), &old.key(), Claim::First, at(1))
        .await
        .unwrap();
    assert!(matches!(
        publish(&registry, &bundle("alice", 9, &new, vec![])).await,
        Err(BundleRefused::UnlinkedIdentity)
    ));
    let link = IdentityLink::sign(&Realm::default(), &user("alice"), &old, &new.key(), at(900));
    publish(&registry, &bundle("alice", 1, &new, vec![link]))
        .await
        .unwrap();
    assert_eq!(registry.identity(&user("alice")), Some(new.key()));
    assert!(matches!(
        publish(&registry, &bundle("alice", 99, &old, vec![])).await,
        Err(BundleRefused::UnlinkedIdentity)
    ));
}

#[tokio::test]
async fn a_bundle_for_another_name_realm_or_time_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).unwrap();
    let identity = Identity::from_seed(&[1; 32]);
    registry
        .register(&user("alice"), &identity.key(), Claim::First, at(1))
        .await
        .unwrap();
    assert!(matches!(
        publish(&registry, &bundle("bob", 1, &identity, vec![])).await,
        Err(BundleRefused::WrongUser(_))
    ));
    let good = bundle("alice", 1, &identity, vec![]);
    let late = registry
        .publish(&user("alice"), good.as_bytes(), at(3000))
        .await;
    assert!(matches!(late, Err(BundleRefused::Time(_))));
}

#[tokio::test]
async fn one_directory_serves_one_broker() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::InUse(_))));
}

#[tokio::test]
async fn a_damaged_file_is_named_and_a_half_written_one_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::from_seed(&[1; 32]);
    open(dir.path())
        .unwrap()
        .register(&user("alice"), &identity.key(), Claim::First, at(1))
        .await
        .unwrap();
    let users = dir.path().join("users");
    fs::write(users.join("bob.json.new"), "{\"vers").unwrap();
    assert!(open(dir.path()).unwrap().is_registered(&user("alice")));
    fs::write(users.join("bob.json"), "{\"vers").unwrap();
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("bob.json"), "{error}");
    fs::rename(users.join("alice.json"), users.join("bob.json")).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Damaged { .. })));
}

#[tokio::test]
async fn users_are_listed_in_pages_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path(), Realm::default(), 10).unwrap();
    for name in ["dave", "alice", "carol", "bob"] {
        registry.hold(&user(name), at(1)).await.unwrap();
    }
    let names = |after: Option<&str>| {
        let page = registry.page(after.map(user).as_ref(), 3);
        page.into_iter()
            .map(|(user, _)| user.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(None), ["alice", "bob", "carol"]);
    assert_eq!(names(Some("carol")), ["dave"]);
    assert!(names(Some("dave")).is_empty());
}

#[tokio::test]
async fn what_the_operator_did_survives_a_restart_and_files_of_version_1_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let key = Identity::from_seed(&[1; 32]).key();
    let password = crate::access::password::Password::parse("correct horse").unwrap();
    let hash = PasswordHash::of(&password).unwrap();
    let invited = Invited {
        key,
        expires: at(50),
    };
    {
        let registry = Registry::open(dir.path(), Realm::default(), 10).unwrap();
        for name in ["alice", "bob"] {
            registry
                .register(&user(name), &key, Claim::First, at(1))
                .await
                .unwrap();
        }
        drop(registry.remove(&user("alice")).await.unwrap());
        registry.set_enabled(&user("bob"), false).await.unwrap();
        registry
            .set_password(&user("sensor"), Some(hash.clone()), at(2))
            .await
            .unwrap();
        registry
            .invite(&user("carol"), invited, at(3))
            .await
            .unwrap();
        registry
            .invite(&user("dave"), invited, at(3))
            .await
            .unwrap();
        drop(registry.remove(&user("dave")).await.unwrap());
        assert!(matches!(
            registry.invite(&user("alice"), invited, at(3)).await,
            Err(AdministerError::Removed(_))
        ));
        assert!(matches!(
            registry.invite(&user("bob"), invited, at(3)).await,
            Err(AdministerError::Registered(_))
        ));
        assert!(matches!(
            registry.set_enabled(&user("nobody"), false).await,
            Err(AdministerError::Unknown(_))
        ));
        assert!(matches!(
            registry.hold(&user("root"), at(1)).await,
            Err(AdministerError::Reserved(_))
        ));
    }
    let old = format!(
        r#"{{"version":1,"user":"eve","identity":"{key}","registered":7,"seq":3,"bundle":null}}"#
    );
    fs::write(dir.path().join("users").join("eve.json"), old).unwrap();
    let registry = Registry::open(dir.path(), Realm::default(), 10).unwrap();
    let record = |name: &str| registry.record(&user(name));
    let alice = record("alice").unwrap();
    assert_eq!((alice.standing, alice.identity), (Standing::Removed, None));
    assert!(matches!(
        registry
            .register(&user("alice"), &key, Claim::Operator, at(9))
            .await,
        Err(RegisterError::Removed)
    ));
    let bob = record("bob").unwrap();
    assert_eq!(
        (bob.standing, bob.identity),
        (Standing::Disabled, Some(key))
    );
    assert_eq!(registry.active(&user("bob")), None);
    assert_eq!(record("sensor").unwrap().password, Some(hash));
    assert!(registry.has_passwords());
    assert_eq!(record("carol").unwrap().invitation, Some(invited));
    assert!(record("dave").is_none(), "nobody ever was dave");
    let eve = record("eve").unwrap();
    assert!(eve.used && eve.standing == Standing::Active);
}
