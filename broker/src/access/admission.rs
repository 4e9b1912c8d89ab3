//! Admission: who somebody is who connects.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttd::protocol::{ConnectReturnCode, Login};
use sealpost_core::{
    IdentityKey, LOGIN_WINDOW, LoginError, LoginPassword, NameError, Realm, Timestamp, UserId,
};

use crate::access::audit::{Audit, Entry, Source};
use crate::access::nonces::{NonceError, Nonces};
use crate::access::password::{PasswordDesk, PasswordHash, can_be_password};
use crate::access::registry::{Claim, Record, RegisterError, Registry, Standing};
use crate::access::throttle::{Network, Throttle};

/// Who is connected. Roles never come from names: archivers and operators are who sign with keys that the settings list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A person or a device.
    User(UserId),
    /// An archiver.
    Archiver(UserId),
    /// An operator.
    Operator(UserId),
    /// Anybody, on an open broker.
    Anyone,
}

impl Principal {
    /// The name that sessions belong to; empty on an open broker.
    #[must_use]
    pub fn owner(&self) -> String {
        match self {
            Principal::User(name) => name.to_string(),
            // No user name has a colon, so no user ever owns an archiver's or operator's session.
            Principal::Archiver(name) => format!("archiver:{name}"),
            Principal::Operator(name) => format!("operator:{name}"),
            Principal::Anyone => String::new(),
        }
    }
}

impl Principal {
    /// The role, in a word.
    #[must_use]
    pub fn role(&self) -> &'static str {
        match self {
            Principal::User(_) => "user",
            Principal::Archiver(_) => "archiver",
            Principal::Operator(_) => "operator",
            Principal::Anyone => "anyone",
        }
    }

    /// The name, without the role; empty on an open broker.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Principal::User(name) | Principal::Archiver(name) | Principal::Operator(name) => {
                name.as_str()
            }
            Principal::Anyone => "",
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::Anyone => f.write_str("anyone"),
            named => write!(f, "{} {}", named.role(), named.name()),
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
    /// The token is not one, or its signature does not hold.
    #[error("{0}")]
    BadToken(LoginError),
    /// The token is of another time.
    #[error(
        "the login token was made {}.{:03} s {} by this broker's clock, and {} s are allowed: set the clock that is wrong",
        .by.as_secs(), .by.subsec_millis(),
        if *.ahead { "in the future" } else { "ago" },
        LOGIN_WINDOW.as_secs()
    )]
    Clock {
        /// Whether the client's clock is ahead of the broker's.
        ahead: bool,
        /// By how much.
        by: Duration,
    },
    /// The token would be good outside TLS.
    #[error("the login token is not bound to this TLS connection (tls-exporter of RFC 9266)")]
    Unbound,
    /// The token was used before.
    #[error("this login token was used before; make a new one for each connection")]
    Replayed,
    /// The name belongs to another identity.
    #[error("the name {0} belongs to another identity key")]
    NotTheOwner(UserId),
    /// The password is not the user's, or the user has none.
    #[error("the user name or the password is wrong")]
    BadPassword,
    /// Too many wrong passwords came before.
    #[error("too many wrong passwords; the next one is looked at in {} s", .0.as_secs() + 1)]
    TooManyGuesses(Duration),
    /// Too many passwords wait to be looked at.
    #[error("too many logins with a password at once; try again in a moment")]
    Busy,
    /// The certificate is somebody else's.
    #[error("the client certificate is {certificate}'s, and you say that you are {name}")]
    OtherCertificate {
        /// Whom the certificate names.
        certificate: UserId,
        /// Whom the user name names.
        name: UserId,
    },
    /// The name is free, and the first login does not claim it here.
    #[error(
        "the name {0} is not registered, and this broker does not register newcomers without an invitation"
    )]
    NotRegistered(UserId),
    /// The name waits for somebody with an invitation.
    #[error("the name {0} is held; to claim it takes an invitation from the operator")]
    Held(UserId),
    /// The invitation does not hold.
    #[error("the invitation is not to {0}, was used before, or has expired")]
    NotInvited(UserId),
    /// The name is free and stays so.
    #[error("the name {0} is reserved")]
    Reserved(UserId),
    /// The operator has disabled the user.
    #[error("{0} was disabled by the operator")]
    Disabled(UserId),
    /// The operator has removed the user.
    #[error("{0} was removed, and the name stays reserved")]
    Removed(UserId),
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
            Denied::NoLogin
            | Denied::NotRegistered(_)
            | Denied::Held(_)
            | Denied::NotInvited(_)
            | Denied::Reserved(_)
            | Denied::Disabled(_)
            | Denied::Removed(_)
            | Denied::OtherCertificate { .. } => ConnectReturnCode::NotAuthorized,
            Denied::BadName(_)
            | Denied::BadToken(_)
            | Denied::Unbound
            | Denied::Clock { .. }
            | Denied::Replayed
            | Denied::BadPassword
            | Denied::NotTheOwner(_) => ConnectReturnCode::BadUserNamePassword,
            Denied::TooOften | Denied::TooManyGuesses(_) => {
                ConnectReturnCode::ConnectionRateExceeded
            }
            Denied::Busy => ConnectReturnCode::ServerBusy,
            Denied::Full | Denied::Disk => ConnectReturnCode::ServerUnavailable,
        }
    }
}

