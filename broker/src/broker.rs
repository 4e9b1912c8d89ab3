//! The broker as connections see it: everything that they share.

use std::sync::Arc;

use bytes::Bytes;
use rumqttd::protocol::QoS;
use sealpost_core::{Topic, UserId};
use tokio_util::sync::CancellationToken;

use crate::access::admission::{Admission, Principal};
use crate::access::audit::Audit;
use crate::access::permission::Permission;
use crate::access::registry::{Registry, Standing};
use crate::allowance::Allowances;
use crate::delivery::board::Board;
use crate::delivery::wills::Wills;
use crate::delivery::wire::Wire;
use crate::lifetime::Lifetime;
use crate::metrics::meters::EntranceMeter;
use crate::order::Order;
use crate::order::dispatcher::Ticket;
use crate::order::router_link::{Route, RouterError, Submission};
use crate::protocol::packet::Version;
use crate::protocol::topic_name::TopicName;
use crate::settings::Settings;
use crate::sys::Traffic;

/// What connections share.
#[derive(Debug)]
pub struct Broker {
    /// The settings.
    pub settings: Settings,
    /// Who is registered.
    pub registry: Arc<Registry>,
    /// Who is let in; nobody is asked when the broker is open.
    pub admission: Option<Admission>,
    /// What is permitted.
    pub permission: Permission,
    /// What is written down of who was let in and who was not.
    pub audit: Arc<Audit>,
    /// How much an address and a user may do.
    pub allowances: Allowances,
    /// Where the broker is in its life.
    pub life: Arc<Lifetime>,
    /// Connections and logins, counted.
    pub entrance: EntranceMeter,
    /// Sessions, subscriptions, retained messages.
    pub board: Arc<Board>,
    /// Wills of clients that have gone.
    pub wills: Wills<Principal>,
    /// What has come in.
    pub traffic: Traffic,
    /// The one order in which everything is delivered.
    pub order: Order,
}

impl Broker {
    /// Ends subscriptions that were permitted once and are not any longer: rules change, users are removed, and a session
    /// that is kept does not subscribe again.
    pub fn review_subscriptions(&self) {
        let ended = self.board.review(|key, filter| {
            // Archivers, operators and whoever is on an open broker have owners that are no user names.
            let Ok(user) = UserId::parse(&key.owner) else {
                return true;
            };
            let removed = self
                .registry
                .record(&user)
                .is_none_or(|record| record.standing == Standing::Removed);
            let principal = Principal::User(user);
            let permitted = self
                .permission
                .subscribe(&principal, filter, QoS::AtMostOnce);
            !removed && permitted.is_ok()
        });
        if ended > 0 {
            tracing::info!(ended, "subscriptions that are not permitted any longer");
        }
    }

    /// Takes a user's key bundle out of everybody's sight: newcomers find none, and who is subscribed is told. The registry
    /// has forgotten it already; the caller keeps the turn.
    ///
    /// # Errors
    /// [`RouterError`] when there is no order to publish into any longer.
    pub async fn withdraw_bundle(&self, user: &UserId) -> Result<(), RouterError> {
        let topic = Topic::Keys(user.clone());
        let route = Route::from(&topic);
        // Every name makes a topic.
        let Ok(topic) = TopicName::parse(topic.to_string().as_bytes()) else {
            return Ok(());
        };
        // Nobody waits for an answer.
        let wire = Arc::new(Wire::new(Version::V5, CancellationToken::new()));
        wire.count_submitted();
        let rider = Ticket {
            topic,
            qos: QoS::AtLeastOnce,
            pkid: 0,
            retain: true,
            supersedes: true,
            properties: None,
            expires: None,
            sender: None,
            origin: None,
            wire,
            receipt: None,
        };
        let submission = Submission {
            route,
            payload: Bytes::new(),
            rider,
        };
        self.order.submit(vec![submission]).await
    }
}
