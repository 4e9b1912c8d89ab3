//! The reader of a connection: packets in, answers queued, publishes into the one order.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rumqttd::protocol::{
    DisconnectReasonCode, Filter, Packet, PingResp, QoS, SubAck, SubscribeReasonCode, UnsubAck,
    UnsubAckReason,
};
use tokio::time::Instant;

use super::aliases::AliasError;
use super::batch::Batch;
use super::{End, Input, Joined};
use crate::access::audit::Entry;
use crate::access::permission::{Permitted, Refused};
use crate::clock;
use crate::delivery::board::BoardError;
use crate::delivery::receipt::Receipt;
use crate::delivery::wire::{Goodbye, Wire};
use crate::order::dispatcher::Ticket;
use crate::order::router_link::Submission;
use crate::protocol::message::{carried, split_expiry};
use crate::protocol::outcome::Outcome;
use crate::protocol::packet::{
    Incoming, IncomingDisconnect, IncomingPublish, PacketError, Version,
};
use crate::protocol::subscription::Subscription;
use crate::protocol::topic_name::FilterName;

/// Publishes that go into the one order together at most.
const BATCH: usize = 256;

/// Filters that one SUBSCRIBE may bring: as many as a session may have by default. Those beyond are refused.
const FILTERS: usize = 1_000;

/// Bytes of packets that wait while the client's publishes are unacknowledged; then reading from it stops.
const PARKED_BYTES: usize = 1024 * 1024;

/// Reads after a connection was ended from outside, to find a DISCONNECT that was on its way.
const LAST_READS: usize = 8;

/// Refusals of one connection that the log tells in full. A client that goes on is not worth more lines.
const REFUSALS_TOLD: u32 = 20;

/// Packets that wait for room. Acknowledgements do not wait behind them: the room may be held by a queue that only those
/// acknowledgements can shorten, the client's own or its partner's.
#[derive(Default)]
struct Parked {
    packets: VecDeque<Incoming>,
    bytes: usize,
    /// Publishes among them that want an acknowledgement.
    reliable: usize,
}

impl Parked {
    fn push(&mut self, packet: Incoming) {
        self.bytes += size(&packet);
        self.reliable += usize::from(is_reliable(&packet));
        self.packets.push_back(packet);
    }

    fn pop(&mut self) -> Option<Incoming> {
        let packet = self.packets.pop_front()?;
        self.bytes -= size(&packet);
        self.reliable -= usize::from(is_reliable(&packet));
        Some(packet)
    }

    fn is_full(&self) -> bool {
        self.bytes >= PARKED_BYTES
    }
}

fn is_reliable(packet: &Incoming) -> bool {
    matches!(packet, Incoming::Publish(publish) if publish.qos != QoS::AtMostOnce)
}

fn size(packet: &Incoming) -> usize {
    // About what the packet itself takes, and what it carries.
    const PACKET: usize = 256;
    PACKET
        + match packet {
            Incoming::Publish(publish) => held(publish),
            Incoming::Subscribe { filters, .. } => {
                filters.iter().map(|filter| filter.path.len() + 64).sum()
            }
            Incoming::Unsubscribe { filters, .. } => {
                filters.iter().map(|filter| filter.len() + 32).sum()
            }
            _ => 0,
        }
}

/// Bytes that a publish holds in memory until it is dealt with.
fn held(publish: &IncomingPublish) -> usize {
    let properties = publish.properties.as_ref().map_or(0, carried);
    publish.topic.len() + publish.payload.len() + properties
}

/// How much a packet counts towards the messages that a user may send. An acknowledgement counts nothing: it is owed.
fn count(packet: &Incoming) -> usize {
    match packet {
        Incoming::PubAck(_) | Incoming::PubRec(..) | Incoming::PubRel(_) | Incoming::PubComp(_) => {
            0
        }
        Incoming::Subscribe { filters, .. } => filters.len(),
        Incoming::Unsubscribe { filters, .. } => filters.len(),
        Incoming::Connect(_)
        | Incoming::Publish(_)
        | Incoming::PingReq
        | Incoming::Disconnect(_) => 1,
    }
}

