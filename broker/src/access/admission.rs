//! Admission: who somebody is who connects.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttd::protocol::{ConnectReturnCode, Login};
use sealpost_core::{
    IdentityKey, LOGIN_WINDOW, LoginError, LoginToken, NameError, Realm, Timestamp, UserId,
};

use crate::access::registry::{RegisterError, Registry};

/// Who is connected. Roles never come from names: an archiver is who signs with a key that the settings list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A person or a device.
    User(UserId),
    /// An archiver.
    Archiver(UserId),
    /// Anybody, on an open broker.
    Anyone,
}

impl Principal {
    /// The name that sessions belong to; empty on an open broker.
    #[must_use]
    pub fn owner(&self) -> String {
        match self {
            Principal::User(name) => name.to_string(),
            // No user name has a colon, so no user ever owns an archiver's session.
            Principal::Archiver(name) => format!("archiver:{name}"),
            Principal::Anyone => String::new(),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::User(name) => write!(f, "user {name}"),
            Principal::Archiver(name) => write!(f, "archiver {name}"),
            Principal::Anyone => f.write_str("anyone"),
        }
    }
}

/// Why somebody was not let in.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// No user name or no password.
    #[error("log in with your user name and a login token")]
    NoLogin,
    /// The user name is not one.
    #[error("{0}")]
    BadName(#[from] NameError),
    /// The token is not one, is of another time, or its signature does not hold.
    #[error("{0}")]
    BadToken(#[from] LoginError),
    /// The token was used before.
    #[error("this login token was used before; make a new one for each connection")]
    Replayed,
    /// The name belongs to another identity.
    #[error("the name {0} belongs to another identity key")]
    NotTheOwner(UserId),
    /// The name is free, and the first login does not claim it here.
    #[error("the name {0} is not registered, and this broker does not register newcomers")]
    NotRegistered(UserId),
    /// The name is free and stays so.
    #[error("the name {0} is reserved")]
    Reserved(UserId),
    /// The broker cannot take another user.
    #[error("the broker has as many users as it takes")]
    Full,
    /// One identity logs in too often.
    #[error("too many logins with this identity in the last two minutes; wait a little")]
    TooOften,
    /// The registration could not be written.
    #[error("the broker cannot write to its disk")]
    Disk,
}

impl Denied {
    /// The CONNACK code (MQTT 5.0 section 3.2.2.2; for MQTT 3.1.1 the nearest of its five).
    #[must_use]
    pub fn code(&self) -> ConnectReturnCode {
        match self {
            Denied::NoLogin | Denied::NotRegistered(_) | Denied::Reserved(_) => {
                ConnectReturnCode::NotAuthorized
            }
            Denied::BadName(_)
            | Denied::BadToken(_)
            | Denied::Replayed
            | Denied::NotTheOwner(_) => ConnectReturnCode::BadUserNamePassword,
            Denied::TooOften => ConnectReturnCode::ConnectionRateExceeded,
            Denied::Full | Denied::Disk => ConnectReturnCode::ServerUnavailable,
        }
    }
}

/// Logins of one identity in two minutes (20 a second, far above what scripts need): their nonces are remembered for that
/// long, and at this many further ones wait rather than make room for a replay. Others are not held up.
const NONCES_PER_IDENTITY: usize = 2_400;

/// What a client comes in on: what the transport knows of it before the first MQTT packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// The address it comes from.
    pub peer: IpAddr,
    /// The TLS exporter of RFC 9266, which login tokens are bound to; empty outside TLS.
    pub binding: Vec<u8>,
    /// Whom a client certificate names that the transport has verified.
    pub certificate: Option<UserId>,
}

impl Channel {
    /// Plain TCP: nothing to bind to, no certificate.
    #[must_use]
    pub fn plain(peer: IpAddr) -> Channel {
        Channel {
            peer,
            binding: Vec::new(),
            certificate: None,
        }
    }
}

/// A CONNECT that asks to be let in.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// Its user name and password.
    pub login: Option<&'a Login>,
    /// Its client id.
    pub client_id: &'a str,
    /// What it came in on.
    pub channel: &'a Channel,
    /// When.
    pub now: Timestamp,
}

/// Decides who is let in.
#[derive(Debug)]
pub struct Admission {
    realm: Realm,
    registry: Arc<Registry>,
    archivers: HashMap<UserId, IdentityKey>,
    open_registration: bool,
    nonces: Mutex<Nonces>,
}

impl Admission {
    /// Admission to the given realm.
    #[must_use]
    pub fn new(
        realm: Realm,
        registry: Arc<Registry>,
        archivers: impl IntoIterator<Item = (UserId, IdentityKey)>,
        open_registration: bool,
    ) -> Admission {
        let archivers = archivers.into_iter().collect();
        Admission {
            realm,
            registry,
            archivers,
            open_registration,
            nonces: Mutex::default(),
        }
    }

