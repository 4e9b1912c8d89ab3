//! How much others may make the broker do and hold.

use sealpost_core::MAX_ENVELOPE;
use serde::Deserialize;

use crate::allowance::{AddressLimits, UserLimits};
use crate::delivery::wire::RECEIVE_MAXIMUM;

/// What becomes of an archiver whose queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArchiverFull {
    /// It is kept, and mail is refused until it has read: nothing goes unarchived.
    #[default]
    Refuse,
    /// It is parted with, with all that it was owed: mail goes on, unarchived until it is back.
    Part,
}

/// Every bound on what others can make the broker hold. Sizes in bytes, times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once that have not sent their CONNECT.
    pub handshakes: usize,
    /// Seconds for each step up to the CONNECT: TLS, WebSocket, the CONNECT itself.
    pub handshake: u32,
    /// Registered users.
    pub users: usize,
    /// Largest packet taken; an envelope and its topic fit by default.
    pub packet: usize,
    /// Sessions of one user, connected or not.
    pub sessions_per_user: usize,
    /// Subscriptions of one session.
    pub subscriptions_per_session: usize,
    /// Seconds for which a session without a connection is kept at most.
    pub session_expiry: u32,
    /// Unacknowledged publishes that one connection may have (Receive Maximum), 1 or more.
    pub receive_maximum: u16,
    /// Seconds of silence that an MQTT 5 client may promise at most (Server Keep Alive); 0 leaves it to the client.
    pub keep_alive: u16,
    /// Seconds for which a clean session may hold up those who write to it.
    pub hold: u32,
    /// Messages in one user's mailbox: what all of the user's sessions are owed.
    pub mailbox_messages: usize,
    /// Bytes in one user's mailbox.
    pub mailbox_bytes: usize,
    /// Percent of a mailbox that one sender may fill to whom its owner has written; of an archiver's queue, any sender.
    pub sender_share: usize,
    /// Percent of a mailbox that one sender may fill to whom its owner never wrote.
    pub stranger_share: usize,
    /// Messages in an archiver's queue: what all of its sessions are owed.
    pub archiver_messages: usize,
    /// Bytes in an archiver's queue.
    pub archiver_bytes: usize,
    /// What becomes of an archiver whose queue is full.
    pub archiver_full: ArchiverFull,
    /// Bytes in all users' mailboxes together, half of them for each user the same.
    pub total_mailbox_bytes: usize,
    /// Bytes that must stay free on the disk; with less, nothing that would have to be kept is taken.
    pub disk_reserve: u64,
    /// Retained messages in all, and their bytes.
    pub retained_messages: usize,
    /// Bytes of all retained messages.
    pub retained_bytes: usize,
    /// For each address.
    pub address: AddressLimits,
    /// For each user.
    pub user: UserLimits,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Limits {
            connections: 10_000,
            handshakes: 5_000,
            handshake: 10,
            users: 100_000,
            packet: MAX_ENVELOPE + 32 * 1024,
            sessions_per_user: 16,
            subscriptions_per_session: 1_000,
            session_expiry: 30 * 24 * 60 * 60,
            receive_maximum: RECEIVE_MAXIMUM,
            keep_alive: 0,
            hold: 5,
            mailbox_messages: 10_000,
            mailbox_bytes: 32 * MIB,
            sender_share: 75,
            stranger_share: 25,
            archiver_messages: 1_000_000,
            archiver_bytes: 512 * MIB,
            archiver_full: ArchiverFull::Refuse,
            total_mailbox_bytes: 4096 * MIB,
            disk_reserve: 256 * 1024 * 1024,
            retained_messages: 200_000,
            retained_bytes: 512 * MIB,
            address: AddressLimits::default(),
            user: UserLimits::default(),
        }
    }
}
