use super::*;
use sealpost_core::{Identity, Timestamp};
use std::path::PathBuf;
use std::time::Duration;

#[test]
fn the_numbers_are_the_documented_ones() {
    let numbers = [
        Code::Done,
        Code::Failed,
        Code::Usage,
        Code::Unreachable,
        Code::Untrusted,
        Code::Refused,
    ]
    .map(|code| code as u8);
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn trust_decisions_have_their_exit_codes() {
    let key = |seed| Identity::from_seed(&[seed; 32]).key();
    let at = Timestamp::from_millis(1).unwrap();
    let cases = [
        (
            BundleRefused::IdentityChanged {
                pinned: key(1),
                offered: key(2),
            },
            Code::Untrusted,
        ),
        (
            BundleRefused::RolledBack { seen: 2, got: 1 },
            Code::Untrusted,
        ),
        (BundleRefused::Forked { seq: 1 }, Code::Untrusted),
        (BundleRefused::WrongUser, Code::Untrusted),
        (BundleRefused::WrongRealm, Code::Untrusted),
        (BundleRefused::Expired { expires: at }, Code::Failed),
        (BundleRefused::FromTheFuture { created: at }, Code::Failed),
    ];
    for (refused, code) in cases {
        assert_eq!(
            not_trusted("bob", &refused.into()).code,
            code,
            "{refused:?}"
        );
    }
    let retired = Disbelieved::Retired {
        pinned: key(1),
        retired: key(2),
    };
    for why in [Disbelieved::Removed, retired] {
        assert_eq!(not_trusted("bob", &why).code, Code::Untrusted, "{why:?}");
    }
}

#[test]
fn broker_troubles_have_their_exit_codes() {
    let broker = || "mqtt://h:1".to_owned();
    let cases = [
        (
            MqttError::Unreachable {
                broker: broker(),
                problem: "refused".into(),
                advice: None,
            },
            Code::Unreachable,
        ),
        (
            MqttError::LoginRefused {
                broker: broker(),
                reason: "not authorised".into(),
                code: LoginRefusal::NotAuthorized,
            },
            Code::Refused,
        ),
        (
            MqttError::Dismissed {
                broker: broker(),
                reason: "x".into(),
            },
            Code::Refused,
        ),
        (
            MqttError::SubscriptionRefused {
                filter: "inbox/bob".into(),
                reason: "not authorised".into(),
            },
            Code::Refused,
        ),
        (MqttError::TakenOver, Code::Failed),
    ];
    for (error, code) in cases {
        assert_eq!(Failure::from(error.clone()).code, code);
        assert_eq!(not_sent("bob", &error.into()).code, code);
    }
    for code in [
        RefusalCode::NotAuthorized,
        RefusalCode::TopicNameInvalid,
        RefusalCode::QuotaExceeded,
        RefusalCode::PayloadFormatInvalid,
        RefusalCode::Other,
    ] {
        let refused = PublishError::Refused {
            code,
            reason: "r".into(),
        };
        assert_eq!(not_sent("bob", &refused).code, Code::Refused);
        assert_eq!(not_published(&refused).code, Code::Refused);
    }
}

#[test]
fn every_failure_says_what_to_do_next() {
    let path = PathBuf::from("/h");
    let bob = sealpost_core::UserId::parse("bob").unwrap();
    let failures: Vec<Failure> = vec![
        SettingsError::NoUser.into(),
        SettingsError::NoHome.into(),
        SettingsError::UnknownKey {
            path: path.clone(),
            key: "x".into(),
            nearest: None,
        }
        .into(),
        HomeError::AlreadyReceiving {
            holder: "process 1".into(),
            gives_way: false,
        }
        .into(),
        KeystoreError::Missing(path.clone()).into(),
        KeystoreError::WrongPassphrase(path.clone()).into(),
        KeystoreError::Passphrase(PassphraseError::NoTerminal).into(),
        StoreError::WrongKey.into(),
        MqttError::TakenOver.into(),
        no_keys_yet("bob", Duration::from_secs(10)),
        not_connected(&"mqtt://127.0.0.1:1883", Duration::from_secs(10)),
        not_trusted("bob", &Disbelieved::Removed),
        not_sealed("bob", &SealError::NoEncryptionKey),
        not_sent("bob", &PublishError::LostEachTime),
        not_sent("bob", &PublishError::NobodyThere),
        NotPermitted::Stranger(bob.clone()).into(),
        NotPermitted::NotVerified(bob).into(),
    ];
    for failure in failures {
        assert!(!failure.hint.is_empty(), "{failure:?}");
        assert!(!failure.message.is_empty(), "{failure:?}");
        assert!(!failure.silent);
    }
    assert_eq!(Failure::from(SettingsError::NoUser).code, Code::Usage);
}

#[test]
fn a_reader_who_left_is_a_failure_that_only_printing_commands_forgive() {
    for (kind, gone) in [
        (std::io::ErrorKind::BrokenPipe, true),
        (std::io::ErrorKind::StorageFull, false),
    ] {
        let failure = Failure::from(std::io::Error::from(kind));
        assert_eq!((failure.code, failure.silent), (Code::Failed, false));
        assert_eq!(failure.reader_gone, gone);
    }
}
