//! What `assess` promises: only the pinned identity, or one it linked to, is believed, and only forward.

use sealpost_core::{
    Assessment, BundleFields, BundleRefused, IdentityLink, KeyBundle, Pin, Realm, SafetyNumber,
    Timestamp, assess,
};

use crate::people::{Person, at, user};

fn bob() -> Person {
    Person::new("bob", 2)
}

fn assess_bob(
    pin: Option<&Pin>,
    bundle: &KeyBundle,
    now: Timestamp,
) -> Result<Assessment, BundleRefused> {
    assess(pin, bundle, &Realm::default(), &user("bob"), now)
}

/// Bob with a new identity, to which the old one signed over or not.
fn bob_again(linked: bool) -> KeyBundle {
    let (old, new) = (bob(), Person::new("bob", 4));
    let links = if linked {
        vec![IdentityLink::sign(
            &old.realm,
            &old.user,
            &old.identity,
            &new.identity.key(),
            at(5),
        )]
    } else {
        Vec::new()
    };
    new.bundle_with_links(1, links)
}

#[test]
fn first_use_pins() {
    let bundle = bob().bundle(7);
    let pin = Pin {
        identity: bob().identity.key(),
        seq: 7,
        digest: bundle.digest(),
        verified: false,
    };
    assert_eq!(
        assess_bob(None, &bundle, at(10)),
        Ok(Assessment::FirstContact { pin })
    );
    assert_eq!(Pin::new(&bundle), pin);
}

#[test]
fn a_newer_bundle_of_the_pinned_identity_is_routine_and_stays_verified() {
    let old = Pin {
        verified: true,
        ..Pin::new(&bob().bundle(7))
    };
    let bundle = bob().bundle(8);
    let Ok(Assessment::Newer { pin }) = assess_bob(Some(&old), &bundle, at(10)) else {
        panic!("not newer")
    };
    assert_eq!(
        pin,
        Pin {
            verified: true,
            ..Pin::new(&bundle)
        }
    );
    assert_eq!(
        assess_bob(Some(&pin), &bundle, at(10)),
        Ok(Assessment::Unchanged { pin })
    );
}

#[test]
fn a_changed_identity_without_a_link_is_refused() {
    let pin = Pin::new(&bob().bundle(7));
    let offered = bob_again(false);
    assert_eq!(
        assess_bob(Some(&pin), &offered, at(10)),
        Err(BundleRefused::IdentityChanged {
            pinned: pin.identity,
            offered: *offered.identity()
        })
    );
}

#[test]
fn a_linked_change_is_believed_but_no_longer_verified() {
    let pin = Pin {
        verified: true,
        ..Pin::new(&bob().bundle(7))
    };
    let offered = bob_again(true);
    assert_eq!(
        assess_bob(Some(&pin), &offered, at(10)),
        Ok(Assessment::LinkedChange {
            previous: pin.identity,
            pin: Pin::new(&offered)
        })
    );
}

#[test]
fn after_a_linked_change_the_old_identity_is_refused() {
    let pin = Pin::new(&bob_again(true));
    let old = bob().bundle(100);
    assert!(matches!(
        assess_bob(Some(&pin), &old, at(10)),
        Err(BundleRefused::IdentityChanged { .. })
    ));
}

#[test]
fn a_rolled_back_bundle_is_refused() {
    let pin = Pin::new(&bob().bundle(7));
    let refused = assess_bob(Some(&pin), &bob().bundle(6), at(10));
    assert_eq!(refused, Err(BundleRefused::RolledBack { seen: 7, got: 6 }));
}

#[test]
fn two_bundles_of_one_number_are_refused() {
    let pin = Pin::new(&bob().bundle(7));
    let other = BundleFields {
        expires: at(1_000),
        ..bob().fields(7)
    };
    let other = KeyBundle::sign(other, &bob().identity).unwrap();
    assert_eq!(
        assess_bob(Some(&pin), &other, at(10)),
        Err(BundleRefused::Forked { seq: 7 })
    );
}

#[test]
fn a_bundle_for_another_realm_or_user_is_refused() {
    let bundle = bob().bundle(7);
    let elsewhere = Realm::parse("elsewhere").unwrap();
    assert_eq!(
        assess(None, &bundle, &elsewhere, &user("bob"), at(10)),
        Err(BundleRefused::WrongRealm)
    );
    assert_eq!(
        assess(None, &bundle, &Realm::default(), &user("alice"), at(10)),
        Err(BundleRefused::WrongUser)
    );
}

#[test]
fn a_bundle_out_of_its_time_is_refused() {
    let bundle = bob().bundle(7);
    assert_eq!(
        assess_bob(None, &bundle, bundle.expires()),
        Err(BundleRefused::Expired {
            expires: bundle.expires()
        })
    );
    let early = Timestamp::from_millis(at(7).millis() - 86_400_001).unwrap();
    assert_eq!(
        assess_bob(None, &bundle, early),
        Err(BundleRefused::FromTheFuture { created: at(7) })
    );
}

#[test]
fn an_expired_bundle_of_a_changed_identity_raises_the_alarm_for_the_identity() {
    let pin = Pin::new(&bob().bundle(7));
    let offered = bob_again(false);
    let refused = assess_bob(Some(&pin), &offered, offered.expires());
    assert!(matches!(
        refused,
        Err(BundleRefused::IdentityChanged { .. })
    ));
}

#[test]
fn safety_numbers_depend_on_everything_but_the_order() {
    let (alice, bob, mallory) = (Person::new("alice", 1), bob(), Person::new("bob", 9));
    let number = |realm: &Realm, one: &Person, other: &Person| {
        SafetyNumber::of(
            realm,
            (&one.user, &one.identity.key()),
            (&other.user, &other.identity.key()),
        )
    };
    let local = Realm::default();
    let true_one = number(&local, &alice, &bob);
    assert_eq!(number(&local, &bob, &alice), true_one);
    assert_ne!(number(&local, &alice, &mallory), true_one);
    assert_ne!(
        number(&Realm::parse("elsewhere").unwrap(), &alice, &bob),
        true_one
    );
    let shown = true_one.to_string();
    assert_eq!(shown.len(), 60 + 11);
    assert_eq!(SafetyNumber::parse(&shown), Ok(true_one.clone()));
    assert_eq!(
        SafetyNumber::parse(&shown.replace(' ', "\n ")),
        Ok(true_one.clone())
    );
    assert_eq!(SafetyNumber::parse(true_one.digits()), Ok(true_one));
    for bad in [
        "",
        "12345",
        &shown[1..],
        &(shown.clone() + "0"),
        &shown.replace(' ', "-"),
    ] {
        assert!(SafetyNumber::parse(bad).is_err(), "{bad}");
    }
}
