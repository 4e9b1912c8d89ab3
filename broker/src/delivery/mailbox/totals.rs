//! What all mailboxes are counted in.

use std::sync::atomic::{AtomicU64, AtomicUsize};

use crate::metrics::meters::PublishMeter;

/// What all mailboxes are counted in.
#[derive(Debug, Default)]
pub struct Totals {
    /// Bytes that kept mailboxes are owed, in memory or on disk.
    pub kept_bytes: AtomicUsize,
    /// Messages of QoS 0 that were dropped because a reader was too slow or away.
    pub dropped: AtomicU64,
    /// Messages that expired before they were delivered.
    pub expired: AtomicU64,
    /// Publishes that were written to clients.
    pub sent: AtomicU64,
    /// Publishes, by how they ended.
    pub publishes: PublishMeter,
    /// Sessions that were ended because they held all that their owner may.
    pub ended_full: AtomicU64,
    /// Of these, archivers'.
    pub archivers_parted: AtomicU64,
    /// Clean sessions that were disconnected because they held others up.
    pub too_slow: AtomicU64,
}
