//! Sealpost's MQTT broker: an edge that admits, permits, limits and remembers, in front of rumqttd's router.
//!
//! ```text
//! connection ── packet ── admission ── permission ──► router_link (inlet)
//!     ▲                                                   │ rumqttd's router: one order for everything
//!     │                                                   ▼
//!   wire ◄── session ◄── board ◄────── dispatcher ◄── router_link (outlet)
//!                                          └──► journal ──► disk, receipts
//! ```
//!
//! A publish is decoded, its publisher's right to it is checked, and it enters the one order with a ticket. The dispatcher
//! takes it out again (on an idle broker, the publisher's own connection does, which is awake), the board finds the sessions that subscribed, and the publisher's receipt is settled when the
//! journal has it.
#![forbid(unsafe_code)]

pub mod access;
pub mod allowance;
pub mod backup;
pub mod broker;
pub mod clock;
pub mod command;
pub mod connection;
pub mod control;
pub mod delivery;
pub mod export;
mod files;
pub mod inspection;
pub mod journal;
pub mod lifetime;
pub mod metrics;
pub mod order;
pub mod protocol;
pub mod server;
pub mod settings;
pub mod sys;
pub mod transport;
