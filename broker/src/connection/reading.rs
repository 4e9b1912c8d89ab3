//! The reader of a connection: packets in, answers queued, publishes into the one order.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rumqttd::protocol::{
    DisconnectReasonCode, Filter, Packet, PingResp, QoS, SubAck, SubscribeReasonCode, UnsubAck,
    UnsubAckReason,
};
use tokio::time::timeout;

use super::{End, Input, Joined};
use crate::board::{BoardError, Subscription};
use crate::clock;
use crate::dispatcher::Ticket;
use crate::message::{Outcome, Receipt};
use crate::packet::{Incoming, IncomingPublish, PacketError, Version};
use crate::permission::{Permitted, Refused};
use crate::router_link::Submission;
use crate::topic_name::{FilterName, TopicName};
use crate::wire::{Goodbye, Wire};

/// Publishes that go into the one order together at most.
const BATCH: usize = 256;

impl Joined {
    /// Reads until the end, which it returns as the error.
    pub(super) async fn read(&mut self, input: &mut Input) -> Result<Infallible, End> {
        let wire = Arc::clone(&self.attachment.wire);
        let mut batch = Vec::new();
        loop {
            loop {
                if !wire.has_room() {
                    self.submit(&mut batch).await?;
                    self.wait(|wire| wire.has_room()).await?;
                }
                let Some(packet) = input.decoder.decode(&mut input.buffer)? else {
                    break;
                };
                match packet {
                    Incoming::Publish(publish) => {
                        self.publish(publish, &mut batch).await?;
                        if batch.len() >= BATCH {
                            self.submit(&mut batch).await?;
                        }
                    }
                    Incoming::PubAck(pkid) => self.session.acknowledge(&wire, pkid),
                    Incoming::Subscribe { pkid, filters, id } => {
                        self.submit(&mut batch).await?;
                        self.wait(|wire| wire.all_dispatched()).await?;
                        let return_codes = filters
                            .iter()
                            .map(|filter| self.subscribe(filter, id))
                            .collect();
                        wire.answer(Packet::SubAck(SubAck { pkid, return_codes }, None));
                    }
                    Incoming::Unsubscribe { pkid, filters } => {
                        let reasons = filters
                            .iter()
                            .map(|filter| self.unsubscribe(filter))
                            .collect();
                        wire.answer(Packet::UnsubAck(UnsubAck { pkid, reasons }, None));
                    }
                    Incoming::PingReq => wire.answer(Packet::PingResp(PingResp)),
                    Incoming::Disconnect(expiry) => {
                        self.submit(&mut batch).await?;
                        let longest = self.broker.settings.limits.session_expiry;
                        self.expiry =
                            expiry.map(|expiry| Duration::from_secs(expiry.min(longest).into()));
                        return Err(End::Disconnected);
                    }
                    Incoming::QoS2 => {
                        return Err(End::Refused(Goodbye::new(
                            DisconnectReasonCode::ProtocolError,
                            "no QoS 2 message is under way",
                        )));
                    }
                    Incoming::Connect(_) => return Err(PacketError::ConnectOutOfPlace.into()),
                }
            }
            self.submit(&mut batch).await?;
            let keep_alive = self.keep_alive.unwrap_or(Duration::MAX);
            tokio::select! {
                biased;
                () = wire.closed() => return Err(End::Closed),
                read = timeout(keep_alive, input.read()) => read.map_err(|_| End::KeepAlive)??,
            }
        }
    }

    async fn wait(&self, until: impl Fn(&Wire) -> bool) -> Result<(), End> {
        let wire = &self.attachment.wire;
        while !until(wire) {
            tokio::select! {
                () = wire.closed() => return Err(End::Closed),
                () = wire.room.notified() => {}
            }
        }
        Ok(())
    }

    async fn submit(&self, batch: &mut Vec<Submission<Ticket>>) -> Result<(), End> {
        if batch.is_empty() {
            return Ok(());
        }
        Ok(self.broker.inlet.submit(std::mem::take(batch)).await?)
    }

