//! How bytes come in: listeners, and what stands between a socket and MQTT.
//!
//! ```text
//! listeners ── lobby ── TLS? ── WebSocket? ──► connection::greet (CONNECT) ──► connection
//! ```
//!
//! Every step before the CONNECT has a time limit, and none of them holds up the listener.

pub mod authority;
pub mod certificates;
pub mod listeners;
pub mod lobby;
pub mod origin;
pub mod tls;
pub mod websocket;
