//! Permission: who may publish what where, and subscribe to what.
//!
//! | who | may publish | may subscribe |
//! |---|---|---|
//! | user U | `keys/U` (a valid, newer bundle of the registered or a linked identity), `inbox/<registered user>` (a well-formed envelope from U, signed by U's identity, to the topic's owner) | `inbox/U`, `keys/<anyone>` |
//! | | what the rule file gives | what the rule file gives |
//! | archiver | nothing | `inbox/+`, `keys/+`, also through `$share/<group>/` |
//! | operator | `inbox/<registered user>`: envelopes verbatim whose signature is by `from`'s registered identity | `$SYS/#` and what is below |
//! | anyone, on an open broker | everything | everything |

use std::sync::{Arc, PoisonError, RwLock};

use rumqttd::protocol::{PublishProperties, QoS, SubscribeReasonCode};
use sealpost_core::{Envelope, IdentityKey, Realm, Timestamp, Topic, TopicFilter, UserId};

use crate::access::admission::Principal;
use crate::access::registry::{BundleRefused, BundleTurn, Registry};
use crate::access::rules::Rules;
use crate::order::router_link::Route;
use crate::protocol::outcome::Outcome;
use crate::protocol::topic_name::{FilterName, TopicName};

/// The one filter that an open broker refuses, with 0x80: conformance suites want to see a refusal, and ask for it so.
const NOT_EVEN_WHEN_OPEN: &str = "test/nosubscribe";

/// `$SYS/…` is what the broker tells of itself; `$share/…` is never a topic that a subscription could match.
fn is_the_brokers(topic: &TopicName) -> bool {
    topic.as_str().starts_with("$SYS/") || topic.as_str().starts_with("$share/")
}

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
    rules: RwLock<Rules>,
}

impl Permission {
    /// Permission in the given realm.
    #[must_use]
    pub fn new(realm: Realm, registry: Arc<Registry>, rules: Rules) -> Permission {
        let rules = RwLock::new(rules);
        Permission {
            realm,
            registry,
            rules,
        }
    }

    /// Puts other rules in force, from the next publish and subscription on.
    pub fn set_rules(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
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
        // MQTT 5 properties stay behind on Sealpost's own topics: they are not covered by any signature.
        let ours = |topic: &Topic, turn| Permitted {
            route: Route::from(topic),
            properties: None,
            turn,
        };
        let others = |properties: Option<PublishProperties>| Permitted {
            route: Route::OTHER,
            properties: properties.map(Box::new),
            turn: None,
        };
        let sealpost = Topic::parse(topic.as_str());
        match (principal, sealpost) {
            (Principal::Anyone, _) if is_the_brokers(topic) => refuse(
                Outcome::NotAuthorized,
                "topics below $SYS/ and $share/ are the broker's own",
            ),
            (Principal::Anyone, _) => Ok(others(properties)),
            (Principal::Archiver(_), _) => {
                refuse(Outcome::NotAuthorized, "an archiver publishes nothing")
            }
            (Principal::Operator(_), Ok(topic @ Topic::Inbox(_))) => {
                self.replay(topic.owner(), payload, retain)?;
                Ok(ours(&topic, None))
            }
            (Principal::Operator(_), _) => refuse(
                Outcome::NotAuthorized,
                "an operator publishes envelopes to inbox/<user> only",
            ),
            (Principal::User(user), topic_of_ours) => {
                // The operator may have disabled the user a moment ago, or after a will was left.
                let Some(identity) = self.registry.active(user) else {
                    return refuse(Outcome::NotAuthorized, format!("{user} may not act"));
                };
                match topic_of_ours {
                    Ok(topic @ Topic::Keys(_)) => {
                        // Seldom, and larger than all the rest.
                        let owner = topic.owner();
                        let turn = Box::pin(self.keys(user, owner, payload, retain, now)).await?;
                        Ok(ours(&topic, Some(turn)))
                    }
                    Ok(topic @ Topic::Inbox(_)) => {
                        self.inbox(user, identity, topic.owner(), payload, retain)?;
                        Ok(ours(&topic, None))
                    }
                    Err(_) if self.rules().permit_publish(user, topic.as_str(), retain) => {
                        Ok(others(properties))
                    }
                    Err(_) => refuse(
                        Outcome::NotAuthorized,
                        "users publish to keys/<user> and inbox/<user>, and to what the broker's rules give them",
                    ),
                }
            }
        }
    }

