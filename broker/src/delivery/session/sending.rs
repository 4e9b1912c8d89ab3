//! What a client is sent, and when.

use std::sync::Arc;

use bytes::BytesMut;
use rumqttd::protocol::{PubRelReason, QoS};
use sealpost_core::Timestamp;

use super::{Attachment, Filled, InFlight, Session, State, release};
use crate::delivery::mailbox::{Delivery, Entry, LIVE_BYTES, Mailbox, Next};
use crate::delivery::wire::Wire;
use crate::protocol::packet::{OutgoingPublish, Version, encode};

/// Unacknowledged deliveries to one MQTT 3.1.1 client, which cannot say how many it takes. As common brokers do.
const WINDOW_311: usize = 100;

/// Unacknowledged deliveries to one MQTT 5 client, whatever Receive Maximum it announces: the bytes in flight are kept.
const WINDOW_5: usize = 4_096;

/// Messages of groups that a member takes in one go, so that the others get theirs.
const SHARED_AT_ONCE: usize = 16;

/// Packet identifiers run from 1 to this.
pub(super) const PKIDS: u64 = 65_535;

/// What a session found in the mailboxes that it shares.
enum Shared {
    Sent,
    Load(Arc<Mailbox>),
    Nothing,
}

impl Session {
    /// Appends to `out`, up to about `budget` bytes, what the client of this connection is to be sent.
    pub fn fill(
        &self,
        wire: &Arc<Wire>,
        out: &mut BytesMut,
        budget: usize,
        now: Timestamp,
    ) -> Filled {
        let mut state = self.lock();
        let Some(attachment) = state
            .attachment
            .clone()
            .filter(|attachment| Arc::ptr_eq(&attachment.wire, wire))
        else {
            return Filled::Gone;
        };
        self.fill_releases(&mut state, wire, out);
        // Asked under the lock: what a subscription brings is pushed after the hold was set.
        if wire.holds_deliveries() {
            return Filled::Idle;
        }
        let window = match wire.version() {
            Version::V311 => WINDOW_311,
            Version::V5 => {
                usize::from(attachment.receive_maximum.unwrap_or(u16::MAX)).min(WINDOW_5)
            }
        };
        let mut shared_left = SHARED_AT_ONCE;
        while out.len() < budget && shared_left > 0 {
            let open = state.in_flight.len() < window && state.in_flight_bytes < LIVE_BYTES;
            let may =
                |qos, seq| qos == QoS::AtMostOnce || (open && !state.pkids.contains(&pkid(seq)));
            match self.mailbox.next(wire, now, may) {
                Next::Entry(entry) => {
                    self.send(&mut state, &attachment, None, entry, out, now);
                    continue;
                }
                Next::Load => return Filled::Load(Arc::clone(&self.mailbox)),
                Next::Wait | Next::Empty => {}
            }
            match self.fill_shared(&mut state, &attachment, open, out, now) {
                Shared::Sent => shared_left -= 1,
                Shared::Load(mailbox) => return Filled::Load(mailbox),
                Shared::Nothing => return Filled::Idle,
            }
        }
        Filled::More
    }

    /// Sends one message of a group; each group has its turn.
    fn fill_shared(
        &self,
        state: &mut State,
        attachment: &Attachment,
        open: bool,
        out: &mut BytesMut,
        now: Timestamp,
    ) -> Shared {
        for _ in 0..state.groups.len() {
            state.next_group = (state.next_group + 1) % state.groups.len().max(1);
            let Some(group) = state.groups.get(state.next_group) else {
                break;
            };
            let (mailbox, subscription) = (Arc::clone(&group.mailbox), group.subscription.clone());
            // Whoever has no room in its window leaves the message to the others.
            match mailbox.next(&attachment.wire, now, |_, _| open) {
                Next::Entry(mut entry) => {
                    // What is left is for whichever member comes first.
                    mailbox.pass_on();
                    let delivery = &mut entry.delivery;
                    delivery.retain &= subscription.retain_as_published;
                    delivery.subscription_ids = subscription.id.into_iter().collect();
                    let shared = Some((mailbox, subscription.qos));
                    self.send(state, attachment, shared, entry, out, now);
                    return Shared::Sent;
                }
                Next::Load => return Shared::Load(mailbox),
                Next::Wait | Next::Empty => {}
            }
        }
        Shared::Nothing
    }

