//! What each client is owed and how it gets there: sessions, their mailboxes, subscriptions, retained messages, and the
//! wire to a client that is connected.

pub mod account;
#[cfg(test)]
pub(crate) mod bench;
pub mod board;
pub mod correspondents;
pub mod mailbox;
pub mod receipt;
pub mod scribe;
pub mod session;
pub mod subscriptions;
pub mod topics;
pub mod wills;
pub mod wire;
