//! The interface over the whole terminal, which `sealpost` alone opens.
//!
//! [`state`] is what it knows and [`State::update`](state::State::update) what messages change about it; neither touches a terminal, a
//! clock, a store or a connection. [`draw`] draws a state. [`desk`] works in the store, and [`screen`] with the terminal.

pub mod attachment;
pub mod commands;
pub mod desk;
pub mod dialog;
pub mod draw;
pub mod editor;
pub mod help;
pub mod hint;
pub mod keys;
pub mod layout;
#[cfg(test)]
mod sample;
pub mod screen;
pub mod settings;
pub mod setup;
pub mod state;
pub mod text;
pub mod theme;
pub mod transcript;
mod update;