    fn fill_releases(&self, state: &mut State, wire: &Arc<Wire>, out: &mut BytesMut) {
        let committed = self.kept.as_ref().map(|(journal, _)| journal.committed());
        while let Some(&(pkid, group)) = state.releases.front() {
            if group > 0 && committed.is_some_and(|committed| group > committed) {
                break;
            }
            state.releases.pop_front();
            // The codec writes every PUBREL.
            let _ = encode(wire.version(), release(pkid, PubRelReason::Success), out);
        }
    }

    fn send(
        &self,
        state: &mut State,
        attachment: &Attachment,
        shared: Option<(Arc<Mailbox>, QoS)>,
        entry: Entry,
        out: &mut BytesMut,
        now: Timestamp,
    ) {
        let version = attachment.wire.version();
        let mailbox = shared.as_ref().map_or_else(
            || Arc::clone(&self.mailbox),
            |(mailbox, _)| Arc::clone(mailbox),
        );
        let asked = shared.as_ref().map_or(QoS::ExactlyOnce, |(_, qos)| *qos);
        let qos = crate::delivery::topics::lower(entry.delivery.qos, asked);
        if qos == QoS::AtMostOnce {
            if write(version, &entry, qos, 0, attachment.max_packet, out, now) {
                mailbox.count_sent();
            }
            mailbox.done(&entry);
            return;
        }
        let pkid = match shared {
            None => pkid(entry.seq),
            Some(_) => state.free_pkid(),
        };
        let written = if entry.released {
            encode(version, release(pkid, PubRelReason::Success), out).is_ok()
        } else {
            write(version, &entry, qos, pkid, attachment.max_packet, out, now)
        };
        if !written {
            // MQTT 5.0, section 3.1.2.11.4: too large for this client, as if delivered.
            mailbox.done(&entry);
            return;
        }
        if !entry.released {
            mailbox.count_sent();
        }
        state.pkids.insert(pkid);
        state.in_flight_bytes += entry.delivery.message.size();
        state.in_flight.push_back(InFlight {
            pkid,
            group: shared.map(|(mailbox, _)| mailbox),
            entry,
        });
    }
}

impl State {
    /// An identifier for a group's message. The session's own come from their sequence numbers.
    fn free_pkid(&mut self) -> u16 {
        // There are many times more than may be in flight.
        loop {
            self.last_shared_pkid = self.last_shared_pkid.wrapping_sub(1);
            if self.last_shared_pkid != 0 && !self.pkids.contains(&self.last_shared_pkid) {
                return self.last_shared_pkid;
            }
        }
    }
}

/// The packet identifier of a session's own message, the same whenever it is sent again, after a restart too.
fn pkid(seq: u64) -> u16 {
    // 1 to 65,535: sequence numbers begin at 1.
    u16::try_from(seq.saturating_sub(1) % PKIDS + 1).unwrap_or(u16::MAX)
}

/// Whether the message was written: it is not when the client does not take packets of its size.
fn write(
    version: Version,
    entry: &Entry,
    qos: QoS,
    pkid: u16,
    max: Option<u32>,
    out: &mut BytesMut,
    now: Timestamp,
) -> bool {
    let Delivery {
        message,
        retain,
        subscription_ids,
        ..
    } = &entry.delivery;
    let publish = OutgoingPublish {
        qos,
        dup: entry.again && qos != QoS::AtMostOnce,
        retain: *retain,
        pkid,
        topic: message.topic.as_str(),
        payload: &message.payload,
    };
    let mut properties = match version {
        Version::V5 => message.properties_now(now),
        Version::V311 => None,
    };
    if !subscription_ids.is_empty() {
        properties
            .get_or_insert_default()
            .subscription_identifiers
            .clone_from(subscription_ids);
    }
    let before = out.len();
    let written = encode(version, publish.into_packet(properties), out).is_ok();
    let fits =
        max.is_none_or(|max| out.len() - before <= usize::try_from(max).unwrap_or(usize::MAX));
    if !(written && fits) {
        out.truncate(before);
    }
    written && fits
}
