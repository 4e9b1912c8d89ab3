//! Why somebody was not let in.

use std::time::Duration;

use rumqttd::protocol::ConnectReturnCode;
use sealpost_core::{LOGIN_WINDOW, LoginError, NameError, UserId};

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
    /// All words that there are, so that metrics have each from the start: what begins to be there did not grow, for Prometheus.
    pub const WORDS: [&str; 20] = [
        "no-login",
        "bad-name",
        "bad-token",
        "clock",
        "unbound",
        "replayed",
        "not-the-owner",
        "bad-password",
        "too-many-guesses",
        "busy",
        "other-certificate",
        "not-registered",
        "held",
        "not-invited",
        "reserved",
        "disabled",
        "removed",
        "full",
        "too-often",
        "disk",
    ];

    /// In a word, for metrics: one of [`Denied::WORDS`].
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Denied::NoLogin => "no-login",
            Denied::BadName(_) => "bad-name",
            Denied::BadToken(_) => "bad-token",
            Denied::Clock { .. } => "clock",
            Denied::Unbound => "unbound",
            Denied::Replayed => "replayed",
            Denied::NotTheOwner(_) => "not-the-owner",
            Denied::BadPassword => "bad-password",
            Denied::TooManyGuesses(_) => "too-many-guesses",
            Denied::Busy => "busy",
            Denied::OtherCertificate { .. } => "other-certificate",
            Denied::NotRegistered(_) => "not-registered",
            Denied::Held(_) => "held",
            Denied::NotInvited(_) => "not-invited",
            Denied::Reserved(_) => "reserved",
            Denied::Disabled(_) => "disabled",
            Denied::Removed(_) => "removed",
            Denied::Full => "full",
            Denied::TooOften => "too-often",
            Denied::Disk => "disk",
        }
    }

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
