//! Sealpost's client: end-to-end-encrypted messages over MQTT.
//!
//! The binary `sealpost` is a thin shell over this library. From the outside in: [`cli`] and [`settings`] say what is
//! wanted, [`command`] does it over a [`session`], which joins a connection ([`mqtt`]) with what is known ([`account`],
//! [`store`], [`contact`]) and says what happens ([`event`]). [`incoming`] and [`outgoing`] hold what becomes of an
//! envelope, without sockets. [`exit`] turns every error into an exit code and a hint.

pub mod account;
pub mod agent;
pub mod archived;
pub mod backup;
pub mod cli;
pub mod clock;
pub mod command;
pub mod comparison;
pub mod contact;
pub mod conversation;
pub mod daemon;
pub mod deadline;
pub mod event;
pub mod exit;
pub mod files;
pub mod history;
pub mod home;
pub mod incoming;
pub mod keystore;
pub mod lines;
mod local_socket;
pub mod moment;
pub mod mqtt;
pub mod new_file;
pub mod outgoing;
pub mod own_bundle;
pub mod own_link;
pub mod passphrase;
pub mod qr;
pub mod reaching;
pub mod schema;
pub mod search;
pub mod session;
pub mod settings;
pub mod signals;
pub mod store;
pub mod terminal;
pub mod their_link;
pub mod trust_policy;
#[cfg(feature = "tui")]
pub mod tui;
pub mod unwrap_key;