impl Joined {
    /// What comes after the last packet was read. Returns why the connection ends.
    pub(super) async fn finish(&mut self, input: &mut Input, mut batch: Batch, end: End) -> End {
        if matches!(end, End::Closed) {
            self.hear_last_word(input, &mut batch).await;
        }
        // What was good before the end goes its way.
        match self.submit(&mut batch).await {
            Ok(()) => end,
            Err(failed) => failed,
        }
    }

    /// A client that says DISCONNECT and comes back at once may be taken over by itself before its word was read here. It
    /// has been said all the same, and the will is not to be published.
    async fn hear_last_word(&mut self, input: &mut Input, batch: &mut Batch) {
        if self.will.is_none() {
            return;
        }
        // What has arrived, and no more; a peer that goes on and on is not listened to for ever.
        for _ in 0..LAST_READS {
            while let Ok(Some(packet)) = input.decoder.decode(&mut input.buffer) {
                if let disconnect @ Incoming::Disconnect(_) = packet {
                    let _ = self.take(disconnect, batch).await;
                    return;
                }
            }
            let read = tokio::time::timeout(Duration::ZERO, input.read()).await;
            if !matches!(read, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Reads until the end, which it returns as the error. What is left in the batch then is for [`Joined::finish`].
    pub(super) async fn read(
        &mut self,
        input: &mut Input,
        batch: &mut Batch,
    ) -> Result<Infallible, End> {
        let wire = Arc::clone(&self.attachment.wire);
        let mut parked = Parked::default();
        let mut heard = Instant::now();
        loop {
            // Boxed, because it is large and over when there is nothing to do.
            let pause = Box::pin(self.take_up(input, &mut parked, batch)).await?;
            let reads = !parked.is_full() && wire.takes_answers() && pause.is_none();
            let buffered = input.buffer.len();
            // Nothing can be heard while nothing is read.
            let silence = self.keep_alive.filter(|_| reads);
            let until = pause.or(silence.map(|keep_alive| heard + keep_alive));
            let time = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = wire.closed() => return Err(End::Closed),
                read = input.read(), if reads => {
                    read?;
                    self.pace.take_bytes(input.buffer.len() - buffered);
                    heard = Instant::now();
                }
                () = wire.room.notified() => {}
                () = time => {
                    if pause.is_none() {
                        return Err(End::KeepAlive);
                    }
                }
            }
            if !reads {
                heard = Instant::now();
            }
        }
    }

    /// Takes up what has been read, as far as there is room for it. Returns until when the client is to pause, who has said
    /// more than it may: packets may be left in the buffer then, and no byte need come to make them due.
    async fn take_up(
        &mut self,
        input: &mut Input,
        parked: &mut Parked,
        batch: &mut Batch,
    ) -> Result<Option<Instant>, End> {
        let wire = Arc::clone(&self.attachment.wire);
        while wire.takes_publishes()
            && let Some(packet) = parked.pop()
        {
            self.take(packet, batch).await?;
        }
        let mut pause = None;
        while !parked.is_full() && wire.takes_answers() {
            pause = self.pace.pauses_until();
            if pause.is_some() {
                break;
            }
            let Some(packet) = input.decoder.decode(&mut input.buffer)? else {
                break;
            };
            self.pace.take_messages(count(&packet));
            match packet {
                Incoming::PubAck(pkid) => self.session.acknowledge(&wire, pkid),
                Incoming::PubRec(pkid, false) => self.session.refused(&wire, pkid),
                Incoming::PubRec(pkid, true) => self.session.received(&wire, pkid),
                Incoming::PubComp(pkid) => self.session.complete(&wire, pkid),
                Incoming::PingReq => wire.answer(Packet::PingResp(PingResp)),
                packet if parked.packets.is_empty() && wire.takes_publishes() => {
                    self.take(packet, batch).await?;
                }
                packet => {
                    // MQTT 5.0, section 3.3.4: who was told a Receive Maximum keeps to it.
                    if wire.version() == Version::V5
                        && is_reliable(&packet)
                        && wire.unacknowledged() + parked.reliable
                            >= usize::from(wire.receive_maximum())
                    {
                        return Err(exceeded(&wire));
                    }
                    parked.push(packet);
                }
            }
        }
        self.submit(batch).await?;
        Ok(pause)
    }

    /// Deals with a packet that may need room.
    async fn take(&mut self, packet: Incoming, batch: &mut Batch) -> Result<(), End> {
        match packet {
            Incoming::Publish(publish) => {
                self.publish(publish, batch).await?;
                if batch.publishes.len() >= BATCH {
                    self.submit(batch).await?;
                }
                Ok(())
            }
            // Seldom, and larger than a publish.
            packet => Box::pin(self.take_seldom(packet, batch)).await,
        }
    }

    /// Deals with a packet that is no publish.
    async fn take_seldom(&mut self, packet: Incoming, batch: &mut Batch) -> Result<(), End> {
        let wire = Arc::clone(&self.attachment.wire);
        match packet {
            Incoming::Subscribe { pkid, filters, id } => {
                self.submit(batch).await?;
                self.wait(|wire| wire.all_dispatched()).await?;
                wire.hold_deliveries();
                let mut return_codes = Vec::with_capacity(filters.len());
                for (number, filter) in filters.iter().enumerate() {
                    self.breathe().await?;
                    let code = if number < FILTERS {
                        self.try_subscribe(filter, id)
                    } else {
                        SubscribeReasonCode::QuotaExceeded
                    };
                    return_codes.push(self.tell_refusal(filter, code));
                }
                let answer = Packet::SubAck(SubAck { pkid, return_codes }, None);
                self.when_kept(move |wire| wire.answer_and_release(answer));
            }
            Incoming::Unsubscribe { pkid, filters } => {
                let mut reasons = Vec::with_capacity(filters.len());
                for filter in &filters {
                    self.breathe().await?;
                    reasons.push(self.unsubscribe(filter));
                }
                let answer = Packet::UnsubAck(UnsubAck { pkid, reasons }, None);
                self.when_kept(move |wire| wire.answer(answer));
            }
            Incoming::Disconnect(IncomingDisconnect { with_will, expiry }) => {
                if self.granted.is_zero() && expiry.is_some_and(|expiry| expiry > 0) {
                    // MQTT 5.0, section 3.14.2.2.2.
                    return Err(End::Refused(Goodbye::new(
                        DisconnectReasonCode::ProtocolError,
                        "a session that ends with its connection cannot be kept after all",
                    )));
                }
                if !with_will {
                    self.will = None;
                }
                let longest = self.broker.settings.limits.session_expiry;
                self.expiry = expiry.map(|expiry| Duration::from_secs(expiry.min(longest).into()));
                return Err(End::Disconnected);
            }
            Incoming::PubRel(pkid) => self.session.release(&wire, pkid),
            // Dealt with already.
            Incoming::Publish(_)
            | Incoming::PubAck(_)
            | Incoming::PubRec(..)
            | Incoming::PubComp(_)
            | Incoming::PingReq => {}
            Incoming::Connect(_) => return Err(PacketError::ConnectOutOfPlace.into()),
        }
        Ok(())
    }

    /// Answers once the change to a durable session is on disk.
    fn when_kept(&self, answer: impl FnOnce(&Wire) + Send + 'static) {
        let wire = Arc::clone(&self.attachment.wire);
        if self.session.is_durable() {
            self.broker.board.journal().after(move || answer(&wire));
        } else {
            answer(&wire);
        }
    }

    /// Leaves a line in the audit log.
    fn record_refusal(&self, what: &str, topic: &str, why: &str) {
        let user = self.principal.name();
        let entry = Entry::Refused {
            user,
            what,
            topic,
            why,
        };
        self.broker.audit.record(self.source, entry);
    }

    /// Whether this connection's next refusal is worth a line in the log.
    fn is_worth_telling(&mut self) -> bool {
        self.refusals = self.refusals.saturating_add(1);
        self.refusals <= REFUSALS_TOLD
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

    /// Between two filters of a packet: others have their turn, and the journal catches up with what these record.
    async fn breathe(&self) -> Result<(), End> {
        tokio::task::yield_now().await;
        if !self.session.is_durable() {
            return Ok(());
        }
        tokio::select! {
            () = self.attachment.wire.closed() => Err(End::Closed),
            () = self.broker.board.journal().room() => Ok(()),
        }
    }

    async fn submit(&self, batch: &mut Batch) -> Result<(), End> {
        if batch.publishes.is_empty() {
            return Ok(());
        }
        Ok(self
            .broker
            .order
            .submit(std::mem::take(&mut batch.publishes))
            .await?)
    }

    fn count(&self, outcome: Outcome) {
        self.broker.board.totals().publishes.count(outcome);
    }

    async fn publish(&mut self, publish: IncomingPublish, batch: &mut Batch) -> Result<(), End> {
        let bytes = held(&publish);
        let IncomingPublish {
            qos,
            retain,
            pkid,
            topic,
            payload,
            mut properties,
        } = publish;
        self.broker.traffic.count_received();
        // One of QoS 2 is unacknowledged until its PUBCOMP.
        if qos == QoS::ExactlyOnce
            && self.attachment.wire.version() == Version::V5
            && self.session.unreleased()
                >= usize::from(self.attachment.wire.receive_maximum()) + self.carried
            && !self.session.is_unreleased(pkid)
        {
            return Err(exceeded(&self.attachment.wire));
        }
        let refuse = |reason, text: &str| Err(End::Refused(Goodbye::new(reason, text)));
        let alias = properties
            .as_mut()
            .and_then(|properties| properties.topic_alias.take());
        let topic = match self.aliases.resolve(&topic, alias) {
            Ok(topic) => topic,
            Err(error @ AliasError::Topic(_)) => {
                return refuse(DisconnectReasonCode::TopicNameInvalid, &error.to_string());
            }
            // MQTT 5.0, section 3.3.2.3.4: an alias that has no topic is a protocol error.
            Err(error @ AliasError::Unknown) => {
                return refuse(DisconnectReasonCode::ProtocolError, &error.to_string());
            }
            Err(error @ AliasError::OutOfRange) => {
                return refuse(DisconnectReasonCode::TopicAliasInvalid, &error.to_string());
            }
        };
        let utf8 = properties
            .as_ref()
            .is_some_and(|properties| properties.payload_format_indicator == Some(1));
        if utf8 && std::str::from_utf8(&payload).is_err() {
            let text = "the payload says that it is UTF-8 and is not";
            if qos == QoS::AtMostOnce {
                return refuse(DisconnectReasonCode::PayloadFormatInvalid, text);
            }
            let wire = &self.attachment.wire;
            let slot = wire.expect(qos, pkid, bytes);
            self.count(Outcome::PayloadFormatInvalid);
            wire.complete_with(slot, Outcome::PayloadFormatInvalid, Some(text.into()));
            return Ok(());
        }
        let wire = Arc::clone(&self.attachment.wire);
        let slot = (qos != QoS::AtMostOnce).then(|| wire.expect(qos, pkid, bytes));
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
                let receipt = slot.map(|slot| Arc::new(Receipt::new(Arc::clone(&wire), slot)));
                if qos == QoS::ExactlyOnce
                    && let Some(receipt) = &receipt
                    && !self.session.receive(pkid, receipt)
                {
                    // Sent again; it is on its way or there already.
                    return Ok(());
                }
                let (properties, expires) = split_expiry(properties, now);
                let sender = self.session.user().cloned();
                let origin = Some(Arc::clone(&self.session));
                wire.count_submitted();
                let rider = Ticket {
                    topic,
                    qos,
                    pkid,
                    retain,
                    supersedes: turn.is_some(),
                    properties,
                    expires,
                    sender,
                    origin,
                    wire,
                    receipt,
                };
                batch.publishes.push(Submission {
                    route,
                    payload,
                    rider,
                });
                if let Some(turn) = turn {
                    self.submit(batch).await?;
                    if turn.identity_changed {
                        let user = self.principal.name();
                        self.broker
                            .audit
                            .record(self.source, Entry::IdentityChanged { user });
                        let goodbye = Goodbye::new(
                            DisconnectReasonCode::NotAuthorized,
                            "the identity of this user has changed; log in with the new one",
                        );
                        self.broker.board.disconnect_others(
                            &self.session.key().owner,
                            &self.session,
                            &goodbye,
                        );
                    }
                }
            }
            Err(Refused { outcome, text }) => {
                self.count(outcome);
                if self.is_worth_telling() {
                    tracing::info!(principal = %self.principal, ?topic, ?outcome, text, "publish refused");
                    self.record_refusal("publish", topic.as_str(), &text);
                }
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

    /// Leaves word of a subscription that is refused. Returns the code as the client's version spells it.
    fn tell_refusal(&mut self, asked: &Filter, code: SubscribeReasonCode) -> SubscribeReasonCode {
        if !matches!(code, SubscribeReasonCode::Success(_)) {
            if self.is_worth_telling() {
                tracing::info!(principal = %self.principal, filter = ?asked.path, ?code, "subscription refused");
                self.record_refusal("subscribe", &asked.path, &format!("{code:?}"));
            }
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
            .subscribe(&self.session, &filter, subscription, rule, clock::now())
        {
            Ok(()) => SubscribeReasonCode::Success(qos),
            Err(BoardError::Gone) => SubscribeReasonCode::Unspecified,
            Err(BoardError::Filter) => SubscribeReasonCode::TopicFilterInvalid,
            Err(
                BoardError::Subscriptions
                | BoardError::FilterTooLong
                | BoardError::Mailbox
                | BoardError::Sessions
                | BoardError::SessionsOfOwner,
            ) => SubscribeReasonCode::QuotaExceeded,
        }
    }

    fn unsubscribe(&self, filter: &str) -> UnsubAckReason {
        match FilterName::parse(filter) {
            Ok(filter) if self.broker.board.unsubscribe(&self.session, &filter) => {
                UnsubAckReason::Success
            }
            Ok(_) => UnsubAckReason::NoSubscriptionExisted,
            Err(_) => UnsubAckReason::TopicFilterInvalid,
        }
    }
}

fn exceeded(wire: &Wire) -> End {
    End::Refused(Goodbye::new(
        DisconnectReasonCode::ReceiveMaximumExceeded,
        format!(
            "more than {} unacknowledged publishes",
            wire.receive_maximum()
        ),
    ))
}

fn refusal(outcome: Outcome) -> DisconnectReasonCode {
    match outcome {
        Outcome::Accepted | Outcome::NobodyThere => DisconnectReasonCode::NormalDisconnection,
        Outcome::Failed => DisconnectReasonCode::UnspecifiedError,
        Outcome::NotAuthorized => DisconnectReasonCode::NotAuthorized,
        Outcome::TopicNameInvalid => DisconnectReasonCode::TopicNameInvalid,
        Outcome::QuotaExceeded(_) => DisconnectReasonCode::QuotaExceeded,
        Outcome::PayloadFormatInvalid => DisconnectReasonCode::PayloadFormatInvalid,
    }
}
