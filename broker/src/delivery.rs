//! What each client is owed and how it gets there: sessions, their mailboxes, subscriptions, retained messages, and the
//! wire to a client that is connected.

pub mod board;
pub mod mailbox;
pub mod message;
pub mod receipt;
pub mod session;
pub mod subscriptions;
pub mod topics;
pub mod wills;
pub mod wire;
