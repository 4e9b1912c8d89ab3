//! Admission: who somebody is who connects.

mod denied;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use rumqttd::protocol::Login;
use sealpost_core::{IdentityKey, LoginError, LoginPassword, Realm, Timestamp, UserId};

use crate::access::audit::{Audit, Entry, Source};
use crate::access::nonces::{NonceError, Nonces};
use crate::access::password::{PasswordDesk, PasswordHash, can_be_password};
use crate::access::registry::{Claim, Record, RegisterError, Registry, Standing};
use crate::access::throttle::{Network, Throttle};

pub use denied::Denied;

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
            Ok(Admitted { principal, proof }) => {
                if let Principal::User(name) = principal {
                    self.registry.note_login(name, attempt.now);
                }
                self.audit.record(
                    source,
                    Entry::Login {
                        user: principal.name(),
                        role: principal.role(),
                        by: proof.kind(),
                        client,
                    },
                );
            }
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
mod tests;