/// What a client comes in on: what the transport knows of it before the first MQTT packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// The address it comes from.
    pub peer: IpAddr,
    /// The TLS exporter of RFC 9266, which login tokens are bound to; empty outside TLS.
    pub binding: Vec<u8>,
    /// Whether a token that is bound to nothing is taken inside TLS too, because the settings say so.
    pub unbound: bool,
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
            unbound: false,
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

/// How somebody proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// By a token of this identity key.
    Token(IdentityKey),
    /// By the password with this hash.
    Password(PasswordHash),
    /// By a client certificate.
    Certificate,
    /// Nobody asked: the broker is open.
    Nothing,
}

impl Proof {
    /// In a word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Proof::Token(_) => "token",
            Proof::Password(_) => "password",
            Proof::Certificate => "certificate",
            Proof::Nothing => "nothing",
        }
    }
}

/// Somebody who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Who it is.
    pub principal: Principal,
    /// How they proved it.
    pub proof: Proof,
}

impl Admitted {
    /// Anybody, on an open broker.
    #[must_use]
    pub fn anyone() -> Admitted {
        Admitted {
            principal: Principal::Anyone,
            proof: Proof::Nothing,
        }
    }
}

/// Who has a role, by the identity key that they sign in with.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    /// Archivers.
    pub archivers: HashMap<UserId, IdentityKey>,
    /// Operators.
    pub operators: HashMap<UserId, IdentityKey>,
}

/// Decides who is let in.
#[derive(Debug)]
pub struct Admission {
    realm: Realm,
    registry: Arc<Registry>,
    roles: Roles,
    open_registration: bool,
    nonces: Nonces,
    desk: PasswordDesk,
    throttle: Throttle,
    audit: Arc<Audit>,
}

impl Admission {
    /// Admission to the given realm.
    #[must_use]
    pub fn new(
        realm: Realm,
        registry: Arc<Registry>,
        roles: Roles,
        open_registration: bool,
        nonces: Nonces,
        desk: PasswordDesk,
        audit: Arc<Audit>,
    ) -> Admission {
        Admission {
            realm,
            registry,
            roles,
            open_registration,
            nonces,
            desk,
            throttle: Throttle::default(),
            audit,
        }
    }

    /// Checks a login, and claims a free name where the first login does that or an invitation is accepted. Leaves a line
    /// in the audit log.
    ///
    /// # Errors
    /// See [`Denied`].
    pub async fn admit(&self, attempt: Attempt<'_>) -> Result<Admitted, Denied> {
        let admitted = self.examine(attempt).await;
        let client = attempt.client_id;
        let source = Source::Address(attempt.channel.peer);
        match &admitted {
            Ok(Admitted { principal, proof }) => self.audit.record(
                source,
                Entry::Login {
                    user: principal.name(),
                    role: principal.role(),
                    by: proof.kind(),
                    client,
                },
            ),
            Err(denied) => self.audit.record(
                source,
                Entry::LoginRefused {
                    user: attempt.login.map_or("", |login| &login.username),
                    client,
                    why: &denied.to_string(),
                },
            ),
        }
        admitted
    }

