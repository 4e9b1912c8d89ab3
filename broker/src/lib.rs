//! Sealpost's MQTT broker: an edge that admits, permits, limits and remembers, in front of rumqttd's router.
//!
//! ```text
//! connection ── packet ── admission ── permission ──► router_link (inlet)
//!     ▲                                                   │ rumqttd's router: one order for everything
//!     │                                                   ▼
//!   wire ◄── session ◄── board ◄────── dispatcher ◄── router_link (outlet)
//!                                          └──► journal ──► receipts
//! ```
//!
//! A publish is decoded, its publisher's right to it is checked, and it enters the one order with a ticket. The dispatcher
//! takes it out again, the board finds the sessions that subscribed, and the publisher's receipt is settled when the
//! journal has it.
#![forbid(unsafe_code)]

pub mod admission;
pub mod board;
pub mod broker;
pub mod clock;
pub mod connection;
pub mod dispatcher;
pub mod journal;
pub mod mailbox;
pub mod message;
pub mod outcome;
pub mod packet;
pub mod permission;
pub mod receipt;
pub mod registry;
pub mod router_link;
pub mod server;
pub mod session;
pub mod settings;
pub mod subscriptions;
pub mod topic_name;
pub mod topics;
pub mod wire;
