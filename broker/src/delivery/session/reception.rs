//! Messages of QoS 2 from the client: each is taken once, however often it is sent.

use std::sync::Arc;

use rumqttd::protocol::{Packet, PubComp, PubCompReason};

use super::Session;
use crate::delivery::receipt::Receipt;
use crate::delivery::wire::Wire;
use crate::journal::Change;
use crate::protocol::outcome::Outcome;

/// A message of QoS 2 from the client.
#[derive(Debug)]
pub(super) enum Reception {
    /// It is on its way to its readers' mailboxes; these wait for that too, for the client sent it again.
    UnderWay(Vec<Arc<Receipt>>),
    /// It is there.
    Taken,
}

impl Session {
    /// A message of QoS 2 has come from the client. Whether it is new; if it came before, the receipt is settled as that
    /// one's is.
    #[must_use]
    pub fn receive(&self, pkid: u16, receipt: &Arc<Receipt>) -> bool {
        let mut state = self.lock();
        match state.received.get_mut(&pkid) {
            None => {
                state.received.insert(pkid, Reception::UnderWay(Vec::new()));
                true
            }
            Some(Reception::UnderWay(waiting)) => {
                waiting.push(Arc::clone(receipt));
                false
            }
            Some(Reception::Taken) => {
                let receipt = Arc::clone(receipt);
                match &self.kept {
                    Some((journal, _)) => journal.after(move || receipt.settle(Outcome::Accepted)),
                    None => receipt.settle(Outcome::Accepted),
                }
                false
            }
        }
    }

    /// A message of QoS 2 from the client has found its places, or was refused: then its identifier is free. Called within
    /// a turn of the journal. Returns the receipts that wait for it besides its own.
    pub fn settle_reception(&self, pkid: u16, taken: bool) -> Vec<Arc<Receipt>> {
        let mut state = self.lock();
        let before = if taken {
            if let Some((journal, id)) = self.kept.as_ref().filter(|_| !state.ended) {
                journal.record(Change::Received(*id, pkid));
            }
            state.received.insert(pkid, Reception::Taken)
        } else {
            state.received.remove(&pkid)
        };
        match before {
            Some(Reception::UnderWay(waiting)) => waiting,
            _ => Vec::new(),
        }
    }

    /// The client releases a message of QoS 2 (PUBREL): its identifier is free, which PUBCOMP says once that is on disk.
    pub fn release(&self, wire: &Arc<Wire>, pkid: u16) {
        let mut state = self.lock();
        let reason = match state.received.get(&pkid) {
            Some(Reception::Taken) => {
                state.received.remove(&pkid);
                PubCompReason::Success
            }
            _ => PubCompReason::PacketIdentifierNotFound,
        };
        let complete = Packet::PubComp(PubComp { pkid, reason }, None);
        match &self.kept {
            Some((journal, id)) => {
                if reason == PubCompReason::Success {
                    journal.record(Change::Completed(*id, pkid));
                }
                // Also when it was released before: that may not be on disk yet, and a crash would bring the identifier back
                // while the client uses it for another message.
                let wire = Arc::clone(wire);
                journal.after(move || wire.answer(complete));
            }
            None => wire.answer(complete),
        }
    }

    /// Whether a message of QoS 2 with this identifier is not released yet.
    #[must_use]
    pub fn is_unreleased(&self, pkid: u16) -> bool {
        self.lock().received.contains_key(&pkid)
    }

    /// Messages of QoS 2 from the client that are not released yet.
    #[must_use]
    pub fn unreleased(&self) -> usize {
        self.lock().received.len()
    }
}
