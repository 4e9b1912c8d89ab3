//! Permission: who may publish what where, and subscribe to what.
//!
//! | who | may publish | may subscribe |
//! |---|---|---|
//! | user U | `keys/U` (a valid, newer bundle of the registered or a linked identity), `inbox/<registered user>` (a well-formed envelope from U, signed by U's identity, to the topic's owner) | `inbox/U`, `keys/<anyone>` |
//! | archiver | nothing | `inbox/+`, `keys/+` |
//! | anyone, on an open broker | everything | everything |

use std::sync::Arc;

use rumqttd::protocol::{PublishProperties, QoS, SubscribeReasonCode};
use sealpost_core::{Envelope, Realm, Timestamp, Topic, TopicFilter, UserId};

use crate::access::admission::Principal;
use crate::access::registry::{BundleRefused, BundleTurn, Registry};
use crate::order::router_link::Route;
use crate::protocol::outcome::Outcome;
use crate::protocol::topic_name::{FilterName, TopicName};

/// A publish that may go into the one order.
#[derive(Debug)]
pub struct Permitted {
    /// The topic that the router sees.
    pub route: Route,
    /// The properties that travel on.
    pub properties: Option<Box<PublishProperties>>,
    /// For a key bundle: to be kept until it has its place in the one order.
    pub turn: Option<BundleTurn>,
}

/// A publish that was refused, and what its publisher can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The reason code.
    pub outcome: Outcome,
    /// The explanation.
    pub text: String,
}

fn refuse<T>(outcome: Outcome, text: impl Into<String>) -> Result<T, Refused> {
    Err(Refused {
        outcome,
        text: text.into(),
    })
}

/// Decides what is permitted.
#[derive(Debug)]
pub struct Permission {
    realm: Realm,
    registry: Arc<Registry>,
}

impl Permission {
    /// Permission in the given realm.
    #[must_use]
    pub fn new(realm: Realm, registry: Arc<Registry>) -> Permission {
        Permission { realm, registry }
    }

    /// Checks a publish. A key bundle is on disk when this returns.
    ///
    /// # Errors
    /// [`Refused`], with the reason.
    pub async fn publish(
        &self,
        principal: &Principal,
        topic: &TopicName,
        payload: &[u8],
        retain: bool,
        properties: Option<PublishProperties>,
        now: Timestamp,
    ) -> Result<Permitted, Refused> {
        let user = match principal {
            Principal::Anyone => {
                return Ok(Permitted {
                    route: Route::OTHER,
                    properties: properties.map(Box::new),
                    turn: None,
                });
            }
            Principal::Archiver(_) => {
                return refuse(Outcome::NotAuthorized, "an archiver publishes nothing");
            }
            Principal::User(user) => user,
        };
        let Ok(topic) = Topic::parse(topic.as_str()) else {
            return refuse(
                Outcome::NotAuthorized,
                "users publish to keys/<user> and inbox/<user> only",
            );
        };
        let turn = match &topic {
            Topic::Keys(owner) => Some(self.keys(user, owner, payload, retain, now).await?),
            Topic::Inbox(owner) => {
                self.inbox(user, owner, payload, retain)?;
                None
            }
        };
        // MQTT 5 properties stay behind: they are not covered by any signature.
        Ok(Permitted {
            route: Route::from(&topic),
            properties: None,
            turn,
        })
    }

    async fn keys(
        &self,
        user: &UserId,
        owner: &UserId,
        payload: &[u8],
        retain: bool,
        now: Timestamp,
    ) -> Result<BundleTurn, Refused> {
        if user != owner {
            return refuse(
                Outcome::NotAuthorized,
                format!("keys/{owner} is for {owner} alone"),
            );
        }
        if !retain {
            return refuse(
                Outcome::PayloadFormatInvalid,
                "a key bundle is published with RETAIN, for those who come later",
            );
        }
        let taken = if payload.is_empty() {
            self.registry.withdraw(owner).await
        } else {
            self.registry.publish(owner, payload, now).await
        };
        taken.or_else(|refused| {
            if let BundleRefused::Disk(error) = &refused {
                tracing::error!(%error, "a key bundle could not be written");
                return refuse(Outcome::Failed, refused.to_string());
            }
            refuse(Outcome::PayloadFormatInvalid, refused.to_string())
        })
    }

    fn inbox(
        &self,
        user: &UserId,
        owner: &UserId,
        payload: &[u8],
        retain: bool,
    ) -> Result<(), Refused> {
        if retain {
            return refuse(
                Outcome::NotAuthorized,
                "messages are not retained; publish without RETAIN",
            );
        }
        if !self.registry.is_registered(owner) {
            return refuse(
                Outcome::TopicNameInvalid,
                format!("{owner} is not registered here"),
            );
        }
        let envelope = match Envelope::parse(payload) {
            Ok(envelope) => envelope,
            Err(error) => return refuse(Outcome::PayloadFormatInvalid, error.to_string()),
        };
        if *envelope.realm() != self.realm {
            return refuse(
                Outcome::PayloadFormatInvalid,
                format!("the envelope is for realm {}", envelope.realm()),
            );
        }
        if envelope.to() != owner {
            return refuse(
                Outcome::PayloadFormatInvalid,
                format!("the envelope is to {}", envelope.to()),
            );
        }
        if envelope.from() != user {
            return refuse(
                Outcome::NotAuthorized,
                format!(
                    "the envelope is from {}, and you are {user}",
                    envelope.from()
                ),
            );
        }
        if self.registry.identity(user).as_ref() != Some(envelope.signer()) {
            return refuse(
                Outcome::NotAuthorized,
                "the envelope is signed by an identity that is not yours",
            );
        }
        Ok(())
    }

    /// Checks a subscription and says at which QoS it is granted.
    ///
    /// # Errors
    /// The SUBACK reason code.
    pub fn subscribe(
        &self,
        principal: &Principal,
        filter: &FilterName,
        qos: QoS,
    ) -> Result<QoS, SubscribeReasonCode> {
        if filter.is_shared() {
            return Err(SubscribeReasonCode::SharedSubscriptionsNotSupported);
        }
        let sealpost = TopicFilter::parse(filter.as_str());
        let allowed = match (principal, &sealpost) {
            (Principal::Anyone, _) => true,
            (Principal::User(user), Ok(TopicFilter::Inbox(owner))) => user == owner,
            (Principal::User(_), Ok(TopicFilter::Keys(_))) => true,
            (Principal::Archiver(_), Ok(TopicFilter::EveryInbox | TopicFilter::EveryKeys)) => true,
            _ => false,
        };
        match qos {
            _ if !allowed => Err(SubscribeReasonCode::NotAuthorized),
            QoS::AtMostOnce => Ok(QoS::AtMostOnce),
            // QoS 2 is granted as 1 (MQTT 5.0 section 3.8.4 allows a lower one).
            QoS::AtLeastOnce | QoS::ExactlyOnce => Ok(QoS::AtLeastOnce),
        }
    }
}