    /// Whether somebody who was let in still would be: the operator may have decided otherwise since.
    #[must_use]
    pub fn still_holds(&self, admitted: &Admitted) -> bool {
        let Principal::User(name) = &admitted.principal else {
            return true;
        };
        let Some(record) = self
            .registry
            .record(name)
            .filter(|record| record.standing == Standing::Active)
        else {
            return false;
        };
        match &admitted.proof {
            Proof::Token(key) => record.identity == Some(*key),
            Proof::Password(hash) => record.password.as_ref() == Some(hash),
            Proof::Certificate | Proof::Nothing => true,
        }
    }

    async fn examine(&self, attempt: Attempt<'_>) -> Result<Admitted, Denied> {
        let login = attempt.login.filter(|login| !login.username.is_empty());
        let certificate = attempt.channel.certificate.as_ref();
        let (name, password) = match (login, certificate) {
            (None, None) => return Err(Denied::NoLogin),
            (None, Some(certificate)) => return self.by_certificate(certificate),
            (Some(login), _) => (UserId::parse(&login.username)?, login.password.as_str()),
        };
        if let Some(certificate) = certificate {
            if *certificate != name {
                let certificate = certificate.clone();
                return Err(Denied::OtherCertificate { certificate, name });
            }
            if password.is_empty() {
                return self.by_certificate(certificate);
            }
        }
        match LoginPassword::parse(password) {
            Ok(login) => self.by_token(name, login, attempt).await,
            // A password is always shorter than a token.
            Err(_) if can_be_password(password) && self.registry.has_passwords() => {
                self.by_password(name, password, attempt).await
            }
            Err(error) => Err(Denied::BadToken(error)),
        }
    }

    async fn by_token(
        &self,
        name: UserId,
        LoginPassword { token, acceptance }: LoginPassword,
        attempt: Attempt<'_>,
    ) -> Result<Admitted, Denied> {
        let Attempt {
            client_id,
            channel,
            now,
            ..
        } = attempt;
        let verify = |binding: &[u8]| token.verify(&self.realm, &name, client_id, now, binding);
        let mut verified = verify(&channel.binding);
        // For clients whose library of TLS cannot tell them what to bind to.
        if verified == Err(LoginError::BadSignature) && verify(&[]).is_ok() {
            if !channel.unbound {
                return Err(Denied::Unbound);
            }
            verified = Ok(());
        }
        verified.map_err(|error| match error {
            LoginError::Expired => Denied::Clock {
                ahead: false,
                by: now.saturating_since(token.issued()),
            },
            LoginError::FromTheFuture => Denied::Clock {
                ahead: true,
                by: token.issued().saturating_since(now),
            },
            error => Denied::BadToken(error),
        })?;
        let key = *token.key();
        let role = |principal: fn(UserId) -> Principal, holder: &IdentityKey| {
            if *holder == key {
                Ok(principal(name.clone()))
            } else {
                Err(Denied::NotTheOwner(name.clone()))
            }
        };
        let use_up = async || match self.nonces.use_up(&token, now).await {
            Ok(()) => Ok(()),
            Err(NonceError::Replayed) => Err(Denied::Replayed),
            Err(NonceError::TooOften) => Err(Denied::TooOften),
            Err(NonceError::Disk(error)) => {
                tracing::error!(%error, "the use of a login token could not be written");
                Err(Denied::Disk)
            }
        };
        let principal = if let Some(holder) = self.roles.archivers.get(&name) {
            let principal = role(Principal::Archiver, holder)?;
            use_up().await?;
            principal
        } else if let Some(holder) = self.roles.operators.get(&name) {
            let principal = role(Principal::Operator, holder)?;
            use_up().await?;
            principal
        } else {
            let record = self.registry.record(&name);
            match record {
                Some(record) if record.standing == Standing::Removed => {
                    return Err(Denied::Removed(name));
                }
                Some(Record {
                    identity: Some(identity),
                    ..
                }) if identity != key => return Err(Denied::NotTheOwner(name)),
                Some(record) if record.standing == Standing::Disabled => {
                    return Err(Denied::Disabled(name));
                }
                Some(Record {
                    identity: Some(_), ..
                }) => use_up().await?,
                None if name.is_reserved() => return Err(Denied::Reserved(name)),
                unbound => {
                    let claim = match (acceptance, unbound) {
                        (Some(acceptance), Some(record)) => {
                            let invited = record.invitation;
                            let invited =
                                invited.ok_or_else(|| Denied::NotInvited(name.clone()))?;
                            acceptance
                                .verify(&invited.key, &self.realm, &name, &token)
                                .map_err(|_| Denied::NotInvited(name.clone()))?;
                            Claim::Invited(invited.key)
                        }
                        (Some(_), None) if !self.open_registration => {
                            return Err(Denied::NotInvited(name));
                        }
                        (None, None) if !self.open_registration => {
                            return Err(Denied::NotRegistered(name));
                        }
                        (None, Some(_)) if !self.open_registration => {
                            return Err(Denied::Held(name));
                        }
                        _ => Claim::First,
                    };
                    use_up().await?;
                    self.register(&name, &key, claim, attempt).await?;
                }
            }
            Principal::User(name)
        };
        Ok(Admitted {
            principal,
            proof: Proof::Token(key),
        })
    }