    /// Checks a login, and claims a free name where the first login does that.
    ///
    /// # Errors
    /// See [`Denied`].
    pub async fn admit(&self, attempt: Attempt<'_>) -> Result<Principal, Denied> {
        let Attempt {
            login,
            client_id,
            channel,
            now,
        } = attempt;
        let login = login
            .filter(|login| !login.username.is_empty())
            .ok_or(Denied::NoLogin)?;
        let name = UserId::parse(&login.username)?;
        let token = LoginToken::parse(&login.password)?;
        token.verify(&self.realm, &name, client_id, now, &channel.binding)?;

        if let Some(key) = self.archivers.get(&name) {
            if token.key() != key {
                return Err(Denied::NotTheOwner(name));
            }
            self.use_up(&token, now)?;
            return Ok(Principal::Archiver(name));
        }
        match self.registry.identity(&name) {
            Some(identity) if identity == *token.key() => self.use_up(&token, now)?,
            Some(_) => return Err(Denied::NotTheOwner(name)),
            None if name.is_reserved() => return Err(Denied::Reserved(name)),
            None if !self.open_registration => return Err(Denied::NotRegistered(name)),
            None => {
                self.use_up(&token, now)?;
                self.register(&name, token.key(), now).await?;
            }
        }
        Ok(Principal::User(name))
    }

    async fn register(
        &self,
        name: &UserId,
        key: &IdentityKey,
        now: Timestamp,
    ) -> Result<(), Denied> {
        let registered = self.registry.register(name, key, now).await;
        registered.map_err(|error| match error {
            RegisterError::Reserved => Denied::Reserved(name.clone()),
            RegisterError::Taken => Denied::NotTheOwner(name.clone()),
            RegisterError::Full => Denied::Full,
            RegisterError::Disk(error) => {
                tracing::error!(%error, "a registration could not be written");
                Denied::Disk
            }
        })?;
        tracing::info!(user = %name, identity = %key.fingerprint(), "registered");
        Ok(())
    }

    fn use_up(&self, token: &LoginToken, now: Timestamp) -> Result<(), Denied> {
        self.nonces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .use_up(*token.key(), *token.nonce(), token.issued(), now)
    }
}

/// Nonces that were used, for as long as their tokens are valid: for each identity its own, so that nobody can use up
/// another's, or lock another out.
#[derive(Debug, Default)]
struct Nonces {
    used: HashMap<IdentityKey, HashMap<[u8; 16], Timestamp>>,
    swept: Option<Timestamp>,
}

impl Nonces {
    fn use_up(
        &mut self,
        key: IdentityKey,
        nonce: [u8; 16],
        issued: Timestamp,
        now: Timestamp,
    ) -> Result<(), Denied> {
        if self
            .swept
            .is_none_or(|swept| now.saturating_since(swept) >= LOGIN_WINDOW)
        {
            self.swept = Some(now);
            self.used.retain(|_, used| {
                used.retain(|_, until| *until >= now);
                !used.is_empty()
            });
        }
        let used = self.used.entry(key).or_default();
        if used.len() >= NONCES_PER_IDENTITY {
            used.retain(|_, until| *until >= now);
        }
        if used.len() >= NONCES_PER_IDENTITY {
            return Err(Denied::TooOften);
        }
        // A second more, so that no rounding opens a gap.
        let until = issued.saturating_add(LOGIN_WINDOW + Duration::from_secs(1));
        match used.insert(nonce, until) {
            None => Ok(()),
            Some(_) => Err(Denied::Replayed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_core::Identity;

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
        let archivers = [(user("archiver"), Identity::from_seed(&[9; 32]).key())];
        Door {
            admission: Admission::new(Realm::default(), registry, archivers, open_registration),
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
            self.admission.admit(attempt).await
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
            assert!(matches!(result, Err(Denied::BadToken(_))), "{now}");
        }
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

    #[test]
    fn one_users_logins_do_not_lock_the_others_out() {
        let (eager, other) = (
            Identity::from_seed(&[1; 32]).key(),
            Identity::from_seed(&[2; 32]).key(),
        );
        let mut nonces = Nonces::default();
        for number in 0..NONCES_PER_IDENTITY as u128 {
            nonces
                .use_up(eager, number.to_be_bytes(), at(NOW), at(NOW))
                .unwrap();
        }
        assert!(matches!(
            nonces.use_up(eager, [0xff; 16], at(NOW), at(NOW)),
            Err(Denied::TooOften)
        ));
        nonces.use_up(other, [0xff; 16], at(NOW), at(NOW)).unwrap();
        let later = at(NOW + 62_000);
        nonces.use_up(eager, [0xff; 16], later, later).unwrap();
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
}