    fn rules(&self) -> std::sync::RwLockReadGuard<'_, Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
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

    /// What has to be right of everything on `inbox/<owner>`. It probably has this signer.
    fn envelope(
        &self,
        owner: &UserId,
        payload: &[u8],
        retain: bool,
        signer: Option<IdentityKey>,
    ) -> Result<Envelope, Refused> {
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
        let envelope = match Envelope::parse_knowing(payload, |_| signer) {
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
        Ok(envelope)
    }

    fn inbox(
        &self,
        user: &UserId,
        identity: Option<IdentityKey>,
        owner: &UserId,
        payload: &[u8],
        retain: bool,
    ) -> Result<(), Refused> {
        let envelope = self.envelope(owner, payload, retain, identity)?;
        if envelope.from() != user {
            return refuse(
                Outcome::NotAuthorized,
                format!(
                    "the envelope is from {}, and you are {user}",
                    envelope.from()
                ),
            );
        }
        if identity.as_ref() != Some(envelope.signer()) {
            return refuse(
                Outcome::NotAuthorized,
                "the envelope is signed by an identity that is not yours",
            );
        }
        Ok(())
    }

    /// What an operator puts back verbatim, from an archive: the sender does not stand behind it on this connection, so the
    /// signature itself has to hold.
    fn replay(&self, owner: &UserId, payload: &[u8], retain: bool) -> Result<(), Refused> {
        let envelope = self.envelope(owner, payload, retain, None)?;
        if self.registry.identity(envelope.from()).as_ref() != Some(envelope.signer()) {
            return refuse(
                Outcome::NotAuthorized,
                format!(
                    "the envelope is not signed by the identity that {} is registered with",
                    envelope.from()
                ),
            );
        }
        if envelope.verify_signature().is_err() {
            return refuse(
                Outcome::NotAuthorized,
                "the signature of the envelope does not hold",
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
        let shared = filter
            .shared()
            .map_err(|_| SubscribeReasonCode::TopicFilterInvalid)?;
        let inner = match &shared {
            Some((_, inner)) => inner.as_str(),
            None => filter.as_str(),
        };
        let sealpost = TopicFilter::parse(inner);
        let allowed = match (principal, &sealpost) {
            (Principal::Anyone, _) if inner == NOT_EVEN_WHEN_OPEN => {
                return Err(SubscribeReasonCode::Unspecified);
            }
            (Principal::Anyone, _) => true,
            (Principal::Archiver(_), Ok(TopicFilter::EveryInbox | TopicFilter::EveryKeys)) => true,
            (Principal::Archiver(_), _) => false,
            // Mail for one user, and their contacts' keys, are not for sharing out.
            (Principal::User(_), Ok(_)) if shared.is_some() => false,
            (Principal::User(user), Ok(TopicFilter::Inbox(owner))) => user == owner,
            (Principal::User(_), Ok(TopicFilter::Keys(_))) => true,
            (Principal::User(_), Ok(TopicFilter::EveryInbox | TopicFilter::EveryKeys)) => false,
            (Principal::User(user), Err(_)) => self.rules().permit_subscribe(user, inner),
            (Principal::Operator(_), _) => {
                shared.is_none() && (inner == "$SYS" || inner.starts_with("$SYS/"))
            }
        };
        // A lower QoS than asked for may be granted (MQTT 5.0, section 3.8.4). Whoever shares a subscription may get what
        // another was sent before, and a key bundle in a mailbox gives way to a newer one: both fit QoS 1.
        let at_most_1 = shared.is_some()
            || matches!(sealpost, Ok(TopicFilter::Keys(_) | TopicFilter::EveryKeys));
        match qos {
            _ if !allowed => Err(SubscribeReasonCode::NotAuthorized),
            QoS::ExactlyOnce if at_most_1 => Ok(QoS::AtLeastOnce),
            qos => Ok(qos),
        }
    }
}
