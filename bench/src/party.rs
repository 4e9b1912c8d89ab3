//! A user of the measured pipe: name, identity, login, key bundle.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sealpost_core::{
    BundleError, BundleFields, BundleRefused, EncryptionKey, Identity, KeyBundle, LoginToken,
    Realm, Timestamp, Topic, UserId, assess, next_seq,
};
use thiserror::Error;

use crate::connection::{Connection, ConnectionError, Introduction, Limits, READ_BUFFER};
use crate::loopback::LoopbackAddr;
use crate::packet::{Credentials, Packet, Qos, put_publish};

/// How long a bundle of a run is valid.
const VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a user could not be set up.
#[derive(Debug, Error)]
pub(crate) enum PartyError {
    /// With the broker.
    #[error("{user}: {source}")]
    Connection {
        /// Who.
        user: UserId,
        /// Why.
        source: ConnectionError,
    },
    /// The own bundle.
    #[error("{user} cannot sign a key bundle: {source}")]
    Sign {
        /// Who.
        user: UserId,
        /// Why.
        source: BundleError,
    },
    /// The other's bundle is none.
    #[error("what came as the key bundle of {user} is none: {source}")]
    Bundle {
        /// Whose.
        user: UserId,
        /// Why.
        source: BundleError,
    },
    /// The other's bundle cannot be trusted.
    #[error("the key bundle of {user} is refused: {source}")]
    Refused {
        /// Whose.
        user: UserId,
        /// Why.
        source: BundleRefused,
    },
}

/// A user.
pub(crate) struct Party {
    /// The name.
    pub(crate) user: UserId,
    /// The secret identity, for as long as a run lasts.
    pub(crate) identity: Identity,
    /// The deployment.
    pub(crate) realm: Realm,
    /// The broker's address.
    pub(crate) broker: LoopbackAddr,
}

impl Party {
    /// A user with a new identity.
    pub(crate) fn new(user: UserId, realm: Realm, broker: LoopbackAddr) -> Self {
        Self {
            user,
            identity: Identity::generate(&mut rand::rng()),
            realm,
            broker,
        }
    }

    /// A connection with a clean session, logged in by the identity key.
    pub(crate) fn connect(&self, limits: Limits) -> Result<Connection, PartyError> {
        let client_id = format!("bench-{:08x}", rand::random::<u32>());
        let nonce = rand::random();
        let password = LoginToken::mint(
            &self.identity,
            &self.realm,
            &self.user,
            &client_id,
            wall_clock(),
            nonce,
            b"",
        );
        let credentials = Credentials {
            user: self.user.to_string(),
            password,
        };
        let introduction = Introduction {
            client_id: &client_id,
            clean_session: true,
            credentials: Some(&credentials),
        };
        Connection::open(self.broker, &introduction, limits, READ_BUFFER)
            .map_err(|source| self.failed(source))
    }

    /// A connection that listens to a topic.
    pub(crate) fn listen(&self, topic: &Topic, limits: Limits) -> Result<Connection, PartyError> {
        let mut connection = self.connect(limits)?;
        connection
            .subscribe(&topic.to_string(), Qos::AtLeastOnce)
            .map_err(|source| self.failed(source))?;
        Ok(connection)
    }

    /// Publishes a bundle with these keys.
    pub(crate) fn publish_bundle(
        &self,
        encryption: Vec<EncryptionKey>,
        limits: Limits,
    ) -> Result<(), PartyError> {
        let fields = bundle_fields(&self.realm, &self.user, encryption);
        let bundle =
            KeyBundle::sign(fields, &self.identity).map_err(|source| PartyError::Sign {
                user: self.user.clone(),
                source,
            })?;
        let mut connection = self.connect(limits)?;
        let topic = Topic::Keys(self.user.clone()).to_string();
        let mut publish = Vec::new();
        put_publish(
            &mut publish,
            &topic,
            Qos::AtLeastOnce,
            true,
            1,
            bundle.as_bytes(),
        );
        let acknowledged = connection.send(&publish).and_then(|()| {
            connection.wait_for(|packet| matches!(packet, Packet::PubAck { id: 1 }).then_some(()))
        });
        acknowledged.map_err(|source| self.failed(source))?;
        connection.close();
        Ok(())
    }

    /// Fetches another's bundle and decides on it as at a first contact.
    pub(crate) fn fetch_bundle(
        &self,
        of: &UserId,
        limits: Limits,
    ) -> Result<KeyBundle, PartyError> {
        let mut connection = self.listen(&Topic::Keys(of.clone()), limits)?;
        let bytes = connection
            .wait_for(|packet| match packet {
                Packet::Publish { payload, .. } => Some(payload.to_vec()),
                _ => None,
            })
            .map_err(|source| self.failed(source))?;
        connection.close();
        let bundle = KeyBundle::parse(&bytes).map_err(|source| PartyError::Bundle {
            user: of.clone(),
            source,
        })?;
        assess(None, &bundle, &self.realm, of, wall_clock()).map_err(|source| {
            PartyError::Refused {
                user: of.clone(),
                source,
            }
        })?;
        Ok(bundle)
    }

    fn failed(&self, source: ConnectionError) -> PartyError {
        PartyError::Connection {
            user: self.user.clone(),
            source,
        }
    }
}

/// What the first bundle of somebody with these keys says.
pub(crate) fn bundle_fields(
    realm: &Realm,
    user: &UserId,
    encryption: Vec<EncryptionKey>,
) -> BundleFields {
    let created = wall_clock();
    BundleFields {
        realm: realm.clone(),
        user: user.clone(),
        seq: next_seq(None, created),
        created,
        expires: created.saturating_add(VALIDITY),
        encryption,
        links: Vec::new(),
    }
}

/// The time of day, as messages and logins carry it. Zero on a machine whose clock stands before 1970.
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(0)).unwrap_or(Timestamp::MAX)
}