    async fn publish(
        &self,
        publish: IncomingPublish,
        batch: &mut Vec<Submission<Ticket>>,
    ) -> Result<(), End> {
        let IncomingPublish {
            qos,
            retain,
            pkid,
            topic,
            payload,
            properties,
        } = publish;
        let refuse = |reason, text: &str| Err(End::Refused(Goodbye::new(reason, text)));
        if qos == QoS::ExactlyOnce {
            return refuse(
                DisconnectReasonCode::QoSNotSupported,
                "QoS 2 is not served yet; publish at QoS 1",
            );
        }
        if let Some(properties) = &properties {
            if properties.topic_alias.is_some() {
                return refuse(
                    DisconnectReasonCode::TopicAliasInvalid,
                    "topic aliases are not served",
                );
            }
            if !properties.subscription_identifiers.is_empty() {
                return refuse(
                    DisconnectReasonCode::ProtocolError,
                    "a client's PUBLISH has no subscription identifier",
                );
            }
        }
        let topic = match TopicName::parse(&topic) {
            Ok(topic) => topic,
            Err(error) => {
                return refuse(
                    DisconnectReasonCode::TopicNameInvalid,
                    &format!("topic: {error}"),
                );
            }
        };
        let wire = &self.attachment.wire;
        let slot = (qos == QoS::AtLeastOnce).then(|| wire.expect(pkid, payload.len()));
        let now = clock::now();
        let permitted = self
            .broker
            .permission
            .publish(&self.principal, &topic, &payload, retain, properties, now)
            .await;
        match permitted {
            Ok(Permitted {
                route,
                properties,
                turn,
            }) => {
                let receipt = slot.map(|slot| Arc::new(Receipt::new(Arc::clone(wire), slot)));
                let (origin, wire) = (Arc::clone(&self.session), Arc::clone(wire));
                wire.count_submitted();
                let rider = Ticket {
                    topic,
                    qos,
                    retain,
                    properties,
                    origin,
                    wire,
                    receipt,
                };
                batch.push(Submission {
                    route,
                    payload,
                    rider,
                });
                if turn.is_some() {
                    self.submit(batch).await?;
                }
            }
            Err(Refused { outcome, text }) => {
                tracing::info!(principal = %self.principal, ?topic, ?outcome, text, "publish refused");
                match slot {
                    Some(slot) => wire.complete_with(slot, outcome, Some(text)),
                    // QoS 0 has no acknowledgement to say it in; 3.1.1 has no other word than the end.
                    None if wire.version() == Version::V311 => {
                        return refuse(refusal(outcome), &text);
                    }
                    None => {}
                }
            }
        }
        Ok(())
    }

    fn subscribe(&self, asked: &Filter, id: Option<usize>) -> SubscribeReasonCode {
        let code = self.try_subscribe(asked, id);
        if !matches!(code, SubscribeReasonCode::Success(_)) {
            tracing::info!(principal = %self.principal, filter = ?asked.path, ?code, "subscription refused");
            if self.attachment.wire.version() == Version::V311 {
                return SubscribeReasonCode::Failure;
            }
        }
        code
    }

    fn try_subscribe(&self, asked: &Filter, id: Option<usize>) -> SubscribeReasonCode {
        let Ok(filter) = FilterName::parse(&asked.path) else {
            return SubscribeReasonCode::TopicFilterInvalid;
        };
        let qos = match self
            .broker
            .permission
            .subscribe(&self.principal, &filter, asked.qos)
        {
            Ok(qos) => qos,
            Err(code) => return code,
        };
        let subscription = Subscription {
            qos,
            no_local: asked.nolocal,
            retain_as_published: asked.preserve_retain,
            id,
        };
        let rule = &asked.retain_forward_rule;
        match self
            .broker
            .board
            .subscribe(&self.key, &self.session, &filter, subscription, rule)
        {
            Ok(()) => SubscribeReasonCode::Success(qos),
            Err(BoardError::Subscriptions | BoardError::Sessions | BoardError::SessionsOfOwner) => {
                SubscribeReasonCode::QuotaExceeded
            }
        }
    }

    fn unsubscribe(&self, filter: &str) -> UnsubAckReason {
        match FilterName::parse(filter) {
            Ok(filter)
                if self
                    .broker
                    .board
                    .unsubscribe(&self.key, &self.session, &filter) =>
            {
                UnsubAckReason::Success
            }
            Ok(_) => UnsubAckReason::NoSubscriptionExisted,
            Err(_) => UnsubAckReason::TopicFilterInvalid,
        }
    }
}

fn refusal(outcome: Outcome) -> DisconnectReasonCode {
    match outcome {
        Outcome::Accepted | Outcome::NobodyThere => DisconnectReasonCode::NormalDisconnection,
        Outcome::NotAuthorized => DisconnectReasonCode::NotAuthorized,
        Outcome::TopicNameInvalid => DisconnectReasonCode::TopicNameInvalid,
        Outcome::QuotaExceeded => DisconnectReasonCode::QuotaExceeded,
        Outcome::PayloadFormatInvalid => DisconnectReasonCode::PayloadFormatInvalid,
    }
}