    async fn by_password(
        &self,
        name: UserId,
        password: &str,
        attempt: Attempt<'_>,
    ) -> Result<Admitted, Denied> {
        let network = Network::from(attempt.channel.peer);
        self.throttle
            .may_guess(&name, network, Instant::now())
            .map_err(|too_soon| Denied::TooManyGuesses(too_soon.wait))?;
        let record = self.registry.record(&name);
        let hash = record.as_ref().and_then(|record| record.password.clone());
        match self.desk.check(hash.clone(), password).await {
            Ok(true) => {}
            Ok(false) => return Err(Denied::BadPassword),
            Err(_) => {
                self.throttle.was_not_checked(&name, network);
                return Err(Denied::Busy);
            }
        }
        self.throttle.was_right(&name, network);
        match (record, hash) {
            (Some(record), Some(hash)) if record.standing == Standing::Active => Ok(Admitted {
                principal: Principal::User(name),
                proof: Proof::Password(hash),
            }),
            _ => Err(Denied::Disabled(name)),
        }
    }

    /// Somebody whose certificate the transport has verified. The name has to be registered: a certificate says who
    /// somebody is, not that they have a place here.
    fn by_certificate(&self, name: &UserId) -> Result<Admitted, Denied> {
        match self.registry.record(name).map(|record| record.standing) {
            Some(Standing::Active) => Ok(Admitted {
                principal: Principal::User(name.clone()),
                proof: Proof::Certificate,
            }),
            Some(Standing::Disabled) => Err(Denied::Disabled(name.clone())),
            Some(Standing::Removed) => Err(Denied::Removed(name.clone())),
            None => Err(Denied::NotRegistered(name.clone())),
        }
    }

    async fn register(
        &self,
        name: &UserId,
        key: &IdentityKey,
        claim: Claim,
        attempt: Attempt<'_>,
    ) -> Result<(), Denied> {
        let registered = self.registry.register(name, key, claim, attempt.now).await;
        registered.map_err(|error| match error {
            RegisterError::Reserved => Denied::Reserved(name.clone()),
            RegisterError::Taken => Denied::NotTheOwner(name.clone()),
            RegisterError::Held => Denied::Held(name.clone()),
            RegisterError::NotInvited => Denied::NotInvited(name.clone()),
            RegisterError::Removed => Denied::Removed(name.clone()),
            RegisterError::Full => Denied::Full,
            RegisterError::Disk(error) => {
                tracing::error!(%error, "a registration could not be written");
                Denied::Disk
            }
        })?;
        let identity = key.fingerprint();
        tracing::info!(user = %name, identity, "registered");
        self.audit.record(
            Source::Address(attempt.channel.peer),
            Entry::Registered {
                user: name.as_str(),
                identity: &identity,
                by: match claim {
                    Claim::Invited(_) => "invitation",
                    Claim::First | Claim::Operator => "first login",
                },
            },
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
        Invitation::parse("sealpost-invitation-AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE")
            .unwrap()
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
}
